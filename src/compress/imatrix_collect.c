/* imatrix_collect.c: measures an importance matrix: a text goes through the model in windows, and the squares of what meets
 * each weight are summed by column.
 *
 * Windows are llama-imatrix's: of n_ctx tokens without overlap, the first token replaced by BOS where the model adds one. Each thread
 * sums its own columns over the rows in their order, in double precision: the result does not depend on the number of threads. */
#include "compress/importance.h"
#include "model/arch.h"
#include "run/run.h"

#include <math.h>
#include <stdatomic.h>

#define ROWS_BYTES_MAX ((size_t)64 << 20) /* logits computed in one pass */

/* What is summed of one weight. */
typedef struct seen_weight {
    const weight *w;
    double *sums;   /* [n_mat, cols] NULL: it is not wanted */
    double *counts; /* [n_mat] */
} seen_weight;

typedef struct collector {
    mote_session *s;
    const mote_imatrix_opts *o;
    seen_weight *seen; /* [n_slots] by the weight's address */
    size_t n_slots;
    imatrix m;         /* of the files that are added to */
    const char *output; /* the name of the head's weight */
    atomic_bool bad;
    const weight *bad_weight;
    float *rows;       /* [n_rows_max, n_vocab] */
    size_t n_rows_max;
    int32_t *window;
    double nll, nll2;
    size_t n_scored;
} collector;

/* ---- while a pass runs, on all its threads ---- */
static seen_weight *slot_of(const collector *c, const weight *w) {
    size_t i = (size_t)((uintptr_t)w >> 4) * 0x9E3779B97F4A7C15u % c->n_slots;
    while (c->seen[i].w && c->seen[i].w != w) i = (i + 1) % c->n_slots;
    return &c->seen[i];
}

static void on_product(void *ctx, const linear_seen *p) {
    collector *c = ctx;
    seen_weight *e = slot_of(c, p->w);
    size_t from, to, cols = p->w->cols;
    if (e->w != p->w || !e->sums) return;
    pool_share(cols, 16, p->ith, p->nth, &from, &to);
    double *sums = e->sums + p->mat * cols;
    for (size_t i = 0; i < p->n; i++) {
        const float *x = seen_row(p, i);
        for (size_t j = from; j < to; j++) sums[j] += (double)x[j] * (double)x[j];
    }
    for (size_t j = from; j < to; j++) {
        if (isfinite(sums[j])) continue;
        if (!atomic_exchange(&c->bad, true)) c->bad_weight = p->w;
        return;
    }
    if (p->ith == 0) e->counts[p->mat] += (double)p->n;
}

/* ---- before and after ---- */
static bool is_wanted(const collector *c, const weight *w) {
    return strncmp(w->name, "blk.", 4) == 0 || (c->o->process_output && strcmp(w->name, c->output) == 0);
}

static mote_status open_slots(collector *c, mote_error *err) {
    const model *m = c->s->model->m;
    c->output = m->slots[R_OUTPUT].mat ? m->slots[R_OUTPUT].mat->name : m->slots[R_TOKEN_EMBD].mat->name;
    c->n_slots = 2 * m->n_weights + 1;
    c->seen = MEM_NEW_N(seen_weight, c->n_slots);
    if (!c->seen) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu weights", m->n_weights);
    for (size_t i = 0; i < m->n_weights; i++) {
        const weight *w = m->weights[i];
        seen_weight *e = slot_of(c, w);
        e->w = w;
        if (!is_wanted(c, w)) continue;
        e->sums = MEM_NEW_N(double, w->n_mat * w->cols);
        e->counts = MEM_NEW_N(double, w->n_mat);
        if (!e->sums || !e->counts) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu columns", w->n_mat * w->cols);
    }
    return MOTE_OK;
}

static double most_rows(const imatrix *m) {
    double most = 0;
    for (size_t i = 0; i < m->n; i++)
        for (size_t k = 0; k < m->entries[i].n_counts; k++) most = MAX(most, m->entries[i].counts[k]);
    return most;
}

/* A matrix of heads, say, is met by all rows alike: one count says it. Experts keep theirs even so. */
static size_t counts_of(const seen_weight *e) {
    if (strstr(e->w->name, "_exps")) return e->w->n_mat;
    for (size_t i = 1; i < e->w->n_mat; i++) {
        if (e->counts[i] != e->counts[0]) return e->w->n_mat;
    }
    return 1;
}

/* out = what was read from files and what has been summed until now. */
static mote_status snapshot(const collector *c, imatrix *out, mote_error *err) {
    *out = (imatrix){.chunk_size = c->o->n_ctx};
    for (size_t i = 0; i < c->m.n; i++) {
        const imatrix_entry *e = &c->m.entries[i];
        TRY(imatrix_add(out, str_of(e->name), e->sums, e->n_values, e->counts, e->n_counts, err));
    }
    for (size_t i = 0; i < c->n_slots; i++) {
        const seen_weight *e = &c->seen[i];
        double met = 0;
        for (size_t k = 0; e->sums && k < e->w->n_mat; k++) met += e->counts[k];
        if (met > 0) TRY(imatrix_add(out, str_of(e->w->name), e->sums, e->w->n_mat * e->w->cols, e->counts, counts_of(e), err));
    }
    for (size_t i = 0; i < c->m.n_datasets; i++) TRY(imatrix_add_dataset(out, str_of(c->m.datasets[i]), err));
    if (c->o->dataset) TRY(imatrix_add_dataset(out, str_of(c->o->dataset), err));
    out->n_chunks = (size_t)(most_rows(out) / (double)c->o->n_ctx);
    return MOTE_OK;
}

static mote_status save(const collector *c, const char *path, mote_imatrix_result *r, mote_error *err) {
    imatrix now;
    mote_status s = snapshot(c, &now, err);
    if (s == MOTE_OK) s = imatrix_write(&now, path, c->o->legacy, err);
    r->n_entries = now.n;
    r->n_chunks = now.n_chunks;
    r->n_partial = 0;
    for (size_t i = 0; i < now.n; i++) {
        bool partial = false;
        for (size_t k = 0; k < now.entries[i].n_counts; k++) partial |= now.entries[i].counts[k] == 0;
        r->n_partial += partial;
    }
    imatrix_free(&now);
    return s;
}

/* ---- windows ---- */
static void score(collector *c, const int32_t *right, size_t n) {
    size_t n_vocab = c->s->n_vocab;
    for (size_t i = 0; i < n; i++) {
        const float *row = c->rows + i * n_vocab;
        float max = row[0];
        double sum = 0;
        for (size_t k = 1; k < n_vocab; k++) max = MAX(max, row[k]);
        for (size_t k = 0; k < n_vocab; k++) sum += (double)expf(row[k] - max);
        double nll = (double)max + log(sum) - (double)row[right[i]];
        c->nll += nll;
        c->nll2 += nll * nll;
    }
    c->n_scored += n;
}

static mote_status window(collector *c, const int32_t *ids, int32_t bos, mote_error *err) {
    size_t n_ctx = c->o->n_ctx, first = n_ctx / 2, at = 0;
    memcpy(c->window, ids, n_ctx * sizeof *c->window);
    if (bos != TOK_NONE) c->window[0] = bos;
    run_clear(c->s, 0);
    while (at < n_ctx) {
        bool scored = !c->o->no_ppl && at >= first, logits = scored || c->o->process_output;
        size_t end = at < first && !c->o->no_ppl ? first : n_ctx;
        run_feed f = {.seq = 0, .ids = c->window + at, .n = logits ? MIN(end - at, c->n_rows_max) : end - at, .no_logits = !logits};
        if (logits) f.all = c->rows;
        TRY(run_feed_all(c->s, &f, 1, err));
        if (atomic_load(&c->bad))
            FAIL(err, MOTE_E_OUTPUT, "the input of '%s' is not finite: this model's activations cannot be measured", c->bad_weight->name);
        if (scored) score(c, c->window + at + 1, MIN(f.n, n_ctx - 1 - at));
        at += f.n;
    }
    return MOTE_OK;
}

static mote_status windows(collector *c, const tok_ids *ids, int32_t bos, mote_imatrix_result *r, mote_error *err) {
    const mote_imatrix_opts *o = c->o;
    size_t all = ids->n / o->n_ctx, n = all > o->first_chunk ? all - o->first_chunk : 0;
    if (n < 2)
        FAIL(err, MOTE_E_USAGE, "the text has %zu tokens: %zu windows of %zu are left, two are needed", ids->n, n, o->n_ctx);
    if (o->n_chunks) n = MIN(n, o->n_chunks);
    r->n_tokens = ids->n;
    for (size_t i = 0; i < n; i++) {
        char path[4096];
        TRY(window(c, ids->p + (o->first_chunk + i) * o->n_ctx, bos, err));
        double ppl = c->n_scored ? exp(c->nll / (double)c->n_scored) : 0;
        if (o->output_every && (i + 1) % o->output_every == 0 && i + 1 < n) TRY(save(c, o->out, r, err));
        if (o->save_every && (i + 1) % o->save_every == 0) {
            (void)snprintf(path, sizeof path, "%s.at_%zu", o->out, i + 1);
            TRY(save(c, path, r, err));
        }
        if (o->on_chunk && o->on_chunk(o->ctx, i + 1, n, ppl)) FAIL(err, MOTE_E_CANCELLED, "cancelled after %zu of %zu windows", i + 1, n);
    }
    return save(c, o->out, r, err);
}

static void summarise(const collector *c, mote_imatrix_result *r) {
    double n = (double)c->n_scored;
    if (c->n_scored < 2) return;
    double mean = c->nll / n, variance = c->nll2 / n - mean * mean;
    r->ppl = exp(mean);
    r->ppl_error = variance > 0 ? sqrt(variance / (n - 1)) * r->ppl : 0;
}

static mote_status prepare(collector *c, mote_error *err) {
    mote_session *s = c->s;
    if (s->n_vocab == 0) FAIL(err, MOTE_E_UNSUPPORTED, "this model is an encoder: windows of text to continue do not suit it");
    if (c->o->n_ctx > s->n_ctx || c->o->n_ctx < 2)
        FAIL(err, MOTE_E_USAGE, "windows of %zu tokens; the session has %zu", c->o->n_ctx, s->n_ctx);
    for (size_t i = 0; i < c->o->n_in; i++) TRY(imatrix_read(&c->m, c->o->in[i], c->o->n_ctx, err));
    TRY(open_slots(c, err));
    c->n_rows_max = MAX(MIN(ROWS_BYTES_MAX / (4 * s->n_vocab), s->n_batch), (size_t)16);
    c->window = MEM_NEW_N(int32_t, c->o->n_ctx);
    c->rows = MEM_NEW_N(float, c->n_rows_max * s->n_vocab);
    if (!c->window || !c->rows) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu rows of logits", c->n_rows_max);
    return state_set_observer(s->st, on_product, c, err);
}

mote_status imatrix_collect(mote_session *s, str text, const mote_imatrix_opts *o, mote_imatrix_result *r, mote_error *err) {
    collector c = {.s = s, .o = o};
    tok_ids ids = {0};
    const tok_vocab *v;
    mote_status st;
    TRYG(st, prepare(&c, err));
    TRYG(st, run_vocab(s->model, &v, err));
    TRYG(st, tok_encode(v, text, TOK_BOS | (o->parse_special ? TOK_SPECIAL : 0), &ids, err));
    TRYG(st, windows(&c, &ids, tok_adds_bos(v) ? tok_id(v, TOK_ROLE_BOS) : TOK_NONE, r, err));
    summarise(&c, r);
out:
    (void)state_set_observer(s->st, NULL, NULL, NULL);
    run_clear(s, 0);
    for (size_t i = 0; c.seen && i < c.n_slots; i++) {
        mem_free(c.seen[i].sums);
        mem_free(c.seen[i].counts);
    }
    mem_free(c.seen);
    mem_free(c.window);
    mem_free(c.rows);
    imatrix_free(&c.m);
    tok_ids_free(&ids);
    return st;
}
