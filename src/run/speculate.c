/* speculate.c: guesses computed behind the drawn token, handed out row by row, rolled back where they fail. */
#include "run/spec.h"

enum { PROMISE_MEMORY = 64 }; /* asks that a promise looks back on */

static double now_ns(void) { return (double)clock_ns(); }

/* ---- snapshots ---- */

mote_status spec_mark_open(spec_mark *m, const mote_session *s, mote_error *err) {
    *m = (spec_mark){.at = SIZE_MAX};
    if (!s->model->info->recurrent) return MOTE_OK; /* keys and values are cut off, also those of windows */
    m->bytes = state_checkpoint_bytes(s->st);
    m->mem = mem_alloc_aligned(m->bytes);
    if (!m->mem) FAIL(err, MOTE_E_MEMORY, "out of memory for a recurrent state of %zu bytes", m->bytes);
    return MOTE_OK;
}

void spec_mark_take(spec_mark *m, const mote_session *s, size_t seq) {
    if (!m->mem) return;
    run_settle(s, seq);
    state_checkpoint_save(s->st, seq, m->mem);
    m->at = s->seqs[seq].n;
}

void spec_mark_rewind(spec_mark *m, mote_session *s, size_t seq, size_t n) {
    run_seq *q = &s->seqs[seq];
    if (n >= q->n) return;
    run_forget_logits(q);
    if (state_seq_truncate(s->st, seq, n)) {
        q->n = n;
    } else if (m->mem && m->at <= n) {
        state_checkpoint_load(s->st, seq, m->mem, m->at);
        q->n = m->at;
    } else {
        ck_rewind(s, seq, n);
    }
    if (q->n < m->at) m->at = SIZE_MAX; /* other tokens may come there */
    ck_drop(s, seq, q->n);
}

/* ---- opening ---- */

static mote_status check_opts(const mote_session *s, const mote_spec_opts *o, mote_error *err) {
    if (s->n_vocab == 0) FAIL(err, MOTE_E_UNSUPPORTED, "speculation needs a model that computes logits");
    if (o->n_max < 1 || o->n_max > MOTE_SPEC_MAX)
        FAIL(err, MOTE_E_RANGE, "n_max is %zu; expected 1 to %d guesses", o->n_max, MOTE_SPEC_MAX);
    if (o->n_min > o->n_max)
        FAIL(err, MOTE_E_RANGE, "n_min is %zu, n_max %zu: no number of guesses fits", o->n_min, o->n_max);
    if (!(o->p_min >= 0 && o->p_min <= 1))
        FAIL(err, MOTE_E_RANGE, "p_min is %g; expected 0 to 1", (double)o->p_min);
    return MOTE_OK;
}

mote_status spec_open(mote_speculator **out, mote_session *s, const mote_spec_opts *o, mote_error *err) {
    *out = NULL;
    TRY(check_opts(s, o, err));
    mote_status st = MOTE_OK;
    mote_speculator *sp = MEM_NEW(mote_speculator);
    if (!sp) FAIL(err, MOTE_E_MEMORY, "out of memory for a speculator");
    sp->s = s;
    (void)atomic_fetch_add(&s->refs, 1);
    sp->o = *o;
    size_t floats;
    if (!ckd_mul_size(&floats, o->n_max + 1, s->n_vocab)) FAILG(st, err, MOTE_E_RANGE, "n_max is too large");
    sp->rows = MEM_NEW_N(float, floats);
    if (!sp->rows) FAILG(st, err, MOTE_E_MEMORY, "out of memory for the logits of %zu guesses", o->n_max);
    TRYG(st, spec_mark_open(&sp->mark, s, err));
    sp->mark_ns = (double)sp->mark.bytes / 8; /* until it is measured: 8 GB/s */
    if (o->ngram) {
        TRYG(st, ngram_proposer(&sp->by[sp->n_by], s, err));
        sp->n_by++;
    }
    if (o->draft) {
        TRYG(st, draft_proposer(&sp->by[sp->n_by], s, o, err));
        sp->n_by++;
    }
    if (o->medusa) {
        TRYG(st, medusa_proposer(&sp->by[sp->n_by], s, err));
        sp->n_by++;
    }
    if (o->exit) {
        TRYG(st, exit_proposer(&sp->by[sp->n_by], s, err));
        sp->n_by++;
    }
    *out = sp;
    return MOTE_OK;
out:
    spec_close(sp);
    return st;
}

void spec_close(mote_speculator *sp) {
    if (!sp) return;
    for (size_t i = 0; i < sp->n_by; i++) sp->by[i].close(&sp->by[i]);
    mem_free_aligned(sp->mark.mem);
    mem_free(sp->rows);
    run_session_release(sp->s);
    mem_free(sp);
}

void spec_stats(const mote_speculator *sp, mote_spec_stats *out) {
    *out = (mote_spec_stats){.size = sizeof *out,
                             .n_passes = (size_t)sp->cost.passes,
                             .n_speculative = sp->n_speculative,
                             .n_tokens = sp->n_tokens,
                             .plain_ms = sp->cost.t1 * 1e-6,
                             .spent_ms = sp->cost.spent * 1e-6,
                             .saved_ms = sp->cost.saved * 1e-6,
                             .guess_ms = sp->cost.wasted * 1e-6,
                             .memory_bytes = sizeof *sp + sp->mark.bytes +
                                             (sp->o.n_max + 1) * sp->s->n_vocab * sizeof(float)};
    for (size_t i = 0; i < sp->n_by; i++) {
        const proposer *p = &sp->by[i];
        out->memory_bytes += p->memory(p);
        size_t *const guessed[SPEC_KINDS] = {&out->n_ngram, &out->n_draft, &out->n_exit, &out->n_medusa};
        size_t *const accepted[SPEC_KINDS] = {&out->n_ngram_accepted, &out->n_draft_accepted, &out->n_exit_accepted, &out->n_medusa_accepted};
        *guessed[p->kind] += p->n_drafted;
        *accepted[p->kind] += p->n_accepted;
    }
}

/* ---- settling what was computed ---- */

/* The token that was drawn tells about the guess in its place, whether that was computed or not. Returns
 * whether it came true. */
static bool learn(mote_speculator *sp, int32_t id) {
    if (!sp->p_open) return false;
    bool hit = sp->p.ids[sp->at] == id;
    spec_odds_hear(&sp->who->odds, sp->p.level[sp->at], hit);
    sp->who->average += ((double)hit - sp->who->average) / 16;
    sp->at += hit;
    sp->p_open = hit && sp->at < sp->p.n;
    return hit;
}

/* What plain decoding takes is learnt from plain passes behind plain ones: a pass of many rows leaves the caches
 * and the head's screen to the next one as plain decoding would not, and answers for that. */
static void book_pass(mote_speculator *sp, size_t tokens) {
    spec_cost *c = &sp->cost;
    size_t rows = sp->rows_run;
    bool plain = rows == 1, measured = plain ? c->n_t1 > 2 : c->n[MIN(rows, (size_t)SPEC_ROWS)] > 2;
    double most = 2 * spec_cost_of(c, rows); /* one that another program has interrupted says little */
    double ns = (measured ? MIN(sp->pass_ns, most) : sp->pass_ns) + sp->save_ns;
    bool as_ever = plain && sp->rows_before <= 1;
    if (!plain || sp->rows_before == 1) spec_cost_pass(c, rows, sp->pass_ns);
    else c->passes++;
    if (as_ever || c->n_t1 <= 2) c->spent += ns;
    else spec_cost_book(c, tokens, ns);
    sp->rows_before = rows;
}

static void settle(mote_speculator *sp) {
    size_t accepted = MIN(sp->at, sp->n_run);
    sp->last_row = accepted;
    if (sp->n_run) {
        sp->who->n_drafted += sp->n_run;
        sp->who->n_accepted += accepted;
    }
    if (sp->rows_run) book_pass(sp, 1 + accepted);
    sp->rows_run = 0;
    sp->n_run = 0;
    if (sp->s->seqs[sp->seq].n <= sp->len) return;
    double begun = now_ns();
    spec_mark_rewind(&sp->mark, sp->s, sp->seq, sp->len);
    if (sp->mark.mem) spec_cost_waste(&sp->cost, now_ns() - begun);
}

static void forget(mote_speculator *sp) {
    sp->who = NULL;
    sp->p.n = sp->n_run = sp->at = 0;
    sp->p_open = false;
    sp->rows_run = sp->rows_before = 0;
    sp->mark.at = SIZE_MAX;
}

/* ---- guessing ---- */

/* A proposer that fails (a damaged draft model) is left out from then on: nothing depends on it. */
static void give_up(mote_speculator *sp, proposer *p, const mote_error *err) {
    p->broken = true;
    log_line(&sp->s->model->engine->log, LOG_WARN, "speculation: %s: %s; going on without", p->name, err->message);
}

static mote_status begin_all(mote_speculator *sp, mote_error *err) {
    const run_seq *q = &sp->s->seqs[sp->seq];
    mote_error why;
    for (size_t i = 0; i < sp->n_by; i++) {
        proposer *p = &sp->by[i];
        if (p->broken || p->begin(p, q->ids, sp->len, sp->sampler, &why) == MOTE_OK) continue;
        if (why.code == MOTE_E_MEMORY) {
            if (err) *err = why;
            return why.code;
        }
        give_up(sp, p, &why);
    }
    return MOTE_OK;
}

/* What follows a token that ends the answer is never wanted, nor is its row. */
static void cut_at_end(const mote_speculator *sp, proposal *p) {
    const tok_vocab *v = sp->s->model->vocab;
    for (size_t i = 0; v && i < p->n; i++)
        if (tok_is_eog(v, p->ids[i])) p->n = i;
}

static size_t n_worth(const mote_speculator *sp, const proposer *p, const proposal *a, size_t rows, double *speed) {
    size_t n = a->n;
    *speed = 1;
    if (sp->o.always) *speed = 1 + (double)n;
    else n = spec_cost_choose(&sp->cost, &p->odds, a, rows, 2 * sp->mark_ns, speed); /* saved and, mostly, restored */
    return n >= sp->o.n_min ? n : 0;
}

bool spec_goes_on(const mote_speculator *sp, const proposer *p, const proposal *so_far, size_t rows) {
    const spec_cost *c = &sp->cost;
    double chance = p->average;
    if (sp->o.always) return true;
    for (size_t i = 0; i < so_far->n; i++) chance *= (double)p->odds.p[so_far->level[i]];
    size_t n = rows + so_far->n;
    return chance * c->t1 > spec_cost_of(c, n + 1) - spec_cost_of(c, n) + p->token_ns;
}

/* Whether a proposer whose guesses take time should be asked: it is expected to beat `speed`, or is to be tried
 * again. */
static bool worth_asking(mote_speculator *sp, proposer *p, const spec_ask *a, double speed) {
    const spec_cost *c = &sp->cost;
    if (p->broken) return false;
    if (sp->o.always) return true;
    if (c->n_t1 <= 2) return false;
    double lag = p->lag_ns ? p->lag_ns(p, a->n) : 0, chance = 1, tokens = 1, best = 0;
    if (p->by_promise) best = speed * (1.03 + p->promise - p->token_ns / c->t1);
    else
    for (size_t n = 1; n <= MIN(a->max, p->n_most ? p->n_most : a->max); n++) {
        chance *= p->average;
        tokens += chance;
        double t = spec_cost_of(c, a->rows + n) + sp->mark_ns + (double)n * p->token_ns + lag;
        best = MAX(best, tokens * c->t1 / t);
    }
    if (best > speed * 1.03) return spec_cost_allows(c, 2 * p->token_ns + lag);
    if (speed > 1.5 || c->passes < p->probe_at) return false;
    p->probe_every = MIN(MAX(p->probe_every, (uint64_t)32) * 2, (uint64_t)4096);
    p->probe_at = c->passes + p->probe_every;
    return spec_cost_allows(c, 4 * p->token_ns + lag);
}

/* Fills sp->p and sp->n_run. */
static void guess(mote_speculator *sp, size_t max, size_t rows) {
    const run_seq *q = &sp->s->seqs[sp->seq];
    spec_ask a = {.ids = q->ids, .n = sp->len + 1, .max = max, .rows = rows, .sp = sp};
    proposal p;
    mote_error err;
    double best = 1, speed;
    for (size_t i = 0; i < sp->n_by; i++) {
        proposer *by = &sp->by[i];
        if (by->broken || (!by->free && !worth_asking(sp, by, &a, best))) continue;
        if (by->propose(by, &a, &p, &err) != MOTE_OK) {
            give_up(sp, by, &err);
            continue;
        }
        cut_at_end(sp, &p);
        if (p.n == 0) continue;
        size_t n = n_worth(sp, by, &p, rows, &speed);
        by->promise += ((n ? speed - 1 : 0) - by->promise) / PROMISE_MEMORY;
        if (sp->n_run && (n == 0 || speed <= best)) continue;
        sp->who = by;
        sp->p = p;
        sp->n_run = n;
        sp->at = 0;
        sp->p_open = true;
        best = MAX(best, speed);
    }
    if (sp->n_run && !sp->o.always && !spec_cost_allows(&sp->cost, 0)) sp->n_run = 0;
}

/* ---- passes ---- */

/* One pass: what is owed, the drawn token, the guesses. */
static mote_status run_pass(mote_speculator *sp, mote_error *err) {
    mote_session *s = sp->s;
    run_seq *q = &s->seqs[sp->seq];
    size_t owed = sp->len - q->n, rows = owed + 1 + sp->n_run;
    run_feed f = {.seq = sp->seq, .ids = q->ids + q->n, .n = rows};
    double begun = now_ns();
    if (sp->n_run == 0) f.query = sp->query;
    if (sp->n_run) {
        spec_mark_take(&sp->mark, s, sp->seq);
        if (sp->mark.mem) sp->mark_ns += (now_ns() - begun - sp->mark_ns) / 8;
        memcpy(q->ids + sp->len + 1, sp->p.ids, sp->n_run * sizeof *q->ids);
        f.all = sp->rows;
        f.all_from = owed;
        f.all_kept = true;
    }
    double marked = now_ns();
    TRY(run_feed_all(s, &f, 1, err));
    sp->pass_ns = now_ns() - marked;
    sp->save_ns = marked - begun;
    sp->rows_run = rows;
    sp->len++;
    if (!sp->n_run) return MOTE_OK;
    sp->n_speculative++;
    q->logits = sp->rows;
    return MOTE_OK;
}

/* Feeds what is owed, whoever has cancelled: the caches are to hold what was generated. */
static mote_status pay(mote_speculator *sp, mote_error *err) {
    mote_session *s = sp->s;
    run_seq *q = &s->seqs[sp->seq];
    while (q->n < sp->len) {
        model_seg seg = {sp->seq, q->n, MIN(s->n_batch, sp->len - q->n)};
        model_batch b = {.ids = q->ids + q->n, .n = seg.n, .segs = &seg, .n_segs = 1};
        TRY(run_forward(s, &b, err));
        q->n += seg.n;
    }
    return MOTE_OK;
}

/* A full context is shifted, as it is without speculation. */
static mote_status append_shifting(mote_speculator *sp, int32_t id, mote_error *err) {
    TRY(pay(sp, err));
    forget(sp);
    TRY(run_append(sp->s, sp->seq, &id, 1, err));
    sp->len = sp->s->seqs[sp->seq].n;
    if (sp->n_shifted == sp->s->n_shifted) return MOTE_OK;
    sp->n_shifted = sp->s->n_shifted;
    return begin_all(sp, err);
}

mote_status spec_advance(mote_speculator *sp, int32_t id, size_t left, const head_query *query, mote_error *err) {
    mote_session *s = sp->s;
    run_seq *q = &s->seqs[sp->seq];
    if (atomic_load(&s->cancel)) FAIL(err, MOTE_E_CANCELLED, "cancelled");
    bool hit = learn(sp, id);
    sp->n_tokens++;
    sp->query = query;
    if (hit && sp->at <= sp->n_run) { /* the row after it is at hand */
        sp->len++;
        q->logits = sp->rows + sp->at * s->n_vocab;
        return MOTE_OK;
    }
    settle(sp);
    if (sp->len == s->n_ctx) return append_shifting(sp, id, err);
    size_t rows = sp->len - q->n + 1, max = MIN(sp->o.n_max, s->n_ctx - sp->len - 1);
    max = MIN(max, left);
    max = MIN(max, s->n_batch > rows ? s->n_batch - rows : 0);
    max = MIN(max, SPEC_ROWS - MIN(rows, (size_t)SPEC_ROWS));
    q->ids[sp->len] = id;
    sp->p_open = false;
    double begun = now_ns();
    if (max) guess(sp, max, rows);
    spec_cost_waste(&sp->cost, now_ns() - begun);
    mote_status st = run_pass(sp, err);
    if (st == MOTE_E_OUTPUT && sp->n_run) { /* it may be the fault of a token that is never drawn */
        spec_mark_rewind(&sp->mark, s, sp->seq, sp->len);
        sp->n_run = 0;
        st = run_pass(sp, err);
    }
    return st;
}

mote_status spec_begin(mote_speculator *sp, mote_session *s, size_t seq, const mote_sampler *sampler,
                       mote_error *err) {
    if (sp->s != s) FAIL(err, MOTE_E_MISMATCH, "the speculator was opened for another session");
    sp->seq = seq;
    sp->len = s->seqs[seq].n;
    sp->n_shifted = s->n_shifted;
    sp->sampler = sampler;
    forget(sp);
    return begin_all(sp, err);
}

void spec_end(mote_speculator *sp) {
    mote_session *s = sp->s;
    run_seq *q = &s->seqs[sp->seq];
    const float *last = q->logits;
    size_t n_vocab = s->n_vocab;
    settle(sp);
    bool whole = pay(sp, NULL) == MOTE_OK;
    /* The rows are the speculator's and may be gone before the session is asked for logits. */
    if (last >= sp->rows && last < sp->rows + (sp->o.n_max + 1) * n_vocab) last = memcpy(s->logits, last, n_vocab * sizeof *last);
    if (last || !whole) run_forget_logits(q);
    if (whole && last) q->logits = last;
    for (size_t i = 0; i < sp->n_by; i++)
        if (sp->by[i].end) sp->by[i].end(&sp->by[i]);
    forget(sp);
    sp->sampler = NULL;
}
