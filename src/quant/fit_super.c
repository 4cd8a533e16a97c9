/* fit_super.c: least squares for super-blocks, whose sub-blocks' scales are themselves small integers.
 *
 * First every sub-block is fitted alone. Then, for a few trial values of the outer scale, each sub-block
 * takes the integer near its ideal that errs least, and the outer scale is fitted again to the levels this
 * gives. */
#include "quant/fit.h"

#include <math.h>
#include <string.h>

#define SUB_MAX 16
#define ROUNDS 3

static int nearest_int(float v, int lo, int hi) {
    return v >= (float)hi ? hi : v > (float)lo ? (int)lrintf(v) : lo;
}

/* For one d: the best integer per sub-block. Returns the error. */
static float scales_for(const float *x, const float *w, int n, const fit_range *r, int bound, float d,
                        const float *ideal, int *sc) {
    float sum = 0, inv = fit_inverse(d);
    for (int s = 0; s < QUANT_K / n; s++) {
        const float *xs = x + s * n, *ws = w + s * n;
        int at = nearest_int(ideal[s] * inv, -bound, bound - 1);
        float least = INFINITY;
        for (int c = MAX(at - 1, -bound); c <= MIN(at + 1, bound - 1); c++) {
            float err = fit_error(xs, ws, n, d * (float)c, r);
            if (err < least) {
                least = err;
                sc[s] = c;
            }
        }
        sum += least;
    }
    return sum;
}

/* The d that fits best, given the scales and the levels they lead to. */
static float refit(const float *x, const float *w, int n, const fit_range *r, float d, const int *sc) {
    float a = 0, b = 0;
    for (int s = 0; s < QUANT_K / n; s++) {
        uint8_t q[QUANT_K];
        fit_nearest(q, x + s * n, n, d * (float)sc[s], r);
        for (int i = 0; i < n; i++) {
            float y = (float)(sc[s] * (r->table ? r->table[q[i]] : q[i] + r->lo)), wy = w[s * n + i] * y;
            a += wy * x[s * n + i];
            b += wy * y;
        }
    }
    return b > 0 ? a / b : d;
}

uint16_t fit_super(const float *x, const float *w, float unit, int n, const fit_range *r, int bound,
                   int *sc) {
    float ideal[SUB_MAX], far = 0;
    for (int s = 0; s < QUANT_K / n; s++) {
        ideal[s] = fit_scale(x + s * n, w + s * n, n, r);
        far = fabsf(ideal[s]) > fabsf(far) ? ideal[s] : far;
    }
    memset(sc, 0, (size_t)(QUANT_K / n) * sizeof *sc);
    if (far == 0) return 0;
    float least = INFINITY;
    uint16_t best = 0;
    for (int trial = 0; trial < 3; trial++) {
        /* The largest scale becomes -bound, a step less, or bound - 1. */
        float d = far / (float)(trial == 2 ? bound - 1 : trial - bound);
        for (int round = 0; round < (trial ? 1 : ROUNDS); round++) {
            int trial_sc[SUB_MAX];
            uint16_t h = fit_half_cover(d, unit);
            d = fit_half_value(h, unit);
            float err = scales_for(x, w, n, r, bound, d, ideal, trial_sc);
            if (!(err < least)) break;
            least = err;
            best = h;
            memcpy(sc, trial_sc, (size_t)(QUANT_K / n) * sizeof *sc);
            d = refit(x, w, n, r, d, sc);
        }
    }
    return best;
}

typedef struct affine_sub {
    float scale, off; /* ideal */
} affine_sub;

typedef struct affine_fit {
    uint8_t sc[SUB_MAX], m[SUB_MAX];
    uint16_t d, dmin;
    float err;
} affine_fit;

/* For one d and dmin: the best pair of integers for a sub-block. Returns its error. */
static float pair_for(const float *x, const float *w, int n, int top, int bound, float d, float dmin,
                      const affine_sub *ideal, uint8_t *sc, uint8_t *m) {
    float least = INFINITY, shift, inv_min = fit_inverse(dmin);
    int at = nearest_int(ideal->scale * fit_inverse(d), 0, bound);
    for (int c = MAX(at - 1, 0); c <= MIN(at + 1, bound); c++) {
        int k = nearest_int(ideal->off * inv_min, 0, bound);
        for (int step = 0; step < 3; step++) { /* follow the minimum that suits the levels */
            float err = fit_affine_error(x, w, n, d * (float)c, dmin * (float)k, top, &shift);
            if (err < least) {
                least = err;
                *sc = (uint8_t)c;
                *m = (uint8_t)k;
            }
            int next = nearest_int((dmin * (float)k + shift) * inv_min, 0, bound);
            if (next == k) break;
            k = next;
        }
    }
    return least;
}

/* The d and dmin that fit best, given the integers and the levels they lead to. */
static void refit_affine(const float *x, const float *w, int n, int top, const affine_fit *f, float *d,
                         float *dmin) {
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int s = 0; s < QUANT_K / n; s++) {
        uint8_t q[QUANT_K];
        fit_levels(q, x + s * n, n, *dmin * (float)f->m[s], *d * (float)f->sc[s], 0, top);
        float swq = 0, swqq = 0, sw = 0, swx = 0, swxq = 0;
        for (int i = 0; i < n; i++) {
            float wi = w[s * n + i], qi = (float)q[i], xi = x[s * n + i];
            sw += wi;
            swq += wi * qi;
            swqq += wi * qi * qi;
            swx += wi * xi;
            swxq += wi * xi * qi;
        }
        double sc = f->sc[s], m = f->m[s];
        aa += sc * sc * (double)swqq;
        ab += sc * m * (double)swq;
        bb += m * m * (double)sw;
        xa += sc * (double)swxq;
        xb += m * (double)swx;
    }
    /* x ≈ d A - dmin B */
    double det = aa * bb - ab * ab;
    if (det > 1e-9 * aa * bb) {
        double nd = (xa * bb - xb * ab) / det, nm = (xa * ab - xb * aa) / det;
        if (nd > 0 && nm >= 0) {
            *d = (float)nd;
            *dmin = (float)nm;
        }
    } else if (aa > 0 && bb == 0) {
        *d = (float)(xa / aa);
    }
}

void fit_super_affine(const float *x, const float *w, float unit, int n, int top, int bound, uint8_t *sc,
                      uint8_t *m, uint16_t *d, uint16_t *dmin) {
    affine_sub ideal[SUB_MAX];
    affine_fit best = {.err = INFINITY}, f;
    float far_scale = 0, far_off = 0;
    for (int s = 0; s < QUANT_K / n; s++) {
        fit_affine(x + s * n, w + s * n, n, top, true, &ideal[s].scale, &ideal[s].off);
        far_scale = MAX(far_scale, ideal[s].scale);
        far_off = MAX(far_off, ideal[s].off);
    }
    int trials = bound < 32 ? 4 : 1; /* coarse scales: also let the largest take fewer steps */
    for (int trial = 0; trial < trials; trial++) {
        float td = far_scale / (float)(bound - trial % 2), tm = far_off / (float)(bound - trial / 2);
        for (int round = 0; round < ROUNDS; round++) {
            f.d = fit_half_cover(td, unit);
            f.dmin = fit_half_cover(tm, unit);
            td = fit_half_value(f.d, unit);
            tm = fit_half_value(f.dmin, unit);
            f.err = 0;
            for (int s = 0; s < QUANT_K / n; s++) {
                f.err += pair_for(x + s * n, w + s * n, n, top, bound, td, tm, &ideal[s], &f.sc[s], &f.m[s]);
            }
            if (!(f.err < best.err)) break;
            best = f;
            refit_affine(x, w, n, top, &f, &td, &tm);
        }
    }
    memcpy(sc, best.sc, (size_t)(QUANT_K / n));
    memcpy(m, best.m, (size_t)(QUANT_K / n));
    *d = best.d;
    *dmin = best.dmin;
}

void fit_pack_k4(uint8_t packed[12], const uint8_t sc[8], const uint8_t m[8]) {
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(sc[j] | (sc[j + 4] >> 4) << 6);
        packed[j + 4] = (uint8_t)(m[j] | (m[j + 4] >> 4) << 6);
        packed[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}
