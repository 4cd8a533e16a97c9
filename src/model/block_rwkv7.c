/* block_rwkv7.c: RWKV-7's two blocks. Time mixing: a matrix state per head that follows a generalised delta rule
 *     S_t = S_{t-1} (diag(w) - k̂ᵀ (a ⊙ k̂)) + vᵀ k̃,   y = S_t rᵀ
 * with decay w, in-context learning rate a, removal key k̂ and replacement key k̃ all made from the token and the one
 * before it. Channel mixing: a relu² feed-forward with the same look back.
 * Source: Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution", §4:
 * weight preparation, the WKV state evolution, the MLP.
 *
 * A head's state is kept in tiles of SSM_TILE values, [key][value], so that every sum runs over whole vectors. All that
 * is done element by element runs over a thread's heads at once. */
#include "model/ssm.h"

#include <math.h>
#include <string.h>

enum { HEAD_MAX = 256, ROWS_AT_ONCE = 32, MIX_R = 0, MIX_W, MIX_K, MIX_V, MIX_A, MIX_G, MIXES };
#define DECAY_SCALE (-0.60653066f) /* -e^-0.5: the decay never falls below 0.545 */
#define HEAD_NORM_EPS 64e-5f

static bool gated(const layer *l) { return has(l, R_TM_G1); }

/* ---- looking one token back ---- */
/* out[i][t] = x_t + (x_{t-1} - x_t) ⊙ mu[i], as a convolution of width two with taps mu[i] and 1 - mu[i]. */
struct look_back {
    const float *taps; /* [count, 2, n] */
    size_t count;
};

static mote_status bind_look_back(model *m, layer *l, role r, size_t count, struct look_back *b, mote_error *err) {
    size_t n = m->hp.n_embd;
    TRY(bind_vec(l, r, count * n, true, err));
    float *taps = ARENA_NEW_N(&m->mem, float, 2 * count * n);
    if (!taps) FAIL(err, MOTE_E_MEMORY, "out of memory for layer %zu", l->index);
    for (size_t i = 0; i < count * n; i++) {
        float mu = l->slots[r].vec[i];
        taps[(i / n * 2) * n + i % n] = mu;
        taps[(i / n * 2 + 1) * n + i % n] = 1 - mu;
    }
    *b = (struct look_back){taps, count};
    return MOTE_OK;
}

/* For all rows; st[n] holds the last token's x. This thread does columns of all rows, so that it alone reads and
 * replaces its part of the state. */
static void look_back(fwd *f, const layer *l, int which, const struct look_back *b, const float *x, float *const *out) {
    size_t n = f->m->hp.n_embd, from, to, row = 0;
    team_enter(&f->t, PROF_CONV);
    pool_share(n, SSM_STEP, f->t.ith, f->t.nth, &from, &to);
    for (size_t s = 0; s < f->b->n_segs; s++) {
        const model_seg *g = &f->b->segs[s];
        float *st = fwd_state(f, l, which, g->seq);
        for (size_t r = row; r < row + g->n; r++) {
            const float *now = x + r * n + from, *in[2] = {r == row ? st + from : now - n, now};
            for (size_t i = 0; i < b->count; i++)
                f->t.kern->conv(&(kern_conv){.y = out[i] + r * n + from, .x = in, .w = b->taps + 2 * i * n + from, .ldw = n, .k = 2, .n = to - from});
        }
        row += g->n;
        if (to > from) memcpy(st + from, x + (row - 1) * n + from, (to - from) * sizeof(float));
    }
    team_barrier(&f->t);
}

/* ---- time mixing ---- */
static mote_status bind_lora(layer *l, role down, role up, size_t n_embd, size_t rank, mote_error *err) {
    TRY(bind_mat(l, down, n_embd, rank, 1, true, err));
    return bind_mat(l, up, rank, n_embd, 1, true, err);
}

static mote_status time_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    size_t n = h->n_embd;
    if (h->wkv_head == 0 || h->wkv_head > HEAD_MAX || n % h->wkv_head)
        FAIL(err, MOTE_E_RANGE, "key '%s.wkv.head_size' is %zu; expected a divisor of %zu of at most %d", m->arch->name, h->wkv_head, n, HEAD_MAX);
    static const role squares[] = {R_TM_RECEPTANCE, R_TM_KEY, R_TM_VALUE, R_TM_OUT};
    static const role vectors[] = {R_TM_W0, R_TM_A0, R_TM_K_K, R_TM_K_A, R_TM_R_K, R_TM_LN};
    for (size_t i = 0; i < COUNT_OF(squares); i++) TRY(bind_mat(l, squares[i], n, n, 1, true, err));
    for (size_t i = 0; i < COUNT_OF(vectors); i++) TRY(bind_vec(l, vectors[i], n, true, err));
    TRY(bind_lora(l, R_TM_W1, R_TM_W2, n, h->lora_decay, err));
    TRY(bind_lora(l, R_TM_A1, R_TM_A2, n, h->lora_iclr, err));
    if (gated(l)) TRY(bind_lora(l, R_TM_G1, R_TM_G2, n, h->lora_gate, err));
    struct look_back *back = ARENA_NEW(&m->mem, struct look_back);
    if (!back) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(bind_look_back(m, l, R_TM_LERP, gated(l) ? MIXES : MIXES - 1, back, err));
    l->priv[which] = back;
    if (l->index == 0) { /* it has no earlier values to mix in; files may carry unused tensors for it */
        l->slots[R_TM_V0].used = l->slots[R_TM_V1].used = l->slots[R_TM_V2].used = true;
    } else {
        TRY(bind_vec(l, R_TM_V0, n, true, err));
        TRY(bind_lora(l, R_TM_V1, R_TM_V2, n, h->lora_value, err));
    }
    return ssm_set_state(l, which, n, n, h->wkv_head, err);
}

struct time_mem {
    float *x, *mix[MIXES], *r;                 /* x: the normed input, then y */
    float *removal, *rate;                     /* -k̂ and a ⊙ k̂ */
    float *lora_w, *lora_a, *lora_v, *lora_g;
    float *w, *k, *v, *v_gate, *a, *g;         /* in the buffers of mixes that are done with */
};

static struct time_mem lay_out_time(const model *m, size_t n, bump *b) {
    const hparams *h = &m->hp;
    struct time_mem t;
    t.x = bump_f32(b, n * h->n_embd);
    t.r = bump_f32(b, n * h->n_embd);
    t.removal = bump_f32(b, n * h->n_embd);
    t.rate = bump_f32(b, n * h->n_embd);
    for (int i = 0; i < MIXES; i++) t.mix[i] = bump_f32(b, n * h->n_embd);
    t.lora_w = bump_f32(b, n * h->lora_decay);
    t.lora_a = bump_f32(b, n * h->lora_iclr);
    t.lora_v = bump_f32(b, n * h->lora_value);
    t.lora_g = bump_f32(b, n * h->lora_gate);
    t.w = t.mix[MIX_W];
    t.k = t.mix[MIX_R];
    t.v = t.mix[MIX_K];
    t.v_gate = t.mix[MIX_V];
    t.a = t.mix[MIX_A];
    t.g = t.mix[MIX_G];
    return t;
}

static size_t time_mem_floats(const model *m, const layer *l, size_t n) {
    (void)l;
    bump b = {0};
    (void)lay_out_time(m, n, &b);
    return b.used / sizeof(float) + 16;
}

/* y = W2 act(W1 x) + b0 (the paper's loramlp) from mid = W1 x. */
static void lora_up(fwd *f, const layer *l, role up, role base, const float *mid, size_t rank, act_fn act, float *y) {
    linear_in in = {.x = mid, .ld = rank, .act = act};
    linear_out o = slot_out(&l->slots[up], y, f->m->hp.n_embd);
    if (base != up) o.bias = l->slots[base].vec;
    op_linear(&f->t, &in, f->n, &o, 1);
}

static void project(fwd *f, const layer *l, const struct time_mem *t) {
    const hparams *h = &f->m->hp;
    size_t n = h->n_embd;
    struct {
        float *x;
        role r;
        float *y;
        size_t ld;
    } first[] = {
        {t->mix[MIX_R], R_TM_RECEPTANCE, t->r, n}, {t->mix[MIX_W], R_TM_W1, t->lora_w, h->lora_decay},
        {t->mix[MIX_K], R_TM_KEY, t->k, n},        {t->mix[MIX_A], R_TM_A1, t->lora_a, h->lora_iclr},
        {t->mix[MIX_G], R_TM_G1, t->lora_g, h->lora_gate},
    };
    for (size_t i = 0; i < (gated(l) ? COUNT_OF(first) : COUNT_OF(first) - 1); i++) {
        linear_in in = {.x = first[i].x, .ld = n};
        linear_out o = slot_out(&l->slots[first[i].r], first[i].y, first[i].ld);
        op_linear(&f->t, &in, f->n, &o, 1);
    }
    linear_in in = {.x = t->mix[MIX_V], .ld = n};
    linear_out o[2] = {slot_out(&l->slots[R_TM_VALUE], t->v, n), slot_out(&l->slots[R_TM_V1], t->lora_v, h->lora_value)};
    op_linear(&f->t, &in, f->n, o, l->index ? 2 : 1);
    lora_up(f, l, R_TM_W2, R_TM_W0, t->lora_w, h->lora_decay, ACT_TANH, t->w);
    lora_up(f, l, R_TM_A2, R_TM_A0, t->lora_a, h->lora_iclr, ACT_NONE, t->a);
    if (l->index) lora_up(f, l, R_TM_V2, R_TM_V0, t->lora_v, h->lora_value, ACT_NONE, t->v_gate);
    if (gated(l)) lora_up(f, l, R_TM_G2, R_TM_G2, t->lora_g, h->lora_gate, ACT_SIGMOID, t->g);
}

/* From projections to the numbers of the recurrence, in place: the columns [c, c + w) of a row, whole heads. */
static void prepare(const fwd *f, const layer *l, const struct time_mem *t, size_t row, size_t c, size_t w) {
    size_t head = f->m->hp.wkv_head, at = row * f->m->hp.n_embd + c;
    const kern_table *kern = f->t.kern;
    float *k = t->k + at, *v = t->v + at, *carry = f->carry + at, *removal = t->removal + at, *rate = t->rate + at;
    kern->act(ACT_SIGMOID, t->w + at, t->w + at, NULL, w);
    kern->scale(t->w + at, t->w + at, DECAY_SCALE, w);
    (void)kern->exp_sum(t->w + at, 0, w);
    kern->act(ACT_SIGMOID, t->a + at, t->a + at, NULL, w);
    kern->act(ACT_NONE, removal, k, l->slots[R_TM_K_K].vec + c, w);
    kern->act(ACT_NONE, rate, k, l->slots[R_TM_K_A].vec + c, w); /* k += k k_a (a - 1) */
    kern->axpy(k, rate, -1, w);
    kern->act(ACT_NONE, rate, rate, t->a + at, w);
    kern->axpy(k, rate, 1, w);
    if (l->index) { /* v += (carry - v) gate */
        float *gate = t->v_gate + at;
        kern->act(ACT_SIGMOID, gate, gate, NULL, w);
        kern->act(ACT_NONE, rate, gate, v, w);
        kern->axpy(v, rate, -1, w);
        kern->act(ACT_NONE, gate, gate, carry, w);
        kern->axpy(v, gate, 1, w);
    } else memcpy(carry, v, w * sizeof(float));
    for (size_t i = 0; i < w; i += head) {
        float by = 1 / fmaxf(sqrtf(kern->dot(removal + i, removal + i, head)), 1e-12f);
        kern->scale(removal + i, removal + i, -by, head);
    }
    kern->act(ACT_NONE, rate, removal, t->a + at, w);
    kern->scale(rate, rate, -1, w);
}

/* Norm per head, the bonus of the present token, the gate. */
static void finish(const fwd *f, const layer *l, const struct time_mem *t, size_t row, size_t c, size_t w) {
    size_t head = f->m->hp.wkv_head, at = row * f->m->hp.n_embd + c;
    const slot *ln = &l->slots[R_TM_LN];
    float *k = t->k + at, *y = t->x + at;
    f->t.kern->act(ACT_NONE, k, k, l->slots[R_TM_R_K].vec + c, w);
    for (size_t i = 0; i < w; i += head) {
        norm nm = {NORM_LAYER, ln->vec + c + i, ln->bias ? ln->bias + c + i : NULL, HEAD_NORM_EPS};
        norm_row_local(&f->t, &nm, y + i, y + i, head);
        f->t.kern->axpy(y + i, t->v + at + i, f->t.kern->dot(k + i, t->r + at + i, head), head);
    }
    if (gated(l)) f->t.kern->act(ACT_NONE, y, y, t->g + at, w);
}

static void run_head(const fwd *f, const struct time_mem *t, float *st, size_t head, size_t row, size_t n_rows) {
    size_t n = f->m->hp.wkv_head, first = head * n;
    for (size_t r = row; r < row + n_rows; r++)
        for (size_t i = 0; i < n; i += SSM_TILE) {
            size_t w = MIN(n - i, (size_t)SSM_TILE), at = r * f->m->hp.n_embd + first;
            f->t.kern->scan_back(&(kern_scan){.s = st + (first + i) * n, .n = n, .w = w, .decay = t->w + at, .decay_step = 1, .in = t->k + at,
                                              .out = t->r + at, .x = t->v + at + i, .probe = t->removal + at, .back = t->rate + at, .y = t->x + at + i});
        }
}

/* This thread's heads [from, to), some rows at a time: what is prepared is still near when it is used. */
static void run_heads(const fwd *f, const layer *l, const struct time_mem *t, float *st, size_t from, size_t to, size_t row, size_t n_rows) {
    size_t n = f->m->hp.wkv_head;
    for (size_t r = row; r < row + n_rows; r += ROWS_AT_ONCE) {
        size_t m = MIN(row + n_rows - r, (size_t)ROWS_AT_ONCE);
        for (size_t i = 0; i < m; i++) prepare(f, l, t, r + i, from * n, (to - from) * n);
        for (size_t head = from; head < to; head++) run_head(f, t, st, head, r, m);
        for (size_t i = 0; i < m; i++) finish(f, l, t, r + i, from * n, (to - from) * n);
    }
}

static void time_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t n = f->m->hp.n_embd, mark = bump_mark(&f->mem), from, to, row = 0;
    struct time_mem t = lay_out_time(f->m, f->n, &f->mem);
    fwd_input(f, in, t.x, n);
    look_back(f, l, which, l->priv[which], t.x, t.mix);
    project(f, l, &t);
    team_enter(&f->t, PROF_SCAN);
    fwd_share(f, n / f->m->hp.wkv_head, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        float *st = (float *)fwd_state(f, l, which, g->seq) + n;
        if (from < to) run_heads(f, l, &t, st, from, to, row, g->n);
        row += g->n;
    }
    team_barrier(&f->t);
    linear_in y = {.x = t.x, .ld = n};
    linear_out out = slot_sink(&l->slots[R_TM_OUT], sk);
    op_linear(&f->t, &y, f->n, &out, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_rwkv7_time = {.name = "rwkv7", .bind = time_bind, .mem_floats = time_mem_floats, .forward = time_forward};

/* ---- channel mixing: W_v relu(W_k x̄)² ---- */
static mote_status channel_bind(model *m, layer *l, int which, mote_error *err) {
    size_t n = m->hp.n_embd;
    if (l->n_ff == 0) FAIL(err, MOTE_E_FORMAT, "layer %zu: key '%s.feed_forward_length' is 0", l->index, m->arch->name);
    struct look_back *back = ARENA_NEW(&m->mem, struct look_back);
    if (!back) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(bind_look_back(m, l, R_CM_LERP_K, 1, back, err));
    l->priv[which] = back;
    TRY(bind_mat(l, R_CM_KEY, n, l->n_ff, 1, true, err));
    TRY(bind_mat(l, R_CM_VALUE, l->n_ff, n, 1, true, err));
    return ssm_set_state(l, which, n, 0, 0, err);
}

static size_t channel_mem_floats(const model *m, const layer *l, size_t n) { return n * (2 * m->hp.n_embd + l->n_ff) + 3 * 16; }

static void channel_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t n = f->m->hp.n_embd, mark = bump_mark(&f->mem);
    float *x = bump_f32(&f->mem, f->n * n), *mixed = bump_f32(&f->mem, f->n * n), *k = bump_f32(&f->mem, f->n * l->n_ff);
    fwd_input(f, in, x, n);
    look_back(f, l, which, l->priv[which], x, &mixed);
    linear_in kin = {.x = mixed, .ld = n}, vin = {.x = k, .ld = l->n_ff, .act = ACT_RELU2};
    linear_out kout = slot_out(&l->slots[R_CM_KEY], k, l->n_ff), vout = slot_sink(&l->slots[R_CM_VALUE], sk);
    op_linear(&f->t, &kin, f->n, &kout, 1);
    op_linear(&f->t, &vin, f->n, &vout, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_rwkv7_channel = {.name = "rwkv7-channel", .bind = channel_bind, .mem_floats = channel_mem_floats, .forward = channel_forward};
