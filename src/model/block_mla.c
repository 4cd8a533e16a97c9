/* block_mla.c: multi-head latent attention: keys and values come from one low-rank vector per token.
 * Two forms. With attn_kv_b every head's keys and values are computed and cached as in plain attention (MiniCPM3).
 * With attn_k_b and attn_v_b only the latent vector is cached, once for all heads: k_b moves into the queries, v_b
 * behind the attention ("absorbed"). Source: DeepSeek-V2 (2024), §2.1 and appendix C. */
#include "model/arch.h"

#include <math.h>
#include <string.h>

struct mla {
    bool absorbed;
    size_t n_head, rot, nope, dim_q, dim_v; /* rotated and plain dimensions of a query head; a value head */
    size_t latent;
};

static size_t kv_a_width(const struct mla *p) { return p->latent + p->rot; }

static mote_status mla_bind(model *m, layer *l, int which, mote_error *err) {
    const hparams *h = &m->hp;
    struct mla *p = ARENA_NEW(&m->mem, struct mla);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    l->priv[which] = p;
    p->absorbed = has(l, R_ATTN_K_B);
    p->n_head = l->n_head;
    p->latent = h->kv_lora;
    p->rot = l->rope_conf->n_rot;
    p->dim_q = p->absorbed ? h->dim_k_mla : l->dim_k;
    p->dim_v = p->absorbed ? h->dim_v_mla : l->dim_v;
    if (p->n_head == 0 || p->latent == 0 || p->dim_v == 0 || p->dim_q < p->rot)
        FAIL(err, MOTE_E_RANGE, "layer %zu: latent attention of %zu heads of %zu (%zu rotated) over %zu", l->index, p->n_head, p->dim_q, p->rot, p->latent);
    p->nope = p->dim_q - p->rot;
    size_t rows_q = p->n_head * p->dim_q;
    if (has(l, R_ATTN_Q_A)) {
        TRY(bind_mat(l, R_ATTN_Q_A, h->n_embd, h->q_lora, 1, true, err));
        TRY(bind_vec(l, R_ATTN_Q_A_NORM, h->q_lora, true, err));
        TRY(bind_mat(l, R_ATTN_Q_B, h->q_lora, rows_q, 1, true, err));
    } else TRY(bind_mat(l, R_ATTN_Q, h->n_embd, rows_q, 1, true, err));
    TRY(bind_mat(l, R_ATTN_KV_A_MQA, h->n_embd, kv_a_width(p), 1, true, err));
    TRY(bind_vec(l, R_ATTN_KV_A_NORM, p->latent, true, err));
    if (p->absorbed) {
        TRY(bind_mat(l, R_ATTN_K_B, p->nope, p->latent, p->n_head, true, err));
        TRY(bind_mat(l, R_ATTN_V_B, p->latent, p->dim_v, p->n_head, true, err));
        l->n_head_kv = 1;
        l->dim_k = kv_a_width(p);
        l->dim_v = p->latent;
    } else {
        TRY(bind_mat(l, R_ATTN_KV_B, p->latent, p->n_head * (p->nope + p->dim_v), 1, true, err));
        l->n_head_kv = p->n_head;
    }
    TRY(bind_mat(l, R_ATTN_OUT, p->n_head * p->dim_v, h->n_embd, 1, true, err));
    static const role plain[] = {R_ATTN_Q, R_ATTN_Q_A, R_ATTN_Q_B, R_ATTN_KV_A_MQA, R_ATTN_KV_B, R_ATTN_K_B, R_ATTN_V_B};
    for (size_t i = 0; i < COUNT_OF(plain); i++) l->slots[plain[i]].scale = NULL;
    l->kv_index = m->n_kv++;
    return MOTE_OK;
}

/* q: [n, heads, dim_q]; kva: [n, latent + rot]; kv: [n, heads, nope + dim_v]; aq: absorbed queries, or
 * whole keys on their way to the cache;
 * out, v: attention's result, before and behind v_b. */
struct mla_mem {
    float *q_a, *q, *kva, *kv, *aq, *out, *v;
    expert_assign *heads;
};

static struct mla_mem lay_out(const model *m, const layer *l, const struct mla *p, size_t n, bump *b) {
    struct mla_mem r;
    r.q_a = bump_f32(b, n * m->hp.q_lora);
    r.q = bump_f32(b, n * p->n_head * p->dim_q);
    r.kva = bump_f32(b, n * kv_a_width(p));
    r.kv = bump_f32(b, p->absorbed ? 0 : n * p->n_head * (p->nope + p->dim_v));
    r.aq = bump_f32(b, n * p->n_head * l->dim_k);
    r.out = bump_f32(b, n * p->n_head * l->dim_v);
    r.v = bump_f32(b, n * p->n_head * p->dim_v);
    r.heads = bump_bytes(b, n * p->n_head * sizeof(expert_assign));
    return r;
}

static size_t mla_mem_floats(const model *m, const layer *l, size_t n) {
    bump b = {0};
    (void)lay_out(m, l, l->priv[0], n, &b);
    return b.used / sizeof(float) + 16;
}

static void project(fwd *f, const layer *l, const struct mla *p, const linear_in *in, const struct mla_mem *b) {
    size_t rows_q = p->n_head * p->dim_q;
    bool low_rank = has(l, R_ATTN_Q_A);
    linear_out o[2] = {low_rank ? slot_out(&l->slots[R_ATTN_Q_A], b->q_a, f->m->hp.q_lora) : slot_out(&l->slots[R_ATTN_Q], b->q, rows_q),
                       slot_out(&l->slots[R_ATTN_KV_A_MQA], b->kva, kv_a_width(p))};
    op_linear(&f->t, in, f->n, o, 2);
    if (low_rank) {
        linear_in qa = {.x = b->q_a, .ld = f->m->hp.q_lora, .norm = layer_norm_of(f->m, l, R_ATTN_Q_A_NORM)};
        linear_out q = slot_out(&l->slots[R_ATTN_Q_B], b->q, rows_q);
        op_linear(&f->t, &qa, f->n, &q, 1);
    }
    norm nm = layer_norm_of(f->m, l, R_ATTN_KV_A_NORM);
    op_norm(&f->t, &nm, b->kva, kv_a_width(p), b->kva, kv_a_width(p), f->n, p->latent);
    if (p->absorbed) return;
    linear_in c = {.x = b->kva, .ld = kv_a_width(p)};
    linear_out both = slot_out(&l->slots[R_ATTN_KV_B], b->kv, p->n_head * (p->nope + p->dim_v));
    op_linear(&f->t, &c, f->n, &both, 1);
}

/* Matrix h of a per-head weight for head h of every row: heads are experts that everybody visits. */
static void assign_heads(fwd *f, const struct mla *p, const struct mla_mem *b) {
    if (f->t.ith == 0)
        for (size_t h = 0; h < p->n_head; h++)
            for (size_t r = 0; r < f->n; r++) {
                int32_t row = (int32_t)(r * p->n_head + h);
                b->heads[h * f->n + r] = (expert_assign){(int32_t)h, row, row};
            }
    team_barrier(&f->t);
}

/* Rotates queries (at `offset` inside a head) and the shared key part. */
static void rotate(fwd *f, const layer *l, const struct mla *p, const struct mla_mem *b) {
    size_t units = p->n_head + 1, from, to;
    team_enter(&f->t, PROF_CACHE);
    fwd_share(f, f->n * units, &from, &to);
    for (size_t i = from; i < to && l->rope; i++) {
        size_t row = i / units, h = i % units;
        fwd_rope(f, l, row, h < p->n_head ? b->q + (row * p->n_head + h) * p->dim_q + p->nope : b->kva + row * kv_a_width(p) + p->latent);
    }
    team_barrier(&f->t);
}

/* Queries that read latent vectors: [k_b' q_nope, q_rot]. */
static void absorb_queries(fwd *f, const layer *l, const struct mla *p, const struct mla_mem *b) {
    linear_in in = {.x = b->q, .ld = p->dim_q};
    expert_out o = {.w = l->slots[R_ATTN_K_B].mat, .y = b->aq, .ld = l->dim_k};
    size_t total = f->n * p->n_head, from, to;
    op_experts(&f->t, &in, total, b->heads, total, &o, 1);
    team_enter(&f->t, PROF_CACHE);
    fwd_share(f, total, &from, &to);
    for (size_t i = from; i < to; i++) memcpy(b->aq + i * l->dim_k + p->latent, b->q + i * p->dim_q + p->nope, p->rot * sizeof(float));
    team_barrier(&f->t);
}

static void store(fwd *f, const layer *l, const struct mla *p, const struct mla_mem *b) {
    size_t heads = l->n_head_kv, from, to, row = 0;
    team_enter(&f->t, PROF_CACHE);
    for (size_t s = 0; s < f->b->n_segs; s++) {
        const model_seg *g = &f->b->segs[s];
        const kv_layer *cache = fwd_kv(f, l, g->seq);
        fwd_share(f, g->n * heads, &from, &to);
        for (size_t i = from; i < to; i++) {
            size_t r = row + i / heads, h = i % heads, pos = (size_t)f->pos[r];
            const float *kva = b->kva + r * kv_a_width(p), *both = p->absorbed ? NULL : b->kv + (r * heads + h) * (p->nope + p->dim_v);
            if (p->absorbed) {
                kv_put_k(&f->t, cache, 0, pos, kva);
                kv_put_v(&f->t, cache, 0, pos, kva);
                continue;
            }
            float *key = b->aq + (r * heads + h) * l->dim_k;
            memcpy(key, both, p->nope * sizeof(float));
            memcpy(key + p->nope, kva + p->latent, p->rot * sizeof(float));
            kv_put_k(&f->t, cache, h, pos, key);
            kv_put_v(&f->t, cache, h, pos, both + p->nope);
        }
        row += g->n;
    }
    team_barrier(&f->t);
}

static void attend(fwd *f, const layer *l, const struct mla *p, const struct mla_mem *b) {
    attn_opts o = {.n_head = p->n_head, .scale = 1 / sqrtf((float)p->dim_q), .causal = f->m->hp.causal};
    const float *q = p->absorbed ? b->aq : b->q;
    size_t ld = p->n_head * l->dim_k, ld_out = p->n_head * l->dim_v, row = 0;
    for (size_t i = 0; i < f->b->n_segs; i++) {
        const model_seg *g = &f->b->segs[i];
        attn_seg seg = {.kv = fwd_kv(f, l, g->seq), .q = q + row * ld, .ld_q = ld, .out = b->out + row * ld_out, .ld_out = ld_out,
                        .n_q = g->n, .pos0 = g->pos0, .kv_len = g->pos0 + g->n};
        op_attention(&f->t, &o, &seg, 1);
        row += g->n;
    }
}

static void mla_forward(fwd *f, const layer *l, int which, const linear_in *in, const sink *sk) {
    const struct mla *p = l->priv[which];
    size_t mark = bump_mark(&f->mem), total = f->n * p->n_head;
    struct mla_mem b = lay_out(f->m, l, p, f->n, &f->mem);
    project(f, l, p, in, &b);
    rotate(f, l, p, &b);
    if (p->absorbed) {
        assign_heads(f, p, &b);
        absorb_queries(f, l, p, &b);
    }
    store(f, l, p, &b);
    attend(f, l, p, &b);
    if (p->absorbed) {
        linear_in lat = {.x = b.out, .ld = l->dim_v};
        expert_out v = {.w = l->slots[R_ATTN_V_B].mat, .y = b.v, .ld = p->dim_v};
        op_experts(&f->t, &lat, total, b.heads, total, &v, 1);
    }
    linear_in oin = {.x = p->absorbed ? b.v : b.out, .ld = p->n_head * p->dim_v};
    linear_out o = slot_sink(&l->slots[R_ATTN_OUT], sk);
    op_linear(&f->t, &oin, f->n, &o, 1);
    bump_reset(&f->mem, mark);
}

const block_ops block_mla = {.name = "latent attention", .bind = mla_bind, .mem_floats = mla_mem_floats, .forward = mla_forward};
