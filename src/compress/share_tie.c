/* share_tie.c: see share_tie.h. */
#include "compress/share_tie.h"

#include <string.h>

struct share_tie {
    net *net;
    file_map map;
    model_file *file;
    size_t *owner;  /* [params] the parameter that is written for this one; SIZE_MAX: it is not shared */
    float **rest;   /* [params] memory of owners less their addition */
};

static bool split_name(str name, size_t *il, str *rest) {
    size_t dot = str_starts(name, STR("blk.")) ? str_find(name, STR("."), 4) : SIZE_MAX;
    uint64_t v;
    if (dot == SIZE_MAX || !str_to_u64(str_sub(name, 4, dot - 4), &v) || v > UINT32_MAX) return false;
    *il = (size_t)v;
    *rest = str_sub(name, dot, name.n - dot);
    return true;
}

static const char *name_of(char out[256], size_t il, str rest, const char *suffix) {
    (void)snprintf(out, 256, "blk.%zu%.*s%s", il, (int)MIN(rest.n, (size_t)200), rest.p, suffix);
    return out;
}

static size_t find_param(const share_tie *t, const char *name) {
    for (size_t i = 0; i < net_n_params(t->net); i++)
        if (str_is(net_param(t->net, i)->info->name, name)) return i;
    return SIZE_MAX;
}

/* Parameters whose tensor is another layer's point to that one, and that one to itself. */
static void find_owners(share_tie *t, const kv *k) {
    for (size_t i = 0; i < net_n_params(t->net); i++) {
        size_t il;
        str rest;
        char name[256];
        int64_t from;
        if (!split_name(net_param(t->net, i)->info->name, &il, &rest) || !kv_at_int(k, il, &from) || (size_t)from == il) continue;
        if (model_file_find_tensor(t->file, name_of(name, il, rest, ""))) continue; /* it has its own */
        size_t owner = find_param(t, name_of(name, (size_t)from, rest, ""));
        if (owner == SIZE_MAX) continue;
        t->owner[i] = t->owner[owner] = owner;
    }
}

mote_status share_tie_open(share_tie **out, const char *path, net *n, mote_error *err) {
    share_tie *t = MEM_NEW(share_tie);
    size_t count = net_n_params(n);
    mote_status s;
    const kv *k;
    *out = NULL;
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory");
    t->net = n;
    if (file_is_dir(path)) goto none;
    TRYG(s, file_open(&t->map, path, FILE_MAP, err));
    TRYG(s, gguf_parse(&t->file, t->map.p, t->map.n, err));
    k = model_file_find(t->file, "mote.share.layers");
    if (!k) goto none;
    t->owner = MEM_NEW_N(size_t, count + 1);
    t->rest = MEM_NEW_N(float *, count + 1);
    if (!t->owner || !t->rest) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) t->owner[i] = SIZE_MAX;
    find_owners(t, k);
    *out = t;
    return MOTE_OK;
none:
    s = MOTE_OK;
out:
    share_tie_close(&t);
    return s;
}

void share_tie_close(share_tie **tp) {
    share_tie *t = *tp;
    if (!t) return;
    for (size_t i = 0; t->rest && i < net_n_params(t->net); i++) mem_free(t->rest[i]);
    mem_free(t->rest);
    mem_free(t->owner);
    model_file_close(&t->file);
    file_close(&t->map);
    mem_free(t);
    *tp = NULL;
}

const model_file *share_tie_file(const share_tie *t) { return t->file; }

void share_tie_grads(share_tie *t) {
    for (size_t i = 0; i < net_n_params(t->net); i++) { /* into the owners, in the order of the file */
        const param *p = net_param(t->net, i);
        if (t->owner[i] == SIZE_MAX || t->owner[i] == i || !p->v.g) continue;
        float *sum = net_param(t->net, t->owner[i])->v.g;
        for (size_t e = 0; sum && e < p->v.rows * p->v.cols; e++) sum[e] += p->v.g[e];
    }
    for (size_t i = 0; i < net_n_params(t->net); i++) {
        const param *p = net_param(t->net, i);
        if (t->owner[i] == SIZE_MAX || t->owner[i] == i || !p->v.g) continue;
        const float *sum = net_param(t->net, t->owner[i])->v.g;
        if (sum) memcpy(p->v.g, sum, p->v.rows * p->v.cols * sizeof *sum);
    }
}

/* x[rows, cols] less B A, as format/share.c adds it. */
static mote_status take_off(const tensor_info *a, const tensor_info *b, size_t rows, size_t cols, float *x, mote_error *err) {
    const quant_format *qa = quant_get((int)a->type), *qb = quant_get((int)b->type);
    size_t rank = (size_t)a->ne[1];
    float *fa = mem_calloc(rank * cols + rank * rows, sizeof *fa), *fb = fa ? fa + rank * cols : NULL;
    if (!fa) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(a->name));
    qa->decode(fa, a->data, rank * cols);
    qb->decode(fb, b->data, rank * rows);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < rank; k++)
            for (size_t c = 0; c < cols; c++) x[r * cols + c] -= fb[r * rank + k] * fa[k * cols + c];
    mem_free(fa);
    return MOTE_OK;
}

mote_status share_tie_stored(share_tie *t, size_t i, const tensor_info **info, const float **x, mote_error *err) {
    const param *p = net_param(t->net, i);
    size_t il, n = p->v.rows * p->v.cols;
    str rest;
    char name[256];
    *x = p->v.x;
    *info = NULL;
    if (t->owner[i] != SIZE_MAX && t->owner[i] != i) return MOTE_OK;
    (void)snprintf(name, sizeof name, "%.*s", (int)MIN(p->info->name.n, (size_t)250), p->info->name.p);
    *info = model_file_find_tensor(t->file, name);
    if (t->owner[i] == SIZE_MAX || !*info || !split_name(p->info->name, &il, &rest)) return MOTE_OK;
    const tensor_info *a = model_file_find_tensor(t->file, name_of(name, il, rest, ".share_a")), *b = model_file_find_tensor(t->file, name_of(name, il, rest, ".share_b"));
    if (!a || !b) return MOTE_OK;
    if (!t->rest[i]) t->rest[i] = MEM_NEW_N(float, n);
    if (!t->rest[i]) FAIL(err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(p->info->name));
    memcpy(t->rest[i], p->v.x, n * sizeof(float));
    *x = t->rest[i];
    return take_off(a, b, p->v.rows, p->v.cols, t->rest[i], err);
}
