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

static void encode_q5_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -16, .hi = 15, .tries = 10, .least = 0.8f, .most = 1.06f};
    q5_0_block *b = dst;
    fit_blocks t;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        fit_one_scale(&t, src + i, n - i, importance ? importance + i : NULL, 32, &range);
        for (int g = 0; g < t.groups; g++, b++) {
            const uint8_t *q = t.q + g * 32;
            b->d = t.d[g];
            pack(b->qs, b->qh, q);
        }
    }
}

static void encode_q5_1(void *dst, const float *src, size_t n, const float *importance) {
    q5_1_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        int groups = (int)MIN((n - i) / 32, (size_t)FIT_GROUPS);
        float scale[FIT_GROUPS], off[FIT_GROUPS];
        uint16_t d[FIT_GROUPS], m[FIT_GROUPS];
        uint8_t q[32];
        fit_load(&k, src + i, importance ? importance + i : NULL, 32, groups, 1);
        fit_affine_halves(&k, 31, d, m, scale, off);
        for (int g = 0; g < groups; g++, b++) {
            fit_levels(&k, g, off[g], scale[g], 31, q);
            b->d = d[g];
            b->m = m[g];
            pack(b->qs, b->qh, q);
        }
    }
}

QUANT_FORMAT(Q5_0, "q5_0", decode_q5_0, encode_q5_0);
QUANT_FORMAT(Q5_1, "q5_1", decode_q5_1, encode_q5_1);
