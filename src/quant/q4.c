/* q4.c: Q4_0 and Q4_1: 32 weights, 4 bits each, one scale (and one minimum). */
#include "quant/fit.h"

static void decode_q4_0(float *y, const void *x, size_t n) {
    const q4_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 16; j++) y[j] = (float)((b->qs[j] & 15) - 8) * d;
        for (int j = 0; j < 16; j++) y[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
    }
}

static void decode_q4_1(float *y, const void *x, size_t n) {
    const q4_1_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d), m = quant_half_value(b->m);
        for (int j = 0; j < 16; j++) y[j] = (float)(b->qs[j] & 15) * d + m;
        for (int j = 0; j < 16; j++) y[j + 16] = (float)(b->qs[j] >> 4) * d + m;
    }
}

static void pack_q4_0(void *block, uint16_t d, const uint8_t *q) {
    q4_0_block *b = block;
    b->d = d;
    for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static void encode_q4_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -8, .hi = 7, .tries = 8, .least = 0.75f, .most = 1.08f};
    fit_encode(dst, src, n, importance, 32, sizeof(q4_0_block), &range, pack_q4_0);
}

static void pack_q4_1(void *block, uint16_t d, uint16_t m, const uint8_t *q) {
    q4_1_block *b = block;
    b->d = d;
    b->m = m;
    for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static void encode_q4_1(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode_affine(dst, src, n, importance, sizeof(q4_1_block), 15, pack_q4_1);
}

QUANT_FORMAT(Q4_0, "q4_0", decode_q4_0, encode_q4_0);
QUANT_FORMAT(Q4_1, "q4_1", decode_q4_1, encode_q4_1);
