/* iq1.c: IQ1_S and IQ1_M: groups of eight weights are one of 2048 vectors of trits, moved by an eighth up or
 * down: y = scale (trit ± 1/8). */
#include "quant/book.h"
#include "quant/fit.h"

#include <math.h>
#include <string.h>

static void group(float *y, uint64_t grid, float delta, float scale) {
    for (int j = 0; j < 8; j++) y[j] = scale * ((float)(int8_t)(grid >> 8 * j & 255) + delta);
}

/* Per 32 weights: four indices, their top three bits in a word of qh with a 3-bit scale and the shift. */
static void decode_iq1_s(float *y, const void *x, size_t n) {
    const iq1_s_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int s = 0; s < 8; s++) {
            int h = b->qh[s];
            float scale = d * (float)(2 * (h >> 12 & 7) + 1), delta = h & 0x8000 ? -0.125f : 0.125f;
            for (int l = 0; l < 4; l++, y += 8) {
                group(y, quant_iq1_grid[b->qs[4 * s + l] | (h >> 3 * l & 7) << 8], delta, scale);
            }
        }
    }
}

/* Per 8 weights: an index, its top three bits and the shift in a nibble of qh; per 16 a 3-bit scale. The four
 * words of scales hold four scales each in their low 12 bits and a nibble of d at the top. */
static void decode_iq1_m(float *y, const void *x, size_t n) {
    const iq1_m_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        uint16_t sc[4];
        memcpy(sc, b->scales, 8);
        unsigned half = sc[0] >> 12 | (sc[1] >> 12) << 4 | (sc[2] >> 12) << 8 | (unsigned)(sc[3] >> 12) << 12;
        float d = quant_half_value((uint16_t)half);
        for (int l = 0; l < 32; l++, y += 8) {
            int h = b->qh[l / 2] >> l % 2 * 4, nibble = sc[l / 8] >> l % 8 / 2 * 3 & 7;
            float scale = d * (float)(2 * nibble + 1), delta = h & 8 ? -0.125f : 0.125f;
            group(y, quant_iq1_grid[b->qs[l] | (h & 7) << 8], delta, scale);
        }
    }
}

/* ---- encoding ----
 * Of eight trits 31 % of all combinations are in the codebook. So the nearest trits are made first; where they are not in it,
 * those weights whose second choice costs least take it, in all combinations of six, and the cheapest that is in it wins. Whatever cannot
 * be better than what there is already (another shift, another scale) is left as soon as that is known. */
enum { CODES = 6561 /* 3^8 */, TURNED = 6, IQ1_ROUNDS = 2 };
#define DELTA 0.125f

/* Where each combination of trits (the first in the lowest place, as 0, 1, 2) is in the codebook, plus 1; 0: nowhere. */
static void open_places(uint16_t places[CODES]) {
    memset(places, 0, CODES * sizeof *places);
    for (int e = 0; e < 2048; e++) {
        int code = 0;
        for (int j = 7; j >= 0; j--) code = 3 * code + (int8_t)(quant_iq1_grid[e] >> 8 * j & 255) + 1;
        places[code] = (uint16_t)(e + 1);
    }
}

/* What stands for eight weights under one scale and shift. */
typedef struct eight {
    int index;
    float err; /* Σ w (x - y)² */
} eight;

static float level_of(int index, int j, float shift) { return (float)(int8_t)(quant_iq1_grid[index] >> 8 * j & 255) + shift; }

/* No cheap turn leads into the codebook: all of it is looked through. */
static void search_all(const float *x, const float *w, float s, float shift, eight *r) {
    *r = (eight){.err = INFINITY};
    for (int e = 0; e < 2048; e++) {
        float err = 0;
        for (int j = 0; j < 8; j++) {
            float miss = x[j] - s * level_of(e, j, shift);
            err += w[j] * miss * miss;
        }
        if (err < r->err) *r = (eight){e, err};
    }
}

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t v8i __attribute__((vector_size(32), aligned(4), may_alias));

/* The place (the lowest three bits) of the least key, which is no longer one afterwards. */
static int cheapest(uint32_t key[8]) {
    uint32_t least = key[0];
    for (int j = 1; j < 8; j++) least = MIN(least, key[j]);
    key[least & 7] = UINT32_MAX;
    return (int)(least & 7);
}

/* The best of those that err less than `limit`; false if there are none. */
static bool fit_eight(const uint16_t places[CODES], const float *x, const float *w, float s, float shift, float limit, eight *r) {
    static const v8i power = {1, 3, 9, 27, 81, 243, 729, 2187};
    const v8f z = *(const v8f *)x * (1 / s) - shift;
    const v8i up = z > 0.5f, down = z < -0.5f, right = z >= 0; /* -1 where it is so */
    const v8i first = down - up, second = ~(up | down) & (~right - right);
    const v8f e = z - __builtin_convertvector(first, v8f), f = z - __builtin_convertvector(second, v8f);
    const v8f miss = *(const v8f *)w * e * e, turned = *(const v8f *)w * (f * f - e * e);
    const v8i codes = (first + 1) * power, steps = (second - first) * power;
    const float base = ((miss[0] + miss[1]) + (miss[2] + miss[3])) + ((miss[4] + miss[5]) + (miss[6] + miss[7]));
    const int all = ((codes[0] + codes[1]) + (codes[2] + codes[3])) + ((codes[4] + codes[5]) + (codes[6] + codes[7]));
    limit /= s * s;
    if (!(base < limit)) return false;
    if (places[all]) {
        *r = (eight){places[all] - 1, s * s * base};
        return true;
    }
    _Alignas(32) float cost[8];
    _Alignas(32) int32_t step[8];
    uint32_t key[8];
    float sum[1 << TURNED];
    int code[1 << TURNED], best = -1;
    memcpy(cost, &turned, sizeof cost);
    memcpy(step, &steps, sizeof step);
    for (int j = 0; j < 8; j++) {
        cost[j] = MAX(cost[j], 0);
        const quant_bits bits = {.f = cost[j]}; /* in the order of the numbers, which are not negative */
        key[j] = (bits.u & ~7u) | (uint32_t)j;
    }
    sum[0] = base;
    code[0] = all;
    for (int i = 0; i < TURNED; i++) { /* a combination costs at least what its dearest turn does */
        const int j = cheapest(key);
        if (best >= 0 && base + cost[j] >= sum[best]) break;
        if (!(base + cost[j] < limit)) return false;
        for (int k = 0; k < 1 << i; k++) {
            int t = k | 1 << i;
            sum[t] = sum[k] + cost[j];
            code[t] = code[k] + step[j];
            if (places[code[t]] && (best < 0 || sum[t] < sum[best])) best = t;
        }
    }
    if (best >= 0) *r = (eight){places[code[best]] - 1, s * s * sum[best]};
    else search_all(x, w, s, shift, r);
    return r->err < limit * (s * s);
}

/* Both shifts are tried for `run` groups together: in IQ1_S four share one, in IQ1_M each has its own. */
typedef struct iq1_choice {
    float d, err, a, b;
    uint16_t half;
    uint8_t scale[16];
    uint16_t index[32];
    bool minus[32]; /* of each group: its shift */
} iq1_choice;

/* As fit_eight: what `run` groups err, or INFINITY where that is not below `limit`. */
static float fit_run(const uint16_t places[CODES], const float *x, const float *w, int run, float s, float limit, eight *out, bool *minus) {
    float least = INFINITY;
    for (int side = 0; side < 2; side++) {
        eight r[4];
        float err = 0, below = MIN(limit, least);
        int g = 0;
        for (; g < run && fit_eight(places, x + 8 * g, w + 8 * g, s, side ? -DELTA : DELTA, below - err, &r[g]); g++) err += r[g].err;
        if (g < run || !(err < below)) continue;
        least = err;
        memcpy(out, r, (size_t)run * sizeof *out);
        for (g = 0; g < run; g++) minus[g] = side;
    }
    return least;
}

static float fit_sub(const uint16_t places[CODES], const float *x, const float *w, int size, int run, float s, float limit, eight *out,
                     bool *minus) {
    float err = 0;
    for (int g = 0; g < size / 8 && err < limit; g += run) err += fit_run(places, x + 8 * g, w + 8 * g, run, s, limit - err, out + g, minus + g);
    return err;
}

/* The error of a sub-block when every combination of trits could be had: near enough to find scales. */
static float free_error(const float *x, const float *w, int size, int run, float s) {
    typedef float v4f __attribute__((vector_size(16), aligned(4), may_alias));
    typedef int32_t v4i __attribute__((vector_size(16), aligned(4), may_alias));
    float err = 0, inv = 1 / s;
    for (int g = 0; g < size; g += 8 * run) {
        v4f plus = {0}, minus = {0};
        for (int i = g; i < g + 8 * run; i += 4) {
            v4f z = *(const v4f *)(x + i) * inv, wi = *(const v4f *)(w + i), p = z - DELTA, m = z + DELTA;
            p += (v4f)((v4i)(v4f){1, 1, 1, 1} & (p < -0.5f)) - (v4f)((v4i)(v4f){1, 1, 1, 1} & (p > 0.5f));
            m += (v4f)((v4i)(v4f){1, 1, 1, 1} & (m < -0.5f)) - (v4f)((v4i)(v4f){1, 1, 1, 1} & (m > 0.5f));
            plus += wi * p * p;
            minus += wi * m * m;
        }
        float a = (plus[0] + plus[1]) + (plus[2] + plus[3]), b = (minus[0] + minus[1]) + (minus[2] + minus[3]);
        err += MIN(a, b);
    }
    return err * s * s;
}

/* Scales near the ideal ones (reach 1) or those that c has already (reach 0), and what fits best under them. */
static void fill_iq1(const uint16_t places[CODES], const book_scales *k, const float *x, const float *w, int run, int reach, iq1_choice *c) {
    const int size = k->f->per_scale, groups = size / 8;
    c->a = c->b = c->err = 0;
    for (int sub = 0; sub < k->n_subs; sub++) {
        eight best[4] = {{0}}, r[4];
        bool minus[4], best_minus[4] = {false};
        float least = INFINITY;
        int n = reach == 0 ? c->scale[sub] : k->ideal[sub] > 0 ? book_nearest(k->f, c->d, k->ideal[sub]) : 0, take = 0;
        for (int i = 0; i <= 2 * reach; i++) { /* the nearest first: what follows need not be looked at to its end */
            int t = n + (i + 1) / 2 * (i % 2 ? -1 : 1);
            if (t < 0 || t > k->f->top) continue;
            float err = fit_sub(places, x + sub * size, w + sub * size, size, run, c->d * book_factor(k->f, t), least, r, minus);
            if (!(err < least)) continue;
            least = err;
            take = t;
            memcpy(best, r, sizeof best);
            memcpy(best_minus, minus, sizeof minus);
        }
        float by = book_factor(k->f, take);
        c->scale[sub] = (uint8_t)take;
        c->err += least;
        for (int g = 0; g < groups; g++) {
            c->index[sub * groups + g] = (uint16_t)best[g].index;
            c->minus[sub * groups + g] = best_minus[g];
            for (int j = 0; j < 8; j++) {
                float t = by * level_of(best[g].index, j, best_minus[g] ? -DELTA : DELTA);
                const int at = sub * size + 8 * g + j;
                c->a += w[at] * x[at] * t;
                c->b += w[at] * t * t;
            }
        }
    }
}

static void fit_iq1(const uint16_t places[CODES], const book_format *f, const float *x, const float *w, float unit, int run, iq1_choice *best) {
    book_scales k = {.f = f, .n_subs = QUANT_K / f->per_scale};
    iq1_choice c = {0};
    book_centres(&k, x, w);
    for (int sub = 0; sub < k.n_subs; sub++) {
        const int at = sub * f->per_scale;
        for (int t = 0; t < BOOK_COARSE && k.centre[sub] > 0; t++)
            k.err[sub][t] = free_error(x + at, w + at, f->per_scale, run, k.centre[sub] * book_step(t));
    }
    float d = book_choose_d(&k);
    *best = (iq1_choice){.err = INFINITY};
    for (int round = 0; round < IQ1_ROUNDS && d > 0; round++) {
        c.half = fit_half_cover(d, unit);
        if (c.half == best->half) break;
        c.d = fit_half_value(c.half, unit);
        fill_iq1(places, &k, x, w, run, round == 0, &c);
        if (!(c.err < best->err)) break;
        *best = c;
        d = c.b > 0 ? c.a / c.b : 0;
    }
}

static void encode_iq1_s(void *dst, const float *src, size_t n, const float *importance) {
    static const book_format f = {.per_scale = 32, .top = 7, .add = 1, .mul = 2, .typical = 0.82f};
    iq1_s_block *b = dst;
    uint16_t places[CODES];
    open_places(places);
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        _Alignas(64) float x[QUANT_K], w[QUANT_K];
        iq1_choice c;
        float unit = fit_load_row(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        fit_iq1(places, &f, x, w, unit, 4, &c);
        *b = (iq1_s_block){.d = c.half};
        for (int s = 0; s < 8; s++) {
            unsigned h = (unsigned)c.scale[s] << 12 | (c.minus[4 * s] ? 0x8000u : 0);
            for (int l = 0; l < 4; l++) {
                b->qs[4 * s + l] = (uint8_t)c.index[4 * s + l];
                h |= (unsigned)(c.index[4 * s + l] >> 8) << 3 * l;
            }
            b->qh[s] = (uint16_t)h;
        }
    }
}

static void encode_iq1_m(void *dst, const float *src, size_t n, const float *importance) {
    static const book_format f = {.per_scale = 16, .top = 7, .add = 1, .mul = 2, .typical = 0.82f};
    iq1_m_block *b = dst;
    uint16_t places[CODES];
    open_places(places);
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        _Alignas(64) float x[QUANT_K], w[QUANT_K];
        iq1_choice c;
        uint16_t sc[4] = {0};
        float unit = fit_load_row(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        fit_iq1(places, &f, x, w, unit, 1, &c);
        *b = (iq1_m_block){0};
        for (int l = 0; l < 32; l++) {
            b->qs[l] = (uint8_t)c.index[l];
            b->qh[l / 2] |= (uint8_t)((c.index[l] >> 8 | (c.minus[l] ? 8 : 0)) << l % 2 * 4);
        }
        for (int s = 0; s < 16; s++) sc[s / 4] |= (uint16_t)(c.scale[s] << s % 4 * 3);
        for (int k = 0; k < 4; k++) sc[k] |= (uint16_t)((c.half >> 4 * k & 15) << 12);
        memcpy(b->scales, sc, 8);
    }
}

QUANT_FORMAT(IQ1_S, "iq1_s", decode_iq1_s, encode_iq1_s);
QUANT_FORMAT(IQ1_M, "iq1_m", decode_iq1_m, encode_iq1_m);
