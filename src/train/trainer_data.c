/* trainer_data.c: a data set as the trainer's source. */
#include "train/trainer.h"

static mote_status step(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    train_data *of = ctx;
    data_step_info info;
    data_progress(of->d, progress);
    TRY(data_step(of->d, of->rows_per_step, rank, world, &info, err));
    of->n_rows = info.mine.n_rows;
    *out = (train_step_rows){(of->n_rows + of->rows_per_part - 1) / of->rows_per_part, info.sum_weight, info.n_tokens};
    return MOTE_OK;
}

static mote_status part(void *ctx, size_t i, data_batch *out, mote_error *err) {
    train_data *of = ctx;
    size_t from = i * of->rows_per_part;
    return data_part(of->d, from, MIN(of->rows_per_part, of->n_rows - from), out, err);
}

static json_t *cursor(void *ctx) { return data_cursor(((train_data *)ctx)->d); }
static mote_status seek(void *ctx, const json_t *c, mote_error *err) { return data_seek(((train_data *)ctx)->d, c, err); }

train_source trainer_data_source(train_data *of) { return (train_source){of, step, part, cursor, seek}; }
