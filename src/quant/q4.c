/* q4.c: Q4_0 and Q4_1: 32 weights, 4 bits each, one scale (and one minimum). */
#include "quant/fit.h"

static void decode_q4_0(float *y, const void *x, size_t n) {
    const q4_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)((b->qs[j] & 15) - 8) * d;
            y[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

static void decode_q4_1(float *y, const void *x, size_t n) {
    const q4_1_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d), m = quant_f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)(b->qs[j] & 15) * d + m;
            y[j + 16] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

static void encode_q4_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -8, .hi = 7, .tries = 12, .least = 0.7f, .most = 1.1f};
    q4_0_block *b = dst;
    for (size_t i = 0; i < n; i += 32, b++) {
        FIT_ALIGNED float x[32], w[32];
        uint8_t q[32];
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, 32);
        float d = fit_scale(x, w, 32, &range);
        b->d = fit_best_half(x, w, 32, &d, unit, &range);
        fit_nearest(q, x, 32, d, &range);
        for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
    }
}

static void encode_q4_1(void *dst, const float *src, size_t n, const float *importance) {
    q4_1_block *b = dst;
    for (size_t i = 0; i < n; i += 32, b++) {
        FIT_ALIGNED float x[32], w[32];
        uint8_t q[32];
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, 32);
        uint16_t d, m;
        fit_affine_halves(x, w, 32, 15, unit, &d, &m, q);
        b->d = d;
        b->m = m;
        for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
    }
}

QUANT_FORMAT(Q4_0, "q4_0", decode_q4_0, encode_q4_0);
QUANT_FORMAT(Q4_1, "q4_1", decode_q4_1, encode_q4_1);
