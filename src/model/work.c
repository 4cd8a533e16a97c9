/* work.c: what a pass has to read and to compute at least, from the shapes of the model: the basis of speed limits. */
#include "model/state.h"

#include <math.h>

/* Which of a matrix's experts T tokens meet: k of n each, as if chosen at random. */
static double share_met(double n, double k, double tokens) { return k >= n ? 1 : 1 - pow(1 - k / n, tokens); }

static void add_weight(const state *s, const weight *w, double tokens, model_work *out) {
    const double bytes = (double)(w->packing ? w->packed_bytes : w->mat_bytes * w->n_mat);
    const double used = (double)s->m->hp.n_expert_used, n_mat = (double)w->n_mat, active = w->n_mat > 1 && used > 0 ? MIN(used, n_mat) : n_mat;
    const double ops = 2 * (double)w->rows * (double)w->cols * active * tokens;
    out->weight_bytes += bytes * share_met(n_mat, active, tokens);
    *(w->packing && !s->opts.exact ? &out->int8_ops : &out->float_ops) += ops;
}

/* Keys that the queries at pos0 … pos0 + n - 1 see, all counted, and how many different ones. */
static void visible(const model *m, const layer *l, size_t pos0, size_t n, double *pairs, double *different) {
    size_t window = layer_window(m, l), first = window && pos0 + 1 > window ? pos0 + 1 - window : 0;
    *pairs = 0;
    *different = (double)(pos0 + n - first);
    for (size_t i = 0; i < n; i++) {
        size_t all = m->hp.causal ? pos0 + i + 1 : pos0 + n;
        *pairs += (double)(window ? MIN(all, window) : all);
    }
}

void model_pass_work(const state *s, size_t n_seq, size_t n, size_t pos0, model_work *out) {
    const model *m = s->m;
    const double seqs = (double)n_seq;
    *out = (model_work){0};
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        const layer *l = &m->layers[il];
        for (int r = 0; r < R_COUNT; r++)
            if (l->slots[r].mat && l->slots[r].used) add_weight(s, l->slots[r].mat, seqs * (double)n, out);
        if (l->kv_index == SIZE_MAX) continue;
        const kv_layer *c = &s->seqs[0].kv[l->kv_index];
        double pairs, different;
        visible(m, l, pos0, n, &pairs, &different);
        out->cache_bytes += seqs * different * (double)((kv_k_bytes(c) + kv_v_bytes(c)) / c->cap);
        out->float_ops += 2 * seqs * pairs * (double)(l->n_head * (c->dim_k + c->dim_v));
    }
    out->cache_bytes += 2 * seqs * (double)m->state_bytes; /* read and written */
    const slot *head = m->slots[R_OUTPUT].info ? &m->slots[R_OUTPUT] : &m->slots[R_TOKEN_EMBD];
    for (const weight *w = m->hp.causal ? head->mat : NULL; w; w = w->below) add_weight(s, w, seqs, out); /* the logits of each sequence's last token */
}
