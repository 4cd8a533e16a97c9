/* op_distill.h: losses that bring a student near to a teacher.
 *
 * On the outcome (op_distill.c, op_distill_rows.c): the student's distribution over the next token against the teacher's. Both heads are
 * multiplied here, some rows at a time, so that rows × vocabulary never exists at once for either of them.
 * On the inside (op_distill_inside.c): hidden states, feature maps, and the relations between tokens that attention makes.
 * The teacher's side is constant: nothing flows back into it. */
#ifndef MOTE_TRAIN_OP_DISTILL_H
#define MOTE_TRAIN_OP_DISTILL_H

#include "train/ops.h"

/* p: the teacher's distribution, q: the student's.
 * FORWARD  KL(p ‖ q): the student covers all that the teacher does (Hinton et al. 2015).
 * REVERSE  KL(q ‖ p): it keeps to what the teacher finds likely (Gu et al. 2024, MiniLLM).
 * JSD      β KL(p ‖ m) + (1 - β) KL(q ‖ m), m = β p + (1 - β) q (Agarwal et al. 2024, GKD, eq. 2).
 * SORTED   Σ |p_(i) - q_(i)| over both sorted downwards, whatever the tokens are: for vocabularies that have nothing to do with each other
 *          (Boizard et al. 2024, ULD, eq. 7). The DISTILL_SORTED_TOP greatest of each count one by one.
 * HYBRID   Σ_M p log (p / q) + P log (P / Q) + Σ |p_(i) - q_(i)|: tokens that both vocabularies have (M) one by one, all others together (P, Q:
 *          their sums), and these sorted as above: the losses that TRL's GOLD compares matched and unmatched tokens by, with the term
 *          that makes the first a divergence. Needs `map`. */
typedef enum distill_kind { DISTILL_FORWARD, DISTILL_REVERSE, DISTILL_JSD, DISTILL_SORTED, DISTILL_HYBRID } distill_kind;
enum { DISTILL_SORTED_TOP = 256 };

/* What was measured on the way: means over the rows that count, weighted as they are. */
typedef struct distill_seen {
    double divergence, ce; /* without their factors; ce 0 when there are no targets */
    double agree;          /* share of rows where both think the same token the likeliest; dense teachers alone */
    size_t rows;           /* that counted */
} distill_seen;

/* loss = weight · T² · divergence(softmax(teacher / T), softmax(student / T)) + ce · cross-entropy of the targets. */
typedef struct distill_opts {
    distill_kind kind;
    float beta;         /* of JSD, in (0, 1) */
    float temperature;  /* 0 means 1 */
    float weight, ce;   /* factors; a part whose factor is 0 is not computed */
    /* [teacher's vocabulary] the student's token that each of the teacher's stands for, or -1: its probabilities are added up there, and what has
     * no counterpart is left out of the teacher's distribution, the row counting by what is left. NULL: the same tokens; where one
     * vocabulary is longer, what it has more is left out of both. HYBRID: the student's token with the same text, or -1. */
    const int32_t *map;
    distill_seen *seen; /* or NULL */
} distill_opts;

/* A teacher's most likely tokens, as they were kept: for row i the k entries of ids, logp from i · k on (natural logarithms), and what
 * remains for all other tokens together. An entry of probability 0 (logp -inf) does not count. */
typedef struct distill_top {
    size_t k;
    const uint32_t *ids; /* [n, k] distinct in a row, below the student's vocabulary */
    const float *logp;   /* [n, k] */
    const float *rest;   /* [n] probability */
} distill_top;

/* Rows that count are those of `rows` (see ad_targets: target < 0 or weight 0: not; target NULL: all, and no cross-entropy).
 * hidden[n, cols] with the student's head, teacher[n, cols'] with the teacher's. Gives [1, 1]. Gradients go to hidden, head->w, head->b. */
var *ad_distill(tape *t, var *hidden, const ad_head *head, var *teacher, const ad_head *teacher_head, const ad_targets *rows,
                const distill_opts *o);
/* The forward KL over k + 1 outcomes: the k tokens that were kept, and all others as one. It is never more than the whole KL. */
var *ad_distill_top(tape *t, var *hidden, const ad_head *head, const distill_top *top, const ad_targets *rows, const distill_opts *o);

/* The k greatest of a teacher's logits z[n_vocab] at a temperature, best first, as distill_top keeps them. work: [n_vocab]. */
void distill_keep_top(const struct kern_table *kern, const float *z, size_t n_vocab, float temperature, size_t k, uint32_t *ids, float *logp,
                      float *rest, float *work);

/* Mean over the rows that count of mean_c (x - y)². y: constant. weights[n] or NULL. */
var *ad_match_mse(tape *t, var *x, var *y, const float *weights);
/* Mean over the rows that count of 1 - cos(x, y). A row of zeros has the loss 1 and no gradient. */
var *ad_match_cosine(tape *t, var *x, var *y, const float *weights);
/* Relations between the tokens of each sequence (Wang et al. 2021, MiniLMv2, eq. 5): x[n, d] is cut into n_rel parts of d / n_rel
 * columns, and for each the softmax over j of x_i x_j / sqrt(d / n_rel) is compared with y's own: the mean over rows and parts of
 * KL(y's ‖ x's). causal: j ≤ i alone. Widths may differ; both must be multiples of n_rel. */
var *ad_match_relation(tape *t, var *x, var *y, size_t n_rel, bool causal, const ad_seqs *s);

#endif
