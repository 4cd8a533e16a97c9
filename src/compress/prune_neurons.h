/* prune_neurons.h: what the neurons of gated feed-forwards do on a text, and groups of those that work together. */
#ifndef MOTE_COMPRESS_PRUNE_NEURONS_H
#define MOTE_COMPRESS_PRUNE_NEURONS_H

#include "compress/pruning.h"

/* What was seen of a layer: a = act(gate), u = up, of `n` tokens. */
typedef struct neurons {
    const layer *l; /* NULL: left alone */
    float *a, *u;   /* [samples, n_ff] */
    size_t n;
    float *size;    /* [n_ff] ‖down_j‖ */
    float *give;    /* [n_ff, n] |a_j u_j| ‖down_j‖: what each gives to each token */
} neurons;

/* seen[n_layer] of the calibration text; those whose l is set are watched. stream[n_layer], or NULL: the mean square of the residual stream
 * behind each layer on the same tokens. All of it lives as long as the step. E_USAGE: a text that is too short. */
mote_status neurons_watch(prune *p, neurons *seen, double *stream, mote_error *err);

/* Groups of `size` of s's neurons `which[n]` (ascending; size divides n) that are needed together: `rounds` of balanced k-means over give, beginning with groups of
 * like size. attempt(ctx, order) sees one order after the other, group g being the `size` from size · g on: it keeps the best.
 * false: out of memory. Thread: any. */
typedef void neurons_try_fn(void *ctx, const uint32_t *order);
bool neurons_group(const struct kern_table *k, const neurons *s, const uint32_t *which, size_t n, size_t size, size_t rounds, neurons_try_fn *attempt,
                   void *ctx);

#endif
