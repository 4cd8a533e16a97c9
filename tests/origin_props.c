#include "origin_props.h"

#include <math.h>
#include <stdio.h>

static mote_status decode(const tensor_info *t, float **x, mote_error *err) {
    size_t n = 1;
    for (int d = 0; d < TENSOR_DIMS_MAX; d++) n *= (size_t)t->ne[d];
    *x = MEM_NEW_N(float, n);
    if (!*x) FAIL(err, MOTE_E_MEMORY, "out of memory");
    quant_get((int)t->type)->decode(*x, t->data, n);
    return MOTE_OK;
}

static size_t elements(const st_tensor *t) {
    size_t n = 1;
    for (int d = 0; d < t->n_dims; d++) n *= (size_t)t->shape[d];
    return n;
}

static float value(const st_tensor *t, size_t i) {
    float x;
    uint16_t h;
    if (str_is(t->dtype, "F32")) {
        memcpy(&x, t->data + i * 4, 4);
        return x;
    }
    memcpy(&h, t->data + i * 2, 2);
    return str_is(t->dtype, "F16") ? quant_f16_to_f32(h) : quant_bf16_to_f32(h);
}

/* The folder's tensors with element i of each shrunk by a factor of its own. */
static mote_status write_other(const st_file *st, const char *path, mote_error *err) {
    mote_status s = MOTE_OK;
    size_t n = st_n_tensors(st);
    st_tensor *t = MEM_NEW_N(st_tensor, n);
    float **x = MEM_NEW_N(float *, n);
    if (!t || !x) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        t[i] = *st_tensor_at(st, i);
        size_t m = elements(&t[i]);
        x[i] = MEM_NEW_N(float, m);
        if (!x[i]) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
        for (size_t k = 0; k < m; k++) x[i][k] = value(&t[i], k) * (1 - 0.001f * (float)(k % 97));
        if (str_is(t[i].dtype, "F32")) t[i].data = (const unsigned char *)x[i];
        else {
            unsigned char *half = (unsigned char *)x[i]; /* in place: the k-th half lies before the k-th float */
            for (size_t k = 0; k < m; k++) {
                uint16_t h = str_is(t[i].dtype, "F16") ? quant_f32_to_f16(x[i][k]) : quant_f32_to_bf16(x[i][k]);
                memcpy(half + 2 * k, &h, 2);
            }
            t[i].data = half;
        }
    }
    s = st_write(path, t, n, NULL, err);
out:
    for (size_t i = 0; x && i < n; i++) mem_free(x[i]);
    mem_free(x);
    mem_free(t);
    return s;
}

static mote_status copy_file(const char *from, const char *to, mote_error *err) {
    file_map m;
    file_writer w = {0};
    mote_status s;
    TRY(file_open(&m, from, FILE_READ, err));
    TRYG(s, file_writer_open(&w, to, err));
    TRYG(s, file_write(&w, m.p, m.n, err));
    TRYG(s, file_writer_commit(&w, err));
out:
    file_writer_abort(&w);
    file_close(&m);
    return s;
}

static mote_status open_st(const char *path, file_map *m, st_file **st, mote_error *err) {
    TRY(file_open(m, path, FILE_READ, err));
    return st_parse(st, m->p, m->n, err);
}

/* Every tensor of `got` against that of `want`. */
static mote_status compare(const st_file *want, const st_file *got, origin_props_result *r, mote_error *err) {
    r->n_tensors = st_n_tensors(want);
    for (size_t i = 0; i < r->n_tensors; i++) {
        const st_tensor *a = st_tensor_at(want, i), *b = NULL;
        if (str_is(a->name, r->unused)) continue; /* stays the first folder's */
        for (size_t k = 0; k < st_n_tensors(got); k++)
            if (str_eq(st_tensor_at(got, k)->name, a->name)) b = st_tensor_at(got, k);
        if (!b || b->size != a->size || !str_eq(a->dtype, b->dtype))
            FAIL(err, MOTE_E_MISMATCH, "'%.*s' is missing, or of another size", STR_ARG(a->name));
        if (memcmp(a->data, b->data, a->size) == 0) {
            r->n_exact++;
            continue;
        }
        double worst = 0, largest = 0;
        for (size_t k = 0, n = elements(a); k < n; k++) {
            worst = fmax(worst, fabs((double)value(a, k) - (double)value(b, k)));
            largest = fmax(largest, fabs((double)value(a, k)));
        }
        r->worst = fmax(r->worst, worst / largest);
    }
    return MOTE_OK;
}

static mote_status weights_go_back(origin *o, const model_file *other, const char *scratch, origin_props_result *r,
                                   mote_error *err) {
    char path[4096];
    mote_status s = MOTE_OK;
    size_t n = model_file_n_tensors(other);
    file_map a = {0}, b = {0};
    st_file *want = NULL, *got = NULL;
    origin_value *v = MEM_NEW_N(origin_value, n);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        float *x;
        v[i].t = model_file_tensor(other, i);
        TRYG(s, decode(v[i].t, &x, err));
        v[i].x = x;
    }
    (void)snprintf(path, sizeof path, "%s/back.safetensors", scratch);
    TRYG(s, origin_write(o, v, n, ORIGIN_WEIGHTS, NULL, path, err));
    TRYG(s, open_st(path, &b, &got, err));
    (void)snprintf(path, sizeof path, "%s/model.safetensors", scratch);
    TRYG(s, open_st(path, &a, &want, err));
    s = compare(want, got, r, err);
out:
    st_close(&want);
    st_close(&got);
    file_close(&a);
    file_close(&b);
    for (size_t i = 0; i < n; i++) mem_free((void *)(uintptr_t)v[i].x);
    mem_free(v);
    return s;
}

/* With ones as gradients each source element gets the derivative of its form. */
static mote_status gradients_go_back(origin *o, const model_file *f, const char *scratch, origin_props_result *r,
                                     mote_error *err) {
    static char unused[256];
    char path[4096];
    mote_status s = MOTE_OK;
    size_t n = model_file_n_tensors(f);
    file_map m = {0};
    st_file *got = NULL;
    origin_value *v = MEM_NEW_N(origin_value, n);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        float *x;
        v[i].t = model_file_tensor(f, i);
        TRYG(s, decode(v[i].t, &x, err));
        v[i].x = x;
        size_t count = 1;
        for (int d = 0; d < TENSOR_DIMS_MAX; d++) count *= (size_t)v[i].t->ne[d];
        for (size_t k = 0; k < count; k++) x[k] = 1;
    }
    (void)snprintf(path, sizeof path, "%s/back.safetensors", scratch);
    TRYG(s, origin_write(o, v, n, ORIGIN_GRADIENTS, "F32", path, err));
    TRYG(s, open_st(path, &m, &got, err));
    r->unused = "";
    for (size_t i = 0; i < origin_n_sources(o); i++) {
        const st_tensor *src = origin_source(o, i), *g = NULL;
        value_form form = VALUE_SAME;
        for (size_t k = 0; k < st_n_tensors(got); k++)
            if (str_eq(st_tensor_at(got, k)->name, src->name)) g = st_tensor_at(got, k);
        for (size_t k = 0; k < n; k++)
            if (str_eq(v[k].t->origin, src->name)) form = v[k].t->form;
        if (!g) {
            (void)snprintf(unused, sizeof unused, "%.*s", STR_ARG(src->name));
            r->unused = unused;
            continue;
        }
        for (size_t k = 0, count = elements(src); k < count && form != VALUE_OTHER; k++) {
            float want = form == VALUE_MINUS_EXP ? -expf(value(src, k)) : 1, is = value(g, k);
            if (fabsf(is - want) > 1e-5f * fabsf(want))
                FAILG(s, err, MOTE_E_MISMATCH, "gradient %zu of '%.*s' is %g, not %g", k, STR_ARG(src->name), (double)is, (double)want);
        }
    }
out:
    st_close(&got);
    file_close(&m);
    for (size_t i = 0; i < n; i++) mem_free((void *)(uintptr_t)v[i].x);
    mem_free(v);
    return s;
}

mote_status origin_props(const char *dir, const char *scratch, origin_props_result *r, mote_error *err) {
    char path[4096], to[4096];
    mote_status s;
    file_map m = {0};
    st_file *st = NULL;
    model_file *f = NULL, *other = NULL;
    origin *o = NULL;
    *r = (origin_props_result){.unused = ""};
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    TRYG(s, open_st(path, &m, &st, err));
    (void)snprintf(to, sizeof to, "%s/model.safetensors", scratch);
    TRYG(s, write_other(st, to, err));
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    (void)snprintf(to, sizeof to, "%s/config.json", scratch);
    TRYG(s, copy_file(path, to, err));
    TRYG(s, model_file_open(&f, dir, 0, err));
    TRYG(s, model_file_open(&other, scratch, 0, err));
    TRYG(s, origin_open(&o, dir, err));
    TRYG(s, gradients_go_back(o, f, scratch, r, err));
    TRYG(s, weights_go_back(o, other, scratch, r, err));
out:
    origin_close(&o);
    model_file_close(&other);
    model_file_close(&f);
    st_close(&st);
    file_close(&m);
    return s;
}
