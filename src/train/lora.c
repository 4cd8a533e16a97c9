/* lora.c: see lora.h. */
#include "train/lora.h"

#include <math.h>
#include <stdio.h>

typedef struct part {
    adapter_pair *pair;
    param *w;
    var a, b, m;
    float *inverse;   /* [rows] 1 / ‖V‖, DoRA */
    uint64_t made_at; /* the version that it belongs to */
    char names[3][160];
} part;

struct lora {
    net *n;
    adapter *ad;
    part *parts;
    size_t n_parts;
    part **of;        /* [net_n_params] */
    uint64_t version;
    bool off;
};

/* ---- the product ---- */

struct norms {
    const param *w;
    float *v;         /* [rows, cols] B A, on its way to W + scale B A */
    float *inverse;
    float scale;
};

static void norms_part(void *ctx, size_t from, size_t to, int ith) {
    const struct norms *a = ctx;
    const tensor_info *t = a->w->info;
    const quant_format *f = quant_get((int)t->type);
    size_t cols = (size_t)t->ne[0], row_bytes = t->size / (size_t)t->ne[1];
    (void)ith;
    for (size_t r = from; r < to; r++) {
        float row[4096], *v = a->v + r * cols;
        double sum = 0;
        for (size_t c = 0; c < cols; c += COUNT_OF(row)) {
            size_t n = MIN(COUNT_OF(row), cols - c);
            if (a->w->v.x) memcpy(row, a->w->v.x + r * cols + c, n * sizeof *row);
            else f->decode(row, t->data + r * row_bytes + c / f->block * f->bytes, n);
            for (size_t i = 0; i < n; i++) sum += pow((double)row[i] + (double)(a->scale * v[c + i]), 2);
        }
        a->inverse[r] = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    }
}

/* False: out of memory. */
static bool make_norms(const lora *l, tape *t, part *p) {
    if (p->made_at == l->version) return true;
    tape_spot spot = tape_mark(t);
    size_t rows = p->pair->rows, cols = p->pair->cols, rank = p->pair->rank;
    struct norms a = {p->w, tape_mem(t, rows * cols * sizeof(float)), p->inverse, p->pair->scale};
    if (a.v) {
        gemm_args g = {.m = rows, .n = cols, .k = rank, .a = p->b.x, .lda = rank, .b = p->a.x, .ldb = cols, .c = a.v, .ldc = cols};
        tape_gemm(t, &g);
        tape_for(t, rows, 8, norms_part, &a);
        p->made_at = l->version;
    }
    tape_release(t, spot);
    return a.v != NULL;
}

static var *product(void *ctx, tape *t, param *w, size_t mat, var *x) {
    const lora *l = ctx;
    part *p = l->of[w - net_param(l->n, 0)];
    var *y = net_plain_linear(t, w, mat, x);
    if (!p || l->off) return y;
    var *low = ad_linear(t, ad_linear(t, x, &p->a), &p->b);
    y = ad_add_scaled(t, y, low, p->pair->scale);
    if (!p->pair->m || !y) return y;
    if (!make_norms(l, t, p)) return NULL;
    return ad_mul_row(t, y, ad_mul(t, &p->m, tape_const(t, 1, p->pair->rows, p->inverse)));
}

/* ---- which matrices ---- */

static const struct {
    const char *gguf, *others; /* what transformers calls it */
} linears[] = {
    {"attn_q", "q_proj query"},          {"attn_k", "k_proj key"},          {"attn_v", "v_proj value"},
    {"attn_qkv", "qkv_proj c_attn query_key_value"},  {"attn_output", "o_proj dense"}, {"ffn_gate", "gate_proj w1"},
    {"ffn_up", "up_proj gate_up_proj c_fc fc1 w3"}, {"ffn_down", "down_proj fc2 w2"},  {"ssm_in", "in_proj"},
    {"ssm_out", "out_proj"},             {"shortconv.in_proj", "in_proj"},  {"shortconv.out_proj", "out_proj"},
    {"ffn_gate_shexp", "gate_proj"},     {"ffn_up_shexp", "up_proj"},       {"ffn_down_shexp", "down_proj"},
};

static bool has_word(const char *words, str w, char between) {
    for (const char *at = words; *at;) {
        const char *end = strchr(at, between);
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (str_eq((str){at, n}, w)) return true;
        at += n + (end != NULL);
    }
    return false;
}

/* Which of `linears` the tensor is, or -1. */
static int linear_of(const tensor_info *t) {
    str name = t->name;
    size_t dot = str_find(name, STR("."), 4);
    if (!str_starts(name, STR("blk.")) || !str_ends(name, STR(".weight")) || dot == SIZE_MAX || t->n_dims != 2) return -1;
    str base = str_sub(name, dot + 1, name.n - dot - 1 - 7);
    for (size_t i = 0; i < COUNT_OF(linears); i++)
        if (str_is(base, linears[i].gguf)) return (int)i;
    return -1;
}

static bool is_meant(int linear, str word) {
    return str_is(word, "all-linear") || str_is(word, linears[linear].gguf) || has_word(linears[linear].others, word, ' ');
}

/* Every word must mean something that the model has. */
static mote_status check_targets(net *n, const char *targets, mote_error *err) {
    for (const char *at = targets; at && *at;) {
        size_t len = strcspn(at, ",");
        bool found = false;
        for (size_t i = 0; i < net_n_params(n) && !found; i++) {
            int linear = linear_of(net_param(n, i)->info);
            found = linear >= 0 && is_meant(linear, (str){at, len});
        }
        if (!found) FAIL(err, MOTE_E_NOT_FOUND, "no layer has a matrix '%.*s' that an adapter could be trained on", (int)MIN(len, (size_t)100), at);
        at += len + (at[len] == ',');
    }
    return MOTE_OK;
}

static bool is_target(const tensor_info *t, const char *targets) {
    int linear = linear_of(t);
    if (linear < 0) return false;
    if (!targets || !*targets) return true;
    for (const char *at = targets; *at;) {
        size_t len = strcspn(at, ",");
        if (is_meant(linear, (str){at, len})) return true;
        at += len + (at[len] == ',');
    }
    return false;
}

/* ---- opening ---- */

static mote_status add_new(lora *l, const lora_opts *o, const param *w, mote_error *err) {
    adapter_pair *p;
    rng r;
    double rank = (double)(o->rank ? o->rank : 16), alpha = o->alpha > 0 ? o->alpha : 2 * rank;
    char scale[200];
    str base = str_sub(w->info->name, 0, w->info->name.n - 7);
    (void)snprintf(scale, sizeof scale, "%.*s.scale", STR_ARG(base));
    if (net_find(l->n, scale)) FAIL(err, MOTE_E_UNSUPPORTED, "'%.*s' has a scale beside it: adapters cannot be trained on it", STR_ARG(w->info->name));
    TRY(adapter_add(l->ad, w->info, (size_t)rank, o->dora, &p, err));
    p->scale = (float)(alpha / (o->rslora ? sqrt(rank) : rank));
    rng_seed(&r, o->seed, l->ad->n);
    double bound = 1 / sqrt((double)p->cols);
    for (size_t i = 0; i < p->rank * p->cols; i++) p->a[i] = (float)((2 * rng_double(&r) - 1) * bound);
    return MOTE_OK;
}

static mote_status add_copy(lora *l, const adapter_pair *q, mote_error *err) {
    adapter_pair *p;
    char name[300];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(q->name));
    const param *w = net_find(l->n, name);
    if (!w || linear_of(w->info) < 0) FAIL(err, MOTE_E_UNSUPPORTED, "the adapter changes '%s', which cannot be trained", name);
    TRY(adapter_add(l->ad, w->info, q->rank, q->m != NULL, &p, err));
    p->scale = q->scale;
    memcpy(p->a, q->a, q->rank * q->cols * sizeof *p->a);
    memcpy(p->b, q->b, q->rows * q->rank * sizeof *p->b);
    if (q->m) memcpy(p->m, q->m, q->rows * sizeof *p->m);
    return MOTE_OK;
}

static mote_status make_pairs(lora *l, const lora_opts *o, mote_error *err) {
    if (o->from) {
        for (size_t i = 0; i < o->from->n; i++) TRY(add_copy(l, &o->from->pairs[i], err));
        return MOTE_OK;
    }
    TRY(check_targets(l->n, o->targets, err));
    for (size_t i = 0; i < net_n_params(l->n); i++) {
        const param *w = net_param(l->n, i);
        if (is_target(w->info, o->targets)) TRY(add_new(l, o, w, err));
    }
    if (l->ad->n == 0) FAIL(err, MOTE_E_UNSUPPORTED, "the model has no matrix that an adapter could be trained on");
    return MOTE_OK;
}

static mote_status make_part(lora *l, part *p, adapter_pair *q, bool fresh, mote_error *err) {
    static const char *const suffix[] = {"lora_a", "lora_b", "lora_m"};
    char name[300];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(q->name));
    *p = (part){.pair = q, .w = net_find(l->n, name), .made_at = UINT64_MAX};
    for (int i = 0; i < 3; i++) (void)snprintf(p->names[i], sizeof p->names[i], "%.140s.%s", name, suffix[i]);
    l->of[p->w - net_param(l->n, 0)] = p;
    p->a = (var){.rows = q->rank, .cols = q->cols, .x = q->a, .wants = true};
    p->b = (var){.rows = q->rows, .cols = q->rank, .x = q->b, .wants = true};
    if (!q->m) return MOTE_OK;
    p->m = (var){.rows = 1, .cols = q->rows, .x = q->m, .wants = true};
    p->inverse = MEM_NEW_N(float, q->rows);
    if (!p->inverse) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (!fresh) return MOTE_OK;
    struct norms a = {p->w, MEM_NEW_N(float, q->rows * q->cols), p->inverse, 0};
    if (!a.v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    norms_part(&a, 0, q->rows, 0);
    for (size_t r = 0; r < q->rows; r++) q->m[r] = p->inverse[r] > 0 ? 1 / p->inverse[r] : 0;
    mem_free(a.v);
    return MOTE_OK;
}

mote_status lora_open(lora **out, net *n, const lora_opts *o, mote_error *err) {
    *out = NULL;
    mote_status s = MOTE_OK;

    lora *l = MEM_NEW(lora);
    if (!l) FAIL(err, MOTE_E_MEMORY, "out of memory");
    l->n = n;
    TRYG(s, adapter_new(&l->ad, model_get_file(net_model(n)), err));
    TRYG(s, make_pairs(l, o, err));
    l->parts = MEM_NEW_N(part, l->ad->n);
    l->of = MEM_NEW_N(part *, net_n_params(n));
    if (!l->parts || !l->of) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (; l->n_parts < l->ad->n; l->n_parts++)
        TRYG(s, make_part(l, &l->parts[l->n_parts], &l->ad->pairs[l->n_parts], o->from == NULL, err));
    net_set_linear(n, product, l);
    *out = l;
    return MOTE_OK;
out:
    lora_close(&l);
    return s;
}

void lora_close(lora **pl) {
    lora *l = pl ? *pl : NULL;
    if (!l) return;
    *pl = NULL;
    net_set_linear(l->n, NULL, NULL);
    for (size_t i = 0; l->parts && i < l->ad->n; i++) mem_free(l->parts[i].inverse);
    mem_free(l->parts);
    mem_free(l->of);
    adapter_close(&l->ad);
    mem_free(l);
}

size_t lora_params(lora *l, train_param *dst, size_t cap) {
    size_t count = 0;
    for (size_t i = 0; i < l->n_parts; i++) {
        part *p = &l->parts[i];
        var *v[] = {&p->a, &p->b, p->pair->m ? &p->m : NULL};
        for (int k = 0; k < 3; k++) {
            if (!v[k]) continue;
            if (count < cap) dst[count] = (train_param){.name = str_of(p->names[k]), .v = v[k], .decay = k < 2, .muon = k < 2};
            count++;
        }
    }
    return count;
}

void lora_changed(lora *l) { l->version++; }
void lora_set_off(lora *l, bool off) { l->off = off; }
const adapter *lora_adapter(const lora *l) { return l->ad; }
