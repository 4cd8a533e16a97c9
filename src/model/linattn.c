/* linattn.c: see linattn.h. Invariant: columns of a head's state are independent of each other, so threads divide heads and
 * blocks of columns, and no sum crosses a thread. */
#include "model/linattn.h"

#include "model/ssm.h"

#include <math.h>
#include <string.h>

enum { COLUMNS = 16 }; /* of a unit of work */

struct linattn {
    size_t m;            /* exponents of a head */
    const float *q, *k;  /* [head][dim_k][m]: the file's maps, transposed */
};

static size_t features(const layer *l, int which) { return 2 * ((const struct linattn *)l->priv[which])->m; }
/* Columns of the state: the values', one for the sum of weights, up to whole blocks. */
static size_t state_cols(const layer *l) { return (l->dim_v + COLUMNS) / COLUMNS * COLUMNS; }

static mote_status bind_map(model *m, layer *l, role r, size_t heads, size_t n, const float **out, mote_error *err) {
    slot *s = &l->slots[r];
    if (s->info && (s->ne[0] != l->dim_k || s->ne[1] != n || s->ne[2] != heads || s->ne[3] != 1))
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' has shape [%llu, %llu, %llu], expected [%zu, %zu, %zu]", STR_ARG(s->info->name),
             (unsigned long long)s->ne[0], (unsigned long long)s->ne[1], (unsigned long long)s->ne[2], l->dim_k, n, heads);
    if (s->bias && s->n_bias != heads * n) FAIL(err, MOTE_E_MISMATCH, "layer %zu: the map's bias has %zu elements, expected %zu", l->index, s->n_bias, heads * n);
    float *t = ARENA_NEW_N(&m->mem, float, heads * n * l->dim_k);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < l->dim_k; d++) t[(h * l->dim_k + d) * n + i] = s->vec[(h * n + i) * l->dim_k + d];
    s->used = true;
    *out = t;
    return MOTE_OK;
}

mote_status linattn_bind(model *m, layer *l, int which, mote_error *err) {
    size_t n = (size_t)l->slots[R_ATTN_K_MAP].ne[1], floats;
    struct linattn *p = ARENA_NEW(&m->mem, struct linattn);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (!has(l, R_ATTN_Q_MAP) || !has(l, R_ATTN_K_MAP)) FAIL(err, MOTE_E_FORMAT, "layer %zu is of linear attention, but has no tensors attn_q_map and attn_k_map", l->index);
    if (n == 0 || n > LINATTN_MAPS_MAX) FAIL(err, MOTE_E_RANGE, "layer %zu: a feature map of %zu exponents; 1 to %d are possible", l->index, n, LINATTN_MAPS_MAX);
    if (!m->hp.causal || has(l, R_ATTN_SINKS) || m->hp.alibi_max > 0)
        FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu: linear attention is for causal models without sinks or ALiBi", l->index);
    TRY(bind_map(m, l, R_ATTN_Q_MAP, l->n_head, n, &p->q, err));
    TRY(bind_map(m, l, R_ATTN_K_MAP, l->n_head_kv, n, &p->k, err));
    TRY(bind_vec(l, R_ATTN_MAP_GAIN, l->n_head, true, err));
    p->m = n;
    l->priv[which] = p;
    if (!ckd_mul_size(&floats, l->n_head_kv * 2 * n, state_cols(l))) FAIL(err, MOTE_E_RANGE, "layer %zu: the recurrent state is too large", l->index);
    return ssm_set_state(l, which, floats, 0, 0, err);
}

/* Rows of features and what they give. */
struct rows {
    float *fq, *top; /* [n, n_head, features] less their greatest exponent, which is top[n, n_head] */
    float *fk, *v;   /* [n, n_head_kv, features], [n, n_head_kv, cols]: of the key that enters with this row … */
    float *k;        /* [n, n_head_kv, dim_k] … and that key, out of the cache */
    float *sum;      /* [n, n_head, cols]: N, then Z */
};

static struct rows lay_out(const layer *l, size_t n_features, size_t n, bump *b) {
    struct rows r;
    r.fq = bump_f32(b, n * l->n_head * n_features);
    r.top = bump_f32(b, n * l->n_head);
    r.fk = bump_f32(b, n * l->n_head_kv * n_features);
    r.v = bump_f32(b, n * l->n_head_kv * state_cols(l));
    r.k = bump_f32(b, n * l->n_head_kv * l->dim_k);
    r.sum = bump_f32(b, n * l->n_head * state_cols(l));
    return r;
}

size_t linattn_mem(const layer *l, size_t n) {
    bump b = {0};
    (void)lay_out(l, 2 * (size_t)l->slots[R_ATTN_K_MAP].ne[1], n, &b);
    return b.used / sizeof(float) + 16;
}

/* y[2m]: exponents of x by map w[dim_k, m], and their negatives. */
static void exponents(const fwd *f, const layer *l, const float *w, const float *bias, size_t m, const float *x, float *y) {
    f->t.kern->tile(&(kern_tile){.c = y, .a = x, .b = w, .ldc = m, .lda = l->dim_k, .ldb = m, .m = 1, .n = m, .k = l->dim_k});
    for (size_t i = 0; i < m; i++) {
        if (bias) y[i] += bias[i];
        y[m + i] = -y[i];
    }
}

static void query_features(const fwd *f, const layer *l, int which, const linattn_in *in, const struct rows *r, size_t row, size_t h) {
    const struct linattn *p = l->priv[which];
    const slot *s = &l->slots[R_ATTN_Q_MAP];
    float *y = r->fq + (row * l->n_head + h) * 2 * p->m, *top = &r->top[row * l->n_head + h];
    exponents(f, l, p->q + h * l->dim_k * p->m, s->bias ? s->bias + h * p->m : NULL, p->m, in->q + row * in->ld_q + h * l->dim_k, y);
    *top = f->t.kern->max(y, 2 * p->m);
    (void)f->t.kern->exp_sum(y, *top, 2 * p->m);
}

/* The key that leaves the window when the row's token comes; nothing, while there is none. */
static void key_features(const fwd *f, const layer *l, int which, const linattn_in *in, const struct rows *r, const kv_layer *cache, size_t row, size_t g) {
    const struct linattn *p = l->priv[which];
    const slot *s = &l->slots[R_ATTN_K_MAP];
    size_t window = f->m->hp.linear_window, pos = (size_t)f->pos[row], m = p->m, cols = state_cols(l);
    float *y = r->fk + (row * l->n_head_kv + g) * 2 * m, *v = r->v + (row * l->n_head_kv + g) * cols;
    const float *k = in->k + row * in->ld_k + g * l->dim_k;
    if (pos < window) return;
    if (cache) {
        float *kept = r->k + (row * l->n_head_kv + g) * l->dim_k;
        kv_get_k(cache, g, pos - window, kept);
        kv_get_v(cache, g, pos - window, v);
        k = kept;
    } else memcpy(v, in->v + row * in->ld_v + g * l->dim_v, l->dim_v * sizeof *v);
    v[l->dim_v] = 1;
    memset(v + l->dim_v + 1, 0, (cols - l->dim_v - 1) * sizeof *v);
    exponents(f, l, p->k + g * l->dim_k * m, s->bias ? s->bias + g * m : NULL, m, k, y);
    for (size_t i = 0; i < 2 * m; i++) y[i] = MIN(MAX(y[i], -LINATTN_CLAMP), LINATTN_CLAMP);
    (void)f->t.kern->exp_sum(y, 0, 2 * m);
}

static void make_features(fwd *f, const layer *l, int which, const linattn_in *in, const struct rows *r) {
    size_t heads = l->n_head + l->n_head_kv, from, to, row = 0;
    team_enter(&f->t, PROF_ATTENTION);
    fwd_share(f, f->n * heads, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        const kv_layer *cache = l->kv_index == SIZE_MAX ? NULL : fwd_kv(f, l, g->seq);
        for (size_t end = row + g->n; row < end; row++)
            for (size_t h = MAX(row * heads, from); h < MIN((row + 1) * heads, to); h++) {
                size_t head = h - row * heads;
                if (head < l->n_head) query_features(f, l, which, in, r, row, head);
                else key_features(f, l, which, in, r, cache, row, head - l->n_head);
            }
    }
    team_barrier(&f->t);
}

/* Columns [c, c + COLUMNS) of key/value head g: the rows of one segment, in order. */
static void scan(const fwd *f, const layer *l, int which, const model_seg *seg, const struct rows *r, size_t row0, size_t g, size_t c) {
    size_t n = features(l, which), cols = state_cols(l), group = l->n_head / l->n_head_kv;
    float *sums = (float *)fwd_state(f, l, which, seg->seq) + g * n * cols + c;
    for (size_t row = row0; row < row0 + seg->n; row++) {
        const float *fk = r->fk + (row * l->n_head_kv + g) * n, *v = r->v + (row * l->n_head_kv + g) * cols + c;
        size_t h = row * l->n_head + g * group;
        if ((size_t)f->pos[row] >= f->m->hp.linear_window)
            f->t.kern->tile(&(kern_tile){.c = sums, .a = fk, .b = v, .ldc = cols, .lda = 1, .ldb = cols, .m = n, .n = COLUMNS, .k = 1, .add = true});
        f->t.kern->tile(&(kern_tile){.c = r->sum + h * cols + c, .a = r->fq + h * n, .b = sums, .ldc = cols, .lda = n, .ldb = cols, .m = group, .n = COLUMNS, .k = n});
    }
}

static void scan_all(fwd *f, const layer *l, int which, const struct rows *r) {
    size_t blocks = state_cols(l) / COLUMNS, row = 0, turn = 0;
    team_enter(&f->t, PROF_ATTENTION);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        for (size_t u = 0; u < l->n_head_kv * blocks; u++, turn++)
            if (turn % (size_t)f->t.nth == (size_t)f->t.ith) scan(f, l, which, &f->b->segs[i], r, row, u / blocks, u % blocks * COLUMNS);
        row += f->b->segs[i].n;
    }
    team_barrier(&f->t);
}

/* y = a y_window + (1 - a) N / Z with a = Σ exp(s) / (Σ exp(s) + g Z): a sigmoid of the difference of logarithms. */
static void mix(fwd *f, const layer *l, const linattn_in *in, const struct rows *r) {
    size_t from, to, cols = state_cols(l);
    team_enter(&f->t, PROF_ATTENTION);
    fwd_share(f, f->n * l->n_head, &from, &to);
    for (size_t i = from; i < to; i++) {
        const float *sum = r->sum + i * cols;
        float z = sum[l->dim_v], *y = in->out + i * l->dim_v, part = 0;
        if (!in->lse) {
            f->t.kern->scale(y, sum, z > 0 ? 1 / z : 0, l->dim_v);
            continue;
        }
        if (!(z > 0)) continue;
        part = 1 / (1 + expf(in->lse[i] - logf(z) - r->top[i] - l->slots[R_ATTN_MAP_GAIN].vec[i % l->n_head]));
        f->t.kern->mix(y, 1 - part, sum, part / z, l->dim_v);
    }
    team_barrier(&f->t);
}

void linattn_forward(fwd *f, const layer *l, int which, const linattn_in *in) {
    size_t mark = bump_mark(&f->mem);
    struct rows r = lay_out(l, features(l, which), f->n, &f->mem);
    make_features(f, l, which, in, &r);
    scan_all(f, l, which, &r);
    mix(f, l, in, &r);
    bump_reset(&f->mem, mark);
}
