/* q2_k.c: Q2_K: super-blocks of 256 weights of 2 bits; 16 sub-blocks with 4-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q2_k(float *y, const void *x, size_t n) {
    const q2_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d), dmin = quant_half_value(b->dmin);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + s / 8 * 32 + s % 2 * 16;
            int shift = s % 8 / 2 * 2;
            float scale = d * (float)(b->scales[s] & 15), min = dmin * (float)(b->scales[s] >> 4);
            for (int l = 0; l < 16; l++) y[16 * s + l] = scale * (float)(q[l] >> shift & 3) - min;
        }
    }
}

/* Sub-block s of those whose scales and minima are sc and m; the first finds a block of zeros. */
static void pack_q2_k(void *block, const uint16_t d[2], int s, const uint8_t *sc, const uint8_t *m, const uint8_t *q) {
    q2_k_block *b = block;
    b->d = d[0];
    b->dmin = d[1];
    b->scales[s] = (uint8_t)(m[s] << 4 | sc[s]);
    uint8_t *qs = b->qs + s / 8 * 32 + s % 2 * 16;
    for (int l = 0; l < 16; l++) qs[l] |= (uint8_t)(q[l] << s % 8 / 2 * 2);
}

static void encode_q2_k(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode_super_affine(dst, src, n, importance, 16, sizeof(q2_k_block), 3, 15, pack_q2_k);
}

QUANT_FORMAT(Q2_K, "q2_K", decode_q2_k, encode_q2_k);
