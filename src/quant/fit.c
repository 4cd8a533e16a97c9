/* fit.c: least squares for blocks of one scale, or of one scale and one minimum. */
#include "quant/fit.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Four lanes; gcc and clang make SSE or NEON of it. aligned(4): any float may be the first. */
typedef float v4f __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t v4i __attribute__((vector_size(16), aligned(4), may_alias));

static inline v4f all(float f) {
    return (v4f){f, f, f, f};
}
static inline v4f pick(v4i mask, v4f a, v4f b) {
    return (v4f)((mask & (v4i)a) | (~mask & (v4i)b));
}
static inline float total(v4f v) {
    return (v[0] + v[1]) + (v[2] + v[3]);
}
/* The nearest whole number in lo..hi. Adding 1.5 2^23 drops the fraction, rounding to even. */
static inline v4f nearest(v4f t, v4f lo, v4f hi) {
    t = pick(t > lo, t, lo);
    t = pick(t < hi, t, hi);
    return (t + all(0x1.8p23f)) - all(0x1.8p23f);
}
#define AT(p, i) (*(const v4f *)((p) + (i)))

float fit_load(float *x, float *w, const float *src, const float *importance, int n) {
    float amax = 0, wmax = 0;
    for (int i = 0; i < n; i++) {
        float v = src[i];
        v = v >= -FLT_MAX ? v : v < 0 ? -FLT_MAX : 0; /* the last is NaN */
        v = v <= FLT_MAX ? v : FLT_MAX;
        x[i] = v;
        v = fabsf(v);
        amax = v > amax ? v : amax;
        v = importance ? importance[i] : 1;
        v = v >= 0 && v <= FLT_MAX ? v : 0;
        w[i] = v;
        wmax = v > wmax ? v : wmax;
    }
    int e;
    (void)frexpf(amax, &e);
    float unit = amax > 0 ? ldexpf(1, e - 1) : 1;
    if (unit > 0x1p-126f) {
        float inverse = 1 / unit;
        for (int i = 0; i < n; i++) x[i] *= inverse;
    } else {
        for (int i = 0; i < n; i++) x[i] /= unit;
    }
    /* No importance at all is no information: all weights count the same. */
    float wscale = wmax > 1e-30f ? 1 / wmax : 0;
    for (int i = 0; i < n && importance; i++) w[i] = wscale > 0 ? w[i] * wscale : 1;
    return unit;
}

uint16_t fit_half(float d, float unit) {
    double v = (double)d * (double)unit;
    if (!(v < 65504)) v = 65504;
    if (!(v > -65504)) v = -65504;
    return quant_f32_to_f16((float)v);
}

uint16_t fit_half_cover(float d, float unit) {
    uint16_t h = fit_half(d, unit);
    bool subnormal = (h & 0x7FFF) < 0x400, less = fabsf(fit_half_value(h, unit)) < fabsf(d);
    return subnormal && less ? (uint16_t)(h + 1) : h;
}

void fit_use_table(fit_range *r, uint8_t places[FIT_PLACES]) {
    int i = 0;
    for (int t = 0; t < FIT_PLACES; t++) {
        while (i < 15 && t - FIT_PLACES / 2 >= r->table[i] + r->table[i + 1]) i++;
        places[t] = (uint8_t)i;
    }
    r->places = places;
}

/* Which of the 16 levels is nearest to t: midpoints are whole numbers in 2t. */
static inline int nearest_of(const fit_range *r, float t) {
    t = t + t + (float)(FIT_PLACES / 2);
    t = t > 0 ? t : 0;
    return r->places[t < FIT_PLACES - 1 ? (int)t : FIT_PLACES - 1];
}

/* The four levels nearest to t. */
static inline v4f quantized(const fit_range *r, v4f t) {
    if (r->odd) {
        const v4f two = all(2), one = all(1);
        return nearest((t - one) / two, all((float)(r->lo - 1) / 2), all((float)(r->hi - 1) / 2)) * two + one;
    }
    if (!r->table) return nearest(t, all((float)r->lo), all((float)r->hi));
    v4f q;
    for (int k = 0; k < 4; k++) q[k] = (float)r->table[nearest_of(r, t[k])];
    return q;
}

/* a = Σ w x q and b = Σ w q² of the levels nearest to x * inv. */
static void sums(const float *x, const float *w, int n, float inv, const fit_range *r, float *a, float *b) {
    v4f va = all(0), vb = all(0), vinv = all(inv);
    for (int i = 0; i < n; i += 4) {
        v4f q = quantized(r, AT(x, i) * vinv), wq = AT(w, i) * q;
        va += wq * AT(x, i);
        vb += wq * q;
    }
    *a = total(va);
    *b = total(vb);
}

/* The element of the largest magnitude, with its sign. */
static float extreme(const float *x, int n) {
    float best = 0;
    for (int i = 0; i < n; i++) best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

float fit_scale(const float *x, const float *w, int n, const fit_range *r) {
    float inv_far = fit_inverse(extreme(x, n)), best = 0, gain = 0, a, b;
    if (inv_far == 0) return 0;
    int sides = -r->lo == r->hi ? 1 : 2, longer = MAX(-r->lo, r->hi);
    inv_far = fabsf(inv_far); /* positive scales first: of equals the first is kept */
    for (int side = 0; side < sides; side++) {
        for (int t = 0; t < r->tries; t++) {
            float part = r->least + (r->most - r->least) * ((float)t / (float)MAX(r->tries - 1, 1));
            float inv = (side ? -part : part) * (float)longer * inv_far;
            sums(x, w, n, inv, r, &a, &b);
            if (b > 0 && a * a > 1.000001f * gain * b) {
                gain = a * a / b;
                best = a / b;
            }
        }
    }
    for (int round = 0; round < 4; round++) {
        sums(x, w, n, fit_inverse(best), r, &a, &b);
        if (!(b > 0 && a * a > gain * b)) break;
        gain = a * a / b;
        best = a / b;
    }
    return best;
}

float fit_error(const float *x, const float *w, int n, float d, const fit_range *r) {
    v4f err = all(0), vd = all(d), inv = all(fit_inverse(d));
    for (int i = 0; i < n; i += 4) {
        v4f e = AT(x, i) - vd * quantized(r, AT(x, i) * inv);
        err += AT(w, i) * e * e;
    }
    return total(err);
}

uint16_t fit_best_half(const float *x, const float *w, int n, float *d, float unit, const fit_range *r) {
    uint16_t first = fit_half(*d, unit), best = first;
    float least = INFINITY;
    for (int step = -1; step <= 1; step++) {
        int h = (first & 0x7FFF) + step;
        if (h < 0 || h > 0x7BFF) continue;
        uint16_t half = (uint16_t)(h | (first & 0x8000));
        float value = fit_half_value(half, unit), err = fit_error(x, w, n, value, r);
        if (err < least) {
            least = err;
            best = half;
            *d = value;
        }
    }
    return best;
}

void fit_levels(uint8_t *q, const float *x, int n, float off, float d, int lo, int hi) {
    v4f inv = all(fit_inverse(d)), voff = all(off), vlo = all((float)lo), vhi = all((float)hi);
    for (int i = 0; i < n; i += 4) {
        v4f t = nearest((AT(x, i) + voff) * inv, vlo, vhi) - vlo;
        for (int k = 0; k < 4; k++) q[i + k] = (uint8_t)t[k];
    }
}

void fit_nearest(uint8_t *q, const float *x, int n, float d, const fit_range *r) {
    if (r->odd) {
        fit_levels(q, x, n, -d, 2 * d, (r->lo - 1) / 2, (r->hi - 1) / 2);
        return;
    }
    if (!r->table) {
        fit_levels(q, x, n, 0, d, r->lo, r->hi);
        return;
    }
    float inv = fit_inverse(d);
    for (int i = 0; i < n; i++) q[i] = (uint8_t)nearest_of(r, x[i] * inv);
}

/* Moments of the levels nearest to (x + off) * inv, where z = x + base is fitted: l = Σ w q, l2 = Σ w q²,
 * zl = Σ w z q. */
typedef struct moments {
    float l, l2, zl;
} moments;

static moments level_moments(const float *x, const float *w, int n, float off, float inv, float base,
                             int top) {
    v4f l = all(0), l2 = all(0), zl = all(0), voff = all(off), vinv = all(inv), vbase = all(base);
    for (int i = 0; i < n; i += 4) {
        v4f q = nearest((AT(x, i) + voff) * vinv, all(0), all((float)top)), wq = AT(w, i) * q;
        l += wq;
        l2 += wq * q;
        zl += wq * (AT(x, i) + vbase);
    }
    return (moments){total(l), total(l2), total(zl)};
}

void fit_affine(const float *x, const float *w, int n, int top, bool positive, float *scale, float *off) {
    float lo = x[0], hi = x[0], sw = 0, sz = 0, szz = 0;
    for (int i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (positive && lo > 0) lo = 0;
    float base = -lo; /* z = x - lo lies in 0..hi - lo: no cancellation however far from zero x is */
    *scale = 0;
    *off = base;
    float inv_range = fit_inverse(hi - lo);
    if (inv_range == 0) return;
    for (int i = 0; i < n; i++) {
        float z = x[i] + base;
        sw += w[i];
        sz += w[i] * z;
        szz += w[i] * z * z;
    }
    if (!(sw > 0)) sw = 1;
    float least = szz, inv, try_off;
    enum { ENDS = 4, SQUARE = ENDS * ENDS, TRIES = SQUARE + 3 };
    static const float cut[ENDS] = {-0.35f, -0.05f, 0.25f, 0.55f}, more[3][2] = {{0, 0}, {0, -1}, {-1, 0}};
    for (int t = 0; t < TRIES + 4; t++) {
        if (t < TRIES) { /* the extremes fall a part of a step inside the outer levels, or beyond them */
            float below = t < SQUARE ? cut[t / ENDS] : more[t - SQUARE][0];
            float above = t < SQUARE ? cut[t % ENDS] : more[t - SQUARE][1];
            inv = ((float)top + below + above) * inv_range;
            try_off = base - below / inv;
        } else {
            inv = fit_inverse(*scale);
            try_off = *off;
        }
        moments m = level_moments(x, w, n, try_off, inv, base, top);
        float det = sw * m.l2 - m.l * m.l, s, c = 0; /* z ≈ s q + c */
        if (det > 1e-6f * sw * m.l2) {
            s = (sw * m.zl - sz * m.l) / det;
            c = (sz * m.l2 - m.l * m.zl) / det;
            if (positive && base - c < 0) {
                c = base;
                s = (m.zl - c * m.l) / m.l2;
            }
        } else { /* one level alone */
            s = m.l2 > 0 ? m.zl / m.l2 : 0;
        }
        if (!(s > 0)) continue;
        float err = szz - 2 * s * m.zl - 2 * c * sz + s * s * m.l2 + 2 * s * c * m.l + c * c * sw;
        if (err < least) {
            least = err;
            *scale = s;
            *off = base - c;
        } else if (t >= TRIES) {
            break;
        }
    }
}

float fit_affine_error(const float *x, const float *w, int n, float scale, float off, int top, float *shift) {
    v4f err = all(0), se = all(0), sw = all(0);
    v4f vd = all(scale), inv = all(fit_inverse(scale)), voff = all(off);
    for (int i = 0; i < n; i += 4) {
        v4f z = AT(x, i) + voff, e = z - vd * nearest(z * inv, all(0), all((float)top)), we = AT(w, i) * e;
        err += we * e;
        se += we;
        sw += AT(w, i);
    }
    float weight = total(sw);
    *shift = weight > 0 ? -total(se) / weight : 0;
    return total(err);
}

void fit_affine_halves(const float *x, const float *w, int n, int top, float unit, uint16_t *d, uint16_t *m,
                       uint8_t *q) {
    float scale, off, shift;
    fit_affine(x, w, n, top, false, &scale, &off);
    uint16_t h = fit_half(scale, unit);
    float least = INFINITY, best_off = 0, best_scale = 0;
    if (scale == 0) { /* all alike: the scale carries what the minimum, a half, cannot */
        *m = fit_half(-off, unit);
        *d = fit_half((-off - fit_half_value(*m, unit)) / (float)top, unit);
        memset(q, top, (size_t)n);
        return;
    }
    for (int step = -1; step <= 1; step++) { /* the minimum makes up for what rounding does to the scale */
        if ((int)h + step < 0 || h + step > 0x7BFF) continue;
        float try_scale = fit_half_value((uint16_t)(h + step), unit), try_off = off;
        for (int round = 0; round < 3; round++) {
            uint16_t hm = fit_half(-try_off, unit);
            try_off = -fit_half_value(hm, unit);
            float err = fit_affine_error(x, w, n, try_scale, try_off, top, &shift);
            if (err < least) {
                least = err;
                *d = (uint16_t)(h + step);
                *m = hm;
                best_off = try_off;
                best_scale = try_scale;
            }
            try_off += shift;
        }
    }
    fit_levels(q, x, n, best_off, best_scale, 0, top);
}
