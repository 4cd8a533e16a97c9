/* net_layers.c: how layers are strung together: the mirror of src/model/forward.c. */
#include "train/net_int.h"

#include "model/rope.h"

#include <string.h>

static var *mixers(const net_pass *p, size_t il, var *x) {
    const layer *l = net_layer(p, il);
    role r = net_has(p, il, R_ATTN_NORM_2) ? R_ATTN_NORM_2 : R_ATTN_NORM;
    var *in = net_norm(p, il, r, x, p->n->m->hp.n_embd, p->n->m->hp.norm);
    var *y = net_block(l->mixer[0])(p, il, in);
    return l->mixer[1] ? ad_add(p->t, y, net_block(l->mixer[1])(p, il, in)) : y;
}

static var *feed_forward(const net_pass *p, size_t il, var *x) {
    const layer *l = net_layer(p, il);
    bool only_norm = p->n->m->hp.parallel || !l->mixer[0];
    role r = net_has(p, il, R_FFN_NORM) || !only_norm ? R_FFN_NORM : R_ATTN_NORM;
    return net_block(l->ffn)(p, il, net_norm(p, il, r, x, p->n->m->hp.n_embd, p->n->m->hp.norm));
}

static var *run_layer(const net_pass *pass, size_t il, var *x) {
    net_pass own = *pass, *p = &own;
    const layer *l = net_layer(p, il);
    own.raw = x;
    const hparams *h = &p->n->m->hp;
    float scale = h->residual_scale;
    if (h->parallel && l->ffn) {
        var *y = feed_forward(p, il, x);
        if (l->mixer[0]) y = ad_add(p->t, mixers(p, il, x), y);
        return ad_add_scaled(p->t, x, y, scale);
    }
    if (l->mixer[0]) {
        var *y = net_norm(p, il, R_ATTN_POST_NORM, mixers(p, il, x), h->n_embd, h->norm);
        x = net_norm(p, il, R_ATTN_OUT_NORM, ad_add_scaled(p->t, x, y, scale), h->n_embd, h->norm);
    }
    if (l->ffn) {
        var *y = net_norm(p, il, R_FFN_POST_NORM, feed_forward(p, il, x), h->n_embd, h->norm);
        x = net_norm(p, il, R_LAYER_OUT_NORM, ad_add_scaled(p->t, x, y, scale), h->n_embd, h->norm);
    }
    return x;
}

/* A layer as a segment that can be computed again. */
struct segment {
    net_pass p;
    size_t il;
};
static var *layer_segment(tape *t, const void *arg, var *x) {
    const struct segment *s = arg;
    (void)t;
    return run_layer(&s->p, s->il, x);
}

/* ---- the beginning ---- */
static var *embed(const net_pass *p, const int32_t *ids) {
    net *n = p->n;
    var *x = ad_embed(p->t, &n->globals[R_TOKEN_EMBD].main->v, ids, p->s->n);
    if (n->m->hp.embd_scale != 1) x = ad_scale(p->t, x, n->m->hp.embd_scale);
    if (n->globals[R_POSITION_EMBD].main)
        x = ad_add(p->t, x, ad_rows(p->t, &n->globals[R_POSITION_EMBD].main->v, p->s->pos, p->s->n));
    return net_norm_global(p, R_TOKEN_EMBD_NORM, x);
}

/* Cosines and sines of every row, for the two kinds of layers. False: out of memory. */
static bool rope_tables(net_pass *p) {
    const hparams *h = &p->n->m->hp;
    const rope_conf *conf[2] = {&h->rope_all, &h->rope_swa};
    size_t longest = p->n->o.n_ctx;
    if (h->rope == ROPE_NONE) return true;
    for (size_t i = 0; !p->n->o.n_ctx && i < p->s->n; i++) longest = MAX(longest, (size_t)p->s->pos[i] + 1);
    for (int i = 0; i < (h->n_swa ? 2 : 1); i++) {
        float *cs = tape_mem(p->t, p->s->n * conf[i]->n_rot * sizeof(float));
        if (!cs) return false;
        for (size_t r = 0; r < p->s->n; r++) rope_table_row(conf[i], longest > h->rope_all.n_ctx_orig, p->s->pos[r], cs + r * conf[i]->n_rot);
        p->cs[i] = cs;
    }
    return true;
}

var *net_hidden(net *n, tape *t, const int32_t *ids, const ad_seqs *s, net_inside *inside) {
    struct segment seg = {.p = {.n = n, .t = t, .s = s, .inside = inside}};
    size_t from = inside ? inside->from : 0, n_layer = n->m->hp.n_layer, until = inside && inside->until ? inside->until : n_layer;
    bool again = n->o.checkpoint && !(inside && (inside->q || inside->k || inside->v));
    if (!rope_tables(&seg.p)) return NULL;
    var *x = from == 0 ? embed(&seg.p, ids) : inside->x;
    for (seg.il = from; seg.il < until; seg.il++) {
        if (inside && inside->layers) inside->layers[seg.il] = x;
        if (inside && inside->skip && inside->skip[seg.il]) continue;
        x = again ? tape_checkpoint(t, layer_segment, &seg, sizeof seg, x) : run_layer(&seg.p, seg.il, x);
    }
    if (inside && inside->layers) inside->layers[until] = x;
    return until == n_layer ? net_norm_global(&seg.p, R_OUTPUT_NORM, x) : x;
}
