/* net_packed.c: products with matrices that stay quantized in memory (QLoRA, Dettmers et al. 2023): decoded where they are used,
 * forward and going back, into memory that is given back at once. They have no gradient of their own. */
#include "train/net_int.h"

#include <assert.h>

struct packed {
    var *x, *y;
    const tensor_info *info;
    size_t mat;
};

struct decoding {
    const struct packed *p;
    float *w;
};

static void decode_part(void *ctx, size_t from, size_t to, int ith) {
    const struct decoding *d = ctx;
    const tensor_info *t = d->p->info;
    const quant_format *f = quant_get((int)t->type);
    size_t rows = (size_t)t->ne[1], cols = (size_t)t->ne[0], row_bytes = t->size / (size_t)(t->ne[1] * t->ne[2]);
    (void)ith;
    for (size_t r = from; r < to; r++) f->decode(d->w + r * cols, t->data + (d->p->mat * rows + r) * row_bytes, cols);
}

/* The matrix as f32, until the caller releases the tape. NULL: out of memory. */
static float *decoded(tape *t, const struct packed *p) {
    struct decoding d = {p, tape_mem(t, (size_t)(p->info->ne[0] * p->info->ne[1]) * sizeof(float))};
    if (d.w) tape_for(t, (size_t)p->info->ne[1], 16, decode_part, &d);
    return d.w;
}

static void packed_back(tape *t, void *ctx) {
    const struct packed *p = ctx;
    bool fresh;
    if (!p->y->g) return;
    float *g = tape_grad(t, p->x, &fresh);
    if (!g) return;
    tape_spot spot = tape_mark(t);
    float *w = decoded(t, p);
    if (w)
        tape_gemm(t, &(gemm_args){.m = p->x->rows, .n = p->x->cols, .k = p->y->cols, .a = p->y->g, .lda = p->y->cols, .b = w,
                                  .ldb = p->x->cols, .c = g, .ldc = p->x->cols, .add = !fresh});
    tape_release(t, spot);
}

var *net_packed_linear(tape *t, const tensor_info *info, size_t mat, var *x) {
    if (!x) return NULL;
    assert(x->cols == info->ne[0]);
    var *y = tape_var(t, x->rows, (size_t)info->ne[1], x->wants);
    if (!y) return NULL;
    struct packed p = {x, y, info, mat}, *kept = y->wants ? tape_note(t, packed_back, sizeof p) : NULL;
    tape_spot spot = tape_mark(t);
    float *w = decoded(t, &p);
    if (w)
        tape_gemm(t, &(gemm_args){.m = x->rows, .n = y->cols, .k = x->cols, .a = x->x, .lda = x->cols, .b = w, .ldb = x->cols, .tb = true,
                                  .c = y->x, .ldc = y->cols});
    tape_release(t, spot);
    if (kept) *kept = p;
    return w ? y : NULL;
}
