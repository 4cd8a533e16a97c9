/* transpose_avx512.h: sixteen vectors of sixteen words turned over. */
#ifndef MOTE_KERNEL_X86_TRANSPOSE_AVX512_H
#define MOTE_KERNEL_X86_TRANSPOSE_AVX512_H

#include "kernel/x86/v16_avx512.h"

/* Lane j of v[i] becomes lane i of v[j]: 2 × 2 words, pairs of words, then quarters. */
static inline __attribute__((always_inline)) void v_transpose(v16 v[16]) {
    v16 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* v[4 i + j]: in quarter q, word 4 q + j of lines 4 i … 4 i + 3 */
        const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 2]);
        const __m512d c = _mm512_castps_pd(t[4 * i + 1]), d = _mm512_castps_pd(t[4 * i + 3]);
        v[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        v[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        v[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        v[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const v16 low = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x88), high = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xdd);
        const v16 low2 = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x88), high2 = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xdd);
        t[j] = _mm512_shuffle_f32x4(low, low2, 0x88);
        t[4 + j] = _mm512_shuffle_f32x4(high, high2, 0x88);
        t[8 + j] = _mm512_shuffle_f32x4(low, low2, 0xdd);
        t[12 + j] = _mm512_shuffle_f32x4(high, high2, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) v[i] = t[i];
}

#endif
