/* steps_test.c: five steps of AdamW on each folder of $MOTE_SHARED/oracle/train, by the trainer, against PyTorch's losses.
 *
 *   steps_test [--report] [NAME…]
 *
 * A pass: every loss within 1e-4. The two sequences of forward.safetensors are the batch of each step; they go through the net as
 * one part, and as two that add up. */
#include "oracle_util.h"
#include "report.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>

#define BAR 1e-4
enum { STEPS = 5, PARAMS_MAX = 1000 };

/* The same rows each step, in one part or in as many as there are sequences. */
struct same_rows {
    const int32_t *ids;
    size_t n_seq, len;
    bool apart;
    int32_t pos[512], target[512];
    uint32_t start[9];
};

static mote_status rows_step(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    const struct same_rows *r = ctx;
    (void)progress, (void)rank, (void)world, (void)err;
    *out = (train_step_rows){r->apart ? r->n_seq : 1, (double)(r->n_seq * (r->len - 1)), r->n_seq * r->len};
    return MOTE_OK;
}

static mote_status rows_part(void *ctx, size_t i, data_batch *out, mote_error *err) {
    struct same_rows *r = ctx;
    size_t n_seq = r->apart ? 1 : r->n_seq, at = i * r->len;
    (void)err;
    *out = (data_batch){.seqs = {.n = n_seq * r->len, .n_seq = n_seq, .start = r->start, .pos = r->pos}, .ids = r->ids + at,
                        .target = r->target + at, .n_rows = n_seq, .sum_weight = (double)(n_seq * (r->len - 1))};
    return MOTE_OK;
}

static mote_status rows_open(struct same_rows *r, const st_file *f, bool apart, mote_error *err) {
    const st_tensor *ids = st_find(f, "input_ids");
    if (!ids || !str_is(ids->dtype, "I32") || ids->n_dims != 2 || ids->shape[0] > 8 || ids->shape[0] * ids->shape[1] > COUNT_OF(r->pos))
        FAIL(err, MOTE_E_FORMAT, "forward.safetensors: input_ids is missing or of another shape");
    *r = (struct same_rows){.ids = (const int32_t *)(const void *)ids->data, .n_seq = ids->shape[0], .len = ids->shape[1], .apart = apart};
    for (size_t i = 0; i <= r->n_seq; i++) r->start[i] = (uint32_t)(i * r->len);
    for (size_t i = 0; i < r->n_seq * r->len; i++) {
        r->pos[i] = (int32_t)(i % r->len);
        r->target[i] = i % r->len + 1 < r->len ? r->ids[i + 1] : -1;
    }
    return MOTE_OK;
}

/* worst: the greatest distance to PyTorch's losses. */
static mote_status five_steps(const char *name, const struct same_rows *rows, const json_t *steps, double *worst, mote_error *err) {
    char path[4096];
    const json_t *o = json_object_get(steps, "adamw"), *betas = json_object_get(o, "betas"), *losses = json_object_get(steps, "losses");
    pool *p = NULL;
    model *m = NULL;
    net *n = NULL;
    trainer *t = NULL;
    const struct kern_table *kern = tensor_kernels_open(CPU_ALL);
    static train_param params[PARAMS_MAX];
    mote_status st;
    if (!kern) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, pool_open(&p, 2, err));
    TRYG(st, model_open(&m, oracle_path(path, "train/%s", name), NULL, p, err));
    TRYG(st, net_open(&n, m, p, &(net_opts){0}, err));
    size_t n_params = trainer_net_params(n, true, params, PARAMS_MAX);
    trainer_opts opts = {.pool = p, .kern = kern, .steps = STEPS, .clip = json_get_num(o, "clip_norm", 0),
        .optim = {.lr = json_get_num(o, "lr", 0), .beta1 = json_number_value(json_array_get(betas, 0)),
                  .beta2 = json_number_value(json_array_get(betas, 1)), .eps = json_get_num(o, "eps", 0), .decay = json_get_num(o, "weight_decay", 0)}};
    union {
        const struct same_rows *in;
        void *out;
    } ctx = {rows};
    TRYG(st, trainer_open(&t, &opts, params, n_params, &(train_source){.ctx = ctx.out, .step = rows_step, .part = rows_part},
                          trainer_next_token_loss, n, NULL, err));
    *worst = 0;
    for (size_t i = 0; i < STEPS; i++) {
        train_progress now;
        TRYG(st, trainer_step(t, &now, err));
        double off = fabs(now.loss - json_number_value(json_array_get(losses, i)));
        *worst = off > *worst || isnan(off) ? off : *worst;
    }
out:
    trainer_close(&t);
    net_close(&n);
    model_close(&m);
    pool_close(&p);
    tensor_kernels_close(&kern);
    return st;
}

static bool test_one(const char *name, bool apart, bool report) {
    char path[4096], item[160];
    file_map f = {0}, text = {0};
    st_file *st = NULL;
    json_t *steps = NULL;
    mote_error err = {0};
    double worst = HUGE_VAL;
    struct same_rows rows;
    mote_status s;
    TRYG(s, file_open(&f, oracle_path(path, "train/%s/forward.safetensors", name), FILE_READ, &err));
    TRYG(s, st_parse(&st, f.p, f.n, &err));
    TRYG(s, file_open(&text, oracle_path(path, "train/%s/steps.json", name), FILE_READ, &err));
    TRYG(s, json_parse(&steps, (str){(const char *)text.p, text.n}, path, &err));
    TRYG(s, rows_open(&rows, st, apart, &err));
    s = five_steps(name, &rows, steps, &worst, &err);
out:
    st_close(&st);
    file_close(&f);
    file_close(&text);
    json_decref(steps);
    bool ok = s == MOTE_OK && worst <= BAR;
    (void)snprintf(item, sizeof item, "%s five AdamW steps%s", name, apart ? ", accumulated" : "");
    if (report) oracle_report("train", item, ok, worst, BAR, "trainer");
    if (s != MOTE_OK) printf("FAIL %s: %s\n", item, err.message);
    else printf("%s %-40s losses off by %.1e at most\n", ok ? "ok  " : "FAIL", item, worst);
    return ok;
}

static bool test_both(const char *name, bool report) { return test_one(name, false, report) & test_one(name, true, report); }

int main(int argc, char **argv) { return oracle_train_folders(argc, argv, test_both); }
