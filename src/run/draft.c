/* draft.c: a smaller model guesses. It has a session of its own, which follows the target's sequence: what the
 * two have in common stays, the rest is cut off and fed anew.
 * Source: Leviathan et al. 2023, Fast Inference from Transformers via Speculative Decoding; Chen et al. 2023.
 *
 * A guess's level tells how sure the draft is: the probability of its best token, in steps. */
#include "run/spec.h"

#include <math.h>

#define PADDING_MAX 128 /* vocabularies may differ by so many unused tokens at the end, as those of one family do */
#define SURE_STEPS (SPEC_LEVELS - 1)
#define SURE_K 16 /* so many of the greatest logits tell how sure it is */

typedef struct draft {
    mote_session *s;
    size_t n_vocab;       /* of the target */
    float *padded;        /* [n_vocab] when the draft has fewer tokens, else NULL */
    float p_min;
    spec_mark mark;
    size_t agreed;        /* tokens known to be those of the target */
    const mote_sampler *of;
    mote_sampler *twin;   /* NULL: the likeliest token each time */
    head_query query;     /* what the next draw needs of the logits */
} draft;

/* ---- may it? ---- */

static mote_status same_vocabulary(const mote_model *a, const mote_model *b, mote_error *err) {
    const tok_vocab *va, *vb;
    size_t na = a->info->n_vocab, nb = b->info->n_vocab;
    static const char need[] = "a draft model must have the model's tokenizer";
    if (!a->vocab && !b->vocab && na == nb) return MOTE_OK; /* ids only */
    TRY(run_vocab(a, &va, err));
    TRY(run_vocab(b, &vb, err));
    size_t ta = tok_count(va), tb = tok_count(vb), n = MIN(MIN(na, nb), MIN(ta, tb));
    if (MAX(na, nb) - MIN(na, nb) > PADDING_MAX)
        FAIL(err, MOTE_E_MISMATCH, "the draft model has %zu tokens, the model %zu; %s", nb, na, need);
    for (size_t i = 0; i < n; i++) {
        str x = tok_text(va, (int32_t)i), y = tok_text(vb, (int32_t)i);
        if (!str_eq(x, y))
            FAIL(err, MOTE_E_MISMATCH, "token %zu is '%.*s' in the draft model and '%.*s' in the model; %s", i,
                 STR_ARG(y), STR_ARG(x), need);
    }
    return MOTE_OK;
}

/* ---- following the target ---- */

/* Few of the logits are needed where both models have the same tokens. NULL: all are. */
static const head_query *query(draft *d) {
    if (d->s->n_vocab != d->n_vocab) return NULL;
    if (!d->twin) d->query = (head_query){.k = SURE_K, .gap = INFINITY};
    else if (!sampler_query(d->twin, &d->query)) return NULL;
    if (d->query.k) d->query.k = MAX(d->query.k, (size_t)SURE_K);
    return &d->query;
}

/* f says what of the logits is wanted; the tokens are filled in here. */
static mote_status follow(draft *d, const int32_t *ids, size_t n, run_feed f, mote_error *err) {
    run_seq *q = &d->s->seqs[0];
    size_t same = MIN(d->agreed, q->n);
    while (same < MIN(q->n, n) && q->ids[same] == ids[same]) same++;
    if (same == n) same = n - 1; /* its logits are wanted */
    spec_mark_rewind(&d->mark, d->s, 0, same);
    d->agreed = q->n;
    f.ids = ids + q->n;
    f.n = n - q->n;
    TRY(run_feed_all(d->s, &f, 1, err));
    d->agreed = n;
    return MOTE_OK;
}

static bool fits(const draft *d, size_t n) { return n <= d->s->n_ctx; }

static mote_status begin(proposer *p, const int32_t *ids, size_t n, const mote_sampler *sampler, mote_error *err) {
    draft *d = p->self;
    d->agreed = 0;
    if (sampler && d->of != sampler) {
        sampler_twin_free(d->twin);
        d->twin = NULL;
        d->of = NULL;
        TRY(sampler_twin_open(&d->twin, sampler, err));
        d->of = sampler;
    }
    /* When it has not paid so far, its reading the prompt can wait until it is tried again. */
    if (p->probe_every > 64 || !fits(d, n)) return MOTE_OK;
    return follow(d, ids, n, (run_feed){.no_logits = true}, err);
}

/* A sampler may be closed between two generations. */
static void end(proposer *p) {
    draft *d = p->self;
    sampler_twin_free(d->twin);
    d->twin = NULL;
    d->of = NULL;
}

/* Tokens that are read together take about a quarter of what they take one by one. */
static double lag_ns(const proposer *p, size_t n) {
    const draft *d = p->self;
    size_t have = MIN(d->agreed, d->s->seqs[0].n);
    return n > have + 1 ? (double)(n - have - 1) * p->token_ns / 4 : 0;
}

/* ---- guessing ---- */

/* The probability of the likeliest token among these; what is 16 below it weighs nothing. */
static float best_chance(const float *x, size_t n) {
    float max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++)
        if (x[i] > max - 16) sum += expf(x[i] - max);
    return 1 / sum;
}

/* *id -1: the draft is not sure enough to guess. */
static mote_status draw(draft *d, int32_t *id, float *chance, mote_error *err) {
    const head_found *f = d->s->found;
    const float *x = d->s->seqs[0].logits;
    bool few = d->s->found_of == 0;
    if (!few && d->padded) x = memcpy(d->padded, x, d->s->n_vocab * sizeof *x); /* the rest is -inf */
    *chance = few ? best_chance(f->y, f->n) : best_chance(x, d->n_vocab);
    *id = -1;
    if (*chance < d->p_min) return MOTE_OK;
    if (few) return d->twin ? sampler_draw_found(d->twin, f, id, err) : sample_greatest(f, id, err);
    return d->twin ? sampler_draw(d->twin, x, id, err) : sample_argmax(x, d->n_vocab, id, err);
}

static mote_status propose(proposer *p, const spec_ask *a, proposal *out, mote_error *err) {
    draft *d = p->self;
    const tok_vocab *v = d->s->model->vocab;
    out->n = 0;
    if (!fits(d, a->n)) return MOTE_OK;
    if (d->twin) sampler_twin_sync(d->twin, d->of);
    TRY(follow(d, a->ids, a->n, (run_feed){.query = query(d)}, err));
    spec_mark_take(&d->mark, d->s, 0);
    size_t max = MIN(a->max, d->s->n_ctx - a->n + 1);
    while (out->n < max) {
        float chance;
        int32_t id;
        TRY(draw(d, &id, &chance, err));
        if (id < 0 || (v && tok_is_eog(v, id))) break;
        out->ids[out->n] = id;
        out->level[out->n++] = (unsigned char)MIN((unsigned)(chance * SURE_STEPS), SURE_STEPS);
        if (out->n == max || !spec_goes_on(a->sp, p, out, a->rows)) break;
        double begun = (double)clock_ns();
        run_feed f = {.ids = &id, .n = 1, .query = query(d)};
        TRY(run_feed_all(d->s, &f, 1, err));
        double took = (double)clock_ns() - begun;
        p->token_ns += (took - p->token_ns) / (p->token_ns > 0 ? 8 : 1);
    }
    return MOTE_OK;
}

/* ---- opening ---- */

static void close_draft(proposer *p) {
    draft *d = p->self;
    if (!d) return;
    sampler_twin_free(d->twin);
    mem_free_aligned(d->mark.mem);
    mem_free(d->padded);
    run_session_release(d->s);
    mem_free(d);
    p->self = NULL;
}

static size_t memory(const proposer *p) {
    const draft *d = p->self;
    return sizeof *d + d->mark.bytes + (d->padded ? d->n_vocab * sizeof(float) : 0);
}

static mote_status open_session(draft *d, const mote_session *target, mote_model *m, mote_error *err) {
    mote_session_opts o = target->o;
    o.n_ctx = m->n_ctx_train ? MIN(target->n_ctx, m->n_ctx_train) : target->n_ctx;
    o.n_seq = 1;
    o.n_batch = MIN(target->n_batch, (size_t)512);
    o.checkpoint_every = 0;
    o.context_shift = false;
    o.exit_threshold = 2;
    return run_session_open(&d->s, m, &o, err);
}

mote_status draft_proposer(proposer *p, const mote_session *target, const mote_spec_opts *o, mote_error *err) {
    *p = (proposer){.name = "draft model", .kind = SPEC_DRAFT, .begin = begin, .propose = propose, .lag_ns = lag_ns, .end = end,
                    .close = close_draft, .memory = memory, .odds.memory = 32, .average = 0.7};
    for (size_t i = 0; i < SPEC_LEVELS; i++) p->odds.p[i] = 0.3f + 0.6f * (float)i / SURE_STEPS;
    mote_model *m = o->draft;
    mote_status st = MOTE_OK;
    if (!m->m || !m->info->causal)
        FAIL(err, MOTE_E_USAGE, "the draft model computes no logits: it is an encoder, or was opened without weights");
    TRY(same_vocabulary(target->model, m, err));
    draft *d = MEM_NEW(draft);
    if (!d) FAIL(err, MOTE_E_MEMORY, "out of memory for a draft model");
    p->self = d;
    d->n_vocab = target->n_vocab;
    d->p_min = o->p_min;
    TRYG(st, open_session(d, target, m, err));
    TRYG(st, spec_mark_open(&d->mark, d->s, err));
    if (d->s->n_vocab < d->n_vocab) {
        d->padded = MEM_NEW_N(float, d->n_vocab);
        if (!d->padded) FAILG(st, err, MOTE_E_MEMORY, "out of memory for the logits of a draft model");
        for (size_t i = d->s->n_vocab; i < d->n_vocab; i++) d->padded[i] = -INFINITY;
    }
out:
    if (st != MOTE_OK) close_draft(p);
    return st;
}
