/* mul_avx512.c: int8 products with AVX-512 without VNNI. */
#include "kernel/x86/vec_avx512.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx512
#include "kernel/mul_tmpl.h"
