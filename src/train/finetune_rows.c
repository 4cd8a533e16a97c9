/* finetune_rows.c: the data sets of a fine-tuning run, and the rows of each step: what is learned, then what is replayed; or,
 * with privacy, examples drawn one by one. */
#include "train/finetune_run.h"

#include <math.h>
#include <sys/random.h>

enum { COUNTED_ITEMS = 2000, REPLAY_SHARE_PERCENT = 25 };

static mote_status open_set(finetune *f, data **out, const char *const *files, size_t n, data_opts o, mote_error *err) {
    data_source *src = MEM_NEW_N(data_source, n);
    if (!src) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) src[i] = (data_source){.path = files[i]};
    o.sources = src;
    o.n_sources = n;
    o.vocab = f->vocab;
    o.tmpl = f->tmpl;
    o.log = &f->log;
    mote_status s = data_open(out, &o, err);
    mem_free(src);
    return s;
}

/* Tokens of all items, from the first ones. */
static mote_status count_tokens(finetune *f, mote_error *err) {
    size_t n = data_n_items(f->learn), counted = MIN(n, (size_t)COUNTED_ITEMS);
    double sum = 0;
    for (size_t i = 0; i < counted; i++) {
        data_batch b;
        TRY(data_item(f->learn, i, &b, err));
        if (i == 0) f->dpo = f->o->task ? strcmp(f->o->task, "dpo") == 0 : b.seqs.n_seq == 2;
        if (f->dpo && b.seqs.n_seq != 2) FAIL(err, MOTE_E_FORMAT, "item %zu is no pair: dpo needs {\"prompt\", \"chosen\", \"rejected\"}", i);
        if (!f->dpo && b.seqs.n_seq == 2) FAIL(err, MOTE_E_FORMAT, "item %zu is a pair of answers, and the task is sft", i);
        sum += (double)b.seqs.n;
    }
    f->n_tokens = sum * (double)n / (double)counted;
    return MOTE_OK;
}

/* Epochs and batch for data that may be very few: at least eight steps an epoch where rows allow it, sixty in all. */
static mote_status choose_amount(finetune *f, mote_error *err) {
    mote_train_settings s = f->o->train;
    size_t ctx = s.n_ctx ? s.n_ctx : 512;
    double rows = f->private ? (double)data_n_items(f->learn) : ceil(f->n_tokens / (double)ctx);
    if (!s.batch) s.batch = (size_t)fmin(8, fmax(1, rows / 8));
    bool said = s.steps || s.tokens > 0 || s.epochs > 0;
    if (!said) s.epochs = 3;
    TRY(settings_amount(&f->amount, &s, model_get_info(f->m)->n_ctx_train, f->private ? rows * (double)ctx : f->n_tokens, err));
    if (!said && f->amount.steps < 60) f->amount.steps = 60;
    return MOTE_OK;
}

static mote_status open_judges(finetune *f, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    size_t ctx = MIN(f->amount.n_ctx, (size_t)512);
    if (o->forget) {
        data_source src = {.path = o->forget, .kind = DATA_TEXT};
        TRY(data_open(&f->forget, &(data_opts){.sources = &src, .n_sources = 1, .vocab = f->vocab, .n_ctx = ctx, .order = DATA_AS_IS, .log = &f->log}, err));
    }
    return o->probe ? open_set(f, &f->probe, &o->probe, 1, (data_opts){.n_ctx = ctx, .order = DATA_AS_IS}, err) : MOTE_OK;
}

mote_status finetune_open_data(finetune *f, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    data_opts base = {.n_ctx = o->train.n_ctx ? o->train.n_ctx : MIN((size_t)512, model_get_info(f->m)->n_ctx_train), .seed = o->train.seed ? o->train.seed : 1};
    if (!o->n_data) FAIL(err, MOTE_E_USAGE, "no data to learn from");
    TRY(open_set(f, &f->learn, o->data, o->n_data, base, err));
    TRY(count_tokens(f, err));
    TRY(choose_amount(f, err));
    if (o->n_replay && (f->private || f->dpo)) FAIL(err, MOTE_E_UNSUPPORTED, "replay goes with sft alone, without privacy");
    if (o->n_replay) {
        double share = o->replay_share > 0 ? o->replay_share : REPLAY_SHARE_PERCENT / 100.0;
        if (!(share < 1)) FAIL(err, MOTE_E_USAGE, "a replay share of %g: expected less than 1", share);
        base.seed += 1;
        TRY(open_set(f, &f->replay, o->replay, o->n_replay, base, err));
        f->replay_step_rows = (size_t)fmax(1, floor(share / (1 - share) * (double)f->amount.batch + 0.5));
    }
    return open_judges(f, err);
}

/* ---- a step ---- */

static mote_status step(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    finetune *f = ctx;
    data_step_info a, b = {0};
    data_progress(f->learn, progress);
    TRY(data_step(f->learn, f->amount.batch, rank, world, &a, err));
    if (f->replay) TRY(data_step(f->replay, f->replay_step_rows, rank, world, &b, err));
    f->learn_rows = a.mine.n_rows;
    f->learn_parts = (f->learn_rows + f->amount.micro_batch - 1) / f->amount.micro_batch;
    f->replay_rows = b.mine.n_rows;
    f->learn_weight = f->dpo ? (double)a.mine.seqs.n_seq / 2 : a.sum_weight;
    f->replay_weight = b.sum_weight;
    *out = (train_step_rows){f->learn_parts + (f->replay_rows + f->amount.micro_batch - 1) / f->amount.micro_batch, a.sum_weight, a.n_tokens + b.n_tokens};
    return MOTE_OK;
}

static mote_status part(void *ctx, size_t i, data_batch *out, mote_error *err) {
    finetune *f = ctx;
    bool learn = i < f->learn_parts;
    size_t n = learn ? f->learn_rows : f->replay_rows, from = (learn ? i : i - f->learn_parts) * f->amount.micro_batch;
    f->now = learn ? ROWS_LEARN : ROWS_REPLAY;
    return data_part(learn ? f->learn : f->replay, from, MIN(f->amount.micro_batch, n - from), out, err);
}

static json_t *cursor(void *ctx) {
    finetune *f = ctx;
    json_t *a = data_cursor(f->learn), *b = f->replay ? data_cursor(f->replay) : json_null();
    return json_pack("{s:o, s:o}", "learn", a, "replay", b); /* NULL when one of them is */
}

static mote_status seek(void *ctx, const json_t *c, mote_error *err) {
    finetune *f = ctx;
    TRY(data_seek(f->learn, json_object_get(c, "learn"), err));
    return f->replay ? data_seek(f->replay, json_object_get(c, "replay"), err) : MOTE_OK;
}

/* ---- privacy: Poisson sampling ---- */

static mote_status draw(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    finetune *f = ctx;
    rng r;
    (void)progress, (void)rank, (void)world;
    uint64_t key;
    memcpy(&key, f->spent.key, sizeof key);
    rng_seed(&r, key, f->draws++);
    f->n_chosen = 0;
    for (size_t i = 0; i < data_n_items(f->learn); i++) {
        if (rng_double(&r) >= f->rate) continue;
        TRY(mem_grow(&f->chosen, &f->cap_chosen, f->n_chosen + 1, sizeof *f->chosen, SIZE_MAX / 8, err));
        f->chosen[f->n_chosen++] = (uint32_t)i;
    }
    /* an empty draw is a step too: its noise hides that it was empty */
    double mean = f->n_tokens / (double)data_n_items(f->learn);
    *out = (train_step_rows){f->n_chosen, 1, (size_t)(mean * (double)f->n_chosen)};
    return MOTE_OK;
}

static mote_status drawn(void *ctx, size_t i, data_batch *out, mote_error *err) {
    finetune *f = ctx;
    f->now = ROWS_LEARN;
    return data_item(f->learn, f->chosen[i], out, err);
}

static json_t *draw_cursor(void *ctx) { return json_integer((json_int_t)((finetune *)ctx)->draws); }
static mote_status draw_seek(void *ctx, const json_t *c, mote_error *err) {
    if (!json_is_integer(c)) FAIL(err, MOTE_E_MISMATCH, "the checkpoint is not one of a private run");
    ((finetune *)ctx)->draws = (uint64_t)json_integer_value(c);
    return MOTE_OK;
}

train_source finetune_source(finetune *f) {
    if (f->private) return (train_source){f, draw, drawn, draw_cursor, draw_seek};
    return (train_source){f, step, part, cursor, seek};
}
