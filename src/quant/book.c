/* book.c: the best scales and entries of a super-block under a codebook. */
#include "quant/book.h"

#include "quant/fit.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 2, GROUPS_MAX = 4 /* of 1024 entries, or more of fewer */ };

/* What a fit works on. */
typedef struct fitting {
    const book *g;
    const float *x, *w;
    book_scales sc;
} fitting;

/* One way to store a super-block. */
typedef struct choice {
    float err, d;
    float a, b;  /* the error as a function of another d: -2 a d + b d² */
    book_block out;
} choice;

void book_open(book *g, const void *entries, int n, int dim) {
    const unsigned char *p = entries;
    bool seen[256] = {false};
    g->n = n;
    g->dim = dim;
    g->n_magnitudes = 0;
    for (int e = 0; e < n; e++) {
        for (int j = 0; j < dim; j++) {
            int v = p[e * dim + j];
            seen[v] = true;
            g->level[j * n + e] = (float)v;
            g->square[j * n + e] = (float)(v * v);
        }
    }
    for (int v = 0; v < 256 && g->n_magnitudes < 8; v++) {
        if (seen[v]) g->magnitude[g->n_magnitudes++] = (float)v;
    }
}

/* The weight of eight whose sign it costs least to turn round, under scale s. */
static int cheapest_turn(const fitting *k, const float *x, const float *w, float s) {
    const float *m = k->g->magnitude;
    float least = INFINITY, lowest = s * m[0];
    int at = 0;
    for (int j = 0; j < 8; j++) {
        float v = fabsf(x[j]), near = (v - lowest) * (v - lowest);
        for (int l = 1; l < k->g->n_magnitudes; l++) {
            float r = v - s * m[l];
            near = r * r < near ? r * r : near;
        }
        float cost = w[j] * ((v + lowest) * (v + lowest) - near);
        if (cost < least) {
            least = cost;
            at = j;
        }
    }
    return at;
}

/* wx = w |x| of eight weights, negative where the stored sign is against the weight's; returns the signs. */
static uint8_t take_signs(const fitting *k, const float *x, const float *w, float s, float wx[8]) {
    unsigned signs = 0;
    for (int j = 0; j < 8; j++) {
        wx[j] = w[j] * fabsf(x[j]);
        signs |= (unsigned)(x[j] < 0) << j;
    }
    if (k->sc.f->even && __builtin_parity(signs)) {
        int j = cheapest_turn(k, x, w, s);
        signs ^= 1u << j;
        wx[j] = -wx[j];
    }
    return (uint8_t)signs;
}

/* What is known of a sub-block's groups for one choice of signs. */
typedef struct sums {
    _Alignas(64) float a2[GROUPS_MAX * BOOK_ENTRIES_MAX], b[GROUPS_MAX * BOOK_ENTRIES_MAX]; /* [group, entry] */
    uint8_t signs[4];
} sums;

static void take_sums(const fitting *k, int sub, float s, sums *m) {
    const int size = k->sc.f->per_scale, dim = k->g->dim, n = k->g->n;
    float wx[8];
    for (int i = 0; i < size; i += 8) {
        const float *x = k->x + sub * size + i, *w = k->w + sub * size + i;
        m->signs[i / 8] = take_signs(k, x, w, s, wx);
        for (int j = 0; j < 8; j += dim) {
            int group = (i + j) / dim;
            book_moments(k->g, wx + j, w + j, m->a2 + group * n, m->b + group * n);
        }
    }
}

/* The errors under n scales, a multiple of BOOK_TRIALS; without the constant part. */
static void try_scales(const fitting *k, const sums *m, const float *s, int n, float *err) {
    float least[BOOK_TRIALS];
    for (int t = 0; t < n; t += BOOK_TRIALS) {
        for (int u = 0; u < BOOK_TRIALS; u++) err[t + u] = 0;
        for (int group = 0; group < k->sc.f->per_scale / k->g->dim; group++) {
            book_least(m->a2 + group * k->g->n, m->b + group * k->g->n, k->g->n, s + t, least);
            for (int u = 0; u < BOOK_TRIALS; u++) err[t + u] += s[t + u] * least[u];
        }
    }
}

static void try_coarsely(fitting *k, sums *m) {
    float s[BOOK_COARSE];
    book_centres(&k->sc, k->x, k->w);
    for (int sub = 0; sub < k->sc.n_subs; sub++) {
        if (k->sc.centre[sub] <= 0) continue;
        for (int t = 0; t < BOOK_COARSE; t++) s[t] = k->sc.centre[sub] * book_step(t);
        take_sums(k, sub, k->sc.centre[sub], m);
        try_scales(k, m, s, BOOK_COARSE, k->sc.err[sub]);
    }
}

/* The entries of a sub-block under scale n of c->d. */
static void take_entries(const fitting *k, const sums *m, int sub, int n, choice *c) {
    const int size = k->sc.f->per_scale, groups = size / k->g->dim, entries = k->g->n;
    float by = book_factor(k->sc.f, n);
    c->out.scale[sub] = (uint8_t)n;
    memcpy(c->out.signs + sub * size / 8, m->signs, (size_t)size / 8);
    for (int g = 0; g < groups; g++) {
        const float *a2 = m->a2 + g * entries, *b = m->b + g * entries;
        int e = book_best(a2, b, entries, c->d * by);
        c->out.index[sub * groups + g] = (uint16_t)e;
        c->a += 0.5f * by * a2[e];
        c->b += by * by * b[e];
    }
}

/* The best nibbles and entries for one d. */
static void fill(const fitting *k, float d, sums *m, choice *c) {
    c->d = d;
    c->a = c->b = 0;
    for (int sub = 0; sub < k->sc.n_subs; sub++) {
        int n = 0;
        if (k->sc.centre[sub] > 0) n = book_nearest(k->sc.f, d, k->sc.ideal[sub]);
        take_sums(k, sub, d * book_factor(k->sc.f, n), m);
        if (k->sc.centre[sub] > 0) {
            float s[BOOK_TRIALS], err[BOOK_TRIALS];
            int first = MIN(MAX(n - 1, 0), k->sc.f->top + 1 - BOOK_TRIALS), take = 0;
            for (int t = 0; t < BOOK_TRIALS; t++) s[t] = d * book_factor(k->sc.f, first + t);
            try_scales(k, m, s, BOOK_TRIALS, err);
            for (int t = 1; t < BOOK_TRIALS; t++) take = err[t] < err[take] ? t : take;
            n = first + take;
        }
        take_entries(k, m, sub, n, c);
    }
    c->err = d * (d * c->b - 2 * c->a);
}

void book_fit(const book *g, const book_format *f, const float *x, const float *w, float unit, book_block *out) {
    fitting k = {.g = g, .x = x, .w = w, .sc = {.f = f, .n_subs = QUANT_K / f->per_scale}};
    choice best = {.err = INFINITY}, c;
    sums m;
    try_coarsely(&k, &m);
    float d = book_choose_d(&k.sc);
    memset(out, 0, sizeof *out);
    if (!(d > 0)) { /* zeros: the least there is, with even signs */
        return;
    }
    for (int round = 0; round < ROUNDS; round++) {
        uint16_t h = fit_half_cover(d, unit);
        if (h == best.out.d) break;
        c.out.d = h;
        fill(&k, fit_half_value(h, unit), &m, &c);
        if (!(c.err < best.err)) break;
        best = c;
        d = c.b > 0 ? c.a / c.b : 0;
        if (!(d > 0)) break;
    }
    *out = best.out;
}
