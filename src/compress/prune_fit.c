/* prune_fit.c: least squares for weights whose inputs are thinned, by Cholesky's method. */
#include "compress/pruning.h"

#include <math.h>

enum { PANEL = 64 };
#define DAMPING 0.2 /* of the mean of the diagonal: the text is a sample */

typedef struct fit {
    const struct kern_table *kern;
    size_t n, n_keep, rows, from; /* from: the panel's first column */
    const uint32_t *keep, *gone;
    const float *whole, *cross; /* cross[gone, keep]: of the Gram matrix */
    float *l, *w, *inverse;     /* l[n_keep, n_keep]; inverse of its diagonal */
    bool failed;
} fit;

/* Rows [from, to) of l, columns of the panel: l_ij = (g_ij - l_i · l_j) / l_jj. */
static void panel_rows(fit *f, size_t from, size_t to) {
    size_t n = f->n_keep, end = MIN(f->from + PANEL, n);
    for (size_t i = from; i < to; i++)
        for (size_t j = f->from; j < end && j <= i; j++) {
            float v = f->l[i * n + j] - f->kern->dot(f->l + i * n, f->l + j * n, j);
            if (i == j) {
                f->failed = f->failed || !(v > 0);
                f->l[i * n + i] = sqrtf(v > 0 ? v : 1);
                f->inverse[i] = 1 / f->l[i * n + i];
            } else f->l[i * n + j] = v * f->inverse[j];
        }
}

static void below_panel(void *arg, int ith, int nth) {
    fit *f = arg;
    size_t from, to, first = MIN(f->from + PANEL, f->n_keep);
    pool_share(f->n_keep - first, 1, ith, nth, &from, &to);
    panel_rows(f, first + from, first + to);
}

/* Each row of w: b = W_R G_RK, then l y = b, lᵀ x = y, w = W_K + x. */
static void solve_rows(void *arg, int ith, int nth) {
    fit *f = arg;
    size_t from, to, k = f->n_keep;
    pool_share(f->rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        const float *whole = f->whole + r * f->n;
        float *x = f->w + r * k;
        memset(x, 0, k * sizeof *x);
        for (size_t g = 0; g < f->n - k; g++) f->kern->axpy(x, f->cross + g * k, whole[f->gone[g]], k);
        for (size_t i = 0; i < k; i++) x[i] = (x[i] - f->kern->dot(f->l + i * k, x, i)) * f->inverse[i];
        for (size_t i = k; i-- > 0;) {
            x[i] *= f->inverse[i];
            f->kern->axpy(x, f->l + i * k, -x[i], i);
        }
        for (size_t i = 0; i < k; i++) x[i] += whole[f->keep[i]];
    }
}

static mote_status prepare(fit *f, const float *gram, uint32_t *gone, float *cross, mote_error *err) {
    size_t n = f->n, k = f->n_keep, g = 0;
    double mean = 0;
    for (size_t i = 0, j = 0; i < n; i++)
        if (j < k && f->keep[j] == i) j++;
        else gone[g++] = (uint32_t)i;
    for (size_t i = 0; i < k; i++) mean += (double)gram[f->keep[i] * n + f->keep[i]] / (double)k;
    if (!(mean > 0) || !isfinite(mean)) FAIL(err, MOTE_E_OUTPUT, "the inputs on the calibration text are not usable numbers");
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) f->l[i * k + j] = gram[f->keep[i] * n + f->keep[j]] + (i == j ? (float)(DAMPING * mean) : 0);
    for (size_t i = 0; i < n - k; i++)
        for (size_t j = 0; j < k; j++) cross[i * k + j] = gram[gone[i] * n + f->keep[j]];
    return MOTE_OK;
}

mote_status prune_least_squares(prune *p, const float *gram, size_t n, const uint32_t *keep, size_t n_keep, const float *whole,
                                size_t rows, float *w, mote_error *err) {
    mote_status s;
    uint32_t *gone = MEM_NEW_N(uint32_t, n - n_keep);
    float *cross = mem_alloc_aligned(((n - n_keep) * n_keep + 1) * sizeof *cross);
    fit f = {.kern = p->m->kern, .n = n, .n_keep = n_keep, .rows = rows, .keep = keep, .gone = gone, .cross = cross, .whole = whole, .w = w,
             .l = mem_alloc_aligned(n_keep * n_keep * sizeof(float)), .inverse = MEM_NEW_N(float, n_keep)};
    if (!gone || !cross || !f.l || !f.inverse) FAILG(s, err, MOTE_E_MEMORY, "out of memory for least squares over %zu columns", n);
    TRYG(s, prepare(&f, gram, gone, cross, err));
    for (f.from = 0; f.from < n_keep; f.from += PANEL) {
        panel_rows(&f, f.from, MIN(f.from + PANEL, n_keep));
        pool_run(p->pool, below_panel, &f);
    }
    if (f.failed) FAILG(s, err, MOTE_E_OUTPUT, "least squares failed: the inputs' matrix is not positive");
    pool_run(p->pool, solve_rows, &f);
out:
    mem_free(gone);
    mem_free_aligned(cross);
    mem_free_aligned(f.l);
    mem_free(f.inverse);
    return s;
}
