/* small.c: groups of 96 (4, 3, 2 bits) and of 192 (trits), one scale each, for models whose rows 256 does not divide.
 *
 * Four levels are -3, -1, 1, 3 times d: four evenly spaced ones about zero lose a third less of a bell curve than -1, 0, 1, 2
 * do. Eight and sixteen have a zero, which many weights are once they are counted in whole steps. */
#include "quant/fit.h"

enum { GROUP = 96, TRITS = 192, TRIT_BYTES = 39 };

static void decode_q4_96(float *y, const void *x, size_t n) {
    const q4_96_block *b = x;
    for (size_t i = 0; i < n / GROUP; i++, b++, y += GROUP) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < GROUP; j++) y[j] = (float)((b->qs[j / 32 * 16 + j % 16] >> j % 32 / 16 * 4 & 15) - 8) * d;
    }
}

static void decode_q3_96(float *y, const void *x, size_t n) {
    const q3_96_block *b = x;
    for (size_t i = 0; i < n / GROUP; i++, b++, y += GROUP) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < GROUP; j++) {
            int q = (b->qs[j / 4] >> j % 4 * 2 & 3) | (b->qh[j / 8] >> j % 8 & 1) << 2;
            y[j] = (float)(q - 4) * d;
        }
    }
}

static void decode_q2_96(float *y, const void *x, size_t n) {
    const q2_96_block *b = x;
    for (size_t i = 0; i < n / GROUP; i++, b++, y += GROUP) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < GROUP; j++) y[j] = (float)(2 * (b->qs[j / 4] >> j % 4 * 2 & 3) - 3) * d;
    }
}

static void decode_tq1_192(float *y, const void *x, size_t n) {
    const tq1_192_block *b = x;
    for (size_t i = 0; i < n / TRITS; i++, b++, y += TRITS) {
        float d = quant_half_value(b->d);
        for (size_t j = 0; j < TRITS; j++) y[j] = (float)(quant_trit(b->qs[j % TRIT_BYTES], j / TRIT_BYTES) - 1) * d;
    }
}

static void pack_q4_96(void *block, uint16_t d, const uint8_t *q) {
    q4_96_block *b = block;
    *b = (q4_96_block){.d = d};
    for (int j = 0; j < GROUP; j++) b->qs[j / 32 * 16 + j % 16] |= (uint8_t)(q[j] << j % 32 / 16 * 4);
}

static void encode_q4_96(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -8, .hi = 7, .tries = 24, .least = 0.7f, .most = 1.4f};
    fit_encode(dst, src, n, importance, GROUP, sizeof(q4_96_block), &range, pack_q4_96);
}

static void pack_q3_96(void *block, uint16_t d, const uint8_t *q) {
    q3_96_block *b = block;
    *b = (q3_96_block){.d = d};
    for (int j = 0; j < GROUP; j++) {
        b->qs[j / 4] |= (uint8_t)((q[j] & 3) << j % 4 * 2);
        b->qh[j / 8] |= (uint8_t)(q[j] >> 2 << j % 8);
    }
}

static void encode_q3_96(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -4, .hi = 3, .tries = 24, .least = 0.6f, .most = 2.0f};
    fit_encode(dst, src, n, importance, GROUP, sizeof(q3_96_block), &range, pack_q3_96);
}

static void pack_q2_96(void *block, uint16_t d, const uint8_t *q) {
    q2_96_block *b = block;
    *b = (q2_96_block){.d = d};
    for (int j = 0; j < GROUP; j++) b->qs[j / 4] |= (uint8_t)(q[j] << j % 4 * 2);
}

static void encode_q2_96(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -3, .hi = 3, .odd = true, .tries = 24, .least = 0.7f, .most = 3.0f};
    fit_encode(dst, src, n, importance, GROUP, sizeof(q2_96_block), &range, pack_q2_96);
}

static void pack_tq1_192(void *block, uint16_t d, const uint8_t *q) {
    tq1_192_block *b = block;
    b->d = d;
    for (int m = 0; m < TRIT_BYTES; m++) b->qs[m] = quant_trits_192(q, m);
}

static void encode_tq1_192(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -1, .hi = 1, .tries = 24, .least = 0.6f, .most = 6.0f};
    fit_encode(dst, src, n, importance, TRITS, sizeof(tq1_192_block), &range, pack_tq1_192);
}

QUANT_FORMAT(Q4_96, "q4_96", decode_q4_96, encode_q4_96);
QUANT_FORMAT(Q3_96, "q3_96", decode_q3_96, encode_q3_96);
QUANT_FORMAT(Q2_96, "q2_96", decode_q2_96, encode_q2_96);
QUANT_FORMAT(TQ1_192, "tq1_192", decode_tq1_192, encode_tq1_192);
