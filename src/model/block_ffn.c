/* block_ffn.c: the dense feed-forward: down(act(gate x) · up x), or down(act(up x)) without a gate.
 * Source: Shazeer 2020, "GLU Variants", eq. 5; Vaswani et al. 2017, eq. 2. */
#include "model/dynamic.h"

#include <string.h>

/* ffn_up holds gate and up, one above the other, when there is no gate of its own but twice the rows. */
static bool fused_gate(const layer *l) { return !has(l, R_FFN_GATE) && l->slots[R_FFN_UP].mat->rows == 2 * l->n_ff; }

static mote_status ffn_bind(model *m, layer *l, int which, mote_error *err) {
    size_t n_embd = m->hp.n_embd, n_ff = l->n_ff;
    if (n_ff == 0) FAIL(err, MOTE_E_FORMAT, "layer %zu has a feed-forward but key '%s.feed_forward_length' is 0", l->index, m->arch->name);
    TRY(bind_mat(l, R_FFN_UP, n_embd, has(l, R_FFN_UP) && fused_gate(l) ? 2 * n_ff : n_ff, 1, true, err));
    TRY(bind_mat(l, R_FFN_GATE, n_embd, n_ff, 1, false, err));
    TRY(bind_mat(l, R_FFN_DOWN, n_ff, n_embd, 1, true, err));
    TRY(bind_vec(l, R_FFN_ACT, n_ff, false, err));
    /* here a weight's scale lies over the bias too: scale · (W x + b) */
    static const role mats[] = {R_FFN_UP, R_FFN_GATE, R_FFN_DOWN};
    for (size_t i = 0; i < COUNT_OF(mats); i++) {
        slot *s = &l->slots[mats[i]];
        if (s->scale && !m->arch->ffn_scaled) s->scale = NULL;
        if (s->scale) slot_fold_bias(s, s->scale[0]);
    }
    const ffn_dynamic *d;
    TRY(dynamic_read(m, l, &d, err));
    union { /* only forward reads it */
        const ffn_dynamic *in;
        void *out;
    } keep = {d};
    l->priv[which] = keep.out;
    l->slots[R_FFN_DOWN].mat->sliced = d != NULL;
    return MOTE_OK;
}

/* The list of what a token leaves out. */
static size_t skip_bytes(const layer *l) { return (l->n_ff / DYNAMIC_GROUP + 63) / 64 * 64; }

static size_t ffn_mem(const model *m, const layer *l, size_t n) {
    (void)m;
    return 2 * n * l->n_ff + 4 * 16 + POOL_THREADS_MAX * skip_bytes(l) / sizeof(float);
}

/* BLOOM-like scales divide the activations. */
static void divide_rows(fwd *f, const layer *l, float *h, act_fn act) {
    const float *by = l->slots[R_FFN_ACT].vec;
    size_t from, to;
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < l->n_ff; i++) h[r * l->n_ff + i] = act_apply(act, h[r * l->n_ff + i]) / by[i];
    team_barrier(&f->t);
}

/* gate and up of one token or many, up being 0 where groups are left out. One token's rows of up are not even read there, and what is left
 * in place of up is the product of both: then true is returned. */
static bool gate_and_up(fwd *f, const layer *l, const ffn_dynamic *d, const linear_in *in, float *h) {
    const size_t n = f->n, n_ff = l->n_ff;
    const linear_out outs[2] = {slot_out(&l->slots[R_FFN_GATE], h, n_ff), slot_out(&l->slots[R_FFN_UP], h + n * n_ff, n_ff)};
    if (!d) {
        op_linear(&f->t, in, n, outs, 2);
        return false;
    }
    uint8_t *skip = bump_bytes(&f->mem, POOL_THREADS_MAX * skip_bytes(l));
    if (n == 1) {
        op_gated_live(&f->t, in, &outs[0], &outs[1], &(live_rows){DYNAMIC_GROUP, d->act, dynamic_skips, d, skip});
        return true;
    }
    skip += (size_t)f->t.ith * skip_bytes(l); /* each thread has tokens of its own */
    op_linear(&f->t, in, n, outs, 2);
    size_t from, to;
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, n, &from, &to);
    for (size_t r = from; r < to; r++) {
        if (!dynamic_choose(d, f->t.kern, h + r * n_ff, skip)) continue;
        for (size_t g = 0; g < d->n_groups; g++)
            if (skip[g]) memset(h + (n + r) * n_ff + g * DYNAMIC_GROUP, 0, DYNAMIC_GROUP * sizeof *h);
    }
    team_barrier(&f->t);
    return false;
}

static void ffn_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t n = f->n, n_ff = l->n_ff, mark = bump_mark(&f->mem);
    float *h = bump_f32(&f->mem, 2 * n * n_ff);
    act_fn act = f->m->arch->act;
    linear_in down = {.x = h, .ld = n_ff, .act = act, .norm = {0}};
    if (has(l, R_FFN_GATE)) {
        down.zeros = l->priv[which] != NULL;
        if (gate_and_up(f, l, l->priv[which], in, h)) {
            down.x = h + n * n_ff;
            down.act = ACT_NONE;
        } else {
            down.up = h + n * n_ff;
            down.ld_up = n_ff;
        }
    } else {
        bool fused = fused_gate(l);
        size_t ld = fused ? 2 * n_ff : n_ff;
        linear_out out = slot_out(&l->slots[R_FFN_UP], h, ld);
        op_linear(&f->t, in, n, &out, 1);
        down.ld = ld;
        if (fused) {
            down.up = h + n_ff;
            down.ld_up = ld;
        } else if (has(l, R_FFN_ACT)) {
            divide_rows(f, l, h, act);
            down.act = ACT_NONE;
        }
    }
    linear_out o = slot_sink(&l->slots[R_FFN_DOWN], sk);
    op_linear(&f->t, &down, n, &o, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_ffn = {.name = "ffn", .bind = ffn_bind, .mem_floats = ffn_mem, .forward = ffn_forward};
