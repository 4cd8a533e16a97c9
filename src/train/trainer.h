/* trainer.h: the loop of training, for whoever has parameters, a loss and data: `mote train`, fine-tuning, distillation,
 * quantization-aware training, exit heads.
 *
 * A step: the source draws rows; each part of them goes through loss (forward) and tape_back; gradients add up over parts and
 * processes, the loss being divided by the whole step's weight, so that any division into parts gives the big batch's
 * gradient; the guard looks for NaN and infinity; clip; update; average (EMA). The same seed gives the same bits for any number
 * of threads, and a run that was killed goes on from its last checkpoint to the bits it would have had. */
#ifndef MOTE_TRAIN_TRAINER_H
#define MOTE_TRAIN_TRAINER_H

#include "train/data.h"
#include "train/net.h"
#include "train/optim.h"
#include "train/ranks.h"
#include "train/schedule.h"

/* ---- what the caller brings ---- */

/* Builds the loss of one part on the tape and returns it, 1 × 1: Σ weight · loss / sum_weight, sum_weight being the whole step's
 * (ad_targets.sum_weight takes it). NULL: out of memory (the tape says so), or an error that was put into *err with a status.
 * The trainer resets the tape before and goes back after. */
typedef var *train_loss_fn(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err);

/* Rows without end: a pure function of its options and its cursor. */
typedef struct train_step_rows {
    size_t n_parts;    /* of this process */
    double sum_weight; /* of all processes */
    size_t n_tokens;   /* of all processes */
} train_step_rows;
typedef struct train_source {
    void *ctx;
    /* Draws the next step. progress: share of the run that is done. */
    mote_status (*step)(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err);
    /* Part i of it, valid until the next call. */
    mote_status (*part)(void *ctx, size_t i, data_batch *out, mote_error *err);
    /* Where it stands between two steps (new reference), and back. NULL: has no cursor. */
    json_t *(*cursor)(void *ctx);
    mote_status (*seek)(void *ctx, const json_t *cursor, mote_error *err);
} train_source;

/* A data set as a source: rows_per_step rows a step, rows_per_part at once through the net. *of lives as long as the source. */
typedef struct train_data {
    data *d;
    size_t rows_per_step, rows_per_part;
    size_t n_rows; /* of this process in the current step */
} train_data;
train_source trainer_data_source(train_data *of);

/* What happens when a loss or a gradient is not a number. */
typedef enum train_guard {
    GUARD_STOP, /* an error that names step and tensor; weights are those before the step */
    GUARD_SKIP, /* the step's rows are left out, with a message */
    GUARD_BACK  /* weights and states go back to the last checkpoint, the data go on behind the bad rows; without a checkpoint: as SKIP */
} train_guard;

/* One line of progress. */
typedef struct train_progress {
    uint64_t step, steps;     /* done; of the run */
    double loss;              /* of this step */
    double grad_norm, rate;   /* before clipping; the learning rate */
    double eval_loss;         /* NaN: not evaluated at this step */
    uint64_t tokens;          /* of the run so far */
    double tokens_per_s;      /* over the last steps */
    double seconds, seconds_left; /* in this process */
    size_t skipped;           /* steps that the guard left out, so far */
    size_t peak_bytes;        /* of the tape */
} train_progress;

/* All callbacks may be NULL. An error from one ends the run. */
typedef struct train_hooks {
    void *ctx;
    /* After each step. */
    mote_status (*progress)(void *ctx, const train_progress *p, mote_error *err);
    /* After tape_back of part i: v->g holds the gradients so far (per-sample clipping works here, with one row a part). */
    mote_status (*part_done)(void *ctx, size_t i, mote_error *err);
    /* When all gradients of the step are there and summed over processes, before the guard and clipping (noise). */
    mote_status (*grads_done)(void *ctx, mote_error *err);
    /* After the update: projections, EMA of one's own, curricula. */
    mote_status (*updated)(void *ctx, uint64_t step, mote_error *err);
    /* Every eval_every steps and at the end: a loss on held-out rows. The tape is free. */
    mote_status (*eval)(void *ctx, tape *t, double *loss, mote_error *err);
    /* Where a checkpoint is made, with a folder or without: for states of one's own. */
    mote_status (*save)(void *ctx, mote_error *err);
    /* Polled after each step: true ends the run after a checkpoint with E_CANCELLED (a signal, a time that is up). */
    bool (*stop)(void *ctx);
} train_hooks;

/* Zero means the default in brackets. */
typedef struct trainer_opts {
    pool *pool;
    const struct kern_table *kern;
    gemm_prec prec;
    size_t max_bytes;        /* of the tape; 0: none */
    ranks *ranks;            /* NULL: alone */
    const log_sink *log;     /* warnings */
    uint64_t steps;
    double max_seconds;      /* of all sittings together; 0: none. A run that would take longer gets fewer steps, and its decay earlier */
    uint64_t (*now)(void);   /* the clock of max_seconds, nanoseconds [clock_ns] */
    optim_opts optim;
    schedule schedule;       /* its steps are set from `steps` when 0 */
    double clip;             /* global norm; 0: none */
    double ema;              /* of the weights, 0.999 say; 0: none */
    train_guard guard;
    size_t bad_max;          /* more steps than this that the guard left out in a row end the run [8] */
    uint64_t eval_every;     /* 0: at the end only */
    const char *dir;         /* of checkpoints; NULL: none */
    uint64_t save_every;     /* steps [steps / 10]; one is always made at the end and when the run is stopped */
    size_t keep;             /* so many newest [2] */
    /* What must be the same when a run goes on, by name (an object of strings and numbers): a checkpoint in `dir` with other values is refused
     * by the name of the first that differs. May be NULL. Borrowed until trainer_open returns. */
    const json_t *identity;
} trainer_opts;

/* ---- the trainer ---- */
typedef struct trainer trainer;
/* params: copied (see optim.h). Gives parameters without room for their gradient (var.room) memory of its own.
 * Errors: E_USAGE, E_MEMORY, those of the checkpoint folder. */
mote_status trainer_open(trainer **out, const trainer_opts *o, const train_param *params, size_t n, const train_source *source,
                         train_loss_fn *loss, void *loss_ctx, const train_hooks *hooks, mote_error *err);
void trainer_close(trainer **t);
/* More memory that checkpoints hold (a privacy accountant, a controller's state); before trainer_resume. */
mote_status trainer_keep(trainer *t, const char *name, void *p, size_t n, mote_error *err);
/* Goes to the newest good checkpoint of the folder, if there is one. *step: where the run stands. */
mote_status trainer_resume(trainer *t, uint64_t *step, mote_error *err);
/* In place of that: begins with the weights of another run's newest checkpoint, in its folder; nothing else of it is taken over. Parameters of a number format
 * are the caller's to set (train_param.formatted; qat_take_scales); then trainer_begun. E_NOT_FOUND, E_BUSY: that run is still going; E_MISMATCH: other parameters. */
mote_status trainer_begin(trainer *t, const char *dir, mote_error *err);
void trainer_begun(trainer *t);
/* One step. */
mote_status trainer_step(trainer *t, train_progress *p, mote_error *err);
/* To the end, with checkpoints and hooks. E_IO at the end when some checkpoint could not be written (the run went on);
 * E_OUTPUT: the guard; E_CANCELLED: stopped. */
mote_status trainer_run(trainer *t, mote_error *err);
uint64_t trainer_at(const trainer *t);
/* A state in little, in place of a checkpoint, for weights that lie elsewhere (qat_state.h): where the run stands, its identity, the second moments
 * condensed, and what is given beside them. The file is a checkpoint (ckpt.h). */
mote_status trainer_save_small(trainer *t, const char *path, const ckpt_section *more, size_t n_more, mote_error *err);
/* To where that run stood. The values of the parameters must have been set. E_MISMATCH: of another run, by the name of what differs, or of other shapes. */
mote_status trainer_load_small(trainer *t, const ckpt *c, mote_error *err);
tape *trainer_tape(trainer *t);
mote_status trainer_save(trainer *t, mote_error *err);
/* Exchanges weights and their moving averages (ema > 0); twice: as before. For evaluating and writing the averages. */
void trainer_swap_ema(trainer *t);

/* All trained parameters of a net, with the usual choices: norms, biases and other vectors are not decayed (decay_all: they are); Muon takes
 * matrices but embeddings and the head. Returns how many there are; fills at most cap. */
size_t trainer_net_params(net *n, bool decay_all, train_param *dst, size_t cap);
/* The loss of a language model: mean cross-entropy of the next tokens. ctx: the net. */
var *trainer_next_token_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err);

#endif
