/* prune_calib.c: the model over a calibration text: what its products are fed with, and how likely the text is. */
#include "compress/pruning.h"

#include <math.h>

enum { LOGIT_ROWS = 64 };

mote_status prune_tokens(prune *p, size_t otherwise, mote_error *err) {
    if (p->ids.n) return MOTE_OK;
    size_t want = p->o->n_tokens ? p->o->n_tokens : otherwise;
    if (!p->o->text || !p->o->n_text)
        FAIL(err, MOTE_E_USAGE, "choosing what to take needs a calibration text (--file)");
    if (!p->vocab) TRY(tok_open(&p->vocab, p->f, NULL, err));
    /* no token is longer than the longest word of any vocabulary, so most of a large text need not be cut */
    size_t bytes = MIN(p->o->n_text, want * 16 + 4096);
    TRY(tok_encode(p->vocab, (str){p->o->text, bytes}, 0, &p->ids, err));
    if (p->ids.n < 64)
        FAIL(err, MOTE_E_USAGE, "the calibration text has %zu tokens; at least 64 are needed", p->ids.n);
    p->ids.n = MIN(p->ids.n, want);
    return MOTE_OK;
}

size_t prune_n_windows(const prune *p) { return (p->ids.n + PRUNE_WINDOW - 1) / PRUNE_WINDOW; }

mote_status prune_state(prune *p, mote_error *err) {
    const state_opts so = {.n_ctx = PRUNE_WINDOW, .n_seq = 1, .n_batch = PRUNE_WINDOW, .k_type = QUANT_F16, .v_type = QUANT_F16};
    return p->st ? MOTE_OK : state_open(&p->st, p->m, &so, p->pool, err);
}

mote_status prune_window(prune *p, size_t w, float *hidden, size_t *n, mote_error *err) {
    TRY(prune_state(p, err));
    int32_t ids[PRUNE_WINDOW], want[PRUNE_WINDOW];
    size_t from = w * PRUNE_WINDOW, k = MIN((size_t)PRUNE_WINDOW, p->ids.n - from);
    memcpy(ids, p->ids.p + from, k * sizeof *ids);
    if (tok_adds_bos(p->vocab)) ids[0] = tok_id(p->vocab, TOK_ROLE_BOS);
    for (size_t i = 0; i < k; i++) want[i] = (int32_t)i;
    const model_seg seg = {.seq = 0, .pos0 = 0, .n = k};
    state_seq_clear(p->st, 0);
    *n = k;
    return model_forward(p->st, &(model_batch){.ids = ids, .n = k, .segs = &seg, .n_segs = 1, .want = want,
                         .n_want = hidden ? k : 0, .hidden = hidden}, err);
}

mote_status prune_nll(prune *p, double *nll, mote_error *err) {
    size_t n_embd = p->m->info.n_embd_out, n_vocab = p->m->hp.n_vocab, n, scored = 0;
    float *hidden = MEM_NEW_N(float, PRUNE_WINDOW * n_embd), *logits = MEM_NEW_N(float, LOGIT_ROWS * n_vocab);
    mote_status s = MOTE_OK;
    double sum = 0;
    if (!hidden || !logits) FAILG(s, err, MOTE_E_MEMORY, "out of memory for logits");
    for (size_t w = 0; w < prune_n_windows(p); w++) {
        TRYG(s, prune_window(p, w, hidden, &n, err));
        for (size_t at = 0; at + 1 < n; at += LOGIT_ROWS) {
            size_t k = MIN((size_t)LOGIT_ROWS, n - 1 - at);
            model_logits(p->st, hidden + at * n_embd, k, logits);
            for (size_t r = 0; r < k; r++) {
                const float *x = logits + r * n_vocab;
                float most = x[0];
                double z = 0;
                for (size_t i = 1; i < n_vocab; i++) most = MAX(most, x[i]);
                for (size_t i = 0; i < n_vocab; i++) z += (double)expf(x[i] - most);
                sum += log(z) + (double)most - (double)x[p->ids.p[w * PRUNE_WINDOW + at + r + 1]];
            }
            scored += k;
        }
    }
    *nll = sum / (double)MAX(scored, (size_t)1);
    if (!isfinite(*nll)) FAILG(s, err, MOTE_E_OUTPUT, "the model's logits are not finite numbers");
out:
    mem_free(hidden);
    mem_free(logits);
    return s;
}

/* ---- what products are fed with ---- */
const seen_stats *prune_seen(const calib *c, const weight *w) {
    for (size_t i = 0; i < c->n; i++)
        if (c->all[i].w == w) return &c->all[i];
    return NULL;
}

/* Rows count alike, whatever their size: the first token's are a thousand times the others' behind a gate. */
static void add_gram(const struct kern_table *k, const seen_stats *st, const linear_seen *s) {
    size_t cols = st->cols;
    for (size_t r = 0; r < s->n; r++) {
        const float *x = seen_row(s, r);
        float square = k->dot(x, x, cols);
        float by = square > 0 ? (float)cols / square : 0;
        for (size_t i = (size_t)s->ith; i < cols; i += (size_t)s->nth) k->axpy(st->gram + i * cols + i, x + i, by * x[i], cols - i);
    }
}

/* Threads divide the columns; of a Gram matrix (its upper triangle) the rows, every nth. */
static void on_product(void *ctx, const linear_seen *s) {
    const calib *c = ctx;
    seen_stats *st = NULL;
    for (size_t i = 0; i < c->n && !st; i++)
        if (c->all[i].w == s->w) st = &c->all[i];
    if (!st || !st->abs) return;
    size_t cols = st->cols, from, to;
    pool_share(cols, 16, s->ith, s->nth, &from, &to);
    double *a = st->abs + s->mat * cols, *q = st->sq + s->mat * cols, *sum = st->sum + s->mat * cols;
    for (size_t r = 0; r < s->n; r++) {
        const float *x = seen_row(s, r);
        for (size_t i = from; i < to; i++) {
            sum[i] += (double)x[i];
            a[i] += (double)fabsf(x[i]);
            q[i] += (double)x[i] * (double)x[i];
        }
    }
    if (s->ith == 0) st->n[s->mat] += (double)s->n;
    if (st->gram) add_gram(c->p->m->kern, st, s);
}

static bool listed(const role *list, size_t n, const model *m, const weight *w) {
    for (size_t il = 0; il < m->hp.n_layer; il++)
        for (size_t i = 0; i < n; i++)
            if (m->layers[il].slots[list[i]].mat == w) return true;
    return false;
}

static mote_status begin_stats(prune *p, const role *gram, size_t n_gram, calib *c, mote_error *err) {
    c->p = p;
    c->n = p->m->n_weights;
    TRY(prune_alloc(p, c->n, sizeof *c->all, &c->all, err));
    for (size_t i = 0; i < c->n; i++) {
        seen_stats *s = &c->all[i];
        const weight *w = p->m->weights[i];
        *s = (seen_stats){.w = w, .cols = w->cols, .n_mat = w->n_mat};
        TRY(prune_alloc(p, s->n_mat, sizeof(double), &s->n, err));
        TRY(prune_alloc(p, s->n_mat * s->cols, sizeof(double), &s->abs, err));
        TRY(prune_alloc(p, s->n_mat * s->cols, sizeof(double), &s->sq, err));
        TRY(prune_alloc(p, s->n_mat * s->cols, sizeof(double), &s->sum, err));
        if (w->n_mat == 1 && listed(gram, n_gram, p->m, w))
            TRY(prune_alloc(p, s->cols * s->cols, sizeof(float), &s->gram, err));
    }
    return MOTE_OK;
}

mote_status prune_calibrate(prune *p, const role *gram, size_t n_gram, calib *out, mote_error *err) {
    size_t n, n_windows;
    TRY(prune_tokens(p, 4096, err));
    TRY(begin_stats(p, gram, n_gram, out, err));
    n_windows = prune_n_windows(p);
    float *hidden;
    TRY(prune_alloc(p, PRUNE_WINDOW * p->m->info.n_embd_out, sizeof(float), &hidden, err));
    TRY(prune_alloc(p, p->m->hp.n_embd, sizeof(double), &out->hidden_sq, err));
    TRY(prune_state(p, err));
    TRY(state_set_observer(p->st, on_product, out, err));
    for (size_t w = 0; w < n_windows; w++) {
        TRY(prune_window(p, w, hidden, &n, err));
        for (size_t i = 0; i < n * p->m->hp.n_embd; i++) out->hidden_sq[i % p->m->hp.n_embd] += (double)hidden[i] * (double)hidden[i];
        out->n_hidden += (double)n;
        TRY(prune_progress(p, "calibrating", w + 1, n_windows, err));
    }
    TRY(state_set_observer(p->st, NULL, NULL, err));
    for (size_t i = 0; i < out->n; i++) { /* the lower triangle */
        float *g = out->all[i].gram;
        for (size_t a = 0; g && a < out->all[i].cols; a++)
            for (size_t b = 0; b < a; b++) g[a * out->all[i].cols + b] = g[b * out->all[i].cols + a];
    }
    return MOTE_OK;
}
