/* q6_k.c: Q6_K: super-blocks of 256 weights of 6 bits; 16 sub-blocks with 8-bit scales. */
#include "quant/fit.h"

static void decode_q6_k(float *y, const void *x, size_t n) {
    const q6_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d);
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

/* Sub-block s; the first finds a block of zeros. */
static void pack_q6_k(void *block, uint16_t d, int s, int sc, const uint8_t *q) {
    q6_k_block *b = block;
    b->d = d;
    int quarter = s % 8 / 2, at = s % 2 * 16;
    uint8_t *ql = b->ql + s / 8 * 64 + quarter % 2 * 32 + at, *qh = b->qh + s / 8 * 32 + at;
    b->scales[s] = (int8_t)sc;
    for (int l = 0; l < 16; l++) {
        ql[l] |= (uint8_t)((q[l] & 15) << quarter / 2 * 4);
        qh[l] |= (uint8_t)(q[l] >> 4 << 2 * quarter);
    }
}

static void encode_q6_k(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -32, .hi = 31, .tries = 8, .least = 0.85f, .most = 1.04f};
    fit_encode_super(dst, src, n, importance, 16, sizeof(q6_k_block), &range, 128, pack_q6_k);
}

QUANT_FORMAT(Q6_K, "q6_K", decode_q6_k, encode_q6_k);
