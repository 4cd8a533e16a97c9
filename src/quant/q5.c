/* q5.c: Q5_0 and Q5_1: 32 weights, 5 bits each, one scale (and one minimum). */
#include "quant/fit.h"

#include <string.h>

/* Weight j of a block from its nibbles and fifth bits, 0..31. */
static int level(const uint8_t *qs, const uint8_t *qh, int j) {
    uint32_t high;
    memcpy(&high, qh, 4);
    int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
    return low | (int)(high >> j & 1) << 4;
}

static void decode_q5_0(float *y, const void *x, size_t n) {
    const q5_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 32; j++) y[j] = (float)(level(b->qs, b->qh, j) - 16) * d;
    }
}

static void decode_q5_1(float *y, const void *x, size_t n) {
    const q5_1_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d), m = quant_half_value(b->m);
        for (int j = 0; j < 32; j++) y[j] = (float)level(b->qs, b->qh, j) * d + m;
    }
}

/* The reverse of level. */
static void pack(uint8_t *qs, uint8_t *qh, const uint8_t q[32]) {
    uint32_t high = 0;
    for (int j = 0; j < 32; j++) high |= (uint32_t)(q[j] >> 4) << j;
    memcpy(qh, &high, 4);
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void pack_q5_0(void *block, uint16_t d, const uint8_t *q) {
    q5_0_block *b = block;
    b->d = d;
    pack(b->qs, b->qh, q);
}

static void encode_q5_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -16, .hi = 15, .tries = 10, .least = 0.8f, .most = 1.06f};
    fit_encode(dst, src, n, importance, 32, sizeof(q5_0_block), &range, pack_q5_0);
}

static void pack_q5_1(void *block, uint16_t d, uint16_t m, const uint8_t *q) {
    q5_1_block *b = block;
    b->d = d;
    b->m = m;
    pack(b->qs, b->qh, q);
}

static void encode_q5_1(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode_affine(dst, src, n, importance, sizeof(q5_1_block), 31, pack_q5_1);
}

QUANT_FORMAT(Q5_0, "q5_0", decode_q5_0, encode_q5_0);
QUANT_FORMAT(Q5_1, "q5_1", decode_q5_1, encode_q5_1);
