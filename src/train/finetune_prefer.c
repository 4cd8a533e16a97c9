/* finetune_prefer.c: direct preference optimization.
 * L = -log σ(z),  z = β ((log p(chosen) - log r(chosen)) - (log p(rejected) - log r(rejected))); r: the reference.
 * dL/dlog p(chosen) = -β (1 - σ(z)), and the other sign for rejected: a cross-entropy whose rows have these weights.
 * Source: Rafailov et al. 2023, eq. 7. */
#include "train/finetune_run.h"

#include <math.h>
#include <string.h>

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

var *finetune_prefer_loss(finetune *f, tape *t, const data_batch *b, var *h, mote_error *err) {
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

/* ---- the reference ---- */

/* Pairs laid one behind the other, so that a pass over the weights serves many. */
typedef struct pile {
    int32_t *ids, *target, *pos;
    float *weights;
    uint32_t *start;
    size_t n, n_seq, cap[5];
} pile;

static void pile_free(pile *p) {
    mem_free(p->ids);
    mem_free(p->target);
    mem_free(p->pos);
    mem_free(p->weights);
    mem_free(p->start);
}

static mote_status pile_add(pile *p, const data_batch *b, mote_error *err) {
    const size_t n = b->seqs.n, all = p->n + n;
    TRY(mem_grow(&p->ids, &p->cap[0], all, sizeof *p->ids, SIZE_MAX / 8, err));
    TRY(mem_grow(&p->target, &p->cap[1], all, sizeof *p->target, SIZE_MAX / 8, err));
    TRY(mem_grow(&p->pos, &p->cap[2], all, sizeof *p->pos, SIZE_MAX / 8, err));
    TRY(mem_grow(&p->weights, &p->cap[3], all, sizeof *p->weights, SIZE_MAX / 8, err));
    TRY(mem_grow(&p->start, &p->cap[4], p->n_seq + b->seqs.n_seq + 1, sizeof *p->start, SIZE_MAX / 8, err));
    memcpy(p->ids + p->n, b->ids, n * sizeof *p->ids);
    memcpy(p->target + p->n, b->target, n * sizeof *p->target);
    memcpy(p->pos + p->n, b->seqs.pos, n * sizeof *p->pos);
    memcpy(p->weights + p->n, b->weights, n * sizeof *p->weights);
    for (size_t s = 0; s <= b->seqs.n_seq; s++) p->start[p->n_seq + s] = (uint32_t)(p->n + b->seqs.start[s]);
    p->n_seq += b->seqs.n_seq;
    p->n = all;
    return MOTE_OK;
}

/* log p of every sequence on the pile, by the net as it is. */
static mote_status pile_logp(const finetune *f, tape *t, const pile *p, double *logp, mote_error *err) {
    const data_batch b = {.seqs = {.n = p->n, .n_seq = p->n_seq, .start = p->start, .pos = p->pos}, .ids = p->ids, .target = p->target, .weights = p->weights};
    tape_reset(t);
    tape_pause(t);
    ad_head head = net_head(f->n);
    float *losses = tape_mem(t, p->n * sizeof *losses);
    var *h = net_hidden(f->n, t, p->ids, &b.seqs, NULL);
    const bool ok = losses && h && sequence_logp(t, h, &head, &b, losses, logp);
    tape_resume(t);
    TRY(tape_status(t, err));
    if (!ok) FAIL(err, MOTE_E_INTERNAL, "no log-probabilities");
    for (size_t s = 0; s < p->n_seq; s++)
        if (!isfinite(logp[s])) FAIL(err, MOTE_E_OUTPUT, "the log-probability of an answer is not finite");
    return MOTE_OK;
}

static mote_status tell(const finetune *f, size_t done, size_t n, mote_error *err) {
    const mote_train_callbacks *on = &f->o->on;
    char text[120];
    if (on->stop && on->stop(on->ctx)) FAIL(err, MOTE_E_CANCELLED, "stopped before the first step");
    if (!on->line || done < n) return MOTE_OK;
    (void)snprintf(text, sizeof text, "what the model thought of %zu pairs is noted", n);
    on->line(on->ctx, text);
    return MOTE_OK;
}

/* The first n items' log-probabilities, as [n, 2]. */
static mote_status logp_of_items(const finetune *f, tape *t, size_t n, bool told, double *logp, mote_error *err) {
    enum { AT_ONCE = 2048 /* tokens */ };
    pile p = {0};
    mote_status s = MOTE_OK;
    for (size_t i = 0, first = 0; i < n; i++) {
        data_batch b;
        TRYG(s, data_item(f->learn, i, &b, err));
        if (b.seqs.n_seq != 2) FAILG(s, err, MOTE_E_FORMAT, "item %zu is no pair of answers", i);
        TRYG(s, pile_add(&p, &b, err));
        if (p.n < AT_ONCE && i + 1 < n) continue;
        TRYG(s, pile_logp(f, t, &p, logp + 2 * first, err));
        if (told) TRYG(s, tell(f, i + 1, n, err));
        first = i + 1;
        p.n = p.n_seq = 0;
    }
out:
    pile_free(&p);
    return s;
}

mote_status finetune_refer(finetune *f, tape *t, mote_error *err) {
    const size_t n = data_n_items(f->learn);
    f->reference = MEM_NEW_N(double, 2 * n);
    if (!f->reference) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu references", n);
    return logp_of_items(f, t, n, true, f->reference, err);
}

mote_status finetune_prefer(finetune *f, tape *t, bool gained, double *share, mote_error *err) {
    enum { LOOKED_AT = 200 };
    const size_t n = MIN(data_n_items(f->learn), (size_t)LOOKED_AT);
    double now[2 * LOOKED_AT];
    size_t yes = 0;
    if (gained) TRY(logp_of_items(f, t, n, false, now, err));
    for (size_t i = 0; i < n; i++) {
        const double *r = f->reference + 2 * i;
        yes += gained ? now[2 * i] - r[0] > now[2 * i + 1] - r[1] : r[0] > r[1];
    }
    *share = n ? (double)yes / (double)n : 0;
    return MOTE_OK;
}
