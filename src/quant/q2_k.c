/* q2_k.c: Q2_K: super-blocks of 256 weights of 2 bits; 16 sub-blocks with 4-bit scale and minimum. */
#include "quant/quant_int.h"

static void decode_q2_k(float *y, const void *x, size_t n) {
    const q2_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d), dmin = quant_f16_to_f32(b->dmin);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + s / 8 * 32 + s % 2 * 16;
            int shift = s % 8 / 2 * 2;
            float scale = d * (float)(b->scales[s] & 15), min = dmin * (float)(b->scales[s] >> 4);
            for (int l = 0; l < 16; l++) y[16 * s + l] = scale * (float)(q[l] >> shift & 3) - min;
        }
    }
}

QUANT_FORMAT(Q2_K, "q2_K", decode_q2_k, NULL);
