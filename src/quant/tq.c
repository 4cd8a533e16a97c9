/* tq.c: TQ1_0 and TQ2_0: 256 trits {-1, 0, 1} and one scale, for ternary models. */
#include "quant/fit.h"

static float trit(uint8_t packed, size_t k) { return (float)(quant_trit(packed, k) - 1); }

static void decode_tq1_0(float *y, const void *x, size_t n) {
    const tq1_0_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (size_t k = 0; k < 5; k++) {
            for (int m = 0; m < 32; m++) *y++ = trit(b->qs[m], k) * d;
        }
        for (size_t k = 0; k < 5; k++) {
            for (int m = 0; m < 16; m++) *y++ = trit(b->qs[32 + m], k) * d;
        }
        for (size_t k = 0; k < 4; k++) {
            for (int m = 0; m < 4; m++) *y++ = trit(b->qh[m], k) * d;
        }
    }
}

static void decode_tq2_0(float *y, const void *x, size_t n) {
    const tq2_0_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < QUANT_K; j++) {
            int q = b->qs[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
            y[j] = (float)(q - 1) * d;
        }
    }
}

static const fit_range range = {.lo = -1, .hi = 1, .tries = 24, .least = 0.6f, .most = 6.0f};

static void pack_tq1_0(void *block, uint16_t d, const uint8_t *q) {
    tq1_0_block *b = block;
    b->d = d;
    for (int m = 0; m < 32; m++) b->qs[m] = quant_trits(q + m, 5, 32);
    for (int m = 0; m < 16; m++) b->qs[32 + m] = quant_trits(q + 160 + m, 5, 16);
    for (int m = 0; m < 4; m++) b->qh[m] = quant_trits(q + 240 + m, 4, 4);
}

static void encode_tq1_0(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode(dst, src, n, importance, QUANT_K, sizeof(tq1_0_block), &range, pack_tq1_0);
}

static void pack_tq2_0(void *block, uint16_t d, const uint8_t *q) {
    tq2_0_block *b = block;
    *b = (tq2_0_block){.d = d};
    for (int j = 0; j < QUANT_K; j++) b->qs[j / 128 * 32 + j % 32] |= (uint8_t)(q[j] << j % 128 / 32 * 2);
}

static void encode_tq2_0(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode(dst, src, n, importance, QUANT_K, sizeof(tq2_0_block), &range, pack_tq2_0);
}

QUANT_FORMAT(TQ1_0, "tq1_0", decode_tq1_0, encode_tq1_0);
QUANT_FORMAT(TQ2_0, "tq2_0", decode_tq2_0, encode_tq2_0);
