/* block_attn.c: multi-head attention with grouped queries (GQA/MQA), in all the variants of the dense families:
 * separate or fused q/k/v, biases, query/key norms before or after rotation, gated output, clamps, sinks, ALiBi,
 * windows, temperature over positions, blocks chosen by the query, and linear attention behind a window (linattn.h). Source: Vaswani et al. 2017, §3.2; Ainslie et al. 2023 for GQA. */
#include "model/linattn.h"

#include <math.h>
#include <string.h>

enum { ATTN_SEGS = 64 }; /* sequences per op_attention call */

static size_t q_width(const layer *l) { return l->n_head * l->dim_k; }
static size_t k_width(const layer *l) { return l->n_head_kv * l->dim_k; }
static size_t v_width(const layer *l) { return l->n_head_kv * l->dim_v; }
static size_t o_width(const layer *l) { return l->n_head * l->dim_v; }
/* attn_q's rows: twice the queries when it holds a gate too */
static size_t q_rows(const model *m, const layer *l) { return q_width(l) * (m->arch->attn_gate ? 2 : 1); }
static size_t fused_rows(const model *m, const layer *l) { return q_rows(m, l) + k_width(l) + v_width(l); }

/* The weights of a query/key norm: one head's, or all heads' side by side. */
static mote_status bind_qk_norm(const model *m, layer *l, role r, size_t n_heads, mote_error *err) {
    if (!has(l, r) || m->arch->qk_norm == QKN_NONE) return MOTE_OK;
    size_t n = l->slots[r].n == l->dim_k && m->arch->qk_norm == QKN_HEAD ? l->dim_k : n_heads * l->dim_k;
    return bind_vec(l, r, n, true, err);
}

/* ALiBi (Press et al. 2022, §3.1): head h of n gets 2^(-max·(h+1)/n), with the interpolation for n no power of 2. */
static mote_status make_slopes(model *m, layer *l, int which, mote_error *err) {
    if (m->hp.alibi_max <= 0) return MOTE_OK;
    float *s = ARENA_NEW_N(&m->mem, float, l->n_head);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    size_t pow2 = 1;
    while (pow2 * 2 <= l->n_head) pow2 *= 2;
    double m0 = pow(2, -(double)m->hp.alibi_max / (double)pow2), m1 = pow(2, -(double)m->hp.alibi_max / 2 / (double)pow2);
    for (size_t h = 0; h < l->n_head; h++)
        s[h] = (float)(h < pow2 ? pow(m0, (double)h + 1) : pow(m1, 2 * (double)(h - pow2) + 1));
    l->priv[which] = s;
    return MOTE_OK;
}

/* Keys with a large bias (Qwen 2 has some of over 100) differ by little of what they are: bf16's 8 bits would round that
 * away. Scores of smaller keys lose nothing that shows (KLD to f32 scores below 0.0001). */
static bool has_large_keys(const model *m, const layer *l) {
    enum { LARGE = 8 };
    bool fused = has(l, R_ATTN_QKV);
    const float *bias = l->slots[fused ? R_ATTN_QKV : R_ATTN_K].bias;
    if (bias && fused) bias += q_rows(m, l);
    for (size_t i = 0; bias && i < k_width(l); i++)
        if (!(fabsf(bias[i]) <= LARGE)) return true;
    return false;
}

static mote_status attn_bind(model *m, layer *l, int which, mote_error *err) {
    size_t n_embd = m->hp.n_embd;
    if (l->n_head == 0 || l->n_head_kv == 0) FAIL(err, MOTE_E_FORMAT, "layer %zu has attention weights but no heads", l->index);
    if (m->hp.rope != ROPE_NONE && l->rope && l->rope_conf->n_rot > l->dim_k)
        FAIL(err, MOTE_E_RANGE, "layer %zu: %zu rotated dimensions, but heads of %zu", l->index, l->rope_conf->n_rot, l->dim_k);
    if (has(l, R_ATTN_QKV)) TRY(bind_mat(l, R_ATTN_QKV, n_embd, fused_rows(m, l), 1, true, err));
    else {
        TRY(bind_mat(l, R_ATTN_Q, n_embd, q_rows(m, l), 1, true, err));
        TRY(bind_mat(l, R_ATTN_K, n_embd, k_width(l), 1, true, err));
        TRY(bind_mat(l, R_ATTN_V, n_embd, v_width(l), 1, true, err));
    }
    TRY(bind_mat(l, R_ATTN_OUT, o_width(l), n_embd, 1, true, err));
    TRY(bind_qk_norm(m, l, R_ATTN_Q_NORM, l->n_head, err));
    TRY(bind_qk_norm(m, l, R_ATTN_K_NORM, l->n_head_kv, err));
    TRY(bind_vec(l, R_ATTN_SINKS, l->n_head, false, err));
    TRY(bind_vec(l, R_ATTN_SUB_NORM, o_width(l), false, err));
    if (l->kind == ATTN_BLOCKS && !m->hp.causal) FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu: blocks are for models that generate text", l->index);
    l->wide_scores = has_large_keys(m, l);
    if (l->kind != ATTN_LINEAR || m->hp.linear_window) l->kv_index = m->n_kv++;
    if (m->arch->attn_unscaled) l->slots[R_ATTN_QKV].scale = NULL;
    if (m->arch->attn_out_unbiased) l->slots[R_ATTN_OUT].bias = NULL;
    return l->kind == ATTN_LINEAR ? linattn_bind(m, l, which, err) : make_slopes(m, l, which, err);
}

static size_t attn_mem(const model *m, const layer *l, size_t n) {
    size_t more = l->kind == ATTN_LINEAR ? n * l->n_head + linattn_mem(l, n) : 0;
    return n * (fused_rows(m, l) + q_width(l) + o_width(l)) + more + 8 * 16;
}

struct qkv {
    float *q, *k, *v; /* strided views */
    size_t ld_q, ld_k, ld_v;
    size_t q_step;    /* floats from one query head to the next */
};

/* Normalises a head vector, or (QKN_ALL) the whole row when called for head 0. */
static void qk_norm_head(const fwd *f, const layer *l, role r, size_t head, size_t n_heads, float *v) {
    const slot *s = &l->slots[r];
    const arch *a = f->m->arch;
    if (!has(l, R_ATTN_Q_NORM) || a->qk_norm == QKN_NONE) return; /* a key norm without a query norm counts for nothing */
    norm nm = {a->qk_norm_kind ? a->qk_norm_kind : f->m->hp.norm, s->vec, s->bias, f->m->hp.eps};
    size_t n = l->dim_k;
    if (a->qk_norm == QKN_ALL) n *= n_heads;
    else if (s->n != l->dim_k) { /* own weights for every head */
        nm.w += head * l->dim_k;
        if (nm.b) nm.b += head * l->dim_k;
    }
    norm_row_local(&f->t, &nm, v, v, n);
}

static float temperature(const hparams *h, int32_t pos) {
    if (h->attn_temp_scale == 0 || h->attn_temp_length == 0) return 1;
    return 1 + h->attn_temp_scale * logf(floorf((float)pos / (float)h->attn_temp_length) + 1);
}

/* Norm, rotation and scaling of one query or key head. */
static void finish_head(const fwd *f, const layer *l, size_t row, role r, size_t head, size_t n_heads, float *v) {
    const arch *a = f->m->arch;
    if (!a->qk_norm_after_rope && a->qk_norm == QKN_HEAD) qk_norm_head(f, l, r, head, n_heads, v);
    if (l->rope) fwd_rope(f, l, row, v);
    if (a->qk_norm_after_rope) qk_norm_head(f, l, r, head, n_heads, v);
}

/* One token's heads: normalise, rotate, store keys and values. heads [from, to) of n_head + n_head_kv. */
static void finish_row(const fwd *f, const layer *l, const kv_layer *cache, const struct qkv *b, size_t row, size_t from, size_t to) {
    float temp = temperature(&f->m->hp, f->pos[row]);
    for (size_t h = from; h < to; h++) {
        if (h < l->n_head) {
            float *q = b->q + row * b->ld_q + h * b->q_step;
            finish_head(f, l, row, R_ATTN_Q_NORM, h, l->n_head, q);
            for (size_t i = 0; temp != 1 && i < l->dim_k; i++) q[i] *= temp;
            continue;
        }
        size_t g = h - l->n_head;
        float *k = b->k + row * b->ld_k + g * l->dim_k;
        finish_head(f, l, row, R_ATTN_K_NORM, g, l->n_head_kv, k);
        if (!cache) continue;
        kv_put_k(&f->t, cache, g, (size_t)f->pos[row], k);
        kv_put_v(&f->t, cache, g, (size_t)f->pos[row], b->v + row * b->ld_v + g * l->dim_v);
    }
}

static void clamp_rows(fwd *f, float *x, size_t n, float by) {
    size_t from, to;
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, n, &from, &to);
    for (size_t i = from; i < to; i++) x[i] = x[i] > by ? by : x[i] < -by ? -by : x[i];
    team_barrier(&f->t);
}

/* Whole-row norms of queries and keys (OLMo 2): rows over threads. */
static void norm_rows(fwd *f, const layer *l, const struct qkv *b) {
    size_t from, to;
    team_enter(&f->t, PROF_NORM);
    fwd_share(f, f->n, &from, &to);
    for (size_t r = from; r < to; r++) {
        qk_norm_head(f, l, R_ATTN_Q_NORM, 0, l->n_head, b->q + r * b->ld_q);
        qk_norm_head(f, l, R_ATTN_K_NORM, 0, l->n_head_kv, b->k + r * b->ld_k);
    }
    team_barrier(&f->t);
}

static struct qkv project(fwd *f, const layer *l, const linear_in *in, float *base) {
    const model *m = f->m;
    size_t n = f->n, qr = q_rows(m, l), kw = k_width(l), vw = v_width(l), all = fused_rows(m, l);
    struct qkv b = {.q_step = m->arch->attn_gate ? 2 * l->dim_k : l->dim_k};
    if (has(l, R_ATTN_QKV)) {
        linear_out out = slot_out(&l->slots[R_ATTN_QKV], base, all);
        b.q = base, b.k = base + qr, b.v = base + qr + kw;
        b.ld_q = b.ld_k = b.ld_v = all;
        op_linear(&f->t, in, n, &out, 1);
    } else {
        b.q = base, b.k = base + n * qr, b.v = base + n * (qr + kw);
        b.ld_q = qr, b.ld_k = kw, b.ld_v = vw;
        linear_out outs[3] = {slot_out(&l->slots[R_ATTN_Q], b.q, qr), slot_out(&l->slots[R_ATTN_K], b.k, kw), slot_out(&l->slots[R_ATTN_V], b.v, vw)};
        op_linear(&f->t, in, n, outs, 3);
    }
    if (m->hp.clamp_qkv > 0) clamp_rows(f, base, n * all, m->hp.clamp_qkv);
    return b;
}

/* Queries lie at q_step; op_attention wants them side by side when there are gates in between. */
static void pack_queries(fwd *f, const layer *l, struct qkv *b, float *dst) {
    size_t from, to;
    team_enter(&f->t, PROF_CACHE);
    fwd_share(f, f->n * l->n_head, &from, &to);
    for (size_t i = from; i < to; i++)
        memcpy(dst + i * l->dim_k, b->q + i / l->n_head * b->ld_q + i % l->n_head * b->q_step, l->dim_k * sizeof(float));
    team_barrier(&f->t);
}

/* out[h] *= sigmoid(gate[h]) (Qwen3-Next). */
static void apply_gate(fwd *f, const layer *l, const struct qkv *b, float *out) {
    size_t from, to;
    team_enter(&f->t, PROF_ACT);
    fwd_share(f, f->n * l->n_head, &from, &to);
    for (size_t i = from; i < to; i++) {
        const float *g = b->q + i / l->n_head * b->ld_q + i % l->n_head * b->q_step + l->dim_k;
        for (size_t d = 0; d < l->dim_v; d++) out[i * l->dim_v + d] *= act_apply(ACT_SIGMOID, g[d]);
    }
    team_barrier(&f->t);
}

static void attend(fwd *f, const layer *l, int which, const float *q, size_t ld_q, float *out, float *lse) {
    const hparams *h = &f->m->hp;
    attn_opts o = {.n_head = l->n_head, .scale = h->attn_scale > 0 ? h->attn_scale : 1 / sqrtf((float)l->dim_k),
                   .softcap = h->attn_softcap, .window = layer_window(f->m, l), .blocks = l->kind == ATTN_BLOCKS ? &h->blocks : NULL, .causal = h->causal, .wide_scores = l->wide_scores,
                   .sinks = l->slots[R_ATTN_SINKS].vec, .alibi = l->kind == ATTN_LINEAR ? NULL : l->priv[which]};
    attn_seg segs[ATTN_SEGS];
    size_t row = 0;
    for (size_t i = 0; i < f->b->n_segs;) {
        size_t n = 0;
        for (; n < ATTN_SEGS && i < f->b->n_segs; n++, i++) {
            const model_seg *g = &f->b->segs[i];
            segs[n] = (attn_seg){.kv = fwd_kv(f, l, g->seq), .q = q + row * ld_q, .ld_q = ld_q, .out = out + row * o_width(l),
                                 .ld_out = o_width(l), .n_q = g->n, .pos0 = g->pos0, .kv_len = g->pos0 + g->n, .lse = lse ? lse + row * l->n_head : NULL};
            row += g->n;
        }
        op_attention(&f->t, &o, segs, n);
    }
}

/* Mean keys of the blocks that this pass has filled. */
static void make_means(fwd *f, const layer *l) {
    size_t size = f->m->hp.blocks.size, turn = 0, mark = bump_mark(&f->t.scratch);
    float *key = bump_f32(&f->t.scratch, (size_t)f->t.nth * l->dim_k) + (size_t)f->t.ith * l->dim_k;
    team_enter(&f->t, PROF_CACHE);
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        for (size_t b = g->pos0 / size; b < (g->pos0 + g->n) / size; b++)
            for (size_t h = 0; h < l->n_head_kv; h++)
                if (turn++ % (size_t)f->t.nth == (size_t)f->t.ith) kv_make_mean(&f->t, fwd_kv(f, l, g->seq), h, b, key);
    }
    team_barrier(&f->t);
    bump_reset(&f->t.scratch, mark);
}

static void attn_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    size_t n = f->n, mark = bump_mark(&f->mem), heads = l->n_head + l->n_head_kv, from, to, row = 0;
    float *base = bump_f32(&f->mem, n * fused_rows(f->m, l));
    float *packed = bump_f32(&f->mem, n * q_width(l)), *out = bump_f32(&f->mem, n * o_width(l));
    struct qkv b = project(f, l, in, base);
    if (f->m->arch->qk_norm == QKN_ALL && !f->m->arch->qk_norm_after_rope) norm_rows(f, l, &b);
    team_enter(&f->t, PROF_CACHE);
    fwd_share(f, n * heads, &from, &to);
    for (size_t i = 0; i < f->b->n_segs; i++) { /* this thread's heads of this segment's rows */
        const model_seg *g = &f->b->segs[i];
        const kv_layer *cache = l->kv_index == SIZE_MAX ? NULL : fwd_kv(f, l, g->seq);
        for (size_t r = row; r < row + g->n; r++) {
            size_t a = r * heads, z = a + heads;
            if (z > from && a < to) finish_row(f, l, cache, &b, r, MAX(a, from) - a, MIN(z, to) - a);
        }
        row += g->n;
    }
    team_barrier(&f->t);
    if (l->kind == ATTN_BLOCKS) make_means(f, l);
    if (f->m->arch->attn_gate) pack_queries(f, l, &b, packed);
    const float *q = f->m->arch->attn_gate ? packed : b.q;
    size_t ld_q = f->m->arch->attn_gate ? q_width(l) : b.ld_q;
    float *lse = l->kind == ATTN_LINEAR && l->kv_index != SIZE_MAX ? bump_f32(&f->mem, n * l->n_head) : NULL;
    if (l->kv_index != SIZE_MAX) attend(f, l, which, q, ld_q, out, lse);
    if (l->kind == ATTN_LINEAR) linattn_forward(f, l, which, &(linattn_in){q, b.k, b.v, ld_q, b.ld_k, b.ld_v, lse, out});
    if (f->m->arch->attn_gate) apply_gate(f, l, &b, out);
    linear_in oin = {.x = out, .ld = o_width(l), .norm = layer_norm_of(f->m, l, R_ATTN_SUB_NORM)};
    linear_out o = slot_sink(&l->slots[R_ATTN_OUT], sk);
    op_linear(&f->t, &oin, n, &o, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_attn = {.name = "attention", .bind = attn_bind, .mem_floats = attn_mem, .forward = attn_forward};
