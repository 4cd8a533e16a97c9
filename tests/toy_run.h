/* toy_run.h: a run of the trainer that takes milliseconds: a table of embeddings and a head learn a made-up language in which each token has
 * one likely follower. For tests of the loop, its checkpoints and its guards. */
#ifndef MOTE_TESTS_TOY_RUN_H
#define MOTE_TESTS_TOY_RUN_H

#include "train/trainer.h"

enum { TOY_VOCAB = 32, TOY_DIM = 16, TOY_LEN = 24, TOY_STEPS = 30, TOY_ROWS = 4 };

typedef struct toy_opts {
    int threads;
    size_t rows_per_part;     /* 0: all */
    uint64_t steps;           /* 0: TOY_STEPS */
    uint64_t bad_step;        /* its loss is NaN; 0: none */
    uint64_t stop_at;         /* the stop hook says so then; 0: never */
    const char *dir;
    const char *identity;     /* of the checkpoints' "recipe"; NULL: "toy" */
    const char *second_name;  /* of the head's parameter; NULL: "head" */
    bool muon, bits8, ema;
    train_guard guard;
    uint64_t save_every;
    int pause_us;             /* after each step */
    double max_seconds;       /* by a clock of the run's own, on which each step takes 5 ms */
    ranks *ranks;
} toy_opts;

typedef struct toy_result {
    uint64_t began, ended;    /* steps */
    uint64_t skipped;
    double losses[TOY_STEPS + 1]; /* by step, 1 is the first */
    float table[TOY_VOCAB * TOY_DIM], head[TOY_VOCAB * TOY_DIM], mean[TOY_VOCAB * TOY_DIM]; /* mean: the head's moving average */
    int32_t counter;          /* an additional section: updates made */
    char log[4096];
} toy_result;

/* Resumes when there is something to resume, and runs to the end. */
mote_status toy_run(toy_result *r, const toy_opts *o, mote_error *err);
/* Equal from the later of the two beginnings on: losses, weights, averages, additional section. */
bool toy_same(const toy_result *a, const toy_result *b);

#endif
