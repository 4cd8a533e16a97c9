/* sampler_found.c: draws from the greatest logits alone (op_head), with the results of a draw from all.
 *
 * A chain can do so when its first cut keeps nothing but the k greatest, or what lies within a gap of the greatest,
 * and everything before that cut changes few logits. Those few, forced, are found whatever they are, and do not count
 * when the greatest are: the k-th greatest of the others is at most the k-th of all after the changes, so what the cut
 * keeps is among what is found. From the cut on both draws do the same with the same candidates in the same order. */
#include "run/sampler.h"

#include <math.h>

/* ---- what is needed ---- */

static bool force(mote_sampler *s, head_query *q, int32_t id) {
    size_t low = 0, high = q->n_forced;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->forced[mid] < id) low = mid + 1;
        else high = mid;
    }
    if (low < q->n_forced && s->forced[low] == id) return true;
    if (q->n_forced == HEAD_FORCED_MAX) return false;
    memmove(s->forced + low + 1, s->forced + low, (q->n_forced - low) * sizeof *s->forced);
    s->forced[low] = id;
    q->n_forced++;
    return true;
}

/* Tokens whose logits are changed before the first cut; false when they are too many. */
static bool force_changed(mote_sampler *s, head_query *q) {
    size_t back = MIN(s->hist_cap, s->n_hist); /* penalties and DRY look back as far, and change what they see */
    for (size_t i = 0; i < s->n_bias; i++)
        if (!force(s, q, s->bias[i].id)) return false;
    for (size_t i = 0; i < s->n_ends; i++)
        if (!force(s, q, s->ends[i])) return false;
    for (size_t i = 0; i < back; i++)
        if (!force(s, q, s->hist[s->hist_begin + s->n_hist - 1 - i])) return false;
    return true;
}

/* The first step that throws tokens away or bends all of them: whether it keeps only the greatest. */
static bool first_cut(const mote_sampler *s, head_query *q) {
    const mote_sample_opts *o = &s->o;
    for (size_t i = 0; i < s->n_steps; i++)
        switch (s->steps[i]) {
        case STEP_TOP_K:
            if (o->top_k <= 0) break;
            q->k = (size_t)MAX(o->top_k, o->min_keep);
            return q->k <= HEAD_K_MAX;
        case STEP_MIN_P:
            if (o->min_p <= 0) break;
            q->gap = 1e-3f - logf(o->min_p); /* more than the roundings of both logarithms */
            return o->min_keep <= 1;
        case STEP_TOP_N_SIGMA:
            if (o->top_n_sigma > 0) return false;
            break;
        case STEP_TYPICAL:
            if (o->typical_p < 1) return false;
            break;
        case STEP_TOP_P:
            if (o->top_p < 1) return false; /* needs the sum over all */
            break;
        case STEP_XTC:
            if (o->xtc_probability > 0 && o->xtc_threshold <= 0.5f) return false;
            break;
        case STEP_TEMPERATURE: return false; /* rounds: it may make ties, which ids decide */
        default: break; /* penalties and DRY change the forced ones */
        }
    return false;
}

bool sampler_query(mote_sampler *s, head_query *q) {
    *q = (head_query){.gap = INFINITY, .forced = s->forced};
    if (s->o.logprobs || s->o.mirostat) return false;
    if (sample_is_greedy(s)) q->k = 1;
    else if (!first_cut(s, q)) return false;
    return force_changed(s, q);
}

/* ---- draws ---- */

static cand *find(mote_sampler *s, int32_t id) {
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->c[mid].id < id) low = mid + 1;
        else high = mid;
    }
    return low < s->n && s->c[low].id == id ? &s->c[low] : NULL;
}

/* The greatest of the candidates, the lower id at equal logits; NULL when all are forbidden. */
static const cand *best_of(const mote_sampler *s) {
    const cand *best = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->c[i].logit > (best ? best->logit : -INFINITY)) best = &s->c[i];
    return best;
}

mote_status sampler_draw_found(mote_sampler *s, const head_found *f, int32_t *id, mote_error *err) {
    s->dense = s->sorted = false;
    s->found = true;
    s->n = f->n;
    for (size_t i = 0; i < f->n; i++) s->c[i] = (cand){f->y[i], f->ids[i], 0};
    for (size_t i = 0; i < s->n_bias; i++) {
        cand *c = find(s, s->bias[i].id);
        if (c) c->logit += s->bias[i].bias;
    }
    for (size_t i = 0; i < s->n_ends; i++) {
        cand *c = find(s, s->ends[i]);
        if (c) c->logit = -INFINITY;
    }
    bool greedy = sample_is_greedy(s);
    if (greedy) sample_look_back(s);
    const cand *best = best_of(s);
    if (!best) FAIL(err, MOTE_E_OUTPUT, "every token is forbidden: all logits are -inf");
    if (greedy) {
        *id = best->id;
    } else {
        size_t n = 0; /* as the dense form drops what is forbidden when it is cut */
        for (size_t i = 0; i < s->n; i++)
            if (s->c[i].logit > -INFINITY) s->c[n++] = s->c[i];
        s->n = n;
        *id = sample_by_chain(s);
    }
    sampler_accept(s, *id);
    return MOTE_OK;
}

mote_status sample_greatest(const head_found *f, int32_t *id, mote_error *err) {
    size_t best = 0;
    for (size_t i = 1; i < f->n; i++)
        if (f->y[i] > f->y[best]) best = i;
    if (f->n == 0) FAIL(err, MOTE_E_INTERNAL, "the head has found nothing");
    *id = f->ids[best];
    return MOTE_OK;
}
