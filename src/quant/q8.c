/* q8.c: Q8_0: 32 weights, 8 bits each, one scale. */
#include "quant/fit.h"

static void decode_q8_0(float *y, const void *x, size_t n) {
    const q8_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 32; j++) y[j] = (float)b->qs[j] * d;
    }
}

static void pack_q8_0(void *block, uint16_t d, const uint8_t *q) {
    q8_0_block *b = block;
    b->d = d;
    for (int j = 0; j < 32; j++) b->qs[j] = (int8_t)(q[j] - 127);
}

static void encode_q8_0(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -127, .hi = 127, .tries = 4, .least = 0.992f, .most = 1.003f};
    fit_encode(dst, src, n, importance, 32, sizeof(q8_0_block), &range, pack_q8_0);
}

QUANT_FORMAT(Q8_0, "q8_0", decode_q8_0, encode_q8_0);
