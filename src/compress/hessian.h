/* hessian.h: the second moments of a layer's inputs, and what error feedback needs of them.
 *
 * H = mean of x xᵀ over the calibration tokens is (up to a factor) the Hessian of |W x - Q x|² for every row of W.
 * Source: Frantar et al. 2023 (GPTQ), §3; LeCun et al. 1990 (OBD). */
#ifndef MOTE_COMPRESS_HESSIAN_H
#define MOTE_COMPRESS_HESSIAN_H

#include "base/base.h"
#include "tensor/gemm.h"

/* What is known of the inputs of one matrix. */
typedef struct hessian {
    size_t cols, n_tokens;
    float *h;        /* [cols, cols] Σ x xᵀ until hessian_mean, then the mean; NULL: only the columns' sums are wanted */
    float *mean_abs; /* [cols] Σ |x|, then mean |x| */
    float *max_abs;  /* [cols] */
    float *mean_sq;  /* [cols] Σ x², then mean x² */
} hessian;

mote_status hessian_open(hessian **out, size_t cols, bool full, mote_error *err);
void hessian_close(hessian **h);
/* Adds n rows x[n, cols]. MOTE_E_RANGE when one of them is not finite. */
mote_status hessian_add(hessian *h, gemm *g, pool *p, const float *x, size_t n, mote_error *err);
/* Sums become means; none may be added after it. */
void hessian_mean(hessian *h);
/* As if every input column j had been divided by s[j]. */
void hessian_scale(hessian *h, const float *s);

/* u[n, n] upper triangular with uᵀ u = inverse of (h + damp · mean(diag h) · I), zeros below. Where the matrix is not positive
 * definite in f32, the damping is made ten times as large, up to four times; *damp is what was used. Columns that are
 * always 0 get a diagonal of 1. h is not changed. MOTE_E_RANGE: h is not finite or nothing helped.
 * Numeric: products in f32, diagonal blocks in double. */
mote_status hessian_factor(const float *h, size_t n, float *damp, float *u, gemm *g, pool *p, mote_error *err);

/* Σ over rows of d h dᵀ for d[rows, n]: the mean squared error of the outputs that an error d of the weights makes. */
mote_status hessian_error(const float *h, size_t n, const float *d, size_t rows, gemm *g, double *out, mote_error *err);

#endif
