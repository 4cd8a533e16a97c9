/* block_plamo2.c: PLaMo 2's state space layer: Mamba-2's heads with one decay each, but dt, B and C come from the
 * convolved x through a projection, as in Mamba, and are normed. The first projection holds [z, x] head by head.
 * Source: the model card and code of PLaMo 2 (Preferred Networks 2025). */
#include "model/ssm.h"

struct plamo2 {
    ssm_conv conv;
};

/* The rank of dt's projection is not in the file. */
static size_t dt_dim(const model *m) { return MAX((size_t)64, m->hp.n_embd / 16); }
static size_t x_rows(const model *m) { return 2 * m->hp.d_state + dt_dim(m); }
static size_t head_dim(const model *m) { return m->hp.d_inner / m->hp.dt_rank; }

static mote_status plamo2_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    struct plamo2 *p = ARENA_NEW(&m->mem, struct plamo2);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (h->d_inner == 0 || h->d_state == 0 || h->dt_rank == 0 || h->d_inner % h->dt_rank)
        FAIL(err, MOTE_E_RANGE, "layer %zu: state space of %zu channels in %zu heads, %zu states", l->index, h->d_inner, h->dt_rank, h->d_state);
    TRY(bind_mat(l, R_SSM_IN, h->n_embd, 2 * h->d_inner, 1, true, err));
    TRY(bind_mat(l, R_SSM_X, h->d_inner, x_rows(m), 1, true, err));
    TRY(bind_mat(l, R_SSM_DT, dt_dim(m), h->dt_rank, 1, true, err));
    TRY(bind_mat(l, R_SSM_OUT, h->d_inner, h->n_embd, 1, true, err));
    TRY(bind_vec(l, R_SSM_A, h->dt_rank, true, err));
    TRY(bind_vec(l, R_SSM_D, h->dt_rank, true, err));
    TRY(bind_vec(l, R_SSM_DT_NORM, dt_dim(m), true, err));
    TRY(bind_vec(l, R_SSM_B_NORM, h->d_state, true, err));
    TRY(bind_vec(l, R_SSM_C_NORM, h->d_state, true, err));
    TRY(ssm_conv_bind(m, l, R_SSM_CONV, h->d_conv, h->d_inner, &p->conv, err));
    p->conv.act = ACT_SILU;
    l->priv[which] = p;
    size_t floats = ssm_conv_floats(&p->conv) + ssm_scan_floats(h->dt_rank, 1, h->d_state);
    return ssm_set_state(l, which, floats, h->d_inner, h->d_state + KERN_CHUNK, err);
}

struct plamo2_mem {
    float *zx, *x, *bcd, *dt, *decay, *y; /* bcd: [B, C, dt] before dt's projection */
};

static struct plamo2_mem lay_out(const model *m, size_t n, bump *b) {
    size_t d = m->hp.d_inner;
    struct plamo2_mem r;
    r.zx = bump_f32(b, n * 2 * d);
    r.x = bump_f32(b, n * d);
    r.bcd = bump_f32(b, n * x_rows(m));
    r.dt = bump_f32(b, n * m->hp.dt_rank);
    r.decay = bump_f32(b, n * m->hp.dt_rank);
    r.y = bump_f32(b, n * d);
    return r;
}

static size_t plamo2_mem_floats(const model *m, const layer *l, size_t n) {
    (void)l;
    bump b = {0};
    (void)lay_out(m, n, &b);
    return b.used / sizeof(float) + 16;
}

/* Head h's x lies behind its z: at channel c of head h, x is at c + (h + 1) · dim. */
static void convolve(fwd *f, const layer *l, int which, const struct plamo2_mem *b) {
    const struct plamo2 *p = l->priv[which];
    size_t d = f->m->hp.d_inner, dim = head_dim(f->m), from, to, row = 0;
    team_enter(&f->t, PROF_CONV);
    fwd_share(f, f->m->hp.dt_rank, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        for (size_t h = from; h < to; h++)
            ssm_conv_run(&f->t, &p->conv, fwd_state(f, l, which, g->seq), b->zx + row * 2 * d + (h + 1) * dim, 2 * d, b->x + row * d, d, g->n, h * dim, (h + 1) * dim);
        row += g->n;
    }
    team_barrier(&f->t);
}

static void project(fwd *f, const layer *l, const struct plamo2_mem *b) {
    const hparams *h = &f->m->hp;
    size_t ld = x_rows(f->m), from, to;
    linear_in in = {.x = b->x, .ld = h->d_inner};
    linear_out out = slot_out(&l->slots[R_SSM_X], b->bcd, ld);
    op_linear(&f->t, &in, f->n, &out, 1);
    norm nb = layer_norm_of(f->m, l, R_SSM_B_NORM), nc = layer_norm_of(f->m, l, R_SSM_C_NORM);
    team_enter(&f->t, PROF_NORM);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *pb = b->bcd + r * ld, *pc = pb + h->d_state;
        norm_row_local(&f->t, &nb, pb, pb, h->d_state);
        norm_row_local(&f->t, &nc, pc, pc, h->d_state);
    }
    linear_in dt_in = {.x = b->bcd + 2 * h->d_state, .ld = ld, .norm = layer_norm_of(f->m, l, R_SSM_DT_NORM)};
    linear_out dt_out = slot_out(&l->slots[R_SSM_DT], b->dt, h->dt_rank);
    op_linear(&f->t, &dt_in, f->n, &dt_out, 1); /* its barrier is also that of the norms above */
}

static void scan(fwd *f, const layer *l, int which, const struct plamo2_mem *b) {
    const struct plamo2 *p = l->priv[which];
    const hparams *h = &f->m->hp;
    size_t dim = head_dim(f->m), from, to;
    ssm_scan s = {.n_head = h->dt_rank, .dim = dim, .n_key = 1, .n = h->d_state, .x = b->x, .ld = h->d_inner, .in = b->bcd,
                  .out = b->bcd + h->d_state, .ld_key = x_rows(f->m), .decay = b->decay, .ld_decay = h->dt_rank, .gain = b->dt, .ld_gain = h->dt_rank,
                  .skip = l->slots[R_SSM_D].vec, .y = b->y, .ld_y = h->d_inner, .gate = ACT_SILU, .z = b->zx, .ld_z = 2 * h->d_inner, .z_head = 2 * dim};
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++) ssm_steps(&f->t, b->dt + r * h->dt_rank, b->decay + r * h->dt_rank, NULL, l->slots[R_SSM_A].vec, h->dt_rank);
    team_barrier(&f->t);
    ssm_scan_run(f, l, which, ssm_conv_floats(&p->conv), &s);
}

static void plamo2_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t d = f->m->hp.d_inner, mark = bump_mark(&f->mem);
    struct plamo2_mem b = lay_out(f->m, f->n, &f->mem);
    linear_out zx = slot_out(&l->slots[R_SSM_IN], b.zx, 2 * d);
    op_linear(&f->t, in, f->n, &zx, 1);
    convolve(f, l, which, &b);
    project(f, l, &b);
    scan(f, l, which, &b);
    linear_in y = {.x = b.y, .ld = d};
    linear_out out = slot_sink(&l->slots[R_SSM_OUT], sk);
    op_linear(&f->t, &y, f->n, &out, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_plamo2 = {.name = "plamo2", .bind = plamo2_bind, .mem_floats = plamo2_mem_floats, .forward = plamo2_forward};
