/* embed.c: texts to vectors: tokenized, cut to what the model can take, packed into passes by length, pooled,
 * normalised. Every sequence of the session is used, so that short texts share a pass over the weights. */
#include "run/run.h"

#include <math.h>
#include <stdlib.h>

typedef struct text_ids {
    int32_t *ids; /* into job.all */
    size_t n, index;
} text_ids;

typedef struct job {
    mote_session *s;
    pooling pool;
    bool normalize;
    tok_ids all;
    text_ids *texts; /* shortest first */
    float *rows;     /* [n_batch, n_embd]: hidden states of a pass */
    float *dst;
    size_t n_embd;
} job;

static int by_length(const void *a, const void *b) {
    const text_ids *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Cuts ids to at most max, keeping what the tokenizer puts behind a text ([SEP]). */
static size_t cut(const tok_vocab *v, int32_t *ids, size_t n, size_t max) {
    if (n <= max) return n;
    if (tok_adds_eos(v)) ids[max - 1] = ids[n - 1];
    return max;
}

static mote_status tokenize_all(job *j, const char *const *texts, const size_t *n_bytes, size_t n,
                                const mote_embed_opts *o, size_t max, mote_error *err) {
    const tok_vocab *v;
    TRY(run_vocab(j->s->model, &v, err));
    for (size_t i = 0; i < n; i++) {
        size_t from = j->all.n;
        TRY(tok_encode(v, (str){texts[i], n_bytes[i]}, TOK_BOS, &j->all, err));
        size_t len = j->all.n - from;
        if (len == 0) FAIL(err, MOTE_E_USAGE, "text %zu has no tokens", i);
        if (len > max && o->no_truncate)
            FAIL(err, MOTE_E_CONTEXT, "text %zu has %zu tokens; the model takes at most %zu", i, len, max);
        len = cut(v, j->all.p + from, len, max);
        j->all.n = from + len;
        j->texts[i] = (text_ids){NULL, len, i};
    }
    size_t at = 0; /* only now does the array no longer move */
    for (size_t i = 0; i < n; i++) {
        j->texts[i].ids = j->all.p + at;
        at += j->texts[i].n;
    }
    qsort(j->texts, n, sizeof *j->texts, by_length);
    return MOTE_OK;
}

/* One vector from a text's rows. */
static void pool_rows(const job *j, const float *rows, size_t n, float *dst) {
    size_t d = j->n_embd;
    if (j->pool == POOL_CLS || j->pool == POOL_LAST) {
        memcpy(dst, j->pool == POOL_CLS ? rows : rows + (n - 1) * d, d * sizeof *dst);
    } else {
        for (size_t i = 0; i < d; i++) {
            double sum = 0;
            for (size_t t = 0; t < n; t++) sum += (double)rows[t * d + i];
            dst[i] = (float)(sum / (double)n);
        }
    }
    if (!j->normalize) return;
    double square = 0;
    for (size_t i = 0; i < d; i++) square += (double)dst[i] * (double)dst[i];
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (size_t i = 0; i < d; i++) dst[i] = (float)((double)dst[i] * scale);
}

/* One pass over texts[from … to). */
static mote_status embed_pass(job *j, size_t from, size_t to, mote_error *err) {
    mote_session *s = j->s;
    size_t n = 0, n_want = 0;
    for (size_t i = from; i < to; i++) {
        const text_ids *t = &j->texts[i];
        run_clear(s, i - from);
        s->segs[i - from] = (model_seg){i - from, 0, t->n};
        memcpy(s->batch_ids + n, t->ids, t->n * sizeof *t->ids);
        for (size_t k = 0; k < t->n; k++) s->want[n_want++] = (int32_t)(n + k);
        n += t->n;
    }
    model_batch b = {.ids = s->batch_ids, .n = n, .segs = s->segs, .n_segs = to - from, .want = s->want,
                     .n_want = n_want, .hidden = j->rows};
    TRY(run_forward(s, &b, err));
    const float *rows = j->rows;
    for (size_t i = from; i < to; i++) {
        const text_ids *t = &j->texts[i];
        float *dst = j->dst + t->index * j->n_embd;
        pool_rows(j, rows, t->n, dst);
        rows += t->n * j->n_embd;
        run_clear(s, i - from);
        for (size_t k = 0; k < j->n_embd; k++)
            if (!isfinite(dst[k]))
                FAIL(err, MOTE_E_OUTPUT, "text %zu: the model computed NaN or infinity", t->index);
    }
    return MOTE_OK;
}

static mote_status choose_pooling(const mote_model *m, int wanted, pooling *p, mote_error *err) {
    switch (wanted) {
    case MOTE_POOL_MEAN: *p = POOL_MEAN; return MOTE_OK;
    case MOTE_POOL_CLS: *p = POOL_CLS; return MOTE_OK;
    case MOTE_POOL_LAST: *p = POOL_LAST; return MOTE_OK;
    case MOTE_POOL_MODEL: break;
    default: FAIL(err, MOTE_E_RANGE, "pooling is %d; expected one of MOTE_POOL_*", wanted);
    }
    *p = m->info->pooling;
    if (*p == POOL_RANK)
        FAIL(err, MOTE_E_UNSUPPORTED, "the model ranks pairs of texts: it has no embeddings");
    if (*p == POOL_NONE) *p = m->info->causal ? POOL_LAST : POOL_MEAN;
    return MOTE_OK;
}

mote_status run_embed(mote_session *s, const char *const *texts, const size_t *n_bytes, size_t n,
                      const mote_embed_opts *o, float *dst, size_t *n_tokens, mote_error *err) {
    const model_info *info = s->model->info;
    job j = {.s = s, .normalize = o->normalize, .dst = dst, .n_embd = info->n_embd_out};
    mote_status st = MOTE_OK;
    size_t max = MIN(s->n_ctx, s->n_batch);
    if (info->n_ctx_train) max = MIN(max, info->n_ctx_train);
    size_t wanted = o->max_tokens ? o->max_tokens : s->model->n_embed_max;
    if (wanted) max = MIN(max, wanted);
    if (max < 3) FAIL(err, MOTE_E_RANGE, "at most %zu tokens per text leave no room for the text", max);
    TRY(choose_pooling(s->model, o->pooling, &j.pool, err));
    if (n == 0) return MOTE_OK;
    j.texts = MEM_NEW_N(text_ids, n);
    j.rows = MEM_NEW_N(float, s->n_batch * j.n_embd);
    if (!j.texts || !j.rows) FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu embeddings", n);
    TRYG(st, tokenize_all(&j, texts, n_bytes, n, o, max, err));
    for (size_t from = 0, to; from < n; from = to) {
        size_t used = 0;
        for (to = from; to < n && to - from < s->n_seq && used + j.texts[to].n <= s->n_batch; to++)
            used += j.texts[to].n;
        if (atomic_load(&s->cancel))
            FAILG(st, err, MOTE_E_CANCELLED, "cancelled after %zu of %zu texts", from, n);
        TRYG(st, embed_pass(&j, from, to, err));
    }
    for (size_t i = 0; n_tokens && i < n; i++) n_tokens[j.texts[i].index] = j.texts[i].n;
out:
    tok_ids_free(&j.all);
    mem_free(j.texts);
    mem_free(j.rows);
    return st;
}
