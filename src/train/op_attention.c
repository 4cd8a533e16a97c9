/* op_attention.c: causal (or full) attention with grouped queries over packed sequences, in tiles.
 *   s_ij = cap(scale q_i · k_j) + alibi (j - i);  p = softmax(s) (with a sink's logit beside them);  y_i = Σ p_ij v_j
 * Going back, the probabilities are made again from the row's log-sum-exp:
 *   dv_j += p_ij dy_i;  dp_ij = dy_i · v_j;  ds_ij = p_ij (dp_ij - dy_i · y_i);  dq_i += scale ds_ij k_j;  dk_j += scale ds_ij q_i
 *
 * All products are kern_gemm's tiles: what is multiplied is packed into panels first. A unit of work is one head of a piece of a
 * sequence; the sums over query heads of a group are made in order afterwards, so that no result depends on who did which unit.
 * Source: Vaswani et al. 2017, §3.2; Dao et al. 2022 (FlashAttention), algorithms 1 and 4. */
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
    PIECE = 512,  /* query rows of a forward unit */
    QUERIES = 96, /* rows of a block going back: whole panels of A on every rung */
    KEYS = 256,   /* and its columns */
};

/* Query rows [from, to) of the sequence [start, end). */
typedef struct piece {
    size_t start, end, from, to;
} piece;

struct attending {
    const struct kern_table *kern;
    const kern_gemm *g;
    var *q, *k, *v, *y;
    ad_attn o;
    const ad_seqs *s;
    float *lse;                     /* [n, n_head] log of the sum of exponentials */
    var *lse_out;                   /* the same as a result, or NULL */
    uint32_t *chosen;               /* [n, n_head_kv, 1 + ATTN_TOP_MAX] how many blocks a query reads of those between, and which; or NULL */
    float *means;                   /* per thread, while blocks are chosen */
    float *gq, *gk, *gv, *gsink;
    float *hk, *hv;                 /* of each query head by itself: [n, n_head · dim_k], [n, n_head · dim_v] */
    bool fresh_q, fresh_k, fresh_v, fresh_sink;
};

/* One visit of all units. */
struct visit {
    const struct attending *a;
    const piece *pieces;
    size_t n_units;
    uint32_t *room; /* per thread */
    size_t room_words;
    atomic_size_t next;
};

static size_t up(size_t n, size_t step) { return (n + step - 1) / step; }
static size_t whole(size_t n, size_t step) { return up(n, step) * step; }

/* Keys that query row i of a sequence sees: [lo, hi). */
static size_t first_seen(const struct attending *a, size_t i, size_t start) {
    return a->o.window && i + 1 - start > a->o.window ? i + 1 - a->o.window : start;
}
static size_t last_seen(const struct attending *a, size_t i, size_t end) { return a->o.causal ? i + 1 : end; }

/* ---- blocks ---- */
/* x[0 … hi - lo), of keys [lo, hi): those of blocks that query i does not read become v. */
static void hide(const struct attending *a, size_t h, size_t i, size_t start, size_t lo, size_t hi, float v, float *x) {
    const ad_attn *o = &a->o;
    if (!a->chosen) return;
    const uint32_t *c = a->chosen + (i * o->n_head_kv + h / (o->n_head / o->n_head_kv)) * (1 + ATTN_TOP_MAX);
    const size_t size = o->blocks->size;
    for (size_t j = lo, end; j < hi; j = end) {
        end = MIN(hi, start + ((j - start) / size + 1) * size);
        for (size_t e = j; !attn_reads(o->blocks, i - start, (j - start) / size, c + 1, c[0]) && e < end; e++) x[e - lo] = v;
    }
}

/* A unit is a key/value head of a sequence: the mean keys of its whole blocks, as the engine makes them, and what every query chooses. */
static void choose_part(void *ctx, size_t from, size_t to, int ith) {
    const struct attending *a = ctx;
    const ad_attn *o = &a->o;
    const size_t size = o->blocks->size, group = o->n_head / o->n_head_kv, dim = o->dim_k;
    float *means = a->means + (size_t)ith * up(a->s->n, size) * dim;
    for (size_t unit = from; unit < to; unit++) {
        const size_t q = unit / o->n_head_kv, g = unit % o->n_head_kv, start = a->s->start[q], len = a->s->start[q + 1] - start;
        for (size_t b = 0; b < len / size; b++) {
            float *mean = means + b * dim;
            memset(mean, 0, dim * sizeof *mean);
            for (size_t j = start + b * size; j < start + (b + 1) * size; j++) a->kern->axpy(mean, a->k->x + j * a->k->cols + g * dim, 1, dim);
            a->kern->scale(mean, mean, 1 / (float)size, dim);
        }
        for (size_t i = 0; i < len; i++) {
            uint32_t *to_c = a->chosen + ((start + i) * o->n_head_kv + g) * (1 + ATTN_TOP_MAX);
            to_c[0] = (uint32_t)attn_choose(a->kern, o->blocks, a->q->x + (start + i) * a->q->cols + g * group * dim, group, dim, means, dim, i, to_c + 1);
        }
    }
}

static bool choose_blocks(tape *t, struct attending *a) {
    if (!a->o.blocks) return true;
    a->chosen = tape_mem(t, a->s->n * a->o.n_head_kv * (1 + ATTN_TOP_MAX) * sizeof *a->chosen);
    const tape_spot spot = tape_mark(t);
    a->means = tape_mem(t, (size_t)tape_threads(t) * up(a->s->n, a->o.blocks->size) * a->o.dim_k * sizeof *a->means);
    if (!a->chosen || !a->means) return false;
    tape_for(t, a->s->n_seq * a->o.n_head_kv, 1, choose_part, a);
    tape_release(t, spot);
    return true;
}

/* c[m, n] (+)= one panel of A times panels of B that are b_next words apart. */
static void multiply(const kern_gemm *g, const uint32_t *pa, size_t m, const uint32_t *pb, size_t b_next, size_t n, size_t words, float *c,
                     size_t ldc, bool add) {
    kern_gemm_tile t = {.a = pa, .ldc = ldc, .m = m, .k = words, .add = add};
    for (size_t j = 0; j < n; j += g->cols, pb += b_next) {
        t.b = pb;
        t.c = c + j;
        t.n = MIN(g->cols, n - j);
        g->tile(&t);
    }
}

/* ---- memory of a thread: operands in panels ---- */
struct room {
    uint32_t *k, *kc, *v, *q, *qc, *dy, *dyc, *part; /* c: across, to be summed over rows */
    float *s, *dp;
};

/* Shares out the memory at p (NULL: only counts); L: the longest sequence. Returns how many words it takes. */
static size_t lay_out(struct room *r, uint32_t *p, const struct attending *a, size_t longest, bool back) {
    const size_t dk = a->o.dim_k, dv = a->o.dim_v, wide = KERN_GEMM_WIDTH, l = whole(longest, wide), rows = back ? QUERIES : KERN_GEMM_WIDTH;
    size_t at = 0;
#define TAKE(n) (p ? p + at : NULL); at += whole(n, 16)
    r->k = TAKE(l * (dk + 1));
    r->v = TAKE(l * whole(dv + 1, wide));
    r->q = TAKE(rows * (dk + 1));
    r->part = TAKE(wide * (MAX(back ? KEYS : l, QUERIES) + 1));
    uint32_t *s = TAKE(back ? QUERIES * KEYS : wide * l);
    r->s = (float *)(void *)s;
    if (!back) return at;
    r->kc = TAKE((l + 1) * whole(dk, wide));
    r->qc = TAKE(QUERIES * whole(dk, wide));
    r->dy = TAKE(QUERIES * (dv + 1));
    r->dyc = TAKE(QUERIES * whole(dv, wide));
    uint32_t *dp = TAKE(QUERIES * KEYS);
    r->dp = (float *)(void *)dp;
#undef TAKE
    return at;
}

/* ---- forward ---- */
/* The cap, and the distance: scores [lo, hi) of query i in place, as they go into the softmax. Rare, so it may take its time. */
static void bend_scores(const ad_attn *o, float *s, size_t h, size_t i, size_t lo, size_t hi) {
    for (size_t j = lo; j < hi; j++) {
        float z = o->scale * s[j - lo];
        if (o->softcap > 0) z = o->softcap * tanhf(z / o->softcap);
        if (o->alibi) z += o->alibi[h] * ((float)j - (float)i);
        s[j - lo] = z;
    }
}

/* s[0 … hi - lo): scores become exponentials; returns 1 / their sum. */
static float soften(const struct attending *a, float *s, size_t h, size_t i, size_t start, size_t lo, size_t hi) {
    const ad_attn *o = &a->o;
    const bool bent = o->softcap > 0 || o->alibi;
    const float sink = o->sinks ? o->sinks->x[h] : -INFINITY, by = bent ? 1 : o->scale;
    if (bent) bend_scores(o, s, h, i, lo, hi);
    hide(a, h, i, start, lo, hi, -INFINITY, s);
    const float top = fmaxf(by * a->kern->max(s, hi - lo), sink);
    const float sum = a->kern->train.exp_scaled(s, by, top, hi - lo) + expf(sink - top);
    a->lse[i * o->n_head + h] = top + logf(sum);
    return 1 / sum;
}

/* A panel of query rows [i, i + m) of head h. */
static void attend_panel(const struct attending *a, const struct room *r, const piece *u, size_t h, size_t i, size_t m) {
    const kern_gemm *g = a->g;
    const ad_attn *o = &a->o;
    const size_t dk = o->dim_k, dv = o->dim_v, len = u->end - u->start, ldy = a->y->cols;
    const size_t lo = (first_seen(a, i, u->start) - u->start) / g->cols * g->cols, hi = last_seen(a, i + m - 1, u->end) - u->start, n = hi - lo;
    const size_t ld = whole(n, KERN_GEMM_WIDTH), k_words = up(dk, g->step), v_next = up(len, g->step) * g->cols;
    float *y = a->y->x + i * ldy + h * dv, inverse[KERN_GEMM_WIDTH];
    g->pack(r->q, g->rows, 0, a->q->x + i * a->q->cols + h * dk, a->q->cols, m, dk);
    multiply(g, r->q, m, r->k + lo / g->cols * k_words * g->cols, k_words * g->cols, n, k_words, r->s, ld, false);
    for (size_t e = 0; e < m; e++) {
        const size_t from = first_seen(a, i + e, u->start), to = last_seen(a, i + e, u->end);
        float *s = r->s + e * ld, *seen = s + (from - u->start - lo), *end = s + (to - u->start - lo);
        inverse[e] = soften(a, seen, h, i + e, u->start, from, to);
        hide(a, h, i + e, u->start, from, to, 0, seen);
        memset(s, 0, (size_t)(seen - s) * sizeof *s);
        memset(end, 0, (size_t)(s + n - end) * sizeof *s);
    }
    g->pack(r->part, g->rows, 0, r->s, ld, m, n);
    multiply(g, r->part, m, r->v + lo / g->step * g->cols, v_next, dv, up(n, g->step), y, ldy, false);
    for (size_t e = 0; e < m; e++) a->kern->scale(y + e * ldy, y + e * ldy, inverse[e], dv);
}

static void attend_unit(const struct visit *v, size_t unit, struct room *r) {
    const struct attending *a = v->a;
    const kern_gemm *g = a->g;
    const ad_attn *o = &a->o;
    const piece *u = &v->pieces[unit / o->n_head];
    const size_t h = unit % o->n_head, kv = h / (o->n_head / o->n_head_kv), seen = last_seen(a, u->to - 1, u->end) - u->start;
    const float *k = a->k->x + u->start * a->k->cols + kv * o->dim_k, *val = a->v->x + u->start * a->v->cols + kv * o->dim_v;
    g->pack(r->k, g->cols, up(o->dim_k, g->step) * g->cols, k, a->k->cols, seen, o->dim_k);
    g->pack_across(r->v, g->cols, up(u->end - u->start, g->step) * g->cols, val, a->v->cols, o->dim_v, seen);
    for (size_t i = u->from; i < u->to; i += g->rows) attend_panel(a, r, u, h, i, MIN(g->rows, u->to - i));
}

/* ---- back ---- */
/* The same with the slope of the cap. */
static void bent_back(const struct attending *a, float *p, float *dp, size_t h, size_t i, size_t lo, size_t hi, float own) {
    const ad_attn *o = &a->o;
    const float lse = a->lse[i * o->n_head + h];
    bend_scores(o, p, h, i, lo, hi);
    for (size_t j = lo; j < hi; j++) {
        const float s = p[j - lo], c = o->softcap > 0 ? (s - (o->alibi ? o->alibi[h] * ((float)j - (float)i) : 0)) / o->softcap : 0;
        p[j - lo] = expf(s - lse);
        dp[j - lo] = p[j - lo] * (dp[j - lo] - own) * o->scale * (1 - c * c);
    }
}

/* A block: query rows [i, i + m) of head h and keys [j, j_end), counted in the sequence; own[m]: dy · y. */
typedef struct tile_block {
    const piece *u;
    size_t h, i, m, j, j_end;
    const float *own;
} tile_block;

/* Scores and their gradients of panel p of the rows, and dq. */
static void back_rows(const struct attending *a, const struct room *r, const tile_block *b, size_t p) {
    const kern_gemm *g = a->g;
    const ad_attn *o = &a->o;
    const piece *u = b->u;
    const size_t r0 = p * g->rows, m = MIN(g->rows, b->m - r0), first = b->i + r0, len = u->end - u->start;
    const size_t n = MIN(b->j_end, last_seen(a, first + m - 1, u->end) - u->start) - MIN(b->j, last_seen(a, first + m - 1, u->end) - u->start);
    const size_t k_words = up(o->dim_k, g->step), v_words = up(o->dim_v, g->step);
    float *s = r->s + r0 * KEYS, *dp = r->dp + r0 * KEYS;
    multiply(g, r->q + p * k_words * g->rows, m, r->k + b->j / g->cols * k_words * g->cols, k_words * g->cols, n, k_words, s, KEYS, false);
    multiply(g, r->dy + p * v_words * g->rows, m, r->v + b->j / g->cols * v_words * g->cols, v_words * g->cols, n, v_words, dp, KEYS, false);
    for (size_t e = 0; e < m; e++) {
        const size_t i = first + e, j0 = u->start + b->j, j1 = u->start + b->j_end;
        const size_t from = MIN(MAX(first_seen(a, i, u->start), j0), j1), to = MAX(MIN(last_seen(a, i, u->end), j1), from);
        float *row = s + e * KEYS, *drow = dp + e * KEYS;
        const size_t x = from - j0, z = to - j0, width = b->j_end - b->j;
        if (o->softcap > 0 || o->alibi) bent_back(a, row + x, drow + x, b->h, i, from, to, b->own[r0 + e]);
        else
            a->kern->train.soft_back(&(kern_soft_back){row + x, drow + x, z - x, o->scale, a->lse[i * o->n_head + b->h], b->own[r0 + e], o->scale});
        hide(a, b->h, i, u->start, from, to, 0, row + x);
        hide(a, b->h, i, u->start, from, to, 0, drow + x);
        memset(row, 0, x * sizeof *row), memset(row + z, 0, (width - z) * sizeof *row);
        memset(drow, 0, x * sizeof *row), memset(drow + z, 0, (width - z) * sizeof *row);
    }
    if (!a->gq || n == 0) return;
    g->pack(r->part, g->rows, 0, dp, KEYS, m, n);
    multiply(g, r->part, m, r->kc + b->j / g->step * g->cols, up(len, g->step) * g->cols, o->dim_k, up(n, g->step),
             a->gq + first * a->q->cols + b->h * o->dim_k, a->q->cols, true);
}

/* dk or dv of the keys of a block: what = ds or p, rows = q or dy in panels across. */
static void back_keys(const struct attending *a, const struct room *r, const tile_block *b, const float *what, const uint32_t *rows, size_t dim,
                      float *to) {
    const kern_gemm *g = a->g;
    const size_t ld = a->o.n_head * dim, next = up(b->m, g->step) * g->cols;
    for (size_t j = b->j; j < b->j_end; j += g->rows) {
        const size_t n = MIN(g->rows, b->j_end - j), key = b->u->start + j;
        const size_t r0 = a->o.causal && key > b->i ? (key - b->i) / g->step * g->step : 0; /* rows before it see none of the keys */
        if (r0 >= b->m) break;
        g->pack_across(r->part, g->rows, 0, what + r0 * KEYS + (j - b->j), KEYS, n, b->m - r0);
        multiply(g, r->part, n, rows + r0 / g->step * g->cols, next, dim, up(b->m - r0, g->step), to + key * ld + b->h * dim, ld, true);
    }
}

static void zero_rows(float *x, size_t ld, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++) memset(x + i * ld, 0, cols * sizeof *x);
}

/* The gradient of a row's log-sum-exp: it goes to the scores by their probabilities, as if dy · y were less by it. */
static float lse_slope(const struct attending *a, size_t i, size_t h) {
    return a->lse_out && a->lse_out->g ? a->lse_out->g[i * a->o.n_head + h] : 0;
}

static void back_block(const struct attending *a, const struct room *r, const piece *u, size_t h, size_t i, size_t m) {
    const kern_gemm *g = a->g;
    const ad_attn *o = &a->o;
    const size_t dk = o->dim_k, dv = o->dim_v, ldq = a->q->cols, ldy = a->y->cols, words = up(m, g->step);
    const float *q = a->q->x + i * ldq + h * dk, *dy = a->y->g + i * ldy + h * dv;
    const size_t lo = (first_seen(a, i, u->start) - u->start) / KEYS * KEYS, hi = last_seen(a, i + m - 1, u->end) - u->start;
    float own[QUERIES];
    for (size_t e = 0; e < m; e++) own[e] = a->kern->dot(dy + e * ldy, a->y->x + (i + e) * ldy + h * dv, dv) - lse_slope(a, i + e, h);
    g->pack(r->q, g->rows, up(dk, g->step) * g->rows, q, ldq, m, dk);
    g->pack(r->dy, g->rows, up(dv, g->step) * g->rows, dy, ldy, m, dv);
    if (a->hk) g->pack_across(r->qc, g->cols, words * g->cols, q, ldq, dk, m);
    if (a->hv) g->pack_across(r->dyc, g->cols, words * g->cols, dy, ldy, dv, m);
    for (size_t j = lo; j < hi; j += KEYS) {
        const tile_block b = {u, h, i, m, j, MIN(j + KEYS, hi), own};
        for (size_t p = 0; p * g->rows < m; p++) back_rows(a, r, &b, p);
        if (a->hv) back_keys(a, r, &b, r->s, r->dyc, dv, a->hv);
        if (a->hk) back_keys(a, r, &b, r->dp, r->qc, dk, a->hk);
    }
}

static void back_unit(const struct visit *v, size_t unit, struct room *r) {
    const struct attending *a = v->a;
    const kern_gemm *g = a->g;
    const ad_attn *o = &a->o;
    const piece *u = &v->pieces[unit / o->n_head];
    const size_t h = unit % o->n_head, kv = h / (o->n_head / o->n_head_kv), len = u->end - u->start, dk = o->dim_k, dv = o->dim_v;
    const float *k = a->k->x + u->start * a->k->cols + kv * dk, *val = a->v->x + u->start * a->v->cols + kv * dv;
    g->pack(r->k, g->cols, up(dk, g->step) * g->cols, k, a->k->cols, len, dk);
    g->pack(r->v, g->cols, up(dv, g->step) * g->cols, val, a->v->cols, len, dv);
    if (a->gq) g->pack_across(r->kc, g->cols, up(len, g->step) * g->cols, k, a->k->cols, dk, len);
    if (a->gq && a->fresh_q) zero_rows(a->gq + u->start * a->q->cols + h * dk, a->q->cols, len, dk);
    if (a->hk) zero_rows(a->hk + u->start * o->n_head * dk + h * dk, o->n_head * dk, len, dk);
    if (a->hv) zero_rows(a->hv + u->start * o->n_head * dv + h * dv, o->n_head * dv, len, dv);
    for (size_t i = u->start; i < u->end; i += QUERIES) back_block(a, r, u, h, i, MIN(QUERIES, u->end - i));
}

/* The sums over the heads of a group, rows [from, to). */
static void gather_heads(const struct attending *a, float *g, const float *heads, size_t from, size_t to, size_t dim, bool fresh) {
    const size_t n_kv = a->o.n_head_kv, group = a->o.n_head / n_kv;
    for (size_t r = from * n_kv; r < to * n_kv; r++) {
        const float *head = heads + r * group * dim;
        for (size_t e = 0; e < group; e++, head += dim)
            if (fresh && e == 0) memcpy(g + r * dim, head, dim * sizeof *g);
            else a->kern->axpy(g + r * dim, head, 1, dim);
    }
}
static void gather_part(void *ctx, size_t from, size_t to, int ith) {
    const struct attending *a = ctx;
    (void)ith;
    if (a->hk) gather_heads(a, a->gk, a->hk, from, to, a->o.dim_k, a->fresh_k);
    if (a->hv) gather_heads(a, a->gv, a->hv, from, to, a->o.dim_v, a->fresh_v);
}

/* d sink_h = -Σ_i p_i,sink (dy_i · y_i) */
static void sinks_back(const struct attending *a) {
    const ad_attn *o = &a->o;
    for (size_t h = 0; a->fresh_sink && h < o->n_head; h++) a->gsink[h] = 0;
    for (size_t i = 0; i < a->s->n; i++)
        for (size_t h = 0; h < o->n_head; h++) {
            const float *y = a->y->x + i * a->y->cols + h * o->dim_v, *dy = a->y->g + i * a->y->cols + h * o->dim_v;
            a->gsink[h] -= expf(o->sinks->x[h] - a->lse[i * o->n_head + h]) * (a->kern->dot(dy, y, o->dim_v) - lse_slope(a, i, h));
        }
}

/* ---- both ways ---- */
static void work_through(struct visit *v, int ith, void (*unit)(const struct visit *, size_t, struct room *), bool back, size_t longest) {
    struct room r;
    (void)lay_out(&r, v->room + (size_t)ith * v->room_words, v->a, longest, back);
    for (size_t u; (u = atomic_fetch_add(&v->next, 1)) < v->n_units;) unit(v, u, &r);
}
static size_t longest_of(const ad_seqs *s) {
    size_t longest = 0;
    for (size_t i = 0; i < s->n_seq; i++) longest = MAX(longest, (size_t)(s->start[i + 1] - s->start[i]));
    return longest;
}
static void forward_part(void *ctx, size_t from, size_t to, int ith) {
    struct visit *v = ctx;
    (void)from, (void)to;
    work_through(v, ith, attend_unit, false, longest_of(v->a->s));
}
static void back_part(void *ctx, size_t from, size_t to, int ith) {
    struct visit *v = ctx;
    (void)from, (void)to;
    work_through(v, ith, back_unit, true, longest_of(v->a->s));
}

/* All units, in pieces of `step` rows; false: out of memory. */
static bool visit_all(tape *t, const struct attending *a, size_t step, bool back) {
    const size_t threads = (size_t)tape_threads(t);
    size_t n = 0;
    struct room none;
    struct visit v = {.a = a, .room_words = lay_out(&none, NULL, a, longest_of(a->s), back)};
    atomic_init(&v.next, 0);
    for (size_t i = 0; i < a->s->n_seq; i++) n += up(a->s->start[i + 1] - a->s->start[i], step);
    piece *p = tape_mem(t, (n + 1) * sizeof *p);
    v.room = tape_mem(t, threads * v.room_words * sizeof *v.room);
    if (!p || !v.room) return false;
    v.pieces = p;
    v.n_units = n * a->o.n_head;
    for (size_t i = 0; i < a->s->n_seq; i++)
        for (size_t start = a->s->start[i], end = a->s->start[i + 1], from = start; from < end; from += step)
            *p++ = (piece){start, end, from, MIN(from + step, end)};
    tape_for(t, threads, 1, back ? back_part : forward_part, &v);
    return true;
}

static void attend_back(tape *t, void *ctx) {
    struct attending *a = ctx;
    if (!a->y->g) return;
    a->gq = tape_grad(t, a->q, &a->fresh_q);
    a->gk = tape_grad(t, a->k, &a->fresh_k);
    a->gv = tape_grad(t, a->v, &a->fresh_v);
    a->gsink = tape_grad(t, a->o.sinks, &a->fresh_sink);
    const tape_spot spot = tape_mark(t);
    a->hk = a->gk ? tape_mem(t, a->q->rows * a->o.n_head * a->o.dim_k * sizeof(float)) : NULL;
    a->hv = a->gv ? tape_mem(t, a->q->rows * a->o.n_head * a->o.dim_v * sizeof(float)) : NULL;
    if (visit_all(t, a, SIZE_MAX / 2, true)) tape_for(t, a->q->rows, 8, gather_part, a);
    tape_release(t, spot);
    if (a->gsink) sinks_back(a);
}

var *ad_attention(tape *t, var *q, var *k, var *v, const ad_attn *o, const ad_seqs *s) {
    if (!q || !k || !v) return NULL;
    assert(q->cols == o->n_head * o->dim_k && k->cols == o->n_head_kv * o->dim_k && v->cols == o->n_head_kv * o->dim_v);
    struct attending a = {.kern = tape_kern(t), .g = tape_panels(t), .q = q, .k = k, .v = v, .o = *o, .s = s};
    a.y = tape_var(t, q->rows, o->n_head * o->dim_v, q->wants || k->wants || v->wants || (o->sinks && o->sinks->wants));
    a.lse_out = o->lse ? tape_var(t, q->rows, o->n_head, q->wants || k->wants) : NULL;
    a.lse = a.lse_out ? a.lse_out->x : tape_mem(t, q->rows * o->n_head * sizeof(float));
    if (!a.y || !a.lse) return NULL;
    if (o->lse) *o->lse = a.lse_out;
    if (!choose_blocks(t, &a)) return NULL;
    const tape_spot spot = tape_mark(t);
    const bool done = visit_all(t, &a, PIECE, false);
    tape_release(t, spot);
    if (!done) return NULL;
    struct attending *kept = a.y->wants ? tape_note(t, attend_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
