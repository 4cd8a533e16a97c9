/* block_delta.c: linear attention by the gated delta rule, as Qwen3-Next / Qwen 3.5 (one decay per head) and Kimi
 * Linear (one decay per key channel) have it. Per head, with state S[key][value], q and k of unit length:
 *     S = decay · S;   d = beta · (v - k S);   S = S + k d;   y = q S / sqrt(dim_k)
 * then a gated norm per head. Source: Yang et al. 2024, "Gated Delta Networks", eq. 10; Kimi Team 2025, §3.
 *
 * One decay per head: in chunks (ssm.h). Kimi's decays per channel do not factor out of a chunk's products: there a
 * head is cut into tiles of value channels, which are independent of each other and gone through token by token. */
#include "model/ssm.h"

#include <math.h>

struct delta {
    size_t n_k, n_v;       /* heads of queries and keys, of values */
    size_t dim_k, dim_v;
    bool per_channel;      /* Kimi: decays per key channel, own projections and convolutions for q, k and v */
    bool tiled;            /* value head h reads key head h % n_k (Qwen 3.5), else h / (n_v / n_k) */
    ssm_conv conv[3];      /* Kimi: q, k, v; else the first over [q, k, v] */
};

static size_t q_width(const struct delta *p) { return p->n_k * p->dim_k; }
static size_t v_width(const struct delta *p) { return p->n_v * p->dim_v; }
static size_t qkv_width(const struct delta *p) { return 2 * q_width(p) + v_width(p); }
static size_t tiles_per_head(const struct delta *p) { return (p->dim_v + SSM_TILE - 1) / SSM_TILE; }

static struct delta *new_delta(model *m, layer *l, int which, mote_error *err) {
    struct delta *p = ARENA_NEW(&m->mem, struct delta);
    if (!p) (void)ERR(err, MOTE_E_MEMORY, "out of memory");
    l->priv[which] = p;
    return p;
}

static size_t all_conv_floats(const struct delta *p) {
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        if (p->conv[i].w) n += ssm_conv_floats(&p->conv[i]);
    return n;
}

static mote_status set_state(layer *l, int which, const struct delta *p, mote_error *err) {
    size_t conv = all_conv_floats(p);
    if (p->per_channel) return ssm_set_state(l, which, conv, v_width(p), p->dim_k, err);
    return ssm_set_state(l, which, conv + ssm_scan_floats(p->n_v, p->n_k, p->dim_k), v_width(p), p->dim_k + KERN_CHUNK, err);
}

static void drop_scales(layer *l, const role *r, size_t n) {
    for (size_t i = 0; i < n; i++) l->slots[r[i]].scale = NULL;
}

static mote_status gdn_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    size_t n_embd = h->n_embd, heads = h->dt_rank;
    struct delta *p = new_delta(m, l, which, err);
    if (!p) return MOTE_E_MEMORY;
    if (heads == 0 || h->n_group == 0 || heads % h->n_group || h->d_state == 0 || h->d_inner == 0 || h->d_inner % heads)
        FAIL(err, MOTE_E_RANGE, "layer %zu: a delta net of %zu channels, %zu key heads of %zu and %zu value heads", l->index, h->d_inner, h->n_group, h->d_state, heads);
    *p = (struct delta){.n_k = h->n_group, .n_v = heads, .dim_k = h->d_state, .dim_v = h->d_inner / heads, .tiled = has(l, R_SSM_ALPHA)};
    TRY(bind_mat(l, R_ATTN_QKV, n_embd, qkv_width(p), 1, true, err));
    TRY(bind_mat(l, R_ATTN_GATE, n_embd, v_width(p), 1, true, err));
    l->slots[R_SSM_IN].used = true; /* older files carry the same projections once more, interleaved */
    if (p->tiled) {
        TRY(bind_mat(l, R_SSM_ALPHA, n_embd, heads, 1, true, err));
        TRY(bind_mat(l, R_SSM_BETA, n_embd, heads, 1, true, err));
    } else {
        static const role plain[] = {R_ATTN_QKV, R_ATTN_GATE, R_SSM_BA, R_SSM_OUT};
        TRY(bind_mat(l, R_SSM_BA, n_embd, 2 * heads, 1, true, err));
        drop_scales(l, plain, COUNT_OF(plain));
    }
    TRY(bind_bias(l, R_SSM_DT, heads, true, err));
    TRY(bind_vec(l, R_SSM_A, heads, true, err));
    TRY(bind_vec(l, R_SSM_NORM, p->dim_v, true, err));
    TRY(bind_mat(l, R_SSM_OUT, v_width(p), n_embd, 1, true, err));
    TRY(ssm_conv_bind(m, l, R_SSM_CONV, h->d_conv, qkv_width(p), &p->conv[0], err));
    p->conv[0].act = ACT_SILU;
    return set_state(l, which, p, err);
}

static mote_status kda_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    size_t n_embd = h->n_embd, heads = 0;
    struct delta *p = new_delta(m, l, which, err);
    if (!p) return MOTE_E_MEMORY;
    for (size_t il = 0; il < h->n_layer; il++) heads = MAX(heads, m->layers[il].n_head); /* recurrent layers say 0 */
    if (heads == 0 || h->kda_dim == 0 || !has(l, R_SSM_F_A) || !has(l, R_SSM_G_A))
        FAIL(err, MOTE_E_FORMAT, "layer %zu: a delta attention of %zu heads of %zu channels without its low-rank gates", l->index, heads, h->kda_dim);
    *p = (struct delta){.n_k = heads, .n_v = heads, .dim_k = h->kda_dim, .dim_v = h->kda_dim, .per_channel = true};
    size_t d = q_width(p), rank_f = l->slots[R_SSM_F_A].mat->rows, rank_g = l->slots[R_SSM_G_A].mat->rows;
    static const role qkv[] = {R_ATTN_Q, R_ATTN_K, R_ATTN_V}, conv[] = {R_SSM_CONV_Q, R_SSM_CONV_K, R_SSM_CONV_V};
    static const role plain[] = {R_ATTN_Q, R_ATTN_K, R_ATTN_V, R_SSM_BETA, R_ATTN_OUT};
    for (int i = 0; i < 3; i++) {
        TRY(bind_mat(l, qkv[i], n_embd, d, 1, true, err));
        l->slots[qkv[i]].bias = NULL; /* not part of this attention */
        TRY(ssm_conv_bind(m, l, conv[i], h->d_conv, d, &p->conv[i], err));
        p->conv[i].act = ACT_SILU;
    }
    TRY(bind_mat(l, R_SSM_F_A, n_embd, rank_f, 1, true, err));
    TRY(bind_mat(l, R_SSM_F_B, rank_f, d, 1, true, err));
    TRY(bind_mat(l, R_SSM_G_A, n_embd, rank_g, 1, true, err));
    TRY(bind_mat(l, R_SSM_G_B, rank_g, d, 1, true, err));
    TRY(bind_mat(l, R_SSM_BETA, n_embd, heads, 1, true, err));
    TRY(bind_bias(l, R_SSM_DT, d, true, err));
    TRY(bind_vec(l, R_SSM_A, heads, true, err));
    TRY(bind_vec(l, R_SSM_NORM, p->dim_v, true, err));
    TRY(bind_mat(l, R_ATTN_OUT, d, n_embd, 1, true, err));
    drop_scales(l, plain, COUNT_OF(plain));
    return set_state(l, which, p, err);
}

/* qkv: before the convolution; mixed: after it. decay: before its exponential, one per head or per key channel. */
struct delta_mem {
    float *qkv, *mixed, *z, *decay, *beta, *raw, *y;
};

static size_t decay_width(const struct delta *p) { return p->per_channel ? q_width(p) : p->n_v; }
static size_t raw_width(const layer *l, const struct delta *p) {
    return p->per_channel ? l->slots[R_SSM_F_A].mat->rows + l->slots[R_SSM_G_A].mat->rows : 2 * p->n_v;
}

static struct delta_mem lay_out(const layer *l, const struct delta *p, size_t n, bump *b) {
    struct delta_mem r;
    r.qkv = bump_f32(b, n * qkv_width(p));
    r.mixed = bump_f32(b, n * qkv_width(p));
    r.z = bump_f32(b, n * v_width(p));
    r.decay = bump_f32(b, n * decay_width(p));
    r.beta = bump_f32(b, n * p->n_v);
    r.raw = bump_f32(b, n * raw_width(l, p));
    r.y = bump_f32(b, n * v_width(p));
    return r;
}

static size_t delta_mem_floats(const model *m, const layer *l, size_t n) {
    (void)m;
    bump b = {0};
    (void)lay_out(l, l->priv[0] ? l->priv[0] : l->priv[1], n, &b);
    return b.used / sizeof(float) + 16;
}

static void gdn_project(fwd *f, const layer *l, const struct delta *p, const linear_in *in, const struct delta_mem *b) {
    size_t nv = p->n_v, per = nv / p->n_k, from, to;
    linear_out o[4] = {slot_out(&l->slots[R_ATTN_QKV], b->qkv, qkv_width(p)), slot_out(&l->slots[R_ATTN_GATE], b->z, v_width(p))};
    if (p->tiled) {
        o[2] = slot_out(&l->slots[R_SSM_BETA], b->beta, nv);
        o[3] = slot_out(&l->slots[R_SSM_ALPHA], b->decay, nv);
    } else o[2] = slot_out(&l->slots[R_SSM_BA], b->raw, 2 * nv);
    op_linear(&f->t, in, f->n, o, p->tiled ? 4 : 3);
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n, &from, &to);
    for (size_t row = from; row < to; row++) {
        float *beta = b->beta + row * nv, *decay = b->decay + row * nv;
        for (size_t head = 0; head < nv && !p->tiled; head++) { /* each key head's betas, then its alphas */
            const float *ba = b->raw + row * 2 * nv + head / per * 2 * per + head % per;
            beta[head] = ba[0];
            decay[head] = ba[per];
        }
        ssm_act(&f->t, ACT_SIGMOID, beta, beta, NULL, nv);
        ssm_steps(&f->t, decay, decay, l->slots[R_SSM_DT].bias, l->slots[R_SSM_A].vec, nv);
    }
}

static void kda_project(fwd *f, const layer *l, const struct delta *p, const linear_in *in, const struct delta_mem *b) {
    size_t d = q_width(p), all = 3 * d, rank_f = l->slots[R_SSM_F_A].mat->rows, from, to;
    float *fa = b->raw, *ga = b->raw + f->n * rank_f;
    size_t rank_g = l->slots[R_SSM_G_A].mat->rows;
    linear_out o[6] = {slot_out(&l->slots[R_ATTN_Q], b->qkv, all), slot_out(&l->slots[R_ATTN_K], b->qkv + d, all),
                       slot_out(&l->slots[R_ATTN_V], b->qkv + 2 * d, all), slot_out(&l->slots[R_SSM_BETA], b->beta, p->n_v),
                       slot_out(&l->slots[R_SSM_F_A], fa, rank_f), slot_out(&l->slots[R_SSM_G_A], ga, rank_g)};
    op_linear(&f->t, in, f->n, o, 6);
    linear_in low = {.x = fa, .ld = rank_f};
    linear_out decay = slot_out(&l->slots[R_SSM_F_B], b->decay, d), gate = slot_out(&l->slots[R_SSM_G_B], b->z, d);
    op_linear(&f->t, &low, f->n, &decay, 1);
    low = (linear_in){.x = ga, .ld = rank_g};
    op_linear(&f->t, &low, f->n, &gate, 1);
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n * p->n_v, &from, &to);
    for (size_t i = from; i < to; i++) {
        size_t head = i % p->n_v;
        float *g = b->decay + i * p->dim_k;
        f->t.kern->axpy(g, l->slots[R_SSM_DT].bias + head * p->dim_k, 1, p->dim_k);
        ssm_act(&f->t, ACT_SOFTPLUS, g, g, NULL, p->dim_k);
        f->t.kern->scale(g, g, l->slots[R_SSM_A].vec[head], p->dim_k);
        (void)f->t.kern->exp_sum(g, 0, p->dim_k);
    }
    ssm_act(&f->t, ACT_SIGMOID, b->beta + from, b->beta + from, NULL, to - from);
}

/* First channel of unit u of the row [q heads, k heads, v heads]. */
static size_t channel_of(const struct delta *p, size_t u) {
    return u <= 2 * p->n_k ? u * p->dim_k : 2 * q_width(p) + (u - 2 * p->n_k) * p->dim_v;
}

/* Queries and keys to unit length: x / sqrt(sum x² + eps); queries also / sqrt(dim_k). */
static void normalise(const fwd *f, const struct delta *p, float *x, size_t head) {
    float by = 1 / sqrtf(f->t.kern->dot(x, x, p->dim_k) + f->m->hp.eps);
    f->t.kern->scale(x, x, head < p->n_k ? by / sqrtf((float)p->dim_k) : by, p->dim_k);
}

/* Whole heads to a thread, which can then norm what it has convolved. */
static void convolve(fwd *f, const layer *l, int which, const struct delta *p, const struct delta_mem *b) {
    size_t ld = qkv_width(p), row = 0, u0, u1;
    team_enter(&f->t, PROF_CONV);
    fwd_share(f, 2 * p->n_k + p->n_v, &u0, &u1);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        float *st = fwd_state(f, l, which, g->seq);
        size_t first = 0;
        for (int c = 0; c < 3 && p->conv[c].w; c++) {
            size_t n = p->conv[c].n, from = MIN(MAX(channel_of(p, u0), first) - first, n), to = MIN(MAX(channel_of(p, u1), first) - first, n);
            ssm_conv_run(&f->t, &p->conv[c], st, b->qkv + row * ld + first, ld, b->mixed + row * ld + first, ld, g->n, from, to);
            st += ssm_conv_floats(&p->conv[c]);
            first += n;
        }
        for (size_t r = row; r < row + g->n; r++)
            for (size_t u = u0; u < MIN(u1, 2 * p->n_k); u++) normalise(f, p, b->mixed + r * ld + u * p->dim_k, u);
        row += g->n;
    }
    team_barrier(&f->t);
}

static void scan_tile(const fwd *f, const struct delta *p, const struct delta_mem *b, float *st, size_t tile, size_t row, size_t n) {
    size_t per = tiles_per_head(p), head = tile / per, first = tile % per * SSM_TILE, w = MIN(SSM_TILE, p->dim_v - first);
    size_t ld = qkv_width(p), kh = p->tiled ? head % p->n_k : head / (p->n_v / p->n_k);
    float *s = st + (head * p->dim_v + first) * p->dim_k;
    for (size_t t = row; t < row + n; t++) {
        const float *q = b->mixed + t * ld + kh * p->dim_k, *k = q + q_width(p);
        const float *v = b->mixed + t * ld + 2 * q_width(p) + head * p->dim_v + first;
        const float *g = b->decay + t * decay_width(p) + head * p->dim_k;
        f->t.kern->scan_delta(&(kern_scan){.s = s, .n = p->dim_k, .w = w, .decay = g, .decay_step = 1, .in = k, .out = q, .x = v, .probe = k,
                                           .beta = b->beta[t * p->n_v + head], .y = b->y + t * v_width(p) + head * p->dim_v + first});
    }
}

static void scan_tiles(fwd *f, const layer *l, int which, const struct delta *p, const struct delta_mem *b) {
    norm nm = {NORM_RMS, l->slots[R_SSM_NORM].vec, NULL, f->m->hp.eps};
    size_t from, to, row = 0;
    team_enter(&f->t, PROF_SCAN);
    fwd_share(f, p->n_v * tiles_per_head(p), &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        float *st = (float *)fwd_state(f, l, which, g->seq) + all_conv_floats(p);
        for (size_t tile = from; tile < to; tile++) scan_tile(f, p, b, st, tile, row, g->n);
        row += g->n;
    }
    team_barrier(&f->t);
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n * p->n_v, &from, &to);
    for (size_t i = from; i < to; i++) {
        float *y = b->y + i * p->dim_v;
        norm_row_local(&f->t, &nm, y, y, p->dim_v);
        ssm_act(&f->t, ACT_SIGMOID, y, b->z + i * p->dim_v, y, p->dim_v);
    }
    team_barrier(&f->t);
}

static void scan_chunks(fwd *f, const layer *l, int which, const struct delta *p, const struct delta_mem *b) {
    ssm_scan s = {.n_head = p->n_v, .dim = p->dim_v, .n_key = p->n_k, .n = p->dim_k, .tiled = p->tiled, .delta = true, .x = b->mixed + 2 * q_width(p),
                  .ld = qkv_width(p), .in = b->mixed + q_width(p), .out = b->mixed, .ld_key = qkv_width(p), .decay = b->decay, .ld_decay = p->n_v,
                  .gain = b->beta, .ld_gain = p->n_v, .y = b->y, .ld_y = v_width(p), .norm = {NORM_RMS, l->slots[R_SSM_NORM].vec, NULL, f->m->hp.eps},
                  .gate = ACT_SILU, .z = b->z, .ld_z = v_width(p), .z_head = p->dim_v};
    ssm_scan_run(f, l, which, all_conv_floats(p), &s);
}

static void delta_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    const struct delta *p = l->priv[which];
    size_t mark = bump_mark(&f->mem);
    struct delta_mem b = lay_out(l, p, f->n, &f->mem);
    if (p->per_channel) kda_project(f, l, p, in, &b);
    else gdn_project(f, l, p, in, &b);
    convolve(f, l, which, p, &b);
    if (p->per_channel) scan_tiles(f, l, which, p, &b);
    else scan_chunks(f, l, which, p, &b);
    linear_in oin = {.x = b.y, .ld = v_width(p)};
    linear_out o = slot_sink(&l->slots[p->per_channel ? R_ATTN_OUT : R_SSM_OUT], sk);
    op_linear(&f->t, &oin, f->n, &o, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_gdn = {.name = "gated delta net", .bind = gdn_bind, .mem_floats = delta_mem_floats, .forward = delta_forward};
const block_ops block_kda = {.name = "Kimi delta attention", .bind = kda_bind, .mem_floats = delta_mem_floats, .forward = delta_forward};
