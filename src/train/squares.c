/* squares.c: see squares.h. */
#include "train/squares.h"

#include <math.h>

mote_status squares_open(squares **out, size_t n, size_t n_y, mote_error *err) {
    squares *q = *out = MEM_NEW(squares);
    size_t of_x, of_y, piece;
    if (q && ckd_mul_size(&of_x, n, n) && ckd_mul_size(&of_y, n, n_y) && ckd_mul_size(&piece, n, MAX(n, n_y))) {
        q->n = n;
        q->n_y = n_y;
        q->xx = mem_calloc(of_x, sizeof *q->xx);
        q->yx = mem_calloc(of_y, sizeof *q->yx);
        q->piece = mem_calloc(piece, sizeof *q->piece);
        if (q->xx && q->yx && q->piece) return MOTE_OK;
    }
    squares_close(out);
    FAIL(err, MOTE_E_MEMORY, "out of memory for least squares of %zu by %zu numbers", n, n_y);
}

void squares_close(squares **pq) {
    squares *q = *pq;
    if (!q) return;
    *pq = NULL;
    mem_free(q->xx);
    mem_free(q->yx);
    mem_free(q->piece);
    mem_free(q);
}

/* sum[m, n] += aᵀ x */
static void add_product(squares *q, gemm *g, double *sum, const float *a, size_t m, const float *x, size_t rows) {
    gemm_run(g, GEMM_F32, &(gemm_args){.m = m, .n = q->n, .k = rows, .a = a, .b = x, .c = q->piece, .lda = m, .ldb = q->n, .ldc = q->n, .ta = true});
    for (size_t i = 0; i < m * q->n; i++) sum[i] += (double)q->piece[i];
}

void squares_add(squares *q, gemm *g, const float *x, const float *y, size_t rows) {
    if (rows == 0) return;
    add_product(q, g, q->xx, x, q->n, x, rows);
    add_product(q, g, q->yx, y, q->n_y, x, rows);
}

/* xx becomes its lower Cholesky factor. */
static bool factor(double *a, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double *ai = a + i * n;
        for (size_t j = 0; j <= i; j++) {
            const double *aj = a + j * n;
            double v = ai[j];
            for (size_t k = 0; k < j; k++) v -= ai[k] * aj[k];
            if (i == j && !(v > 0 && v < (double)INFINITY)) return false;
            ai[j] = i == j ? sqrt(v) : v / aj[j];
        }
    }
    return true;
}

typedef struct solving {
    squares *q;
    float *w;
} solving;

/* l v = y, lᵀ w = v for a share of the rows of y. */
static void solve_rows(void *arg, int ith, int nth) {
    const solving *s = arg;
    const size_t n = s->q->n;
    const double *l = s->q->xx;
    size_t from, to;
    pool_share(s->q->n_y, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        double *y = s->q->yx + r * n;
        for (size_t i = 0; i < n; i++) {
            double v = y[i];
            for (size_t k = 0; k < i; k++) v -= l[i * n + k] * y[k];
            y[i] = v / l[i * n + i];
        }
        for (size_t i = n; i-- > 0;) {
            y[i] /= l[i * n + i];
            for (size_t k = 0; k < i; k++) y[k] -= y[i] * l[i * n + k];
        }
        for (size_t i = 0; i < n; i++) s->w[r * n + i] = (float)y[i];
    }
}

mote_status squares_solve(squares *q, pool *p, const double *damp, float *w, mote_error *err) {
    const size_t n = q->n;
    for (size_t i = 0; damp && i < n; i++) q->xx[i * n + i] += damp[i];
    if (!factor(q->xx, n)) FAIL(err, MOTE_E_OUTPUT, "least squares: the inputs are not finite numbers, or too few");
    pool_run(p, solve_rows, &(solving){q, w});
    memset(q->xx, 0, n * n * sizeof *q->xx);
    memset(q->yx, 0, n * q->n_y * sizeof *q->yx);
    return MOTE_OK;
}

/* ---- logistic regression ---- */
enum { NEWTON_MOST = 25, PIECE = 512 };
#define NEWTON_ENOUGH 1e-4f /* the greatest change of a row's log odds */
#define ODDS_MOST 30.0f
#define SPREAD_LEAST 1e-5f  /* of p (1 - p): a row that is settled says nothing */

/* One step: u from the weighted least squares at u. *change: of the log odds, by the step before. */
static void reweight(squares *q, gemm *g, const float *u, const float *x, const float *offset, const bool *yes, size_t rows, float *xs, float *ys, float *odds,
                     float *change) {
    const size_t n = q->n;
    for (size_t at = 0; at < rows; at += PIECE) {
        const size_t now = MIN(rows - at, (size_t)PIECE);
        for (size_t r = 0; r < now; r++) {
            const float *xr = x + (at + r) * n;
            double s = 0;
            for (size_t j = 0; j < n; j++) s += (double)u[j] * (double)xr[j];
            float t = fminf(fmaxf((float)s + offset[at + r], -ODDS_MOST), ODDS_MOST), p = 1 / (1 + expf(-t));
            float spread = sqrtf(fmaxf(p * (1 - p), SPREAD_LEAST));
            *change = fmaxf(*change, fabsf(t - odds[at + r]));
            odds[at + r] = t;
            for (size_t j = 0; j < n; j++) xs[r * n + j] = spread * xr[j];
            ys[r] = spread * (float)s + ((yes[at + r] ? 1.0f : 0.0f) - p) / spread;
        }
        squares_add(q, g, xs, ys, now);
    }
}

mote_status logistic_fit(float *u, const float *x, const float *offset, const bool *yes, size_t rows, size_t n, const double *damp, gemm *g, pool *p,
                         mote_error *err) {
    squares *q = NULL;
    float *xs = mem_calloc(PIECE * n, sizeof *xs), *ys = mem_calloc(PIECE, sizeof *ys), *odds = mem_calloc(rows + 1, sizeof *odds);
    mote_status s = xs && ys && odds ? squares_open(&q, n, 1, err) : ERR(err, MOTE_E_MEMORY, "out of memory for a logistic regression");
    memset(u, 0, n * sizeof *u);
    for (size_t i = 0; s == MOTE_OK && i < NEWTON_MOST; i++) {
        float change = 0;
        reweight(q, g, u, x, offset, yes, rows, xs, ys, odds, &change);
        if (i && change < NEWTON_ENOUGH) break;
        s = squares_solve(q, p, damp, u, err);
    }
    squares_close(&q);
    mem_free(xs);
    mem_free(ys);
    mem_free(odds);
    return s;
}
