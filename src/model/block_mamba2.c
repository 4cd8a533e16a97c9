/* block_mamba2.c: the state space layer of Mamba-2: heads with one decay each, B and C shared by groups of heads,
 * all inputs from one projection [z, x, B, C, dt], then a gated norm per group. Source: Dao and Gu 2024, §7. */
#include "model/ssm.h"

struct mamba2 {
    ssm_conv conv; /* over x, B and C */
};

static size_t conv_dim(const model *m) { return m->hp.d_inner + 2 * m->hp.n_group * m->hp.d_state; }
static size_t in_rows(const model *m) { return m->hp.d_inner + conv_dim(m) + m->hp.dt_rank; }

static mote_status check_sizes(const model *m, const layer *l, mote_error *err) {
    const hparams *h = &m->hp;
    size_t groups;
    if (h->d_inner == 0 || h->d_state == 0 || h->dt_rank == 0 || h->n_group == 0 || h->d_inner % h->dt_rank || h->dt_rank % h->n_group ||
        !ckd_mul_size(&groups, 2 * h->n_group, h->d_state) || groups > SIZE_MAX / 4)
        FAIL(err, MOTE_E_RANGE, "layer %zu: state space of %zu channels in %zu heads and %zu groups, %zu states", l->index, h->d_inner, h->dt_rank, h->n_group, h->d_state);
    return MOTE_OK;
}

static mote_status mamba2_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    TRY(check_sizes(m, l, err));
    struct mamba2 *p = ARENA_NEW(&m->mem, struct mamba2);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(bind_mat(l, R_SSM_IN, h->n_embd, in_rows(m), 1, true, err));
    TRY(bind_mat(l, R_SSM_OUT, h->d_inner, h->n_embd, 1, true, err));
    TRY(bind_bias(l, R_SSM_DT, h->dt_rank, true, err));
    TRY(bind_vec(l, R_SSM_A, h->dt_rank, true, err));
    TRY(bind_vec(l, R_SSM_D, h->dt_rank, true, err));
    TRY(bind_vec(l, R_SSM_NORM, h->d_inner, false, err));
    TRY(ssm_conv_bind(m, l, R_SSM_CONV, h->d_conv, conv_dim(m), &p->conv, err));
    p->conv.act = ACT_SILU;
    l->priv[which] = p;
    return ssm_set_state(l, which, ssm_conv_floats(&p->conv), h->d_inner, h->d_state, err);
}

struct mamba2_mem {
    float *in, *xbc, *decay, *y;
};

static struct mamba2_mem lay_out(const model *m, size_t n, bump *b) {
    struct mamba2_mem r;
    r.in = bump_f32(b, n * in_rows(m));
    r.xbc = bump_f32(b, n * conv_dim(m));
    r.decay = bump_f32(b, n * m->hp.dt_rank);
    r.y = bump_f32(b, n * m->hp.d_inner);
    return r;
}

static size_t mamba2_mem_floats(const model *m, const layer *l, size_t n) {
    (void)l;
    bump b = {0};
    (void)lay_out(m, n, &b);
    return b.used / sizeof(float) + 16;
}

static ssm_heads heads_of(const model *m, const layer *l, const struct mamba2_mem *b) {
    const hparams *h = &m->hp;
    const float *bs = b->xbc + h->d_inner;
    size_t n = conv_dim(m);
    return (ssm_heads){.n_head = h->dt_rank, .dim = h->d_inner / h->dt_rank, .n_group = h->n_group, .d_state = h->d_state,
                       .x = b->xbc, .ld = n, .b = bs, .c = bs + h->n_group * h->d_state, .ld_bc = n,
                       .dt = b->in + h->d_inner + n, .ld_dt = in_rows(m), .decay = b->decay, .dt_bias = l->slots[R_SSM_DT].bias,
                       .a = l->slots[R_SSM_A].vec, .d = l->slots[R_SSM_D].vec, .y = b->y, .ld_y = h->d_inner};
}

/* The convolution by channels; the heads' steps and decays by rows, which need nothing of it. */
static void convolve(fwd *f, const layer *l, int which, const ssm_heads *hs, const struct mamba2_mem *b) {
    const struct mamba2 *p = l->priv[which];
    size_t n = p->conv.n, ld = in_rows(f->m), from, to, row = 0;
    team_enter(&f->t, PROF_CONV);
    pool_share(n, SSM_TILE, f->t.ith, f->t.nth, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        const float *x = b->in + row * ld + f->m->hp.d_inner;
        ssm_conv_run(&f->t, &p->conv, fwd_state(f, l, which, g->seq), x, ld, b->xbc + row * n, n, g->n, from, to);
        row += g->n;
    }
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++) ssm_heads_prepare(&f->t, hs, r);
    team_barrier(&f->t);
}

static void scan(fwd *f, const layer *l, int which, const ssm_heads *hs) {
    const struct mamba2 *p = l->priv[which];
    size_t from, to, row = 0;
    team_enter(&f->t, PROF_SCAN);
    fwd_share(f, ssm_heads_tiles(hs), &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        float *st = (float *)fwd_state(f, l, which, g->seq) + ssm_conv_floats(&p->conv);
        for (size_t tile = from; tile < to; tile++) ssm_heads_run(&f->t, hs, st, tile, row, g->n);
        row += g->n;
    }
    team_barrier(&f->t);
}

/* y = norm(y · silu(z)), each group of channels by itself. */
static void gated_norm(fwd *f, const layer *l, const struct mamba2_mem *b) {
    const hparams *h = &f->m->hp;
    size_t n = h->d_inner / h->n_group, ld = in_rows(f->m), from, to;
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n * h->n_group, &from, &to);
    for (size_t i = from; i < to; i++) {
        size_t row = i / h->n_group, first = i % h->n_group * n;
        float *y = b->y + row * h->d_inner + first;
        norm nm = {NORM_RMS, l->slots[R_SSM_NORM].vec + first, NULL, h->eps};
        ssm_act(&f->t, ACT_SILU, y, b->in + row * ld + first, y, n);
        norm_row_local(&f->t, &nm, y, y, n);
    }
    team_barrier(&f->t);
}

static void mamba2_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t d = f->m->hp.d_inner, ld = in_rows(f->m), mark = bump_mark(&f->mem);
    struct mamba2_mem b = lay_out(f->m, f->n, &f->mem);
    linear_out first = slot_out(&l->slots[R_SSM_IN], b.in, ld);
    op_linear(&f->t, in, f->n, &first, 1);
    ssm_heads hs = heads_of(f->m, l, &b);
    convolve(f, l, which, &hs, &b);
    scan(f, l, which, &hs);
    linear_in gated = {.x = b.in, .ld = ld, .act = ACT_SILU, .up = b.y, .ld_up = d};
    if (has(l, R_SSM_NORM)) {
        gated_norm(f, l, &b);
        gated = (linear_in){.x = b.y, .ld = d};
    }
    linear_out out = slot_sink(&l->slots[R_SSM_OUT], sk);
    op_linear(&f->t, &gated, f->n, &out, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_mamba2 = {.name = "mamba2", .bind = mamba2_bind, .mem_floats = mamba2_mem_floats, .forward = mamba2_forward};
