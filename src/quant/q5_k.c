/* q5_k.c: Q5_K: super-blocks of 256 weights of 5 bits; 8 sub-blocks with 6-bit scale and minimum. */
#include "quant/quant_int.h"

static void decode_q5_k(float *y, const void *x, size_t n) {
    const q5_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d), dmin = quant_f16_to_f32(b->dmin);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + s / 2 * 32;
            int shift = s % 2 * 4;
            uint8_t sc, m;
            quant_k4_scale(b->scales, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (int l = 0; l < 32; l++) {
                int level = (q[l] >> shift & 15) | (b->qh[l] >> s & 1) << 4;
                y[32 * s + l] = scale * (float)level - min;
            }
        }
    }
}

QUANT_FORMAT(Q5_K, "q5_K", decode_q5_k, NULL);
