/* net_ffn.c: dense feed-forwards and experts as graphs: the mirrors of src/model/block_ffn.c and block_moe.c. */
#include "train/net_int.h"

/* down(act(gate x) · up x), or down(act(up x)). The three weights are named by role; a fused one holds gate, then up. */
static var *gated(const net_pass *p, size_t il, var *x, role gate, role up, role down, bool fused) {
    act_fn f = p->n->m->arch->act;
    var *u = net_apply(p, il, up, x), *h;
    if (net_has(p, il, gate)) h = ad_act_mul(p->t, f, net_apply(p, il, gate, x), u);
    else if (fused && u) h = ad_act_mul(p->t, f, ad_cols(p->t, u, 0, u->cols / 2), ad_cols(p->t, u, u->cols / 2, u->cols / 2));
    else h = ad_act(p->t, f, u);
    return net_apply(p, il, down, h);
}

/* Scales that divide the activations (MPT after AWQ) are constants. */
static var *divided(const net_pass *p, const layer *l, var *h) {
    var *by = tape_var(p->t, 1, l->n_ff, false);
    for (size_t i = 0; by && i < l->n_ff; i++) by->x[i] = 1 / l->slots[R_FFN_ACT].vec[i];
    return ad_mul_row(p->t, h, by);
}

var *net_ffn(const net_pass *p, size_t il, var *x) {
    const layer *l = net_layer(p, il);
    if (net_has(p, il, R_FFN_ACT) && !net_has(p, il, R_FFN_GATE))
        return net_apply(p, il, R_FFN_DOWN, divided(p, l, ad_act(p->t, p->n->m->arch->act, net_apply(p, il, R_FFN_UP, x))));
    return gated(p, il, x, R_FFN_GATE, R_FFN_UP, R_FFN_DOWN, l->slots[R_FFN_UP].mat->rows == 2 * l->n_ff);
}

/* A row of a stacked bias: that of one expert. */
static var *with_bias(const net_pass *p, size_t il, role r, size_t e, var *y) {
    var *b = net_bias(p, il, r);
    return b && y ? ad_add_row(p->t, y, tape_view(p->t, b, e * y->cols, 1, y->cols)) : y;
}

/* What expert e says to its tokens. */
static var *one_expert(const net_pass *p, size_t il, size_t e, var *x) {
    act_fn f = p->n->m->arch->act;
    var *h;
    if (net_has(p, il, R_FFN_GATE_UP_EXPS)) {
        var *both = with_bias(p, il, R_FFN_GATE_UP_EXPS, e, net_apply_mat(p, il, R_FFN_GATE_UP_EXPS, e, x));
        size_t ff = both ? both->cols / 2 : 0;
        h = ad_act_mul(p->t, f, ad_cols(p->t, both, 0, ff), ad_cols(p->t, both, ff, ff));
    } else {
        var *u = with_bias(p, il, R_FFN_UP_EXPS, e, net_apply_mat(p, il, R_FFN_UP_EXPS, e, x));
        if (net_has(p, il, R_FFN_GATE_EXPS))
            h = ad_act_mul(p->t, f, with_bias(p, il, R_FFN_GATE_EXPS, e, net_apply_mat(p, il, R_FFN_GATE_EXPS, e, x)), u);
        else h = ad_act(p->t, f, u);
    }
    return with_bias(p, il, R_FFN_DOWN_EXPS, e, net_apply_mat(p, il, R_FFN_DOWN_EXPS, e, h));
}

/* The expert that every token passes, by its own gate when there is one. */
static var *shared_expert(const net_pass *p, size_t il, var *x) {
    var *y = gated(p, il, x, R_FFN_GATE_SHEXP, R_FFN_UP_SHEXP, R_FFN_DOWN_SHEXP, false);
    if (!net_has(p, il, R_FFN_GATE_INP_SHEXP)) return y;
    var *g = ad_act(p->t, ACT_SIGMOID, net_apply(p, il, R_FFN_GATE_INP_SHEXP, x));
    return ad_mul_col(p->t, y, g);
}

var *net_experts(const net_pass *p, size_t il, var *x) {
    const hparams *h = &p->n->m->hp;
    ad_route_opts o = {.n_used = h->n_expert_used, .gating = (int)h->gating, .norm = h->expert_norm, .scale = h->expert_scale,
                       .bias = net_layer(p, il)->slots[R_EXP_PROBS_B].bias};
    ad_route *r = ad_router(p->t, net_apply(p, il, R_FFN_GATE_INP, p->n->m->arch->moe_input_raw ? p->raw : x), &o);
    if (!r) return NULL;
    var *sorted = ad_rows(p->t, x, r->token, x->rows * o.n_used), *parts[EXPERTS_MAX];
    size_t n = 0, at = 0;
    for (size_t e = 0; sorted && e < h->n_expert; e++) {
        if (!r->count[e]) continue;
        parts[n] = one_expert(p, il, e, tape_view(p->t, sorted, at * sorted->cols, r->count[e], sorted->cols));
        if (!parts[n++]) return NULL;
        at += r->count[e];
    }
    var *y = sorted ? ad_gather(p->t, ad_stack(p->t, parts, n), r, x->rows) : NULL;
    return net_has(p, il, R_FFN_UP_SHEXP) ? ad_add(p->t, y, shared_expert(p, il, x)) : y;
}
