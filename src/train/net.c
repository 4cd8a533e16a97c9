/* net.c: parameters: the tensors of a file, decoded into one block of memory, and who uses which. */
#include "train/net_int.h"

#include <stdio.h>
#include <string.h>

/* What can be trained, by the block's engine form. */
static const struct {
    const block_ops *engine;
    net_block_fn *train;
} blocks[] = {
    {&block_attn, net_attention}, {&block_ffn, net_ffn}, {&block_moe, net_experts},
    {&block_mamba2, net_mamba2},  {&block_shortconv, net_shortconv},
};

net_block_fn *net_block(const block_ops *b) {
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        if (blocks[i].engine == b) return blocks[i].train;
    return NULL;
}

static mote_status check_block(const layer *l, const block_ops *b, mote_error *err) {
    if (!b || net_block(b)) return MOTE_OK;
    FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu: the block '%s' can be run but not trained", l->index, b->name);
}

static mote_status check_model(const model *m, mote_error *err) {
    const hparams *h = &m->hp;
    if (!h->causal) FAIL(err, MOTE_E_UNSUPPORTED, "architecture '%s' is an encoder: only models that generate text can be trained", m->arch->name);
    if (h->n_expert_groups > 1) FAIL(err, MOTE_E_UNSUPPORTED, "experts in groups can be run but not trained");
    for (size_t i = 0; i < h->n_layer; i++) {
        const layer *l = &m->layers[i];
        TRY(check_block(l, l->mixer[0], err));
        TRY(check_block(l, l->mixer[1], err));
        TRY(check_block(l, l->ffn, err));
    }
    return MOTE_OK;
}

/* ---- parameters ---- */
static size_t rows_of(const tensor_info *t) { return (size_t)(t->ne[1] * t->ne[2] * t->ne[3]); }

/* One for every tensor of the file that the model uses; multi-token prediction layers at the end are not. */
static bool is_used(const model *m, const tensor_info *t) {
    str name = t->name;
    uint64_t il;
    if (!str_starts(name, STR("blk."))) return true;
    const char *dot = memchr(name.p + 4, '.', name.n - 4);
    if (!dot || !str_to_u64(str_sub(name, 4, (size_t)(dot - name.p) - 4), &il)) return true;
    return il < m->hp.n_layer;
}

/* Stays in the file's format: a quantized matrix of a layer, which only products read. */
static bool stays_packed(const net *n, const tensor_info *t) {
    return n->o.packed && n->o.frozen && t->type != QUANT_F32 && t->ne[1] > 1 && str_starts(t->name, STR("blk.")) && str_ends(t->name, STR(".weight"));
}

static mote_status make_params(net *n, mote_error *err) {
    const model_file *f = n->m->file;
    size_t total = 0, count = model_file_n_tensors(f);
    n->params = MEM_NEW_N(param, count ? count : 1);
    if (!n->params) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const tensor_info *t = model_file_tensor(f, i);
        const quant_format *q = quant_get(t->type);
        if (!is_used(n->m, t)) continue;
        if (!q || !q->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': type %d cannot be read as numbers", STR_ARG(t->name), (int)t->type);
        param *p = &n->params[n->n_params++];
        p->info = t;
        p->v.rows = rows_of(t);
        p->v.cols = (size_t)t->ne[0];
        if (!stays_packed(n, t)) total += (p->v.rows * p->v.cols + 15) / 16 * 16;
    }
    n->values = mem_alloc_aligned(total * sizeof(float));
    n->grads = n->o.frozen ? NULL : mem_alloc_aligned(total * sizeof(float));
    if (!n->values || (!n->grads && !n->o.frozen)) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu MB of parameters", total * 4 / 1000000);
    float *x = n->values, *g = n->grads;
    for (size_t i = 0; i < n->n_params; i++) {
        param *p = &n->params[i];
        size_t step = (p->v.rows * p->v.cols + 15) / 16 * 16;
        if (stays_packed(n, p->info)) continue;
        p->v.x = x;
        p->v.room = g;
        x += step;
        if (g) g += step;
    }
    return MOTE_OK;
}

struct decoding {
    net *n;
};
static void decode_part(void *arg, int ith, int nth) {
    const net *n = ((struct decoding *)arg)->n;
    for (size_t i = 0; i < n->n_params; i++) {
        const param *p = &n->params[i];
        const quant_format *q = quant_get(p->info->type);
        size_t from, to, row_bytes = p->info->size / (p->v.rows ? p->v.rows : 1);
        if (!p->v.x) continue;
        pool_share(p->v.rows, 1, ith, nth, &from, &to);
        for (size_t r = from; r < to; r++) q->decode(p->v.x + r * p->v.cols, p->info->data + r * row_bytes, p->v.cols);
    }
}

static param *find_info(net *n, const tensor_info *t) {
    for (size_t i = 0; t && i < n->n_params; i++)
        if (n->params[i].info == t) return &n->params[i];
    return NULL;
}

/* The ".bias" that belongs to a slot. */
static param *find_bias(net *n, const slot *s, const char *alone) {
    char name[160];
    if (!s->bias) return NULL;
    if (!s->info) return net_find(n, alone);
    str base = s->info->name;
    if (str_ends(base, STR(".weight"))) base.n -= strlen(".weight");
    (void)snprintf(name, sizeof name, "%.*s.bias", STR_ARG(base));
    return net_find(n, name);
}

static const char *const role_names[R_COUNT] = {
#define ROLE(id, name, kind, scope) [R_##id] = name,
#include "model/roles.def"
#undef ROLE
};

static mote_status bind_slots(net *n, mote_error *err) {
    size_t n_layer = n->m->hp.n_layer;
    char alone[160];
    n->layers = mem_calloc(n_layer ? n_layer : 1, sizeof *n->layers);
    if (!n->layers) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (int r = 0; r < R_COUNT; r++) {
        (void)snprintf(alone, sizeof alone, "%s.bias", role_names[r]);
        n->globals[r] = (net_slot){find_info(n, n->m->slots[r].info), find_bias(n, &n->m->slots[r], alone)};
        for (size_t il = 0; il < n_layer; il++) {
            const slot *s = &n->m->layers[il].slots[r];
            (void)snprintf(alone, sizeof alone, "blk.%zu.%s.bias", il, role_names[r]);
            n->layers[il][r] = (net_slot){find_info(n, s->info), find_bias(n, s, alone)};
        }
    }
    return MOTE_OK;
}

/* Tensors that no slot holds, or that the graph takes as numbers (rotation factors, scales, what experts are chosen by), are
 * constants. */
static void freeze_constants(net *n) {
    static const role constant[] = {R_ROPE_FREQS, R_ROPE_LONG, R_ROPE_SHORT, R_CLS, R_CLS_OUT, R_FFN_ACT, R_ATTN_KINDS};
    for (size_t i = 0; i < n->n_params; i++) n->params[i].trained = n->params[i].v.wants = false;
    if (n->o.frozen) return;
    for (int r = 0; r < R_COUNT; r++)
        for (size_t il = 0; il <= n->m->hp.n_layer; il++) {
            net_slot *s = il < n->m->hp.n_layer ? &n->layers[il][r] : &n->globals[r];
            bool alone = (r == R_ATTN_K_NORM) && il < n->m->hp.n_layer && !n->layers[il][R_ATTN_Q_NORM].main; /* counts for nothing */
            bool fixed = r == R_EXP_PROBS_B || alone;
            for (size_t i = 0; i < COUNT_OF(constant); i++) fixed |= r == (int)constant[i];
            if (r == R_OUTPUT && n->m->arch->output_unbiased) s->bias = NULL;
            if (s->main && !fixed) s->main->trained = s->main->v.wants = true;
            if (s->bias && !fixed) s->bias->trained = s->bias->v.wants = true;
        }
}

mote_status net_open(net **out, const model *m, pool *p, const net_opts *o, mote_error *err) {
    net *n = MEM_NEW(net);
    mote_status s;
    if (!n) FAIL(err, MOTE_E_MEMORY, "out of memory");
    n->m = m;
    if (o) n->o = *o;
    TRYG(s, check_model(m, err));
    TRYG(s, make_params(n, err));
    pool_run(p, decode_part, &(struct decoding){n});
    TRYG(s, bind_slots(n, err));
    freeze_constants(n);
    if (n->o.freeze) TRYG(s, net_freeze(n, n->o.freeze, err));
    *out = n;
    return MOTE_OK;
out:
    net_close(&n);
    return s;
}

void net_close(net **n) {
    if (!*n) return;
    mem_free_aligned((*n)->values);
    mem_free_aligned((*n)->grads);
    mem_free((*n)->params);
    mem_free((*n)->layers);
    mem_free(*n);
    *n = NULL;
}

const model *net_model(const net *n) { return n->m; }
size_t net_n_params(const net *n) { return n->n_params; }
param *net_param(net *n, size_t i) { return &n->params[i]; }

param *net_find(net *n, const char *name) {
    for (size_t i = 0; i < n->n_params; i++)
        if (str_is(n->params[i].info->name, name)) return &n->params[i];
    return NULL;
}

void net_set_linear(net *n, net_linear_fn *fn, void *ctx) {
    n->linear = fn;
    n->linear_ctx = ctx;
}

void net_set_seen(net *n, net_seen_fn *fn, void *ctx) {
    n->seen = fn;
    n->seen_ctx = ctx;
}

void net_set_kv(net *n, net_kv_fn *fn, void *ctx) {
    n->kv = fn;
    n->kv_ctx = ctx;
}

void net_zero_grads(net *n) {
    for (size_t i = 0; i < n->n_params; i++) n->params[i].v.g = NULL;
}

/* ---- products ---- */
var *net_plain_linear(tape *t, param *w, size_t mat, var *x) {
    size_t rows = (size_t)w->info->ne[1];
    if (!w->v.x) return net_packed_linear(t, w->info, mat, x);
    if (rows == w->v.rows) return ad_linear(t, x, &w->v);
    return ad_linear(t, x, tape_view(t, &w->v, mat * rows * w->v.cols, rows, w->v.cols));
}

static var *apply(const net_pass *p, param *w, float scale, size_t mat, var *x) {
    net *n = p->n;
    if (!x) return NULL;
    if (n->seen) n->seen(n->seen_ctx, p->t, w, mat, x);
    var *y = n->linear ? n->linear(n->linear_ctx, p->t, w, mat, x) : net_plain_linear(p->t, w, mat, x);
    return scale == 1 ? y : ad_scale(p->t, y, scale);
}

var *net_apply_mat(const net_pass *p, size_t il, role r, size_t mat, var *x) {
    const slot *s = &net_layer(p, il)->slots[r];
    return apply(p, p->n->layers[il][r].main, s->scale ? s->scale[s->n_scale > 1 ? mat : 0] : 1, mat, x);
}

var *net_apply(const net_pass *p, size_t il, role r, var *x) {
    bool under_scale = r == R_FFN_UP || r == R_FFN_GATE || r == R_FFN_DOWN;
    const slot *s = &net_layer(p, il)->slots[r];
    var *b = net_bias(p, il, r), *y = net_apply_mat(p, il, r, 0, x);
    if (b && under_scale && s->scale) b = ad_scale(p->t, b, s->scale[0]);
    return b ? ad_add_row(p->t, y, b) : y;
}

static var *norm_with(const net_pass *p, const net_slot *s, var *x, size_t width, norm_kind kind) {
    float eps = p->n->m->hp.eps;
    var *w = s->main ? &s->main->v : NULL, *b = s->bias ? &s->bias->v : NULL;
    if (w && w->rows > 1) w = tape_view(p->t, w, 0, 1, w->rows * w->cols);
    if (kind == NORM_LAYER) return ad_layer_norm(p->t, x, w, b, width, eps);
    return ad_rms_norm(p->t, x, w, b, width, eps);
}

var *net_norm(const net_pass *p, size_t il, role r, var *x, size_t width, norm_kind kind) {
    bool bare = p->n->m->arch->norm_bare && (r == R_ATTN_NORM || r == R_FFN_NORM);
    return net_has(p, il, r) || bare ? norm_with(p, &p->n->layers[il][r], x, width, kind) : x;
}

var *net_norm_global(const net_pass *p, role r, var *x) {
    bool bare = p->n->m->arch->norm_bare && r == R_OUTPUT_NORM;
    if (!p->n->globals[r].main && !bare) return x;
    return norm_with(p, &p->n->globals[r], x, x ? x->cols : 0, p->n->m->hp.norm);
}

ad_head net_head(net *n) {
    const model *m = n->m;
    param *w = n->globals[R_OUTPUT].main ? n->globals[R_OUTPUT].main : n->globals[R_TOKEN_EMBD].main, *b = n->globals[R_OUTPUT].bias;
    if (!b && !n->globals[R_OUTPUT].main && !m->arch->output_unbiased) b = n->globals[R_TOKEN_EMBD].bias;
    return (ad_head){&w->v, b ? &b->v : NULL, m->hp.logit_scale, m->hp.final_softcap};
}
