#include "toy_run.h"

#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

struct toy {
    const toy_opts *o;
    toy_result *r;
    var table, head;
    rng rng;
    uint64_t drawn; /* steps, of the whole run */
    int32_t ids[TOY_ROWS * TOY_LEN], target[TOY_ROWS * TOY_LEN], pos[TOY_ROWS * TOY_LEN];
    float weights[TOY_ROWS * TOY_LEN];
    uint32_t start[TOY_ROWS + 1];
    size_t first, rows; /* this process's */
};

/* ---- the rows ---- */
static mote_status draw(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    struct toy *t = ctx;
    (void)progress, (void)err;
    double sum = 0;
    t->drawn++;
    t->first = (size_t)(TOY_ROWS * rank / world);
    t->rows = (size_t)(TOY_ROWS * (rank + 1) / world) - t->first;
    for (size_t i = 0; i < TOY_ROWS * TOY_LEN; i++) {
        bool begins = i % TOY_LEN == 0, ends = i % TOY_LEN == TOY_LEN - 1;
        bool likely = rng_below(&t->rng, 4) > 0;
        int32_t any = (int32_t)rng_below(&t->rng, TOY_VOCAB);
        t->ids[i] = begins || !likely ? any : (t->ids[i - 1] * 5 + 3) % TOY_VOCAB;
        if (!begins) t->target[i - 1] = t->ids[i];
        t->pos[i] = (int32_t)(i % TOY_LEN);
        t->target[i] = -1;
        t->weights[i] = ends ? 0 : i % 3 ? 1 : 0.5f;
        sum += (double)t->weights[i];
    }
    size_t per = t->o->rows_per_part ? t->o->rows_per_part : TOY_ROWS;
    *out = (train_step_rows){(t->rows + per - 1) / per, sum, TOY_ROWS * TOY_LEN};
    return MOTE_OK;
}

static mote_status part(void *ctx, size_t i, data_batch *out, mote_error *err) {
    struct toy *t = ctx;
    (void)err;
    size_t per = t->o->rows_per_part ? t->o->rows_per_part : TOY_ROWS, from = i * per, rows = MIN(per, t->rows - from);
    size_t at = (t->first + from) * TOY_LEN;
    for (size_t k = 0; k <= rows; k++) t->start[k] = (uint32_t)(k * TOY_LEN);
    *out = (data_batch){.seqs = {rows * TOY_LEN, rows, t->start, t->pos}, .ids = t->ids + at, .target = t->target + at,
                        .weights = t->weights + at, .n_rows = rows};
    return MOTE_OK;
}

static json_t *cursor(void *ctx) {
    const struct toy *t = ctx;
    return json_pack("{s:I, s:I}", "state", (json_int_t)t->rng.state, "drawn", (json_int_t)t->drawn);
}

static mote_status seek(void *ctx, const json_t *c, mote_error *err) {
    struct toy *t = ctx;
    (void)err;
    t->rng.state = (uint64_t)json_get_int(c, "state", 0);
    t->drawn = (uint64_t)json_get_int(c, "drawn", 0);
    return MOTE_OK;
}

/* ---- the model ---- */
static var *loss(void *ctx, tape *tp, const data_batch *b, double sum_weight, mote_error *err) {
    struct toy *t = ctx;
    (void)err;
    ad_head head = {.w = &t->head, .scale = 1};
    var *h = ad_embed(tp, &t->table, b->ids, b->seqs.n);
    var *l = ad_cross_entropy(tp, h, &head, &(ad_targets){.target = b->target, .weights = b->weights, .sum_weight = sum_weight});
    if (l && t->o->bad_step == t->drawn) l = ad_scale(tp, l, (float)NAN);
    return l;
}

#define STEP_NS 5000000u
static uint64_t toy_ns = STEP_NS;
static uint64_t toy_now(void) { return toy_ns; }

static mote_status progress(void *ctx, const train_progress *p, mote_error *err) {
    struct toy *t = ctx;
    (void)err;
    if (p->step <= TOY_STEPS) t->r->losses[p->step] = p->loss;
    toy_ns += STEP_NS;
    if (t->o->pause_us) (void)usleep((useconds_t)t->o->pause_us);
    t->r->ended = p->step;
    return MOTE_OK;
}

static mote_status updated(void *ctx, uint64_t step, mote_error *err) {
    struct toy *t = ctx;
    (void)step, (void)err;
    t->r->counter++;
    return MOTE_OK;
}

static bool stop(void *ctx) {
    const struct toy *t = ctx;
    return t->o->stop_at && t->r->ended >= t->o->stop_at;
}

static void keep_line(void *ctx, int level, const char *text) {
    toy_result *r = ctx;
    size_t n = strlen(r->log);
    (void)level;
    (void)snprintf(r->log + n, sizeof r->log - n, "%s\n", text);
}

static mote_status run(struct toy *t, pool *p, const struct kern_table *kern, mote_error *err) {
    const toy_opts *o = t->o;
    toy_result *r = t->r;
    log_sink log = {keep_line, r};
    json_t *identity = json_pack("{s:s}", "recipe", o->identity ? o->identity : "toy");
    trainer_opts opts = {.pool = p, .kern = kern, .log = &log, .steps = o->steps ? o->steps : TOY_STEPS, .max_seconds = o->max_seconds, .now = toy_now, .clip = 1, .ema = o->ema ? 0.9 : 0,
        .schedule = {.kind = SCHEDULE_COSINE, .warmup = 3, .steps = TOY_STEPS}, .guard = o->guard, .dir = o->dir, .save_every = o->save_every, .keep = 3, .ranks = o->ranks,
        .identity = identity, .optim = {.kind = o->muon ? OPTIM_MUON : OPTIM_ADAMW, .lr = 0.05, .decay = 0.01, .state_bits = o->bits8 ? 8 : 32}};
    const train_param params[] = {{.name = STR("table"), .v = &t->table, .decay = true},
                                  {.name = str_of(o->second_name ? o->second_name : "head"), .v = &t->head, .muon = true}};
    train_source source = {t, draw, part, cursor, seek};
    train_hooks hooks = {.ctx = t, .progress = progress, .updated = updated, .stop = stop};
    trainer *tr = NULL;
    mote_status s = identity ? trainer_open(&tr, &opts, params, 2, &source, loss, t, &hooks, err) : MOTE_E_MEMORY;
    json_decref(identity);
    if (s == MOTE_OK) s = trainer_keep(tr, "counter", &r->counter, sizeof r->counter, err);
    if (s == MOTE_OK) s = trainer_resume(tr, &r->began, err);
    r->ended = r->began;
    if (s == MOTE_OK) s = trainer_run(tr, err);
    if (tr && o->ema) {
        trainer_swap_ema(tr);
        memcpy(r->mean, t->head.x, sizeof r->mean);
        trainer_swap_ema(tr);
    }
    trainer_close(&tr);
    return s;
}

mote_status toy_run(toy_result *r, const toy_opts *o, mote_error *err) {
    memset(r, 0, sizeof *r);
    struct toy *t = MEM_NEW(struct toy);
    pool *p = NULL;
    const struct kern_table *kern = tensor_kernels_open(CPU_ALL);
    mote_status s = t && kern ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    if (s == MOTE_OK) s = pool_open(&p, o->threads ? o->threads : 1, err);
    if (s == MOTE_OK) {
        *t = (struct toy){.o = o, .r = r};
        t->table = (var){.rows = TOY_VOCAB, .cols = TOY_DIM, .x = r->table, .wants = true};
        t->head = (var){.rows = TOY_VOCAB, .cols = TOY_DIM, .x = r->head, .wants = true};
        rng_seed(&t->rng, 7, 1);
        for (size_t i = 0; i < TOY_VOCAB * TOY_DIM; i++) {
            r->table[i] = (float)rng_double(&t->rng) - 0.5f;
            r->head[i] = (float)rng_double(&t->rng) - 0.5f;
        }
        s = run(t, p, kern, err);
    }
    pool_close(&p);
    tensor_kernels_close(&kern);
    mem_free(t);
    return s;
}

bool toy_same(const toy_result *a, const toy_result *b) {
    uint64_t from = MAX(a->began, b->began);
    return a->ended == b->ended && memcmp(a->losses + from + 1, b->losses + from + 1, (a->ended - from) * sizeof *a->losses) == 0 &&
           memcmp(a->table, b->table, sizeof a->table) == 0 && memcmp(a->head, b->head, sizeof a->head) == 0 &&
           memcmp(a->mean, b->mean, sizeof a->mean) == 0 && a->counter == b->counter;
}
