/* q3_k.c: Q3_K: super-blocks of 256 weights of 3 bits; 16 sub-blocks with 6-bit scales. */
#include "quant/quant_int.h"

static void decode_q3_k(float *y, const void *x, size_t n) {
    const q3_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + s / 8 * 32 + s % 2 * 16, *h = b->hmask + s % 2 * 16;
            int shift = s % 8 / 2 * 2, bit = s / 2;
            float scale = d * (float)quant_k3_scale(b->scales, s);
            for (int l = 0; l < 16; l++) {
                int level = (q[l] >> shift & 3) - (h[l] >> bit & 1 ? 0 : 4);
                y[16 * s + l] = scale * (float)level;
            }
        }
    }
}

QUANT_FORMAT(Q3_K, "q3_K", decode_q3_k, NULL);
