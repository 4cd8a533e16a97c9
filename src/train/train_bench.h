/* train_bench.h: steps of training, timed. */
#ifndef MOTE_TRAIN_TRAIN_BENCH_H
#define MOTE_TRAIN_TRAIN_BENCH_H

#include "model/model.h"
#include "train/tape.h"

typedef struct train_bench_opts {
    size_t n_seq, len; /* sequences of a step, tokens of each */
    size_t n_reps;
    gemm_prec prec;
    bool checkpoint;   /* keep only each layer's input */
    bool (*on_rep)(void *ctx, size_t done, size_t total); /* false cancels; may be NULL */
    void *ctx;
} train_bench_opts;

/* One step: to the loss, back to the gradients, AdamW's update. */
typedef struct train_bench_sample {
    uint64_t forward_ns, back_ns, update_ns;
    double loss;
} train_bench_sample;

typedef struct train_bench_result {
    size_t n_params, n_trained;
    size_t peak_bytes; /* of the tape */
    double ops;        /* multiplications and additions of a step's products that cannot be left out */
} train_bench_result;

/* samples[n_reps], after one step that is not timed: the same pseudo-random tokens every time. Nothing is written to the model.
 * Errors: as net_open and a training pass. */
mote_status train_bench(const model *m, pool *p, const struct kern_table *k, const train_bench_opts *o, train_bench_sample *samples,
                        train_bench_result *result, mote_error *err);

#endif
