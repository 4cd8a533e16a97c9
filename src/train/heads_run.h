/* heads_run.h: the inside of mote_train_heads. heads_run.c opens, runs and writes; heads_net.c is the heads themselves.
 *
 * The base is frozen: one pass over it gives the streams that all heads look at, and nothing flows back into it. */
#ifndef MOTE_TRAIN_HEADS_RUN_H
#define MOTE_TRAIN_HEADS_RUN_H

#include "format/heads_write.h"
#include "mote/train_heads.h"
#include "train/op_heads.h"
#include "train/trainer.h"

/* One head that learns; see format/heads.h for what it computes. */
typedef struct one_head {
    size_t layer, offset;
    float text;               /* share of the text's own token in what it learns */
    var norm, w, b;           /* b: x NULL when there is none */
    char names[3][40];
} one_head;

typedef struct head_set {
    net *n;                   /* the base */
    one_head heads[HEADS_MAX];
    size_t n_heads;
    float *values;
    heads_seen seen[HEADS_MAX]; /* of the last loss */
} head_set;

/* "10,20", "auto" (a third and two thirds of n_layer) or "" into layers, ascending; E_USAGE, E_RANGE name what is wrong. */
mote_status head_set_exits(size_t *layers, size_t *n, const char *text, size_t n_layer, mote_error *err);
/* Heads behind `layers`, then `medusa` ones that look 1, 2, … further. They begin as the base's own head. */
mote_status head_set_open(head_set *h, net *base, const size_t *layers, size_t n_layers, size_t medusa, float text, bool bias, mote_error *err);
void head_set_close(head_set *h);
size_t head_set_params(head_set *h, train_param *dst, size_t cap);
/* The loss of all heads on a batch; h->seen says the rest. learn false: measured alone. NULL: out of memory. */
var *head_set_loss(head_set *h, tape *t, const data_batch *b, double sum_weight, bool learn);
mote_status head_set_write(const head_set *h, const char *path, quant_type type, const heads_seen *held, mote_error *err);

mote_status heads_run(const mote_train_heads_opts *o, mote_train_heads_report *r, mote_error *err);

#endif
