/* op_norm.c: RMS and layer norms of groups of `width` columns.
 *   y = x̂ w (+ b),  x̂ = (x - mean) r,  r = 1 / sqrt(var + eps); the RMS norm has no mean and var = mean(x²)
 *   dx = r (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)), without the first mean for RMS;  dw = Σ dy x̂;  db = Σ dy
 * Source: Zhang and Sennrich 2019, eq. 4; Ba et al. 2016, eq. 4. */
#include "train/ops.h"

#include <assert.h>
#include <string.h>

struct norming {
    const struct kern_table *kern;
    var *x, *w, *b, *y;
    size_t width, groups; /* per row */
    float eps;
    bool centred;
    float *mean, *r; /* [rows · groups] */
    float *gx, *gw, *gb;
    bool fresh_x, fresh_w, fresh_b;
};

/* Group i of all. */
static kern_norm group_of(const struct norming *a, size_t i) {
    const float *w = a->w ? a->w->x : NULL;
    if (w && a->w->cols > a->width) w += i % a->groups * a->width;
    return (kern_norm){.x = a->x->x + i * a->width, .w = w, .n = a->width, .centred = a->centred, .mean = a->mean[i], .r = a->r[i]};
}

static void norm_part(void *ctx, size_t from, size_t to, int ith) {
    const struct norming *a = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *b = a->b ? a->b->x : NULL;
        if (b && a->b->cols > a->width) b += i % a->groups * a->width;
        kern_norm k = group_of(a, i);
        a->kern->train.norm(&k, a->y->x + i * a->width, b, a->eps);
        a->mean[i] = k.mean;
        a->r[i] = k.r;
    }
}

static void norm_back_x(void *ctx, size_t from, size_t to, int ith) {
    const struct norming *a = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const kern_norm k = group_of(a, i);
        a->kern->train.norm_back(&k, a->gx + i * a->width, a->y->g + i * a->width, !a->fresh_x);
    }
}

/* Columns [from, to) of the weights: sums over all rows, in order. */
static void norm_back_w(void *ctx, size_t from, size_t to, int ith) {
    const struct norming *a = ctx;
    const var *w = a->w;
    const size_t n = a->width, all = a->x->rows * a->groups, per = w->cols > n ? a->groups : 1;
    (void)ith;
    if (a->gw && a->fresh_w) memset(a->gw + from, 0, (to - from) * sizeof(float));
    if (a->gb && a->fresh_b) memset(a->gb + from, 0, (to - from) * sizeof(float));
    for (size_t i = 0; i < all; i++) {
        const size_t base = i % per * n, lo = MAX(from, base), hi = MIN(to, base + n);
        if (lo >= hi) continue;
        kern_norm k = group_of(a, i);
        k.x += lo - base;
        k.n = hi - lo;
        a->kern->train.norm_sums(&k, a->gw ? a->gw + lo : NULL, a->gb ? a->gb + lo : NULL, a->y->g + i * n + (lo - base));
    }
}

static void norm_back(tape *t, void *ctx) {
    struct norming *a = ctx;
    if (!a->y->g) return;
    a->gx = tape_grad(t, a->x, &a->fresh_x);
    a->gw = tape_grad(t, a->w, &a->fresh_w);
    a->gb = tape_grad(t, a->b, &a->fresh_b);
    if (a->gx) tape_for(t, a->x->rows * a->groups, 4, norm_back_x, a);
    if (a->gw || a->gb) tape_for(t, a->w->cols, 16, norm_back_w, a);
}

static var *normed(tape *t, struct norming a) {
    var *x = a.x;
    a.kern = tape_kern(t);
    assert(x->cols % a.width == 0 && (!a.w || a.w->cols == a.width || a.w->cols == x->cols));
    a.groups = x->cols / a.width;
    a.y = tape_var(t, x->rows, x->cols, x->wants || (a.w && a.w->wants) || (a.b && a.b->wants));
    a.mean = tape_mem(t, x->rows * a.groups * 2 * sizeof(float));
    if (!a.y || !a.mean) return NULL;
    a.r = a.mean + x->rows * a.groups;
    tape_for(t, x->rows * a.groups, 4, norm_part, &a);
    struct norming *kept = a.y->wants ? tape_note(t, norm_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}

var *ad_rms_norm(tape *t, var *x, var *w, var *b, size_t width, float eps) {
    return x ? normed(t, (struct norming){.x = x, .w = w, .b = b, .width = width, .eps = eps}) : NULL;
}

var *ad_layer_norm(tape *t, var *x, var *w, var *b, size_t width, float eps) {
    return x ? normed(t, (struct norming){.x = x, .w = w, .b = b, .width = width, .eps = eps, .centred = true}) : NULL;
}
