/* op_rope.c: rotary position embedding. A rotation's way back is the rotation by the opposite angle.
 * Source: Su et al. 2021 (RoFormer), eq. 34. */
#include "train/ops.h"

#include <assert.h>
#include <string.h>

struct rotating {
    var *x, *y;
    const float *cs;
    size_t dim, n_rot;
    bool halves, fresh;
    float *g;
};

/* One head: v = rotation of u, whose cosines and sines are cs; turn -1: back. */
static void rotate(float *v, const float *u, const float *cs, const struct rotating *a, float turn, bool add) {
    size_t n = a->n_rot / 2;
    for (size_t i = 0; i < n; i++) {
        size_t p = a->halves ? i : 2 * i, q = a->halves ? i + n : 2 * i + 1;
        float c = cs[2 * i], s = cs[2 * i + 1] * turn, x = u[p] * c - u[q] * s, y = u[p] * s + u[q] * c;
        v[p] = add ? v[p] + x : x;
        v[q] = add ? v[q] + y : y;
    }
    for (size_t i = a->n_rot; i < a->dim; i++) v[i] = add ? v[i] + u[i] : u[i];
}

static void rope_part(void *ctx, size_t from, size_t to, int ith) {
    const struct rotating *a = ctx;
    (void)ith;
    for (size_t r = from; r < to; r++)
        for (size_t c = 0; c < a->x->cols; c += a->dim)
            rotate(a->y->x + r * a->x->cols + c, a->x->x + r * a->x->cols + c, a->cs + r * a->n_rot, a, 1, false);
}

static void rope_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct rotating *a = ctx;
    (void)ith;
    for (size_t r = from; r < to; r++)
        for (size_t c = 0; c < a->x->cols; c += a->dim)
            rotate(a->g + r * a->x->cols + c, a->y->g + r * a->x->cols + c, a->cs + r * a->n_rot, a, -1, !a->fresh);
}

static void rope_back(tape *t, void *ctx) {
    struct rotating *a = ctx;
    if (!a->y->g) return;
    a->g = tape_grad(t, a->x, &a->fresh);
    if (a->g) tape_for(t, a->x->rows, 1, rope_back_part, a);
}

var *ad_rope(tape *t, var *x, size_t dim, size_t n_rot, const float *cs, bool halves) {
    if (!x) return NULL;
    assert(x->cols % dim == 0 && n_rot <= dim);
    struct rotating a = {.x = x, .cs = cs, .dim = dim, .n_rot = n_rot, .halves = halves};
    a.y = tape_var(t, x->rows, x->cols, x->wants);
    if (!a.y) return NULL;
    tape_for(t, x->rows, 1, rope_part, &a);
    struct rotating *kept = a.y->wants ? tape_note(t, rope_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
