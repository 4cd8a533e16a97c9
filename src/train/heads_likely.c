/* heads_likely.c: which tokens guesses are among. See heads_run.h. */
#include "train/heads_run.h"

#include <stdlib.h>

typedef struct counted {
    uint64_t times;
    int32_t id;
} counted;

/* How often each token counts, in n_tokens of the rows. */
static mote_status count_tokens(const heads_fit_opts *o, counted *c, size_t n_vocab, mote_error *err) {
    const train_source *rows = o->rows;
    for (size_t seen = 0; seen < o->n_tokens;) {
        train_step_rows step;
        TRY(rows->step(rows->ctx, 0, 0, 1, &step, err));
        if (step.n_tokens == 0) FAIL(err, MOTE_E_FORMAT, "the data hold nothing to make heads from");
        for (size_t i = 0; i < step.n_parts && seen < o->n_tokens; i++) {
            data_batch b;
            TRY(rows->part(rows->ctx, i, &b, err));
            seen += b.seqs.n;
            for (size_t j = 0; j < b.seqs.n; j++)
                if (b.target[j] >= 0 && (size_t)b.target[j] < n_vocab && !(b.weights && !(b.weights[j] > 0))) c[b.target[j]].times++;
        }
        if (o->stop && o->stop(o->ctx)) FAIL(err, MOTE_E_CANCELLED, "stopped");
    }
    return MOTE_OK;
}

static int by_times(const void *a, const void *b) {
    const counted *x = a, *y = b;
    if (x->times != y->times) return x->times > y->times ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b) { return ((const counted *)a)->id - ((const counted *)b)->id; }

mote_status head_set_choose_likely(head_set *h, const heads_fit_opts *o, size_t n, mote_error *err) {
    const size_t n_vocab = net_head(h->n).w->rows;
    const train_source *rows = o->rows;
    counted *c = MEM_NEW_N(counted, n_vocab);
    h->n_likely = MIN(n, n_vocab);
    h->likely = MEM_NEW_N(int32_t, h->n_likely);
    json_t *cursor = rows->cursor ? rows->cursor(rows->ctx) : NULL;
    mote_status s = c && h->likely ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory for %zu likely tokens", h->n_likely);
    for (size_t i = 0; s == MOTE_OK && i < n_vocab; i++) c[i] = (counted){0, (int32_t)i};
    if (s == MOTE_OK) s = count_tokens(o, c, n_vocab, err);
    if (s == MOTE_OK) {
        qsort(c, n_vocab, sizeof *c, by_times);
        qsort(c, h->n_likely, sizeof *c, by_id);
        for (size_t i = 0; i < h->n_likely; i++) h->likely[i] = c[i].id;
    }
    if (s == MOTE_OK && cursor) s = rows->seek(rows->ctx, cursor, err);
    json_decref(cursor);
    mem_free(c);
    return s;
}
