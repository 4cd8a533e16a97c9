/* iq4.c: IQ4_NL and IQ4_XS: 4-bit indices into 16 uneven levels, denser around zero. */
#include "quant/fit.h"

static void decode_iq4_nl(float *y, const void *x, size_t n) {
    const iq4_nl_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_half_value(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)quant_iq4_values[b->qs[j] & 15];
            y[j + 16] = d * (float)quant_iq4_values[b->qs[j] >> 4];
        }
    }
}

static void decode_iq4_xs(float *y, const void *x, size_t n) {
    const iq4_xs_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int s = 0; s < 8; s++, y += 32) {
            int scale = (b->scales_l[s / 2] >> s % 2 * 4 & 15) | (b->scales_h >> 2 * s & 3) << 4;
            float ds = d * (float)(scale - 32);
            const uint8_t *q = b->qs + 16 * s;
            for (int j = 0; j < 16; j++) {
                y[j] = ds * (float)quant_iq4_values[q[j] & 15];
                y[j + 16] = ds * (float)quant_iq4_values[q[j] >> 4];
            }
        }
    }
}

static const fit_range levels = {.lo = -127, .hi = 113, .tries = 12, .least = 0.72f, .most = 1.08f, .table = quant_iq4_values};

static void pack_iq4_nl(void *block, uint16_t d, const uint8_t *q) {
    iq4_nl_block *b = block;
    b->d = d;
    for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static void encode_iq4_nl(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode(dst, src, n, importance, 32, sizeof(iq4_nl_block), &levels, pack_iq4_nl);
}

/* Sub-block s; the first finds a block of zeros. */
static void pack_iq4_xs(void *block, uint16_t d, int s, int sc, const uint8_t *q) {
    iq4_xs_block *b = block;
    b->d = d;
    int six = sc + 32;
    b->scales_l[s / 2] |= (uint8_t)((six & 15) << s % 2 * 4);
    b->scales_h |= (uint16_t)(six >> 4 << 2 * s);
    for (int j = 0; j < 16; j++) b->qs[16 * s + j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static void encode_iq4_xs(void *dst, const float *src, size_t n, const float *importance) {
    fit_encode_super(dst, src, n, importance, 32, sizeof(iq4_xs_block), &levels, 32, pack_iq4_xs);
}

QUANT_FORMAT(IQ4_NL, "iq4_nl", decode_iq4_nl, encode_iq4_nl);
QUANT_FORMAT(IQ4_XS, "iq4_xs", decode_iq4_xs, encode_iq4_xs);
