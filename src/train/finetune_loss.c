/* finetune_loss.c: what a step makes smaller: the cross-entropy of what is to be learned; on replayed rows the divergence from the
 * model as it was; or that of preferences (finetune_prefer.c). */
#include "train/finetune_run.h"

#include "train/op_distill.h"

#include <math.h>

/* ---- replay ---- */

/* Hidden rows of the model as it was: the adapter is switched off, or the other net asked. */
static var *old_hidden(finetune *f, tape *t, const data_batch *b) {
    tape_pause(t);
    if (f->l) lora_set_off(f->l, true);
    var *h = net_hidden(f->old ? f->old : f->n, t, b->ids, &b->seqs, NULL);
    if (f->l) lora_set_off(f->l, false);
    tape_resume(t);
    return h;
}

static var *replay_loss(finetune *f, tape *t, const data_batch *b, var *h) {
    ad_head head = net_head(f->n), old = net_head(f->old ? f->old : f->n);
    double kl = f->o->kl < 0 ? 0 : f->o->kl > 0 ? f->o->kl : 1;
    ad_targets rows = {.target = b->target, .weights = b->weights, .sum_weight = f->replay_weight, .fused = 1};
    if (kl <= 0) {
        var *l = ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = b->weights,
                                                             .sum_weight = f->replay_weight / fmax(f->o->replay_ce, 1e-9), .fused = 1});
        return l;
    }
    return ad_distill(t, h, &head, old_hidden(f, t, b), &old, &rows,
                      &(distill_opts){.kind = DISTILL_FORWARD, .weight = (float)kl, .ce = (float)f->o->replay_ce});
}

/* ---- the loss of a part ---- */

var *finetune_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err) {
    finetune *f = ctx;
    ad_head head = net_head(f->n);
    var *h = net_hidden(f->n, t, b->ids, &b->seqs, NULL);
    (void)sum_weight;
    if (f->now == ROWS_REPLAY) return replay_loss(f, t, b, h);
    if (f->private) f->learn_weight = f->dpo ? 1 : b->sum_weight; /* of this example alone */
    if (f->dpo) return finetune_prefer_loss(f, t, b, h, err);
    return ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = b->weights,
                                                       .sum_weight = f->learn_weight > 0 ? f->learn_weight : 1, .fused = 1});
}
