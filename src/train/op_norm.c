/* op_norm.c: RMS and layer norms of groups of `width` columns.
 *   y = x̂ w (+ b),  x̂ = (x - mean) r,  r = 1 / sqrt(var + eps); the RMS norm has no mean and var = mean(x²)
 *   dx = r (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)), without the first mean for RMS;  dw = Σ dy x̂;  db = Σ dy
 * Source: Zhang and Sennrich 2019, eq. 4; Ba et al. 2016, eq. 4. */
#include "train/ops.h"

#include <assert.h>
#include <math.h>

struct norming {
    var *x, *w, *b, *y;
    size_t width, groups; /* per row */
    float eps;
    bool centred;
    float *mean, *r; /* [rows · groups] */
    float *gx, *gw, *gb;
    bool fresh_x, fresh_w, fresh_b;
};

static void norm_part(void *ctx, size_t from, size_t to, int ith) {
    const struct norming *a = ctx;
    size_t n = a->width;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *x = a->x->x + i * n, *w = a->w ? a->w->x : NULL, *b = a->b ? a->b->x : NULL;
        float *y = a->y->x + i * n;
        if (w && a->w->cols > n) w += i % a->groups * n;
        if (b && a->b->cols > n) b += i % a->groups * n;
        double sum = 0, squares = 0;
        for (size_t j = 0; a->centred && j < n; j++) sum += (double)x[j];
        float mean = (float)(sum / (double)n);
        for (size_t j = 0; j < n; j++) squares += (double)((x[j] - mean) * (x[j] - mean));
        float r = 1 / sqrtf((float)(squares / (double)n) + a->eps);
        for (size_t j = 0; j < n; j++) y[j] = (x[j] - mean) * r * (w ? w[j] : 1) + (b ? b[j] : 0);
        a->mean[i] = mean;
        a->r[i] = r;
    }
}

static void norm_back_x(void *ctx, size_t from, size_t to, int ith) {
    const struct norming *a = ctx;
    size_t n = a->width;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *x = a->x->x + i * n, *w = a->w ? a->w->x : NULL, *dy = a->y->g + i * n;
        float *g = a->gx + i * n, mean = a->mean[i], r = a->r[i];
        if (w && a->w->cols > n) w += i % a->groups * n;
        double dot = 0, sum = 0;
        for (size_t j = 0; j < n; j++) {
            float d = w ? dy[j] * w[j] : dy[j];
            dot += (double)(d * (x[j] - mean) * r);
            sum += (double)d;
        }
        float by = (float)(dot / (double)n), off = a->centred ? (float)(sum / (double)n) : 0;
        for (size_t j = 0; j < n; j++) {
            float d = r * ((w ? dy[j] * w[j] : dy[j]) - off - (x[j] - mean) * r * by);
            g[j] = a->fresh_x ? d : g[j] + d;
        }
    }
}

/* Columns [from, to) of the weights: sums over all rows, in order. */
static void norm_back_w(void *ctx, size_t from, size_t to, int ith) {
    const struct norming *a = ctx;
    const var *w = a->w;
    size_t n = a->width, all = a->x->rows * a->groups, per = w->cols > n ? a->groups : 1;
    (void)ith;
    for (size_t j = from; j < to; j++) {
        if (a->gw && a->fresh_w) a->gw[j] = 0;
        if (a->gb && a->fresh_b) a->gb[j] = 0;
    }
    for (size_t i = 0; i < all; i++) {
        size_t base = i % per * n, lo = MAX(from, base), hi = MIN(to, base + n);
        const float *x = a->x->x + i * n, *dy = a->y->g + i * n;
        for (size_t j = lo; j < hi; j++) {
            if (a->gw) a->gw[j] += dy[j - base] * (x[j - base] - a->mean[i]) * a->r[i];
            if (a->gb) a->gb[j] += dy[j - base];
        }
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
