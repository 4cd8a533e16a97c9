/* op_fake.c: activations and caches rounded as the engine rounds them.  dx = dy. */
#include "train/op_fake.h"

#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

struct faking {
    var *x, *y;
    const kern_table *k;
    unsigned char *rooms; /* [threads, room] */
    size_t room, n_head;
    quant_type type;
    float *g;
    bool fresh;
};

static void acts_part(void *ctx, size_t from, size_t to, int ith) {
    struct faking *a = ctx;
    size_t n = a->x->cols;
    void *row = a->rooms + (size_t)ith * a->room;
    kern_acts q = kern_acts_at(row, n);
    for (size_t i = from; i < to; i++) {
        float *y = a->y->x + i * n;
        a->k->quantize(row, a->x->x + i * n, n);
        for (size_t j = 0; j < n; j++) y[j] = q.d[j / KERN_BLOCK] * (float)q.q[j];
    }
}

static void kv_part(void *ctx, size_t from, size_t to, int ith) {
    struct faking *a = ctx;
    size_t dim = a->x->cols / a->n_head;
    unsigned char *room = a->rooms + (size_t)ith * a->room;
    kv_layer c = {.k_type = QUANT_F32, .v_type = a->type, .n_head_kv = 1, .dim_k = dim, .dim_v = dim, .cap = KV_BLOCK, .v = room};
    team t = {.kern = a->k};
    for (size_t i = from; i < to; i++) { /* rows of heads */
        kv_put_v(&t, &c, 0, 0, a->x->x + i * dim);
        kv_get_v(&c, 0, 0, a->y->x + i * dim);
    }
}

static void through_part(void *ctx, size_t from, size_t to, int ith) {
    struct faking *a = ctx;
    size_t n = a->x->cols;
    (void)ith;
    if (a->fresh) memcpy(a->g + from * n, a->y->g + from * n, (to - from) * n * sizeof(float));
    else a->k->axpy(a->g + from * n, a->y->g + from * n, 1, (to - from) * n);
}

static void fake_back(tape *t, void *ctx) {
    struct faking *a = ctx;
    if (!a->y->g || !(a->g = tape_grad(t, a->x, &a->fresh))) return;
    tape_for(t, a->x->rows, 1, through_part, a);
}

static var *fake(tape *t, var *x, struct faking *a, size_t rows, tape_part_fn *part) {
    a->x = x;
    a->k = tape_kern(t);
    a->y = tape_var(t, x->rows, x->cols, x->wants);
    if (!a->y) return NULL;
    struct faking *note = a->y->wants ? tape_note(t, fake_back, sizeof *note) : NULL;
    if (a->y->wants && tape_records(t) && !note) return NULL;
    if (note) *note = *a;
    tape_spot spot = tape_mark(t);
    a->rooms = tape_mem(t, a->room * (size_t)tape_threads(t));
    if (!a->rooms) return NULL;
    tape_for(t, rows, 1, part, a);
    tape_release(t, spot);
    return a->y;
}

var *ad_fake_acts(tape *t, var *x) {
    if (!x) return NULL;
    struct faking a = {.room = (kern_acts_bytes(x->cols) + 63) / 64 * 64};
    return fake(t, x, &a, x->rows, acts_part);
}

/* Keys and values are rounded alike, only laid out differently: a cache of values serves both. */
var *ad_fake_kv(tape *t, var *x, size_t n_head, quant_type type) {
    if (!x || type == QUANT_F32) return x;
    assert(n_head > 0 && x->cols % n_head == 0);
    size_t dim = x->cols / n_head;
    kv_layer c = {.k_type = QUANT_F32, .v_type = type, .n_head_kv = 1, .dim_k = dim, .dim_v = dim, .cap = KV_BLOCK};
    struct faking a = {.room = (kv_v_bytes(&c) + 63) / 64 * 64, .n_head = n_head, .type = type};
    return fake(t, x, &a, x->rows * n_head, kv_part);
}
