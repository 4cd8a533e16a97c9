/* fp4.c: MXFP4 (OCP Microscaling 1.0) and NVFP4: E2M1 weights with a float scale per 32 or 16. */
#include "quant/fit.h"

#include <math.h>

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

/* Of the scales first[g]..last[g] of each group the one that errs least, into best; value: of a scale's code. */
static void best_scales(const fit_stack *k, const int *first, const int *last, float (*value)(uint8_t), uint8_t *best) {
    float least[FIT_GROUPS], err[FIT_GROUPS], d[FIT_GROUPS] = {0};
    bool more = true;
    for (int g = 0; g < k->groups; g++) least[g] = INFINITY;
    for (int step = 0; more; step++) {
        more = false;
        for (int g = 0; g < k->groups; g++) d[g] = value((uint8_t)MIN(first[g] + step, last[g])) / k->unit[g];
        fit_errors(k, &levels, d, err);
        for (int g = 0; g < k->groups; g++) {
            if (err[g] < least[g]) best[g] = (uint8_t)MIN(first[g] + step, last[g]);
            least[g] = MIN(err[g], least[g]);
            more |= first[g] + step < last[g];
        }
    }
}

static float e8m0(uint8_t e) {
    return quant_e8m0_half(e);
}

static void encode_mxfp4(void *dst, const float *src, size_t n, const float *importance) {
    mxfp4_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        int groups = (int)MIN((n - i) / 32, (size_t)FIT_GROUPS), first[FIT_GROUPS], last[FIT_GROUPS];
        uint8_t q[32], best[FIT_GROUPS] = {0};
        fit_load(&k, src + i, importance ? importance + i : NULL, 32, groups, 1);
        for (int g = 0; g < groups; g++) {
            int e;
            (void)frexpf(k.unit[g], &e);
            e += 128 - 1 - 3; /* unit / 8: the largest weight, 1..2 units, lies at 8..16, where 12 is the last */
            /* Beyond 252 the largest level would be infinite. */
            first[g] = MAX(MIN(e - 1, 252), 0);
            last[g] = MAX(MIN(e + 2, 252), 0);
        }
        best_scales(&k, first, last, e8m0, best);
        for (int g = 0; g < groups; g++, b++) {
            fit_nearest(&k, g, quant_e8m0_half(best[g]) / k.unit[g], &levels, q);
            b->e = best[g];
            for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(code[q[j]] | code[q[j + 16]] << 4);
        }
    }
}

static void encode_nvfp4(void *dst, const float *src, size_t n, const float *importance) {
    nvfp4_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 16) {
        int groups = (int)MIN((n - i) / 16, (size_t)FIT_GROUPS), first[FIT_GROUPS], last[FIT_GROUPS];
        uint8_t q[16], best[FIT_GROUPS] = {0};
        fit_load(&k, src + i, importance ? importance + i : NULL, 16, groups, 1);
        for (int g = 0; g < groups; g++) {
            const float *x = k.rows + 16 * g;
            float far = 0;
            for (int j = 0; j < 16; j++) far = fmaxf(far, fabsf(x[j]));
            int lo = 1, hi = 0x7E; /* the first scale that reaches the largest weight; codes ascend with their values */
            while (lo < hi) {
                int c = (lo + hi) / 2;
                if (quant_ue4m3_half((uint8_t)c) / k.unit[g] * 12 < far) lo = c + 1;
                else hi = c;
            }
            first[g] = MAX(lo - 4, 0);
            last[g] = MIN(lo + 6, 0x7E);
        }
        best_scales(&k, first, last, quant_ue4m3_half, best);
        for (int g = 0; g < groups; g++) {
            nvfp4_block *out = b + g / 4;
            fit_nearest(&k, g, quant_ue4m3_half(best[g]) / k.unit[g], &levels, q);
            out->d[g % 4] = best[g];
            for (int j = 0; j < 8; j++) out->qs[g % 4 * 8 + j] = (uint8_t)(code[q[j]] | code[q[j + 8]] << 4);
        }
        b += groups / 4;
    }
}

QUANT_FORMAT(MXFP4, "mxfp4", decode_mxfp4, encode_mxfp4);
QUANT_FORMAT(NVFP4, "nvfp4", decode_nvfp4, encode_nvfp4);
