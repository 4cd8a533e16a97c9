/* prune_experts.c: experts that a mixture can do without, the same number in every layer.
 *
 * An expert's saliency is the mean, over the calibration tokens that went to it, of its router weight times the length of what it said:
 * how much is missing where it is missing. Source: Lasby et al. 2025 (REAP), eq. 9. One that was never chosen has none. */
#include "compress/pruning.h"
#include "train/net.h"

#include <math.h>

typedef struct saliency {
    prune *p;
    net *net;
    ad_route *route; /* of the layer that is being computed */
    size_t at;       /* row of route->token that the next expert begins with */
    double *sum, *n; /* [n_layer, n_expert] of weight times length; of tokens */
} saliency;

static bool layer_of(const prune *p, const param *w, role r, size_t *il) {
    for (*il = 0; *il < p->m->hp.n_layer; ++*il)
        if (p->m->layers[*il].slots[r].info == w->info) return true;
    return false;
}

/* The same choice that the graph is about to make. */
static void see_router(saliency *s, tape *t, size_t il, var *logits) {
    const hparams *h = &s->p->m->hp;
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%zu.ffn_gate_inp.bias", il);
    param *bias = net_find(s->net, name);
    const ad_route_opts o = {.n_used = h->n_expert_used, .gating = (int)h->gating, .norm = h->expert_norm, .scale = h->expert_scale,
                             .bias = s->p->m->layers[il].slots[R_EXP_PROBS_B].bias};
    s->route = ad_router(t, bias ? ad_add_row(t, logits, &bias->v) : logits, &o);
    s->at = 0;
}

static void see_expert(saliency *s, size_t il, size_t e, const var *y) {
    const ad_route *r = s->route;
    const size_t k = s->p->m->hp.n_expert_used, at = il * s->p->m->hp.n_expert + e;
    for (size_t i = 0; i < y->rows; i++) {
        const float *row = y->x + i * y->cols, by = r->weight->x[(size_t)r->token[s->at + i] * k + (size_t)r->place[s->at + i]];
        s->sum[at] += (double)by * sqrt((double)s->p->m->kern->dot(row, row, y->cols));
    }
    s->n[at] += (double)y->rows;
    s->at += y->rows;
}

static var *on_product(void *ctx, tape *t, param *w, size_t mat, var *x) {
    saliency *s = ctx;
    var *y = net_plain_linear(t, w, mat, x);
    size_t il;
    if (!y) return NULL;
    if (layer_of(s->p, w, R_FFN_GATE_INP, &il)) see_router(s, t, il, y);
    else if (s->route && layer_of(s->p, w, R_FFN_DOWN_EXPS, &il)) see_expert(s, il, mat, y);
    return y;
}

static mote_status measure(saliency *s, mote_error *err) {
    prune *p = s->p;
    tape *t = NULL;
    mote_status st;
    TRY(prune_tokens(p, 4096, err));
    TRYG(st, net_open(&s->net, p->m, p->pool, &(net_opts){.frozen = true}, err));
    TRYG(st, tape_open(&t, &(tape_opts){.pool = p->pool, .kern = p->m->kern}, err));
    net_set_linear(s->net, on_product, s);
    for (size_t w = 0; w < prune_n_windows(p); w++) {
        size_t n = MIN((size_t)PRUNE_WINDOW, p->ids.n - w * PRUNE_WINDOW);
        int32_t ids[PRUNE_WINDOW], pos[PRUNE_WINDOW];
        const uint32_t start[2] = {0, (uint32_t)n};
        memcpy(ids, p->ids.p + w * PRUNE_WINDOW, n * sizeof *ids);
        if (tok_adds_bos(p->vocab)) ids[0] = tok_id(p->vocab, TOK_ROLE_BOS);
        for (size_t i = 0; i < n; i++) pos[i] = (int32_t)i;
        tape_reset(t);
        (void)net_hidden(s->net, t, ids, &(ad_seqs){.n = n, .n_seq = 1, .start = start, .pos = pos}, NULL);
        TRYG(st, tape_status(t, err));
        TRYG(st, prune_progress(p, "watching experts", w + 1, prune_n_windows(p), err));
    }
out:
    tape_close(&t);
    net_close(&s->net);
    return st;
}

/* ---- the file ---- */
/* Whether a tensor of layer il has a part for every expert. */
static bool is_of_experts(const prune *p, const tensor_info *t, size_t il) {
    static const char *const names[] = {"ffn_gate_inp", "exp_probs_b", "ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps", "ffn_down_exps"};
    char name[64];
    if (t->ne[t->n_dims - 1] != p->m->hp.n_expert) return false;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        (void)snprintf(name, sizeof name, "blk.%zu.%s.", il, names[i]);
        if (str_starts(t->name, str_of(name))) return true;
    }
    return false;
}

/* The parts of those that stay, as they lie: the experts are a tensor's outermost dimension. */
static mote_status keep_experts(prune *p, size_t il, const uint32_t *keep, size_t n, mote_error *err) {
    for (size_t i = 0; i < model_file_n_tensors(p->f); i++) {
        const tensor_info *t = model_file_tensor(p->f, i);
        unsigned char *y;
        uint64_t ne[TENSOR_DIMS_MAX];
        size_t each = t->size / p->m->hp.n_expert;
        if (!is_of_experts(p, t, il)) continue;
        TRY(prune_alloc(p, n, each, &y, err));
        for (size_t e = 0; e < n; e++) memcpy(y + e * each, t->data + keep[e] * each, each);
        memcpy(ne, t->ne, sizeof ne);
        ne[t->n_dims - 1] = n;
        TRY(edit_put_bytes(p->edit, t->name, t->type, t->n_dims, ne, y, err));
    }
    return MOTE_OK;
}

mote_status prune_experts(prune *p, mote_error *err) {
    const hparams *h = &p->m->hp;
    const char *by = p->o->experts_by ? p->o->experts_by : "saliency";
    const bool random = strcmp(by, "random") == 0, often = strcmp(by, "frequency") == 0;
    size_t ne = h->n_expert, gone = p->o->n_drop_experts, left = ne - gone, cut = 0;
    saliency s = {.p = p};
    char key[160];
    rng r;
    if (ne == 0 || h->n_expert_groups > 1) FAIL(err, MOTE_E_UNSUPPORTED, "'%s' has no experts, or has them in groups", p->m->arch->name);
    if (gone >= ne) FAIL(err, MOTE_E_RANGE, "%zu experts cannot go: there are %zu", gone, ne);
    if (!random && !often && strcmp(by, "saliency") != 0) FAIL(err, MOTE_E_USAGE, "experts are chosen by saliency, frequency or random, not '%s'", by);
    rng_seed(&r, p->o->seed, 29);
    TRY(prune_alloc(p, h->n_layer * ne, sizeof *s.sum, &s.sum, err));
    TRY(prune_alloc(p, h->n_layer * ne, sizeof *s.n, &s.n, err));
    if (!random) TRY(measure(&s, err));
    for (size_t il = 0; il < h->n_layer; il++) {
        uint32_t *keep;
        double *score = s.sum + il * ne;
        if (p->m->layers[il].ffn != &block_moe) continue;
        TRY(prune_alloc(p, left, sizeof *keep, &keep, err));
        for (size_t e = 0; e < ne; e++) {
            double n = s.n[il * ne + e];
            score[e] = random ? rng_double(&r) : often ? n : n > 0 ? score[e] / n : 0;
        }
        TRY(prune_largest(score, ne, left, keep, err));
        TRY(keep_experts(p, il, keep, left, err));
        cut++;
    }
    TRY(edit_set_u32(p->edit, prune_key(p, "expert_count", key), (uint32_t)left, err));
    if (h->n_expert_used > left) TRY(edit_set_u32(p->edit, prune_key(p, "expert_used_count", key), (uint32_t)left, err));
    prune_say(p, "experts: %zu of %zu are left in each of %zu layers, by %s", left, ne, cut, by);
    (void)json_object_set_new(p->json, "experts_left", json_integer((json_int_t)left));
    return MOTE_OK;
}
