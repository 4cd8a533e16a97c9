/* squares.h: least squares over rows that come in pieces, and logistic regression by them. */
#ifndef MOTE_TRAIN_SQUARES_H
#define MOTE_TRAIN_SQUARES_H

#include "tensor/gemm.h"

/* Σ x xᵀ and Σ y xᵀ in double: pieces are multiplied in float. */
typedef struct squares {
    size_t n, n_y;
    double *xx, *yx; /* [n, n], [n_y, n] */
    float *piece;    /* [max(n, n_y), n] */
} squares;
mote_status squares_open(squares **out, size_t n, size_t n_y, mote_error *err);
void squares_close(squares **q); /* NULL-safe */
/* Rows x[rows, n] and y[rows, n_y]. */
void squares_add(squares *q, gemm *g, const float *x, const float *y, size_t rows);
/* w[n_y, n]: least Σ (y - w x)² + Σ_i damp_i w_i². damp: [n], or NULL: none. The sums are spent: a new one begins. E_OUTPUT: they are not those of
 * finite numbers, or x xᵀ is singular. Source: Cholesky's method. */
mote_status squares_solve(squares *q, pool *p, const double *damp, float *w, mote_error *err);

/* u[n] for P(yes_i) = sigmoid(offset_i + u · x_i): greatest likelihood with a Gaussian prior, least Σ damp_j u_j² / 2, by Newton's method.
 * x: [rows, n]. Source: Bishop 2006, §4.3.3 (iteratively reweighted least squares). */
mote_status logistic_fit(float *u, const float *x, const float *offset, const bool *yes, size_t rows, size_t n, const double *damp, gemm *g, pool *p,
                         mote_error *err);

#endif
