#include "session_props.h"

#include "run/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct bench {
    const props_opts *o;
    const char *path;
    mote_engine *e;
    mote_model *m;
    size_t n, vocab;
    int32_t *ids;
    float *ref; /* [n, vocab] */
    float *got; /* [n, vocab] */
    rng r;
} bench;

static size_t below(bench *b, size_t n) { return rng_below(&b->r, (uint32_t)n); }

static mote_status same(const bench *b, const float *row, size_t pos, const char *how, mote_error *err) {
    if (!row) FAIL(err, MOTE_E_MISMATCH, "%s: no logits after token %zu", how, pos);
    if (memcmp(row, b->ref + pos * b->vocab, b->vocab * sizeof *row) == 0) return MOTE_OK;
    size_t i = 0;
    while (row[i] == b->ref[pos * b->vocab + i]) i++;
    FAIL(err, MOTE_E_MISMATCH, "%s: the logits after token %zu differ: token %zu has %.9g, expected %.9g",
         how, pos, i, (double)row[i], (double)b->ref[pos * b->vocab + i]);
}

static mote_status open_session(const bench *b, mote_model *m, size_t n_seq, size_t n_batch, size_t every,
                                mote_session **s, mote_error *err) {
    mote_session_opts o = mote_session_opts_default();
    o.n_ctx = b->o->n_ctx;
    o.n_seq = n_seq;
    o.n_batch = n_batch;
    o.type_k = o.type_v = b->o->cache_type;
    o.exact = b->o->exact;
    o.checkpoint_every = every;
    return mote_session_open(s, m, &o, err);
}

/* The whole text in one session, cut at random; all rows compared (or, the first time, kept). */
static mote_status all_rows(bench *b, mote_model *m, size_t n_batch, bool cut, float *dst, mote_error *err) {
    mote_session *s = NULL;
    mote_status st;
    TRYG(st, open_session(b, m, 1, n_batch, 0, &s, err));
    for (size_t at = 0, k; at < b->n; at += k) {
        k = cut ? 1 + below(b, 20) : b->n;
        k = MIN(k, b->n - at);
        TRYG(st, mote_session_append_logits(s, 0, b->ids + at, k, dst + at * b->vocab, err));
    }
    if (dst == b->ref) goto out;
    for (size_t i = 0; i < b->n; i++)
        TRYG(st, same(b, dst + i * b->vocab, i, cut ? "random cuts" : "another pass", err));
out:
    mote_session_close(&s);
    return st;
}

static mote_status try_threads(bench *b, int n_threads, mote_error *err) {
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_engine_opts o = mote_engine_opts_default();
    o.n_threads = n_threads;
    mote_status st;
    TRYG(st, mote_engine_open(&e, &o, err));
    TRYG(st, mote_model_open(&m, e, b->path, NULL, err));
    st = all_rows(b, m, 64, false, b->got, err);
    if (st != MOTE_OK) (void)err_prefix(err, st, "%d threads", n_threads);
out:
    mote_model_close(&m);
    mote_engine_close(&e);
    return st;
}

/* Prompts that share a random part with the text, then the text again; truncations between. */
static mote_status try_reuse(bench *b, size_t every, mote_error *err) {
    mote_session *s = NULL;
    mote_status st;
    int32_t *other = MEM_NEW_N(int32_t, b->n);
    if (!other) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, open_session(b, b->m, 2, 32, every, &s, err));
    for (int round = 0; round < (b->o->quick ? 3 : 8); round++) {
        size_t shared = below(b, b->n), n = shared + 1 + below(b, b->n - shared), reused;
        for (size_t i = 0; i < n; i++) other[i] = i < shared ? b->ids[i] : (int32_t)below(b, b->vocab);
        TRYG(st, mote_session_prompt(s, round % 2, other, n, NULL, err));
        size_t len = 1 + below(b, b->n);
        TRYG(st, mote_session_prompt(s, 0, b->ids, len, &reused, err));
        TRYG(st, same(b, mote_session_logits(s, 0), len - 1, "prompt after another", err));
        size_t lcp = MIN(shared, len - 1);
        if (round % 2 == 0 && !b->m->info->recurrent && !b->m->info->windowed && reused < lcp)
            FAILG(st, err, MOTE_E_MISMATCH, "only %zu of %zu shared tokens were reused", reused, lcp);
        if (round % 2 == 0 && every && reused + every < lcp)
            FAILG(st, err, MOTE_E_MISMATCH,
                  "only %zu of %zu shared tokens were reused, with checkpoints every %zu", reused, lcp,
                  every);
        TRYG(st, mote_session_truncate(s, 0, below(b, len) + 1, err));
        size_t at = mote_session_length(s, 0);
        if (at == b->n) continue;
        TRYG(st, mote_session_append(s, 0, b->ids + at, 1, err));
        TRYG(st, same(b, mote_session_logits(s, 0), at, "append after truncation", err));
    }
    /* The same prompt again costs nothing, or the last token at most. */
    size_t reused;
    TRYG(st, mote_session_prompt(s, 0, b->ids, b->n, NULL, err));
    TRYG(st, mote_session_prompt(s, 0, b->ids, b->n, &reused, err));
    TRYG(st, same(b, mote_session_logits(s, 0), b->n - 1, "the same prompt again", err));
    if (reused + 1 < b->n)
        FAILG(st, err, MOTE_E_MISMATCH, "the same prompt again reused %zu of %zu", reused, b->n);
    /* Regenerating: some tokens more, then the prompt again. */
    TRYG(st, mote_session_append(s, 0, other, 1, err));
    TRYG(st, mote_session_append(s, 0, other, 1, err));
    TRYG(st, mote_session_prompt(s, 0, b->ids, b->n, &reused, err));
    TRYG(st, same(b, mote_session_logits(s, 0), b->n - 1, "regeneration", err));
    if (every && reused + 1 < b->n)
        FAILG(st, err, MOTE_E_MISMATCH, "regeneration reused %zu of %zu", reused, b->n);
out:
    mote_session_close(&s);
    mem_free(other);
    return st;
}

/* Several sequences at once, each somewhere else in the text. */
static mote_status try_batches(bench *b, mote_error *err) {
    enum { SEQS = 4 };
    mote_session *s = NULL;
    mote_status st;
    TRYG(st, open_session(b, b->m, SEQS, 24, 0, &s, err));
    for (int round = 0; round < (b->o->quick ? 4 : 12); round++) {
        run_feed f[SEQS];
        size_t n = 0;
        for (size_t q = 0; q < SEQS; q++) {
            size_t at = mote_session_length(s, q), k = 1 + below(b, round % 3 ? 3 : 30);
            k = MIN(k, b->n - at);
            if (k == 0 || (below(b, 4) == 0 && at)) continue;
            f[n++] = (run_feed){.seq = q, .ids = b->ids + at, .n = k};
        }
        TRYG(st, run_feed_all(s, f, n, err));
        for (size_t i = 0; i < n; i++)
            TRYG(st, same(b, mote_session_logits(s, f[i].seq), mote_session_length(s, f[i].seq) - 1,
                          "several sequences", err));
        if (round % 4 == 3) TRYG(st, mote_session_clear(s, below(b, SEQS), err));
    }
    for (size_t q = 0; q < SEQS; q++) TRYG(st, mote_session_clear(s, q, err));
    for (size_t i = 0; i < MIN(b->n, (size_t)12); i++) { /* lock step, as a server decodes */
        mote_step steps[SEQS];
        for (size_t q = 0; q < SEQS; q++) steps[q] = (mote_step){q, b->ids[i]};
        TRYG(st, mote_session_step(s, steps, SEQS, err));
        for (size_t q = 0; q < SEQS; q++)
            TRYG(st, same(b, mote_session_logits(s, q), i, "steps of several sequences", err));
    }
out:
    mote_session_close(&s);
    return st;
}

static mote_status try_copies_and_files(bench *b, mote_error *err) {
    mote_session *s = NULL, *t = NULL;
    mote_status st;
    char path[] = "/tmp/mote-seq-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) FAIL(err, MOTE_E_IO, "no temporary file");
    (void)close(fd);
    size_t half = b->n / 2;
    TRYG(st, open_session(b, b->m, 2, 32, 16, &s, err));
    TRYG(st, open_session(b, b->m, 1, 32, 16, &t, err));
    TRYG(st, mote_session_append(s, 0, b->ids, half, err));
    TRYG(st, mote_session_copy(s, 1, 0, err));
    /* The copy is not touched by what happens to the original. */
    TRYG(st, mote_session_append(s, 0, b->ids, 1, err));
    TRYG(st, mote_session_save(s, 1, path, err));
    TRYG(st, mote_session_append(s, 1, b->ids + half, b->n - half, err));
    TRYG(st, same(b, mote_session_logits(s, 1), b->n - 1, "a copied sequence", err));
    for (int twice = 0; twice < 2; twice++) { /* also over what is already there */
        TRYG(st, mote_session_load(t, 0, path, err));
        if (mote_session_length(t, 0) != half)
            FAILG(st, err, MOTE_E_MISMATCH, "a loaded sequence has another length");
        TRYG(st, mote_session_append(t, 0, b->ids + half, b->n - half, err));
        TRYG(st, same(b, mote_session_logits(t, 0), b->n - 1, "a loaded sequence", err));
    }
    TRYG(st, mote_session_truncate(t, 0, half / 2, err));
    TRYG(st, mote_session_append(t, 0, b->ids + half / 2, 1, err));
    TRYG(st, same(b, mote_session_logits(t, 0), half / 2, "a loaded sequence, cut", err));
out:
    (void)unlink(path);
    mote_session_close(&s);
    mote_session_close(&t);
    return st;
}

mote_status session_props(const char *path, const props_opts *o, mote_error *err) {
    bench b = {.o = o, .path = path, .n = o->n_ids};
    mote_engine_opts eo = mote_engine_opts_default();
    mote_status st;
    eo.n_threads = 1;
    rng_seed(&b.r, o->seed, 4);
    TRYG(st, mote_engine_open(&b.e, &eo, err));
    TRYG(st, mote_model_open(&b.m, b.e, path, NULL, err));
    b.vocab = mote_model_n_vocab(b.m);
    b.ids = MEM_NEW_N(int32_t, b.n);
    b.ref = MEM_NEW_N(float, b.n * b.vocab);
    b.got = MEM_NEW_N(float, b.n * b.vocab);
    if (!b.ids || !b.ref || !b.got) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < b.n; i++) b.ids[i] = (int32_t)below(&b, b.vocab);
    TRYG(st, all_rows(&b, b.m, 64, false, b.ref, err));
    TRYG(st, all_rows(&b, b.m, 64, true, b.got, err));
    TRYG(st, all_rows(&b, b.m, 7, false, b.got, err));
    TRYG(st, try_threads(&b, 2, err));
    if (!o->quick) TRYG(st, try_threads(&b, 3, err));
    TRYG(st, try_reuse(&b, 16, err));
    if (!o->quick) TRYG(st, try_reuse(&b, 0, err));
    TRYG(st, try_batches(&b, err));
    TRYG(st, try_copies_and_files(&b, err));
out:
    mem_free(b.ids);
    mem_free(b.ref);
    mem_free(b.got);
    mote_model_close(&b.m);
    mote_engine_close(&b.e);
    return st;
}
