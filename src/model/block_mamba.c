/* block_mamba.c: the selective state space layer of Mamba (1): every channel has d_state states of its own, whose
 * decay, input and output depend on the token. Source: Gu and Dao 2023, algorithm 2 and figure 3; with norms on dt,
 * B and C: Jamba (Lieber et al. 2024, §6.3), Falcon Mamba. */
#include "model/ssm.h"

struct mamba {
    ssm_conv conv;
    const float *a; /* tiles of [d_state][w], as the state lies */
};

static size_t x_rows(const model *m) { return m->hp.dt_rank + 2 * m->hp.d_state; }

/* A comes as [d_inner, d_state]. */
static mote_status lay_out_a(model *m, layer *l, struct mamba *p, mote_error *err) {
    size_t n = m->hp.d_inner, ns = m->hp.d_state;
    float *a = ARENA_NEW_N(&m->mem, float, n * ns); /* no overflow: bound with this size */
    if (!a) FAIL(err, MOTE_E_MEMORY, "out of memory for layer %zu", l->index);
    for (size_t first = 0; first < n; first += SSM_TILE) {
        size_t w = MIN(n - first, (size_t)SSM_TILE);
        for (size_t i = 0; i < ns; i++)
            for (size_t j = 0; j < w; j++) a[first * ns + i * w + j] = l->slots[R_SSM_A].vec[(first + j) * ns + i];
    }
    p->a = a;
    return MOTE_OK;
}

static mote_status mamba_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    struct mamba *p = ARENA_NEW(&m->mem, struct mamba);
    size_t n_a;
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (h->d_inner == 0 || h->d_state == 0 || h->dt_rank == 0 || !ckd_mul_size(&n_a, h->d_inner, h->d_state))
        FAIL(err, MOTE_E_RANGE, "layer %zu: state space of %zu channels, %zu states, rank %zu", l->index, h->d_inner, h->d_state, h->dt_rank);
    TRY(bind_mat(l, R_SSM_IN, h->n_embd, 2 * h->d_inner, 1, true, err));
    TRY(bind_mat(l, R_SSM_X, h->d_inner, x_rows(m), 1, true, err));
    TRY(bind_mat(l, R_SSM_DT, h->dt_rank, h->d_inner, 1, true, err));
    TRY(bind_mat(l, R_SSM_OUT, h->d_inner, h->n_embd, 1, true, err));
    TRY(bind_vec(l, R_SSM_A, n_a, true, err));
    TRY(bind_vec(l, R_SSM_D, h->d_inner, true, err));
    bool norms = has(l, R_SSM_DT_NORM) || has(l, R_SSM_B_NORM) || has(l, R_SSM_C_NORM);
    TRY(bind_vec(l, R_SSM_DT_NORM, h->dt_rank, norms, err));
    TRY(bind_vec(l, R_SSM_B_NORM, h->d_state, norms, err));
    TRY(bind_vec(l, R_SSM_C_NORM, h->d_state, norms, err));
    TRY(ssm_conv_bind(m, l, R_SSM_CONV, h->d_conv, h->d_inner, &p->conv, err));
    p->conv.act = ACT_SILU;
    TRY(lay_out_a(m, l, p, err));
    l->priv[which] = p;
    return ssm_set_state(l, which, ssm_conv_floats(&p->conv), h->d_inner, h->d_state, err);
}

struct mamba_mem {
    float *xz, *x, *dbc, *dt, *y; /* x: after the convolution; dbc: [dt, B, C] before dt's projection */
};

static struct mamba_mem lay_out(const model *m, size_t n, bump *b) {
    size_t d = m->hp.d_inner;
    struct mamba_mem r;
    r.xz = bump_f32(b, n * 2 * d);
    r.x = bump_f32(b, n * d);
    r.dbc = bump_f32(b, n * x_rows(m));
    r.dt = bump_f32(b, n * d);
    r.y = bump_f32(b, n * d);
    return r;
}

static size_t mamba_mem_floats(const model *m, const layer *l, size_t n) {
    (void)l;
    bump b = {0};
    (void)lay_out(m, n, &b);
    return b.used / sizeof(float) + 16;
}

static void convolve(fwd *f, const layer *l, int which, const struct mamba_mem *b) {
    const struct mamba *p = l->priv[which];
    size_t d = f->m->hp.d_inner, from, to, row = 0;
    team_enter(&f->t, PROF_CONV);
    pool_share(d, SSM_STEP, f->t.ith, f->t.nth, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        ssm_conv_run(&f->t, &p->conv, fwd_state(f, l, which, g->seq), b->xz + row * 2 * d, 2 * d, b->x + row * d, d, g->n, from, to);
        row += g->n;
    }
    team_barrier(&f->t);
}

/* dt, B and C of all rows; the norms of B and C are this thread's rows' and done before the projection's barrier. */
static void project(fwd *f, const layer *l, const struct mamba_mem *b) {
    const hparams *h = &f->m->hp;
    size_t ld = x_rows(f->m), from, to;
    linear_in in = {.x = b->x, .ld = h->d_inner};
    linear_out out = slot_out(&l->slots[R_SSM_X], b->dbc, ld);
    op_linear(&f->t, &in, f->n, &out, 1);
    linear_in dt_in = {.x = b->dbc, .ld = ld};
    if (h->dt_b_c_rms || has(l, R_SSM_DT_NORM)) {
        norm nb = {NORM_RMS, l->slots[R_SSM_B_NORM].vec, NULL, h->eps}, nc = nb;
        nc.w = l->slots[R_SSM_C_NORM].vec;
        team_enter(&f->t, PROF_NORM);
        fwd_share(f, f->n, &from, &to);
        for (size_t r = from; r < to; r++) {
            float *pb = b->dbc + r * ld + h->dt_rank, *pc = pb + h->d_state;
            norm_row_local(&f->t, &nb, pb, pb, h->d_state);
            norm_row_local(&f->t, &nc, pc, pc, h->d_state);
        }
        dt_in.norm = (norm){NORM_RMS, l->slots[R_SSM_DT_NORM].vec, NULL, h->eps};
    }
    linear_out dt_out = slot_out(&l->slots[R_SSM_DT], b->dt, h->d_inner);
    op_linear(&f->t, &dt_in, f->n, &dt_out, 1);
}

/* One tile of channels over the tokens of one sequence. */
static void scan_tile(const fwd *f, const layer *l, const struct mamba *p, float *st, const struct mamba_mem *b, size_t first, size_t row, size_t n) {
    const hparams *h = &f->m->hp;
    const kern_table *kern = f->t.kern;
    size_t d = h->d_inner, ns = h->d_state, w = MIN(d - first, (size_t)SSM_TILE), ld = x_rows(f->m);
    float dx[SSM_TILE];
    for (size_t r = row; r < row + n; r++) {
        const float *x = b->x + r * d + first, *bc = b->dbc + r * ld + h->dt_rank;
        float *y = b->y + r * d + first, *dt = b->dt + r * d + first;
        kern->act(ACT_SOFTPLUS, dt, dt, NULL, w);
        kern->act(ACT_NONE, y, x, l->slots[R_SSM_D].vec + first, w);
        kern->act(ACT_NONE, dx, x, dt, w);
        kern->scan_each(&(kern_scan){.s = st + first * ns, .n = ns, .w = w, .decay = p->a + first * ns, .pace = dt, .in = bc, .out = bc + ns, .x = dx,
                                     .y = y, .add = true});
    }
}

static void scan(fwd *f, const layer *l, int which, const struct mamba_mem *b) {
    const struct mamba *p = l->priv[which];
    size_t from, to, row = 0;
    team_enter(&f->t, PROF_SCAN);
    pool_share(f->m->hp.d_inner, SSM_TILE, f->t.ith, f->t.nth, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        float *st = (float *)fwd_state(f, l, which, g->seq) + ssm_conv_floats(&p->conv);
        for (size_t first = from; first < to; first += SSM_TILE) scan_tile(f, l, p, st, b, first, row, g->n);
        row += g->n;
    }
    team_barrier(&f->t);
}

static void mamba_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t d = f->m->hp.d_inner, mark = bump_mark(&f->mem);
    struct mamba_mem b = lay_out(f->m, f->n, &f->mem);
    linear_out xz = slot_out(&l->slots[R_SSM_IN], b.xz, 2 * d);
    op_linear(&f->t, in, f->n, &xz, 1);
    convolve(f, l, which, &b);
    project(f, l, &b);
    scan(f, l, which, &b);
    linear_in gated = {.x = b.xz + d, .ld = 2 * d, .act = ACT_SILU, .up = b.y, .ld_up = d};
    linear_out out = slot_sink(&l->slots[R_SSM_OUT], sk);
    op_linear(&f->t, &gated, f->n, &out, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_mamba = {.name = "mamba", .bind = mamba_bind, .mem_floats = mamba_mem_floats, .forward = mamba_forward};
