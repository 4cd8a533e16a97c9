/* session.c: sequences, and the passes that feed them. */
#include "run/run.h"

#include <stdio.h>

/* ---- opening ---- */

static mote_status cache_type(const char *name, const char *which, quant_type *type, mote_error *err) {
    static const struct {
        const char *name;
        quant_type type;
    } types[] = {{"f32", QUANT_F32},
                 {"f16", QUANT_F16},
                 {"bf16", QUANT_BF16},
                 {"q8_0", QUANT_Q8_0},
                 {"q4_0", QUANT_Q4_0}};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        *type = types[i].type;
        return MOTE_OK;
    }
    FAIL(err, MOTE_E_USAGE, "%s: unknown cache type '%s'; expected f32, f16, bf16, q8_0 or q4_0", which,
         name);
}

static mote_status resolve_sizes(mote_session *s, mote_error *err) {
    const mote_session_opts *o = &s->o;
    size_t trained = s->model->n_ctx_train;
    s->n_ctx = o->n_ctx ? o->n_ctx : MIN(trained ? trained : MOTE_CTX_DEFAULT, (size_t)MOTE_CTX_DEFAULT);
    s->n_seq = o->n_seq;
    s->n_vocab = s->model->info->causal ? s->model->info->n_vocab : 0;
    size_t all;
    if (s->n_ctx > (size_t)1 << 30 || s->n_seq == 0 || s->n_seq > 65536 ||
        !ckd_mul_size(&all, s->n_ctx, s->n_seq))
        FAIL(err, MOTE_E_RANGE, "%zu sequences of %zu positions; expected 1 to 65536 of at most 2^30",
             s->n_seq, s->n_ctx);
    if (o->n_batch == 0) FAIL(err, MOTE_E_RANGE, "n_batch is 0; expected the most tokens of one pass");
    s->n_batch = MAX(MIN(o->n_batch, all), s->n_seq);
    if (s->n_batch > (size_t)1 << 20)
        FAIL(err, MOTE_E_RANGE, "n_batch is %zu; expected at most 2^20", s->n_batch);
    if (o->n_ctx > trained && trained)
        log_line(&s->model->engine->log, LOG_WARN,
                 "a context of %zu is more than the %zu the model was trained with", o->n_ctx, trained);
    return MOTE_OK;
}

static mote_status open_buffers(mote_session *s, mote_error *err) {
    size_t ids, floats;
    if (!ckd_mul_size(&ids, s->n_seq, s->n_ctx) || !ckd_mul_size(&floats, s->n_seq, s->n_vocab))
        FAIL(err, MOTE_E_RANGE, "the session is too large");
    s->seqs = MEM_NEW_N(run_seq, s->n_seq);
    s->segs = MEM_NEW_N(model_seg, s->n_seq);
    s->fed = MEM_NEW_N(size_t, s->n_seq);
    s->feeds = MEM_NEW_N(run_feed, s->n_seq);
    s->id_mem = MEM_NEW_N(int32_t, ids);
    s->logits = MEM_NEW_N(float, floats);
    s->hidden = MEM_NEW_N(float, s->n_seq * s->model->info->n_embd_out);
    s->found = MEM_NEW(head_found);
    s->found_of = SIZE_MAX;
    s->want = MEM_NEW_N(int32_t, s->n_batch);
    s->batch_ids = MEM_NEW_N(int32_t, s->n_batch);
    if (!s->seqs || !s->segs || !s->fed || !s->feeds || !s->id_mem || !s->logits || !s->hidden ||
        !s->found || !s->want || !s->batch_ids)
        FAIL(err, MOTE_E_MEMORY, "out of memory for the history of %zu sequences of %zu tokens", s->n_seq,
             s->n_ctx);
    for (size_t i = 0; i < s->n_seq; i++) s->seqs[i].ids = s->id_mem + i * s->n_ctx;
    return MOTE_OK;
}

mote_status run_session_open(mote_session **out, mote_model *m, const mote_session_opts *o, mote_error *err) {
    *out = NULL;
    mote_status st = MOTE_OK;
    if (!m->m) FAIL(err, MOTE_E_USAGE, "the model was opened without its weights; a session needs them");
    mote_session *s = MEM_NEW(mote_session);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory for a session");
    atomic_init(&s->refs, 1);
    atomic_init(&s->cancel, 0);
    s->model = m;
    (void)atomic_fetch_add(&m->refs, 1);
    s->o = *o;
    state_opts so = {.exact = o->exact, .exits = !(o->exit_threshold > 1), .exit_threshold = o->exit_threshold};
    TRYG(st, resolve_sizes(s, err));
    TRYG(st, cache_type(o->type_k ? o->type_k : "f16", "type_k", &so.k_type, err));
    TRYG(st, cache_type(o->type_v ? o->type_v : "f16", "type_v", &so.v_type, err));
    s->o.type_k = quant_get((int)so.k_type)->name;
    s->o.type_v = quant_get((int)so.v_type)->name;
    so.n_ctx = s->n_ctx;
    so.n_seq = s->n_seq;
    so.n_batch = s->n_batch;
    TRYG(st, open_buffers(s, err));
    TRYG(st, state_open(&s->st, m->m, &so, m->engine->pool, err));
    TRYG(st, ck_open(s, err));
    *out = s;
    return MOTE_OK;
out:
    run_session_release(s);
    return st;
}

void run_session_release(mote_session *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    run_profile_stop(s);
    state_close(&s->st);
    void *parts[] = {s->seqs,   s->segs, s->fed,       s->feeds, s->id_mem,
                     s->logits, s->want, s->batch_ids, s->ck,    s->ck_data, s->hidden, s->found};
    for (size_t i = 0; i < COUNT_OF(parts); i++) mem_free(parts[i]);
    run_model_release(s->model);
    mem_free(s);
}

/* ---- what it takes ---- */

void run_session_info(const mote_session *s, mote_session_info *out) {
    state_sizes z = state_get_sizes(s->st);
    *out = (mote_session_info){.size = sizeof *out,
                               .n_ctx = s->n_ctx,
                               .n_seq = s->n_seq,
                               .n_batch = s->n_batch,
                               .n_vocab = s->n_vocab,
                               .kv_bytes = z.kv_bytes,
                               .recurrent_bytes = z.recurrent_bytes,
                               .compute_bytes = z.compute_bytes,
                               .n_checkpoints = s->n_ck,
                               .checkpoint_every = s->ck_every,
                               .checkpoint_bytes = s->n_ck * (s->ck_bytes + sizeof *s->ck),
                               .n_threads = pool_size(s->model->engine->pool)};
    out->output_bytes = s->n_seq * ((s->n_vocab + s->model->info->n_embd_out) * sizeof(float) + s->n_ctx * sizeof(int32_t) +
                                    sizeof(run_seq) + sizeof(model_seg) + sizeof(run_feed) + sizeof(size_t)) +
                        2 * s->n_batch * sizeof(int32_t);
    out->total_bytes = z.total_bytes + out->checkpoint_bytes + out->output_bytes;
    out->weight_bytes = s->model->info->resident_bytes;
}

void run_exit_stats(const mote_session *s, mote_exit_stats *out) {
    const model_exit_stats x = state_exit_stats(s->st);
    const model *m = s->model->m;
    *out = (mote_exit_stats){.size = sizeof *out, .n_tokens = (size_t)x.n_tokens, .n_layer = s->model->info->n_layer,
                             .n_exits = MIN(model_n_exits(m), (size_t)MOTE_EXITS_MAX)};
    out->layers = x.n_tokens ? (double)x.n_layers / (double)x.n_tokens : 0;
    for (size_t i = 0; i < out->n_exits; i++) {
        out->layer[i] = model_get_exit(m, i).layer;
        out->n_left[i] = x.exits ? (size_t)x.exits[i] : 0;
    }
}

size_t run_session_describe(const mote_session *s, char *dst, size_t cap) {
    mote_session_info i;
    run_session_info(s, &i);
    const double mb = 1e-6;
    int n = snprintf(dst, cap,
                     "context %zu x %zu, batch %zu, %d threads, %s\n"
                     "KV cache %.1f MB (K %s, V %s), recurrent state %.1f MB, compute %.1f MB\n"
                     "checkpoints %zu (up to %.1f MB), outputs %.1f MB\n"
                     "session %.1f MB, weights %.1f MB",
                     i.n_ctx, i.n_seq, i.n_batch, i.n_threads, s->model->info->rung, (double)i.kv_bytes * mb,
                     s->o.type_k, s->o.type_v, (double)i.recurrent_bytes * mb, (double)i.compute_bytes * mb,
                     i.n_checkpoints, (double)i.checkpoint_bytes * mb, (double)i.output_bytes * mb,
                     (double)i.total_bytes * mb, (double)i.weight_bytes * mb);
    return n < 0 ? 0 : MIN((size_t)n, cap - 1);
}

/* ---- checks ---- */

mote_status run_check_seq(const mote_session *s, size_t seq, mote_error *err) {
    if (seq >= s->n_seq)
        FAIL(err, MOTE_E_RANGE, "sequence %zu does not exist; the session has %zu, numbered from 0", seq,
             s->n_seq);
    return MOTE_OK;
}

mote_status run_check_ids(const mote_session *s, const int32_t *ids, size_t n, mote_error *err) {
    size_t n_vocab = s->model->info->n_vocab;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= n_vocab)
            FAIL(err, MOTE_E_RANGE, "token %zu has id %d, outside the vocabulary of %zu", i, (int)ids[i],
                 n_vocab);
    return MOTE_OK;
}

/* 1: NaN or infinite; -inf forbids a token, and is fine. */
static inline uint32_t bad_logit(const float *x) {
    const uint32_t inf = 0x7f800000u;
    uint32_t bits;
    memcpy(&bits, x, sizeof bits);
    return (uint32_t)((bits & inf) == inf) & (uint32_t)(bits != (inf | 1u << 31));
}

mote_status run_check_logits(const mote_session *s, const float *rows, size_t n, mote_error *err) {
    enum { LANES = 16 }; /* of constant number, without a branch: compilers make vectors of them */
    const size_t all = n * s->n_vocab, whole = all / LANES * LANES;
    uint32_t bad[LANES] = {0};
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t k = 0; k < LANES; k++) bad[k] |= bad_logit(&rows[i + k]);
    for (size_t i = whole; i < all; i++) bad[0] |= bad_logit(&rows[i]);
    for (size_t k = 1; k < LANES; k++) bad[0] |= bad[k];
    if (!bad[0]) return MOTE_OK;
    FAIL(err, MOTE_E_OUTPUT, "the model computed NaN or infinite logits; the model or its file is damaged");
}

static mote_status context_full(const mote_session *s, size_t need, mote_error *err) {
    FAIL(err, MOTE_E_CONTEXT,
         "%zu tokens do not fit the context of %zu; open the session with a larger one (-c)", need, s->n_ctx);
}

/* ---- passes ---- */

/* Who has not said how many threads there should be gets what is fastest for one token at a time and for many. */
enum { MANY_TOKENS = 64 };

static mote_status forward_tuned(mote_session *s, const model_batch *b, mote_error *err) {
    mote_model *m = s->model;
    pool *threads = m->engine->pool;
    run_tuner *t = b->n >= MANY_TOKENS ? &m->prefill : &m->decoding;
    t->n_max = pool_size(threads);
    bool comparable = model_is_warm(m->m) && !s->o.exact && (b->n >= MANY_TOKENS || b->n == b->n_segs);
    pool_limit(threads, comparable || t->settled ? run_tuner_threads(t) : t->n_max);
    uint64_t t0 = clock_ns();
    mote_status st = model_forward(s->st, b, err);
    double ns = (double)(clock_ns() - t0) / (double)b->n;
    pool_limit(threads, t->n_max);
    if (st == MOTE_OK && comparable && run_tuner_took(t, ns))
        log_line(&m->engine->log, LOG_INFO, "%s on %d of %d threads: %.3f ms a token", t == &m->prefill ? "prefill" : "decoding",
                 t->best, t->n_max, t->best_ns * 1e-6);
    return st;
}

mote_status run_forward(mote_session *s, const model_batch *b, mote_error *err) {
    mote_engine *e = s->model->engine;
    (void)pthread_mutex_lock(&e->lock);
    mote_status st = e->tune && pool_size(e->pool) > 1 ? forward_tuned(s, b, err) : model_forward(s->st, b, err);
    (void)pthread_mutex_unlock(&e->lock);
    return st;
}

void run_settle(const mote_session *s, size_t seq) {
    (void)pthread_mutex_lock(&s->model->engine->lock);
    model_settle(s->st, seq);
    (void)pthread_mutex_unlock(&s->model->engine->lock);
}

bool run_guess_ahead(mote_session *s, size_t row, size_t k, int32_t id, model_guessed *out) {
    mote_engine *e = s->model->engine;
    (void)pthread_mutex_lock(&e->lock);
    bool guessed = model_guess_ahead(s->st, row, k, id, out);
    (void)pthread_mutex_unlock(&e->lock);
    return guessed;
}

mote_status run_draft(mote_session *s, size_t seq, size_t exit, int32_t id, model_guessed *out, mote_error *err) {
    mote_engine *e = s->model->engine;
    (void)pthread_mutex_lock(&e->lock);
    mote_status st = model_draft(s->st, seq, exit, id, out, err);
    (void)pthread_mutex_unlock(&e->lock);
    return st;
}

/* The next pass: from each feed as many tokens as there is room, up to its next checkpoint. */
typedef struct pass {
    size_t n, n_segs, n_want;
} pass;

static size_t tokens_of_feed(const mote_session *s, const run_feed *f, size_t fed, size_t room) {
    const run_seq *q = &s->seqs[f->seq];
    size_t n = MIN(f->n - fed, room);
    n = MIN(n, ck_next(s, q->n) - q->n);
    if (s->n_ck && f->mark > q->n) n = MIN(n, f->mark - q->n);
    return MIN(n, s->n_ctx - q->n);
}

static void build_pass(mote_session *s, const run_feed *feeds, size_t n_feeds, pass *p) {
    for (size_t i = 0; i < n_feeds && p->n < s->n_batch; i++) {
        const run_feed *f = &feeds[i];
        size_t take = tokens_of_feed(s, f, s->fed[i], s->n_batch - p->n);
        if (take == 0) continue;
        memcpy(s->batch_ids + p->n, f->ids + s->fed[i], take * sizeof *f->ids);
        s->segs[p->n_segs++] = (model_seg){f->seq, s->seqs[f->seq].n, take};
        bool last = s->fed[i] + take == f->n;
        for (size_t t = 0; t < take; t++)
            if (f->all ? s->fed[i] + t >= f->all_from : last && t == take - 1 && !f->no_logits)
                s->want[p->n_want++] = (int32_t)(p->n + t);
        p->n += take;
    }
}

/* Books a pass that has been computed. rows: its logits. */
static void book_pass(mote_session *s, const run_feed *feeds, const pass *p, const float *rows) {
    size_t i = 0, row = 0;
    for (size_t seg = 0; seg < p->n_segs; seg++, i++) {
        while (feeds[i].seq != s->segs[seg].seq) i++; /* segments come in the order of feeds */
        const run_feed *f = &feeds[i];
        run_seq *q = &s->seqs[f->seq];
        size_t take = s->segs[seg].n;
        memmove(q->ids + q->n, f->ids + s->fed[i], take * sizeof *f->ids);
        q->n += take;
        s->fed[i] += take;
        bool done = s->fed[i] == f->n;
        run_forget_logits(q);
        if (s->found_of == f->seq) q->hidden = s->hidden + f->seq * s->model->info->n_embd_out;
        else if (!f->all && done && !f->no_logits) q->logits = rows + row++ * s->n_vocab;
        if (s->n_ck && (q->n % s->ck_every == 0 || q->n == f->mark)) ck_take(s, f->seq);
    }
}

/* Makes room in a full sequence: keeps the first tokens, drops half of the rest. */
static mote_status shift(mote_session *s, size_t seq, mote_error *err) {
    run_seq *q = &s->seqs[seq];
    size_t keep = MIN(s->o.n_keep == SIZE_MAX ? q->n_keep : s->o.n_keep, s->n_ctx / 2);
    size_t drop = MAX((q->n - keep) / 2, 1), left = q->n - drop;
    memmove(q->ids + keep, q->ids + keep + drop, (q->n - keep - drop) * sizeof *q->ids);
    run_forget_logits(q);
    s->n_shifted += drop;
    run_settle(s, seq);
    if (s->model->info->can_shift && state_seq_shift(s->st, seq, keep, drop, NULL) == MOTE_OK) {
        ck_drop(s, seq, keep);
        q->n = left;
        return MOTE_OK;
    }
    /* The caches cannot be moved: compute what stays again. */
    state_seq_clear(s->st, seq);
    ck_drop(s, seq, 0);
    q->n = 0;
    while (q->n < left) {
        model_seg seg = {seq, q->n, MIN(s->n_batch, left - q->n)};
        model_batch b = {.ids = q->ids + q->n, .n = seg.n, .segs = &seg, .n_segs = 1};
        TRY(run_forward(s, &b, err));
        q->n += seg.n;
    }
    return MOTE_OK;
}

static mote_status make_room(mote_session *s, const run_feed *feeds, size_t n, mote_error *err) {
    for (size_t i = 0; i < n; i++) {
        const run_seq *q = &s->seqs[feeds[i].seq];
        if (s->fed[i] == feeds[i].n || q->n < s->n_ctx) continue;
        if (!s->o.context_shift) return context_full(s, q->n + feeds[i].n - s->fed[i], err);
        TRY(shift(s, feeds[i].seq, err));
    }
    return MOTE_OK;
}

static mote_status check_feeds(const mote_session *s, const run_feed *feeds, size_t n, mote_error *err) {
    if (n > s->n_seq) FAIL(err, MOTE_E_USAGE, "%zu feeds for %zu sequences", n, s->n_seq);
    if (s->n_vocab == 0)
        FAIL(err, MOTE_E_UNSUPPORTED, "this model is an encoder: it makes embeddings, not text");
    for (size_t i = 0; i < n; i++) {
        TRY(run_check_seq(s, feeds[i].seq, err));
        for (size_t j = 0; j < i; j++)
            if (feeds[j].seq == feeds[i].seq)
                FAIL(err, MOTE_E_USAGE, "sequence %zu occurs twice in one call", feeds[i].seq);
        TRY(run_check_ids(s, feeds[i].ids, feeds[i].n, err));
        size_t need;
        if (!ckd_add_size(&need, s->seqs[feeds[i].seq].n, feeds[i].n)) need = SIZE_MAX;
        if (need > s->n_ctx && !s->o.context_shift) return context_full(s, need, err);
    }
    return MOTE_OK;
}

mote_status run_feed_all(mote_session *s, const run_feed *feeds, size_t n, mote_error *err) {
    TRY(check_feeds(s, feeds, n, err));
    size_t total = 0, done = 0, rows = 0;
    bool all = n == 1 && feeds[0].all;
    for (size_t i = 0; i < s->n_seq; i++) run_forget_logits(&s->seqs[i]); /* their rows are about to be used again */
    s->found_of = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        total += feeds[i].n;
        s->fed[i] = 0;
        if (feeds[i].all && !all) FAIL(err, MOTE_E_USAGE, "logits of all tokens: one sequence at a time");
    }
    while (done < total) {
        if (atomic_load(&s->cancel) || (s->on_progress && s->on_progress(s->progress_ctx, done, total)))
            FAIL(err, MOTE_E_CANCELLED, "cancelled after %zu of %zu tokens", done, total);
        TRY(make_room(s, feeds, n, err));
        pass p = {0};
        build_pass(s, feeds, n, &p);
        float *dst = (all ? feeds[0].all : s->logits) + rows * s->n_vocab;
        model_batch b = {.ids = s->batch_ids, .n = p.n, .segs = s->segs, .n_segs = p.n_segs, .want = s->want,
                         .n_want = p.n_want, .logits = p.n_want ? dst : NULL};
        bool query = n == 1 && feeds[0].query && p.n_want == 1 && !all;
        if (query) {
            b.query = feeds[0].query;
            b.found = s->found;
            b.hidden = s->hidden + feeds[0].seq * s->model->info->n_embd_out;
        }
        TRY(run_forward(s, &b, err));
        if (query && s->found->ok) s->found_of = feeds[0].seq;
        book_pass(s, feeds, &p, dst);
        done += p.n;
        rows += p.n_want;
        mote_status st = s->found_of == SIZE_MAX ? run_check_logits(s, dst, p.n_want, err) : MOTE_OK;
        if (st != MOTE_OK) {
            for (size_t i = 0; i < n; i++) run_forget_logits(&s->seqs[feeds[i].seq]);
            return st;
        }
    }
    if (all && rows) {
        const float *last = feeds[0].all + (rows - 1) * s->n_vocab;
        if (!feeds[0].all_kept) last = memcpy(s->logits, last, s->n_vocab * sizeof(float));
        s->seqs[feeds[0].seq].logits = last;
    }
    return MOTE_OK;
}

/* ---- sequences ---- */

mote_status run_append(mote_session *s, size_t seq, const int32_t *ids, size_t n, mote_error *err) {
    if (n == 0) return run_check_seq(s, seq, err);
    run_feed f = {.seq = seq, .ids = ids, .n = n};
    return run_feed_all(s, &f, 1, err);
}

mote_status run_step_all(mote_session *s, const mote_step *steps, size_t n, mote_error *err) {
    if (n > s->n_seq) FAIL(err, MOTE_E_USAGE, "%zu steps for %zu sequences", n, s->n_seq);
    for (size_t i = 0; i < n; i++) s->feeds[i] = (run_feed){.seq = steps[i].seq, .ids = &steps[i].id, .n = 1};
    return run_feed_all(s, s->feeds, n, err);
}

void run_clear(mote_session *s, size_t seq) {
    state_seq_clear(s->st, seq);
    s->seqs[seq].n = 0;
    run_forget_logits(&s->seqs[seq]);
    ck_drop(s, seq, 0);
}

const float *run_logits(const mote_session *s, size_t seq) {
    run_seq *q = &s->seqs[seq];
    if (q->logits || !q->hidden) return q->logits;
    float *row = s->logits + seq * s->n_vocab;
    (void)pthread_mutex_lock(&s->model->engine->lock);
    model_logits(s->st, q->hidden, 1, row);
    (void)pthread_mutex_unlock(&s->model->engine->lock);
    return q->logits = row;
}

void run_copy(mote_session *s, size_t dst, size_t src) {
    if (dst == src) return;
    state_seq_copy(s->st, dst, src);
    ck_drop(s, dst, 0);
    run_seq *d = &s->seqs[dst], *q = &s->seqs[src];
    memcpy(d->ids, q->ids, q->n * sizeof *q->ids);
    d->n = q->n;
    d->n_keep = q->n_keep;
    d->logits = q->logits;
    d->hidden = NULL;
    if (q->hidden) {
        size_t n = s->model->info->n_embd_out;
        d->hidden = memcpy(s->hidden + dst * n, q->hidden, n * sizeof(float));
    }
    ck_copy(s, dst, src);
}

mote_status run_truncate(mote_session *s, size_t seq, size_t n, mote_error *err) {
    TRY(run_check_seq(s, seq, err));
    run_seq *q = &s->seqs[seq];
    if (n >= q->n) return MOTE_OK;
    ck_rewind(s, seq, n);
    if (q->n == n) return MOTE_OK;
    run_feed f = {.seq = seq, .ids = q->ids + q->n, .n = n - q->n, .no_logits = true};
    return run_feed_all(s, &f, 1, err);
}

static size_t common_prefix(const run_seq *q, const int32_t *ids, size_t n) {
    size_t i = 0;
    n = MIN(n, q->n);
    while (i < n && q->ids[i] == ids[i]) i++;
    return i;
}

/* A copy of another sequence is worth its while from here on. */
#define COPY_FROM_TOKENS 32

/* Leaves in sequence seq as much of ids as is already computed somewhere, less than n of them. */
static void reuse_prefix(mote_session *s, size_t seq, const int32_t *ids, size_t n) {
    size_t mine = common_prefix(&s->seqs[seq], ids, n), best = mine, from = seq;
    for (size_t i = 0; i < s->n_seq; i++) {
        size_t len = i == seq ? 0 : common_prefix(&s->seqs[i], ids, n);
        if (len < mine + COPY_FROM_TOKENS || len <= best) continue;
        best = len;
        from = i;
    }
    if (from != seq) run_copy(s, seq, from);
    ck_rewind(s, seq, MIN(best, n - 1));
}

mote_status run_prompt(mote_session *s, size_t seq, const int32_t *ids, size_t n, size_t *n_reused,
                       mote_error *err) {
    if (n_reused) *n_reused = 0;
    TRY(run_check_seq(s, seq, err));
    if (n == 0) FAIL(err, MOTE_E_USAGE, "the prompt is empty: there is nothing to continue");
    TRY(run_check_ids(s, ids, n, err));
    if (n > s->n_ctx) return context_full(s, n, err);
    run_seq *q = &s->seqs[seq];
    q->n_keep = n;
    if (q->n == n && (q->logits || q->hidden) && common_prefix(q, ids, n) == n) {
        if (n_reused) *n_reused = n;
        return MOTE_OK;
    }
    reuse_prefix(s, seq, ids, n);
    if (n_reused) *n_reused = q->n;
    run_feed f = {.seq = seq, .ids = ids + q->n, .n = n - q->n, .mark = n - 1};
    return run_feed_all(s, &f, 1, err);
}
