/* ops.c: scratch, norms and element-wise ops. Rows are split over the threads. */
#include "tensor/tensor_int.h"

#include <math.h>

void *bump_bytes(bump *b, size_t n) {
    b->used = (b->used + 63) / 64 * 64;
    void *p = b->base ? b->base + b->used : NULL;
    b->used += n;
    if (b->used > b->peak) b->peak = b->used;
    assert(!b->base || b->used <= b->cap);
    return p;
}

float *bump_f32(bump *b, size_t n) { return bump_bytes(b, n * sizeof(float)); }

float act_apply(act_fn f, float x) { return kern_act_ref(f, x); }

void norm_row_local(const team *t, const norm *nm, float *y, const float *x, size_t n) {
    switch (nm->kind) {
        case NORM_RMS: t->kern->rms_norm(y, x, nm->w, nm->b, nm->eps, n); break;
        case NORM_LAYER: t->kern->layer_norm(y, x, nm->w, nm->b, nm->eps, n); break;
        default:
            if (y != x) memcpy(y, x, n * sizeof *y);
    }
}

void op_norm(team *t, const norm *nm, float *y, size_t ldy, const float *x, size_t ldx, size_t n_rows, size_t n) {
    size_t from, to;
    team_enter(t, PROF_NORM);
    pool_share(n_rows, 1, t->ith, t->nth, &from, &to);
    for (size_t i = from; i < to; i++) norm_row_local(t, nm, y + i * ldy, x + i * ldx, n);
    team_barrier(t);
}

void op_add(team *t, float *y, size_t ldy, const float *x, size_t ldx, float scale, size_t n_rows, size_t n) {
    size_t from, to;
    team_enter(t, PROF_ADD);
    pool_share(n_rows, 1, t->ith, t->nth, &from, &to);
    for (size_t i = from; i < to; i++) t->kern->axpy(y + i * ldy, x + i * ldx, scale, n);
    team_barrier(t);
}

void softmax_row_local(float *x, size_t n) {
    float max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        if (x[i] > max) max = x[i];
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += x[i];
    }
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}
