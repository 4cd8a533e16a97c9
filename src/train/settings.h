/* settings.h: mote_train_settings into what the trainer takes: checked, with defaults, from recipes too. */
#ifndef MOTE_TRAIN_SETTINGS_H
#define MOTE_TRAIN_SETTINGS_H

#include "mote/train.h"
#include "train/trainer.h"

/* A field that a recipe may give. Rows of a table end with an empty one. */
typedef enum setting_kind { SETTING_STR, SETTING_NUM, SETTING_COUNT /* size_t or uint64_t */, SETTING_INT, SETTING_BOOL } setting_kind;
typedef struct setting {
    const char *name;
    setting_kind kind;
    size_t field;
} setting;
extern const setting train_settings_table[]; /* of mote_train_settings: lr, steps, … and the names others use for them (learning_rate) */

/* Puts the members of `obj` into fields that are zero. Strings are borrowed from obj. E_FORMAT: an unknown key (by name, with the one
 * that is closest), a value of another kind, a negative count. */
mote_status settings_read(void *fields, const setting *table, const json_t *obj, const char *what, mote_error *err);

/* What belongs to the process: threads, kernels, the other processes. */
typedef struct train_machine {
    pool *pool;
    const struct kern_table *kern;
    ranks *ranks;
    gemm_prec prec;
    uint32_t cpu_mask;
    double peak_flop_s; /* of all threads in that precision, measured when it was asked for; else 0 */
} train_machine;
mote_status train_machine_open(train_machine *m, const mote_train_settings *s, bool measure, mote_error *err);
void train_machine_close(train_machine *m);

/* Options for trainer_open, but for identity, dir and log. lr, weight_decay: the command's defaults. steps must be known.
 * E_USAGE: a word or number that is not one of those that it may be. */
mote_status settings_trainer(trainer_opts *out, const mote_train_settings *s, const train_machine *m, uint64_t steps, double lr, double weight_decay,
                             mote_error *err);
/* The settings that a run must keep to go on with the same bits, as identity for trainer_opts. New reference; NULL: out of memory. */
json_t *settings_identity(const trainer_opts *o, const mote_train_settings *s);

/* Rows per step, rows at once, and steps, for a data set of about n_tokens tokens. */
typedef struct train_amount {
    size_t n_ctx, batch, micro_batch;
    uint64_t steps;
} train_amount;
mote_status settings_amount(train_amount *out, const mote_train_settings *s, size_t model_ctx, double n_tokens, mote_error *err);

/* The progress that users see. flops_per_token: forward and backward. */
mote_train_progress settings_progress(const train_progress *p, const train_machine *m, double flops_per_token);
/* 6 per weight of a matrix and token, and attention's 12 · layers · width · context / 2. */
double settings_flops(const net *n, size_t n_ctx);

#endif
