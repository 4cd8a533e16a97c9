/* trainer.c: a step: rows, losses, gradients, the guard, the update. trainer_run.c has the run around it. */
#include "train/trainer_int.h"

#include <inttypes.h>
#include <math.h>

mote_status trainer_alloc(trainer *t, const train_param *params, mote_error *err) {
    size_t n = t->n;
    t->params = MEM_NEW_N(train_param, n);
    t->rooms = MEM_NEW_N(float *, n);
    t->averages = MEM_NEW_N(float *, n);
    t->has_grad = MEM_NEW_N(double, n);
    if (!t->params || !t->rooms || !t->averages || !t->has_grad) FAIL(err, MOTE_E_MEMORY, "out of memory");
    memcpy(t->params, params, n * sizeof *params);
    for (size_t i = 0; i < n; i++) {
        var *v = params[i].v;
        size_t count = v->rows * v->cols;
        t->n_values += count;
        if (!v->wants) FAIL(err, MOTE_E_USAGE, "%.*s: a parameter that wants no gradient cannot be trained", STR_ARG(params[i].name));
        if (!v->room) v->room = t->rooms[i] = mem_alloc_aligned(count * sizeof(float));
        if (t->o.ema > 0) t->averages[i] = mem_alloc_aligned(count * sizeof(float));
        if (!v->room || (t->o.ema > 0 && !t->averages[i])) FAIL(err, MOTE_E_MEMORY, "out of memory for the gradient of %.*s", STR_ARG(params[i].name));
        if (t->averages[i]) memcpy(t->averages[i], v->x, count * sizeof(float));
    }
    return MOTE_OK;
}

void trainer_free(trainer *t) {
    for (size_t i = 0; t->params && t->rooms && i < t->n; i++) {
        if (t->rooms[i]) t->params[i].v->room = t->params[i].v->g = NULL;
        mem_free_aligned(t->rooms[i]);
        if (t->averages) mem_free_aligned(t->averages[i]);
    }
    mem_free(t->params);
    mem_free(t->rooms);
    mem_free(t->averages);
    mem_free(t->has_grad);
    mem_free(t->extra);
    if (t->identity) json_decref(t->identity);
    mem_free(t->dir_path);
}

/* ---- gradients ---- */

/* Loss and gradients of one part, added to what is there. */
static mote_status part(trainer *t, size_t i, double sum_weight, double *loss, mote_error *err) {
    data_batch b;
    mote_error why = {.code = MOTE_OK};
    TRY(t->source.part(t->source.ctx, i, &b, err));
    tape_reset(t->tape);
    var *l = t->loss(t->loss_ctx, t->tape, &b, sum_weight, &why);
    TRY(tape_status(t->tape, err));
    if (!l) {
        if (why.code == MOTE_OK) FAIL(err, MOTE_E_INTERNAL, "a loss gave neither a result nor a reason");
        if (err) *err = why;
        return why.code;
    }
    *loss += (double)l->x[0];
    tape_back(t->tape, l, 1);
    TRY(tape_status(t->tape, err));
    return t->hooks.part_done ? t->hooks.part_done(t->hooks.ctx, i, err) : MOTE_OK;
}

static mote_status own_parts(trainer *t, const train_step_rows *rows, double *loss, mote_error *err) {
    for (size_t i = 0; i < t->n; i++) t->params[i].v->g = NULL;
    for (size_t i = 0; i < rows->n_parts; i++) TRY(part(t, i, rows->sum_weight, loss, err));
    return MOTE_OK;
}

/* Sums over processes. One that failed tells the others, so that none waits for it for ever. */
static mote_status over_ranks(trainer *t, mote_status own, double *loss, mote_error *err) {
    if (ranks_size(t->o.ranks) == 1) return own;
    double told[2] = {*loss, own != MOTE_OK};
    mote_status s = ranks_sum_f64(t->o.ranks, told, 2, own == MOTE_OK ? err : NULL);
    if (own != MOTE_OK) return own;
    TRY(s);
    if (told[1] > 0) FAIL(err, MOTE_E_CANCELLED, "another process of this run failed; its message says why");
    *loss = told[0];
    for (size_t i = 0; i < t->n; i++) t->has_grad[i] = t->params[i].v->g != NULL;
    TRY(ranks_sum_f64(t->o.ranks, t->has_grad, t->n, err));
    for (size_t i = 0; i < t->n; i++) {
        var *v = t->params[i].v;
        if (t->has_grad[i] == 0) continue;
        if (!v->g) {
            v->g = v->room;
            memset(v->g, 0, v->rows * v->cols * sizeof(float));
        }
        TRY(ranks_sum(t->o.ranks, v->g, v->rows * v->cols, err));
    }
    return MOTE_OK;
}

/* The next rows in which something is to be learned. */
static mote_status draw(trainer *t, train_step_rows *rows, mote_error *err) {
    enum { TRIES = 1000 };
    double progress = t->o.steps ? (double)t->at / (double)t->o.steps : 0;
    for (int i = 0; i < TRIES; i++) {
        TRY(t->source.step(t->source.ctx, progress, ranks_rank(t->o.ranks), ranks_size(t->o.ranks), rows, err));
        if (rows->sum_weight > 0) return MOTE_OK;
    }
    FAIL(err, MOTE_E_FORMAT, "step %" PRIu64 ": %d steps in a row hold no token that is to be learned", t->at + 1, TRIES);
}

/* ---- the guard ---- */
static mote_status guard(trainer *t, double loss, double length, bool *leave_out, mote_error *err) {
    *leave_out = false;
    if (isfinite(loss) && isfinite(length)) {
        t->bad_in_row = 0;
        return MOTE_OK;
    }
    const train_param *bad = optim_bad_grad(t->optim);
    char what[256];
    if (bad) (void)snprintf(what, sizeof what, "the gradient of '%.*s' is not finite (loss %g)", STR_ARG(bad->name), loss);
    else (void)snprintf(what, sizeof what, "the loss is %g", loss);
    uint64_t step = t->at + 1;
    if (t->o.guard == GUARD_STOP)
        FAIL(err, MOTE_E_OUTPUT, "step %" PRIu64 ": %s; a lower learning rate or a clip may help, or let such steps be skipped", step, what);
    if (++t->bad_in_row > t->o.bad_max)
        FAIL(err, MOTE_E_OUTPUT, "step %" PRIu64 ": %s, the step number %zu in a row; the run ends", step, what, t->bad_in_row);
    t->skipped++;
    *leave_out = true;
    if (t->o.guard == GUARD_BACK && t->saved_any) {
        log_line(t->o.log, LOG_WARN, "step %" PRIu64 ": %s; back to the last checkpoint, on behind these rows", step, what);
        return trainer_go_back(t, err);
    }
    log_line(t->o.log, LOG_WARN, "step %" PRIu64 ": %s; its rows are left out", step, what);
    t->at++;
    return MOTE_OK;
}

/* ---- averages ---- */
struct average {
    float *e;
    const float *x;
    size_t n;
    float rest;
};
static void average_part(void *arg, int ith, int nth) {
    const struct average *a = arg;
    size_t from, to;
    pool_share(a->n, 64, ith, nth, &from, &to);
    for (size_t i = from; i < to; i++) a->e[i] += a->rest * (a->x[i] - a->e[i]);
}

static void average(trainer *t) {
    if (!(t->o.ema > 0)) return;
    double n = (double)t->updates, d = fmin(t->o.ema, (1 + n) / (10 + n)); /* the first steps forget the start sooner */
    for (size_t i = 0; i < t->n; i++) {
        const var *v = t->params[i].v;
        pool_run(t->o.pool, average_part, &(struct average){t->averages[i], v->x, v->rows * v->cols, (float)(1 - d)});
    }
}

void trainer_swap_ema(trainer *t) {
    for (size_t i = 0; i < t->n; i++) {
        float *e = t->averages[i], *x = t->params[i].v->x;
        for (size_t k = 0; e && k < t->params[i].v->rows * t->params[i].v->cols; k++) {
            float y = e[k];
            e[k] = x[k];
            x[k] = y;
        }
    }
}

/* ---- the step ---- */
static void measure(trainer *t, uint64_t began, size_t n_tokens, train_progress *p) {
    enum { WINDOW = 10 };
    double seconds = (double)(clock_ns() - began) * 1e-9;
    t->tokens += n_tokens;
    t->timed = MIN(t->timed + 1, WINDOW);
    double share = 1 / (double)t->timed;
    t->step_seconds += share * (seconds - t->step_seconds);
    t->step_tokens += share * ((double)n_tokens - t->step_tokens);
    t->seconds += seconds;
    p->tokens_per_s = t->step_seconds > 0 ? t->step_tokens / t->step_seconds : 0;
    p->seconds_left = t->o.steps > t->at ? (double)(t->o.steps - t->at) * t->step_seconds : 0;
    p->seconds = t->seconds;
}

mote_status trainer_step(trainer *t, train_progress *p, mote_error *err) {
    uint64_t began = clock_ns();
    train_step_rows rows = {0};
    double loss = 0;
    bool leave_out;
    mote_status own = draw(t, &rows, err);
    if (own == MOTE_OK) own = own_parts(t, &rows, &loss, err);
    TRY(over_ranks(t, own, &loss, err));
    if (t->hooks.grads_done) TRY(t->hooks.grads_done(t->hooks.ctx, err));
    optim_grads_ready(t->optim);
    double length = optim_grad_norm(t->optim), factor = schedule_at(&t->o.schedule, t->at);
    *p = (train_progress){.steps = t->o.steps, .loss = loss, .grad_norm = length, .rate = factor * optim_rate(t->optim), .eval_loss = (double)NAN};
    TRY(guard(t, loss, length, &leave_out, err));
    if (!leave_out) {
        double scale = t->o.clip > 0 ? t->o.clip / (length + 1e-6) : 1;
        optim_step(t->optim, t->updates, factor, (float)fmin(scale, 1));
        t->updates++;
        t->at++;
        average(t);
        if (t->hooks.updated) TRY(t->hooks.updated(t->hooks.ctx, t->at, err));
    }
    measure(t, began, rows.n_tokens, p);
    p->step = t->at;
    p->tokens = t->tokens;
    p->skipped = t->skipped;
    p->peak_bytes = tape_peak_bytes(t->tape);
    return MOTE_OK;
}
