/* iq4.c: IQ4_NL and IQ4_XS: 4-bit indices into 16 uneven levels, denser around zero. */
#include "quant/fit.h"

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

static void decode_iq4_nl(float *y, const void *x, size_t n) {
    const iq4_nl_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)quant_iq4_values[b->qs[j] & 15];
            y[j + 16] = d * (float)quant_iq4_values[b->qs[j] >> 4];
        }
    }
}

static void decode_iq4_xs(float *y, const void *x, size_t n) {
    const iq4_xs_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_f16_to_f32(b->d);
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

static void encode_iq4_nl(void *dst, const float *src, size_t n, const float *importance) {
    iq4_nl_block *b = dst;
    uint8_t places[FIT_PLACES];
    fit_range range = levels;
    fit_use_table(&range, places);
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

static void encode_iq4_xs(void *dst, const float *src, size_t n, const float *importance) {
    iq4_xs_block *b = dst;
    uint8_t places[FIT_PLACES];
    fit_range range = levels;
    fit_use_table(&range, places);
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        FIT_ALIGNED float x[QUANT_K], w[QUANT_K];
        uint8_t q[32];
        int sc[8];
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        uint16_t d = fit_super(x, w, unit, 32, &range, 32, sc);
        float vd = fit_half_value(d, unit);
        *b = (iq4_xs_block){.d = d};
        for (int s = 0; s < 8; s++) {
            int six = sc[s] + 32;
            b->scales_l[s / 2] |= (uint8_t)((six & 15) << s % 2 * 4);
            b->scales_h |= (uint16_t)(six >> 4 << 2 * s);
            fit_nearest(q, x + 32 * s, 32, vd * (float)sc[s], &range);
            for (int j = 0; j < 16; j++) b->qs[16 * s + j] = (uint8_t)(q[j] | q[j + 16] << 4);
        }
    }
}

QUANT_FORMAT(IQ4_NL, "iq4_nl", decode_iq4_nl, encode_iq4_nl);
QUANT_FORMAT(IQ4_XS, "iq4_xs", decode_iq4_xs, encode_iq4_xs);
