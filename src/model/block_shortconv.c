/* block_shortconv.c: LFM2's gated short convolution: [B, C, x] = W_in u; y = W_out (C · conv(B · x)).
 * Source: Liquid AI, LFM2 technical report (2025), §2. */
#include "model/ssm.h"

struct shortconv {
    ssm_conv conv;
};

static mote_status shortconv_bind(model *m, layer *l, int which, mote_error *err) {
    size_t n_embd = m->hp.n_embd;
    struct shortconv *p = ARENA_NEW(&m->mem, struct shortconv);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(bind_mat(l, R_SHORTCONV_IN, n_embd, 3 * n_embd, 1, true, err));
    TRY(bind_mat(l, R_SHORTCONV_OUT, n_embd, n_embd, 1, true, err));
    TRY(ssm_conv_bind(m, l, R_SHORTCONV, m->hp.shortconv_l, n_embd, &p->conv, err));
    l->priv[which] = p;
    return m->hp.causal ? ssm_set_state(l, which, ssm_conv_floats(&p->conv), 0, 0, err) : MOTE_OK;
}

static size_t shortconv_mem_floats(const model *m, const layer *l, size_t n) {
    (void)l;
    return n * 4 * m->hp.n_embd + 2 * 16;
}

/* One thread's channels of a segment: everything between the two projections needs no other channel. */
static void mix(const fwd *f, const layer *l, int which, const model_seg *g, float *bcx, float *y, size_t from, size_t to) {
    const struct shortconv *p = l->priv[which];
    size_t n = p->conv.n, ld = 3 * n;
    for (size_t r = 0; r < g->n; r++) {
        float *b = bcx + r * ld + from;
        ssm_act(&f->t, ACT_NONE, b, b, b + 2 * n, to - from);
    }
    if (f->m->hp.causal) ssm_conv_run(&f->t, &p->conv, fwd_state(f, l, which, g->seq), bcx, ld, y, n, g->n, from, to);
    else ssm_conv_run_centered(&f->t, &p->conv, bcx, ld, y, n, g->n, from, to);
    for (size_t r = 0; r < g->n; r++) {
        float *row = y + r * n + from;
        ssm_act(&f->t, ACT_NONE, row, row, bcx + r * ld + n + from, to - from);
    }
}

static void shortconv_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t n = f->m->hp.n_embd, mark = bump_mark(&f->mem), from, to, row = 0;
    float *bcx = bump_f32(&f->mem, f->n * 3 * n), *y = bump_f32(&f->mem, f->n * n);
    linear_out first = slot_out(&l->slots[R_SHORTCONV_IN], bcx, 3 * n);
    op_linear(&f->t, in, f->n, &first, 1);
    team_enter(&f->t, PROF_CONV);
    pool_share(n, SSM_STEP, f->t.ith, f->t.nth, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        mix(f, l, which, &f->b->segs[i], bcx + row * 3 * n, y + row * n, from, to);
        row += f->b->segs[i].n;
    }
    team_barrier(&f->t);
    linear_in yin = {.x = y, .ld = n};
    linear_out out = slot_sink(&l->slots[R_SHORTCONV_OUT], sk);
    op_linear(&f->t, &yin, f->n, &out, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_shortconv = {.name = "shortconv", .bind = shortconv_bind, .mem_floats = shortconv_mem_floats, .forward = shortconv_forward};
