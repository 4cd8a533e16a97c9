/* float_avx2.c: float kernels with AVX2, FMA and F16C. */
#include "kernel/x86/v16_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx2
#include "kernel/float_tmpl.h"
