/* merging.c: adapters into weights, models into one, and how much of the change is left when it was quantized again.
 *
 * Sources: SLERP: Shoemake 1985; TIES: Yadav et al. 2023 (trim, elect sign, merge); DARE: Yu et al. 2024 (drop, rescale). */
#include "compress/merging.h"

#include "compress/calibrated.h"
#include "compress/importance.h"
#include "format/adapter.h"
#include "format/edit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double KEPT_LEAST = 0.9; /* of a change, in a tensor's own format; what rounds more away gets a wider one */

/* With D the change that was wanted and R the one that a format keeps: <D, D>, <D, R>, |R - D|². */
typedef struct change {
    double dd, dr, ee;
} change;

typedef struct merging {
    const mote_merge_opts *o;
    mote_merge_result *r;
    model_file *model, *with, *base;
    model_edit *edit;
    imatrix_source importance;
    bool has_importance;
    float **values;   /* of the changed tensors, until they are written */
    size_t n_values;
    change sum;
} merging;

static size_t elements(const tensor_info *t) { return (size_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]); }

static mote_status decode(const tensor_info *t, float **x, mote_error *err) {
    const quant_format *f = quant_get((int)t->type);
    if (!f || !f->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': type %d cannot be read as numbers", STR_ARG(t->name), (int)t->type);
    *x = MEM_NEW_N(float, elements(t));
    if (!*x) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(t->name));
    f->decode(*x, t->data, elements(t));
    return MOTE_OK;
}

/* ---- two models ---- */

static void slerp(float *out, const float *a, const float *b, size_t n, double t) {
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    double cosine = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1, angle = acos(fmin(1, fmax(-1, cosine)));
    bool straight = fabs(cosine) > 0.9995; /* nearly parallel: the line is the arc */
    double fa = straight ? 1 - t : sin((1 - t) * angle) / sin(angle), fb = straight ? t : sin(t * angle) / sin(angle);
    for (size_t i = 0; i < n; i++) out[i] = (float)(fa * (double)a[i] + fb * (double)b[i]);
}

static int by_size(const void *x, const void *y) {
    float a = *(const float *)x, b = *(const float *)y;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* The size from which on a change is kept, so that the share `density` is. */
static mote_status threshold(const float *x, const float *base, size_t n, double density, float *least, mote_error *err) {
    float *size = MEM_NEW_N(float, n);
    if (!size) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) size[i] = fabsf(x[i] - base[i]);
    qsort(size, n, sizeof *size, by_size);
    size_t keep = (size_t)fmax(1, density * (double)n);
    *least = size[MIN(keep, n) - 1];
    mem_free(size);
    return MOTE_OK;
}

static mote_status ties(float *out, const float *a, const float *b, const float *base, size_t n, double t, double density, mote_error *err) {
    float la, lb;
    TRY(threshold(a, base, n, density, &la, err));
    TRY(threshold(b, base, n, density, &lb, err));
    for (size_t i = 0; i < n; i++) {
        double da = (double)(a[i] - base[i]), db = (double)(b[i] - base[i]);
        if (fabs(da) < (double)la) da = 0;
        if (fabs(db) < (double)lb) db = 0;
        double sign = (1 - t) * da + t * db, sum = 0, weight = 0; /* the elected sign; those against it do not count */
        if (da * sign > 0) sum += (1 - t) * da, weight += 1 - t;
        if (db * sign > 0) sum += t * db, weight += t;
        out[i] = base[i] + (weight > 0 ? (float)(sum / weight) : 0);
    }
    return MOTE_OK;
}

static void dare(float *out, const float *a, const float *b, const float *base, size_t n, double t, double density, uint64_t seed) {
    rng r;
    rng_seed(&r, seed, n);
    for (size_t i = 0; i < n; i++) {
        double da = rng_double(&r) < density ? (double)(a[i] - base[i]) / density : 0;
        double db = rng_double(&r) < density ? (double)(b[i] - base[i]) / density : 0;
        out[i] = base[i] + (float)((1 - t) * da + t * db);
    }
}

mote_status merge_arrays(float *out, const float *a, const float *b, const float *base, size_t n, const char *method, double t, double density,
                         uint64_t seed, mote_error *err) {
    if (strcmp(method, "linear") == 0)
        for (size_t i = 0; i < n; i++) out[i] = (float)((1 - t) * (double)a[i] + t * (double)b[i]);
    else if (strcmp(method, "slerp") == 0) slerp(out, a, b, n, t);
    else if (strcmp(method, "ties") == 0) return ties(out, a, b, base, n, t, density, err);
    else if (strcmp(method, "dare") == 0) dare(out, a, b, base, n, t, density, seed);
    else FAIL(err, MOTE_E_USAGE, "method '%.40s': expected linear, slerp, ties or dare", method);
    return MOTE_OK;
}

/* ---- a changed tensor ---- */

static void name_format(mote_merge_result *r, const char *name) {
    size_t used = strlen(r->formats);
    if (!strstr(r->formats, name) && used + strlen(name) + 2 < sizeof r->formats)
        (void)snprintf(r->formats + used, sizeof r->formats - used, "%s%s", used ? " " : "", name);
}

/* What is left in format f of the change from `was` to x. */
static mote_status measure(const tensor_info *t, const quant_format *f, const float *was, const float *x, const float *importance, change *out, mote_error *err) {
    size_t cols = (size_t)t->ne[0], n = elements(t), bytes;
    if (!f->encode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': %s cannot be written; choose another type", STR_ARG(t->name), f->name);
    TRY(quant_row_bytes(f, cols, &bytes, err));
    void *row = mem_calloc(bytes, 1);
    float *y = MEM_NEW_N(float, cols);
    *out = (change){0};
    if (row && y)
        for (size_t r = 0; r < n / cols; r++) {
            f->encode(row, x + r * cols, cols, importance);
            f->decode(y, row, cols);
            for (size_t c = 0; c < cols; c++) {
                double d = (double)x[r * cols + c] - (double)was[r * cols + c], w = (double)y[c] - (double)was[r * cols + c];
                out->dd += d * d;
                out->dr += d * w;
                out->ee += (w - d) * (w - d);
            }
        }
    bool ok = row && y;
    mem_free(row);
    mem_free(y);
    if (!ok) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

/* The format that was asked for; without one, with adapters, the tensor's own if the change survives in it, else Q8_0, else F16. */
static mote_status choose_format(const merging *g, const tensor_info *t, const float *was, const float *x, const float *importance, const quant_format **f,
                                 change *c, mote_error *err) {
    const quant_format *own = quant_get((int)t->type), *asked = NULL;
    bool same = g->o->type && strcmp(g->o->type, "same") == 0;
    if (g->o->type && !same && t->n_dims > 1) {
        asked = quant_by_name(g->o->type);
        if (!asked || !asked->encode) FAIL(err, MOTE_E_USAGE, "type '%.40s' is no number format that can be written", g->o->type);
        if (t->ne[0] % asked->block) asked = quant_get(QUANT_F16);
    }
    *f = asked ? asked : own;
    TRY(measure(t, *f, was, x, importance, c, err));
    const int wider[] = {QUANT_Q8_0, QUANT_F16};
    for (size_t i = 0; i < COUNT_OF(wider) && !g->o->type && !g->o->with && t->n_dims > 1 && c->dd > 0; i++) {
        const quant_format *next = quant_get(wider[i]);
        if ((c->dr >= KEPT_LEAST * c->dd && c->ee <= c->dd) || t->ne[0] % next->block || next->bytes * (*f)->block <= (*f)->bytes * next->block) continue;
        *f = next;
        TRY(measure(t, next, was, x, importance, c, err));
    }
    return MOTE_OK;
}

static void note(merging *g, const tensor_info *t, const quant_format *f, const change *c) {
    double error = c->dd > 0 ? sqrt(c->ee / c->dd) : 0;
    g->sum.dd += c->dd;
    g->sum.dr += c->dr;
    g->sum.ee += c->ee;
    if (error >= g->r->worst) {
        g->r->worst = error;
        (void)snprintf(g->r->worst_name, sizeof g->r->worst_name, "%.*s", (int)MIN(t->name.n, (size_t)120), t->name.p);
    }
    name_format(g->r, f->name);
    g->r->n_changed++;
    g->r->n_widened += !g->o->type && f->type != t->type;
}

/* x is given away; was stays the caller's. */
static mote_status put(merging *g, const tensor_info *t, const float *was, float *x, mote_error *err) {
    const quant_format *f = NULL;
    change c = {0};
    size_t n = 0;
    g->values[g->n_values++] = x;
    const float *importance = g->has_importance ? g->importance.importance.find(g->importance.importance.ctx, t->name, &n) : NULL;
    if (n != t->ne[0]) importance = NULL;
    for (size_t i = 0; i < elements(t); i++)
        if (!isfinite(x[i])) FAIL(err, MOTE_E_OUTPUT, "'%.*s' would hold a number that is not finite", STR_ARG(t->name));
    TRY(choose_format(g, t, was, x, importance, &f, &c, err));
    note(g, t, f, &c);
    return edit_put(g->edit, t->name, f->type, t->n_dims, t->ne, x, importance, err);
}

static mote_status merge_adapters(merging *g, const tensor_info *t, adapter *const *ad, mote_error *err) {
    float *x = NULL, *was = NULL;
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < g->o->n_adapters; i++) {
        const adapter_pair *p = adapter_find(ad[i], t->name);
        if (!p) continue;
        if (!x) TRYG(s, decode(t, &x, err));
        TRYG(s, adapter_merge(p, g->o->adapters[i].scale, x, err));
    }
    if (x) {
        TRYG(s, decode(t, &was, err));
        float *given = x;
        x = NULL;
        s = put(g, t, was, given, err);
    }
out:
    mem_free(x);
    mem_free(was);
    return s;
}

static mote_status same_shape(const tensor_info *t, const model_file *f, const tensor_info **other, mote_error *err) {
    char name[300];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(t->name));
    *other = model_file_find_tensor(f, name);
    if (!*other) FAIL(err, MOTE_E_MISMATCH, "%s has no tensor '%s'", model_file_path(f), name);
    if (memcmp((*other)->ne, t->ne, sizeof t->ne) != 0)
        FAIL(err, MOTE_E_MISMATCH, "'%s' is [%llu, %llu] in %s and [%llu, %llu] in the model", name, (unsigned long long)(*other)->ne[0],
             (unsigned long long)(*other)->ne[1], model_file_path(f), (unsigned long long)t->ne[0], (unsigned long long)t->ne[1]);
    return MOTE_OK;
}

static mote_status merge_models(merging *g, const tensor_info *t, mote_error *err) {
    const mote_merge_opts *o = g->o;
    const tensor_info *u, *v = NULL;
    float *a = NULL, *b = NULL, *c = NULL, *x = NULL;
    mote_status s;
    TRY(same_shape(t, g->with, &u, err));
    if (g->base) TRY(same_shape(t, g->base, &v, err));
    TRYG(s, decode(t, &a, err));
    TRYG(s, decode(u, &b, err));
    if (v) TRYG(s, decode(v, &c, err));
    x = MEM_NEW_N(float, elements(t));
    if (!x) FAILG(s, err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(t->name));
    TRYG(s, merge_arrays(x, a, b, c, elements(t), o->method ? o->method : "slerp", o->weight > 0 ? o->weight : 0.5, o->density > 0 ? o->density : 0.5,
                         o->seed + (uint64_t)(t - model_file_tensor(g->model, 0)), err));
    float *given = x;
    x = NULL;
    s = put(g, t, a, given, err);
out:
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(x);
    return s;
}

static mote_status check(const mote_merge_opts *o, mote_error *err) {
    if (!o->model || !o->out) FAIL(err, MOTE_E_USAGE, "a model and an output are needed");
    if (!o->with == !o->n_adapters) FAIL(err, MOTE_E_USAGE, "adapters, or another model: one of them is merged");
    if (o->weight < 0 || o->weight > 1 || o->density < 0 || o->density > 1) FAIL(err, MOTE_E_RANGE, "weight and density lie between 0 and 1");
    if (o->calibrate && !o->n_adapters) FAIL(err, MOTE_E_UNSUPPORTED, "two models are merged weight by weight: merge them into f16, then quantize that with a method");
    if (o->calibrate && o->imatrix) FAIL(err, MOTE_E_USAGE, "a method that looks at text measures importance itself; leave the matrix out");
    bool deltas = o->method && (strcmp(o->method, "ties") == 0 || strcmp(o->method, "dare") == 0);
    if (deltas && !o->base) FAIL(err, MOTE_E_USAGE, "%s needs the model that both come from (base)", o->method);
    return MOTE_OK;
}

static mote_status same_family(const model_file *a, const model_file *b, mote_error *err) {
    str x, y;
    TRY(kv_get_str(a, "general.architecture", &x, STR(""), err));
    TRY(kv_get_str(b, "general.architecture", &y, STR(""), err));
    if (!str_eq(x, y)) FAIL(err, MOTE_E_MISMATCH, "%s is of architecture '%.*s', the model of '%.*s'", model_file_path(b), STR_ARG(y), STR_ARG(x));
    return MOTE_OK;
}

static mote_status merge_all(merging *g, adapter **ad, mote_error *err) {
    const mote_merge_opts *o = g->o;
    size_t n = model_file_n_tensors(g->model);
    for (size_t i = 0; i < o->n_adapters; i++) TRY(adapter_open(&ad[i], o->adapters[i].path, g->model, err));
    if (o->with) TRY(same_family(g->model, g->with, err));
    if (o->base) TRY(same_family(g->model, g->base, err));
    for (size_t i = 0; i < n; i++) {
        const tensor_info *t = model_file_tensor(g->model, i);
        TRY(o->with ? merge_models(g, t, err) : merge_adapters(g, t, ad, err));
    }
    g->r->n_tensors = n;
    g->r->survived = g->sum.dd > 0 ? g->sum.dr / g->sum.dd : 1;
    g->r->error = g->sum.dd > 0 ? sqrt(g->sum.ee / g->sum.dd) : 0;
    return edit_write(g->edit, o->out, err);
}

/* ---- rounded with the help of text ---- */

/* One pattern that matches the names of the changed tensors and no others, and of which formats they will be. */
static mote_status changed_tensors(const mote_merge_opts *o, buf *pattern, mote_merge_result *r, mote_error *err) {
    model_file *f = NULL;
    adapter *ad = NULL;
    mote_status s;
    buf_puts(pattern, "^(?:");
    TRYG(s, model_file_open(&f, o->model, 0, err));
    r->n_tensors = model_file_n_tensors(f);
    for (size_t a = 0; a < o->n_adapters; a++) {
        TRYG(s, adapter_open(&ad, o->adapters[a].path, f, err));
        for (size_t i = 0; i < ad->n; i++) {
            buf_printf(pattern, "%s\\Q%.*s\\E", pattern->n > 4 ? "|" : "", STR_ARG(ad->pairs[i].name));
            for (size_t k = 0; k < r->n_tensors && !o->type; k++) {
                const tensor_info *t = model_file_tensor(f, k);
                if (str_eq(t->name, ad->pairs[i].name)) name_format(r, quant_get((int)t->type)->name);
            }
        }
        adapter_close(&ad);
    }
    buf_puts(pattern, ")$");
    if (o->type) name_format(r, o->type);
    s = buf_check(pattern, "the names of the changed tensors", err);
out:
    adapter_close(&ad);
    model_file_close(&f);
    return s;
}

static mote_status merge_calibrated(const mote_merge_opts *given, mote_merge_result *r, mote_error *err) {
    mote_merge_opts copy = *given;
    const mote_merge_opts *o = &copy;
    if (copy.type && strcmp(copy.type, "same") == 0) copy.type = NULL; /* a method keeps formats: it is there for that */
    mote_calibrate_options c = *o->calibrate;
    mote_calibrate_report report = {0};
    mote_tensor_type into = {.format = o->type};
    buf pattern;
    buf_init(&pattern, 1 << 20);
    mote_status s = changed_tensors(o, &pattern, r, err);
    c.quantize = (mote_quantize_options){.allow_requantize = true, .n_threads = o->calibrate->quantize.n_threads};
    into.pattern = pattern.p;
    if (o->type) c.quantize.overrides = &into, c.quantize.n_overrides = 1;
    c.adapters = o->adapters;
    c.n_adapters = o->n_adapters;
    if (s == MOTE_OK) s = compress_calibrated(o->model, o->out, &c, &report, err);
    buf_free(&pattern);
    if (s != MOTE_OK) return s;
    const mote_tune_report *t = &report.tune;
    r->n_changed = t->n_changed;
    r->survived = t->measured ? t->survived : (double)NAN;
    r->error = t->measured ? t->error : (double)NAN;
    r->worst = t->worst;
    (void)snprintf(r->worst_name, sizeof r->worst_name, "%s", t->worst_name);
    compress_calibrated_free(&report);
    return MOTE_OK;
}

mote_status merge_run(const mote_merge_opts *o, mote_merge_result *r, mote_error *err) {
    merging g = {.o = o, .r = r};
    adapter **ad = NULL;
    mote_status s;
    TRY(check(o, err));
    if (o->calibrate) return merge_calibrated(o, r, err);
    TRYG(s, model_file_open(&g.model, o->model, MODEL_FILE_VOCAB, err));
    if (o->with) TRYG(s, model_file_open(&g.with, o->with, 0, err));
    if (o->base) TRYG(s, model_file_open(&g.base, o->base, 0, err));
    if (o->imatrix) {
        TRYG(s, imatrix_source_open(&g.importance, o->imatrix, NULL, 0, NULL, 0, err));
        g.has_importance = true;
    }
    TRYG(s, edit_open(&g.edit, g.model, err));
    g.values = MEM_NEW_N(float *, model_file_n_tensors(g.model));
    ad = MEM_NEW_N(adapter *, o->n_adapters);
    if (!g.values || !ad) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    s = merge_all(&g, ad, err);
out:
    for (size_t i = 0; ad && i < o->n_adapters; i++) adapter_close(&ad[i]);
    mem_free(ad);
    for (size_t i = 0; i < g.n_values; i++) mem_free(g.values[i]);
    mem_free(g.values);
    edit_close(&g.edit);
    if (g.has_importance) imatrix_source_free(&g.importance);
    model_file_close(&g.base);
    model_file_close(&g.with);
    model_file_close(&g.model);
    return s;
}
