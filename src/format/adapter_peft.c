/* adapter_peft.c: adapters in PEFT's folder: adapter_config.json, adapter_model.safetensors.
 *
 * Modules have transformers' names, rows in transformers' order. The family's rules, run on a matrix of numbered
 * elements (origin.h), say which GGUF tensors a module becomes and where its rows and columns go; A's columns and B's
 * rows go the same way. */
#include "format/adapter.h"
#include "format/origin.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#define PREFIX "base_model.model."

typedef struct peft {
    const json_t *config, *rank_pattern, *alpha_pattern;
    int64_t rank;
    double alpha;
    bool rslora, fan_in_fan_out;
} peft;

/* One module of the folder, on its way into GGUF's tensors. */
typedef struct module {
    adapter *ad;
    const model_file *base;
    str name; /* of the module's weight: "model.layers.0.self_attn.q_proj.weight" */
    size_t rank, in, out;
    float *a, *b, *m; /* [rank, in], [out, rank], [out] or NULL */
    float scale;
    bool turned; /* the weight is stored [in, out] */
    size_t n_made;
} module;

/* ---- config ---- */

/* A pattern names the end of a module's name, as PEFT's regular expressions mostly do. */
static mote_status find_pattern(const json_t *patterns, str module_name, double *v, mote_error *err) {
    union { /* jansson iterates only over what is not const; nothing is changed */
        const json_t *in;
        json_t *out;
    } o = {patterns};
    for (void *it = json_object_iter(o.out); it; it = json_object_iter_next(o.out, it)) {
        str key = str_of(json_object_iter_key(it));
        if (key.n && key.p[0] == '^') key = str_sub(key, 1, key.n - 1);
        for (size_t i = 0; i < key.n; i++)
            if (strchr("*+?()[]|\\$^", key.p[i]))
                FAIL(err, MOTE_E_UNSUPPORTED, "adapter_config.json: the pattern '%.*s' is a regular expression; only names are read",
                     STR_ARG(key));
        if (!str_ends(module_name, key) || (module_name.n > key.n && module_name.p[module_name.n - key.n - 1] != '.')) continue;
        if (!json_is_number(json_object_iter_value(it)))
            FAIL(err, MOTE_E_FORMAT, "adapter_config.json: the pattern '%.*s' has no number", STR_ARG(key));
        *v = json_number_value(json_object_iter_value(it));
    }
    return MOTE_OK;
}

static mote_status read_config(peft *p, const json_t *c, mote_error *err) {
    str type = json_get_str(c, "peft_type"), bias = json_get_str(c, "bias");
    if (!json_is_object(c)) FAIL(err, MOTE_E_FORMAT, "adapter_config.json is not an object");
    if (!str_is(type, "LORA")) FAIL(err, MOTE_E_UNSUPPORTED, "peft_type is '%.*s'; only LORA is read", STR_ARG(type));
    if (bias.n && !str_is(bias, "none")) FAIL(err, MOTE_E_UNSUPPORTED, "adapter_config.json: bias '%.*s' is not supported", STR_ARG(bias));
    if (json_array_size(json_object_get(c, "modules_to_save")))
        FAIL(err, MOTE_E_UNSUPPORTED, "adapter_config.json: modules_to_save are whole weights, not adapters: merge them first");
    *p = (peft){.config = c, .rank_pattern = json_object_get(c, "rank_pattern"), .alpha_pattern = json_object_get(c, "alpha_pattern"),
                .rank = json_get_int(c, "r", 8), .alpha = json_get_num(c, "lora_alpha", 8),
                .rslora = json_get_bool(c, "use_rslora", false), .fan_in_fan_out = json_get_bool(c, "fan_in_fan_out", false)};
    if (p->rank < 1 || p->rank > (int64_t)ADAPTER_RANK_MAX)
        FAIL(err, MOTE_E_RANGE, "adapter_config.json: r is %lld; expected 1 to %u", (long long)p->rank, ADAPTER_RANK_MAX);
    return MOTE_OK;
}

/* ---- reading ---- */

static mote_status read_part(const st_tensor *t, size_t rows, size_t cols, float **x, mote_error *err) {
    size_t n = rows * cols;
    const quant_format *f = str_is(t->dtype, "F32") ? quant_get(QUANT_F32) : str_is(t->dtype, "F16") ? quant_get(QUANT_F16)
                          : str_is(t->dtype, "BF16") ? quant_get(QUANT_BF16) : NULL;
    if (!f) FAIL(err, MOTE_E_UNSUPPORTED, "'%.*s' has dtype %.*s; F32, F16 and BF16 are read", STR_ARG(t->name), STR_ARG(t->dtype));
    *x = MEM_NEW_N(float, n);
    if (!*x) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(t->name));
    f->decode(*x, t->data, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite((*x)[i])) FAIL(err, MOTE_E_FORMAT, "'%.*s' holds a number that is not finite, at %zu", STR_ARG(t->name), i);
    return MOTE_OK;
}

/* One tensor that the module becomes. */
static mote_status take_made(void *ctx, const tensor_info *made, const origin_map *map, mote_error *err) {
    module *d = ctx;
    char name[300];
    adapter_pair *p;
    size_t src;
    bool turned;
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(made->name));
    const tensor_info *t = model_file_find_tensor(d->base, name);
    if (!t) FAIL(err, MOTE_E_MISMATCH, "module '%.*s' is '%s' here, which the model does not have", STR_ARG(d->name), name);
    if (memcmp(t->ne, made->ne, sizeof t->ne) != 0)
        FAIL(err, MOTE_E_MISMATCH, "module '%.*s' adapts a matrix of %zu outputs and %zu inputs, but '%s' of the model is [%llu, %llu]: "
             "made for another model?", STR_ARG(d->name), d->out, d->in, name, (unsigned long long)t->ne[1], (unsigned long long)t->ne[0]);
    size_t rows = (size_t)t->ne[1], cols = (size_t)t->ne[0];
    uint64_t *row = MEM_NEW_N(uint64_t, rows), *col = MEM_NEW_N(uint64_t, cols);
    mote_status s = MOTE_OK;
    if (!row || !col) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    if (map->minus_exp || fabsf(map->add) > 0 || map->scales || fabsf(map->scale - 1) > 0 ||
        !origin_map_matrix(map, made, &src, row, col, &turned) || turned != d->turned)
        FAILG(s, err, MOTE_E_UNSUPPORTED, "module '%.*s' cannot be adapted: its weights are not only moved on their way to '%s'",
              STR_ARG(d->name), name);
    TRYG(s, adapter_add(d->ad, t, d->rank, d->m != NULL, &p, err));
    p->scale = d->scale;
    for (size_t k = 0; k < d->rank; k++)
        for (size_t c = 0; c < cols; c++) p->a[k * cols + c] = d->a[k * d->in + col[c]];
    for (size_t r = 0; r < rows; r++) {
        memcpy(p->b + r * d->rank, d->b + row[r] * d->rank, d->rank * sizeof(float));
        if (d->m) p->m[r] = d->m[row[r]];
    }
    d->n_made++;
out:
    mem_free(row);
    mem_free(col);
    return s;
}

/* The weight's shape as it is stored: [out, in], or [in, out] (GPT-2's Conv1D). */
static bool is_turned(const origin *o, const peft *p, const module *d) {
    for (size_t i = 0; i < origin_n_sources(o); i++) {
        const st_tensor *t = origin_source(o, i);
        if (str_eq(t->name, d->name) && t->n_dims == 2) return t->shape[0] == d->in && t->shape[1] == d->out && d->in != d->out ? true : p->fan_in_fan_out;
    }
    return p->fan_in_fan_out;
}

static mote_status check_shapes(const module *d, const st_tensor *a, const st_tensor *b, const st_tensor *m, int64_t rank, mote_error *err) {
    if (a->n_dims != 2 || b->n_dims != 2 || a->shape[0] != b->shape[1] || a->shape[1] == 0 || b->shape[0] == 0)
        FAIL(err, MOTE_E_MISMATCH, "module '%.*s': lora_A is [%llu, %llu] and lora_B [%llu, %llu]; [rank, in] and [out, rank] are expected",
             STR_ARG(d->name), (unsigned long long)a->shape[0], (unsigned long long)(a->n_dims > 1 ? a->shape[1] : 1),
             (unsigned long long)b->shape[0], (unsigned long long)(b->n_dims > 1 ? b->shape[1] : 1));
    if (a->shape[0] != (uint64_t)rank)
        FAIL(err, MOTE_E_MISMATCH, "module '%.*s': lora_A has rank %llu, adapter_config.json says %lld", STR_ARG(d->name),
             (unsigned long long)a->shape[0], (long long)rank);
    if (m && (m->n_dims != 1 || m->shape[0] != b->shape[0]))
        FAIL(err, MOTE_E_MISMATCH, "module '%.*s': %llu magnitudes for %llu rows", STR_ARG(d->name), (unsigned long long)m->shape[0],
             (unsigned long long)b->shape[0]);
    return MOTE_OK;
}

static mote_status read_module(module *d, origin *o, const peft *p, const st_tensor *a, const st_tensor *b, const st_tensor *m, mote_error *err) {
    double rank = (double)p->rank, alpha = p->alpha;
    str module_name = str_sub(d->name, 0, d->name.n - 7); /* without ".weight" */
    mote_status s;
    TRY(find_pattern(p->rank_pattern, module_name, &rank, err));
    TRY(find_pattern(p->alpha_pattern, module_name, &alpha, err));
    if (!(rank >= 1 && rank <= (double)ADAPTER_RANK_MAX) || !isfinite(alpha) || !(alpha > 0))
        FAIL(err, MOTE_E_RANGE, "module '%.*s': rank %g and alpha %g make no sense", STR_ARG(d->name), rank, alpha);
    TRY(check_shapes(d, a, b, m, (int64_t)rank, err));
    d->rank = (size_t)a->shape[0];
    d->in = (size_t)a->shape[1];
    d->out = (size_t)b->shape[0];
    d->scale = (float)(alpha / (p->rslora ? sqrt(rank) : rank));
    d->turned = is_turned(o, p, d);
    TRYG(s, read_part(a, d->rank, d->in, &d->a, err));
    TRYG(s, read_part(b, d->out, d->rank, &d->b, err));
    if (m) TRYG(s, read_part(m, d->out, 1, &d->m, err));
    st_tensor weight = {.name = d->name, .dtype = STR("F32"), .n_dims = 2, .shape = {d->turned ? d->in : d->out, d->turned ? d->out : d->in}};
    TRYG(s, origin_trace(o, &weight, take_made, d, err));
    if (d->n_made == 0) s = ERR(err, MOTE_E_MISMATCH, "module '%.*s' is not used by the model", STR_ARG(d->name));
out:
    mem_free(d->a);
    mem_free(d->b);
    mem_free(d->m);
    return s;
}

static mote_status read_modules(adapter *ad, origin *o, const peft *p, const st_file *st, const model_file *base, mote_error *err) {
    for (size_t i = 0; i < st_n_tensors(st); i++) {
        const st_tensor *a = st_tensor_at(st, i), *b, *m;
        char name[512], other[600];
        str t = a->name;
        if (str_ends(t, STR(".lora_B.weight")) || str_ends(t, STR(".lora_magnitude_vector")) || str_ends(t, STR(".lora_magnitude_vector.weight")))
            continue;
        if (!str_starts(t, STR(PREFIX)) || !str_ends(t, STR(".lora_A.weight")) || t.n >= sizeof name)
            FAIL(err, MOTE_E_UNSUPPORTED, "'%.*s' is no adapter of a linear layer: merge it first", STR_ARG(t));
        int n = (int)(t.n - 14);
        (void)snprintf(other, sizeof other, "%.*s.lora_B.weight", n, t.p);
        b = st_find(st, other);
        if (!b) FAIL(err, MOTE_E_FORMAT, "'%.*s' has no lora_B beside it", STR_ARG(t));
        (void)snprintf(other, sizeof other, "%.*s.lora_magnitude_vector", n, t.p);
        m = st_find(st, other);
        if (!m) {
            (void)snprintf(other, sizeof other, "%.*s.lora_magnitude_vector.weight", n, t.p);
            m = st_find(st, other);
        }
        (void)snprintf(name, sizeof name, "%.*s.weight", n - (int)strlen(PREFIX), t.p + strlen(PREFIX));
        module d = {.ad = ad, .base = base, .name = str_of(name)};
        TRY(read_module(&d, o, p, a, b, m, err));
    }
    return MOTE_OK;
}

mote_status adapter_read_peft(adapter *ad, const char *dir, const model_file *base, mote_error *err) {
    file_map text = {0}, data = {0};
    json_t *config = NULL;
    st_file *st = NULL;
    origin *o = NULL;
    peft p;
    mote_status s;
    TRYG(s, file_open_at(&text, dir, "adapter_config.json", FILE_READ, err));
    TRYG(s, json_parse(&config, (str){(const char *)text.p, text.n}, "adapter_config.json", err));
    TRYG(s, read_config(&p, config, err));
    TRYG(s, file_open_at(&data, dir, "adapter_model.safetensors", FILE_MAP, err));
    TRYG(s, st_parse(&st, data.p, data.n, err));
    TRYG(s, origin_open_like(&o, base, err));
    s = read_modules(ad, o, &p, st, base, err);
out:
    origin_close(&o);
    st_close(&st);
    file_close(&data);
    file_close(&text);
    json_decref(config);
    return s;
}

/* ---- writing ---- */

/* A module being put together from the pairs of the GGUF tensors that it becomes. Several: their ranks side by side. */
typedef struct gathering {
    const adapter *ad;
    char name[300];
    size_t in, out, rank, at; /* at: ranks placed so far */
    size_t n_parts;
    bool turned, dora;
    float scale, *a, *b, *m;
} gathering;

static mote_status count_part(void *ctx, const tensor_info *made, const origin_map *map, mote_error *err) {
    gathering *g = ctx;
    const adapter_pair *p = adapter_find(g->ad, made->name);
    (void)map, (void)err;
    if (!p) return MOTE_OK;
    g->rank += p->rank;
    g->dora = g->dora || p->m;
    g->scale = g->n_parts++ ? 1 : p->scale;
    return MOTE_OK;
}

static mote_status place_part(void *ctx, const tensor_info *made, const origin_map *map, mote_error *err) {
    gathering *g = ctx;
    const adapter_pair *p = adapter_find(g->ad, made->name);
    if (!p) return MOTE_OK;
    if (made->ne[0] != p->cols || made->ne[1] != p->rows) FAIL(err, MOTE_E_MISMATCH, "'%.*s' has another shape in the folder", STR_ARG(p->name));
    uint64_t *row = MEM_NEW_N(uint64_t, p->rows), *col = MEM_NEW_N(uint64_t, p->cols);
    mote_status s = MOTE_OK;
    size_t src;
    bool turned;
    if (!row || !col) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    if (!origin_map_matrix(map, made, &src, row, col, &turned))
        FAILG(s, err, MOTE_E_UNSUPPORTED, "'%.*s' has no adapter in PEFT's form: its weights are not only moved", STR_ARG(p->name));
    float by = g->n_parts > 1 ? p->scale : 1;
    for (size_t k = 0; k < p->rank; k++)
        for (size_t c = 0; c < p->cols; c++) g->a[(g->at + k) * g->in + col[c]] = p->a[k * p->cols + c];
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t k = 0; k < p->rank; k++) g->b[row[r] * g->rank + g->at + k] = by * p->b[r * p->rank + k];
        if (p->m) g->m[row[r]] = p->m[r];
    }
    g->at += p->rank;
out:
    mem_free(row);
    mem_free(col);
    return s;
}

/* The source matrix that a pair's tensor comes from: its name and shape. */
static mote_status find_module(gathering *g, origin *o, const model_file *base, const adapter_pair *p, mote_error *err) {
    char name[300];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(p->name));
    const tensor_info *t = model_file_find_tensor(base, name);
    if (!t) FAIL(err, MOTE_E_MISMATCH, "the adapter changes '%s', which the model does not have", name);
    g->in = p->cols;
    g->out = p->rows;
    for (size_t i = 0; i < origin_n_sources(o); i++) {
        const st_tensor *src = origin_source(o, i);
        if (!str_eq(src->name, t->origin) || src->n_dims != 2) continue;
        (void)snprintf(g->name, sizeof g->name, "%.*s", STR_ARG(src->name));
        g->turned = src->shape[1] != p->cols && src->shape[0] == p->cols;
        g->out = (size_t)src->shape[g->turned ? 1 : 0];
        return MOTE_OK;
    }
    if (!origin_name(o, p->name, g->name, sizeof g->name))
        FAIL(err, MOTE_E_UNSUPPORTED, "'%s' has no name in PEFT's form: give the Hugging Face folder as the model", name);
    return MOTE_OK;
}

typedef struct output {
    st_tensor *t;
    size_t n;
    arena names;
    json_t *rank_pattern, *alpha_pattern, *targets;
} output;

static mote_status put_tensor(output *w, const gathering *g, const char *suffix, float *x, size_t rows, size_t cols, mote_error *err) {
    char name[400];
    (void)snprintf(name, sizeof name, PREFIX "%.*s%s", (int)strlen(g->name) - 7, g->name, suffix);
    char *copy = arena_dup(&w->names, str_of(name));
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    w->t[w->n++] = (st_tensor){.name = str_of(copy), .dtype = STR("F32"), .n_dims = cols ? 2 : 1, .shape = {rows, cols},
                               .data = (const unsigned char *)x, .size = rows * (cols ? cols : 1) * sizeof(float)};
    return MOTE_OK;
}

static mote_status put_module(output *w, origin *o, gathering *g, mote_error *err) {
    st_tensor weight = {.name = str_of(g->name), .dtype = STR("F32"), .n_dims = 2,
                        .shape = {g->turned ? g->in : g->out, g->turned ? g->out : g->in}};
    char module_name[300];
    TRY(origin_trace(o, &weight, count_part, g, err));
    if (g->dora && g->n_parts > 1)
        FAIL(err, MOTE_E_UNSUPPORTED, "module '%s' is several matrices here, each with its own magnitudes", g->name);
    g->a = arena_alloc(&w->names, g->rank * g->in, sizeof(float));
    g->b = arena_alloc(&w->names, g->out * g->rank, sizeof(float));
    g->m = g->dora ? arena_alloc(&w->names, g->out, sizeof(float)) : NULL;
    if (!g->a || !g->b || (g->dora && !g->m)) FAIL(err, MOTE_E_MEMORY, "out of memory for module '%s'", g->name);
    TRY(origin_trace(o, &weight, place_part, g, err));
    if (g->at == 0) FAIL(err, MOTE_E_UNSUPPORTED, "module '%s' has another shape in transformers", g->name);
    TRY(put_tensor(w, g, ".lora_A.weight", g->a, g->rank, g->in, err));
    TRY(put_tensor(w, g, ".lora_B.weight", g->b, g->out, g->rank, err));
    if (g->dora) TRY(put_tensor(w, g, ".lora_magnitude_vector", g->m, g->out, 0, err));
    (void)snprintf(module_name, sizeof module_name, "%.*s", (int)strlen(g->name) - 7, g->name);
    const char *last = strrchr(module_name, '.') ? strrchr(module_name, '.') + 1 : module_name;
    bool listed = false;
    for (size_t i = 0; i < json_array_size(w->targets); i++)
        listed = listed || strcmp(json_string_value(json_array_get(w->targets, i)), last) == 0;
    if ((!listed && json_array_append_new(w->targets, json_string(last)) != 0) ||
        json_object_set_new(w->rank_pattern, module_name, json_integer((json_int_t)g->rank)) != 0 ||
        json_object_set_new(w->alpha_pattern, module_name, json_real((double)g->scale * (double)g->rank)) != 0)
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

/* The rank and alpha of the first module stand for all; patterns hold the exceptions. */
static mote_status write_config(output *w, const char *dir, const model_file *base, bool turned, bool dora, mote_error *err) {
    char path[4096];
    void *it = json_object_iter(w->rank_pattern), *next;
    json_int_t rank = json_integer_value(json_object_iter_value(it));
    double alpha = json_number_value(json_object_iter_value(json_object_iter(w->alpha_pattern)));
    for (it = json_object_iter(w->rank_pattern); it; it = next) {
        const char *key = json_object_iter_key(it);
        next = json_object_iter_next(w->rank_pattern, it);
        if (fabs(json_number_value(json_object_get(w->alpha_pattern, key)) - alpha) <= 1e-6 * alpha) (void)json_object_del(w->alpha_pattern, key);
        if (json_integer_value(json_object_iter_value(it)) == rank) (void)json_object_del(w->rank_pattern, key);
    }
    json_t *c = json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:s, s:b, s:b, s:b, s:b, s:O, s:O, s:O}", "peft_type", "LORA", "task_type",
                          "CAUSAL_LM", "base_model_name_or_path", model_file_path(base), "r", rank, "lora_alpha", alpha,
                          "lora_dropout", 0.0, "bias", "none", "use_rslora", 0, "use_dora", dora, "fan_in_fan_out", turned,
                          "inference_mode", 1, "target_modules", w->targets, "rank_pattern", w->rank_pattern, "alpha_pattern",
                          w->alpha_pattern);
    char *text = c ? json_dumps(c, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
    file_writer f = {0};
    mote_status s = MOTE_OK;
    if (!text) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    TRYG(s, file_writer_open(&f, path, err));
    TRYG(s, file_write(&f, text, strlen(text), err));
    TRYG(s, file_writer_commit(&f, err));
out:
    file_writer_abort(&f);
    free(text);
    json_decref(c);
    return s;
}

static bool is_written(const output *w, const char *name) {
    for (size_t i = 0; i < w->n; i++) {
        str t = w->t[i].name;
        size_t n = strlen(name) - 7;
        if (t.n > strlen(PREFIX) + n && memcmp(t.p + strlen(PREFIX), name, n) == 0 && str_starts(str_sub(t, strlen(PREFIX) + n, t.n - strlen(PREFIX) - n), STR(".lora_")))
            return true;
    }
    return false;
}

mote_status adapter_write_peft(const adapter *ad, const model_file *base, const char *dir, mote_error *err) {
    output w = {.rank_pattern = json_object(), .alpha_pattern = json_object(), .targets = json_array()};
    origin *o = NULL;
    json_t *meta = json_pack("{s:s}", "format", "pt");
    char path[4096];
    bool turned = false, dora = false;
    mote_status s = MOTE_OK;
    arena_init(&w.names, (size_t)1 << 34);
    w.t = MEM_NEW_N(st_tensor, 3 * ad->n);
    if (!w.t || !w.rank_pattern || !w.alpha_pattern || !w.targets || !meta) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, origin_open_like(&o, base, err));
    for (size_t i = 0; i < ad->n; i++) {
        gathering g = {.ad = ad};
        TRYG(s, find_module(&g, o, base, &ad->pairs[i], err));
        if (is_written(&w, g.name)) continue;
        TRYG(s, put_module(&w, o, &g, err));
        turned = turned || g.turned;
        dora = dora || g.dora;
    }
    if (mkdir(dir, 0777) != 0 && !file_is_dir(dir)) FAILG(s, err, MOTE_E_IO, "%s: the folder cannot be made", dir);
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    TRYG(s, st_write(path, w.t, w.n, meta, err));
    s = write_config(&w, dir, base, turned, dora, err);
out:
    origin_close(&o);
    mem_free(w.t);
    arena_free(&w.names);
    json_decref(w.rank_pattern);
    json_decref(w.alpha_pattern);
    json_decref(w.targets);
    json_decref(meta);
    return s;
}
