/* q5_k.c: Q5_K: super-blocks of 256 weights of 5 bits; 8 sub-blocks with 6-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q5_k(float *y, const void *x, size_t n) {
    const q5_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d), dmin = quant_half_value(b->dmin);
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

/* Sub-block s of those whose scales and minima are sc and m; the first finds a block of zeros. */
static void pack_q5_k(void *block, const uint16_t d[2], int s, const uint8_t *sc, const uint8_t *m, const uint8_t *q) {
    q5_k_block *b = block;
    b->d = d[0];
    b->dmin = d[1];
    if (s == 0) fit_pack_k4(b->scales, sc, m);
    for (int l = 0; l < 32; l++) {
        b->qs[s / 2 * 32 + l] |= (uint8_t)((q[l] & 15) << s % 2 * 4);
        b->qh[l] |= (uint8_t)(q[l] >> 4 << s);
    }
}

static void encode_q5_k(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode_super_affine(dst, src, n, importance, 32, sizeof(q5_k_block), 31, 63, pack_q5_k);
}

QUANT_FORMAT(Q5_K, "q5_K", decode_q5_k, encode_q5_k);
