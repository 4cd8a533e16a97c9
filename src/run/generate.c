/* generate.c: the loop of draw, tell, feed; stop strings; fill-in-the-middle prompts. */
#include "run/run.h"

#include <math.h>
#include "run/spec.h"

#define TEXT_RESERVE 16384 /* bytes of text that may wait: longest stop string, longest token, and room */

typedef struct generation {
    mote_session *s;
    size_t seq;
    const mote_gen_opts *o;
    mote_gen_result *r;
    tok_stream stream;
    const tok_vocab *vocab; /* NULL: ids only */
    buf text;               /* not yet told */
    bool stopped;           /* a stop string or the callback ended it */
    head_query query;       /* what the next draw needs of the logits … */
    bool asked;             /* … when it does not need all */
} generation;

static double now_ms(void) { return (double)clock_ns() * 1e-6; }

/* ---- text ---- */

/* Makes room now, so that the loop does not allocate. */
static mote_status reserve(buf *b, size_t n, mote_error *err) {
    char zeros[256] = {0};
    buf_init(b, (size_t)1 << 26);
    for (size_t i = 0; i < n; i += sizeof zeros) buf_put(b, zeros, sizeof zeros);
    TRY(buf_check(b, "text buffer", err));
    buf_clear(b);
    return MOTE_OK;
}

/* Where the first stop string begins, or SIZE_MAX. */
static size_t find_stop(const generation *g) {
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < g->o->n_stops; i++)
        first = MIN(first, str_find(buf_str(&g->text), str_of(g->o->stops[i]), 0));
    return first;
}

/* How many bytes at the end of the text are the beginning of a stop string. */
static size_t stop_begun(const generation *g) {
    size_t most = 0;
    str text = buf_str(&g->text);
    for (size_t i = 0; i < g->o->n_stops; i++) {
        str stop = str_of(g->o->stops[i]);
        for (size_t n = MIN(stop.n - 1, text.n); n > most; n--) {
            if (!str_ends(text, str_sub(stop, 0, n))) continue;
            most = n;
            break;
        }
    }
    return most;
}

/* Hands the first n bytes to the callback and forgets them. */
static void tell(generation *g, size_t n, int32_t id) {
    mote_piece p = {.text = "", .n = n, .id = id};
    mote_logprob chosen;
    if (id >= 0 && g->o->sampler && g->o->sampler->o.logprobs) {
        p.n_top = g->o->sampler->n_top;
        p.top = g->o->sampler->top;
        chosen = g->o->sampler->chosen;
        p.logprob = chosen.logprob;
    }
    char after = 0;
    if (n) {
        after = g->text.p[n];
        g->text.p[n] = 0;
        p.text = g->text.p;
    }
    if (g->o->on_piece && (n || id >= 0) && g->o->on_piece(g->o->ctx, &p)) {
        g->stopped = true;
        g->r->finish = MOTE_FINISH_CALLBACK;
    }
    if (n == 0) return;
    g->text.p[n] = after;
    memmove(g->text.p, g->text.p + n, g->text.n - n + 1);
    g->text.n -= n;
}

static mote_status put_token(generation *g, int32_t id, mote_error *err) {
    if (g->vocab) {
        tok_stream_put(&g->stream, id, &g->text);
        TRY(buf_check(&g->text, "generated text", err));
    }
    size_t stop = find_stop(g);
    if (stop != SIZE_MAX) {
        tell(g, stop, id);
        g->stopped = true;
        if (g->r->finish != MOTE_FINISH_CALLBACK) g->r->finish = MOTE_FINISH_STOP;
        buf_clear(&g->text);
        return MOTE_OK;
    }
    tell(g, g->text.n - stop_begun(g), id);
    return MOTE_OK;
}

/* ---- the loop ---- */

static mote_status draw(generation *g, int32_t *id, mote_error *err) {
    if (g->o->sampler && g->o->sampler->n_vocab != g->s->n_vocab)
        FAIL(err, MOTE_E_MISMATCH, "the sampler is for %zu tokens, the model has %zu",
             g->o->sampler->n_vocab, g->s->n_vocab);
    if (g->s->found_of == g->seq && g->asked)
        return g->o->sampler ? sampler_draw_found(g->o->sampler, g->s->found, id, err)
                             : sample_greatest(g->s->found, id, err);
    const float *logits = run_logits(g->s, g->seq);
    if (!logits) FAIL(err, MOTE_E_INTERNAL, "no logits to draw from");
    if (g->o->sampler) return sampler_draw(g->o->sampler, logits, id, err);
    TRY(sample_argmax(logits, g->s->n_vocab, id, err));
    if (!g->o->ignore_end || !g->vocab || !tok_is_eog(g->vocab, *id)) return MOTE_OK;
    *id = -1;
    for (size_t i = 0; i < g->s->n_vocab; i++)
        if ((*id < 0 || logits[i] > logits[*id]) && !tok_is_eog(g->vocab, (int32_t)i)) *id = (int32_t)i;
    if (*id < 0) FAIL(err, MOTE_E_OUTPUT, "every token of the vocabulary ends an answer");
    return MOTE_OK;
}

static mote_status draw_timed(generation *g, int32_t *id, mote_error *err) {
    double begun = now_ms();
    mote_status st = draw(g, id, err);
    if (g->o->speculator) spec_drew(g->o->speculator, 1e6 * (now_ms() - begun));
    return st;
}

/* Tokens whose caches will be there when the next is fed: without what is only guessed yet. */
static size_t length(const generation *g) {
    return g->o->speculator ? g->o->speculator->len : g->s->seqs[g->seq].n;
}

/* The sequence goes on by a token. left: those that may be drawn after it, 0: without limit. */
static mote_status advance(generation *g, int32_t id, size_t left, mote_error *err) {
    g->asked = g->o->sampler ? sampler_query(g->o->sampler, &g->query) : !g->o->ignore_end;
    if (!g->o->sampler) g->query = (head_query){.k = 1, .gap = INFINITY};
    const head_query *query = g->asked ? &g->query : NULL;
    if (g->o->speculator) return spec_advance(g->o->speculator, id, left ? left - 1 : SIZE_MAX, query, err);
    run_feed f = {.seq = g->seq, .ids = &id, .n = 1, .query = query};
    return run_feed_all(g->s, &f, 1, err);
}

static mote_status loop(generation *g, mote_error *err) {
    mote_gen_result *r = g->r;
    for (;;) {
        int32_t id;
        if (atomic_load(&g->s->cancel)) FAIL(err, MOTE_E_CANCELLED, "cancelled");
        TRY(draw_timed(g, &id, err));
        if (g->vocab && tok_is_eog(g->vocab, id) && !(g->o->ignore_end && !g->o->sampler)) {
            r->finish = MOTE_FINISH_END;
            return MOTE_OK;
        }
        r->n_generated++;
        TRY(put_token(g, id, err));
        if (g->stopped) return MOTE_OK;
        if (g->o->n_predict && r->n_generated >= g->o->n_predict) {
            r->finish = MOTE_FINISH_LENGTH;
            return MOTE_OK;
        }
        if (length(g) >= g->s->n_ctx && !g->s->o.context_shift) {
            r->finish = MOTE_FINISH_CONTEXT;
            return MOTE_OK;
        }
        TRY(advance(g, id, g->o->n_predict ? g->o->n_predict - r->n_generated : 0, err));
    }
}

static size_t guesses(const mote_spec_stats *s) { return s->n_ngram + s->n_draft + s->n_exit + s->n_medusa; }
static size_t accepted(const mote_spec_stats *s) {
    return s->n_ngram_accepted + s->n_draft_accepted + s->n_exit_accepted + s->n_medusa_accepted;
}

/* What the speculator did for this generation, from what it had done before. */
static void tell_guesses(const mote_speculator *sp, const mote_spec_stats *before, mote_gen_result *r) {
    mote_spec_stats now;
    spec_stats(sp, &now);
    r->n_drafted = guesses(&now) - guesses(before);
    r->n_accepted = accepted(&now) - accepted(before);
}

static mote_status loop_speculating(generation *g, mote_error *err) {
    mote_speculator *sp = g->o->speculator;
    mote_spec_stats before;
    spec_stats(sp, &before);
    mote_status st = loop(g, err);
    spec_end(sp);
    tell_guesses(sp, &before, g->r);
    return st;
}

static mote_status check_opts(const mote_gen_opts *o, mote_error *err) {
    if (o->n_stops > MOTE_STOPS_MAX || (o->n_stops && !o->stops))
        FAIL(err, MOTE_E_RANGE, "%zu stop strings; expected at most %d", o->n_stops, MOTE_STOPS_MAX);
    for (size_t i = 0; i < o->n_stops; i++) {
        size_t n = o->stops[i] ? strlen(o->stops[i]) : 0;
        if (n == 0 || n > MOTE_STOP_BYTES_MAX)
            FAIL(err, MOTE_E_RANGE, "stop string %zu has %zu bytes; expected 1 to %d", i, n,
                 MOTE_STOP_BYTES_MAX);
    }
    return MOTE_OK;
}

static mote_status feed_prompt(generation *g, const int32_t *ids, size_t n, mote_error *err) {
    mote_session *s = g->s;
    s->on_progress = g->o->on_prompt;
    s->progress_ctx = g->o->ctx;
    mote_status st = run_prompt(s, g->seq, ids, n, &g->r->n_reused, err);
    s->on_progress = NULL;
    if (st == MOTE_OK && g->o->sampler) sampler_prompt(g->o->sampler, ids, n);
    return st;
}

mote_status run_generate(mote_session *s, size_t seq, const int32_t *ids, size_t n, const mote_gen_opts *o,
                         mote_gen_result *r, mote_error *err) {
    generation g = {.s = s, .seq = seq, .o = o, .r = r, .vocab = s->model->vocab};
    mote_status st = MOTE_OK;
    double begun = now_ms();
    size_t shifted = s->n_shifted;
    *r = (mote_gen_result){.size = sizeof *r, .finish = MOTE_FINISH_ERROR, .n_prompt = n};
    TRYG(st, check_opts(o, err));
    TRYG(st, reserve(&g.text, TEXT_RESERVE, err));
    if (g.vocab) tok_stream_init(&g.stream, g.vocab, o->show_special ? TOK_SPECIAL : 0);
    st = feed_prompt(&g, ids, n, err);
    if (st == MOTE_OK && o->speculator) st = spec_begin(o->speculator, s, seq, o->sampler, err);
    r->prompt_ms = now_ms() - begun;
    if (st == MOTE_OK) st = o->speculator ? loop_speculating(&g, err) : loop(&g, err);
    if (g.vocab && !g.stopped && !g.text.failed && g.text.p) {
        tok_stream_end(&g.stream, &g.text);
        if (!g.text.failed && g.text.n) tell(&g, g.text.n, -1);
    }
    if (st == MOTE_E_CANCELLED) {
        r->finish = MOTE_FINISH_CANCELLED;
        st = MOTE_OK;
    }
out:
    r->generate_ms = now_ms() - begun - r->prompt_ms;
    r->n_shifted = s->n_shifted - shifted;
    buf_free(&g.text);
    return st;
}

/* ---- fill-in-the-middle ---- */

static mote_status put_part(const tok_vocab *v, tok_role role, str text, tok_ids *out, mote_error *err) {
    int32_t id = tok_id(v, role);
    TRY(mem_grow(&out->p, &out->cap, out->n + 1, sizeof *out->p, SIZE_MAX / sizeof *out->p, err));
    out->p[out->n++] = id;
    return text.n ? tok_encode(v, text, 0, out, err) : MOTE_OK;
}

/* Prefix, suffix, middle. Source: Bavarian et al. 2022, Efficient Training of Language Models to Fill in the
 * Middle, §3 (PSM). */
mote_status run_infill_ids(const mote_model *m, str prefix, str suffix, tok_ids *out, mote_error *err) {
    const tok_vocab *v;
    TRY(run_vocab(m, &v, err));
    if (tok_id(v, TOK_ROLE_FIM_PRE) == TOK_NONE || tok_id(v, TOK_ROLE_FIM_SUF) == TOK_NONE ||
        tok_id(v, TOK_ROLE_FIM_MID) == TOK_NONE)
        FAIL(err, MOTE_E_UNSUPPORTED,
             "the model has no fill-in-the-middle tokens; take one trained for it (a coder model)");
    TRY(put_part(v, TOK_ROLE_FIM_PRE, prefix, out, err));
    TRY(put_part(v, TOK_ROLE_FIM_SUF, suffix, out, err));
    TRY(put_part(v, TOK_ROLE_FIM_MID, (str){"", 0}, out, err));
    return run_put_bos(v, out, err);
}
