/* trainer_int.h: the trainer's inside, shared by its files. */
#ifndef MOTE_TRAIN_TRAINER_INT_H
#define MOTE_TRAIN_TRAINER_INT_H

#include "train/trainer.h"

enum { TRAINER_EXTRA_MAX = 64 };
/* Names of a parameter's sections in a checkpoint, for printf with STR_ARG: its values and their running average. */
#define TRAINER_VALUES "w:%.*s"
#define TRAINER_AVERAGES "e:%.*s"

struct trainer {
    trainer_opts o;
    train_param *params;
    size_t n, n_values;
    train_source source;
    train_loss_fn *loss;
    void *loss_ctx;
    train_hooks hooks;
    tape *tape;
    optim *optim;
    float **rooms;     /* [n] gradients' memory that is ours, or NULL */
    float **averages;  /* [n] or NULL */
    double *has_grad;  /* [n] scratch */
    ckpt_dir *dir;     /* of rank 0 */
    char *dir_path;
    json_t *identity;
    ckpt_section *extra;
    size_t n_extra;
    /* what a checkpoint holds */
    uint64_t at, updates, tokens;
    uint64_t skipped, bad_in_row;
    double seconds_before; /* of the sittings before this one */
    /* of this process */
    uint64_t began_ns, began_at; /* when the run began, or went on, and at which step */
    bool cut_told;
    bool saved_any, unsaved;
    uint64_t saved_at;
    double seconds, step_seconds, step_tokens;
    size_t timed;
};

mote_status trainer_alloc(trainer *t, const train_param *params, mote_error *err);
void trainer_free(trainer *t);
/* What a checkpoint says beside its sections (new), and whether one is of this run. */
json_t *trainer_meta(trainer *t);
mote_status trainer_same_run(const trainer *t, const ckpt *c, mote_error *err);
/* Values and states of the last checkpoint; the source stays where it is. */
mote_status trainer_go_back(trainer *t, mote_error *err);

#endif
