/* op_linear.c: products with weights, look-ups of rows. */
#include "train/ops.h"

#include <assert.h>
#include <string.h>

/* ---- y = x wᵀ ----
 * dx = dy w;  dw = dyᵀ x */
struct product {
    var *x, *w, *y;
    bool plain; /* w as it is, not transposed */
};

static void product_back(tape *t, void *ctx) {
    const struct product *p = ctx;
    var *x = p->x, *w = p->w, *y = p->y;
    bool fresh;
    if (!y->g) return;
    float *g = tape_grad(t, x, &fresh);
    if (g)
        tape_gemm(t, &(gemm_args){.m = x->rows, .n = x->cols, .k = y->cols, .a = y->g, .lda = y->cols, .b = w->x, .ldb = w->cols,
                                  .tb = p->plain, .c = g, .ldc = x->cols, .add = !fresh});
    g = tape_grad(t, w, &fresh);
    if (!g) return;
    const var *rows = p->plain ? x : y, *cols = p->plain ? y : x;
    tape_gemm(t, &(gemm_args){.m = w->rows, .n = w->cols, .k = x->rows, .a = p->plain ? x->x : y->g, .lda = rows->cols, .ta = true,
                              .b = p->plain ? y->g : x->x, .ldb = cols->cols, .c = g, .ldc = w->cols, .add = !fresh});
}

static var *product(tape *t, var *x, var *w, bool plain) {
    if (!x || !w) return NULL;
    assert(x->cols == (plain ? w->rows : w->cols));
    var *y = tape_var(t, x->rows, plain ? w->cols : w->rows, x->wants || w->wants);
    if (!y) return NULL;
    tape_gemm(t, &(gemm_args){.m = x->rows, .n = y->cols, .k = x->cols, .a = x->x, .lda = x->cols, .b = w->x, .ldb = w->cols,
                              .tb = !plain, .c = y->x, .ldc = y->cols});
    struct product *p = y->wants ? tape_note(t, product_back, sizeof *p) : NULL;
    if (p) *p = (struct product){x, w, y, plain};
    return y;
}

var *ad_linear(tape *t, var *x, var *w) { return product(t, x, w, false); }
var *ad_matmul(tape *t, var *x, var *w) { return product(t, x, w, true); }

/* ---- y = x + b in every row; db = column sums of dy ---- */
struct add_row {
    var *x, *b, *y;
    float *gx, *gb; /* while going back */
    bool fresh_x, fresh_b;
};

static void add_row_part(void *ctx, size_t from, size_t to, int ith) {
    const struct add_row *a = ctx;
    size_t n = a->x->cols;
    (void)ith;
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < n; i++) a->y->x[r * n + i] = a->x->x[r * n + i] + a->b->x[i];
}

static void add_row_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct add_row *a = ctx;
    size_t n = a->x->cols;
    (void)ith;
    for (size_t i = from; i < to && a->fresh_b; i++) a->gb[i] = 0;
    for (size_t r = 0; r < a->x->rows; r++)
        for (size_t i = from; i < to; i++) a->gb[i] += a->y->g[r * n + i];
}

static void pass_on_part(void *ctx, size_t from, size_t to, int ith) {
    const struct add_row *a = ctx;
    (void)ith;
    if (a->fresh_x) memcpy(a->gx + from, a->y->g + from, (to - from) * sizeof(float));
    else
        for (size_t i = from; i < to; i++) a->gx[i] += a->y->g[i];
}

static void add_row_back(tape *t, void *ctx) {
    struct add_row *a = ctx;
    if (!a->y->g) return;
    a->gx = tape_grad(t, a->x, &a->fresh_x);
    a->gb = tape_grad(t, a->b, &a->fresh_b);
    if (a->gx) tape_for(t, a->x->rows * a->x->cols, 4096, pass_on_part, a);
    if (a->gb) tape_for(t, a->x->cols, 16, add_row_back_part, a);
}

var *ad_add_row(tape *t, var *x, var *b) {
    if (!x || !b) return NULL;
    assert(b->rows * b->cols == x->cols);
    var *y = tape_var(t, x->rows, x->cols, x->wants || b->wants);
    if (!y) return NULL;
    struct add_row a = {.x = x, .b = b, .y = y}, *kept = y->wants ? tape_note(t, add_row_back, sizeof a) : NULL;
    tape_for(t, x->rows, 4, add_row_part, &a);
    if (kept) *kept = a;
    return y;
}

/* ---- y[i] = row ids[i] of the table ----
 * Going back, threads divide the columns among themselves, and rows come in order. */
struct rows {
    var *from, *y;
    const int32_t *ids;
    float *g;
};

static void rows_part(void *ctx, size_t from, size_t to, int ith) {
    const struct rows *a = ctx;
    size_t n = a->y->cols;
    (void)ith;
    for (size_t r = from; r < to; r++) memcpy(a->y->x + r * n, a->from->x + (size_t)a->ids[r] * n, n * sizeof(float));
}

static void rows_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct rows *a = ctx;
    size_t n = a->y->cols;
    (void)ith;
    for (size_t r = 0; r < a->y->rows; r++) {
        float *g = a->g + (size_t)a->ids[r] * n;
        for (size_t i = from; i < to; i++) g[i] += a->y->g[r * n + i];
    }
}

static void rows_back(tape *t, void *ctx) {
    struct rows *a = ctx;
    if (!a->y->g) return;
    a->g = tape_grad_zeroed(t, a->from);
    if (a->g) tape_for(t, a->y->cols, 16, rows_back_part, a);
}

var *ad_rows(tape *t, var *x, const int32_t *idx, size_t n) {
    if (!x) return NULL;
    var *y = tape_var(t, n, x->cols, x->wants);
    if (!y) return NULL;
    struct rows a = {.from = x, .y = y, .ids = idx}, *kept = y->wants ? tape_note(t, rows_back, sizeof a) : NULL;
    tape_for(t, n, 4, rows_part, &a);
    if (kept) *kept = a;
    return y;
}

var *ad_embed(tape *t, var *table, const int32_t *ids, size_t n) { return ad_rows(t, table, ids, n); }
