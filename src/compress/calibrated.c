/* calibrated.c: layer by layer: watch, scale, prune, round, go on with what the layer now gives. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "compress/calibrated.h"

#include "compress/blockfit.h"
#include "compress/gptq.h"
#include "compress/quantize.h"
#include "compress/scale.h"
#include "compress/tune.h"
#include "quant/sparse24.h"

#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum pruning { PRUNE_NONE, PRUNE_MAGNITUDE, PRUNE_WANDA, PRUNE_SPARSEGPT } pruning;
typedef enum rounding { ROUND_NEAREST, ROUND_GPTQ, ROUND_LEARNED, ROUND_TRAINED } rounding;

/* A tensor whose numbers are no longer the file's. */
typedef struct made {
    const param *w;
    quant_type type;
    unsigned char *bytes; /* in `type`; NULL: the parameter's values count */
    float *values;        /* before they were rounded, for the report; owned */
} made;

typedef struct work {
    const mote_calibrate_options *o;
    calib *c;
    scale_method scale;
    pruning prune;
    rounding round;
    sparsity sparse;
    mote_quantize_report plan; /* of a dry run: which format each tensor gets */
    made *made;
    size_t n_made, cap_made;
    pcre2_code **targets, **ignore;
    pcre2_match_data *match;
    mote_calibrate_report *report;
    tune tune;  /* adapters merged in before anything is rounded */
    uint64_t n_pruned, n_zeros;
    char *files; /* names of the texts, for the metadata */
} work;

/* ---- options ---- */

static mote_status choose(const char *what, const char *name, const char *const *names, size_t n, size_t *out, mote_error *err) {
    char list[128] = "";
    for (size_t i = 0; i < n; i++) {
        if (name && !strcmp(name, names[i])) {
            *out = i;
            return MOTE_OK;
        }
        size_t at = strlen(list);
        (void)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i]);
    }
    if (!name) {
        *out = 0;
        return MOTE_OK;
    }
    FAIL(err, MOTE_E_USAGE, "unknown way to %s '%s': expected one of %s", what, name, list);
}

static mote_status read_methods(work *k, mote_error *err) {
    static const char *const scales[] = {"none", "awq", "smoothquant"}, *const prunes[] = {"none", "magnitude", "wanda", "sparsegpt"},
                             *const rounds[] = {"nearest", "gptq", "autoround", "block-qat"};
    size_t scale, prune, round;
    const mote_calibrate_options *o = k->o;
    TRY(choose("scale", o->scale, scales, COUNT_OF(scales), &scale, err));
    TRY(choose("prune", o->prune, prunes, COUNT_OF(prunes), &prune, err));
    TRY(choose("round", o->round, rounds, COUNT_OF(rounds), &round, err));
    k->scale = (scale_method)scale;
    k->prune = (pruning)prune;
    k->round = (rounding)round;
    k->sparse = (sparsity){o->sparsity, o->keep, o->of};
    bool pattern = o->of == 0 || (o->keep >= 1 && o->keep < o->of && o->of <= 32), share = o->sparsity >= 0 && o->sparsity < 1;
    if (!pattern || !share || (o->of && o->sparsity > 0)) {
        FAIL(err, MOTE_E_USAGE, "sparsity must be a share of 0 to 1, or N:M with N < M <= 32");
    }
    if ((k->prune != PRUNE_NONE) != sparsity_any(&k->sparse)) {
        FAIL(err, MOTE_E_USAGE, k->prune ? "pruning needs a sparsity, like 0.5 or 2:4" : "a sparsity needs a way to prune");
    }
    if (k->prune && k->round >= ROUND_LEARNED) FAIL(err, MOTE_E_UNSUPPORTED, "pruning goes with nearest and gptq; %s would fill the zeros again", o->round);
    if (!(o->damp >= 0 && o->damp < 1e3) || !(o->alpha >= 0 && o->alpha <= 1) || !(o->lr >= 0 && o->lr < 1e3)) {
        FAIL(err, MOTE_E_USAGE, "damping, alpha (at most 1) and step sizes must be positive");
    }
    return MOTE_OK;
}

static mote_status compile(pcre2_code ***out, const char *const *patterns, size_t n, mote_error *err) {
    *out = mem_calloc(n + 1, sizeof **out);
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        int code;
        size_t at;
        (*out)[i] = pcre2_compile((const unsigned char *)patterns[i], PCRE2_ZERO_TERMINATED, PCRE2_CASELESS, &code, &at, NULL);
        if (!(*out)[i]) FAIL(err, MOTE_E_USAGE, "'%s' is no regular expression (at character %zu)", patterns[i], at + 1);
    }
    return MOTE_OK;
}

static bool any_matches(const work *k, pcre2_code *const *codes, str name) {
    for (; *codes; codes++) {
        if (pcre2_match(*codes, (const unsigned char *)name.p, name.n, 0, 0, k->match, NULL) >= 0) return true;
    }
    return false;
}

/* The format that the plan gives it. */
static quant_type type_of(void *ctx, const param *w) {
    const work *k = ctx;
    for (size_t i = 0; i < k->plan.n_tensors; i++) {
        if (str_is(w->info->name, k->plan.tensors[i].name)) return quant_by_name(k->plan.tensors[i].to)->type;
    }
    return w->info->type;
}

/* Whether the method is meant for this tensor. */
static bool is_target(void *ctx, const param *w) {
    const work *k = ctx;
    str name = w->info->name;
    if (k->targets[0] && !any_matches(k, k->targets, name)) return false;
    if (k->tune.n && type_of(ctx, w) == w->info->type && !tune_has(&k->tune, name)) return false;
    return !any_matches(k, k->ignore, name) && str_find(name, STR("ffn_gate_inp"), 0) == SIZE_MAX;
}

/* ---- the plan: which format each tensor gets ---- */

static mote_status make_plan(work *k, const char *in, mote_error *err) {
    mote_quantize_options dry = k->o->quantize;
    if (!dry.type) dry.type = "COPY";
    dry.dry_run = true;
    dry.progress = NULL;
    TRY(compress_quantize(in, NULL, &dry, NULL, &k->plan, err));
    for (size_t i = 0; i < k->plan.n_tensors; i++) {
        const mote_quantized_tensor *t = &k->plan.tensors[i];
        const quant_format *from = quant_by_name(t->from), *to = quant_by_name(t->to);
        if (from->block > 1 && !dry.allow_requantize && t->n_dims > 1) {
            FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s' is %s already; quantizing again loses more: allow it with --allow-requantize", t->name, t->from);
        }
        if (to != from && !to->encode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s' should become %s, which can be read but not written", t->name, t->to);
    }
    return MOTE_OK;
}

/* ---- what has been made ---- */

static made *find_made(work *k, str name) {
    for (size_t i = k->n_made; i-- > 0;) {
        if (str_eq(k->made[i].w->info->name, name)) return &k->made[i];
    }
    return NULL;
}

static mote_status add_made(work *k, const param *w, made **out, mote_error *err) {
    *out = find_made(k, w->info->name);
    if (*out) return MOTE_OK;
    TRY(mem_grow(&k->made, &k->cap_made, k->n_made + 1, sizeof *k->made, (size_t)1 << 20, err));
    *out = &k->made[k->n_made++];
    **out = (made){.w = w, .type = type_of(k, w)};
    return MOTE_OK;
}

/* For folds. Room is made before a layer begins, so that this cannot fail half-way. */
static void touched(void *ctx, const param *w) {
    work *k = ctx;
    if (!find_made(k, w->info->name)) k->made[k->n_made++] = (made){.w = w, .type = type_of(k, w)};
}

/* The tensor's bytes and a copy of its float values; of several matrices all are rounded to nearest first: an expert that no token
 * reached stays so. */
static mote_status begin_tensor(work *k, const param *w, made **out, mote_error *err) {
    size_t row, rows = w->v.rows, cols = w->v.cols;
    TRY(add_made(k, w, out, err));
    made *m = *out;
    if (m->bytes) return MOTE_OK;
    TRY(quant_row_bytes(quant_get((int)m->type), cols, &row, err));
    m->bytes = MEM_NEW_N(unsigned char, rows * row);
    m->values = MEM_NEW_N(float, rows * cols);
    if (!m->bytes || !m->values) FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(w->info->name));
    memcpy(m->values, w->v.x, rows * cols * sizeof(float));
    if (rows == (size_t)w->info->ne[1]) return MOTE_OK;
    TRY(gptq_nearest(w->v.x, rows, cols, m->type, NULL, m->bytes, k->c->pool, err));
    memcpy(w->v.x, m->values, rows * cols * sizeof(float));
    return MOTE_OK;
}

/* ---- one matrix ---- */

/* Pruned and rounded in the dense format with the same scales, then stored as 2:4. */
static mote_status solve_24(work *k, const calib_use *u, float *x, gptq_opts *g, quant_type type, quant_type dense, unsigned char *bytes,
                            mote_error *err) {
    size_t rows = (size_t)u->w->info->ne[1], row_bytes;
    if (g->sparse.keep != 2 || g->sparse.of != 4) FAIL(err, MOTE_E_USAGE, "%s needs --sparsity 2:4", quant_get((int)type)->name);
    TRY(quant_row_bytes(quant_get((int)dense), u->w->v.cols, &row_bytes, err));
    unsigned char *t = MEM_NEW_N(unsigned char, rows * row_bytes);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory for a matrix of %zu rows", rows);
    g->type = dense;
    mote_status s = gptq_solve(x, rows, u->h, g, t, NULL, k->c->gemm, k->c->pool, err);
    if (s == MOTE_OK && !quant_24_pack(type, bytes, t, rows * u->w->v.cols)) s = ERR(err, MOTE_E_UNSUPPORTED, "more than two of four weights are left");
    mem_free(t);
    return s;
}

static mote_status prune_and_round(work *k, const calib_use *u, float *x, unsigned char *bytes, quant_type type, mote_error *err) {
    size_t rows = (size_t)u->w->info->ne[1], cols = u->w->v.cols;
    bool rounds = quant_get((int)type)->block > 1, feedback = k->round == ROUND_GPTQ && rounds && quant_grid_of((int)type);
    bool sparsegpt = k->prune == PRUNE_SPARSEGPT;
    gptq_opts g = {.type = type, .damp = (float)k->o->damp, .block = k->o->block, .act_order = !k->o->no_act_order};
    if (k->prune == PRUNE_MAGNITUDE || k->prune == PRUNE_WANDA) {
        TRY(sparse_by_score(x, rows, cols, k->prune == PRUNE_WANDA ? u->h->mean_sq : NULL, &k->sparse, k->c->pool, err));
    }
    if (sparsegpt) g.sparse = k->sparse;
    quant_type dense;
    if (sparsegpt && k->round == ROUND_GPTQ && quant_24_dense(type, &dense)) return solve_24(k, u, x, &g, type, dense, bytes, err);
    if (sparsegpt && !feedback) {
        g.type = QUANT_F32;
        TRY(gptq_solve(x, rows, u->h, &g, NULL, NULL, k->c->gemm, k->c->pool, err));
    }
    if (feedback && (sparsegpt || k->prune == PRUNE_NONE)) return gptq_solve(x, rows, u->h, &g, bytes, NULL, k->c->gemm, k->c->pool, err);
    return gptq_nearest(x, rows, cols, type, rounds ? u->h->mean_sq : NULL, bytes, k->c->pool, err);
}

/* A tuned matrix into the format that its base has: under the base's own scales, of which what the tune left alone needs no rounding
 * at all, or under new ones; whichever leaves less error in what the matrix gives. */
static mote_status round_tuned(work *k, const calib_use *u, float *x, unsigned char *bytes, quant_type type, mote_error *err) {
    size_t rows = (size_t)u->w->info->ne[1], cols = u->w->v.cols, n = rows * cols, row_bytes;
    gptq_opts g = {.type = type, .damp = (float)k->o->damp, .block = k->o->block, .act_order = !k->o->no_act_order, .keep_scales = true};
    double anew, kept;
    TRY(quant_row_bytes(quant_get((int)type), cols, &row_bytes, err));
    float *wanted = MEM_NEW_N(float, n), *y = MEM_NEW_N(float, n);
    unsigned char *own = MEM_NEW_N(unsigned char, rows * row_bytes);
    mote_status s = MOTE_OK;
    if (!wanted || !y || !own) FAILG(s, err, MOTE_E_MEMORY, "out of memory for a matrix of %zu × %zu", rows, cols);
    memcpy(wanted, x, n * sizeof *x);
    memcpy(y, x, n * sizeof *y);
    memcpy(own, u->w->info->data + u->mat * rows * row_bytes, rows * row_bytes);
    TRYG(s, prune_and_round(k, u, x, bytes, type, err));
    TRYG(s, k->round == ROUND_GPTQ ? gptq_solve(y, rows, u->h, &g, own, NULL, k->c->gemm, k->c->pool, err)
                                   : gptq_place(y, rows, cols, type, own, k->c->pool, err));
    TRYG(s, tune_distance(u->h, wanted, x, rows, k->c->gemm, &anew, err));
    TRYG(s, tune_distance(u->h, wanted, y, rows, k->c->gemm, &kept, err));
    if (kept < anew) {
        memcpy(x, y, n * sizeof *x);
        memcpy(bytes, own, rows * row_bytes);
    }
out:
    mem_free(wanted);
    mem_free(y);
    mem_free(own);
    return s;
}

static mote_status do_use(work *k, const calib_use *u, mote_error *err) {
    made *m;
    size_t rows = (size_t)u->w->info->ne[1], cols = u->w->v.cols, row_bytes;
    float *x = u->w->v.x + u->mat * rows * cols;
    TRY(begin_tensor(k, u->w, &m, err));
    TRY(quant_row_bytes(quant_get((int)m->type), cols, &row_bytes, err));
    bool base = k->round != ROUND_NEAREST && !k->scale && !k->prune && m->type == u->w->info->type && quant_grid_of((int)m->type);
    bool tuned = base && tune_has(&k->tune, u->w->info->name);
    mote_status s = (tuned ? round_tuned : prune_and_round)(k, u, x, m->bytes + u->mat * rows * row_bytes, m->type, err);
    if (s != MOTE_OK) return err_prefix(err, s, "tensor '%.*s'", STR_ARG(u->w->info->name));
    k->report->n_matrices++;
    if (!k->prune) return MOTE_OK;
    for (size_t i = 0; i < rows * cols; i++) k->n_zeros += x[i] == 0;
    k->n_pruned += rows * cols;
    return MOTE_OK;
}

/* ---- one layer ---- */

/* Learned rounding: all matrices of the layer at once, from nearest levels on. */
static mote_status learn_layer(work *k, const float *target, mote_error *err) {
    calib *c = k->c;
    blockfit_part *parts = MEM_NEW_N(blockfit_part, c->n_uses + 1);
    blockfit_result r;
    mote_status s = MOTE_OK;
    size_t n = 0;
    if (!parts) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; s == MOTE_OK && i < c->n_uses; i++) {
        const calib_use *u = &c->uses[i];
        const quant_grid *g = quant_grid_of((int)type_of(k, u->w));
        size_t rows = (size_t)u->w->info->ne[1], cols = u->w->v.cols, row_bytes;
        made *m;
        if (!is_target(k, u->w)) continue;
        s = do_use(k, u, err);
        if (s == MOTE_OK) s = begin_tensor(k, u->w, &m, err);
        if (s != MOTE_OK || !g) continue;
        s = quant_row_bytes(quant_get((int)m->type), cols, &row_bytes, err);
        parts[n++] = (blockfit_part){u->w, u->mat, g, m->values + u->mat * rows * cols, m->bytes + u->mat * rows * row_bytes};
    }
    blockfit_opts o = {.train = k->round == ROUND_TRAINED, .steps = k->o->steps, .lr = (float)k->o->lr, .seed = k->o->seed};
    if (s == MOTE_OK && n) {
        s = blockfit_run(c, target, parts, n, &o, &r, err);
        k->report->n_layers_learned += s == MOTE_OK && r.kept;
    }
    mem_free(parts);
    return s;
}

static mote_status do_layer(work *k, mote_error *err) {
    calib *c = k->c;
    enum { LAYER_TENSORS = 64 };
    TRY(mem_grow(&k->made, &k->cap_made, k->n_made + LAYER_TENSORS, sizeof *k->made, (size_t)1 << 20, err));
    TRY(calib_watch(c, err));
    if (c->x_float) TRY(calib_run(c, c->x_float, c->x_float, err));
    scale_opts so = {.method = k->scale, .alpha = (float)k->o->alpha, .n_grid = (int)MIN(k->o->n_grid, (size_t)1000), .type_of = type_of, .wanted = is_target, .touched = touched, .ctx = k};
    TRY(scale_layer(c, &so, &k->report->n_groups_scaled, err));
    if (k->round >= ROUND_LEARNED) {
        TRY(learn_layer(k, c->x_float, err));
    } else {
        for (size_t i = 0; i < c->n_uses; i++) {
            if (is_target(k, c->uses[i].w)) TRY(do_use(k, &c->uses[i], err));
        }
    }
    for (size_t i = 0; i < c->n_uses && k->tune.n && !k->scale; i++) {
        const made *m = find_made(k, c->uses[i].w->info->name);
        if (m && m->values && is_target(k, c->uses[i].w)) TRY(tune_measure(&k->tune, &c->uses[i], m->values, c->gemm, err));
    }
    if (c->at + 1 < c->n_layer) TRY(calib_run(c, c->x, c->x, err));
    return MOTE_OK;
}

/* The embedding comes first: what the layers see begins with its rounded rows. */
static mote_status round_embedding(work *k, mote_error *err) {
    param *w = net_find(k->c->net, "token_embd.weight");
    if (!w || quant_get((int)type_of(k, w))->block == 1) return MOTE_OK;
    if (type_of(k, w) == w->info->type && !tune_has(&k->tune, w->info->name)) return MOTE_OK; /* as it is in the file */
    size_t row_bytes;
    TRY(quant_row_bytes(quant_get((int)type_of(k, w)), w->v.cols, &row_bytes, err));
    unsigned char *bytes = MEM_NEW_N(unsigned char, w->v.rows * row_bytes);
    if (!bytes) FAIL(err, MOTE_E_MEMORY, "out of memory for the embedding");
    mote_status s = gptq_nearest(w->v.x, w->v.rows, w->v.cols, type_of(k, w), NULL, bytes, k->c->pool, err);
    mem_free(bytes);
    return s;
}

/* ---- the file ---- */

static void give(void *ctx, str tensor, quant_type to, const float **values, const void **bytes) {
    work *k = ctx;
    const made *m = find_made(k, tensor);
    if (!m) return;
    *values = m->values ? m->values : m->w->v.x;
    if (m->bytes && m->type == to) *bytes = m->bytes;
}

static mote_status declare(void *ctx, gguf_writer *w, mote_error *err) {
    const work *k = ctx;
    const mote_calibrate_options *o = k->o;
    char method[96];
    (void)snprintf(method, sizeof method, "%s%s%s%s%s", k->scale ? o->scale : "", k->scale ? "+" : "", k->prune ? o->prune : "",
                   k->prune ? "+" : "", o->round ? o->round : "nearest");
    TRY(gguf_put_str(w, "mote.calibration.method", str_of(method), err));
    TRY(gguf_put_str(w, "mote.calibration.files", str_of(k->files), err));
    TRY(gguf_put_u32(w, "mote.calibration.tokens", (uint32_t)k->c->n_tokens, err));
    if (k->prune) TRY(gguf_put_f32(w, "mote.calibration.sparsity", k->n_pruned ? (float)((double)k->n_zeros / (double)k->n_pruned) : 0, err));
    return MOTE_OK;
}

/* The files' names without folders, joined. */
static mote_status name_files(work *k, mote_error *err) {
    buf b;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < k->o->n_text; i++) {
        buf_printf(&b, "%s%s", i ? ", " : "", basename(k->o->text[i]));
    }
    mote_status s = buf_check(&b, "the names of the calibration texts", err);
    if (s == MOTE_OK && !(k->files = mem_strdup(b.n ? b.p : "built in"))) s = ERR(err, MOTE_E_MEMORY, "out of memory");
    buf_free(&b);
    return s;
}

/* The adapters into the float model that the methods see. What no method takes on is encoded as it is written. */
static mote_status merge_tune(work *k, mote_error *err) {
    const mote_calibrate_options *o = k->o;
    if (!o->n_adapters) return MOTE_OK;
    TRY(tune_open(&k->tune, o->adapters, o->n_adapters, k->c->net, err));
    for (size_t i = 0; i < net_n_params(k->c->net); i++) {
        made *m;
        const param *w = net_param(k->c->net, i);
        if (tune_has(&k->tune, w->info->name)) TRY(add_made(k, w, &m, err));
    }
    return MOTE_OK;
}

static mote_status go(work *k, const char *in, const char *out, mote_error *err) {
    const mote_calibrate_options *o = k->o;
    if (!in || !*in || !out || !*out) FAIL(err, MOTE_E_USAGE, "the path of a model and one for the result are needed");
    TRY(read_methods(k, err));
    TRY(compile(&k->targets, o->targets, o->n_targets, err));
    TRY(compile(&k->ignore, o->ignore, o->n_ignore, err));
    k->match = pcre2_match_data_create(1, NULL);
    if (!k->match) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(make_plan(k, in, err));
    TRY(name_files(k, err));
    calib_opts co = {.files = o->text, .n_files = o->n_text, .n_seq = o->n_seqs, .n_ctx = o->n_ctx, .n_threads = o->quantize.n_threads,
                     .both = k->round >= ROUND_LEARNED};
    TRY(calib_open(&k->c, in, &co, err));
    k->report->n_tokens = k->c->n_tokens;
    TRY(merge_tune(k, err));
    TRY(round_embedding(k, err));
    for (; k->c->at < k->c->n_layer; k->c->at++) {
        TRY(do_layer(k, err));
        if (o->layer_done && !o->layer_done(o->layer_ctx, k->c->at + 1, k->c->n_layer)) {
            FAIL(err, MOTE_E_CANCELLED, "cancelled after %zu of %zu layers", k->c->at + 1, k->c->n_layer);
        }
    }
    if (k->n_pruned) k->report->sparsity = (double)k->n_zeros / (double)k->n_pruned;
    tune_say(&k->tune, &k->report->tune);
    mote_quantize_options q = o->quantize;
    if (!q.type) q.type = "COPY";
    quantize_source source = {give, k, declare};
    return compress_quantize_from(in, out, &q, NULL, &source, &k->report->quantize, err);
}

static void free_codes(pcre2_code **codes) {
    for (size_t i = 0; codes && codes[i]; i++) pcre2_code_free(codes[i]);
    mem_free(codes);
}

mote_status compress_calibrated(const char *in, const char *out, const mote_calibrate_options *o, mote_calibrate_report *report,
                                mote_error *err) {
    mote_calibrate_report own = {0};
    work k = {.o = o, .report = &own};
    uint64_t began = clock_ns();
    mote_status s = go(&k, in, out, err);
    own.quantize.seconds = (double)(clock_ns() - began) * 1e-9;
    for (size_t i = 0; i < k.n_made; i++) {
        mem_free(k.made[i].bytes);
        mem_free(k.made[i].values);
    }
    mem_free(k.made);
    mem_free(k.files);
    free_codes(k.targets);
    free_codes(k.ignore);
    pcre2_match_data_free(k.match);
    compress_report_free(&k.plan);
    tune_close(&k.tune);
    calib_close(&k.c);
    if (s == MOTE_OK && report) *report = own;
    else compress_calibrated_free(&own);
    return s;
}

void compress_calibrated_free(mote_calibrate_report *report) {
    if (report) compress_report_free(&report->quantize);
}
