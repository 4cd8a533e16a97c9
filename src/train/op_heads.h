/* op_heads.h: several heads that learn what a model's own head says, in one visit of the vocabulary. */
#ifndef MOTE_TRAIN_OP_HEADS_H
#define MOTE_TRAIN_OP_HEADS_H

#include "train/ops.h"

/* What was measured on the way: means over the rows that count, weighted as they are. */
typedef struct heads_seen {
    double divergence; /* KL from the model's distribution */
    double ce;         /* of the text's own token */
    double agree;      /* share of rows where the head's likeliest token is the model's likeliest */
    double weight;     /* Σ weights of the rows that counted */
} heads_seen;

/* A head's rows z[n, cols] for the output matrix. Row i is compared with what the model says in row i + ahead of the same sequence. */
typedef struct heads_rows {
    var *z;
    size_t ahead;
    float by;         /* factor of its loss */
    float text;       /* share of the text's own token in what it learns, 0 to 1 */
    heads_seen *seen; /* or NULL */
} heads_rows;

/* loss = Σ_k by_k Σ_j w_j ((1 - text_k) KL(p_j ‖ q^k_{j - ahead_k}) + text_k · cross-entropy of q^k by target_j) / sum_weight
 * p: softmax of head times own (the model's final rows, [n, cols], constant); q^k: of head times z_k. rows j with target < 0 or weight 0 do not
 * count, nor do those whose row j - ahead lies before their sequence. Gradients go to the z alone; the head is constant. Logits of some
 * rows are made at a time, the model's once for all heads.
 * few > 0: the sums run over part of the vocabulary, `few` tokens that are drawn beside those that matter (op_heads.c); *seen is of that part.
 * Source: Hinton et al. 2015 (KL); Cai et al. 2024 (Medusa), eq. 1 (weights 0.8^k are the caller's). */
var *ad_heads(tape *t, var *own, const ad_head *head, const heads_rows *heads, size_t n_heads, const ad_seqs *s, const ad_targets *rows, size_t few);

#endif
