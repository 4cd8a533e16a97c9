/* fmul_avx2.c: float products with AVX2. */
#include "kernel/x86/v16_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx2
#include "kernel/fmul_tmpl.h"
