/* perplexity.c: perplexity as llama-perplexity defines it, and divergence from saved log-probabilities.
 *
 * Windows of n_ctx tokens, the first one replaced by BOS where the model adds it; the tokens after position
 * n_ctx / 2 are scored. The error estimate is the standard error of the mean negative log-likelihood, times
 * the perplexity.
 *
 * The file of log-probabilities is llama-perplexity's (--kl-divergence-base): "_logits_", i32 n_ctx, n_vocab,
 * n_chunks, i32 tokens[n_chunks · n_ctx]; then per scored token f32 scale, f32 minimum, u16 q[n_vocab]
 * (padded to an even number), log p = scale · q + minimum, of the 16 nats below the likeliest. */
#include "run/run.h"

#include <math.h>
#include <stdlib.h>

#define LOGIT_RANGE 16.0f
#define ROWS_BYTES_MAX ((size_t)64 << 20) /* logits computed in one pass */
#define BASE_HEAD 20

typedef struct row_result {
    double nll, base_nll, kld, dp;
    bool same_top;
} row_result;

typedef struct measure {
    mote_session *s;
    const mote_ppl_opts *o;
    const tok_vocab *vocab;
    const int32_t *ids; /* of the whole text */
    size_t n_chunks, first, n_vocab, row_u16;
    int32_t bos;        /* TOK_NONE: windows are taken as they are */
    int32_t *window;    /* [n_ctx] */
    float *rows;        /* [n_rows_max, n_vocab] */
    size_t n_rows_max;
    row_result *results; /* [n_chunks · (n_ctx - 1 - first)] */
    size_t n_results, n_bytes; /* n_bytes: of text, of the tokens scored so far */
    uint16_t *packed;    /* [n_rows_max, row_u16] when saving */
    file_writer out;
    bool saving;
    file_map base;       /* when comparing */
} measure;

/* ---- one row ---- */

typedef struct rows_job {
    const measure *m;
    const int32_t *right; /* the token that follows each row */
    size_t n;
    row_result *out;
    const unsigned char *base; /* packed rows of the base, or NULL */
} rows_job;

static double log_sum_exp(const float *row, size_t n, float max) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)expf(row[i] - max);
    return log(sum);
}

/* dst: f32 scale, f32 minimum, u16 q[n]. */
static void pack_row(const float *row, size_t n, float max, double lse, uint16_t *dst) {
    float min = max;
    for (size_t i = 0; i < n; i++) min = MIN(min, row[i]);
    min = MAX(min, max - LOGIT_RANGE);
    float head[2] = {(max - min) / 65535.0f, (float)((double)(min - max) - lse)};
    memcpy(dst, head, sizeof head);
    float inv = head[0] > 0 ? 1 / head[0] : 0;
    for (size_t i = 0; i < n; i++) dst[4 + i] = row[i] > min ? (uint16_t)lrintf(inv * (row[i] - min)) : 0;
}

static void compare_row(const float *row, size_t n, float max, double lse, size_t top, int32_t right,
                        const unsigned char *base, row_result *r) {
    float head[2];
    memcpy(head, base, sizeof head);
    const unsigned char *q = base + sizeof head;
    double kld = 0, log_z = (double)max + lse;
    uint16_t best = 0, v;
    size_t base_top = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(&v, q + 2 * i, sizeof v);
        if (v > best) {
            best = v;
            base_top = i;
        }
        float log_p = head[0] * (float)v + head[1];
        if (log_p > -LOGIT_RANGE) kld += (double)expf(log_p) * ((double)log_p - ((double)row[i] - log_z));
    }
    memcpy(&v, q + 2 * (size_t)right, sizeof v);
    r->base_nll = -(double)(head[0] * (float)v + head[1]);
    r->kld = kld;
    r->dp = exp(-r->nll) - exp(-r->base_nll);
    r->same_top = base_top == top;
}

static void score_rows(void *arg, int ith, int nth) {
    const rows_job *j = arg;
    const measure *m = j->m;
    size_t from, to, n = m->n_vocab;
    pool_share(j->n, 1, ith, nth, &from, &to);
    for (size_t i = from; i < to; i++) {
        const float *row = m->rows + i * n;
        size_t top = 0;
        for (size_t k = 1; k < n; k++)
            if (row[k] > row[top]) top = k;
        double lse = log_sum_exp(row, n, row[top]);
        j->out[i].nll = (double)row[top] + lse - (double)row[j->right[i]];
        if (m->saving) pack_row(row, n, row[top], lse, m->packed + i * m->row_u16);
        if (j->base)
            compare_row(row, n, row[top], lse, top, j->right[i], j->base + 2 * i * m->row_u16, &j->out[i]);
    }
}

/* ---- one window ---- */

static mote_status score(measure *m, size_t chunk, size_t at, size_t n, mote_error *err) {
    size_t n_ctx = m->o->n_ctx, per_chunk = n_ctx - 1 - m->first, row = chunk * per_chunk + at - m->first;
    rows_job j = {.m = m, .right = m->ids + chunk * n_ctx + at + 1, .n = n, .out = m->results + row};
    if (m->base.p) j.base = m->base.p + BASE_HEAD + 4 * m->n_chunks * n_ctx + 2 * row * m->row_u16;
    (void)pthread_mutex_lock(&m->s->model->engine->lock);
    pool_run(m->s->model->engine->pool, score_rows, &j);
    (void)pthread_mutex_unlock(&m->s->model->engine->lock);
    return m->saving ? file_write(&m->out, m->packed, 2 * n * m->row_u16, err) : MOTE_OK;
}

static mote_status measure_window(measure *m, size_t chunk, mote_error *err) {
    size_t n_ctx = m->o->n_ctx;
    memcpy(m->window, m->ids + chunk * n_ctx, n_ctx * sizeof *m->window);
    if (m->bos != TOK_NONE) m->window[0] = m->bos;
    run_clear(m->s, 0);
    run_feed head = {.seq = 0, .ids = m->window, .n = m->first, .no_logits = true};
    if (head.n) TRY(run_feed_all(m->s, &head, 1, err));
    for (size_t at = m->first, n; at < n_ctx - 1; at += n) {
        n = MIN(n_ctx - 1 - at, m->n_rows_max);
        run_feed f = {.seq = 0, .ids = m->window + at, .n = n, .all = m->rows};
        TRY(run_feed_all(m->s, &f, 1, err));
        TRY(score(m, chunk, at, n, err));
    }
    m->n_results += n_ctx - 1 - m->first;
    for (size_t at = m->first + 1; at < n_ctx; at++) m->n_bytes += tok_piece(m->vocab, m->ids[chunk * n_ctx + at], 0).n;
    return MOTE_OK;
}

/* ---- the whole ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarise(const measure *m, mote_ppl_result *r) {
    double sum = 0, squares = 0, n = (double)m->n_results;
    for (size_t i = 0; i < m->n_results; i++) {
        sum += m->results[i].nll;
        squares += m->results[i].nll * m->results[i].nll;
    }
    r->nll = sum / n;
    r->ppl = exp(r->nll);
    double variance = squares / n - r->nll * r->nll;
    r->ppl_error = variance > 0 && n > 1 ? sqrt(variance / (n - 1)) * r->ppl : 0;
    r->n_scored = m->n_results;
    r->bits_per_byte = m->n_bytes ? sum / log(2) / (double)m->n_bytes : (double)NAN;
    r->n_bytes = m->n_bytes;
}

static mote_status summarise_divergence(const measure *m, mote_ppl_result *r, mote_error *err) {
    double base = 0, sum = 0, squares = 0, dp = 0, n = (double)m->n_results;
    size_t same = 0;
    double *sorted = MEM_NEW_N(double, m->n_results);
    if (!sorted) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu divergences", m->n_results);
    for (size_t i = 0; i < m->n_results; i++) {
        const row_result *x = &m->results[i];
        base += x->base_nll;
        sum += x->kld;
        squares += x->kld * x->kld;
        dp += x->dp * x->dp;
        same += x->same_top;
        sorted[i] = x->kld;
    }
    qsort(sorted, m->n_results, sizeof *sorted, ascending);
    r->base_ppl = exp(base / n);
    r->kld_mean = sum / n;
    double variance = squares / n - r->kld_mean * r->kld_mean;
    r->kld_error = variance > 0 && n > 1 ? sqrt(variance / (n - 1)) : 0;
    r->kld_max = sorted[m->n_results - 1];
    r->kld_median = sorted[m->n_results / 2];
    r->kld_p99 = sorted[MIN(m->n_results - 1, (size_t)(0.99 * n))];
    r->same_top = (double)same / n;
    r->rms_dp = sqrt(dp / n);
    mem_free(sorted);
    return MOTE_OK;
}

static int32_t read_i32(const unsigned char *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static mote_status open_base(measure *m, mote_error *err) {
    const char *path = m->o->compare_logits;
    TRY(file_open(&m->base, path, FILE_MAP, err));
    size_t n_ctx = m->o->n_ctx, rows, bytes;
    if (m->base.n < BASE_HEAD || memcmp(m->base.p, "_logits_", 8) != 0)
        FAIL(err, MOTE_E_FORMAT, "%s: not a file of log-probabilities", path);
    int32_t ctx = read_i32(m->base.p + 8), vocab = read_i32(m->base.p + 12),
            chunks = read_i32(m->base.p + 16);
    if (ctx < 0 || (size_t)ctx != n_ctx || vocab < 0 || (size_t)vocab != m->n_vocab || chunks <= 0)
        FAIL(err, MOTE_E_MISMATCH, "%s: made with context %d and vocabulary %d; here they are %zu and %zu",
             path, (int)ctx, (int)vocab, n_ctx, m->n_vocab);
    if (m->o->n_chunks && (size_t)chunks != m->n_chunks)
        FAIL(err, MOTE_E_MISMATCH, "%s: has %d windows, %zu are asked for", path, (int)chunks, m->n_chunks);
    if ((size_t)chunks > m->n_chunks) FAIL(err, MOTE_E_MISMATCH, "%s: has more windows than the text", path);
    m->n_chunks = (size_t)chunks;
    if (!ckd_mul_size(&rows, m->n_chunks * (n_ctx - 1 - m->first), 2 * m->row_u16) ||
        !ckd_add_size(&bytes, BASE_HEAD + 4 * m->n_chunks * n_ctx, rows) || bytes > m->base.n)
        FAIL(err, MOTE_E_FORMAT, "%s: cut short", path);
    if (memcmp(m->base.p + BASE_HEAD, m->ids, 4 * m->n_chunks * n_ctx) != 0)
        FAIL(err, MOTE_E_MISMATCH, "%s: made from another text or tokenizer", path);
    return MOTE_OK;
}

static mote_status begin_saving(measure *m, mote_error *err) {
    int32_t head[3] = {(int32_t)m->o->n_ctx, (int32_t)m->n_vocab, (int32_t)m->n_chunks};
    TRY(file_writer_open(&m->out, m->o->save_logits, err));
    m->saving = true;
    TRY(file_write(&m->out, "_logits_", 8, err));
    TRY(file_write(&m->out, head, sizeof head, err));
    return file_write(&m->out, m->ids, 4 * m->n_chunks * m->o->n_ctx, err);
}

static mote_status prepare(measure *m, mote_error *err) {
    size_t n_ctx = m->o->n_ctx, per_chunk = n_ctx - 1 - m->first;
    m->n_rows_max = MAX(MIN(ROWS_BYTES_MAX / (4 * m->n_vocab), m->s->n_batch), 16);
    m->row_u16 = 2 * ((m->n_vocab + 1) / 2) + 4;
    m->window = MEM_NEW_N(int32_t, n_ctx);
    m->rows = MEM_NEW_N(float, m->n_rows_max * m->n_vocab);
    m->results = MEM_NEW_N(row_result, m->n_chunks * per_chunk);
    if (m->o->save_logits) m->packed = MEM_NEW_N(uint16_t, m->n_rows_max * m->row_u16);
    if (!m->window || !m->rows || !m->results || (m->o->save_logits && !m->packed))
        FAIL(err, MOTE_E_MEMORY, "out of memory for %zu rows of logits", m->n_rows_max);
    if (m->o->compare_logits) TRY(open_base(m, err));
    return m->o->save_logits ? begin_saving(m, err) : MOTE_OK;
}

mote_status run_perplexity(mote_session *s, str text, const mote_ppl_opts *o, mote_ppl_result *r,
                           mote_error *err) {
    measure m = {.s = s, .o = o, .first = o->n_ctx / 2, .n_vocab = s->n_vocab, .bos = TOK_NONE};
    mote_status st = MOTE_OK;
    tok_ids ids = {0};
    if (m.n_vocab == 0) FAIL(err, MOTE_E_UNSUPPORTED, "this model is an encoder: it has no perplexity");
    if (o->n_ctx < 4 || o->n_ctx > s->n_ctx)
        FAIL(err, MOTE_E_RANGE, "windows of %zu tokens; expected 4 to the session's context of %zu", o->n_ctx,
             s->n_ctx);
    TRY(run_vocab(s->model, &m.vocab, err));
    TRYG(st, tok_encode(m.vocab, text, TOK_BOS | (o->special ? TOK_SPECIAL : 0), &ids, err));
    m.ids = ids.p;
    m.n_chunks = ids.n / o->n_ctx;
    if (m.n_chunks < 2)
        FAILG(st, err, MOTE_E_USAGE, "the text has %zu tokens; at least two windows of %zu are needed", ids.n,
              o->n_ctx);
    if (o->n_chunks) m.n_chunks = MIN(m.n_chunks, o->n_chunks);
    if (tok_adds_bos(m.vocab)) m.bos = tok_id(m.vocab, TOK_ROLE_BOS);
    TRYG(st, prepare(&m, err));
    for (size_t i = 0; i < m.n_chunks; i++) {
        TRYG(st, measure_window(&m, i, err));
        summarise(&m, r);
        if (o->on_chunk && o->on_chunk(o->ctx, i + 1, m.n_chunks, r->ppl))
            FAILG(st, err, MOTE_E_CANCELLED, "cancelled after %zu of %zu windows", i + 1, m.n_chunks);
    }
    r->n_chunks = m.n_chunks;
    r->n_tokens = ids.n;
    if (m.base.p) TRYG(st, summarise_divergence(&m, r, err));
    if (m.saving) st = file_writer_commit(&m.out, err);
out:
    if (m.saving) file_writer_abort(&m.out);
    file_close(&m.base);
    run_clear(s, 0);
    tok_ids_free(&ids);
    mem_free(m.window);
    mem_free(m.rows);
    mem_free(m.results);
    mem_free(m.packed);
    return st;
}
