/* rung.c: what one instruction set has: the formats, and the loops around them that see every weight. */
#include "quant/quant_int.h"

enum { GROUP = 256 /* weights whose mean square is the yardstick of what is large */, LANES = 16, MANY = 32 };

static void weigh(float *w, const float *x, size_t n, bool importance) {
    for (size_t b = 0; b < n; b += GROUP) {
        size_t m = MIN(n - b, (size_t)GROUP), i = 0;
        float sums[LANES] = {0}, sum = 0;
        for (; i + LANES <= m; i += LANES)
            for (int l = 0; l < LANES; l++) sums[l] += x[b + i + l] * x[b + i + l];
        for (; i < m; i++) sum += x[b + i] * x[b + i];
        for (int l = 0; l < LANES; l++) sum += sums[l];
        float mean = sum / (float)m;
        for (i = b; i < b + m; i++) {
            float cost = __builtin_sqrtf(mean + x[i] * x[i]);
            w[i] = importance ? w[i] * cost : cost;
        }
    }
}

/* In doubles: squares that no float holds, or none holds well. */
static void miss_far(const float *x, const float *y, size_t n, double *err, double *sum) {
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        *err += d * d;
        *sum += (double)x[i] * (double)x[i];
    }
}

static void miss(const float *x, const float *y, size_t n, double *err, double *sum) {
    size_t i = 0;
    *err = *sum = 0;
    for (; i + GROUP <= n; i += GROUP) {
        float e[MANY] = {0}, s[MANY] = {0};
        for (size_t b = i; b < i + GROUP; b += MANY) {
            for (int l = 0; l < MANY; l++) {
                float d = x[b + l] - y[b + l];
                e[l] += d * d;
                s[l] += x[b + l] * x[b + l];
            }
        }
        for (int half = MANY / 2; half; half /= 2) {
            for (int l = 0; l < half; l++) {
                e[l] += e[l + half];
                s[l] += s[l + half];
            }
        }
        if (e[0] <= 1e30f && s[0] <= 1e30f && s[0] >= 1e-30f) {
            *err += (double)e[0];
            *sum += (double)s[0];
        } else {
            miss_far(x + i, y + i, GROUP, err, sum);
        }
    }
    miss_far(x + i, y + i, n - i, err, sum);
}

#ifdef QUANT_ISA
#define RUNG QUANT_NAME(quant_rung)
#else
#define RUNG quant_rung_generic
#endif

const quant_rung RUNG = {
    .formats = {
#define FORMAT(NAME, number, block, bytes, family) [number] = &QUANT_NAME(quant_format_##NAME),
#include "quant/formats.def"
#undef FORMAT
    },
    .weigh = weigh,
    .miss = miss,
};
