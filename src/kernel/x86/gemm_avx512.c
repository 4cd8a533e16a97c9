/* gemm_avx512.c: f32 products of panels with AVX-512. */
#include "kernel/x86/transpose_avx512.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx512
#define GEMM_ROWS 12
#define GEMM_VECTORS 2
#include "kernel/gemm_tmpl.h"
