/* gemm_avx512bf16.c: products of panels of bf16 pair words with vdpbf16ps. */
#include "kernel/x86/transpose_avx512.h"

#include "kernel/x86/init_x86.h"

/* s + the products of the high halves of u's and v's words, then + those of the low halves */
static inline v16 v_dot_bf16(v16 u, v16 v, v16 s) {
    return _mm512_dpbf16_ps(s, (__m512bh)_mm512_castps_si512(u), (__m512bh)_mm512_castps_si512(v));
}
static inline v16 v_pairs(v16 low, v16 high) { return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low)); }
static inline v16 v_zip(v16 even, v16 odd) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even)), high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#define NAME(x) x##_avx512bf16
#define GEMM_BF16
#define GEMM_ROWS 12
#define GEMM_VECTORS 2
#include "kernel/gemm_tmpl.h"
