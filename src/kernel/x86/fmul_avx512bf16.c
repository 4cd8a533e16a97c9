/* fmul_avx512bf16.c: products of BF16 weights and bf16 activations with vdpbf16ps. */
#include "kernel/x86/v16_avx512.h"

#include "kernel/x86/init_x86.h"

/* s + the products of the high halves of u's and v's words, then + those of the low halves */
static inline v16 v_dot_bf16(v16 u, v16 v, v16 s) {
    return _mm512_dpbf16_ps(s, (__m512bh)_mm512_castps_si512(u), (__m512bh)_mm512_castps_si512(v));
}

#define FMUL_BF16
#define NAME(x) x##_avx512bf16
#include "kernel/fmul_tmpl.h"
