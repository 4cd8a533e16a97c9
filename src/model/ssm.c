/* ssm.c: causal convolution and recurrences in chunks. Invariant: what is computed for one channel and token is
 * the same sequence of float operations whatever the thread or the cut of the prompt. */
#include "model/ssm.h"

#include <string.h>

enum { SSM_STATE_MAX = 1 << 16 };

void ssm_act(const team *t, act_fn f, float *y, const float *x, const float *up, size_t n) { t->kern->act(f, y, x, up, n); }

void ssm_plan(model *m, const block_ops *block) {
    for (size_t il = 0; il < m->hp.n_layer; il++)
        if (m->layers[il].n_head_kv == 0) m->layers[il].mixer[0] = block;
}

mote_status ssm_set_state(layer *l, int which, size_t floats, size_t channels, size_t d_state, mote_error *err) {
    size_t n;
    if (d_state > SSM_STATE_MAX) FAIL(err, MOTE_E_RANGE, "layer %zu: a state of %zu per channel is too large", l->index, d_state);
    if (!ckd_mul_size(&n, channels, d_state) || !ckd_add_size(&n, n, floats) ||
        !ckd_mul_size(&l->state_bytes[which], n, sizeof(float)))
        FAIL(err, MOTE_E_RANGE, "layer %zu: the recurrent state is too large", l->index);
    return MOTE_OK;
}

/* ---- convolution ---- */
mote_status ssm_conv_bind(model *m, layer *l, role r, size_t k, size_t n, ssm_conv *c, mote_error *err) {
    size_t total;
    if (k == 0 || k > SSM_CONV_MAX || n == 0 || !ckd_mul_size(&total, k, n))
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

/* Channels [from, to) of one row, over the taps [j, j + k) whose inputs are x. */
static void conv_row(const team *t, const ssm_conv *c, const float *const *x, size_t j, size_t k, float *y, size_t from, size_t to) {
    const float *in[SSM_CONV_MAX];
    for (size_t i = 0; i < k; i++) in[i] = x[i] + from;
    t->kern->conv(&(kern_conv){.y = y + from, .x = in, .w = c->w + j * c->n + from, .bias = c->bias ? c->bias + from : NULL, .ldw = c->n, .k = k,
                               .n = to - from, .act = c->act});
}

void ssm_conv_run(const team *t, const ssm_conv *c, float *st, const float *x, size_t ldx, float *y, size_t ldy,
                  size_t n_rows, size_t from, size_t to) {
    const float *in[SSM_CONV_MAX];
    if (from >= to) return;
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t j = 0; j < c->k; j++) in[j] = conv_input(c, st, x, ldx, r, j);
        conv_row(t, c, in, 0, c->k, y + r * ldy, from, to);
    }
    for (size_t s = 0; s + 1 < c->k; s++) { /* ascending: reads rows that are not yet overwritten */
        float *dst = st + s * c->n + from;
        memmove(dst, conv_input(c, st, x, ldx, n_rows, s) + from, (to - from) * sizeof(float));
    }
}

void ssm_conv_run_centered(const team *t, const ssm_conv *c, const float *x, size_t ldx, float *y, size_t ldy,
                           size_t n_rows, size_t from, size_t to) {
    const float *in[SSM_CONV_MAX];
    size_t before = (c->k - 1) / 2;
    if (from >= to) return;
    for (size_t r = 0; r < n_rows; r++) {
        size_t j = before > r ? before - r : 0, k = 0;
        while (j + k < c->k && r + j + k - before < n_rows) {
            in[k] = x + (r + j + k - before) * ldx;
            k++;
        }
        conv_row(t, c, in, j, k, y + r * ldy, from, to);
    }
}

/* ---- heads with one decay each, in chunks ---- */
enum { COLUMNS = 64 }; /* worked on at once at a chunk's end */

/* What one thread knows about the tokens [first, first + m) of a chunk; row is the batch row of the first of them. */
struct chunk {
    const team *t;
    const ssm_scan *a;
    float *st;
    size_t row, first, m;
    float dots_out[KERN_CHUNK * KERN_CHUNK], dots_in[KERN_CHUNK * KERN_CHUNK]; /* of one key head: [m, chunk] */
    float coef_out[KERN_CHUNK * KERN_CHUNK], coef_in[KERN_CHUNK * KERN_CHUNK]; /* of one head */
    float kept[KERN_CHUNK], kept_neg[KERN_CHUNK], gain[KERN_CHUNK];            /* p_t, -p_t */
    float later[KERN_CHUNK];                                                   /* w_tu of the last t */
};

static size_t key_of(const ssm_scan *a, size_t head) { return a->tiled ? head % a->n_key : head / (a->n_head / a->n_key); }

/* The parts of a state: rows of `in` and decays that the chunk has seen, then per head S and the rows x'. */
static float *seen_in(const ssm_scan *a, float *st) { return st + a->n_head * KERN_CHUNK; }
static float *head_state(const ssm_scan *a, float *st, size_t head) {
    return st + ssm_scan_floats(a->n_head, a->n_key, a->n) + head * a->dim * (a->n + KERN_CHUNK);
}

/* dots[t][u] = rows[t] · in[u] for the u up to t, some rows at a time (what they hold beyond t is not read). */
static void multiply_keys(const struct chunk *c, size_t key, const float *rows, float *dots) {
    const ssm_scan *a = c->a;
    enum { ROWS = 4 };
    kern_fmul f = {.k = a->n, .ldx = a->ld_key, .out = {.ld = KERN_CHUNK, .scale = 1}};
    for (size_t t = 0; t < c->m; t += ROWS) {
        f.x = rows + (c->row + t) * a->ld_key + key * a->n;
        f.n_x = MIN((size_t)ROWS, c->m - t);
        f.w = (const unsigned char *)(seen_in(a, c->st) + key * a->n);
        f.row_bytes = a->n_key * a->n * sizeof(float);
        f.n_rows = c->first;
        f.out.y = dots + t * KERN_CHUNK;
        if (c->first) c->t->kern->fmul[QUANT_F32](&f);
        f.w = (const unsigned char *)(a->in + c->row * a->ld_key + key * a->n);
        f.row_bytes = a->ld_key * sizeof(float);
        f.n_rows = t + f.n_x;
        f.out.y += c->first;
        c->t->kern->fmul[QUANT_F32](&f);
    }
}

/* From decays to coefficients: every product is built up token by token, wherever the batch begins. */
static void weigh(struct chunk *c, size_t head) {
    const ssm_scan *a = c->a;
    const float *seen = c->st + head * KERN_CHUNK;
    float w[KERN_CHUNK] = {0}, kept = 1;
    for (size_t at = 0; at < c->first + c->m; at++) {
        bool old = at < c->first;
        size_t t = old ? 0 : at - c->first, row = c->row + t;
        float decay = old ? seen[at] : a->decay[row * a->ld_decay + head];
        for (size_t u = 0; u < KERN_CHUNK; u++) w[u] *= decay;
        kept *= decay;
        w[at] = 1;
        if (old) continue;
        c->kept[t] = kept;
        c->kept_neg[t] = -kept;
        c->gain[t] = a->gain[row * a->ld_gain + head];
        const float *dots_out = c->dots_out + t * KERN_CHUNK, *dots_in = c->dots_in + t * KERN_CHUNK;
        float *out = c->coef_out + t * KERN_CHUNK, *in = c->coef_in + t * KERN_CHUNK;
        for (size_t u = 0; u <= at; u++) out[u] = dots_out[u] * w[u];
        for (size_t u = 0; a->delta && u < at; u++) in[u] = -dots_in[u] * w[u];
    }
    memcpy(c->later, w, sizeof w);
}

/* Columns [col, col + w) of a head: x' of the new tokens, after y has become out S_0. */
static void inputs(const struct chunk *c, size_t head, size_t col, size_t w, float *s, float *xs, float *y) {
    const ssm_scan *a = c->a;
    const kern_table *k = c->t->kern;
    const float *x = a->x + c->row * a->ld + head * a->dim + col;
    const float *out = a->out + c->row * a->ld_key + key_of(a, head) * a->n, *in = a->in + c->row * a->ld_key + key_of(a, head) * a->n;
    float *mine = xs + c->first * a->dim;
    kern_tile read = {.c = y, .a = out, .b = s, .ldc = a->ld_y, .lda = a->ld_key, .ldb = a->dim, .m = c->m, .n = w, .k = a->n};
    k->tile(&read);
    kern_recall into = {.y = mine, .ldy = a->dim, .read = x, .ld_read = a->ld, .pre = c->gain, .m = c->m, .w = w};
    if (a->delta) {
        read.c = mine;
        read.ldc = a->dim;
        read.a = in;
        k->tile(&read);
        into = (kern_recall){.y = mine, .ldy = a->dim, .read = mine, .ld_read = a->dim, .pre = c->kept_neg, .x = x, .ldx = a->ld, .by = 1, .past = xs,
                          .ld_past = a->dim, .coef = c->coef_in, .first = c->first, .post = c->gain, .m = c->m, .w = w};
    }
    k->recall(&into);
}

/* The chunk is full: S takes all of it in. */
static void absorb(const struct chunk *c, size_t head, size_t w, float *s, const float *xs) {
    const ssm_scan *a = c->a;
    size_t key = key_of(a, head) * a->n;
    const float *in[KERN_CHUNK];
    float x[KERN_CHUNK * COLUMNS];
    for (size_t u = 0; u < KERN_CHUNK; u++)
        in[u] = (u < c->first ? seen_in(a, c->st) + u * a->n_key * a->n : a->in + (c->row + u - c->first) * a->ld_key) + key;
    for (size_t j = 0; j < w; j += COLUMNS) {
        size_t n = MIN(w - j, (size_t)COLUMNS);
        c->t->kern->recall(&(kern_recall){.y = x, .ldy = COLUMNS, .read = xs + j, .ld_read = a->dim, .pre = c->later, .m = KERN_CHUNK, .w = n});
        c->t->kern->absorb(&(kern_absorb){.s = s + j, .n = a->n, .w = n, .ld = a->dim, .decay = c->kept[c->m - 1], .in = in, .x = x, .ldx = COLUMNS, .k = KERN_CHUNK});
    }
}

/* Norm and gate of one head of one row. */
static void finish(const team *t, const ssm_scan *a, size_t row, size_t head, size_t col, size_t w) {
    float *y = a->y + row * a->ld_y + head * a->dim + col;
    if (a->norm.kind != NORM_NONE) norm_row_local(t, &a->norm, y, y, w);
    if (a->z) ssm_act(t, a->gate, y, a->z + row * a->ld_z + head * a->z_head + col, y, w);
}

static void run_columns(const struct chunk *c, size_t head, size_t col, size_t w) {
    const ssm_scan *a = c->a;
    float *s = head_state(a, c->st, head) + col, *xs = s + a->n * a->dim, *y = a->y + c->row * a->ld_y + head * a->dim + col;
    inputs(c, head, col, w, s, xs, y);
    c->t->kern->recall(&(kern_recall){.y = y, .ldy = a->ld_y, .read = y, .ld_read = a->ld_y, .pre = c->kept, .past = xs, .ld_past = a->dim,
                                .x = a->skip ? a->x + c->row * a->ld + head * a->dim + col : NULL, .ldx = a->ld, .by = a->skip ? a->skip[head] : 0,
                                .coef = c->coef_out, .first = c->first + 1, .m = c->m, .w = w});
    if (c->first + c->m == KERN_CHUNK) absorb(c, head, w, s, xs);
    if (w == a->dim || a->norm.kind == NORM_NONE)
        for (size_t t = 0; t < c->m; t++) finish(c->t, a, c->row + t, head, col, w);
}

/* Units [from, to) of `columns` columns: the tokens of one sequence that fall into one chunk. */
static void run_chunk(struct chunk *c, size_t columns, size_t from, size_t to) {
    const ssm_scan *a = c->a;
    size_t per = (a->dim + columns - 1) / columns, key = SIZE_MAX, head = SIZE_MAX;
    for (size_t unit = from; unit < to; unit++) {
        if (key_of(a, unit / per) != key) {
            key = key_of(a, unit / per);
            multiply_keys(c, key, a->out, c->dots_out);
            if (a->delta) multiply_keys(c, key, a->in, c->dots_in);
            head = SIZE_MAX;
        }
        if (unit / per != head) {
            head = unit / per;
            weigh(c, head);
        }
        size_t col = unit % per * columns;
        run_columns(c, head, col, MIN(columns, a->dim - col));
    }
}

/* The unfinished chunk's decays and rows of `in`, for the next batch. */
static void keep(const ssm_scan *a, float *st, size_t first, size_t row, size_t n) {
    size_t skip = n + first < KERN_CHUNK ? 0 : n - (n + first) % KERN_CHUNK, width = a->n_key * a->n;
    for (size_t t = skip; t < n; t++) {
        size_t at = (first + t) % KERN_CHUNK;
        memcpy(seen_in(a, st) + at * width, a->in + (row + t) * a->ld_key, width * sizeof(float));
        for (size_t h = 0; h < a->n_head; h++) st[h * KERN_CHUNK + at] = a->decay[(row + t) * a->ld_decay + h];
    }
}

/* Whole heads, unless there are too few of them for the threads. */
static size_t columns_per_unit(const ssm_scan *a, size_t n_threads) {
    if (a->n_head % n_threads == 0 || a->n_head >= 4 * n_threads) return a->dim;
    return MIN(a->dim, a->n_head * a->dim >= 4 * n_threads * COLUMNS ? (size_t)COLUMNS : 16);
}

void ssm_scan_run(fwd *f, const layer *l, int which, size_t at, const ssm_scan *a) {
    size_t columns = columns_per_unit(a, (size_t)f->t.nth), from, to, row = 0;
    team_enter(&f->t, PROF_SCAN);
    fwd_share(f, a->n_head * ((a->dim + columns - 1) / columns), &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        struct chunk c = {.t = &f->t, .a = a, .st = (float *)fwd_state(f, l, which, g->seq) + at};
        for (size_t done = 0; done < g->n; done += c.m) {
            c.row = row + done;
            c.first = (g->pos0 + done) % KERN_CHUNK;
            c.m = MIN(KERN_CHUNK - c.first, g->n - done);
            run_chunk(&c, columns, from, to);
        }
        row += g->n;
    }
    team_barrier(&f->t);
    row = 0;
    for (size_t i = 0; i < f->b->n_segs; i++) { /* nobody reads these parts before the next pass */
        const model_seg *g = &f->b->segs[i];
        if (i % (size_t)f->t.nth == (size_t)f->t.ith) keep(a, (float *)fwd_state(f, l, which, g->seq) + at, g->pos0 % KERN_CHUNK, row, g->n);
        row += g->n;
    }
    if (columns == a->dim || a->norm.kind == NORM_NONE) return;
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n * a->n_head, &from, &to);
    for (size_t i = from; i < to; i++) finish(&f->t, a, i / a->n_head, i % a->n_head, 0, a->dim);
    team_barrier(&f->t);
}

void ssm_steps(const team *t, float *dt, float *decay, const float *bias, const float *a, size_t n_head) {
    if (bias) t->kern->axpy(dt, bias, 1, n_head);
    ssm_act(t, ACT_SOFTPLUS, dt, dt, NULL, n_head);
    ssm_act(t, ACT_NONE, decay, dt, a, n_head);
    (void)t->kern->exp_sum(decay, 0, n_head);
}
