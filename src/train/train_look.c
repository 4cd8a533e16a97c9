#include "train/train_look.h"

#include <math.h>

static mote_status sum_parts(double *sum, net *n, tape *t, data *d, const data_step_info *step, size_t rows_per_part, mote_error *err) {
    ad_head head = net_head(n);
    for (size_t at = 0; at < step->mine.n_rows; at += rows_per_part) {
        data_batch b;
        TRY(data_part(d, at, MIN(rows_per_part, step->mine.n_rows - at), &b, err));
        if (!(b.sum_weight > 0)) continue;
        tape_reset(t);
        tape_pause(t);
        var *h = net_hidden(n, t, b.ids, &b.seqs, NULL);
        var *l = ad_cross_entropy(t, h, &head, &(ad_targets){.target = b.target, .weights = b.weights, .sum_weight = 1});
        tape_resume(t);
        TRY(tape_status(t, err));
        *sum += (double)l->x[0];
    }
    return MOTE_OK;
}

mote_status train_look_loss(double *loss, net *n, tape *t, data *d, size_t n_rows, size_t rows_per_part, ranks *r, mote_error *err) {
    data_step_info step;
    json_t *here = data_cursor(d);
    double sum = 0;
    if (!here) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = data_step(d, n_rows, ranks_rank(r), ranks_size(r), &step, err);
    if (s == MOTE_OK && !(step.sum_weight > 0)) s = ERR(err, MOTE_E_FORMAT, "the held-out rows hold no token that is to be predicted");
    if (s == MOTE_OK) s = sum_parts(&sum, n, t, d, &step, rows_per_part, err);
    mote_status back = data_seek(d, here, s == MOTE_OK ? err : NULL);
    json_decref(here);
    TRY(s);
    TRY(back);
    TRY(ranks_sum_f64(r, &sum, 1, err));
    *loss = sum / step.sum_weight;
    return MOTE_OK;
}

/* ---- a text ---- */
#define TEMPERATURE 0.8

static int32_t draw(const float *logits, size_t n, rng *r) {
    double max = -HUGE_VAL, sum = 0;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)logits[i]);
    for (size_t i = 0; i < n; i++) sum += exp(((double)logits[i] - max) / TEMPERATURE);
    double at = rng_double(r) * sum;
    for (size_t i = 0; i < n; i++) {
        at -= exp(((double)logits[i] - max) / TEMPERATURE);
        if (at < 0) return (int32_t)i;
    }
    return (int32_t)n - 1;
}

/* The logits after the last of n ids. */
static mote_status next_logits(const float **out, net *n, tape *t, const int32_t *ids, size_t n_ids, mote_error *err) {
    tape_reset(t);
    tape_pause(t);
    uint32_t *start = tape_mem(t, 2 * sizeof *start);
    int32_t *pos = tape_mem(t, n_ids * sizeof *pos), *last = tape_mem(t, sizeof *last);
    ad_head head = net_head(n);
    var *y = NULL;
    if (start && pos && last) {
        start[0] = 0;
        start[1] = (uint32_t)n_ids;
        for (size_t i = 0; i < n_ids; i++) pos[i] = (int32_t)i;
        *last = (int32_t)n_ids - 1;
        y = ad_rows(t, net_hidden(n, t, ids, &(ad_seqs){n_ids, 1, start, pos}, NULL), last, 1);
        y = ad_linear(t, y, head.w);
        if (y && head.b) y = ad_add_row(t, y, head.b);
        if (y && head.scale != 1) y = ad_scale(t, y, head.scale);
        if (y && head.softcap > 0) y = ad_softcap(t, y, head.softcap);
    }
    tape_resume(t);
    TRY(tape_status(t, err));
    *out = y->x;
    return MOTE_OK;
}

mote_status train_look_sample(buf *out, net *n, tape *t, const tok_vocab *v, str prompt, size_t n_tokens, uint64_t seed, mote_error *err) {
    tok_ids ids = {0};
    rng r;
    size_t vocab = net_model(n)->hp.n_vocab, most = net_model(n)->hp.n_ctx_train;
    rng_seed(&r, seed, 4);
    TRY(tok_encode(v, prompt, TOK_BOS, &ids, err));
    mote_status s = ids.n ? MOTE_OK : ERR(err, MOTE_E_USAGE, "a sample needs a prompt");
    for (size_t i = 0; i < n_tokens && s == MOTE_OK && (!most || ids.n < most); i++) {
        const float *logits;
        s = next_logits(&logits, n, t, ids.p, ids.n, err);
        if (s != MOTE_OK) break;
        int32_t id = draw(logits, vocab, &r);
        if (tok_is_eog(v, id)) break;
        s = mem_grow(&ids.p, &ids.cap, ids.n + 1, sizeof *ids.p, (size_t)1 << 24, err);
        if (s == MOTE_OK) ids.p[ids.n++] = id;
    }
    if (s == MOTE_OK) s = tok_detokenize(v, ids.p, ids.n, TOK_TRIM, out, err);
    tok_ids_free(&ids);
    return s;
}
