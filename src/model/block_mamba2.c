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
    size_t floats = ssm_conv_floats(&p->conv) + ssm_scan_floats(h->dt_rank, h->n_group, h->d_state);
    return ssm_set_state(l, which, floats, h->d_inner, h->d_state + KERN_CHUNK, err);
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

static ssm_scan scan_of(const model *m, const layer *l, const struct mamba2_mem *b) {
    const hparams *h = &m->hp;
    const float *bs = b->xbc + h->d_inner;
    size_t n = conv_dim(m), dim = h->d_inner / h->dt_rank;
    return (ssm_scan){.n_head = h->dt_rank, .dim = dim, .n_key = h->n_group, .n = h->d_state, .x = b->xbc, .ld = n,
                      .in = bs, .out = bs + h->n_group * h->d_state, .ld_key = n, .decay = b->decay, .ld_decay = h->dt_rank,
                      .gain = b->in + h->d_inner + n, .ld_gain = in_rows(m), .skip = l->slots[R_SSM_D].vec, .y = b->y, .ld_y = h->d_inner,
                      .gate = ACT_SILU, .z = b->in, .ld_z = in_rows(m), .z_head = dim};
}

/* The convolution by channels; the heads' steps and decays by rows, which need nothing of it. */
static void convolve(fwd *f, const layer *l, int which, const struct mamba2_mem *b) {
    const struct mamba2 *p = l->priv[which];
    const hparams *h = &f->m->hp;
    size_t n = p->conv.n, ld = in_rows(f->m), from, to, row = 0;
    team_enter(&f->t, PROF_CONV);
    pool_share(n, SSM_STEP, f->t.ith, f->t.nth, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        const float *x = b->in + row * ld + h->d_inner;
        ssm_conv_run(&f->t, &p->conv, fwd_state(f, l, which, g->seq), x, ld, b->xbc + row * n, n, g->n, from, to);
        row += g->n;
    }
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++)
        ssm_steps(&f->t, b->in + r * ld + h->d_inner + n, b->decay + r * h->dt_rank, l->slots[R_SSM_DT].bias, l->slots[R_SSM_A].vec, h->dt_rank);
    team_barrier(&f->t);
}

/* Each group of channels by itself. */
static void norm_groups(fwd *f, const layer *l, float *y) {
    const hparams *h = &f->m->hp;
    size_t n = h->d_inner / h->n_group, from, to;
    team_enter(&f->t, PROF_NORM);
    fwd_share(f, f->n * h->n_group, &from, &to);
    for (size_t i = from; i < to; i++) {
        norm nm = {NORM_RMS, l->slots[R_SSM_NORM].vec + i % h->n_group * n, NULL, h->eps};
        norm_row_local(&f->t, &nm, y + i * n, y + i * n, n);
    }
    team_barrier(&f->t);
}

static void mamba2_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t d = f->m->hp.d_inner, ld = in_rows(f->m), mark = bump_mark(&f->mem);
    struct mamba2_mem b = lay_out(f->m, f->n, &f->mem);
    linear_out first = slot_out(&l->slots[R_SSM_IN], b.in, ld);
    op_linear(&f->t, in, f->n, &first, 1);
    convolve(f, l, which, &b);
    ssm_scan scan = scan_of(f->m, l, &b);
    const struct mamba2 *p = l->priv[which];
    ssm_scan_run(f, l, which, ssm_conv_floats(&p->conv), &scan);
    linear_in gated = {.x = b.y, .ld = d};
    if (has(l, R_SSM_NORM) && f->m->hp.n_group == 1) gated.norm = (norm){NORM_RMS, l->slots[R_SSM_NORM].vec, NULL, f->m->hp.eps};
    else if (has(l, R_SSM_NORM)) norm_groups(f, l, b.y);
    linear_out out = slot_sink(&l->slots[R_SSM_OUT], sk);
    op_linear(&f->t, &gated, f->n, &out, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_mamba2 = {.name = "mamba2", .bind = mamba2_bind, .mem_floats = mamba2_mem_floats, .forward = mamba2_forward};
