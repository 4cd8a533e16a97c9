/* op_loss.c: the head and the cross-entropy in one op, a chunk of rows at a time.
 *   z = cap(scale (h wᵀ + b));  l = log Σ exp z - z[target] (+ z_loss log² Σ exp z)
 *   dz = softmax(z) - onehot(target) (+ 2 z_loss log Z softmax(z)), times the row's weight; through the cap: (1 - (z/cap)²)
 *   dh = scale dz w;  dw = scale dzᵀ h;  db = scale Σ dz */
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { CHUNK_FLOATS = 32 << 20 /* of logits */ };

struct losing {
    const struct kern_table *kern;
    var *h, *loss;
    ad_head head;
    const int32_t *target;
    const float *weights;
    float z_loss;
    double by;      /* 1 / the sum of weights */
    float *z;       /* a chunk of logits, then of their gradients */
    size_t chunk;   /* rows of it */
    float *row_loss;
    float *gh, *gw, *gb;
    bool fresh_h, fresh_w, fresh_b;
    float upstream; /* what the loss's own gradient is */
    size_t at, n;   /* rows of the present chunk */
    bool back;
};

size_t ad_head_chunk(const ad_head *head, size_t n) {
    size_t rows = CHUNK_FLOATS / head->w->rows;
    return MIN(n, MAX(rows, (size_t)16));
}

static double row_weight(const struct losing *a, size_t i) {
    if (a->target[i] < 0) return 0;
    return a->weights ? (double)a->weights[i] : 1;
}

/* z[vocab] behind a cap: its loss, and (back) its gradient times g. Rare (Gemma 2), so it may take its time. */
static float capped_row(const struct losing *a, float *z, size_t vocab, size_t target, float g) {
    float cap = a->head.softcap, sum = 0;
    for (size_t j = 0; j < vocab; j++) z[j] = cap * tanhf(z[j] / cap);
    float top = a->kern->max(z, vocab), goal = z[target];
    for (size_t j = 0; j < vocab; j++) sum += expf(z[j] - top);
    float log_z = top + logf(sum), slope = 1 + 2 * a->z_loss * log_z;
    for (size_t j = 0; a->back && j < vocab; j++) {
        float d = slope * expf(z[j] - log_z) - (j == target ? 1 : 0);
        z[j] = g * d * (1 - z[j] / cap * (z[j] / cap));
    }
    return log_z - goal + a->z_loss * log_z * log_z;
}

static float plain_row(const struct losing *a, float *z, size_t vocab, size_t target, float g) {
    float top = a->kern->max(z, vocab), goal = z[target], sum = a->kern->exp_sum(z, top, vocab), log_z = top + logf(sum);
    if (a->back) {
        a->kern->scale(z, z, g * (1 + 2 * a->z_loss * log_z) / sum, vocab);
        z[target] -= g;
    }
    return log_z - goal + a->z_loss * log_z * log_z;
}

/* Rows of a chunk: their losses; and (back) the gradients in place of the logits. */
static void loss_part(void *ctx, size_t from, size_t to, int ith) {
    const struct losing *a = ctx;
    size_t vocab = a->head.w->rows;
    float scale = a->head.scale;
    (void)ith;
    for (size_t r = from; r < to; r++) {
        float *z = a->z + r * vocab;
        size_t i = a->at + r;
        double w = row_weight(a, i);
        a->row_loss[i] = 0;
        if (w == 0) {
            if (a->back) memset(z, 0, vocab * sizeof *z);
            continue;
        }
        if (a->head.b) a->kern->axpy(z, a->head.b->x, 1, vocab);
        if (scale != 1) a->kern->scale(z, z, scale, vocab);
        float g = (float)(w * a->by) * a->upstream * scale;
        a->row_loss[i] = (a->head.softcap > 0 ? capped_row : plain_row)(a, z, vocab, (size_t)a->target[i], g);
    }
}

static void bias_part(void *ctx, size_t from, size_t to, int ith) {
    const struct losing *a = ctx;
    (void)ith;
    for (size_t j = from; a->fresh_b && a->at == 0 && j < to; j++) a->gb[j] = 0;
    for (size_t r = 0; r < a->n; r++)
        for (size_t j = from; j < to; j++) a->gb[j] += a->z[r * a->head.w->rows + j];
}

/* Every chunk: its logits and losses, and (back) its gradients. */
static void all_chunks(tape *t, struct losing *a) {
    const var *h = a->h, *w = a->head.w;
    for (a->at = 0; a->at < h->rows; a->at += a->chunk) {
        a->n = MIN(a->chunk, h->rows - a->at);
        const float *x = h->x + a->at * h->cols;
        tape_gemm(t, &(gemm_args){.m = a->n, .n = w->rows, .k = h->cols, .a = x, .lda = h->cols, .b = w->x, .ldb = w->cols, .tb = true,
                                  .c = a->z, .ldc = w->rows});
        tape_for(t, a->n, 1, loss_part, a);
        if (!a->back) continue;
        if (a->gh)
            tape_gemm(t, &(gemm_args){.m = a->n, .n = h->cols, .k = w->rows, .a = a->z, .lda = w->rows, .b = w->x, .ldb = w->cols,
                                      .c = a->gh + a->at * h->cols, .ldc = h->cols, .add = !a->fresh_h});
        if (a->gw)
            tape_gemm(t, &(gemm_args){.m = w->rows, .n = h->cols, .k = a->n, .a = a->z, .lda = w->rows, .ta = true, .b = x, .ldb = h->cols,
                                      .c = a->gw, .ldc = h->cols, .add = !a->fresh_w || a->at > 0});
        if (a->gb) tape_for(t, w->rows, 1024, bias_part, a);
    }
}

/* A visit of all chunks; with `back` it makes the gradients. Memory of a chunk is taken for the visit alone. */
static void visit(tape *t, struct losing *a, bool back) {
    a->back = back;
    if (back) {
        a->gh = tape_grad(t, a->h, &a->fresh_h);
        a->gw = tape_grad(t, a->head.w, &a->fresh_w);
        a->gb = tape_grad(t, a->head.b, &a->fresh_b);
    }
    tape_spot spot = tape_mark(t);
    a->z = tape_mem(t, a->chunk * a->head.w->rows * sizeof(float));
    if (a->z) all_chunks(t, a);
    tape_release(t, spot);
}

static void loss_back(tape *t, void *ctx) {
    struct losing *a = ctx;
    if (!a->loss->g) return;
    if (!a->back) {
        a->upstream = *a->loss->g;
        visit(t, a, true);
    } else if (*a->loss->g != a->upstream) /* they were made on the way forward */
        tape_fault(t, "the weight of a fused loss is not the one it was declared with");
}

var *ad_cross_entropy(tape *t, var *hidden, const ad_head *head, const ad_targets *o) {
    if (!hidden || !head->w) return NULL;
    assert(hidden->cols == head->w->cols);
    size_t n = hidden->rows;
    bool wants = tape_records(t) && (hidden->wants || head->w->wants || (head->b && head->b->wants));
    struct losing a = {.kern = tape_kern(t), .h = hidden, .head = *head, .target = o->target, .weights = o->weights, .z_loss = o->z_loss,
                       .upstream = o->fused, .row_loss = o->losses, .chunk = ad_head_chunk(head, n)};
    a.loss = tape_var(t, 1, 1, wants);
    if (!a.row_loss) a.row_loss = tape_mem(t, n * sizeof(float));
    struct losing *kept = wants ? tape_note(t, loss_back, sizeof a) : NULL;
    if (!a.loss || !a.row_loss) return NULL;
    double sum = o->sum_weight, total = 0;
    for (size_t i = 0; o->sum_weight <= 0 && i < n; i++) sum += row_weight(&a, i);
    a.by = sum > 0 ? 1 / sum : 0;
    visit(t, &a, kept && o->fused != 0);
    for (size_t i = 0; i < n; i++) total += row_weight(&a, i) * (double)a.row_loss[i];
    *a.loss->x = (float)(total * a.by);
    if (kept) *kept = a;
    return a.loss;
}
