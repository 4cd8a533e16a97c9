/* fit_super.c: least squares for super-blocks, whose sub-blocks' scales are themselves small integers.
 *
 * First every sub-block is fitted alone. Then, for a few trial values of the outer scale, each sub-block
 * takes the integer near its ideal that errs least, and the outer scale is fitted again to the levels this
 * gives. */
#include "quant/fit.h"

#include <math.h>
#include <string.h>

#define ROUNDS 3

static float nearest_whole(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

/* For one d (of each group's super-block): the best integers, and their errors. */
static void scales_for(const fit_stack *k, const fit_range *r, int bound, const float *d, const float *ideal, float *sc, float *least) {
    float at[FIT_GROUPS], c[FIT_GROUPS], value[FIT_GROUPS] = {0}, err[FIT_GROUPS], lo = (float)-bound, hi = (float)(bound - 1);
    for (int g = 0; g < k->groups; g++) {
        at[g] = nearest_whole(ideal[g] * fit_inverse(d[g]), lo, hi);
        least[g] = INFINITY;
    }
    for (int step = -1; step <= 1; step++) {
        for (int g = 0; g < k->groups; g++) {
            c[g] = MIN(MAX(at[g] + (float)step, lo), hi);
            value[g] = d[g] * c[g];
        }
        fit_errors(k, r, value, err);
        for (int g = 0; g < k->groups; g++) {
            sc[g] = err[g] < least[g] ? c[g] : sc[g];
            least[g] = err[g] < least[g] ? err[g] : least[g];
        }
    }
}

/* The trials go on for each super-block until they stop making it better. */
typedef struct super {
    float d, dmin, least;
    uint16_t half, half_min;
    bool done;
} super;

static float sum_of(const fit_stack *k, int block, const float *v) {
    float sum = 0;
    for (int g = 0; g < k->share; g++) sum += v[block * k->share + g];
    return sum;
}

/* Whether errors such as these are the least yet of super-block i, whose trials end where they are not. */
static bool improves(const fit_stack *k, const float *err, int i, super *b) {
    float sum = sum_of(k, i, err);
    b[i].done |= !(sum < b[i].least);
    if (!b[i].done) b[i].least = sum;
    return !b[i].done;
}

/* The d that fits best, given the scales and the levels they lead to. */
static void refit(const fit_stack *k, const fit_range *r, const float *sc, super *b) {
    float value[FIT_GROUPS] = {0}, a1[FIT_GROUPS], a2[FIT_GROUPS];
    for (int g = 0; g < k->groups; g++) value[g] = b[g / k->share].d * sc[g];
    fit_sums(k, r, value, a1, a2);
    for (int g = 0; g < k->groups; g++) {
        a1[g] *= sc[g];
        a2[g] *= sc[g] * sc[g];
    }
    for (int i = 0; i < k->groups / k->share; i++) {
        float up = sum_of(k, i, a1), down = sum_of(k, i, a2);
        if (down > 0) b[i].d = up / down;
    }
}

void fit_super(const fit_stack *k, const fit_range *r, int bound, int sc[FIT_GROUPS], uint16_t d[FIT_GROUPS]) {
    const int blocks = k->groups / k->share;
    float ideal[FIT_GROUPS], far[FIT_GROUPS], each[FIT_GROUPS] = {0}, try_sc[FIT_GROUPS] = {0}, err[FIT_GROUPS];
    super b[FIT_GROUPS];
    fit_scales(k, r, ideal);
    for (int i = 0; i < blocks; i++) {
        far[i] = 0;
        for (int g = 0; g < k->share; g++) far[i] = fabsf(ideal[i * k->share + g]) > fabsf(far[i]) ? ideal[i * k->share + g] : far[i];
        b[i] = (super){.least = INFINITY};
        d[i] = 0;
    }
    memset(sc, 0, FIT_GROUPS * sizeof *sc);
    for (int trial = 0; trial < 3; trial++) {
        for (int i = 0; i < blocks; i++) { /* the largest scale becomes -bound, a step less, or bound - 1 */
            b[i].d = far[i] / (float)(trial == 2 ? bound - 1 : trial - bound);
            b[i].done = far[i] == 0;
        }
        for (int round = 0; round < (trial ? 1 : ROUNDS); round++) {
            bool going = false;
            for (int i = 0; i < blocks; i++) {
                b[i].half = fit_half_cover(b[i].d, k->unit[i * k->share]);
                b[i].d = fit_half_value(b[i].half, k->unit[i * k->share]);
                for (int g = 0; g < k->share; g++) each[i * k->share + g] = b[i].d;
            }
            scales_for(k, r, bound, each, ideal, try_sc, err);
            for (int i = 0; i < blocks; i++) {
                if (!improves(k, err, i, b)) continue;
                going = true;
                d[i] = b[i].half;
                for (int g = i * k->share; g < (i + 1) * k->share; g++) sc[g] = (int)try_sc[g];
            }
            if (!going) break;
            if (!trial && round + 1 < ROUNDS) refit(k, r, try_sc, b);
        }
    }
}

/* For one d and dmin (of each group's super-block): the best pairs of integers, and their errors. */
static void pairs_for(const fit_stack *k, int top, int bound, const super *b, const float *scale, const float *off, float *sc, float *m,
                      float *least) {
    float at[FIT_GROUPS], c[FIT_GROUPS], n[FIT_GROUPS], d[FIT_GROUPS] = {0}, dmin[FIT_GROUPS] = {0}, err[FIT_GROUPS], shift[FIT_GROUPS];
    float inv_min[FIT_GROUPS], hi = (float)bound;
    for (int g = 0; g < k->groups; g++) {
        const super *s = &b[g / k->share];
        inv_min[g] = fit_inverse(s->dmin);
        at[g] = nearest_whole(scale[g] * fit_inverse(s->d), 0, hi);
        least[g] = INFINITY;
    }
    for (int step = -1; step <= 1; step++) {
        for (int g = 0; g < k->groups; g++) {
            c[g] = MIN(MAX(at[g] + (float)step, 0), hi);
            n[g] = nearest_whole(off[g] * inv_min[g], 0, hi);
        }
        for (int turn = 0; turn < 3; turn++) { /* follow the minimum that suits the levels */
            bool moves = false;
            for (int g = 0; g < k->groups; g++) {
                d[g] = b[g / k->share].d * c[g];
                dmin[g] = b[g / k->share].dmin * n[g];
            }
            fit_affine_errors(k, top, d, dmin, err, shift);
            for (int g = 0; g < k->groups; g++) {
                if (err[g] < least[g]) {
                    least[g] = err[g];
                    sc[g] = c[g];
                    m[g] = n[g];
                }
                float next = nearest_whole((dmin[g] + shift[g]) * inv_min[g], 0, hi);
                moves |= next != n[g];
                n[g] = next;
            }
            if (!moves) break;
        }
    }
}

/* The d and dmin that fit best, given the integers and the levels they lead to. sw, swx: of each group, Σ w and Σ w x. */
static void refit_affine(const fit_stack *k, int top, const float *sc, const float *m, const float *sw, const float *swx, super *b) {
    float d[FIT_GROUPS] = {0}, dmin[FIT_GROUPS] = {0};
    fit_moments q;
    for (int g = 0; g < k->groups; g++) {
        d[g] = b[g / k->share].d * sc[g];
        dmin[g] = b[g / k->share].dmin * m[g];
    }
    fit_level_moments(k, top, d, dmin, &q);
    for (int i = 0; i < k->groups / k->share; i++) {
        double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
        for (int g = i * k->share; g < (i + 1) * k->share; g++) {
            double s = (double)sc[g], n = (double)m[g];
            aa += s * s * (double)q.l2[g];
            ab += s * n * (double)q.l[g];
            bb += n * n * (double)sw[g];
            xa += s * (double)q.xl[g];
            xb += n * (double)swx[g];
        }
        /* x ≈ d A - dmin B */
        double det = aa * bb - ab * ab;
        if (det > 1e-9 * aa * bb) {
            double nd = (xa * bb - xb * ab) / det, nm = (xa * ab - xb * aa) / det;
            if (nd > 0 && nm >= 0) {
                b[i].d = (float)nd;
                b[i].dmin = (float)nm;
            }
        } else if (aa > 0 && bb == 0) {
            b[i].d = (float)(xa / aa);
        }
    }
}

static void plain_sums(const fit_stack *k, float *sw, float *swx) {
    for (int g = 0; g < FIT_GROUPS; g++) sw[g] = swx[g] = 0;
    for (int i = 0; i < k->n; i++) {
        for (int g = 0; g < FIT_GROUPS; g++) {
            sw[g] += k->w[FIT_GROUPS * i + g];
            swx[g] += k->w[FIT_GROUPS * i + g] * k->x[FIT_GROUPS * i + g];
        }
    }
}

void fit_super_affine(const fit_stack *k, int top, int bound, uint8_t sc[FIT_GROUPS], uint8_t m[FIT_GROUPS], uint16_t d[FIT_GROUPS],
                      uint16_t dmin[FIT_GROUPS]) {
    const int blocks = k->groups / k->share, trials = bound < 32 ? 4 : 1; /* coarse scales: also let the largest take fewer steps */
    float scale[FIT_GROUPS], off[FIT_GROUPS], far[FIT_GROUPS], far_off[FIT_GROUPS], sw[FIT_GROUPS], swx[FIT_GROUPS];
    float try_sc[FIT_GROUPS] = {0}, try_m[FIT_GROUPS] = {0}, err[FIT_GROUPS];
    super b[FIT_GROUPS];
    fit_affine(k, top, true, scale, off);
    plain_sums(k, sw, swx);
    for (int i = 0; i < blocks; i++) {
        far[i] = far_off[i] = 0;
        for (int g = i * k->share; g < (i + 1) * k->share; g++) {
            far[i] = MAX(far[i], scale[g]);
            far_off[i] = MAX(far_off[i], off[g]);
        }
        b[i] = (super){.least = INFINITY};
        d[i] = dmin[i] = 0;
    }
    for (int g = 0; g < FIT_GROUPS; g++) sc[g] = m[g] = 0;
    for (int trial = 0; trial < trials; trial++) {
        for (int i = 0; i < blocks; i++) {
            b[i].d = far[i] / (float)(bound - trial % 2);
            b[i].dmin = far_off[i] / (float)(bound - trial / 2);
            b[i].done = false;
        }
        for (int round = 0; round < ROUNDS; round++) {
            bool going = false;
            for (int i = 0; i < blocks; i++) {
                float unit = k->unit[i * k->share];
                b[i].half = fit_half_cover(b[i].d, unit);
                b[i].half_min = fit_half_cover(b[i].dmin, unit);
                b[i].d = fit_half_value(b[i].half, unit);
                b[i].dmin = fit_half_value(b[i].half_min, unit);
            }
            pairs_for(k, top, bound, b, scale, off, try_sc, try_m, err);
            for (int i = 0; i < blocks; i++) {
                if (!improves(k, err, i, b)) continue;
                going = true;
                d[i] = b[i].half;
                dmin[i] = b[i].half_min;
                for (int g = i * k->share; g < (i + 1) * k->share; g++) {
                    sc[g] = (uint8_t)try_sc[g];
                    m[g] = (uint8_t)try_m[g];
                }
            }
            if (!going) break;
            if (round + 1 < ROUNDS) refit_affine(k, top, try_sc, try_m, sw, swx, b);
        }
    }
}

void fit_pack_k4(uint8_t packed[12], const uint8_t sc[8], const uint8_t m[8]) {
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(sc[j] | (sc[j + 4] >> 4) << 6);
        packed[j + 4] = (uint8_t)(m[j] | (m[j + 4] >> 4) << 6);
        packed[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}
