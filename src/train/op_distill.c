/* op_distill.c: a student's head and its loss against a teacher's, together, in chunks of rows.
 *
 * For a chunk of rows that count: both products with the heads, the rows' losses and gradients by the student's logits
 * (op_distill_rows.c), and from these at once the gradients of the hidden rows and of the head. They are kept, and scaled going back;
 * the logits are forgotten. Beside that a few rows of the vocabulary per thread. */
#include "train/op_distill_int.h"

#include <math.h>
#include <string.h>

enum { CHUNK_BYTES = 48 << 20, CHUNK_ROWS = 256, CHUNK_ROWS_LEAST = 8 };

typedef struct distill {
    tape *t;
    const var *hidden, *teacher;
    const ad_head *head, *teacher_head;
    const distill_top *top;
    const ad_targets *rows;
    const distill_opts *o;
    size_t n, n_teacher;    /* vocabularies as compared */
    uint32_t *at;           /* [n_rows] the rows that count */
    size_t n_rows;
    double sum_weight;
    distill_row *results;   /* [n_rows] */
    /* the chunk: rows [first, first + count) of `at` */
    size_t first, count, chunk;
    float *h, *ht, *z, *zt; /* [chunk, …] hidden rows and logits of both */
    float *work;            /* [threads, 3, max(n, n_teacher)] */
    float *gh, *gw, *gb;    /* [n_rows, cols], [n, cols], [n]; NULL where no gradient is wanted */
} distill;

/* What the way back needs. */
typedef struct distill_note {
    var *out, *hidden, *w, *b;
    const uint32_t *at;
    size_t n_rows, n;
    const float *gh, *gw, *gb;
} distill_note;

static float weight_of(const ad_targets *r, size_t i) {
    return r->weights ? r->weights[i] : 1;
}

static bool counts(const distill *d, size_t i) {
    const ad_targets *r = d->rows;
    if (r->weights && !(r->weights[i] > 0)) return false;
    return !r->target || (r->target[i] >= 0 && (size_t)r->target[i] < d->n);
}

/* Logits as they come from a head: z = cap(scale (h wᵀ + b)). */
static void finish_logits(const kern_table *k, const ad_head *head, float *z, size_t n) {
    if (head->b) k->axpy(z, head->b->x, 1, n);
    k->scale(z, z, head->scale, n);
    for (size_t i = 0; head->softcap > 0 && i < n; i++) z[i] = head->softcap * tanhf(z[i] / head->softcap);
}

static void gather_part(void *ctx, size_t from, size_t to, int ith) {
    distill *d = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        size_t row = d->at[d->first + i];
        memcpy(d->h + i * d->hidden->cols, d->hidden->x + row * d->hidden->cols, d->hidden->cols * sizeof(float));
        if (d->ht) memcpy(d->ht + i * d->teacher->cols, d->teacher->x + row * d->teacher->cols, d->teacher->cols * sizeof(float));
    }
}

static void rows_part(void *ctx, size_t from, size_t to, int ith) {
    distill *d = ctx;
    const kern_table *k = tape_kern(d->t);
    size_t wide = MAX(d->n, d->n_teacher);
    for (size_t i = from; i < to; i++) {
        distill_row *r = &d->results[d->first + i];
        size_t row = d->at[d->first + i];
        float *z = d->z + i * d->n, *work = d->work + (size_t)ith * 3 * wide, cap = d->head->softcap;
        *r = (distill_row){.kern = k, .o = d->o, .n = d->n, .n_teacher = d->n_teacher, .z = z, .top = d->top, .at = row,
                           .teacher = d->zt ? d->zt + i * d->n_teacher : NULL, .target = d->rows->target ? d->rows->target[row] : -1,
                           .work = {work, work + wide, work + 2 * wide}};
        finish_logits(k, d->head, z, d->n);
        if (r->teacher) finish_logits(k, d->teacher_head, r->teacher, d->n_teacher);
        float *capped = cap > 0 ? memcpy(d->work + (size_t)tape_threads(d->t) * 3 * wide + (size_t)ith * d->n, z, d->n * sizeof *z) : NULL;
        distill_row_run(r);
        for (size_t j = 0; capped && j < d->n; j++) z[j] *= 1 - (capped[j] / cap) * (capped[j] / cap);
        k->scale(z, z, (float)((double)weight_of(d->rows, row) / d->sum_weight) * d->head->scale, d->n);
    }
}

/* Columns [from, to) of the bias' gradient. */
static void bias_part(void *ctx, size_t from, size_t to, int ith) {
    distill *d = ctx;
    (void)ith;
    for (size_t i = 0; i < d->count; i++) {
        const float *z = d->z + i * d->n;
        for (size_t j = from; j < to; j++) d->gb[j] += z[j];
    }
}

static void run_chunk(distill *d) {
    size_t c = d->hidden->cols;
    tape_for(d->t, d->count, 1, gather_part, d);
    tape_gemm(d->t, &(gemm_args){.m = d->count, .n = d->n, .k = c, .a = d->h, .lda = c, .b = d->head->w->x, .ldb = c, .tb = true,
                                 .c = d->z, .ldc = d->n});
    if (d->zt) {
        size_t ct = d->teacher->cols;
        tape_gemm(d->t, &(gemm_args){.m = d->count, .n = d->n_teacher, .k = ct, .a = d->ht, .lda = ct, .b = d->teacher_head->w->x,
                                     .ldb = ct, .tb = true, .c = d->zt, .ldc = d->n_teacher});
    }
    tape_for(d->t, d->count, 1, rows_part, d);
    if (d->gb) tape_for(d->t, d->n, 64, bias_part, d);
    if (d->gh)
        tape_gemm(d->t, &(gemm_args){.m = d->count, .n = c, .k = d->n, .a = d->z, .lda = d->n, .b = d->head->w->x, .ldb = c,
                                     .c = d->gh + d->first * c, .ldc = c});
    if (d->gw)
        tape_gemm(d->t, &(gemm_args){.m = d->n, .n = c, .k = d->count, .a = d->z, .lda = d->n, .ta = true, .b = d->h, .ldb = c,
                                     .c = d->gw, .ldc = c, .add = d->first > 0});
}

static void distill_back(tape *t, void *ctx) {
    distill_note *a = ctx;
    const kern_table *k = tape_kern(t);
    if (!a->out->g) return;
    float by = a->out->g[0], *g = a->gh ? tape_grad_zeroed(t, a->hidden) : NULL;
    for (size_t i = 0; g && i < a->n_rows; i++) k->axpy(g + a->at[i] * a->hidden->cols, a->gh + i * a->hidden->cols, by, a->hidden->cols);
    g = a->gw ? tape_grad_zeroed(t, a->w) : NULL;
    if (g) k->axpy(g, a->gw, by, a->n * a->w->cols);
    g = a->gb ? tape_grad_zeroed(t, a->b) : NULL;
    if (g) k->axpy(g, a->gb, by, a->n);
}

static void *zeroed(tape *t, size_t bytes) {
    void *p = tape_mem(t, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

/* The means, and the loss itself. */
static double total(distill *d) {
    double loss = 0, divergence = 0, ce = 0, agree = 0, weights = 0;
    for (size_t i = 0; i < d->n_rows; i++) {
        const distill_row *r = &d->results[i];
        double w = (double)weight_of(d->rows, d->at[i]), own = (double)d->o->weight * r->divergence + (double)d->o->ce * r->ce;
        loss += w * own;
        divergence += w * r->divergence;
        ce += w * r->ce;
        agree += w * (double)r->agree;
        weights += w;
        if (d->rows->losses) d->rows->losses[d->at[i]] = (float)own;
    }
    weights = weights > 0 ? weights : 1;
    if (d->o->seen) *d->o->seen = (distill_seen){divergence / weights, ce / weights, agree / weights, d->n_rows};
    return loss / d->sum_weight;
}

/* Finds the rows that count and room for everything. False: out of memory. */
static bool prepare(distill *d, bool records) {
    tape *t = d->t;
    size_t rows = d->hidden->rows, c = d->hidden->cols, wide = MAX(d->n, d->n_teacher);
    d->at = tape_mem(t, MAX(rows, (size_t)1) * sizeof *d->at);
    if (!d->at) return false;
    double weights = 0;
    for (size_t i = 0; i < rows; i++) {
        if (d->rows->losses) d->rows->losses[i] = 0;
        if (!counts(d, i)) continue;
        d->at[d->n_rows++] = (uint32_t)i;
        weights += (double)weight_of(d->rows, i);
    }
    d->sum_weight = d->rows->sum_weight > 0 ? d->rows->sum_weight : weights > 0 ? weights : 1;
    if (records && d->hidden->wants && !(d->gh = tape_mem(t, MAX(d->n_rows * c, (size_t)1) * sizeof(float)))) return false;
    if (records && d->head->w->wants && !(d->gw = zeroed(t, d->n * c * sizeof(float)))) return false;
    if (records && d->head->b && d->head->b->wants && !(d->gb = zeroed(t, d->n * sizeof(float)))) return false;
    d->chunk = MIN(MAX(CHUNK_BYTES / (wide * sizeof(float)), (size_t)CHUNK_ROWS_LEAST), (size_t)CHUNK_ROWS);
    d->chunk = MAX(MIN(d->chunk, d->n_rows), (size_t)1);
    return true;
}

static bool prepare_chunks(distill *d, bool dense) {
    tape *t = d->t;
    size_t wide = MAX(d->n, d->n_teacher), threads = (size_t)tape_threads(t);
    d->results = tape_mem(t, MAX(d->n_rows, (size_t)1) * sizeof *d->results);
    d->h = tape_mem(t, d->chunk * d->hidden->cols * sizeof(float));
    d->z = tape_mem(t, d->chunk * d->n * sizeof(float));
    d->work = tape_mem(t, threads * (3 * wide + (d->head->softcap > 0 ? d->n : 0)) * sizeof(float));
    if (!d->results || !d->h || !d->z || !d->work) return false;
    if (!dense) return true;
    d->ht = tape_mem(t, d->chunk * d->teacher->cols * sizeof(float));
    d->zt = tape_mem(t, d->chunk * d->n_teacher * sizeof(float));
    return d->ht && d->zt;
}

static var *run(distill *d, var *hidden, bool dense) {
    tape *t = d->t;
    bool records = tape_records(t);
    var *w = d->head->w, *b = d->head->b, *out = tape_var(t, 1, 1, hidden->wants || w->wants || (b && b->wants));
    if (!out || !prepare(d, records)) return NULL;
    distill_note *note = out->wants ? tape_note(t, distill_back, sizeof *note) : NULL;
    if (out->wants && records && !note) return NULL;
    tape_spot spot = tape_mark(t);
    if (!prepare_chunks(d, dense)) return NULL;
    for (d->first = 0; d->first < d->n_rows; d->first += d->chunk) {
        d->count = MIN(d->chunk, d->n_rows - d->first);
        run_chunk(d);
    }
    out->x[0] = (float)total(d);
    tape_release(t, spot);
    if (note) *note = (distill_note){out, hidden, w, b, d->at, d->n_rows, d->n, d->gh, d->gw, d->gb};
    return out;
}

var *ad_distill(tape *t, var *hidden, const ad_head *head, var *teacher, const ad_head *teacher_head, const ad_targets *rows,
                const distill_opts *o) {
    if (!hidden || !teacher || !head->w || !teacher_head->w) return NULL;
    distill d = {.t = t, .hidden = hidden, .teacher = teacher, .head = head, .teacher_head = teacher_head, .rows = rows, .o = o,
                 .n = head->w->rows, .n_teacher = teacher_head->w->rows};
    if (!o->map && o->kind != DISTILL_SORTED) d.n = d.n_teacher = MIN(d.n, d.n_teacher);
    return run(&d, hidden, o->weight > 0);
}

var *ad_distill_top(tape *t, var *hidden, const ad_head *head, const distill_top *top, const ad_targets *rows, const distill_opts *o) {
    if (!hidden || !head->w) return NULL;
    distill d = {.t = t, .hidden = hidden, .head = head, .top = top, .rows = rows, .o = o, .n = head->w->rows, .n_teacher = 0};
    return run(&d, hidden, false);
}
