/* distil_span.c: what two vocabularies cut differently, compared as whole pieces of text.
 *
 * Between two common borders stands the same text, in several tokens of one model or of both. By the chain rule the product of its
 * tokens' conditional probabilities is what a model thinks of the whole piece: P the teacher's, Q the student's (the merging of TRL's GOLD,
 * here on the outcomes "this text" and "any other"). The loss is
 *     Σ P log(P / Q) + (1 - P) log((1 - P) / (1 - Q))        by log Q: (Q - P) / (1 - Q)
 * and log Q is a sum of the student's log-probabilities: the way back is that of a cross-entropy whose rows count -(Q - P) / (1 - Q). */
#include "train/distil_int.h"

#include <math.h>
#include <string.h>

typedef struct side { /* rows that speak about tokens of spans, in order */
    var *rows;
    const ad_head *head;
    int32_t *at, *target;
    float *losses; /* minus the logarithms of the targets' probabilities */
    size_t n;
} side;

static bool make_side(side *s, tape *t, var *hidden, const int32_t *ids, const distil_aligned *a, bool theirs) {
    for (size_t i = 0; i < a->n_spans; i++) s->n += theirs ? a->spans[i].n_theirs : a->spans[i].n_ours;
    s->at = tape_mem(t, (s->n + 1) * sizeof *s->at);
    s->target = tape_mem(t, (s->n + 1) * sizeof *s->target);
    s->losses = tape_mem(t, (s->n + 1) * sizeof *s->losses);
    if (!s->at || !s->target || !s->losses) return false;
    size_t n = 0;
    for (size_t i = 0; i < a->n_spans; i++) {
        const distil_span *span = &a->spans[i];
        size_t from = theirs ? span->theirs : span->ours, count = theirs ? span->n_theirs : span->n_ours;
        for (size_t k = 0; k < count; k++, n++) {
            s->at[n] = (int32_t)(from + k);
            s->target[n] = ids[from + k + 1];
        }
    }
    s->rows = ad_rows(t, hidden, s->at, s->n);
    return s->rows != NULL;
}

static var *likelihood(tape *t, const side *s, const float *weights, float *losses, double sum_weight) {
    const distill_opts o = {.ce = 1};
    return ad_distill_top(t, s->rows, s->head, NULL, &(ad_targets){.target = s->target, .weights = weights, .sum_weight = sum_weight, .losses = losses}, &o);
}

/* KL between two coins. log_p, log_q: logarithms of the probabilities. *slope: minus the derivative by log_q, at most 1 in size. */
static double coins(double log_p, double log_q, double *slope) {
    const double least = 1e-6; /* of "any other text" */
    log_p = fmax(log_p, -60);
    double p = exp(log_p), q = exp(log_q), rest_p = fmax(1 - p, least), rest_q = fmax(1 - q, least);
    *slope = fmax(-1, fmin(1, (p - q) / rest_q));
    return p * (log_p - log_q) + rest_p * (log(rest_p) - log(rest_q));
}

var *distil_span_loss(tape *t, var *ours, const ad_head *head, var *theirs, const ad_head *their_head, const data_batch *b, const distil_aligned *a,
                      double sum_weight) {
    side s = {.head = head}, teacher = {.head = their_head};
    if (!ours || !theirs || !make_side(&s, t, ours, b->ids, a, false)) return NULL;
    float *up = tape_mem(t, (s.n + 1) * sizeof *up), *down = tape_mem(t, (s.n + 1) * sizeof *down);
    if (!up || !down) return NULL;
    tape_pause(t);
    bool good = make_side(&teacher, t, theirs, a->theirs.ids, a, true) && likelihood(t, &teacher, NULL, teacher.losses, 1) &&
                likelihood(t, &s, NULL, s.losses, 1);
    tape_resume(t);
    if (!good) return NULL;
    double loss = 0, surrogate = 0;
    for (size_t i = 0, n = 0, m = 0; i < a->n_spans; i++) {
        const distil_span *span = &a->spans[i];
        double log_p = 0, log_q = 0, slope, counts = b->weights ? (double)b->weights[span->ours] : 1;
        for (size_t k = 0; k < span->n_theirs; k++) log_p -= (double)teacher.losses[m++];
        for (size_t k = 0; k < span->n_ours; k++) log_q -= (double)s.losses[n + k];
        loss += counts * coins(log_p, log_q, &slope);
        for (size_t k = 0; k < span->n_ours; k++, n++) {
            up[n] = (float)fmax(counts * slope, 0);
            down[n] = (float)fmax(-counts * slope, 0);
            surrogate += counts * slope * (double)s.losses[n];
        }
    }
    var *more = likelihood(t, &s, up, NULL, sum_weight), *less = likelihood(t, &s, down, NULL, sum_weight);
    if (!more || !less) return NULL;
    var *sum = ad_add_scaled(t, more, less, -1);
    float shift = (float)((loss - surrogate) / sum_weight); /* the value is the divergence's; the slope is right already */
    float *room = tape_mem(t, sizeof *room);
    if (!room) return NULL;
    *room = shift;
    return ad_add(t, sum, tape_const(t, 1, 1, room));
}
