/* gemm.h: products of float matrices for training and calibration.
 *
 * Both operands are packed into panels as they are read, so that any of them may be transposed, and multiplied by kern_gemm's
 * kernels, f32 or bf16 (operands rounded to nearest even, sums in f32).
 * What is computed for an element of c does not depend on the number of threads. */
#ifndef MOTE_TENSOR_GEMM_H
#define MOTE_TENSOR_GEMM_H

#include "base/base.h"

struct kern_table;
struct kern_gemm;

typedef enum gemm_prec { GEMM_F32, GEMM_BF16 /* f32 on rungs without its instructions */ } gemm_prec;

/* c[m, n] = op(a)[m, k] op(b)[k, n] (+ c when add). op(a) is a[m, k], or with ta the transpose of a[k, m]; op(b) is b[k, n], or
 * with tb the transpose of b[n, k]. ld: floats between rows as they are stored. c overlaps neither. Any m, n, k; k = 0 gives zeros. */
typedef struct gemm_args {
    size_t m, n, k;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
    bool ta, tb, add;
} gemm_args;

/* Buffers for packing, per thread; owned by the caller. */
typedef struct gemm gemm;
mote_status gemm_open(gemm **out, pool *p, const struct kern_table *k, mote_error *err);
void gemm_close(gemm **g);
/* Runs on all threads of the pool; not from inside pool_run. Thread: one at a time per gemm. Allocates nothing. */
void gemm_run(gemm *g, gemm_prec prec, const gemm_args *args);
/* The panels and tiles that such products are made of. */
const struct kern_gemm *gemm_panels(const gemm *g, gemm_prec prec);

#endif
