/* mul_avx2.c: int8 products with AVX2. */
#include "kernel/x86/vec_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx2
#include "kernel/mul_tmpl.h"
