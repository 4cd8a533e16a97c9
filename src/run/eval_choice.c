/* eval_choice.c: log-likelihoods of continuations, and greedy answers.
 *
 * What the n texts share at their beginning is computed once, on sequence 0, whose cache also serves the next item (few-shot examples);
 * the rest of each runs on a copy of it, sequence 1, where the session has one. */
#include "run/eval_tasks.h"

#include <math.h>
#include <string.h>

/* One text: ids[0 … n), of which [split, n) are the continuation. */
typedef struct pair {
    tok_ids ids;
    size_t split;
} pair;

static mote_status encode(const mote_session *s, str text, tok_ids *out, mote_error *err) { return run_encode_prompt(s->model, text, TOK_SPECIAL, out, err); }

/* As lm-evaluation-harness: white space at the prompt's end belongs to the continuation; the prompt's own number of tokens says where
 * the joined text is split. */
static mote_status encode_pair(const mote_session *s, str prompt, str continuation, pair *p, mote_error *err) {
    tok_ids context = {0};
    buf text;
    str kept = py_rstrip(prompt);
    buf_init(&text, TOK_TEXT_BYTES_MAX);
    buf_put_str(&text, prompt);
    buf_put_str(&text, continuation);
    mote_status st;
    TRYG(st, buf_check(&text, "a prompt", err));
    TRYG(st, encode(s, buf_str(&text), &p->ids, err));
    TRYG(st, encode(s, kept, &context, err));
    p->split = context.n;
    if (p->ids.n <= p->split) FAILG(st, err, MOTE_E_FORMAT, "a choice has no tokens of its own after its prompt");
    if (p->split == 0) FAILG(st, err, MOTE_E_FORMAT, "a prompt without tokens");
    size_t most = s->n_ctx + 1; /* the last token is not fed */
    if (p->ids.n > most) {
        size_t cut = p->ids.n - most;
        if (cut >= p->split) FAILG(st, err, MOTE_E_CONTEXT, "a choice of %zu tokens does not fit the context of %zu", p->ids.n - p->split, s->n_ctx);
        memmove(p->ids.p, p->ids.p + cut, (p->ids.n - cut) * sizeof *p->ids.p);
        p->ids.n -= cut;
        p->split -= cut;
    }
out:
    tok_ids_free(&context);
    buf_free(&text);
    return st;
}

/* Tokens that all texts begin with; at least the last token of each prompt stays out, since its logits are needed. */
static size_t shared_prefix(const pair *p, size_t n) {
    size_t k = p[0].split - 1;
    for (size_t i = 1; i < n; i++) {
        size_t j = 0;
        k = MIN(k, p[i].split - 1);
        while (j < k && p[i].ids.p[j] == p[0].ids.p[j]) j++;
        k = j;
    }
    return k;
}

void eval_score_rows(const float *rows, size_t n_vocab, const int32_t *next, size_t n, eval_likelihood *out) {
    *out = (eval_likelihood){.greedy = true, .n = n};
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * n_vocab;
        size_t top = 0;
        double sum = 0;
        for (size_t v = 1; v < n_vocab; v++)
            if (row[v] > row[top]) top = v;
        for (size_t v = 0; v < n_vocab; v++) sum += (double)expf(row[v] - row[top]);
        out->sum += (double)(row[next[i]] - row[top]) - log(sum);
        out->greedy &= top == (size_t)next[i];
    }
}

/* One text after what it shares with the others, on sequence `seq`. */
static mote_status run_rest(mote_session *s, const pair *p, size_t shared, size_t seq, eval_likelihood *out, size_t *n_tokens, mote_error *err) {
    size_t count = p->ids.n - p->split;
    float *rows = mem_calloc(count * s->n_vocab, sizeof *rows);
    if (!rows) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (seq) run_copy(s, seq, 0);
    run_feed feed = {.seq = seq, .ids = p->ids.p + shared, .n = p->ids.n - 1 - shared, .all = rows, .all_from = p->split - 1 - shared};
    *n_tokens += feed.n;
    mote_status st = run_feed_all(s, &feed, 1, err);
    if (st == MOTE_OK) eval_score_rows(rows, s->n_vocab, p->ids.p + p->split, count, out);
    if (st == MOTE_OK && !isfinite(out->sum)) st = ERR(err, MOTE_E_OUTPUT, "the model gives a log-likelihood that is not a number");
    mem_free(rows);
    return st;
}

static mote_status begin(mote_session *s, const pair *p, size_t shared, size_t *n_tokens, mote_error *err) {
    size_t reused = 0;
    if (shared == 0) run_clear(s, 0);
    else TRY(run_prompt(s, 0, p->ids.p, shared, &reused, err));
    *n_tokens += shared - reused;
    return MOTE_OK;
}

mote_status eval_likelihoods(mote_session *s, const str *prompts, const str *continuations, size_t n, eval_likelihood *out,
                             size_t *n_tokens, mote_error *err) {
    pair p[EVAL_CHOICES_MAX] = {0};
    mote_status st = MOTE_OK;
    for (size_t i = 0; i < n; i++) TRYG(st, encode_pair(s, prompts[i], continuations[i], &p[i], err));
    size_t shared = shared_prefix(p, n);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || s->n_seq == 1) TRYG(st, begin(s, p, shared, n_tokens, err));
        TRYG(st, run_rest(s, &p[i], shared, s->n_seq > 1, &out[i], n_tokens, err));
    }
out:
    for (size_t i = 0; i < n; i++) tok_ids_free(&p[i].ids);
    return st;
}

/* ---- answers ---- */
static int put_piece(void *ctx, const mote_piece *piece) {
    buf_put(ctx, piece->text, piece->n);
    return 0;
}

mote_status eval_generate(mote_session *s, str prompt, const char *const *stops, size_t max_tokens, buf *out, size_t *n_tokens,
                          mote_error *err) {
    mote_gen_opts o = mote_gen_opts_default();
    mote_gen_result r = {.size = sizeof r};
    tok_ids ids = {0};
    mote_status st;
    while (stops && stops[o.n_stops]) o.n_stops++;
    o.stops = stops;
    o.n_predict = max_tokens;
    o.on_piece = put_piece;
    o.ctx = out;
    TRYG(st, encode(s, prompt, &ids, err));
    if (ids.n + max_tokens > s->n_ctx) { /* the beginning goes, as in lm-evaluation-harness */
        if (max_tokens >= s->n_ctx) FAILG(st, err, MOTE_E_CONTEXT, "answers of up to %zu tokens do not fit the context of %zu (-c)", max_tokens, s->n_ctx);
        size_t cut = ids.n + max_tokens - s->n_ctx;
        memmove(ids.p, ids.p + cut, (ids.n - cut) * sizeof *ids.p);
        ids.n -= cut;
    }
    TRYG(st, run_generate(s, 0, ids.p, ids.n, &o, &r, err));
    *n_tokens += r.n_prompt - r.n_reused + r.n_generated;
    st = buf_check(out, "an answer", err);
out:
    tok_ids_free(&ids);
    return st;
}
