/* heads_run.h: the inside of mote_train_heads. heads_run.c opens, runs and writes; heads_net.c is the heads themselves.
 *
 * The base is frozen: one pass over it gives the streams that all heads look at, and nothing flows back into it. Heads are fitted in closed
 * form (heads_fit.c), and then trained by gradients for as many steps as are wanted. */
#ifndef MOTE_TRAIN_HEADS_RUN_H
#define MOTE_TRAIN_HEADS_RUN_H

#include "format/heads_write.h"
#include "mote/train_heads.h"
#include "train/heads_engine.h"
#include "train/op_heads.h"
#include "train/settings.h"

enum { HEAD_VARS = 4 };
/* One head that learns; see format/heads.h for what it computes. */
typedef struct one_head {
    size_t layer, offset;
    float text;               /* share of the text's own token in what it learns */
    var norm, w, v, b;        /* rows 0: it has none such */
    float *gate;              /* [n_embd + 2] of an exit: how sure it may be (format/heads.h) */
    bool gated;               /* it has been fitted */
    char names[HEAD_VARS][40];
} one_head;

typedef struct head_set {
    net *n;                   /* the base */
    one_head heads[HEADS_MAX];
    size_t n_heads;
    heads_engine *engine;     /* of the base, for passes as long as its rows; owned */
    size_t few;               /* tokens of the vocabulary that a loss draws (op_heads.h); 0: all are looked at */
    int32_t *likely;          /* [n_likely] tokens that guesses are among, ascending; owned */
    size_t n_likely;
    float *values;
    heads_seen seen[HEADS_MAX]; /* of the last loss */
} head_set;

/* "10,20", "auto" (five sixths and nine tenths of n_layer) or "" into layers, ascending; E_USAGE, E_RANGE name what is wrong. */
mote_status head_set_exits(size_t *layers, size_t *n, const char *text, size_t n_layer, mote_error *err);
/* Heads behind `layers`, then `medusa` ones that look 1, 2, … further. They begin as the base's own head. */
mote_status head_set_open(head_set *h, net *base, const size_t *layers, size_t n_layers, size_t medusa, float text, mote_error *err);
void head_set_close(head_set *h);
size_t head_set_params(head_set *h, train_param *dst, size_t cap);
/* From here on there are streams to learn from: of the base in `path`, for batches of at most n_rows rows of n_ctx tokens. */
mote_status head_set_engine(head_set *h, const char *path, const train_machine *mc, size_t n_ctx, size_t n_rows, mote_error *err);
/* The loss of all heads on a batch; h->seen says the rest. learn false: measured alone, over all of the vocabulary. */
mote_status head_set_loss(var **out, head_set *h, tape *t, const data_batch *b, double sum_weight, bool learn, mote_error *err);
mote_status head_set_write(const head_set *h, const char *path, quant_type type, const heads_seen *held, mote_error *err);

/* ---- heads_fit.c: on streams that the engine makes, at the speed of reading ---- */
typedef struct heads_fit_opts {
    const train_source *rows;    /* its cursor is put back */
    size_t n_tokens, n_seen;     /* to fit on; a gate is fitted on a quarter of as many others, behind the first n_seen */
    const train_machine *mc;
    bool (*stop)(void *ctx);     /* true: E_CANCELLED; or NULL */
    void *ctx;
    const log_sink *log;
} heads_fit_opts;
/* The n tokens that occur most often in what counts of n_tokens of the rows, for guesses; among equals, and where there are fewer, those of the
 * lowest numbers (tokenizers number by frequency). Source: Zhao et al. 2025 (FR-Spec). */
mote_status head_set_choose_likely(head_set *h, const heads_fit_opts *o, size_t n, mote_error *err);
/* W, V and b of every head, by least squares with a small ridge: an exit's z goes nearest to the row that the model's own output matrix multiplies, the
 * first Medusa head's to the one that it multiplies a token later; those behind it begin as the first, as though it had told that row
 * exactly. Sources: Belrose et al. 2023, §2 (affine translators; theirs are learned); Li et al. 2024, EAGLE, §3 (the next row by this one and the token). */
mote_status head_set_fit(head_set *h, const heads_fit_opts *o, mote_error *err);
/* The gates of the exits, and how large their z are to be for those that leave, on other tokens. The gate, by logistic regression: the chance that the exit's likeliest token is the model's, from z and from the
 * probability that the exit gives it. Source: Schuster et al. 2022 (CALM), §3.2 (a classifier on the state), and Platt 1999. */
mote_status head_set_gate(head_set *h, const heads_fit_opts *o, mote_error *err);

mote_status heads_run(const mote_train_heads_opts *o, mote_train_heads_report *r, mote_error *err);

#endif
