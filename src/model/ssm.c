/* ssm.c: causal convolution and state space recurrences. Invariant: what is computed for one channel and token is
 * the same sequence of float operations whatever the thread or the cut of the prompt. */
#include "model/ssm.h"

#include <math.h>
#include <string.h>

enum { SSM_STATE_MAX = 1 << 16 };

void ssm_act(const team *t, act_fn f, float *y, const float *x, const float *up, size_t n) { t->kern->act(f, y, x, up, n); }

float ssm_softplus(float x) { return act_apply(ACT_SOFTPLUS, x); }

void ssm_plan(model *m, const block_ops *block) {
    for (size_t il = 0; il < m->hp.n_layer; il++)
        if (m->layers[il].n_head_kv == 0) m->layers[il].mixer[0] = block;
}

mote_status ssm_set_state(layer *l, int which, size_t conv_floats, size_t channels, size_t d_state, mote_error *err) {
    size_t n;
    if (d_state > SSM_STATE_MAX) FAIL(err, MOTE_E_RANGE, "layer %zu: a state of %zu per channel is too large", l->index, d_state);
    if (!ckd_mul_size(&n, channels, d_state) || !ckd_add_size(&n, n, conv_floats) ||
        !ckd_mul_size(&l->state_bytes[which], n, sizeof(float)))
        FAIL(err, MOTE_E_RANGE, "layer %zu: the recurrent state is too large", l->index);
    return MOTE_OK;
}

/* ---- convolution ---- */
mote_status ssm_conv_bind(model *m, layer *l, role r, size_t k, size_t n, ssm_conv *c, mote_error *err) {
    size_t total;
    if (k == 0 || n == 0 || !ckd_mul_size(&total, k, n))
        FAIL(err, MOTE_E_RANGE, "layer %zu: a convolution of width %zu over %zu channels", l->index, k, n);
    slot *s = &l->slots[r];
    if (!has(l, r)) return bind_vec(l, r, total, true, err); /* says which one is missing */
    if (s->ne[0] != k || s->n != total) /* not bind_vec: the bias is shorter than the kernels */
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' has %zu elements in rows of %llu, the model's keys ask for %zu rows of %zu",
             STR_ARG(s->info->name), s->n, (unsigned long long)s->ne[0], n, k);
    s->used = true;
    TRY(bind_bias(l, r, n, false, err));
    float *w = ARENA_NEW_N(&m->mem, float, total);
    if (!w) FAIL(err, MOTE_E_MEMORY, "out of memory for a convolution");
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++) w[j * n + i] = s->vec[i * k + j];
    *c = (ssm_conv){.k = k, .n = n, .w = w, .bias = s->bias};
    return MOTE_OK;
}

/* The input of token t (from -(k-1)): from the state while t is negative. */
static const float *conv_input(const ssm_conv *c, const float *st, const float *x, size_t ldx, size_t t, size_t j) {
    return t + j + 1 >= c->k ? x + (t + j + 1 - c->k) * ldx : st + (t + j) * c->n;
}

/* acc[n] += w[n] · x[n] */
static void accumulate(float *restrict acc, const float *restrict w, const float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) acc[i] += w[i] * x[i];
}

static void multiply(float *restrict acc, const float *restrict w, const float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) acc[i] = w[i] * x[i];
}

/* Bias and activation of channels [from, to) of a row. */
static void conv_finish(const team *t, const ssm_conv *c, float *y, size_t from, size_t to) {
    for (size_t i = from; c->bias && i < to; i++) y[i] += c->bias[i];
    if (c->act != ACT_NONE) ssm_act(t, c->act, y + from, y + from, NULL, to - from);
}

void ssm_conv_run(const team *t, const ssm_conv *c, float *st, const float *x, size_t ldx, float *y, size_t ldy,
                  size_t n_rows, size_t from, size_t to) {
    size_t n = to - from;
    if (from >= to) return;
    for (size_t r = 0; r < n_rows; r++) {
        float *out = y + r * ldy;
        multiply(out + from, c->w + from, conv_input(c, st, x, ldx, r, 0) + from, n);
        for (size_t j = 1; j < c->k; j++)
            accumulate(out + from, c->w + j * c->n + from, conv_input(c, st, x, ldx, r, j) + from, n);
        conv_finish(t, c, out, from, to);
    }
    for (size_t s = 0; s + 1 < c->k; s++) { /* ascending: reads rows that are not yet overwritten */
        float *dst = st + s * c->n + from;
        memmove(dst, conv_input(c, st, x, ldx, n_rows, s) + from, n * sizeof(float));
    }
}

void ssm_conv_run_centered(const team *t, const ssm_conv *c, const float *x, size_t ldx, float *y, size_t ldy,
                           size_t n_rows, size_t from, size_t to) {
    size_t before = (c->k - 1) / 2;
    if (from >= to) return;
    for (size_t r = 0; r < n_rows; r++) {
        float *out = y + r * ldy;
        memset(out + from, 0, (to - from) * sizeof(float));
        for (size_t j = 0; j < c->k; j++)
            if (r + j >= before && r + j - before < n_rows)
                accumulate(out + from, c->w + j * c->n + from, x + (r + j - before) * ldx + from, to - from);
        conv_finish(t, c, out, from, to);
    }
}

/* ---- heads with one decay each ---- */
static size_t tiles_per_head(const ssm_heads *h) { return (h->dim + SSM_TILE - 1) / SSM_TILE; }

size_t ssm_heads_tiles(const ssm_heads *h) { return h->n_head * tiles_per_head(h); }

void ssm_heads_tile(const ssm_heads *h, size_t tile, size_t *head, size_t *first, size_t *w) {
    size_t per = tiles_per_head(h), at = tile % per * SSM_TILE;
    *head = tile / per;
    *first = *head * h->dim + at;
    *w = MIN(h->dim - at, (size_t)SSM_TILE);
}

void ssm_heads_prepare(const team *t, const ssm_heads *h, size_t row) {
    float *dt = h->dt + row * h->ld_dt, *decay = h->decay + row * h->n_head;
    for (size_t i = 0; h->dt_bias && i < h->n_head; i++) dt[i] += h->dt_bias[i];
    ssm_act(t, ACT_SOFTPLUS, dt, dt, NULL, h->n_head);
    for (size_t i = 0; i < h->n_head; i++) decay[i] = dt[i] * h->a[i];
    (void)t->kern->exp_sum(decay, 0, h->n_head);
}

void ssm_heads_run(const team *t, const ssm_heads *h, float *st, size_t tile, size_t row, size_t n) {
    size_t head, first, w;
    ssm_heads_tile(h, tile, &head, &first, &w);
    size_t group = head / (h->n_head / h->n_group) * h->d_state;
    float dx[SSM_TILE];
    kern_scan k = {.s = st + first * h->d_state, .n = h->d_state, .w = w, .x = dx};
    for (size_t r = row; r < row + n; r++) {
        const float *x = h->x + r * h->ld + first;
        float dt = h->dt[r * h->ld_dt + head];
        for (size_t j = 0; j < w; j++) dx[j] = x[j] * dt;
        k.decay = h->decay + r * h->n_head + head;
        k.in = h->b + r * h->ld_bc + group;
        k.out = h->c + r * h->ld_bc + group;
        k.y = h->y + r * h->ld_y + first;
        t->kern->scan(&k);
        for (size_t j = 0; j < w; j++) k.y[j] += x[j] * h->d[head];
    }
}
