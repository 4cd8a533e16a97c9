/* tune.h: adapters merged into a model that is being calibrated, and what rounding leaves of them. */
#ifndef MOTE_COMPRESS_TUNE_H
#define MOTE_COMPRESS_TUNE_H

#include "compress/calib.h"
#include "format/adapter.h"
#include "mote/calibrate.h"

typedef struct tune {
    adapter **ad;
    size_t n;            /* 0: none, and nothing is changed */
    double dd, dr, ee;   /* Σ |D x|², Σ <D x, R x>, Σ |(R - D) x|² over matrices and tokens */
    mote_tune_report said;
} tune;

/* Opens the adapters and merges them into net's values, one after the other. E_UNSUPPORTED: the graph has no such matrix. */
mote_status tune_open(tune *t, const mote_adapter *adapters, size_t n, net *into, mote_error *err);
void tune_close(tune *t);
/* Whether one of them changes this tensor. */
bool tune_has(const tune *t, str tensor);
/* *out: mean |(a - b) x|² over the tokens that h has seen, for a, b[rows, h->cols]. */
mote_status tune_distance(const hessian *h, const float *a, const float *b, size_t rows, gemm *g, double *out, mote_error *err);
/* Adds matrix u->mat, whose values were `wanted` (all matrices of the tensor) and are now u->w's, to the sums. A tensor that no adapter changes counts
 * for nothing. */
mote_status tune_measure(tune *t, const calib_use *u, const float *wanted, gemm *g, mote_error *err);
void tune_say(const tune *t, mote_tune_report *out);

#endif
