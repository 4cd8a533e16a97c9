/* op_distill_inside.c: hidden states, feature maps and relations between tokens, a student's against a teacher's. */
#include "train/op_distill.h"

#include "tensor/tensor.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- rows against rows ----
 *   mse      l_i = mean_c (x - y)²             dx = 2 (x - y) / cols
 *   cosine   l_i = 1 - x·y / (|x| |y|)         dx = (cos x / |x| - y / |y|) / |x|
 * The loss is Σ w_i l_i / Σ w_i. */
struct matching {
    var *out, *x, *y;
    const float *weights;
    bool cosine, fresh;
    double sum_weight;
    double *losses; /* [rows] */
    float *g;
};

static float row_weight(const struct matching *m, size_t i) {
    return m->weights ? MAX(m->weights[i], 0.0f) : 1;
}

static void cosine_of(const float *x, const float *y, size_t n, double *xx, double *yy, double *xy) {
    *xx = *yy = *xy = 0;
    for (size_t i = 0; i < n; i++) {
        *xx += (double)x[i] * (double)x[i];
        *yy += (double)y[i] * (double)y[i];
        *xy += (double)x[i] * (double)y[i];
    }
}

static void match_part(void *ctx, size_t from, size_t to, int ith) {
    struct matching *m = ctx;
    size_t n = m->x->cols;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *x = m->x->x + i * n, *y = m->y->x + i * n;
        double xx, yy, xy, sum = 0;
        if (m->cosine) {
            cosine_of(x, y, n, &xx, &yy, &xy);
            m->losses[i] = xx > 0 && yy > 0 ? 1 - xy / sqrt(xx * yy) : 1;
            continue;
        }
        for (size_t j = 0; j < n; j++) sum += ((double)x[j] - (double)y[j]) * ((double)x[j] - (double)y[j]);
        m->losses[i] = sum / (double)n;
    }
}

static void match_back_part(void *ctx, size_t from, size_t to, int ith) {
    struct matching *m = ctx;
    size_t n = m->x->cols;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *x = m->x->x + i * n, *y = m->y->x + i * n;
        float *g = m->g + i * n;
        double by = (double)m->out->g[0] * (double)row_weight(m, i) / m->sum_weight, along_x, along_y;
        if (m->cosine) {
            double xx, yy, xy;
            cosine_of(x, y, n, &xx, &yy, &xy);
            bool none = !(xx > 0 && yy > 0);
            along_x = none ? 0 : by * xy / sqrt(xx * yy) / xx;
            along_y = none ? 0 : -by / sqrt(xx * yy);
        } else {
            along_x = 2 * by / (double)n;
            along_y = -along_x;
        }
        for (size_t j = 0; j < n; j++) {
            float d = (float)(along_x * (double)x[j] + along_y * (double)y[j]);
            g[j] = m->fresh ? d : g[j] + d;
        }
    }
}

static void match_back(tape *t, void *ctx) {
    struct matching *m = ctx;
    if (!m->out->g || !(m->g = tape_grad(t, m->x, &m->fresh))) return;
    tape_for(t, m->x->rows, 1, match_back_part, m);
}

static var *match(tape *t, var *x, var *y, const float *weights, bool cosine) {
    if (!x || !y) return NULL;
    assert(x->rows == y->rows && x->cols == y->cols);
    var *out = tape_var(t, 1, 1, x->wants);
    struct matching m = {out, x, y, weights, cosine, false, 0, NULL, NULL};
    if (!out) return NULL;
    tape_spot spot = tape_mark(t);
    m.losses = tape_mem(t, MAX(x->rows, (size_t)1) * sizeof *m.losses);
    if (!m.losses) return NULL;
    tape_for(t, x->rows, 1, match_part, &m);
    double sum = 0;
    for (size_t i = 0; i < x->rows; i++) {
        m.sum_weight += (double)row_weight(&m, i);
        sum += (double)row_weight(&m, i) * m.losses[i];
    }
    m.sum_weight = m.sum_weight > 0 ? m.sum_weight : 1;
    out->x[0] = (float)(sum / m.sum_weight);
    tape_release(t, spot);
    struct matching *note = out->wants ? tape_note(t, match_back, sizeof *note) : NULL;
    if (note) *note = m;
    return out;
}

var *ad_match_mse(tape *t, var *x, var *y, const float *weights) {
    return match(t, x, y, weights, false);
}

var *ad_match_cosine(tape *t, var *x, var *y, const float *weights) {
    return match(t, x, y, weights, true);
}

/* ---- relations ----
 * s_ij = x_i · x_j / sqrt(d); q_i = softmax_j(s_i); the loss of a row is Σ_j p_ij log(p_ij / q_ij), and
 *   ds = (q - p) / (rows · n_rel),   dx_i = Σ_j (ds_ij + ds_ji) x_j / sqrt(d)
 * REL_ROWS rows of one part of one sequence at a time; the gradient by x is made at once and scaled going back. */
enum { REL_ROWS = 128 };

struct relation {
    var *out, *x;
    float *dx; /* [rows, cols] */
};

struct relating {
    tape *t;
    const kern_table *k;
    const float *x, *y;
    size_t len, ldx, ldy, dim_x, dim_y; /* one part of one sequence */
    size_t first, count;
    bool causal;
    float *q, *p;   /* [REL_ROWS, len] */
    double *losses; /* [REL_ROWS] */
    float by;       /* 1 / (rows · n_rel · sqrt(dim_x)), for ds */
};

static void softmax_of(const kern_table *k, float *s, float scale, size_t seen, size_t len, float *log_sum) {
    k->scale(s, s, scale, seen);
    float top = k->max(s, seen);
    *log_sum = top + logf(k->exp_sum(s, top, seen));
    memset(s + seen, 0, (len - seen) * sizeof *s);
}

static void relation_part(void *ctx, size_t from, size_t to, int ith) {
    struct relating *a = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        float *q = a->q + i * a->len, *p = a->p + i * a->len, lq, lp;
        size_t seen = a->causal ? a->first + i + 1 : a->len;
        double cross = 0;
        float sx = 1 / sqrtf((float)a->dim_x), sy = 1 / sqrtf((float)a->dim_y);
        /* Σ p (s_p - s_q): the scores themselves are needed after the exponentials have taken their place */
        softmax_of(a->k, p, sy, seen, a->len, &lp);
        for (size_t j = 0; j < seen; j++) cross -= (double)(p[j] * q[j]);
        cross *= (double)sx;
        softmax_of(a->k, q, sx, seen, a->len, &lq);
        double sum_p = 0, sum_q = 0, entropy = 0;
        for (size_t j = 0; j < seen; j++) {
            sum_p += (double)p[j];
            sum_q += (double)q[j];
            entropy += p[j] > 0 ? (double)p[j] * log((double)p[j]) : 0;
        }
        /* entries are exp(s - max): log of the probability is log(entry) - log(sum) */
        a->losses[i] = entropy / sum_p - log(sum_p) + cross / sum_p + (double)lq;
        float np = (float)(1 / sum_p), nq = (float)(1 / sum_q);
        for (size_t j = 0; j < seen; j++) q[j] = a->by * (q[j] * nq - p[j] * np);
    }
}

static void scores(struct relating *a, const float *x, size_t ld, size_t dim, float *s) {
    tape_gemm(a->t, &(gemm_args){.m = a->count, .n = a->len, .k = dim, .a = x + a->first * ld, .lda = ld, .b = x, .ldb = ld, .tb = true,
                                 .c = s, .ldc = a->len});
}

static void relation_back(tape *t, void *ctx) {
    struct relation *r = ctx;
    float *g = r->out->g ? tape_grad_zeroed(t, r->x) : NULL;
    if (g) tape_kern(t)->axpy(g, r->dx, r->out->g[0], r->x->rows * r->x->cols);
}

/* One part of one sequence: its losses' sum; dx (NULL: not wanted) points at its first column. */
static double relate(struct relating *a, float *dx) {
    double sum = 0;
    for (a->first = 0; a->first < a->len; a->first += REL_ROWS) {
        a->count = MIN((size_t)REL_ROWS, a->len - a->first);
        scores(a, a->x, a->ldx, a->dim_x, a->q);
        scores(a, a->y, a->ldy, a->dim_y, a->p);
        tape_for(a->t, a->count, 1, relation_part, a);
        for (size_t i = 0; i < a->count; i++) sum += a->losses[i];
        if (!dx) continue;
        tape_gemm(a->t, &(gemm_args){.m = a->count, .n = a->dim_x, .k = a->len, .a = a->q, .lda = a->len, .b = a->x, .ldb = a->ldx,
                                     .c = dx + a->first * a->ldx, .ldc = a->ldx, .add = true});
        tape_gemm(a->t, &(gemm_args){.m = a->len, .n = a->dim_x, .k = a->count, .a = a->q, .lda = a->len, .ta = true,
                                     .b = a->x + a->first * a->ldx, .ldb = a->ldx, .c = dx, .ldc = a->ldx, .add = true});
    }
    return sum;
}

var *ad_match_relation(tape *t, var *x, var *y, size_t n_rel, bool causal, const ad_seqs *s) {
    if (!x || !y) return NULL;
    assert(x->rows == y->rows && x->rows == s->n && n_rel > 0 && x->cols % n_rel == 0 && y->cols % n_rel == 0);
    var *out = tape_var(t, 1, 1, x->wants);
    if (!out) return NULL;
    float *dx = NULL;
    struct relation *note = NULL;
    if (out->wants && tape_records(t)) {
        dx = tape_mem(t, MAX(x->rows * x->cols, (size_t)1) * sizeof *dx);
        note = tape_note(t, relation_back, sizeof *note);
        if (!dx || !note) return NULL;
        memset(dx, 0, x->rows * x->cols * sizeof *dx);
        *note = (struct relation){out, x, dx};
    }
    size_t longest = 1;
    for (size_t i = 0; i < s->n_seq; i++) longest = MAX(longest, (size_t)(s->start[i + 1] - s->start[i]));
    tape_spot spot = tape_mark(t);
    struct relating a = {.t = t, .k = tape_kern(t), .ldx = x->cols, .ldy = y->cols, .dim_x = x->cols / n_rel, .dim_y = y->cols / n_rel,
                         .causal = causal};
    a.q = tape_mem(t, REL_ROWS * longest * sizeof(float));
    a.p = tape_mem(t, REL_ROWS * longest * sizeof(float));
    a.losses = tape_mem(t, REL_ROWS * sizeof(double));
    if (!a.q || !a.p || !a.losses) return NULL;
    double parts = (double)MAX(s->n, (size_t)1) * (double)n_rel, sum = 0;
    a.by = (float)(1 / (parts * sqrt((double)a.dim_x)));
    for (size_t i = 0; i < s->n_seq; i++) {
        for (size_t h = 0; h < n_rel; h++) {
            size_t at = s->start[i];
            a.x = x->x + at * x->cols + h * a.dim_x;
            a.y = y->x + at * y->cols + h * a.dim_y;
            a.len = s->start[i + 1] - at;
            sum += relate(&a, dx ? dx + at * x->cols + h * a.dim_x : NULL);
        }
    }
    out->x[0] = (float)(sum / parts);
    tape_release(t, spot);
    return out;
}
