/* q6_k.c: Q6_K: super-blocks of 256 weights of 6 bits; 16 sub-blocks with 8-bit scales. */
#include "quant/quant_int.h"

static void decode_q6_k(float *y, const void *x, size_t n) {
    const q6_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d);
        for (int s = 0; s < 16; s++) {
            int quarter = s % 8 / 2, at = s % 2 * 16;
            const uint8_t *ql = b->ql + s / 8 * 64 + quarter % 2 * 32 + at, *qh = b->qh + s / 8 * 32 + at;
            float scale = d * (float)b->scales[s];
            for (int l = 0; l < 16; l++) {
                int level = (ql[l] >> quarter / 2 * 4 & 15) | (qh[l] >> 2 * quarter & 3) << 4;
                y[16 * s + l] = scale * (float)(level - 32);
            }
        }
    }
}

QUANT_FORMAT(Q6_K, "q6_K", decode_q6_k, NULL);
