/* prune_share.c: one block's tensors for several layers, and what each layer adds to them (format/share.c has the form of the file).
 *
 * The shared tensor is the mean M of the layers' own, which is nearest to all; what is left of layer l, R = W - M, is
 * replaced by B A of low rank, the best on the text's inputs when those are independent: R D ≈ U S Vᵀ with D their mean
 * size, found by subspace iteration (Halko et al. 2011, algorithm 4.4). Source: Bae et al. 2024, "Relaxed recursive
 * transformers", §2.3 (LoRA from the SVD of the difference). */
#include "compress/pruning.h"

#include <math.h>

enum { ITERATIONS = 5 };

typedef struct share {
    prune *p;
    calib calib;
    bool calibrated, plain;
    size_t rank;
    rng rng;
} share;

/* Rows of z[rank, n] become orthonormal (modified Gram-Schmidt, twice). */
static void orthonormal(const struct kern_table *k, float *z, size_t rank, size_t n) {
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < rank; i++) {
            float *x = z + i * n;
            for (size_t j = 0; j < i; j++) k->axpy(x, z + j * n, -k->dot(x, z + j * n, n), n);
            float length = sqrtf(k->dot(x, x, n));
            for (size_t c = 0; c < n; c++) x[c] = length > 1e-20f ? x[c] / length : 0;
        }
}

/* r[rows, cols] ≈ b[rows, rank] a[rank, cols], errors in column c weighed by d[c]; r is spoilt. */
static void low_rank(share *s, float *r, size_t rows, size_t cols, const float *d, size_t rank, float *a, float *b) {
    const struct kern_table *k = s->p->m->kern;
    for (size_t i = 0; i < rows * cols; i++) r[i] *= d[i % cols];
    for (size_t i = 0; i < rank * cols; i++) a[i] = (float)(rng_double(&s->rng) + rng_double(&s->rng) + rng_double(&s->rng) - 1.5);
    orthonormal(k, a, rank, cols);
    for (int it = 0; it <= ITERATIONS; it++) {
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < rank; j++) b[i * rank + j] = k->dot(r + i * cols, a + j * cols, cols);
        if (it == ITERATIONS) break;
        memset(a, 0, rank * cols * sizeof *a);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < rank; j++) k->axpy(a + j * cols, r + i * cols, b[i * rank + j], cols);
        orthonormal(k, a, rank, cols);
    }
    for (size_t i = 0; i < rank * cols; i++) a[i] /= d[i % cols];
}

/* How large the inputs of each column are; 1 where that is not known. */
static mote_status column_sizes(share *s, const weight *w, float **d, mote_error *err) {
    double mean = 0;
    const seen_stats *seen = s->calibrated ? prune_seen(&s->calib, w) : NULL;
    TRY(prune_alloc(s->p, w->cols, sizeof **d, d, err));
    for (size_t i = 0; seen && seen->n[0] > 0 && i < w->cols; i++) mean += seen->abs[i] / seen->n[0] / (double)w->cols;
    for (size_t i = 0; i < w->cols; i++) (*d)[i] = mean > 0 ? (float)(seen->abs[i] / seen->n[0] / mean) + 0.01f : 1;
    return MOTE_OK;
}

static mote_status put_f16(share *s, const tensor_info *t, const char *suffix, const float *x, uint64_t cols, uint64_t rows, mote_error *err) {
    char name[256];
    uint16_t *y;
    (void)snprintf(name, sizeof name, "%.*s%s", (int)MIN(t->name.n, (size_t)200), t->name.p, suffix);
    TRY(prune_alloc(s->p, (size_t)(cols * rows), sizeof *y, &y, err));
    quant_get(QUANT_F16)->encode(y, x, (size_t)(cols * rows), NULL);
    return edit_put_bytes(s->p->edit, str_of(name), QUANT_F16, 2, (uint64_t[]){cols, rows}, y, err);
}

/* What layer `il` adds to the mean. */
static mote_status put_addition(share *s, size_t il, role r, const float *mean, mote_error *err) {
    const slot *slot_here = &s->p->m->layers[il].slots[r];
    const tensor_info *t = slot_here->info;
    size_t cols = (size_t)t->ne[0], rows = (size_t)t->ne[1], rank = MIN(s->rank, MIN(cols, rows));
    mote_status st;
    float *w = NULL, *d, *a = mem_alloc_aligned(rank * cols * sizeof *a), *b = mem_alloc_aligned(rank * rows * sizeof *b);
    if (!a || !b) FAILG(st, err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(t->name));
    TRYG(st, prune_floats(t, &w, err));
    TRYG(st, column_sizes(s, slot_here->mat, &d, err));
    for (size_t i = 0; i < rows * cols; i++) w[i] -= mean[i];
    low_rank(s, w, rows, cols, d, rank, a, b);
    TRYG(st, put_f16(s, t, ".share_a", a, cols, rank, err));
    st = put_f16(s, t, ".share_b", b, rank, rows, err);
out:
    mem_free_aligned(w);
    mem_free_aligned(a);
    mem_free_aligned(b);
    return st;
}

static mote_status share_tensor(share *s, size_t from, size_t to, role r, mote_error *err) {
    const tensor_info *first = s->p->m->layers[from].slots[r].info;
    float *mean = NULL, *x;
    size_t n = (size_t)(first->ne[0] * first->ne[1]);
    for (size_t il = from; il <= to; il++) {
        const tensor_info *t = s->p->m->layers[il].slots[r].info;
        if (!t || t->ne[0] != first->ne[0] || t->ne[1] != first->ne[1])
            FAIL(err, MOTE_E_UNSUPPORTED, "layers %zu and %zu are not of one shape: '%.*s' cannot be shared", from, il, STR_ARG(first->name));
        if (il > from) TRY(edit_drop(s->p->edit, t->name, err));
    }
    if (s->plain) return MOTE_OK;
    mote_status st = prune_floats(first, &mean, err);
    for (size_t il = from + 1; st == MOTE_OK && il <= to; il++) {
        TRYG(st, prune_floats(s->p->m->layers[il].slots[r].info, &x, err));
        for (size_t i = 0; i < n; i++) mean[i] += x[i];
        mem_free_aligned(x);
    }
    for (size_t i = 0; st == MOTE_OK && i < n; i++) mean[i] /= (float)(to - from + 1);
    if (st == MOTE_OK) st = prune_put(s->p, first, mean, 2, first->ne, err);
    for (size_t il = from; st == MOTE_OK && il <= to; il++) st = put_addition(s, il, r, mean, err);
out:
    mem_free_aligned(mean);
    return st;
}

mote_status prune_share(prune *p, mote_error *err) {
    const size_t n = p->m->hp.n_layer;
    const char *by = p->o->share_by ? p->o->share_by : "lora";
    share s = {.p = p, .plain = strcmp(by, "first") == 0, .rank = p->o->share_rank ? p->o->share_rank : 32};
    uint32_t *range;
    int32_t *map;
    size_t count, blocks = 0;
    if (!s.plain && strcmp(by, "lora") != 0) FAIL(err, MOTE_E_USAGE, "layers can share by lora or first, not '%s'", by);
    rng_seed(&s.rng, p->o->seed, 9);
    TRY(prune_alloc(p, n, sizeof *range, &range, err));
    TRY(prune_alloc(p, n + p->m->hp.n_layer_skipped, sizeof *map, &map, err));
    TRY(prune_parse_layers(p->o->share, range, n, &count, err));
    s.calibrated = !s.plain && p->o->text;
    if (s.calibrated) TRY(prune_calibrate(p, NULL, 0, &s.calib, err));
    for (size_t from = 0, to; from < n; from = to + 1) {
        for (to = from; range[from] && to + 1 < n && range[to + 1] == range[from];) to++;
        for (size_t il = from; il <= to; il++) map[il] = (int32_t)from;
        blocks += to > from;
        for (int r = 0; to > from && r < R_COUNT; r++) {
            const slot *t = &p->m->layers[from].slots[r];
            if (t->mat && t->mat->n_mat == 1) TRY(share_tensor(&s, from, to, (role)r, err));
        }
        TRY(prune_progress(p, "sharing", to + 1, n, err));
    }
    for (size_t il = n; il < n + p->m->hp.n_layer_skipped; il++) map[il] = (int32_t)il;
    if (blocks == 0) FAIL(err, MOTE_E_USAGE, "'%s' has no range of two layers or more that could share", p->o->share);
    prune_say(p, "sharing: %zu layers use %zu blocks%s", count, blocks, s.plain ? " as they are" : ", and add to them");
    (void)json_object_set_new(p->json, "blocks", json_integer((json_int_t)blocks));
    return edit_set_kv(p->edit, &(kv){.key = STR("mote.share.layers"), .type = KV_ARRAY, .elem = KV_I32,
                       .count = n + p->m->hp.n_layer_skipped, .elems = (const unsigned char *)map}, err);
}
