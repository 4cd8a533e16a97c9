/* gptq.h: rounding and pruning one matrix with error feedback.
 *
 * Columns are decided one after the other; what the decision errs is taken up by the columns still open, as
 * the inverse Hessian says. Sources: Frantar et al. 2023, "GPTQ", algorithm 1; Frantar and Alistarh 2023, "SparseGPT",
 * algorithm 1 (which prunes in the same pass, alone or with the rounding). */
#ifndef MOTE_COMPRESS_GPTQ_H
#define MOTE_COMPRESS_GPTQ_H

#include "compress/hessian.h"
#include "quant/quant.h"

/* Which weights become zero. All zero: none. */
typedef struct sparsity {
    double share;   /* of the weights, 0..1; or … */
    int keep, of;   /* … at most `keep` of each `of` neighbours stay (2:4) */
} sparsity;
static inline bool sparsity_any(const sparsity *s) { return s->share > 0 || s->of > 0; }

typedef struct gptq_opts {
    quant_type type;   /* a format with a grid (quant/grid.h), or F32: nothing is rounded */
    float damp;        /* added to the diagonal, as a share of its mean; 0: 0.01 */
    size_t block;      /* columns between updates of all others; 0: 128 */
    bool act_order;    /* columns of the largest activations first; scales then stay those of the untouched weights */
    bool keep_scales;  /* bytes hold scales already, and these stay */
    sparsity sparse;   /* a share: of each row, by Wanda's score before anything is decided. N:M, and a share with rounding, need columns
                          in their order: act_order is not heeded */
} gptq_opts;

/* w[rows, cols] becomes the values that were chosen; bytes (rows of the format, NULL for F32) decode to exactly these.
 * h: its h is not changed; damp_used may be NULL. A format without a grid, or sparsity on a grid without 0, is
 * MOTE_E_UNSUPPORTED. The result does not depend on the number of threads. */
mote_status gptq_solve(float *w, size_t rows, const hessian *h, const gptq_opts *o, void *bytes, float *damp_used, gemm *g,
                       pool *p, mote_error *err);

/* The same without feedback: nearest levels under scales fitted with mean_sq[cols] as importance (or NULL). */
mote_status gptq_nearest(float *w, size_t rows, size_t cols, quant_type type, const float *mean_sq, void *bytes, pool *p,
                         mote_error *err);

/* Nearest levels under the scales that bytes already hold, which stay. A format without a grid is MOTE_E_UNSUPPORTED. */
mote_status gptq_place(float *w, size_t rows, size_t cols, quant_type type, void *bytes, pool *p, mote_error *err);

/* Sets weights to zero by a score, without feedback: |w| when mean_sq is NULL (magnitude), else |w| √mean_sq[j] (Wanda: Sun
 * et al. 2024, eq. 1). The lowest share of each row (magnitude: of the whole matrix), or by N:M. */
mote_status sparse_by_score(float *w, size_t rows, size_t cols, const float *mean_sq, const sparsity *s, pool *p, mote_error *err);

#endif
