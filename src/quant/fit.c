/* fit.c: least squares for groups of one scale, or of one scale and one minimum. */
#include "quant/fit.h"

#include "quant/lanes.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- loading ---- */

/* x and w without what is no number, and their largest magnitudes. */
static void make_harmless(float *x, float *w, const float *src, const float *importance, int n, float *amax, float *wmax) {
    vec xm = all(0), wm = all(0), one = all(1), top = all(FLT_MAX);
    for (int i = 0; i < n; i += LANES) {
        vec v = take(src + i), u = importance ? take(importance + i) : one;
        v = pick(v == v, v, all(0));
        v = lesser(larger(v, -top), top);
        u = pick((u >= 0) & (u <= top), u, all(0));
        put(x + i, v);
        put(w + i, u);
        xm = larger(xm, magnitude(v));
        wm = larger(wm, u);
    }
    for (int l = 0; l < LANES; l++) { /* which is the largest does not depend on the order */
        *amax = xm[l] > *amax ? xm[l] : *amax;
        *wmax = wm[l] > *wmax ? wm[l] : *wmax;
    }
}

/* The power of two that brings amax to [1, 2). */
static float unit_of(float amax) {
    quant_bits v = {.f = amax};
    int e;
    v.u &= 0x7F800000; /* the exponent, but of the smallest numbers */
    if (v.u) return v.f;
    (void)frexpf(amax, &e);
    return amax > 0 ? ldexpf(1, e - 1) : 1;
}

static void count_in(float *x, float *w, int n, float unit, float wmax, bool importance) {
    bool invertible = unit > 0x1p-126f;
    vec inverse = all(invertible ? 1 / unit : 1), by = all(unit);
    for (int i = 0; i < n; i += LANES) put(x + i, invertible ? take(x + i) * inverse : take(x + i) / by);
    /* No importance at all is no information: all weights count the same. */
    bool none = !(wmax > 1e-30f);
    vec wscale = all(none ? 0 : 1 / wmax), same = all(none ? 1 : 0);
    for (int i = 0; i < n && importance; i += LANES) put(w + i, V(w + i) * wscale + same);
}

float fit_load_row(float *x, float *w, const float *src, const float *importance, int n) {
    float amax = 0, wmax = 0;
    make_harmless(x, w, src, importance, n, &amax, &wmax);
    float unit = unit_of(amax);
    count_in(x, w, n, unit, wmax, importance != NULL);
    return unit;
}

typedef float v4f __attribute__((vector_size(16), may_alias));

/* to[16 i + g] = from[n g + i] for 16 groups, four by four. */
static void turn(float *to, const float *from, int n) {
    for (int g = 0; g < FIT_GROUPS; g += 4) {
        const float *p = from + g * n;
        for (int i = 0; i < n; i += 4) {
            v4f a = *(const v4f *)(p + i), b = *(const v4f *)(p + n + i), c = *(const v4f *)(p + 2 * n + i), d = *(const v4f *)(p + 3 * n + i);
            v4f ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            v4f ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            float *q = to + i * FIT_GROUPS + g;
            *(v4f *)q = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(v4f *)(q + FIT_GROUPS) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(v4f *)(q + 2 * FIT_GROUPS) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
            *(v4f *)(q + 3 * FIT_GROUPS) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
        }
    }
}

void fit_load(fit_stack *k, const float *src, const float *importance, int n, int groups, int share) {
    _Alignas(64) float w[FIT_GROUPS * FIT_GROUP_MAX];
    size_t all_rows = (size_t)FIT_GROUPS * (size_t)n, used = (size_t)groups * (size_t)n;
    k->n = n;
    k->groups = groups;
    k->share = share;
    for (int g = 0; g < groups; g += share) {
        size_t at = (size_t)g * (size_t)n;
        float unit = fit_load_row(k->rows + at, w + at, src + at, importance ? importance + at : NULL, share * n);
        for (int s = 0; s < share; s++) k->unit[g + s] = unit;
    }
    for (int g = groups; g < FIT_GROUPS; g++) k->unit[g] = 1;
    memset(k->rows + used, 0, (all_rows - used) * sizeof(float));
    memset(w + used, 0, (all_rows - used) * sizeof(float));
    turn(k->x, k->rows, n);
    turn(k->w, w, n);
}

uint16_t fit_half_cover(float d, float unit) {
    uint16_t h = fit_half(d, unit);
    bool subnormal = (h & 0x7FFF) < 0x400, less = fabsf(fit_half_value(h, unit)) < fabsf(d);
    return subnormal && less ? (uint16_t)(h + 1) : h;
}

/* ---- levels ---- */

/* The 16 levels of a table, and the sums of neighbours: t belongs to the upper of two where 2 t reaches their sum. */
typedef struct levels {
    _Alignas(64) float value[16], sum[16];
    float lo, hi;
    enum { WHOLE, ODD, TABLE } kind;
} levels;

static levels levels_of(const fit_range *r) {
    levels t = {.lo = (float)r->lo, .hi = (float)r->hi, .kind = r->table ? TABLE : r->odd ? ODD : WHOLE};
    for (int i = 0; i < 16 && r->table; i++) {
        t.value[i] = r->table[i];
        t.sum[i] = i < 15 ? (float)(r->table[i] + r->table[i + 1]) : 0;
    }
    return t;
}

#if defined(__AVX512F__)
static inline vec look_up(const float table[16], ivec at) {
    return (vec)_mm512_permutexvar_ps((__m512i)at, (__m512)V(table));
}
#elif defined(__AVX2__)
static inline vec look_up(const float table[16], ivec at) {
    __m256 low = _mm256_permutevar8x32_ps((__m256)V(table), (__m256i)at);
    __m256 high = _mm256_permutevar8x32_ps((__m256)V(table + 8), (__m256i)at);
    return (vec)_mm256_blendv_ps(low, high, (__m256)(at << 28));
}
#else
static inline vec look_up(const float table[16], ivec at) {
    vec v;
    for (int i = 0; i < LANES; i++) v[i] = table[at[i]];
    return v;
}
#endif

/* The place in the table of the level nearest to t: by halves. */
static inline ivec place_of(const levels *r, vec t) {
    ivec at = all_int(0);
    t = t + t;
    for (int step = 8; step; step /= 2) {
        ivec next = at + all_int(step);
        at += (t >= look_up(r->sum, next - all_int(1))) & all_int(step);
    }
    return at;
}

/* kind: r's, as a constant of the loop it is in. */
static inline vec level_near(const levels *r, int kind, vec t) {
    if (kind == TABLE) return look_up(r->value, place_of(r, t));
    if (kind == ODD) return nearest((t - 1.0f) * 0.5f, (r->lo - 1) * 0.5f, (r->hi - 1) * 0.5f) * 2.0f + 1.0f;
    return nearest(t, r->lo, r->hi);
}

static inline vec inverse_of(vec d) {
    return pick((d > 1e-30f) | (d < -1e-30f), all(1) / d, all(0));
}

/* a = Σ w x q and b = Σ w q² of the levels nearest to x * inv, of the groups from g on. */
static inline __attribute__((always_inline)) void sums_of(const fit_stack *k, int g, const levels *r, int kind, vec inv, vec *a, vec *b) {
    vec va = all(0), vb = all(0);
    const float *x = k->x + g, *w = k->w + g;
    for (int i = 0; i < k->n; i++, x += FIT_GROUPS, w += FIT_GROUPS) {
        vec q = level_near(r, kind, V(x) * inv), wq = V(w) * q;
        va += wq * V(x);
        vb += wq * q;
    }
    *a = va;
    *b = vb;
}

static void sums(const fit_stack *k, int g, const levels *r, vec inv, vec *a, vec *b) {
    if (r->kind == WHOLE) sums_of(k, g, r, WHOLE, inv, a, b);
    else if (r->kind == ODD) sums_of(k, g, r, ODD, inv, a, b);
    else sums_of(k, g, r, TABLE, inv, a, b);
}

static inline __attribute__((always_inline)) vec errors_of(const fit_stack *k, int g, const levels *r, int kind, vec d) {
    vec err = all(0), inv = inverse_of(d);
    const float *x = k->x + g, *w = k->w + g;
    for (int i = 0; i < k->n; i++, x += FIT_GROUPS, w += FIT_GROUPS) {
        vec e = V(x) - d * level_near(r, kind, V(x) * inv);
        err += V(w) * e * e;
    }
    return err;
}

static vec errors(const fit_stack *k, int g, const levels *r, vec d) {
    if (r->kind == WHOLE) return errors_of(k, g, r, WHOLE, d);
    return r->kind == ODD ? errors_of(k, g, r, ODD, d) : errors_of(k, g, r, TABLE, d);
}

static vec largest(const fit_stack *k, int g) {
    vec m = all(0);
    for (int i = 0; i < k->n; i++) m = larger(m, magnitude(V(k->x + FIT_GROUPS * i + g)));
    return m;
}

/* The best scale so far and its gain, a² / b: what it takes off the error. */
typedef struct leader {
    vec d, gain;
} leader;

static inline ivec challenge(leader *l, vec a, vec b, float margin) {
    ivec better = (b > 0) & (a * a > margin * l->gain * b);
    vec d = a / b;
    l->gain = pick(better, a * d, l->gain);
    l->d = pick(better, d, l->d);
    return better;
}

/* The trial scales of a range whose levels are not the same on both sides of zero, and their negatives: rounding is the same for both. */
static void try_both(const fit_stack *k, int g, const levels *r, vec inv, leader *plus, leader *minus) {
    vec a = all(0), b = all(0), c = all(0), d = all(0), lo = all(r->lo), hi = all(r->hi), far = all(0x1.8p23f);
    const float *x = k->x + g, *w = k->w + g;
    for (int i = 0; i < k->n; i++, x += FIT_GROUPS, w += FIT_GROUPS) {
        vec t = (V(x) * inv + far) - far, p = lesser(larger(t, lo), hi), m = lesser(larger(t, -hi), -lo);
        vec wp = V(w) * p, wm = V(w) * m;
        a += wp * V(x);
        b += wp * p;
        c += wm * V(x);
        d += wm * m;
    }
    challenge(plus, a, b, 1.000001f);
    challenge(minus, -c, d, 1.000001f);
}

static float trial_of(const fit_range *r, int t) {
    return (r->least + (r->most - r->least) * ((float)t / (float)MAX(r->tries - 1, 1))) * (float)MAX(-r->lo, r->hi);
}

static vec scales(const fit_stack *k, int g, const fit_range *r, const levels *t) {
    leader best = {all(0), all(0)}, minus = best;
    vec far = inverse_of(largest(k, g)), a, b;
    bool sides = -r->lo != r->hi;
    for (int u = 0; u < r->tries; u++) {
        vec inv = trial_of(r, u) * far;
        if (sides && t->kind == WHOLE) {
            try_both(k, g, t, inv, &best, &minus);
            continue;
        }
        sums(k, g, t, inv, &a, &b);
        challenge(&best, a, b, 1.000001f);
        if (!sides) continue;
        sums(k, g, t, -inv, &a, &b);
        challenge(&minus, a, b, 1.000001f);
    }
    ivec other = minus.gain > 1.000001f * best.gain; /* of equals the positive one */
    best.gain = pick(other, minus.gain, best.gain);
    best.d = pick(other, minus.d, best.d);
    for (int round = 0; round < 2; round++) {
        sums(k, g, t, inverse_of(best.d), &a, &b);
        if (!any_of(challenge(&best, a, b, 1))) break;
    }
    return best.d;
}

void fit_scales(const fit_stack *k, const fit_range *r, float d[FIT_GROUPS]) {
    const levels t = levels_of(r);
    for (int g = 0; g < FIT_GROUPS; g += LANES) put(d + g, g < k->groups ? scales(k, g, r, &t) : all(0));
}

void fit_errors(const fit_stack *k, const fit_range *r, const float d[FIT_GROUPS], float err[FIT_GROUPS]) {
    const levels t = levels_of(r);
    for (int g = 0; g < k->groups; g += LANES) put(err + g, errors(k, g, &t, take(d + g)));
}

void fit_sums(const fit_stack *k, const fit_range *r, const float d[FIT_GROUPS], float a[FIT_GROUPS], float b[FIT_GROUPS]) {
    const levels t = levels_of(r);
    for (int g = 0; g < k->groups; g += LANES) {
        vec va, vb;
        sums(k, g, &t, inverse_of(take(d + g)), &va, &vb);
        put(a + g, va);
        put(b + g, vb);
    }
}

/* The half `step` above h in magnitude, or the last there is. */
static inline uint16_t half_beside(uint16_t h, int step) {
    int m = (h & 0x7FFF) + step;
    m = m < 0 ? 0 : m > 0x7BFF ? 0x7BFF : m;
    return (uint16_t)(m | (h & 0x8000));
}

/* Whether rounding a scale to a half moves its outermost level by so much of a step that a neighbour may suit better. */
static inline bool is_coarse(float rounded, float scale, int outermost) {
    return 64 * (float)outermost * fabsf(rounded - scale) > fabsf(scale);
}

void fit_half_scales(const fit_stack *k, const fit_range *r, float d[FIT_GROUPS], uint16_t half[FIT_GROUPS]) {
    float value[FIT_GROUPS] = {0}, err[FIT_GROUPS] = {0}, least[FIT_GROUPS];
    uint16_t first[FIT_GROUPS];
    bool coarse = false;
    fit_scales(k, r, d);
    for (int g = 0; g < FIT_GROUPS; g++) {
        float ideal = d[g];
        half[g] = first[g] = fit_half(ideal, k->unit[g]);
        d[g] = fit_half_value(half[g], k->unit[g]);
        coarse |= is_coarse(d[g], ideal, MAX(-r->lo, r->hi));
        least[g] = INFINITY;
    }
    for (int step = -1; step <= 1 && coarse; step++) {
        for (int g = 0; g < FIT_GROUPS; g++) value[g] = fit_half_value(half_beside(first[g], step), k->unit[g]);
        fit_errors(k, r, value, err);
        for (int g = 0; g < FIT_GROUPS; g++) {
            bool better = err[g] < least[g];
            least[g] = better ? err[g] : least[g];
            half[g] = better ? half_beside(first[g], step) : half[g];
            d[g] = better ? value[g] : d[g];
        }
    }
}

static void put_bytes(uint8_t *q, ivec v) {
    bvec b = __builtin_convertvector(v, bvec);
    memcpy(q, &b, sizeof b);
}

void fit_nearest(const fit_stack *k, int g, float d, const fit_range *r, uint8_t *q) {
    const levels t = levels_of(r);
    const float *x = k->rows + (size_t)g * (size_t)k->n;
    vec inv = all(fit_inverse(d));
    if (r->table) {
        for (int i = 0; i < k->n; i += LANES) put_bytes(q + i, place_of(&t, V(x + i) * inv));
    } else if (r->odd) {
        for (int i = 0; i < k->n; i += LANES)
            put_bytes(q + i, __builtin_convertvector((level_near(&t, ODD, V(x + i) * inv) - t.lo) * 0.5f, ivec));
    } else {
        for (int i = 0; i < k->n; i += LANES)
            put_bytes(q + i, __builtin_convertvector(nearest(V(x + i) * inv, t.lo, t.hi) - t.lo, ivec));
    }
}

void fit_one_scale(fit_blocks *t, const float *src, size_t n, const float *importance, int size, const fit_range *r) {
    fit_stack k;
    float d[FIT_GROUPS];
    t->groups = (int)MIN(n / (size_t)size, (size_t)FIT_GROUPS);
    fit_load(&k, src, importance, size, t->groups, 1);
    fit_half_scales(&k, r, d, t->d);
    for (int g = 0; g < t->groups; g++) fit_nearest(&k, g, d[g], r, t->q + g * size);
}

void fit_levels(const fit_stack *k, int g, float off, float d, int top, uint8_t *q) {
    const float *x = k->rows + (size_t)g * (size_t)k->n;
    vec inv = all(fit_inverse(d)), more = all(off);
    for (int i = 0; i < k->n; i += LANES)
        put_bytes(q + i, __builtin_convertvector(nearest((V(x + i) + more) * inv, 0, (float)top), ivec));
}

/* ---- a scale and a minimum ---- */

/* Moments of the levels nearest to z inv + shift, of z[16 i] and w[16 i]: l = Σ w q, l2 = Σ w q², zl = Σ w z q. */
typedef struct moments {
    vec l, l2, zl;
} moments;

static moments level_moments(const float *z, int stride, const float *w, int n, vec inv, vec shift, int top) {
    moments m = {all(0), all(0), all(0)};
    for (int i = 0; i < n; i++, z += stride, w += FIT_GROUPS) {
        vec q = nearest(V(z) * inv + shift, 0, (float)top), wq = V(w) * q;
        m.l += wq;
        m.l2 += wq * q;
        m.zl += wq * V(z);
    }
    return m;
}

void fit_level_moments(const fit_stack *k, int top, const float scale[FIT_GROUPS], const float off[FIT_GROUPS], fit_moments *m) {
    for (int g = 0; g < k->groups; g += LANES) {
        vec inv = inverse_of(take(scale + g));
        moments v = level_moments(k->x + g, FIT_GROUPS, k->w + g, k->n, inv, take(off + g) * inv, top);
        put(m->l + g, v.l);
        put(m->l2 + g, v.l2);
        put(m->xl + g, v.zl);
    }
}

enum { ENDS = 3, SQUARE = ENDS * ENDS, TRIES = SQUARE + 3 };

/* LANES groups from g on. */
static void affine(const fit_stack *k, int g, int top, bool positive, vec *scale, vec *off) {
    static const float cut[ENDS] = {-0.35f, 0.1f, 0.55f}, more[3][2] = {{0, 0}, {0, -1}, {-1, 0}};
    _Alignas(64) float moved[LANES * FIT_GROUP_MAX];
    vec lo = V(k->x + g), hi = lo, sw = all(0), sz = all(0), szz = all(0);
    for (int i = 1; i < k->n; i++) {
        lo = lesser(lo, V(k->x + FIT_GROUPS * i + g));
        hi = larger(hi, V(k->x + FIT_GROUPS * i + g));
    }
    if (positive) lo = lesser(lo, all(0));
    vec base = -lo; /* z = x - lo lies in 0..hi - lo: no cancellation however far from zero x is */
    vec inv_range = inverse_of(hi - lo);
    *scale = all(0);
    *off = base;
    for (int i = 0; i < k->n; i++) {
        vec z = V(k->x + FIT_GROUPS * i + g) + base, w = V(k->w + FIT_GROUPS * i + g);
        put(moved + LANES * i, z);
        sw += w;
        sz += w * z;
        szz += w * z * z;
    }
    sw = pick(sw > 0, sw, all(1));
    vec least = szz;
    for (int t = 0; t < TRIES + 2; t++) {
        vec inv = inverse_of(*scale), try_off = *off;
        if (t < TRIES) { /* the extremes fall a part of a step inside the outer levels, or beyond them */
            float below = t < SQUARE ? cut[t / ENDS] : more[t - SQUARE][0], above = t < SQUARE ? cut[t % ENDS] : more[t - SQUARE][1];
            inv = ((float)top + below + above) * inv_range;
            try_off = base - below / ((float)top + below + above) * (hi - lo);
        }
        moments m = level_moments(moved, LANES, k->w + g, k->n, inv, (try_off - base) * inv, top);
        vec det = sw * m.l2 - m.l * m.l;
        ivec several = det > 1e-6f * sw * m.l2; /* or one level alone */
        vec s = pick(several, (sw * m.zl - sz * m.l) / det, m.zl / m.l2);
        vec c = pick(several, (sz * m.l2 - m.l * m.zl) / det, all(0)); /* z ≈ s q + c */
        if (positive) {
            ivec beyond = several & (base - c < 0);
            c = pick(beyond, base, c);
            s = pick(beyond, (m.zl - c * m.l) / m.l2, s);
        }
        vec err = szz - 2 * s * m.zl - 2 * c * sz + s * s * m.l2 + 2 * s * c * m.l + c * c * sw;
        ivec better = (s > 0) & (err < least) & (m.l2 > 0);
        if (t >= TRIES && !any_of(better)) break;
        least = pick(better, err, least);
        *scale = pick(better, s, *scale);
        *off = pick(better, base - c, *off);
    }
}

void fit_affine(const fit_stack *k, int top, bool positive, float scale[FIT_GROUPS], float off[FIT_GROUPS]) {
    for (int g = 0; g < k->groups; g += LANES) {
        vec s, o;
        affine(k, g, top, positive, &s, &o);
        put(scale + g, s);
        put(off + g, o);
    }
}

void fit_affine_errors(const fit_stack *k, int top, const float scale[FIT_GROUPS], const float off[FIT_GROUPS], float err[FIT_GROUPS],
                       float shift[FIT_GROUPS]) {
    for (int g = 0; g < k->groups; g += LANES) {
        vec sum = all(0), se = all(0), sw = all(0), d = take(scale + g), inv = inverse_of(d), more = take(off + g);
        const float *x = k->x + g, *w = k->w + g;
        for (int i = 0; i < k->n; i++, x += FIT_GROUPS, w += FIT_GROUPS) {
            vec z = V(x) + more, e = z - d * nearest(z * inv, 0, (float)top), we = V(w) * e;
            sum += we * e;
            se += we;
            sw += V(w);
        }
        put(err + g, sum);
        put(shift + g, pick(sw > 0, -se / sw, all(0)));
    }
}

/* What fit_affine_halves gives, for scales whose neighbours are tried too; each minimum makes up for what rounding does to its scale. */
static void affine_beside(const fit_stack *k, int top, const float *first, const float *ideal, uint16_t *d, uint16_t *m, float *scale,
                          float *off) {
    float try_scale[FIT_GROUPS], try_off[FIT_GROUPS], err[FIT_GROUPS] = {0}, shift[FIT_GROUPS] = {0}, least[FIT_GROUPS];
    uint16_t h[FIT_GROUPS], hm[FIT_GROUPS];
    for (int g = 0; g < FIT_GROUPS; g++) least[g] = INFINITY;
    for (int step = -1; step <= 1; step++) {
        for (int g = 0; g < FIT_GROUPS; g++) {
            h[g] = half_beside(fit_half(first[g], k->unit[g]), step);
            try_scale[g] = fit_half_value(h[g], k->unit[g]);
            try_off[g] = ideal[g];
        }
        for (int round = 0; round < 3; round++) {
            for (int g = 0; g < FIT_GROUPS; g++) {
                hm[g] = fit_half(-try_off[g], k->unit[g]);
                try_off[g] = -fit_half_value(hm[g], k->unit[g]);
            }
            fit_affine_errors(k, top, try_scale, try_off, err, shift);
            for (int g = 0; g < FIT_GROUPS; g++) {
                bool better = err[g] < least[g];
                least[g] = better ? err[g] : least[g];
                d[g] = better ? h[g] : d[g];
                m[g] = better ? hm[g] : m[g];
                scale[g] = better ? try_scale[g] : scale[g];
                off[g] = better ? try_off[g] : off[g];
                try_off[g] += shift[g];
            }
        }
    }
}

void fit_affine_halves(const fit_stack *k, int top, uint16_t d[FIT_GROUPS], uint16_t m[FIT_GROUPS], float scale[FIT_GROUPS],
                       float off[FIT_GROUPS]) {
    float first[FIT_GROUPS] = {0}, ideal[FIT_GROUPS] = {0};
    bool coarse = false;
    fit_affine(k, top, false, first, ideal);
    for (int g = 0; g < FIT_GROUPS; g++) {
        d[g] = fit_half(first[g], k->unit[g]);
        m[g] = fit_half(-ideal[g], k->unit[g]);
        scale[g] = fit_half_value(d[g], k->unit[g]);
        off[g] = -fit_half_value(m[g], k->unit[g]);
        coarse |= is_coarse(scale[g], first[g], top) || (first[g] > 0 && 64 * fabsf(off[g] - ideal[g]) > first[g]);
    }
    if (coarse) affine_beside(k, top, first, ideal, d, m, scale, off);
    for (int g = 0; g < k->groups; g++) {
        if (first[g] != 0) continue;
        /* All alike: the scale carries what the minimum, a half, cannot. x + off is far above the top in this scale. */
        m[g] = fit_half(-ideal[g], k->unit[g]);
        d[g] = fit_half((-ideal[g] - fit_half_value(m[g], k->unit[g])) / (float)top, k->unit[g]);
        scale[g] = 1e-20f;
        off[g] = 4;
    }
}
