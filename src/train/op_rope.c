/* op_rope.c: rotary position embedding. A rotation's way back is the rotation by the opposite angle.
 * Source: Su et al. 2021 (RoFormer), eq. 34. */
#include "train/ops.h"

#include <assert.h>
#include <string.h>

struct rotating {
    const struct kern_table *kern;
    var *x, *y;
    const float *cs;
    size_t dim, n_rot;
    bool halves, fresh;
    float *g;
    float *turn; /* per thread: a row's cosines and sines, the other way round */
};

static void rope_part(void *ctx, size_t from, size_t to, int ith) {
    const struct rotating *a = ctx;
    const size_t cols = a->x->cols;
    (void)ith;
    for (size_t r = from; r < to; r++) {
        memcpy(a->y->x + r * cols, a->x->x + r * cols, cols * sizeof(float));
        for (size_t c = 0; c < cols; c += a->dim) a->kern->rotate(a->y->x + r * cols + c, a->cs + r * a->n_rot, a->n_rot / 2, a->halves);
    }
}

/* y's gradient is turned where it lies: nobody reads it after this. */
static void rope_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct rotating *a = ctx;
    const size_t cols = a->x->cols;
    float *cs = a->turn + (size_t)ith * a->n_rot;
    for (size_t r = from; r < to; r++) {
        float *dy = a->y->g + r * cols, *g = a->g + r * cols;
        for (size_t i = 0; i < a->n_rot; i += 2) cs[i] = a->cs[r * a->n_rot + i], cs[i + 1] = -a->cs[r * a->n_rot + i + 1];
        for (size_t c = 0; c < cols; c += a->dim) a->kern->rotate(dy + c, cs, a->n_rot / 2, a->halves);
        if (a->fresh) memcpy(g, dy, cols * sizeof *g);
        else a->kern->axpy(g, dy, 1, cols);
    }
}

static void rope_back(tape *t, void *ctx) {
    struct rotating *a = ctx;
    if (!a->y->g) return;
    a->g = tape_grad(t, a->x, &a->fresh);
    const tape_spot spot = tape_mark(t);
    a->turn = tape_mem(t, (size_t)tape_threads(t) * a->n_rot * sizeof(float));
    if (a->g && a->turn) tape_for(t, a->x->rows, 1, rope_back_part, a);
    tape_release(t, spot);
}

var *ad_rope(tape *t, var *x, size_t dim, size_t n_rot, const float *cs, bool halves) {
    if (!x) return NULL;
    assert(x->cols % dim == 0 && n_rot <= dim);
    struct rotating a = {.kern = tape_kern(t), .x = x, .cs = cs, .dim = dim, .n_rot = n_rot, .halves = halves};
    a.y = tape_var(t, x->rows, x->cols, x->wants);
    if (!a.y) return NULL;
    tape_for(t, x->rows, 1, rope_part, &a);
    struct rotating *kept = a.y->wants ? tape_note(t, rope_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
