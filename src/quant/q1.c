/* q1.c: Q1_0 (128 signs and one scale) and Q2_0 (64 weights of {-1, 0, 1, 2} times one scale). */
#include "quant/fit.h"

#include <math.h>

static void decode_q1_0(float *y, const void *x, size_t n) {
    const q1_0_block *b = x;
    for (size_t i = 0; i < n / 128; i++, b++, y += 128) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 128; j++) y[j] = b->qs[j / 8] >> j % 8 & 1 ? d : -d;
    }
}

static void decode_q2_0(float *y, const void *x, size_t n) {
    const q2_0_block *b = x;
    for (size_t i = 0; i < n / 64; i++, b++, y += 64) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 64; j++) y[j] = (float)((b->qs[j / 4] >> j % 4 * 2 & 3) - 1) * d;
    }
}

static void encode_q1_0(void *dst, const float *src, size_t n, const float *importance) {
    q1_0_block *b = dst;
    for (size_t i = 0; i < n; i += 128, b++) {
        _Alignas(64) float x[128], w[128];
        float unit = fit_load_row(x, w, src + i, importance ? importance + i : NULL, 128), sum = 0, weight = 0;
        *b = (q1_0_block){0};
        for (int j = 0; j < 128; j++) {
            sum += w[j] * fabsf(x[j]);
            weight += w[j];
            b->qs[j / 8] |= (uint8_t)((x[j] >= 0) << j % 8);
        }
        b->d = fit_half(sum / weight, unit); /* the mean magnitude errs least */
    }
}

static void pack_q2_0(void *block, uint16_t d, const uint8_t *q) {
    q2_0_block *b = block;
    *b = (q2_0_block){.d = d};
    for (int j = 0; j < 64; j++) b->qs[j / 4] |= (uint8_t)(q[j] << j % 4 * 2);
}

static void encode_q2_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -1, .hi = 2, .tries = 24, .least = 0.3f, .most = 3.0f};
    fit_encode(dst, src, n, importance, 64, sizeof(q2_0_block), &range, pack_q2_0);
}

QUANT_FORMAT(Q1_0, "q1_0", decode_q1_0, encode_q1_0);
QUANT_FORMAT(Q2_0, "q2_0", decode_q2_0, encode_q2_0);
