/* q4.c: Q4_0 and Q4_1: 32 weights, 4 bits each, one scale (and one minimum). */
#include "quant/fit.h"

static void decode_q4_0(float *y, const void *x, size_t n) {
    const q4_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)((b->qs[j] & 15) - 8) * d;
            y[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

static void decode_q4_1(float *y, const void *x, size_t n) {
    const q4_1_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d), m = quant_half_value(b->m);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)(b->qs[j] & 15) * d + m;
            y[j + 16] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

static void encode_q4_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -8, .hi = 7, .tries = 12, .least = 0.7f, .most = 1.1f};
    q4_0_block *b = dst;
    fit_blocks t;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        fit_one_scale(&t, src + i, n - i, importance ? importance + i : NULL, 32, &range);
        for (int g = 0; g < t.groups; g++, b++) {
            const uint8_t *q = t.q + g * 32;
            b->d = t.d[g];
            for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
        }
    }
}

static void encode_q4_1(void *dst, const float *src, size_t n, const float *importance) {
    q4_1_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        int groups = (int)MIN((n - i) / 32, (size_t)FIT_GROUPS);
        float scale[FIT_GROUPS], off[FIT_GROUPS];
        uint16_t d[FIT_GROUPS], m[FIT_GROUPS];
        uint8_t q[32];
        fit_load(&k, src + i, importance ? importance + i : NULL, 32, groups, 1);
        fit_affine_halves(&k, 15, d, m, scale, off);
        for (int g = 0; g < groups; g++, b++) {
            fit_levels(&k, g, off[g], scale[g], 15, q);
            b->d = d[g];
            b->m = m[g];
            for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
        }
    }
}

QUANT_FORMAT(Q4_0, "q4_0", decode_q4_0, encode_q4_0);
QUANT_FORMAT(Q4_1, "q4_1", decode_q4_1, encode_q4_1);
