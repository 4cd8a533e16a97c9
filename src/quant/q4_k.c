/* q4_k.c: Q4_K: super-blocks of 256 weights of 4 bits; 8 sub-blocks with 6-bit scale and minimum. */
#include "quant/quant_int.h"

static void decode_q4_k(float *y, const void *x, size_t n) {
    const q4_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d), dmin = quant_f16_to_f32(b->dmin);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + s / 2 * 32;
            int shift = s % 2 * 4;
            uint8_t sc, m;
            quant_k4_scale(b->scales, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (int l = 0; l < 32; l++) y[32 * s + l] = scale * (float)(q[l] >> shift & 15) - min;
        }
    }
}

QUANT_FORMAT(Q4_K, "q4_K", decode_q4_k, NULL);
