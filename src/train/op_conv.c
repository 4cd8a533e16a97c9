/* op_conv.c: causal depthwise convolution: y[i, c] = Σ_j x[i - width + 1 + j, c] w[c, j] + b[c], nothing being seen
 * before a sequence's start.  dx[i - width + 1 + j] += dy[i] w[j];  dw[j] = Σ_i dy[i] x[i - width + 1 + j];  db = Σ_i dy[i]
 * Threads divide the channels. */
#include "train/ops.h"

#include <assert.h>
#include <string.h>

struct convolving {
    var *x, *w, *b, *y;
    const ad_seqs *s;
    float *gx, *gw, *gb;
};

/* First tap that lies inside the sequence, for the row `at` places from its start. */
static size_t first_tap(const struct convolving *a, size_t at) {
    size_t width = a->w->cols;
    return at + 1 < width ? width - 1 - at : 0;
}

static void conv_part(void *ctx, size_t from, size_t to, int ith) {
    const struct convolving *a = ctx;
    size_t n = a->x->cols, width = a->w->cols;
    (void)ith;
    for (size_t q = 0; q < a->s->n_seq; q++)
        for (size_t i = a->s->start[q]; i < a->s->start[q + 1]; i++) {
            float *y = a->y->x + i * n;
            for (size_t c = from; c < to; c++) y[c] = a->b ? a->b->x[c] : 0;
            for (size_t j = first_tap(a, i - a->s->start[q]); j < width; j++) {
                const float *x = a->x->x + (i + 1 + j - width) * n;
                for (size_t c = from; c < to; c++) y[c] += x[c] * a->w->x[c * width + j];
            }
        }
}

static void conv_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct convolving *a = ctx;
    size_t n = a->x->cols, width = a->w->cols;
    (void)ith;
    for (size_t q = 0; q < a->s->n_seq; q++)
        for (size_t i = a->s->start[q]; i < a->s->start[q + 1]; i++) {
            const float *dy = a->y->g + i * n;
            for (size_t c = from; a->gb && c < to; c++) a->gb[c] += dy[c];
            for (size_t j = first_tap(a, i - a->s->start[q]); j < width; j++) {
                size_t at = (i + 1 + j - width) * n;
                for (size_t c = from; a->gx && c < to; c++) a->gx[at + c] += dy[c] * a->w->x[c * width + j];
                for (size_t c = from; a->gw && c < to; c++) a->gw[c * width + j] += dy[c] * a->x->x[at + c];
            }
        }
}

static void conv_back(tape *t, void *ctx) {
    struct convolving *a = ctx;
    if (!a->y->g) return;
    a->gx = tape_grad_zeroed(t, a->x);
    a->gw = tape_grad_zeroed(t, a->w);
    a->gb = tape_grad_zeroed(t, a->b);
    tape_for(t, a->x->cols, 16, conv_back_part, a);
}

var *ad_conv(tape *t, var *x, var *w, var *b, const ad_seqs *s) {
    if (!x || !w) return NULL;
    assert(w->rows == x->cols && (!b || b->rows * b->cols == x->cols));
    struct convolving a = {.x = x, .w = w, .b = b, .s = s};
    a.y = tape_var(t, x->rows, x->cols, x->wants || w->wants || (b && b->wants));
    if (!a.y) return NULL;
    tape_for(t, x->cols, 16, conv_part, &a);
    struct convolving *kept = a.y->wants ? tape_note(t, conv_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
