/* q3_k.c: Q3_K: super-blocks of 256 weights of 3 bits; 16 sub-blocks with 6-bit scales. */
#include "quant/fit.h"

static void decode_q3_k(float *y, const void *x, size_t n) {
    const q3_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d);
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

/* Sub-block s; the first finds a block of zeros. */
static void pack_q3_k(void *block, uint16_t d, int s, int sc, const uint8_t *q) {
    q3_k_block *b = block;
    b->d = d;
    int six = sc + 32, at = s / 8 * 32 + s % 2 * 16;
    b->scales[s % 8] |= (uint8_t)((six & 15) << s / 8 * 4);
    b->scales[8 + s % 4] |= (uint8_t)(six >> 4 << s / 4 * 2);
    for (int l = 0; l < 16; l++) {
        b->qs[at + l] |= (uint8_t)((q[l] & 3) << s % 8 / 2 * 2);
        b->hmask[s % 2 * 16 + l] |= (uint8_t)((q[l] >> 2) << s / 2);
    }
}

static void encode_q3_k(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -4, .hi = 3, .tries = 12, .least = 0.45f, .most = 1.2f};
    fit_encode_super(dst, src, n, importance, 16, sizeof(q3_k_block), &range, 32, pack_q3_k);
}

QUANT_FORMAT(Q3_K, "q3_K", decode_q3_k, encode_q3_k);
