/* mul_avxvnni.c: int8 products with 256-bit AVX-VNNI. */
#include "kernel/x86/vec_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avxvnni
#include "kernel/mul_tmpl.h"
