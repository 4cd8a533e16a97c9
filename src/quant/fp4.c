/* fp4.c: MXFP4 (OCP Microscaling 1.0) and NVFP4: E2M1 weights with a float scale per 32 or 16. */
#include "quant/fit.h"

#include <math.h>

const int8_t quant_e2m1_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float quant_ue4m3_half(uint8_t x) {
    if (x == 0 || x == 0x7F) return 0.0f;
    int exp = x >> 3 & 15, mant = x & 7;
    union {
        uint32_t u;
        float f;
    } pow2 = {(uint32_t)(exp ? exp + 127 - 11 : 127 - 10) << 23};
    return (float)(exp ? 8 + mant : mant) * pow2.f;
}

static void decode_mxfp4(float *y, const void *x, size_t n) {
    const mxfp4_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_e8m0_half(b->e);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)quant_e2m1_values[b->qs[j] & 15] * d;
            y[j + 16] = (float)quant_e2m1_values[b->qs[j] >> 4] * d;
        }
    }
}

static void decode_nvfp4(float *y, const void *x, size_t n) {
    const nvfp4_block *b = x;
    for (size_t i = 0; i < n / 64; i++, b++) {
        for (int s = 0; s < 4; s++, y += 16) {
            float d = quant_ue4m3_half(b->d[s]);
            const uint8_t *q = b->qs + 8 * s;
            for (int j = 0; j < 8; j++) {
                y[j] = (float)quant_e2m1_values[q[j] & 15] * d;
                y[j + 8] = (float)quant_e2m1_values[q[j] >> 4] * d;
            }
        }
    }
}

/* E2M1 in ascending order, and the codes of the places; both zeros become +0. */
static const int8_t ascending[16] = {-12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12};
static const uint8_t code[16] = {15, 14, 13, 12, 11, 10, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7};
static const fit_range levels = {.lo = -12, .hi = 12, .table = ascending};

/* Whichever of the scales first..last errs least; value: of a scale's code. */
static int best_scale(const float *x, const float *w, int n, const fit_range *range, float unit, int first,
                      int last, float (*value)(uint8_t)) {
    int best = first;
    float least = INFINITY;
    for (int c = first; c <= last; c++) {
        float err = fit_error(x, w, n, value((uint8_t)c) / unit, range);
        if (err < least) {
            least = err;
            best = c;
        }
    }
    return best;
}

static float e8m0(uint8_t e) {
    return quant_e8m0_half(e);
}

static void encode_mxfp4(void *dst, const float *src, size_t n, const float *importance) {
    mxfp4_block *b = dst;
    uint8_t places[FIT_PLACES];
    fit_range range = levels;
    fit_use_table(&range, places);
    for (size_t i = 0; i < n; i += 32, b++) {
        FIT_ALIGNED float x[32], w[32];
        uint8_t q[32];
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, 32);
        int e;
        (void)frexpf(unit, &e);
        e += 128 - 1 - 3; /* unit / 8: the largest weight, 1..2 units, lies at 8..16, where 12 is the last */
        /* Beyond 252 the largest level would be infinite. */
        int first = MAX(MIN(e - 1, 252), 0), last = MAX(MIN(e + 2, 252), 0);
        b->e = (uint8_t)best_scale(x, w, 32, &range, unit, first, last, e8m0);
        fit_nearest(q, x, 32, quant_e8m0_half(b->e) / unit, &range);
        for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(code[q[j]] | code[q[j + 16]] << 4);
    }
}

static void encode_nvfp4(void *dst, const float *src, size_t n, const float *importance) {
    nvfp4_block *b = dst;
    uint8_t places[FIT_PLACES];
    fit_range range = levels;
    fit_use_table(&range, places);
    for (size_t i = 0; i < n; i += 64, b++) {
        for (int s = 0; s < 4; s++) {
            FIT_ALIGNED float x[16], w[16];
            uint8_t q[16];
            size_t at = i + 16 * (size_t)s;
            float unit = fit_load(x, w, src + at, importance ? importance + at : NULL, 16), far = 0;
            for (int j = 0; j < 16; j++) far = fmaxf(far, fabsf(x[j]));
            int c = 1; /* the first scale that reaches the largest weight; codes ascend with their values */
            while (c < 0x7E && quant_ue4m3_half((uint8_t)c) / unit * 12 < far) c++;
            c = best_scale(x, w, 16, &range, unit, MAX(c - 4, 0), MIN(c + 6, 0x7E), quant_ue4m3_half);
            b->d[s] = (uint8_t)c;
            fit_nearest(q, x, 16, quant_ue4m3_half((uint8_t)c) / unit, &range);
            for (int j = 0; j < 8; j++) b->qs[8 * s + j] = (uint8_t)(code[q[j]] | code[q[j + 8]] << 4);
        }
    }
}

QUANT_FORMAT(MXFP4, "mxfp4", decode_mxfp4, encode_mxfp4);
QUANT_FORMAT(NVFP4, "nvfp4", decode_nvfp4, encode_nvfp4);
