/* finetune_judge.c: what a model knows and what it forgot, by the net that is trained: no file has to be written for it. */
#include "train/finetune_run.h"

#include <math.h>

enum { FORGET_ROWS = 32, PROBES_MAX = 200 };

mote_status finetune_perplexity(finetune *f, tape *t, double *ppl, mote_error *err) {
    double sum = 0, counted = 0;
    ad_head head = net_head(f->n);
    json_t *here = data_cursor(f->forget);
    mote_status s = MOTE_OK;
    if (!here) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (int i = 0; i < FORGET_ROWS; i++) {
        data_step_info info;
        TRYG(s, data_step(f->forget, 1, 0, 1, &info, err));
        if (info.epoch > 0 && i > 0) break;
        const data_batch *b = &info.mine;
        if (!(b->sum_weight > 0)) continue;
        tape_reset(t);
        tape_pause(t);
        var *h = net_hidden(f->n, t, b->ids, &b->seqs, NULL);
        var *l = ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = b->weights, .sum_weight = 1});
        tape_resume(t);
        TRYG(s, tape_status(t, err));
        sum += (double)*l->x;
        counted += b->sum_weight;
    }
    s = data_seek(f->forget, here, err);
    if (s == MOTE_OK && !(counted > 0)) s = ERR(err, MOTE_E_FORMAT, "%s holds no text to be judged by", f->o->forget);
    *ppl = exp(sum / fmax(counted, 1));
out:
    json_decref(here);
    return s;
}

/* Whether every token that counts is the likeliest one, given those before it: the greedy answer is this very answer. */
static mote_status knows(finetune *f, tape *t, const data_batch *b, bool *yes, mote_error *err) {
    ad_head head = net_head(f->n);
    size_t n = 0;
    *yes = true;
    tape_reset(t);
    tape_pause(t);
    int32_t *rows = tape_mem(t, b->seqs.n * sizeof *rows);
    for (size_t i = 0; rows && i < b->seqs.n; i++)
        if (b->target[i] >= 0 && b->weights[i] > 0) rows[n++] = (int32_t)i;
    var *h = rows ? net_hidden(f->n, t, b->ids, &b->seqs, NULL) : NULL;
    for (size_t i = 0; h && i < n && *yes; i += 16) { /* the first mistake ends it */
        size_t here = MIN((size_t)16, n - i);
        var *y = ad_linear(t, ad_rows(t, h, rows + i, here), head.w);
        if (y && head.b) y = ad_add_row(t, y, head.b);
        for (size_t r = 0; y && r < here; r++) {
            const float *z = y->x + r * y->cols;
            size_t best = 0;
            for (size_t k = 1; k < y->cols; k++)
                if (z[k] > z[best]) best = k;
            if ((int32_t)best != b->target[rows[i + r]]) *yes = false;
        }
        if (!y) break;
    }
    tape_resume(t);
    return tape_status(t, err);
}

mote_status finetune_known(finetune *f, tape *t, size_t *known, size_t *n, mote_error *err) {
    data *d = f->probe ? f->probe : f->learn;
    size_t items = data_n_items(d);
    *known = *n = 0;
    if (!f->probe && (items > PROBES_MAX || f->dpo)) return MOTE_OK;
    for (size_t i = 0; i < MIN(items, (size_t)PROBES_MAX); i++) {
        data_batch b;
        bool yes;
        TRY(data_item(d, i, &b, err));
        if (!(b.sum_weight > 0)) continue;
        TRY(knows(f, t, &b, &yes, err));
        *known += yes;
        ++*n;
    }
    return MOTE_OK;
}
