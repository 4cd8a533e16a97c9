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

static void encode_iq4_nl(void *dst, const float *src, size_t n, const float *importance) {
    iq4_nl_block *b = dst;
    fit_blocks t;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        fit_one_scale(&t, src + i, n - i, importance ? importance + i : NULL, 32, &levels);
        for (int g = 0; g < t.groups; g++, b++) {
            const uint8_t *q = t.q + g * 32;
            b->d = t.d[g];
            for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
        }
    }
}

static void encode_iq4_xs(void *dst, const float *src, size_t n, const float *importance) {
    enum { SUBS = QUANT_K / 32, BLOCKS = FIT_GROUPS / SUBS };
    iq4_xs_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += BLOCKS * QUANT_K) {
        int groups = (int)MIN((n - i) / QUANT_K, (size_t)BLOCKS) * SUBS, sc[FIT_GROUPS];
        uint16_t d[FIT_GROUPS];
        uint8_t q[32];
        fit_load(&k, src + i, importance ? importance + i : NULL, 32, groups, SUBS);
        fit_super(&k, &levels, 32, sc, d);
        for (int g = 0; g < groups; g++) {
            const int s = g % SUBS;
            if (s == 0) *b = (iq4_xs_block){.d = d[g / SUBS]};
            fit_nearest(&k, g, fit_half_value(b->d, k.unit[g]) * (float)sc[g], &levels, q);
            int six = sc[g] + 32;
            b->scales_l[s / 2] |= (uint8_t)((six & 15) << s % 2 * 4);
            b->scales_h |= (uint16_t)(six >> 4 << 2 * s);
            for (int j = 0; j < 16; j++) b->qs[16 * s + j] = (uint8_t)(q[j] | q[j + 16] << 4);
            b += s == SUBS - 1;
        }
    }
}

QUANT_FORMAT(IQ4_NL, "iq4_nl", decode_iq4_nl, encode_iq4_nl);
QUANT_FORMAT(IQ4_XS, "iq4_xs", decode_iq4_xs, encode_iq4_xs);
