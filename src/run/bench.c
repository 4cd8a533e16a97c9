/* bench.c: prefill and decode timed as llama-bench and llama-batched-bench do: the same token over and over
 * would be too kind to caches, so prompts are a fixed sequence of pseudo-random ids. One sequence is decoded greedily, by
 * the path that answers take: the likeliest token is drawn and fed. */
#include "run/run.h"

#include <math.h>

typedef struct work {
    mote_session *s;
    const mote_bench_opts *o;
    size_t n_seq;
    int32_t *ids; /* [n_seq, longest] */
    size_t longest;
    run_feed *feeds; /* [n_seq] */
    bool deep;       /* the prompts' sequences begin with the tokens of the depth */
} work;

/* n tokens to each of the first n_seq sequences. */
static mote_status feed(work *w, size_t n_seq, size_t n, mote_error *err) {
    for (size_t q = 0; q < n_seq; q++)
        w->feeds[q] = (run_feed){.seq = q, .ids = w->ids + q * w->longest, .n = n};
    return run_feed_all(w->s, w->feeds, n_seq, err);
}

/* Decodes one sequence as answers are: what is drawn, greedily, is fed. */
static mote_status decode(work *w, size_t n, mote_error *err) {
    static const head_query greatest = {.k = 1, .gap = INFINITY};
    mote_session *s = w->s;
    const tok_vocab *v = s->model->vocab;
    int32_t next = v && tok_id(v, TOK_ROLE_BOS) != TOK_NONE ? tok_id(v, TOK_ROLE_BOS) : w->ids[0]; /* as an answer begins */
    if (w->o->n_depth + w->o->n_prompt) TRY(sample_argmax(run_logits(s, 0), s->n_vocab, &next, err));
    for (size_t i = 0; i < n; i++) {
        w->feeds[0] = (run_feed){.seq = 0, .ids = &next, .n = 1, .query = w->o->full_logits ? NULL : &greatest};
        TRY(run_feed_all(s, w->feeds, 1, err));
        if (s->found_of == 0) TRY(sample_greatest(s->found, &next, err));
        else TRY(sample_argmax(run_logits(s, 0), s->n_vocab, &next, err));
    }
    return MOTE_OK;
}

/* The first n_prompts sequences hold the tokens of the depth, the others nothing. What is left of the repetition before is
 * cut back, and its last token computed again, for its logits. */
static mote_status go_to_depth(work *w, size_t n_prompts, mote_error *err) {
    const size_t depth = w->o->n_depth;
    for (size_t q = 0; q < w->n_seq; q++)
        if (q >= n_prompts || !w->deep) run_clear(w->s, q);
    if (depth == 0) return MOTE_OK;
    if (!w->deep) TRY(feed(w, n_prompts, depth, err));
    else {
        for (size_t q = 0; q < n_prompts; q++) {
            TRY(run_truncate(w->s, q, depth - 1, err));
            w->feeds[q] = (run_feed){.seq = q, .ids = w->ids + q * w->longest + depth - 1, .n = 1};
        }
        TRY(run_feed_all(w->s, w->feeds, n_prompts, err));
    }
    w->deep = true;
    return MOTE_OK;
}

static mote_status repetition(work *w, mote_bench_sample *out, mote_error *err) {
    const mote_bench_opts *o = w->o;
    const size_t n_prompts = o->shared_prompt ? 1 : w->n_seq;
    TRY(go_to_depth(w, n_prompts, err));
    state_set_prof(w->s->st, w->s->prof);
    uint64_t t0 = clock_ns();
    if (o->n_prompt) TRY(feed(w, n_prompts, o->n_prompt, err));
    uint64_t t1 = clock_ns();
    for (size_t q = n_prompts; q < w->n_seq; q++) run_copy(w->s, q, 0);
    uint64_t t2 = clock_ns();
    if (o->n_gen && w->n_seq == 1) TRY(decode(w, o->n_gen, err));
    else for (size_t i = 0; i < o->n_gen; i++) TRY(feed(w, w->n_seq, 1, err)); /* as llama-batched-bench: no draws */
    uint64_t t3 = clock_ns();
    state_set_prof(w->s->st, NULL);
    *out = (mote_bench_sample){o->n_prompt ? t1 - t0 : 0, o->n_gen ? t3 - t2 : 0};
    return MOTE_OK;
}

static mote_status warm_up(work *w, mote_error *err) {
    for (size_t q = 0; q < w->n_seq; q++) run_clear(w->s, q);
    model_warm(w->s->model->m, w->s->model->engine->pool);
    if (w->o->n_prompt) TRY(feed(w, w->n_seq, MIN(w->o->n_prompt, w->s->n_batch), err));
    if (w->o->n_gen) TRY(feed(w, w->n_seq, 1, err));
    return MOTE_OK;
}

static mote_status check(const mote_session *s, const mote_bench_opts *o, size_t n_seq, mote_error *err) {
    size_t need;
    if (o->n_prompt == 0 && o->n_gen == 0)
        FAIL(err, MOTE_E_USAGE, "nothing to measure: n_prompt and n_gen are 0");
    if (n_seq > s->n_seq)
        FAIL(err, MOTE_E_RANGE, "%zu sequences at once, but the session has %zu", n_seq, s->n_seq);
    if (!ckd_add_size(&need, o->n_depth, o->n_prompt) || !ckd_add_size(&need, need, o->n_gen) ||
        need > s->n_ctx)
        FAIL(err, MOTE_E_CONTEXT, "depth %zu + prompt %zu + generated %zu do not fit the context of %zu",
             o->n_depth, o->n_prompt, o->n_gen, s->n_ctx);
    return MOTE_OK;
}

mote_status run_bench(mote_session *s, const mote_bench_opts *o, mote_bench_sample *samples,
                      mote_error *err) {
    work w = {.s = s, .o = o, .n_seq = o->n_parallel ? o->n_parallel : 1};
    mote_status st = MOTE_OK;
    TRY(check(s, o, w.n_seq, err));
    w.longest = MAX(MAX(o->n_depth, o->n_prompt), 1);
    w.ids = MEM_NEW_N(int32_t, w.longest * w.n_seq);
    w.feeds = MEM_NEW_N(run_feed, w.n_seq);
    if (!w.ids || !w.feeds) FAILG(st, err, MOTE_E_MEMORY, "out of memory for the prompts");
    rng r;
    rng_seed(&r, 1, 1);
    for (size_t i = 0; i < w.longest * w.n_seq; i++) w.ids[i] = (int32_t)rng_below(&r, (uint32_t)s->n_vocab);
    state_set_prof(s->st, NULL); /* only what is timed is profiled */
    if (!o->no_warmup) TRYG(st, warm_up(&w, err));
    for (size_t i = 0; i < o->n_reps; i++) {
        TRYG(st, repetition(&w, &samples[i], err));
        if (o->on_rep && o->on_rep(o->ctx, i + 1, o->n_reps)) FAILG(st, err, MOTE_E_CANCELLED, "cancelled");
    }
out:
    state_set_prof(s->st, s->prof);
    for (size_t q = 0; q < w.n_seq; q++) run_clear(s, q);
    mem_free(w.ids);
    mem_free(w.feeds);
    return st;
}
