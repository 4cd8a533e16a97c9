/* scale.c: AWQ's search and SmoothQuant's rule, and the folding of what they find. */
#include "compress/scale.h"

#include "compress/gptq.h"

#include <math.h>
#include <stdio.h>

enum { USES_MAX = 16, SAMPLE_ROWS = 128 };

/* Matrices that read the same rows x, and what makes x. */
typedef struct fold {
    calib_use *uses[USES_MAX];
    size_t n_uses, cols;
    param *norm, *norm_bias;  /* a norm's weights, or … */
    param *rows, *rows_bias;  /* … a matrix whose output is x … */
    size_t n_rows, head, share; /* … with n_rows rows; `share` heads of `head` columns of x come from the same rows */
} fold;

static param *find(calib *c, const char *what) {
    char name[96];
    (void)snprintf(name, sizeof name, "blk.%zu.%s", c->at, what);
    return net_find(c->net, name);
}

static bool is(const calib *c, const calib_use *u, const char *what) {
    char name[96];
    (void)snprintf(name, sizeof name, "blk.%zu.%s.weight", c->at, what);
    return str_is(u->w->info->name, name);
}

/* Whether the group of uses[first]'s second moments can be folded, and how. */
static bool find_fold(calib *c, size_t first, fold *f) {
    const layer *l = &net_model(c->net)->layers[c->at];
    const hessian *h = c->uses[first].h;
    bool mixer = false, ffn = false;
    *f = (fold){.cols = h->cols, .head = 1, .share = 1};
    for (size_t i = first; i < c->n_uses; i++) {
        calib_use *u = &c->uses[i];
        if (u->h != h) continue;
        if (f->n_uses == USES_MAX || u->mat || u->w->v.rows != (size_t)u->w->info->ne[1]) return false; /* experts */
        f->uses[f->n_uses++] = u;
        mixer |= is(c, u, "attn_q") || is(c, u, "attn_qkv");
        ffn |= is(c, u, "ffn_up") || is(c, u, "ffn_gate");
    }
    if (mixer || ffn) {
        f->norm = find(c, mixer ? "attn_norm.weight" : "ffn_norm.weight");
        f->norm_bias = find(c, mixer ? "attn_norm.bias" : "ffn_norm.bias");
        return mixer != ffn && f->norm && f->norm->v.rows * f->norm->v.cols == f->cols;
    }
    if (f->n_uses != 1) return false;
    if (is(c, f->uses[0], "attn_output") && l->n_head_kv && l->n_head % l->n_head_kv == 0) {
        f->rows = find(c, "attn_v.weight");
        f->rows_bias = find(c, "attn_v.bias");
        f->n_rows = l->n_head_kv * l->dim_v;
        f->head = l->dim_v;
        f->share = l->n_head / l->n_head_kv;
    } else if (is(c, f->uses[0], "ffn_down") && find(c, "ffn_gate.weight")) {
        f->rows = find(c, "ffn_up.weight");
        f->rows_bias = find(c, "ffn_up.bias");
        f->n_rows = f->cols;
    }
    return f->rows && f->rows->v.rows == f->n_rows && f->n_rows * f->share == f->cols;
}

/* Which row of f->rows makes column c of x. */
static size_t row_of(const fold *f, size_t c) {
    return c / (f->head * f->share) * f->head + c % f->head;
}

static void times(param *p, const float *s, size_t n, bool divide) {
    if (!p) return;
    for (size_t i = 0; i < n; i++) p->v.x[i] = divide ? p->v.x[i] / s[i] : p->v.x[i] * s[i];
}

/* The producer shrinks by s, the columns grow; or (back) the reverse. */
static void apply(const fold *f, const float *s, bool back) {
    times(f->norm, s, f->cols, !back);
    times(f->norm_bias, s, f->cols, !back);
    for (size_t c = 0; f->rows && c < f->cols; c++) {
        if (c / f->head % f->share) continue; /* the first of the heads that share */
        size_t r = row_of(f, c), n = f->rows->v.cols;
        float by = back ? s[c] : 1 / s[c];
        for (size_t k = 0; k < n; k++) f->rows->v.x[r * n + k] *= by;
        if (f->rows_bias) f->rows_bias->v.x[r] *= by;
    }
    for (size_t i = 0; i < f->n_uses; i++) {
        var *w = &f->uses[i]->w->v;
        for (size_t r = 0; r < w->rows; r++) {
            for (size_t c = 0; c < w->cols; c++) w->x[r * w->cols + c] = back ? w->x[r * w->cols + c] / s[c] : w->x[r * w->cols + c] * s[c];
        }
    }
}

/* Where heads share rows they must share scales: the mean of their columns' sizes. */
static void share_columns(const fold *f, float *a) {
    for (size_t c = 0; f->share > 1 && c < f->cols; c++) {
        if (c / f->head % f->share) continue;
        float sum = 0;
        for (size_t k = 0; k < f->share; k++) sum += a[c + k * f->head];
        for (size_t k = 0; k < f->share; k++) a[c + k * f->head] = sum / (float)f->share;
    }
}

/* mean over all rows of |w| over the largest of its group of 32; or the largest |w|. */
static void weight_sizes(const fold *f, bool largest, float *a) {
    size_t rows = 0;
    memset(a, 0, f->cols * sizeof *a);
    for (size_t i = 0; i < f->n_uses; i++) {
        const var *w = &f->uses[i]->w->v;
        rows += w->rows;
        for (size_t r = 0; r < w->rows; r++) {
            const float *x = w->x + r * w->cols;
            float top = 0;
            for (size_t c = 0; c < w->cols; c++) {
                if (largest) {
                    a[c] = MAX(a[c], fabsf(x[c]));
                    continue;
                }
                if (c % 32 == 0) {
                    top = 0;
                    for (size_t k = c; k < MIN(c + 32, w->cols); k++) top = MAX(top, fabsf(x[k]));
                }
                if (top > 0) a[c] += fabsf(x[c]) / top;
            }
        }
    }
    for (size_t c = 0; !largest && c < f->cols; c++) a[c] /= (float)MAX(rows, (size_t)1);
}

static float bounded(float v) { return v > 1e-4f ? MIN(v, 1e4f) : 1e-4f; }

/* AWQ: s = a^alpha / w^(1 - alpha), its geometric middle 1. */
static void awq_scales(const fold *f, const float *act, const float *wt, float alpha, float *s) {
    float lo = INFINITY, hi = 0;
    for (size_t c = 0; c < f->cols; c++) {
        s[c] = bounded(powf(bounded(act[c]), alpha) / powf(bounded(wt[c]), 1 - alpha));
        lo = MIN(lo, s[c]);
        hi = MAX(hi, s[c]);
    }
    float middle = sqrtf(lo * hi);
    for (size_t c = 0; c < f->cols; c++) s[c] = bounded(s[c] / middle);
}

typedef struct search {
    float *w, *d, *imp;   /* [SAMPLE_ROWS, cols] a sample of rows; its error; importance */
    unsigned char *bytes;
} search;

/* The squared error of the outputs of a sample of each matrix's rows, quantized with their columns scaled by s. */
static mote_status trial(calib *c, const scale_opts *o, const fold *f, const float *s, search *b, double *out, mote_error *err) {
    *out = 0;
    for (size_t i = 0; i < f->n_uses; i++) {
        const calib_use *u = f->uses[i];
        const var *w = &u->w->v;
        quant_type type = o->type_of(o->ctx, u->w);
        const quant_format *q = quant_get((int)type);
        if (q->block == 1) continue; /* floats */
        size_t n = MIN(w->rows, (size_t)SAMPLE_ROWS), cols = w->cols;
        for (size_t r = 0; r < n; r++) {
            const float *x = w->x + r * w->rows / n * cols;
            for (size_t k = 0; k < cols; k++) b->w[r * cols + k] = s ? x[k] * s[k] : x[k];
        }
        for (size_t k = 0; k < cols; k++) b->imp[k] = s ? u->h->mean_sq[k] / (s[k] * s[k]) : u->h->mean_sq[k];
        memcpy(b->d, b->w, n * cols * sizeof *b->d);
        TRY(gptq_nearest(b->d, n, cols, type, b->imp, b->bytes, c->pool, err));
        for (size_t k = 0; k < n * cols; k++) b->d[k] = (b->d[k] - b->w[k]) / (s ? s[k % cols] : 1);
        double e;
        TRY(hessian_error(u->h->h, cols, b->d, n, c->gemm, &e, err));
        *out += e * (double)w->rows / (double)n;
    }
    return MOTE_OK;
}

/* s: the best of AWQ's trials; *found: better than none. */
static mote_status awq_search(calib *c, const scale_opts *o, const fold *f, float *s, bool *found, mote_error *err) {
    int n_grid = o->n_grid > 0 ? o->n_grid : 20;
    size_t cells = SAMPLE_ROWS * f->cols;
    search b = {MEM_NEW_N(float, cells), MEM_NEW_N(float, cells), MEM_NEW_N(float, f->cols), MEM_NEW_N(unsigned char, cells * 4 + 64)};
    float *act = MEM_NEW_N(float, f->cols), *wt = MEM_NEW_N(float, f->cols), *t = MEM_NEW_N(float, f->cols);
    mote_status st = MOTE_OK;
    *found = false;
    if (!b.w || !b.d || !b.imp || !b.bytes || !act || !wt || !t) FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu columns", f->cols);
    memcpy(act, f->uses[0]->h->mean_abs, f->cols * sizeof *act);
    weight_sizes(f, false, wt);
    share_columns(f, act);
    share_columns(f, wt);
    double least, e;
    TRYG(st, trial(c, o, f, NULL, &b, &least, err));
    for (int i = 0; i < n_grid; i++) {
        awq_scales(f, act, wt, (float)i / (float)n_grid, t);
        TRYG(st, trial(c, o, f, t, &b, &e, err));
        if (!(e < least)) continue;
        least = e;
        *found = true;
        memcpy(s, t, f->cols * sizeof *s);
    }
out:
    mem_free(b.w);
    mem_free(b.d);
    mem_free(b.imp);
    mem_free(b.bytes);
    mem_free(act);
    mem_free(wt);
    mem_free(t);
    return st;
}

/* SmoothQuant: s = max|w|^(1 - alpha)-th part of what max|a|^alpha is; what the activations lose, the weights gain. */
static mote_status smooth_scales(const scale_opts *o, const fold *f, float *s, bool *found, mote_error *err) {
    float alpha = o->alpha > 0 ? o->alpha : 0.5f, *wt = MEM_NEW_N(float, f->cols);
    if (!wt) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu columns", f->cols);
    weight_sizes(f, true, wt);
    for (size_t c = 0; c < f->cols; c++) {
        s[c] = bounded(powf(bounded(f->uses[0]->h->max_abs[c]), alpha) / powf(bounded(wt[c]), 1 - alpha));
    }
    mem_free(wt);
    *found = true;
    return MOTE_OK;
}

/* The layer's output for the first sequence into y[n_ctx, n_embd]. */
static mote_status sample(calib *c, float *y, mote_error *err) {
    var *out;
    tape_pause(c->tape);
    tape_reset(c->tape);
    mote_status s = calib_pass(c, c->x, 0, 1, &out, err);
    if (s == MOTE_OK) memcpy(y, out->x, c->n_ctx * c->n_embd * sizeof *y);
    tape_reset(c->tape);
    tape_resume(c->tape);
    return s;
}

static bool same(const float *a, const float *b, size_t n) {
    double e = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        e += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        sum += (double)a[i] * (double)a[i];
    }
    return e <= 1e-6 * sum;
}

static mote_status scale_fold(calib *c, const scale_opts *o, const fold *f, float *y, size_t *n_scaled, mote_error *err) {
    size_t n = c->n_ctx * c->n_embd;
    float *s = MEM_NEW_N(float, f->cols);
    bool found;
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu columns", f->cols);
    mote_status st = o->method == SCALE_AWQ ? awq_search(c, o, f, s, &found, err) : smooth_scales(o, f, s, &found, err);
    if (st != MOTE_OK || !found) goto out;
    TRYG(st, sample(c, y, err));
    apply(f, s, false);
    TRYG(st, sample(c, y + n, err));
    if (!same(y, y + n, n)) { /* something else reads the norm, or lies between */
        apply(f, s, true);
        goto out;
    }
    hessian_scale(f->uses[0]->h, s);
    for (size_t i = 0; i < f->n_uses; i++) o->touched(o->ctx, f->uses[i]->w);
    const param *producer[] = {f->norm, f->norm_bias, f->rows, f->rows_bias};
    for (size_t i = 0; i < COUNT_OF(producer); i++) {
        if (producer[i]) o->touched(o->ctx, producer[i]);
    }
    ++*n_scaled;
out:
    mem_free(s);
    return st;
}

mote_status scale_layer(calib *c, const scale_opts *o, size_t *n_scaled, mote_error *err) {
    if (o->method == SCALE_NONE) return MOTE_OK;
    float *y = MEM_NEW_N(float, 2 * c->n_ctx * c->n_embd);
    if (!y) FAIL(err, MOTE_E_MEMORY, "out of memory for a layer's output");
    mote_status st = MOTE_OK;
    for (size_t i = 0; st == MOTE_OK && i < c->n_uses; i++) {
        fold f;
        if (!c->uses[i].owner || !find_fold(c, i, &f)) continue;
        if (o->method == SCALE_SMOOTH && !f.norm) continue;
        bool wanted = false;
        for (size_t k = 0; k < f.n_uses; k++) wanted |= o->wanted(o->ctx, f.uses[k]->w);
        if (wanted) st = scale_fold(c, o, &f, y, n_scaled, err);
    }
    mem_free(y);
    return st;
}
