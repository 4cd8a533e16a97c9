/* blockfit.h: rounding that is learned, one layer at a time, against what the float model's layer gives.
 *
 * Between the weights and the layer stands the quantizer itself, on exactly the grid that is packed; gradients pass through its
 * rounding as if it were not there (straight-through: Bengio et al. 2013), and into the scales as Esser et al. 2020 (LSQ, eqs. 3–5)
 * have it. Two ways to move:
 *   rounding  each weight may go to the level above or below, steps by the sign of the gradient (Cheng et al. 2024, SignRound /
 *             AutoRound, eqs. 3–5), scales within a fifth of where they began
 *   training  weights and scales are trained freely with Adam (Chen et al. 2024, EfficientQAT, Block-AP, §3.2) */
#ifndef MOTE_COMPRESS_BLOCKFIT_H
#define MOTE_COMPRESS_BLOCKFIT_H

#include "compress/calib.h"
#include "quant/grid.h"

typedef struct blockfit_opts {
    bool train;        /* weights are trained; else their rounding is learned */
    size_t steps;      /* 0: 100 */
    size_t batch;      /* sequences a step; 0: 1 */
    float lr;          /* rounding: the first step, as a share of the distance of two levels, 0: 1 / steps · 2; training: Adam's
                          relative to the mean |w|, 0: 0.003 */
    float lr_scale;    /* of scales, relative; 0: 0.0005 */
    uint64_t seed;
} blockfit_opts;

/* One matrix of the layer: its numbers before, and the bytes that hold scales to begin with (and the result at the end). */
typedef struct blockfit_part {
    const param *w;
    size_t mat;
    const quant_grid *grid;
    const float *start;   /* [rows, cols] weights */
    unsigned char *bytes;
} blockfit_part;

typedef struct blockfit_result {
    double before, after; /* mean squared error over that of the output, of all sequences */
    bool kept;            /* the learned rounding was better and is in `bytes`; else they are as they were */
} blockfit_result;

/* Fits the parts of layer c->at so that from c->x comes target[n_tokens, n_embd]. The parameters' values hold the result's.
 * MOTE_E_RANGE: the loss is not finite. The result does not depend on the number of threads. */
mote_status blockfit_run(calib *c, const float *target, blockfit_part *parts, size_t n, const blockfit_opts *o, blockfit_result *r,
                         mote_error *err);

#endif
