/* distil_roll.c: a model continues texts, several at once, with the engine that runs it: data of the teacher's, and what the student
 * says. See distil.h. */
#include "train/distil.h"

#include "run/run.h"

#include <math.h>
#include <string.h>

enum { AT_ONCE = 8, PASS = 512 };

typedef struct rolling {
    const distil_roll *o;
    const distil_rows *prompts;
    mote_engine *e;
    mote_model *m;
    mote_session *s;
    const tok_vocab *vocab;
    size_t at_once, first, count; /* prompts [first, first + count) are being continued */
    int32_t *ids;                 /* [at_once, n_ctx] */
    bool *counts;
    size_t *len;
    bool *done;
    rng *draws;                   /* [at_once] */
    float *p;                     /* [n_vocab] */
    mote_step *steps;
    run_feed *feeds;
} rolling;

/* A token from softmax(logits / temperature). */
static int32_t draw(const rolling *r, const float *logits, size_t n, rng *random) {
    size_t best = 0;
    double sum = 0;
    for (size_t i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    if (!(r->o->temperature > 0)) return (int32_t)best;
    for (size_t i = 0; i < n; i++) {
        r->p[i] = expf((logits[i] - logits[best]) / r->o->temperature);
        sum += (double)r->p[i];
    }
    double at = rng_double(random) * sum;
    for (size_t i = 0; i < n; i++) {
        at -= (double)r->p[i];
        if (at < 0) return (int32_t)i;
    }
    return (int32_t)best;
}

static mote_status open_model(rolling *r, mote_error *err) {
    const distil_roll *o = r->o;
    TRY(engine_open(&r->e, &(mote_engine_opts){.size = sizeof(mote_engine_opts), .n_threads = o->n_threads}, err));
    TRY(run_model_open(&r->m, r->e, o->path, &(mote_model_opts){.size = sizeof(mote_model_opts)}, err));
    TRY(run_vocab(r->m, &r->vocab, err));
    mote_session_opts so = mote_session_opts_default();
    so.n_ctx = o->n_ctx;
    so.n_seq = r->at_once;
    so.n_batch = PASS;
    so.checkpoint_every = 0;
    TRY(run_session_open(&r->s, r->m, &so, err));
    r->ids = mem_calloc(r->at_once * o->n_ctx, sizeof *r->ids);
    r->counts = mem_calloc(r->at_once * o->n_ctx, sizeof *r->counts);
    r->len = MEM_NEW_N(size_t, r->at_once);
    r->done = MEM_NEW_N(bool, r->at_once);
    r->draws = MEM_NEW_N(rng, r->at_once);
    r->p = MEM_NEW_N(float, r->s->n_vocab);
    r->steps = MEM_NEW_N(mote_step, r->at_once);
    r->feeds = MEM_NEW_N(run_feed, r->at_once);
    if (!r->feeds || !r->ids || !r->counts || !r->len || !r->done || !r->draws || !r->p || !r->steps) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

static void close_model(rolling *r) {
    run_session_release(r->s);
    run_model_release(r->m);
    engine_release(r->e);
    mem_free(r->ids);
    mem_free(r->counts);
    mem_free(r->len);
    mem_free(r->done);
    mem_free(r->draws);
    mem_free(r->p);
    mem_free(r->steps);
    mem_free(r->feeds);
}

static mote_status feed_prompts(rolling *r, mote_error *err) {
    const distil_rows *p = r->prompts;
    size_t n_feeds = 0;
    for (size_t i = 0; i < r->count; i++) {
        size_t from = p->start[r->first + i], n = p->start[r->first + i + 1] - from;
        if (n == 0 || n >= r->o->n_ctx) {
            from += n ? n - (r->o->n_ctx - 1) : 0; /* too long: its end */
            n = n ? r->o->n_ctx - 1 : 0;
        }
        r->len[i] = n;
        r->done[i] = n == 0;
        rng_seed(&r->draws[i], r->o->seed, r->first + i); /* a sequence's own: the same in any company */
        memcpy(r->ids + i * r->o->n_ctx, p->ids + from, n * sizeof *p->ids);
        memset(r->counts + i * r->o->n_ctx, 0, r->o->n_ctx * sizeof *r->counts);
        run_clear(r->s, i);
        if (n) r->feeds[n_feeds++] = (run_feed){.seq = i, .ids = r->ids + i * r->o->n_ctx, .n = n};
    }
    return n_feeds ? run_feed_all(r->s, r->feeds, n_feeds, err) : MOTE_OK;
}

/* One more token for each that goes on; *n: how many do. */
static mote_status next_tokens(rolling *r, size_t made, size_t *n, mote_error *err) {
    *n = 0;
    for (size_t i = 0; i < r->count; i++) {
        if (r->done[i]) continue;
        const float *logits = run_logits(r->s, i);
        if (!logits) FAIL(err, MOTE_E_INTERNAL, "a sequence has no logits");
        TRY(run_check_logits(r->s, logits, 1, err));
        int32_t id = draw(r, logits, r->s->n_vocab, &r->draws[i]);
        size_t at = r->len[i]++;
        r->ids[i * r->o->n_ctx + at] = id;
        r->counts[i * r->o->n_ctx + at - 1] = true;
        r->done[i] = tok_is_eog(r->vocab, id) || r->len[i] == r->o->n_ctx || (r->o->n_new && made + 1 == r->o->n_new);
        if (!r->done[i]) r->steps[(*n)++] = (mote_step){i, id};
    }
    return MOTE_OK;
}

static mote_status continue_some(rolling *r, distil_rows *out, mote_error *err) {
    TRY(feed_prompts(r, err));
    for (size_t made = 0, n;; made++) {
        TRY(next_tokens(r, made, &n, err));
        if (n == 0) break;
        TRY(run_step_all(r->s, r->steps, n, err));
        if (r->o->stop && made % 16 == 15 && r->o->stop(r->o->ctx, r->first, r->prompts->n)) FAIL(err, MOTE_E_CANCELLED, "cancelled");
    }
    for (size_t i = 0; i < r->count; i++)
        if (r->len[i] > 1) TRY(distil_rows_add(out, r->ids + i * r->o->n_ctx, r->counts + i * r->o->n_ctx, r->len[i], err));
    return MOTE_OK;
}

mote_status distil_roll_out(const distil_roll *o, const distil_rows *prompts, distil_rows *out, mote_error *err) {
    rolling r = {.o = o, .prompts = prompts, .at_once = MIN(o->at_once ? o->at_once : AT_ONCE, MAX(prompts->n, (size_t)1))};
    if (o->n_ctx < 2) FAIL(err, MOTE_E_RANGE, "a context of %zu tokens: at least 2", o->n_ctx);
    mote_status s = open_model(&r, err);
    for (r.first = 0; r.first < prompts->n && s == MOTE_OK; r.first += r.at_once) {
        r.count = MIN(r.at_once, prompts->n - r.first);
        s = continue_some(&r, out, err);
        if (s == MOTE_OK && o->stop && o->stop(o->ctx, r.first + r.count, prompts->n)) s = ERR(err, MOTE_E_CANCELLED, "cancelled");
    }
    close_model(&r);
    return s;
}
