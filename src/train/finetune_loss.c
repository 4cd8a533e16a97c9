/* finetune_loss.c: what a step makes smaller: the cross-entropy of what is to be learned; on replayed rows the divergence from the
 * model as it was; or the loss of direct preference optimization. */
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

/* ---- preferences ----
 * L = -log σ(z),  z = β ((log p(chosen) - log r(chosen)) - (log p(rejected) - log r(rejected))); r: the reference.
 * dL/dlog p(chosen) = -β (1 - σ(z)), and the other sign for rejected: a cross-entropy whose rows have these weights.
 * Source: Rafailov et al. 2023, eq. 7. */

static double beta_of(const finetune *f) { return f->o->beta > 0 ? f->o->beta : 0.1; }

/* log p of each sequence's targets. losses: [n] room. */
static bool sequence_logp(tape *t, var *h, const ad_head *head, const data_batch *b, float *losses, double *logp) {
    tape_pause(t);
    var *l = ad_cross_entropy(t, h, head, &(ad_targets){.target = b->target, .weights = b->weights, .sum_weight = 1, .losses = losses});
    tape_resume(t);
    for (size_t s = 0; l && s < b->seqs.n_seq; s++) {
        logp[s] = 0;
        for (uint32_t i = b->seqs.start[s]; i < b->seqs.start[s + 1]; i++)
            if (b->target[i] >= 0 && b->weights[i] > 0) logp[s] -= (double)losses[i];
    }
    return l != NULL;
}

static double margin(const finetune *f, const data_batch *b, const double *logp, size_t pair) {
    const double *r = f->reference + 2 * (size_t)b->item[2 * pair];
    return (logp[2 * pair] - r[0]) - (logp[2 * pair + 1] - r[1]);
}

static var *dpo_loss(finetune *f, tape *t, const data_batch *b, var *h, mote_error *err) {
    ad_head head = net_head(f->n);
    size_t n_pairs = b->seqs.n_seq / 2;
    double *logp = tape_mem(t, b->seqs.n_seq * sizeof *logp), loss = 0, beta = beta_of(f);
    float *losses = tape_mem(t, b->seqs.n * sizeof *losses), *weights = tape_mem(t, b->seqs.n * sizeof *weights);
    if (!h || !logp || !losses || !weights || !sequence_logp(t, h, &head, b, losses, logp)) return NULL;
    for (size_t p = 0; p < n_pairs; p++) {
        if (b->item[2 * p] != b->item[2 * p + 1]) {
            (void)ERR(err, MOTE_E_INTERNAL, "a pair of answers was torn apart");
            return NULL;
        }
        double z = beta * margin(f, b, logp, p), away = 1 / (1 + exp(z)); /* 1 - σ(z) */
        loss += z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z;
        f->n_preferred += z > 0;
        f->n_pairs++;
        for (size_t s = 2 * p; s < 2 * p + 2; s++)
            for (uint32_t i = b->seqs.start[s]; i < b->seqs.start[s + 1]; i++)
                weights[i] = b->weights[i] > 0 ? (float)((s % 2 ? -beta : beta) * away) : 0;
    }
    var *l = ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = weights, .sum_weight = f->learn_weight, .fused = 1});
    if (l) *l->x = (float)(loss / f->learn_weight); /* its gradients are those of this */
    return l;
}

static mote_status logp_of_item(finetune *f, tape *t, size_t item, double logp[2], mote_error *err) {
    data_batch b;
    TRY(data_item(f->learn, item, &b, err));
    tape_reset(t);
    tape_pause(t);
    ad_head head = net_head(f->n);
    float *losses = tape_mem(t, b.seqs.n * sizeof *losses);
    var *h = net_hidden(f->n, t, b.ids, &b.seqs, NULL);
    bool ok = losses && h && b.seqs.n_seq == 2 && sequence_logp(t, h, &head, &b, losses, logp);
    tape_resume(t);
    TRY(tape_status(t, err));
    if (!ok) FAIL(err, MOTE_E_FORMAT, "item %zu is no pair of answers", item);
    if (!isfinite(logp[0]) || !isfinite(logp[1])) FAIL(err, MOTE_E_OUTPUT, "item %zu: the reference's log-probability is not finite", item);
    return MOTE_OK;
}

mote_status finetune_refer(finetune *f, tape *t, mote_error *err) {
    size_t n = data_n_items(f->learn);
    f->reference = MEM_NEW_N(double, 2 * n);
    if (!f->reference) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu references", n);
    for (size_t i = 0; i < n; i++) TRY(logp_of_item(f, t, i, f->reference + 2 * i, err));
    return MOTE_OK;
}

mote_status finetune_prefer(finetune *f, tape *t, bool gained, double *share, mote_error *err) {
    size_t n = MIN(data_n_items(f->learn), (size_t)200), yes = 0;
    for (size_t i = 0; i < n; i++) {
        double logp[2];
        const double *r = f->reference + 2 * i;
        if (gained) TRY(logp_of_item(f, t, i, logp, err));
        yes += gained ? logp[0] - r[0] > logp[1] - r[1] : r[0] > r[1];
    }
    *share = n ? (double)yes / (double)n : 0;
    return MOTE_OK;
}

/* ---- the loss of a part ---- */

var *finetune_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err) {
    finetune *f = ctx;
    ad_head head = net_head(f->n);
    var *h = net_hidden(f->n, t, b->ids, &b->seqs, NULL);
    (void)sum_weight;
    if (f->now == ROWS_REPLAY) return replay_loss(f, t, b, h);
    if (f->private) f->learn_weight = f->dpo ? 1 : b->sum_weight; /* of this example alone */
    if (f->dpo) return dpo_loss(f, t, b, h, err);
    return ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = b->weights,
                                                       .sum_weight = f->learn_weight > 0 ? f->learn_weight : 1, .fused = 1});
}
