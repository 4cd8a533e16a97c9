/* finetune_run.h: the inside of mote_finetune. finetune.c opens, runs and writes; finetune_rows.c draws the rows of a step;
 * finetune_loss.c makes their losses, finetune_prefer.c those of preferences; finetune_judge.c looks at the model before and after. */
#ifndef MOTE_TRAIN_FINETUNE_RUN_H
#define MOTE_TRAIN_FINETUNE_RUN_H

#include "mote/finetune.h"
#include "train/lora.h"
#include "train/privacy.h"
#include "train/runlog.h"
#include "train/settings.h"

typedef enum finetune_method { FINETUNE_LORA, FINETUNE_RSLORA, FINETUNE_DORA, FINETUNE_QLORA, FINETUNE_FULL } finetune_method;
typedef enum finetune_rows { ROWS_LEARN, ROWS_REPLAY } finetune_rows;

typedef struct finetune {
    const mote_finetune_opts *o;
    finetune_method method;
    bool dpo, private;
    train_machine mc;
    log_sink log;
    model *m;
    net *n, *old;         /* old: the model as it was, where the net itself cannot be it (method full); or NULL */
    lora *l;
    adapter *from;
    tok_vocab *vocab;
    chat_template *tmpl;
    data *learn, *replay, *forget, *probe;
    train_amount amount;
    double n_tokens;      /* of an epoch, estimated */
    train_param *params;
    size_t n_params;
    /* the step being computed */
    size_t learn_rows, learn_parts, replay_rows, replay_step_rows;
    double learn_weight, replay_weight;
    finetune_rows now;
    /* preferences: log-probabilities of the reference for each item's two answers */
    double *reference;
    size_t n_preferred, n_pairs; /* of the pairs seen since it was last looked at */
    /* privacy */
    privacy *dp;
    privacy_spent spent;
    double rate, sigma, delta;   /* an example's chance */
    uint32_t *chosen;
    size_t n_chosen, cap_chosen;
    uint64_t draws;
    trainer *t;
    runlog *runlog;
    double flops;
} finetune;

mote_status finetune_run(const mote_finetune_opts *o, mote_finetune_result *r, mote_error *err);

/* finetune_rows.c */
mote_status finetune_open_data(finetune *f, mote_error *err);
train_source finetune_source(finetune *f);

/* finetune_loss.c */
train_loss_fn finetune_loss;

/* finetune_prefer.c: the loss of pairs; h: their hidden rows. */
var *finetune_prefer_loss(finetune *f, tape *t, const data_batch *b, var *h, mote_error *err);
/* The reference's log-probabilities of all pairs; the net must still be it. */
mote_status finetune_refer(finetune *f, tape *t, mote_error *err);
/* Share of the pairs whose chosen answer is the likelier one, per token (before), or has gained on the other (after). */
mote_status finetune_prefer(finetune *f, tape *t, bool gained, double *share, mote_error *err);

/* finetune_judge.c */
mote_status finetune_perplexity(finetune *f, tape *t, double *ppl, mote_error *err);
mote_status finetune_known(finetune *f, tape *t, size_t *known, size_t *n, mote_error *err);

#endif
