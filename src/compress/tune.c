/* tune.c: the change that adapters make: into the weights, and how much of it is left behind the rounding. */
#include "compress/tune.h"

#include <math.h>
#include <stdio.h>

void tune_close(tune *t) {
    for (size_t i = 0; t->ad && i < t->n; i++) adapter_close(&t->ad[i]);
    mem_free(t->ad);
    *t = (tune){0};
}

bool tune_has(const tune *t, str tensor) {
    for (size_t i = 0; i < t->n; i++)
        if (adapter_find(t->ad[i], tensor)) return true;
    return false;
}

static mote_status merge_one(const adapter *ad, float scale, net *into, mote_error *err) {
    for (size_t i = 0; i < ad->n; i++) {
        const adapter_pair *p = &ad->pairs[i];
        char name[160];
        (void)snprintf(name, sizeof name, "%.*s", STR_ARG(p->name));
        param *w = net_find(into, name);
        if (!w || w->v.rows != p->rows || w->v.cols != p->cols)
            FAIL(err, MOTE_E_UNSUPPORTED, "the adapter changes '%s', which no calibrated method can take on; merge it without --method", name);
        TRY(adapter_merge(p, scale, w->v.x, err));
    }
    return MOTE_OK;
}

static mote_status check_values(const tune *t, net *into, size_t *n_changed, mote_error *err) {
    *n_changed = 0;
    for (size_t i = 0; i < net_n_params(into); i++) {
        const param *w = net_param(into, i);
        if (!tune_has(t, w->info->name)) continue;
        ++*n_changed;
        for (size_t k = 0; k < w->v.rows * w->v.cols; k++)
            if (!isfinite(w->v.x[k])) FAIL(err, MOTE_E_OUTPUT, "'%.*s' would hold a number that is not finite", STR_ARG(w->info->name));
    }
    return MOTE_OK;
}

mote_status tune_open(tune *t, const mote_adapter *adapters, size_t n, net *into, mote_error *err) {
    t->ad = MEM_NEW_N(adapter *, n);
    if (!t->ad) FAIL(err, MOTE_E_MEMORY, "out of memory");
    t->n = n;
    for (size_t i = 0; i < n; i++) TRY(adapter_open(&t->ad[i], adapters[i].path, model_get_file(net_model(into)), err));
    for (size_t i = 0; i < n; i++) TRY(merge_one(t->ad[i], adapters[i].scale, into, err));
    return check_values(t, into, &t->said.n_changed, err);
}

mote_status tune_distance(const hessian *h, const float *a, const float *b, size_t rows, gemm *g, double *out, mote_error *err) {
    size_t n = rows * h->cols;
    float *d = mem_alloc_aligned(n * sizeof(float));
    if (!d) FAIL(err, MOTE_E_MEMORY, "out of memory for a matrix of %zu × %zu", rows, h->cols);
    for (size_t i = 0; i < n; i++) d[i] = a[i] - b[i];
    mote_status s = hessian_error(h->h, h->cols, d, rows, g, out, err);
    mem_free_aligned(d);
    return s;
}

mote_status tune_measure(tune *t, const calib_use *u, const float *wanted, gemm *g, mote_error *err) {
    const tensor_info *info = u->w->info;
    const quant_format *f = quant_get((int)info->type);
    size_t rows = (size_t)info->ne[1], n = rows * u->w->v.cols;
    const float *is = u->w->v.x + u->mat * n;
    double dd, rr, ee;
    if (!tune_has(t, info->name)) return MOTE_OK;
    float *was = MEM_NEW_N(float, n);
    if (!was) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(info->name));
    f->decode(was, info->data + u->mat * (n / f->block * f->bytes), n);
    wanted += u->mat * n;
    mote_status s = tune_distance(u->h, wanted, was, rows, g, &dd, err);
    if (s == MOTE_OK) s = tune_distance(u->h, is, was, rows, g, &rr, err);
    if (s == MOTE_OK) s = tune_distance(u->h, wanted, is, rows, g, &ee, err);
    mem_free(was);
    if (s != MOTE_OK) return s;
    t->dd += dd;
    t->dr += (dd + rr - ee) / 2;
    t->ee += ee;
    double worst = dd > 0 ? sqrt(ee / dd) : 0;
    if (worst < t->said.worst) return MOTE_OK;
    t->said.worst = worst;
    (void)snprintf(t->said.worst_name, sizeof t->said.worst_name, "%.*s", (int)MIN(info->name.n, (size_t)120), info->name.p);
    return MOTE_OK;
}

void tune_say(const tune *t, mote_tune_report *out) {
    *out = t->said;
    out->measured = t->dd > 0;
    out->survived = t->dd > 0 ? t->dr / t->dd : 1;
    out->error = t->dd > 0 ? sqrt(t->ee / t->dd) : 0;
}
