/* layerskip.h: training a whole model so that its inner layers can speak: layers are left out at random, and the model's own norm and
 * head stand behind the others, too (Elhoushi et al. 2024, "LayerSkip", §4.1). */
#ifndef MOTE_TRAIN_LAYERSKIP_H
#define MOTE_TRAIN_LAYERSKIP_H

#include "train/trainer.h"

typedef struct layerskip {
    net *n;
    const trainer *t;    /* set before the first loss: its step says what is drawn */
    uint64_t steps, seed;
    double dropout;      /* of the last layer; layer l of L: dropout (2^(l / (L - 1)) - 1) (eq. 2); 0: none */
    double exit;         /* how much inner layers count (e_scale, eq. 4); 0: not at all */
    bool rising;         /* dropout rises over the run, as for new models (eq. 3) */
    int rank;
    /* of the step under way */
    uint64_t at;
    size_t part;
} layerskip;

/* The chance that layer l of n is left out at step `at`. */
double layerskip_chance(const layerskip *s, size_t l, size_t n, uint64_t at);
/* The share of the loss that stands behind layer l at step `at`; over all l they sum to 1 (eq. 5, rotating curriculum). */
double layerskip_share(const layerskip *s, size_t l, size_t n, uint64_t at);
/* A train_loss_fn; ctx: the layerskip. */
train_loss_fn layerskip_loss;

#endif
