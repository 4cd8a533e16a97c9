/* hessian.c: second moments and the Cholesky factor of their inverse. */
#include "compress/hessian.h"

#include <math.h>

enum { NB = 64 }; /* of the blocked factorization */

mote_status hessian_open(hessian **out, size_t cols, bool full, mote_error *err) {
    size_t n = 0;
    hessian *h = *out = MEM_NEW(hessian);
    if (!h || !ckd_mul_size(&n, cols, cols) || !ckd_mul_size(&n, n, sizeof(float))) goto memory;
    h->cols = cols;
    h->mean_abs = MEM_NEW_N(float, cols);
    h->max_abs = MEM_NEW_N(float, cols);
    h->mean_sq = MEM_NEW_N(float, cols);
    if (full) h->h = mem_alloc_aligned(n);
    if (h->mean_abs && h->max_abs && h->mean_sq && (h->h || !full)) return MOTE_OK;
memory:
    hessian_close(out);
    FAIL(err, MOTE_E_MEMORY, "out of memory for the second moments of %zu columns", cols);
}

void hessian_close(hessian **h) {
    if (!*h) return;
    mem_free((*h)->mean_abs);
    mem_free((*h)->max_abs);
    mem_free((*h)->mean_sq);
    mem_free_aligned((*h)->h);
    mem_free(*h);
    *h = NULL;
}

typedef struct add_job {
    hessian *h;
    const float *x;
    size_t n;
    bool bad[POOL_THREADS_MAX];
} add_job;

static void add_columns(void *arg, int ith, int nth) {
    add_job *j = arg;
    hessian *h = j->h;
    size_t from, to;
    bool bad = false;
    pool_share(h->cols, 16, ith, nth, &from, &to);
    for (size_t i = 0; i < j->n; i++) {
        const float *x = j->x + i * h->cols;
        for (size_t c = from; c < to; c++) {
            float a = fabsf(x[c]);
            bad |= !(a <= 1e18f);
            h->mean_abs[c] += a;
            h->mean_sq[c] += a * a;
            h->max_abs[c] = a > h->max_abs[c] ? a : h->max_abs[c];
        }
    }
    j->bad[ith] = bad;
}

mote_status hessian_add(hessian *h, gemm *g, pool *p, const float *x, size_t n, mote_error *err) {
    add_job j = {.h = h, .x = x, .n = n};
    pool_run(p, add_columns, &j);
    for (int i = 0; i < pool_size(p); i++) {
        if (j.bad[i]) FAIL(err, MOTE_E_RANGE, "an activation is not a finite number");
    }
    h->n_tokens += n;
    if (!h->h) return MOTE_OK;
    gemm_run(g, GEMM_F32, &(gemm_args){.m = h->cols, .n = h->cols, .k = n, .a = x, .b = x, .c = h->h, .lda = h->cols,
                                       .ldb = h->cols, .ldc = h->cols, .ta = true, .add = true});
    return MOTE_OK;
}

void hessian_mean(hessian *h) {
    float by = h->n_tokens ? 1 / (float)h->n_tokens : 0;
    for (size_t i = 0; i < h->cols; i++) {
        h->mean_abs[i] *= by;
        h->mean_sq[i] *= by;
    }
    for (size_t i = 0; h->h && i < h->cols * h->cols; i++) h->h[i] *= by;
}

void hessian_scale(hessian *h, const float *s) {
    for (size_t i = 0; i < h->cols; i++) {
        float by = 1 / s[i];
        h->mean_abs[i] *= by;
        h->max_abs[i] *= by;
        h->mean_sq[i] *= by * by;
        for (size_t k = 0; h->h && k < h->cols; k++) {
            h->h[i * h->cols + k] *= by;
            h->h[k * h->cols + i] *= by;
        }
    }
}

/* Lower Cholesky factor in place of the m × m block at a (leading dimension ld). */
static bool factor_block(float *a, size_t ld, size_t m) {
    double l[NB][NB];
    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k <= i; k++) {
            double v = (double)a[i * ld + k];
            for (size_t j = 0; j < k; j++) v -= l[i][j] * l[k][j];
            if (k == i && !(v > 0 && v < 1e30)) return false;
            l[i][k] = k == i ? sqrt(v) : v / l[k][k];
        }
    }
    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k < m; k++) a[i * ld + k] = k <= i ? (float)l[i][k] : 0;
    }
    return true;
}

typedef struct panel_job {
    float *a, *minus;
    size_t n, at, m; /* block [at, at + m) */
} panel_job;

/* Rows below a diagonal block: l = a · (block's factor)⁻ᵀ, and its negative for the product. */
static void solve_panel(void *arg, int ith, int nth) {
    const panel_job *j = arg;
    size_t below = j->at + j->m, from, to;
    pool_share(j->n - below, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *row = j->a + (below + r) * j->n + j->at;
        for (size_t k = 0; k < j->m; k++) {
            const float *lk = j->a + (j->at + k) * j->n + j->at;
            double v = (double)row[k];
            for (size_t i = 0; i < k; i++) v -= (double)row[i] * (double)lk[i];
            row[k] = (float)(v / (double)lk[k]);
            j->minus[r * NB + k] = -row[k];
        }
    }
}

/* a[n, n] becomes its lower Cholesky factor (what is above the diagonal blocks is left as it is). */
static bool factor(float *a, size_t n, float *minus, gemm *g, pool *p) {
    for (size_t at = 0; at < n; at += NB) {
        size_t m = MIN(n - at, (size_t)NB), below = at + m;
        if (!factor_block(a + at * n + at, n, m)) return false;
        if (below == n) break;
        panel_job j = {a, minus, n, at, m};
        pool_run(p, solve_panel, &j);
        gemm_run(g, GEMM_F32, &(gemm_args){.m = n - below, .n = n - below, .k = m, .a = minus, .b = a + below * n + at,
                                           .c = a + below * n + below, .lda = NB, .ldb = n, .ldc = n, .tb = true, .add = true});
    }
    return true;
}

/* x[n, n] = the inverse of the lower triangular l; t: [NB, n] for products. */
static void invert(const float *l, size_t n, float *x, float *t, gemm *g) {
    memset(x, 0, n * n * sizeof *x);
    for (size_t at = 0; at < n; at += NB) {
        size_t m = MIN(n - at, (size_t)NB);
        double inv[NB][NB] = {{0}};
        for (size_t i = 0; i < m; i++) {
            const float *row = l + (at + i) * n + at;
            for (size_t k = 0; k <= i; k++) {
                double v = i == k;
                for (size_t j = k; j < i; j++) v -= (double)row[j] * inv[j][k];
                inv[i][k] = v / (double)row[i];
            }
        }
        if (at) {
            gemm_run(g, GEMM_F32, &(gemm_args){.m = m, .n = at, .k = at, .a = l + at * n, .b = x, .c = t, .lda = n, .ldb = n, .ldc = n});
        }
        for (size_t i = 0; i < m; i++) {
            float *out = x + (at + i) * n;
            for (size_t k = 0; k <= i; k++) {
                float f = (float)inv[i][k];
                out[at + k] = f;
                for (size_t c = 0; c < at; c++) out[c] -= f * t[k * n + c];
            }
        }
    }
}

mote_status hessian_factor(const float *h, size_t n, float *damp, float *u, gemm *g, pool *p, mote_error *err) {
    double trace = 0;
    for (size_t i = 0; i < n; i++) trace += (double)h[i * n + i];
    if (!(trace >= 0 && trace < 1e30)) FAIL(err, MOTE_E_RANGE, "the activations' second moments are not finite");
    float *a = mem_alloc_aligned(n * n * sizeof(float)), *t = mem_alloc_aligned((n + NB) * NB * sizeof(float));
    mote_status s = MOTE_OK;
    if (!a || !t) FAILG(s, err, MOTE_E_MEMORY, "out of memory for the factor of %zu columns", n);
    bool done = false;
    for (int attempt = 0; attempt < 5 && !done; attempt++, *damp *= done ? 1 : 10) {
        float add = (float)(trace > 0 ? (double)*damp * trace / (double)n : 1);
        for (size_t i = 0; i < n; i++) {
            /* from the last column to the first: the factor of the reversed matrix is what is wanted, reversed */
            const float *from = h + (n - 1 - i) * n;
            for (size_t k = 0; k < n; k++) a[i * n + k] = from[n - 1 - k];
            a[i * n + i] = from[n - 1 - i] > 0 ? from[n - 1 - i] + add : 1;
        }
        done = factor(a, n, t, g, p);
        if (done) break;
    }
    if (!done) FAILG(s, err, MOTE_E_RANGE, "the activations' second moments are not positive definite; use more calibration text or more damping");
    invert(a, n, u, t, g);
    for (size_t i = 0; i < n * n / 2; i++) { /* and back */
        float v = u[i];
        u[i] = u[n * n - 1 - i];
        u[n * n - 1 - i] = v;
    }
out:
    mem_free_aligned(a);
    mem_free_aligned(t);
    return s;
}

mote_status hessian_error(const float *h, size_t n, const float *d, size_t rows, gemm *g, double *out, mote_error *err) {
    float *t = mem_alloc_aligned(MAX(rows * n, (size_t)1) * sizeof(float));
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu rows", rows);
    gemm_run(g, GEMM_F32, &(gemm_args){.m = rows, .n = n, .k = n, .a = d, .b = h, .c = t, .lda = n, .ldb = n, .ldc = n});
    double sum = 0;
    for (size_t r = 0; r < rows; r++) {
        float part = 0;
        for (size_t i = 0; i < n; i++) part += d[r * n + i] * t[r * n + i];
        sum += (double)part;
    }
    *out = sum;
    mem_free_aligned(t);
    return MOTE_OK;
}
