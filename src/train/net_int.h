/* net_int.h: the inside of net*.c. */
#ifndef MOTE_TRAIN_NET_INT_H
#define MOTE_TRAIN_NET_INT_H

#include "train/net.h"

/* The parameters of a slot: the tensor itself and the ".bias" beside it. */
typedef struct net_slot {
    param *main, *bias;
} net_slot;

struct net {
    const model *m;
    net_opts o;
    param *params;
    size_t n_params;
    float *values, *grads;  /* of all parameters, side by side */
    net_slot globals[R_COUNT];
    net_slot (*layers)[R_COUNT];
    net_linear_fn *linear;
    void *linear_ctx;
    net_seen_fn *seen;
    void *seen_ctx;
    net_kv_fn *kv;
    void *kv_ctx;
};

/* One pass. Rotation tables lie in the tape. */
typedef struct net_pass {
    net *n;
    tape *t;
    const ad_seqs *s;
    const float *cs[2];    /* [rows, n_rot/2, 2] for rope_all, rope_swa */
    net_inside *inside;
    var *raw;              /* what enters the layer, before its norms */
} net_pass;

static inline const layer *net_layer(const net_pass *p, size_t il) { return &p->n->m->layers[il]; }
static inline bool net_has(const net_pass *p, size_t il, role r) { return p->n->layers[il][r].main != NULL; }
/* The values of a slot's tensor or bias; NULL when there is none. */
static inline var *net_main(const net_pass *p, size_t il, role r) {
    param *q = p->n->layers[il][r].main;
    return q ? &q->v : NULL;
}
static inline var *net_bias(const net_pass *p, size_t il, role r) {
    param *q = p->n->layers[il][r].bias;
    return q ? &q->v : NULL;
}
/* y = scale W x + bias, through the hooks; in dense feed-forwards the scale lies over the bias too. */
var *net_apply(const net_pass *p, size_t il, role r, var *x);
/* The same for one of several matrices, without bias. */
var *net_apply_mat(const net_pass *p, size_t il, role r, size_t mat, var *x);
/* A norm of groups of `width` columns with the weights of slot r; x itself when there is none. */
var *net_norm(const net_pass *p, size_t il, role r, var *x, size_t width, norm_kind kind);

/* The same with a tensor of the whole model. */
var *net_norm_global(const net_pass *p, role r, var *x);
/* Blocks: x is normed already; the result is what is added to the stream. */
typedef var *net_block_fn(const net_pass *p, size_t il, var *x);
/* How a block of the engine is trained; NULL: it cannot be. */
net_block_fn *net_block(const block_ops *b);
net_block_fn net_attention, net_ffn, net_experts, net_mamba2, net_shortconv;

/* net_freeze.c: parameters whose names match are trained no more. E_USAGE: none matches, all do, or no expression. */
mote_status net_freeze(net *n, const char *pattern, mote_error *err);

#endif
