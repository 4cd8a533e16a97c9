/* net_attn.c: attention as a graph: the mirror of src/model/block_attn.c. */
#include "train/net_int.h"

#include "model/linattn.h"

#include <math.h>

/* Norms of queries or keys: each head by itself, or all as one row. */
static var *norm_heads(const net_pass *p, size_t il, role r, var *x) {
    const arch *a = p->n->m->arch;
    const layer *l = net_layer(p, il);
    if (!net_has(p, il, R_ATTN_Q_NORM) || a->qk_norm == QKN_NONE || !x) return x;
    return net_norm(p, il, r, x, a->qk_norm == QKN_ALL ? x->cols : l->dim_k, a->qk_norm_kind ? a->qk_norm_kind : p->n->m->hp.norm);
}

static var *rotate(const net_pass *p, const layer *l, var *x) {
    const hparams *h = &p->n->m->hp;
    if (!l->rope || h->rope == ROPE_NONE) return x;
    return ad_rope(p->t, x, l->dim_k, l->rope_conf->n_rot, p->cs[l->rope_conf == &h->rope_swa], h->rope == ROPE_NEOX);
}

static var *finish(const net_pass *p, size_t il, role r, var *x) {
    bool after = p->n->m->arch->qk_norm_after_rope;
    if (!after) x = norm_heads(p, il, r, x);
    x = rotate(p, net_layer(p, il), x);
    return after ? norm_heads(p, il, r, x) : x;
}

/* Queries and gates lie by turns, head by head (Qwen3-Next): columns of one kind. */
static var *every_other(const net_pass *p, const layer *l, var *x, size_t which) {
    var *heads = tape_view(p->t, x, 0, x ? x->rows * l->n_head : 0, 2 * l->dim_k);
    var *y = ad_cols(p->t, heads, which * l->dim_k, l->dim_k);
    return tape_view(p->t, y, 0, x ? x->rows : 0, l->n_head * l->dim_k);
}

/* Queries far beyond the original context are multiplied by 1 + scale · log(floor(pos / length) + 1). */
static var *temper(const net_pass *p, var *q) {
    const hparams *h = &p->n->m->hp;
    if (h->attn_temp_scale == 0 || h->attn_temp_length == 0 || !q) return q;
    var *by = tape_var(p->t, q->rows, 1, false);
    for (size_t i = 0; by && i < q->rows; i++)
        by->x[i] = 1 + h->attn_temp_scale * logf(floorf((float)p->s->pos[i] / (float)h->attn_temp_length) + 1);
    return ad_mul_col(p->t, q, by);
}

static void project(const net_pass *p, size_t il, var *x, var *out[3]) {
    const layer *l = net_layer(p, il);
    size_t q = l->n_head * l->dim_k * (p->n->m->arch->attn_gate ? 2 : 1), k = l->n_head_kv * l->dim_k, v = l->n_head_kv * l->dim_v;
    if (!net_has(p, il, R_ATTN_QKV)) {
        static const role roles[3] = {R_ATTN_Q, R_ATTN_K, R_ATTN_V};
        for (int i = 0; i < 3; i++) out[i] = net_apply(p, il, roles[i], x);
        return;
    }
    var *all = net_apply(p, il, R_ATTN_QKV, x);
    out[0] = ad_cols(p->t, all, 0, q);
    out[1] = ad_cols(p->t, all, q, k);
    out[2] = ad_cols(p->t, all, q + k, v);
}

/* Exponents of a feature map of heads of `dim`, head by head: W_h x_h + b_h. */
static var *exponents(tape *t, var *w, var *b, size_t heads, size_t m, var *x) {
    if (!x) return NULL;
    const size_t dim = x->cols / heads;
    var **each = tape_mem(t, heads * sizeof *each);
    if (!each) return NULL;
    for (size_t h = 0; h < heads; h++) each[h] = ad_linear(t, ad_cols(t, x, h * dim, dim), tape_view(t, w, h * m * dim, m, dim));
    var *e = ad_join(t, each, heads);
    return b ? ad_add_row(t, e, tape_view(t, b, 0, 1, heads * m)) : e;
}

var *net_attend_linearly(tape *t, const net_maps *f, var *const qkv[3], const ad_attn *o, const ad_seqs *s) {
    const size_t rows = s->n * o->n_head;
    const ad_linattn_shape shape = {o->n_head, o->n_head_kv, o->dim_v, o->window, LINATTN_CLAMP};
    ad_attn exact = *o;
    var *lz, *lse;
    var *far = ad_linattn(t, exponents(t, f->q, f->q_bias, o->n_head, f->m, qkv[0]), exponents(t, f->k, f->k_bias, o->n_head_kv, f->m, qkv[1]), qkv[2], &shape, s, &lz);
    if (!far || o->window == 0) return far;
    exact.lse = &lse;
    var *near = ad_attention(t, qkv[0], qkv[1], qkv[2], &exact, s);
    if (!near) return NULL;
    var *share = ad_act(t, ACT_SIGMOID, ad_add_scaled(t, lse, ad_add_row(t, lz, tape_view(t, f->gain, 0, 1, o->n_head)), -1));
    var *apart = tape_view(t, ad_add_scaled(t, near, far, -1), 0, rows, o->dim_v);
    return ad_add(t, far, tape_view(t, ad_mul_col(t, apart, tape_view(t, share, 0, rows, 1)), 0, s->n, o->n_head * o->dim_v));
}

/* Over the window, or all keys; where the layer is linear, with what lies behind the window. */
static var *attend(const net_pass *p, size_t il, var *const qkv[3]) {
    const layer *l = net_layer(p, il);
    const hparams *h = &p->n->m->hp;
    bool linear = l->kind == ATTN_LINEAR;
    ad_attn o = {.n_head = l->n_head, .n_head_kv = l->n_head_kv, .dim_k = l->dim_k, .dim_v = l->dim_v,
                 .scale = h->attn_scale > 0 ? h->attn_scale : 1 / sqrtf((float)l->dim_k), .softcap = h->attn_softcap,
                 .window = layer_window(p->n->m, l), .causal = true, .blocks = l->kind == ATTN_BLOCKS ? &h->blocks : NULL,
                 .alibi = linear ? NULL : l->priv[l->mixer[0] == &block_attn ? PLACE_MIXER : PLACE_MIXER_2], .sinks = net_main(p, il, R_ATTN_SINKS)};
    const net_maps maps = {net_main(p, il, R_ATTN_Q_MAP), net_bias(p, il, R_ATTN_Q_MAP), net_main(p, il, R_ATTN_K_MAP), net_bias(p, il, R_ATTN_K_MAP),
                           net_main(p, il, R_ATTN_MAP_GAIN), (size_t)l->slots[R_ATTN_K_MAP].ne[1]};
    return linear ? net_attend_linearly(p->t, &maps, qkv, &o, p->s) : ad_attention(p->t, qkv[0], qkv[1], qkv[2], &o, p->s);
}

var *net_attention(const net_pass *p, size_t il, var *x) {
    const layer *l = net_layer(p, il);
    const hparams *h = &p->n->m->hp;
    bool gated = p->n->m->arch->attn_gate;
    var *qkv[3], *gate = NULL;
    project(p, il, x, qkv);
    for (int i = 0; i < 3 && h->clamp_qkv > 0; i++) qkv[i] = ad_clamp(p->t, qkv[i], h->clamp_qkv);
    if (gated) {
        gate = every_other(p, l, qkv[0], 1);
        qkv[0] = every_other(p, l, qkv[0], 0);
    }
    qkv[0] = temper(p, finish(p, il, R_ATTN_Q_NORM, qkv[0]));
    qkv[1] = finish(p, il, R_ATTN_K_NORM, qkv[1]);
    for (int i = 0; p->n->kv && i < 2; i++) qkv[1 + i] = p->n->kv(p->n->kv_ctx, p->t, il, i > 0, qkv[1 + i]);
    if (p->inside && p->inside->q) p->inside->q[il] = qkv[0];
    if (p->inside && p->inside->k) p->inside->k[il] = qkv[1];
    if (p->inside && p->inside->v) p->inside->v[il] = qkv[2];
    var *y = attend(p, il, qkv);
    if (gated) y = ad_mul(p->t, y, ad_act(p->t, ACT_SIGMOID, gate));
    return net_apply(p, il, R_ATTN_OUT, net_norm(p, il, R_ATTN_SUB_NORM, y, y ? y->cols : 0, h->norm));
}
