/* prune_linear.c: linear attention in place of softmax in chosen layers (model/linattn.h), its feature maps trained to give what the softmax
 * gave.
 *
 * Attention transfer: queries, keys and values of the layer as they are, over the calibration text; the maps learn, by Adam, to bring the
 * layer's output (through its output matrix) near to the softmax's, in the mean square. No other weight moves, and layers are independent of
 * each other. What is left is healed end to end (mote distill). Source: Zhang et al. 2024 (Hedgehog), §4.2; Zhang et al. 2025 (LoLCATs),
 * §3.2, eq. 7, from whom the output's error comes. */
#include "compress/pruning.h"
#include "model/linattn.h"
#include "train/net.h"
#include "train/op_distill.h"
#include "train/optim.h"

#include <math.h>

enum { CHOICE_WINDOW = 16, PARAMS = 5 };

/* What a layer's attention saw and gave in one window of the text. */
typedef struct seen_window {
    size_t n;
    float *qkv[3], *y; /* y[n, n_embd]: the softmax's output */
} seen_window;

typedef struct linear_job {
    prune *p;
    net *net;
    tape *t;
    size_t n_windows, m;
    ad_seqs seqs;
    uint32_t start[2];
    int32_t pos[PRUNE_WINDOW];
    seen_window *seen;  /* [n_layer, n_windows] */
    double before, after; /* sums over layers of the relative errors */
} linear_job;

/* The maps of one layer: memory of the step, gradients beside the values. */
typedef struct maps {
    var v[PARAMS]; /* q, q's bias, k, k's bias, gain */
} maps;

static mote_status new_var(prune *p, size_t rows, size_t cols, var *v, mote_error *err) {
    *v = (var){.rows = rows, .cols = cols, .wants = true};
    TRY(prune_alloc(p, rows * cols, sizeof(float), &v->x, err));
    return prune_alloc(p, rows * cols, sizeof(float), &v->room, err);
}

/* Exponents begin as the head's own dimensions, turn by turn, so large that a product of features is about an exponential of a product; the
 * gain takes out how many features there are. */
static mote_status begin_maps(linear_job *j, const layer *l, maps *f, mote_error *err) {
    size_t m = j->m, heads[2] = {l->n_head, l->n_head_kv};
    float size = sqrtf(1 / sqrtf((float)l->dim_k));
    for (int i = 0; i < 2; i++) {
        TRY(new_var(j->p, heads[i] * m, l->dim_k, &f->v[2 * i], err));
        TRY(new_var(j->p, 1, heads[i] * m, &f->v[2 * i + 1], err));
        for (size_t r = 0; r < heads[i] * m; r++) f->v[2 * i].x[r * l->dim_k + r % m % l->dim_k] = size;
    }
    TRY(new_var(j->p, 1, l->n_head, &f->v[4], err));
    for (size_t h = 0; h < l->n_head; h++) f->v[4].x[h] = -logf(2 * (float)m);
    return MOTE_OK;
}

static ad_attn attention_of(const linear_job *j, const layer *l, size_t window) {
    const hparams *h = &j->p->m->hp;
    return (ad_attn){.n_head = l->n_head, .n_head_kv = l->n_head_kv, .dim_k = l->dim_k, .dim_v = l->dim_v,
                     .scale = h->attn_scale > 0 ? h->attn_scale : 1 / sqrtf((float)l->dim_k), .softcap = h->attn_softcap, .window = window, .causal = true};
}

/* Through the layer's output matrix. */
static var *project(linear_job *j, size_t il, var *y) {
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%zu.attn_output.weight", il);
    return ad_linear(j->t, y, &net_find(j->net, name)->v);
}

static void set_rows(linear_job *j, size_t n) {
    j->start[0] = 0, j->start[1] = (uint32_t)n;
    for (size_t i = 0; i < n; i++) j->pos[i] = (int32_t)i;
    j->seqs = (ad_seqs){.n = n, .n_seq = 1, .start = j->start, .pos = j->pos};
}

/* ---- what the layers see ---- */
static mote_status keep(prune *p, const var *v, float **out, mote_error *err) {
    TRY(prune_alloc(p, v->rows * v->cols, sizeof(float), out, err));
    memcpy(*out, v->x, v->rows * v->cols * sizeof(float));
    return MOTE_OK;
}

static mote_status see_window(linear_job *j, size_t w, const uint32_t *marked, mote_error *err) {
    prune *p = j->p;
    size_t n_layer = p->m->hp.n_layer, from = w * PRUNE_WINDOW, n = MIN((size_t)PRUNE_WINDOW, p->ids.n - from);
    tape_reset(j->t);
    set_rows(j, n);
    net_inside in = {.q = tape_mem(j->t, n_layer * sizeof(var *)), .k = tape_mem(j->t, n_layer * sizeof(var *)), .v = tape_mem(j->t, n_layer * sizeof(var *))};
    int32_t ids[PRUNE_WINDOW];
    memcpy(ids, p->ids.p + from, n * sizeof *ids);
    if (tok_adds_bos(p->vocab)) ids[0] = tok_id(p->vocab, TOK_ROLE_BOS);
    if (!in.q || !in.k || !in.v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    (void)net_hidden(j->net, j->t, ids, &j->seqs, &in);
    TRY(tape_status(j->t, err));
    for (size_t il = 0; il < n_layer; il++) {
        seen_window *s = &j->seen[il * j->n_windows + w];
        if (!marked[il]) continue;
        const layer *l = &p->m->layers[il];
        const ad_attn o = attention_of(j, l, l->swa ? p->m->hp.n_swa : 0);
        var *y = project(j, il, ad_attention(j->t, in.q[il], in.k[il], in.v[il], &o, &j->seqs));
        TRY(tape_status(j->t, err));
        s->n = n;
        TRY(keep(p, in.q[il], &s->qkv[0], err));
        TRY(keep(p, in.k[il], &s->qkv[1], err));
        TRY(keep(p, in.v[il], &s->qkv[2], err));
        TRY(keep(p, y, &s->y, err));
    }
    return MOTE_OK;
}

/* ---- training ---- */
static var *window_loss(linear_job *j, size_t il, size_t w, maps *f) {
    const seen_window *s = &j->seen[il * j->n_windows + w];
    const layer *l = &j->p->m->layers[il];
    const size_t cols[3] = {l->n_head * l->dim_k, l->n_head_kv * l->dim_k, l->n_head_kv * l->dim_v};
    const ad_attn o = attention_of(j, l, j->p->o->linear_window);
    const net_maps parts = {&f->v[0], &f->v[1], &f->v[2], &f->v[3], &f->v[4], j->m};
    var *qkv[3];
    tape_reset(j->t);
    set_rows(j, s->n);
    for (int i = 0; i < 3; i++) qkv[i] = tape_const(j->t, s->n, cols[i], s->qkv[i]);
    var *y = project(j, il, net_attend_linearly(j->t, &parts, qkv, &o, &j->seqs));
    return ad_match_mse(j->t, y, tape_const(j->t, s->n, j->p->m->hp.n_embd, s->y), NULL);
}

/* The error over that of giving nothing, of all windows. */
static mote_status relative_error(linear_job *j, size_t il, maps *f, double *error, mote_error *err) {
    double sum = 0, all = 0;
    for (size_t w = 0; w < j->n_windows; w++) {
        const seen_window *s = &j->seen[il * j->n_windows + w];
        var *loss = window_loss(j, il, w, f);
        TRY(tape_status(j->t, err));
        sum += (double)loss->x[0] * (double)(s->n * j->p->m->hp.n_embd);
        for (size_t i = 0; i < s->n * j->p->m->hp.n_embd; i++) all += (double)s->y[i] * (double)s->y[i];
    }
    *error = all > 0 ? sum / all : 0;
    if (!isfinite(*error)) FAIL(err, MOTE_E_OUTPUT, "layer %zu: its attention is no number on the calibration text", il);
    return MOTE_OK;
}

static mote_status train_maps(linear_job *j, size_t il, maps *f, mote_error *err) {
    static const char *const names[PARAMS] = {"q", "q bias", "k", "k bias", "gain"};
    const size_t steps = j->p->o->linear_steps;
    train_param params[PARAMS] = {0};
    optim *o = NULL;
    mote_status s = MOTE_OK;
    if (steps == 0) return MOTE_OK;
    for (int i = 0; i < PARAMS; i++) params[i] = (train_param){.name = str_of(names[i]), .v = &f->v[i]};
    TRY(optim_open(&o, &(optim_opts){.kind = OPTIM_ADAMW, .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99}, params, j->p->o->linear_window ? PARAMS : PARAMS - 1,
                   j->p->pool, j->p->m->kern, err));
    for (size_t step = 0; step < steps; step++) {
        for (int i = 0; i < PARAMS; i++) f->v[i].g = NULL;
        var *loss = window_loss(j, il, step % j->n_windows, f);
        TRYG(s, tape_status(j->t, err));
        tape_back(j->t, loss, 1);
        TRYG(s, tape_status(j->t, err));
        optim_grads_ready(o);
        double size = optim_grad_norm(o), rate = 0.5 * (1 + cos(3.14159265358979 * (double)step / (double)steps));
        if (!isfinite(size)) FAILG(s, err, MOTE_E_OUTPUT, "layer %zu: the feature maps' gradients are no numbers", il);
        optim_step(o, step, rate, 1);
    }
out:
    optim_close(&o);
    return s;
}

/* ---- the file ---- */
static mote_status put_maps(linear_job *j, size_t il, const maps *f, mote_error *err) {
    const layer *l = &j->p->m->layers[il];
    static const char *const names[PARAMS] = {"attn_q_map", "attn_q_map.bias", "attn_k_map", "attn_k_map.bias", "attn_map_gain"};
    for (int i = 0; i < PARAMS; i++) {
        const var *v = &f->v[i];
        char name[64];
        uint64_t flat[3] = {v->cols}, heads[3] = {l->dim_k, j->m, v->rows / j->m};
        (void)snprintf(name, sizeof name, "blk.%zu.%s", il, names[i]);
        TRY(edit_put(j->p->edit, str_of(name), QUANT_F32, v->rows > 1 ? 3 : 1, v->rows > 1 ? heads : flat, v->x, NULL, err));
    }
    return MOTE_OK;
}

static mote_status check_layer(const prune *p, size_t il, mote_error *err) {
    const layer *l = &p->m->layers[il];
    if (l->mixer[0] != &block_attn || l->kind != ATTN_SOFTMAX) FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no softmax attention that could be made linear", il);
    if (has(l, R_ATTN_SINKS) || p->m->hp.alibi_max > 0 || p->m->arch->attn_gate || has(l, R_ATTN_SUB_NORM) || !has(l, R_ATTN_OUT))
        FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu: attention with sinks, ALiBi, a gate or a norm of its own cannot be made linear", il);
    return MOTE_OK;
}

static mote_status fit_layers(linear_job *j, const uint32_t *marked, size_t count, mote_error *err) {
    prune *p = j->p;
    size_t done = 0;
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        double before, after;
        maps f;
        if (!marked[il]) continue;
        TRY(begin_maps(j, &p->m->layers[il], &f, err));
        TRY(relative_error(j, il, &f, &before, err));
        TRY(train_maps(j, il, &f, err));
        TRY(relative_error(j, il, &f, &after, err));
        TRY(put_maps(j, il, &f, err));
        j->before += before / (double)count;
        j->after += after / (double)count;
        TRY(prune_progress(p, "training feature maps", ++done, count, err));
    }
    return MOTE_OK;
}

static mote_status transfer(linear_job *j, const uint32_t *marked, size_t count, mote_error *err) {
    prune *p = j->p;
    mote_status s;
    p->ids.n = 0; /* choosing takes less of the text */
    TRY(prune_tokens(p, 4096, err));
    j->n_windows = prune_n_windows(p);
    TRY(prune_alloc(p, p->m->hp.n_layer * j->n_windows, sizeof *j->seen, &j->seen, err));
    TRYG(s, net_open(&j->net, p->m, p->pool, &(net_opts){.frozen = true}, err));
    TRYG(s, tape_open(&j->t, &(tape_opts){.pool = p->pool, .kern = p->m->kern}, err));
    for (size_t w = 0; w < j->n_windows; w++) {
        TRYG(s, see_window(j, w, marked, err));
        TRYG(s, prune_progress(p, "reading", w + 1, j->n_windows, err));
    }
    s = fit_layers(j, marked, count, err);
out:
    tape_close(&j->t);
    net_close(&j->net);
    return s;
}

mote_status prune_linear(prune *p, mote_error *err) {
    size_t n = p->m->hp.n_layer, count = 0, window = p->o->linear_window;
    linear_job j = {.p = p};
    uint32_t *marked;
    char key[160];
    TRY(prune_alloc(p, n, sizeof *marked, &marked, err));
    if (p->o->linear_layers) TRY(prune_parse_layers(p->o->linear_layers, marked, n, &count, err));
    else TRY(prune_choose_windows(p, window ? window : CHOICE_WINDOW, p->o->n_linear, marked, err));
    count = 0;
    for (size_t il = 0; il < n; il++) {
        if (marked[il]) TRY(check_layer(p, il, err));
        if (marked[il]) j.m = p->o->linear_features ? p->o->linear_features : p->m->layers[il].dim_k;
        count += marked[il] != 0;
        if (p->m->layers[il].kind == ATTN_LINEAR && p->m->hp.linear_window != window)
            FAIL(err, MOTE_E_UNSUPPORTED, "the model has linear layers behind a window of %zu already; all must be of one size", p->m->hp.linear_window);
    }
    if (j.m > LINATTN_MAPS_MAX || window > INT32_MAX) FAIL(err, MOTE_E_RANGE, "%zu exponents behind a window of %zu are too many", j.m, window);
    TRY(transfer(&j, marked, count, err));
    TRY(prune_put_kinds(p, marked, ATTN_LINEAR, err));
    TRY(edit_set_u32(p->edit, prune_key(p, "attention.linear.window", key), (uint32_t)window, err));
    prune_say(p, "attention: %zu of %zu layers are linear behind %zu keys, %zu features a head: %s", count, n, window, 2 * j.m, prune_layer_names(p, marked));
    prune_say(p, "  error of their outputs, mean: %.4f, %.4f before their maps were trained", j.after, j.before);
    (void)json_object_set_new(p->json, "error_before", json_real(j.before));
    (void)json_object_set_new(p->json, "error", json_real(j.after));
    return MOTE_OK;
}
