/* heads_fit.c: heads by least squares and gates by logistic regression, on streams of the engine's own passes. See heads_run.h. */
#include "model/extra.h"
#include "train/heads_run.h"
#include "train/squares.h"

#include <math.h>

#define GATE_SHARE 0.25 /* of the tokens that the heads are fitted on */
#define RIDGE 1e-3      /* of each input's own mean square */
#define GATE_RIDGE 3000 /* of each input's own variance: so many tokens' worth */
#define SURE_LEAST 1e-6f
#define LEAVES 0.8f     /* rows that are so sure choose the scale */
#define LEAVE_LEAST 50  /* … if they are so many */
#define SLOPE_LEAST 0.05f
enum { AT_ONCE = 32 /* rows whose logits are made together */ };

/* z times which an exit is least far from the model, of the rows that leave: least squares give means, which are too careful where the model is sure. */
static const float scales[] = {0.8f, 1, 1.25f, 1.5f, 1.8f, 2.2f};
enum { SCALES = sizeof scales / sizeof *scales, SCALE_1 = 1 };

/* The model's own view of a row. */
typedef struct own_row {
    float p_log_p;
    size_t best;
} own_row;

typedef struct fitting {
    head_set *h;
    const heads_fit_opts *o;
    heads_engine *e;
    const hparams *hp;
    const kern_table *kern;
    pool *pool;
    gemm *g;
    size_t d;
    /* rows of a head that count, of a pass */
    uint32_t *at, *goal;     /* [n_batch] the row it looks at, and the row that it tells */
    float *by;               /* [n_batch] roots of the weights */
    size_t n_rows;
    const int32_t *ids;      /* of the pass */
    float *x, *y;            /* [n_batch, 2 d + 1], [n_batch, d] */
    squares *sums[HEADS_MAX];
    /* gates */
    float *p, *logits, *work; /* [AT_ONCE, n_vocab] the model's distributions; an exit's logits; of either */
    own_row own[AT_ONCE];
    size_t n_exits, n_gate, gate_cap;
    float *features;         /* [n_exits, gate_cap, d + 2] z, 1, log odds of the likeliest token */
    float *odds, *divergence; /* [n_exits, gate_cap, SCALES] those odds and the divergence from the model, of z times each of the scales */
    bool *same;              /* [n_exits, gate_cap] */
} fitting;

/* ---- passes ---- */
static mote_status open_fitting(fitting *f, head_set *h, const heads_fit_opts *o, mote_error *err) {
    const size_t n = h->engine->n_batch, d = h->engine->d;
    size_t size;
    *f = (fitting){.h = h, .o = o, .e = h->engine, .hp = &net_model(h->n)->hp, .kern = o->mc->kern, .pool = o->mc->pool, .d = d};
    TRY(gemm_open(&f->g, f->pool, f->kern, err));
    f->at = MEM_NEW_N(uint32_t, n);
    f->goal = MEM_NEW_N(uint32_t, n);
    f->by = MEM_NEW_N(float, n);
    if (ckd_mul_size(&size, n, 2 * d + 1)) f->x = MEM_NEW_N(float, size);
    f->y = MEM_NEW_N(float, n * d);
    if (!f->at || !f->goal || !f->by || !f->x || !f->y) FAIL(err, MOTE_E_MEMORY, "out of memory to fit %zu heads", h->n_heads);
    return MOTE_OK;
}

static void close_fitting(fitting *f) {
    for (size_t k = 0; k < HEADS_MAX; k++) squares_close(&f->sums[k]);
    gemm_close(&f->g);
    mem_free(f->at);
    mem_free(f->goal);
    mem_free(f->by);
    mem_free(f->x);
    mem_free(f->y);
    mem_free(f->p);
    mem_free(f->logits);
    mem_free(f->work);
    mem_free(f->features);
    mem_free(f->odds);
    mem_free(f->divergence);
    mem_free(f->same);
}

typedef mote_status pass_fn(fitting *f, const data_batch *b, size_t first, size_t last, mote_error *err);

/* fn for passes over n tokens of the rows, behind the first `skipped`. */
static mote_status visit(fitting *f, size_t skipped, size_t n, pass_fn *fn, mote_error *err) {
    const train_source *rows = f->o->rows;
    json_t *cursor = rows->cursor ? rows->cursor(rows->ctx) : NULL;
    mote_status s = MOTE_OK;
    for (size_t seen = 0; s == MOTE_OK && seen < skipped + n;) {
        train_step_rows step;
        s = rows->step(rows->ctx, 0, 0, 1, &step, err);
        if (s == MOTE_OK && step.n_tokens == 0) s = ERR(err, MOTE_E_FORMAT, "the data hold nothing to fit heads on");
        for (size_t i = 0; s == MOTE_OK && i < step.n_parts && seen < skipped + n; i++) {
            data_batch b;
            s = rows->part(rows->ctx, i, &b, err);
            seen += s == MOTE_OK ? b.seqs.n : 0;
            if (seen <= skipped) continue;
            for (size_t first = 0, last; s == MOTE_OK && first < b.seqs.n_seq; first = last) {
                s = heads_engine_pass(f->e, &b, first, &last, err);
                if (s == MOTE_OK && f->o->stop && f->o->stop(f->o->ctx)) s = ERR(err, MOTE_E_CANCELLED, "stopped");
                if (s == MOTE_OK) s = fn(f, &b, first, last, err);
            }
        }
    }
    if (s == MOTE_OK && cursor) s = rows->seek(rows->ctx, cursor, err);
    json_decref(cursor);
    return s;
}

/* The rows of the pass that count for head o. */
static void choose_rows(fitting *f, const one_head *o, const data_batch *b, size_t first, size_t last) {
    const uint32_t *start = b->seqs.start, base = start[first];
    f->n_rows = 0;
    f->ids = b->ids + base;
    for (size_t q = first; q < last; q++)
        for (size_t j = start[q] + o->offset; j < start[q + 1]; j++) {
            float by = b->weights ? b->weights[j] : 1;
            if (b->target[j] < 0 || !(by > 0)) continue;
            f->at[f->n_rows] = (uint32_t)(j - o->offset) - base;
            f->goal[f->n_rows] = (uint32_t)j - base;
            f->by[f->n_rows++] = sqrtf(by);
        }
}

/* ---- heads ---- */
typedef struct row_job {
    fitting *f;
    const one_head *o;
} row_job;

static void normed(const fitting *f, const one_head *o, float *y, const float *x) {
    const hparams *hp = f->hp;
    if (hp->norm == NORM_LAYER) f->kern->layer_norm(y, x, o->norm.x, NULL, hp->eps, f->d);
    else f->kern->rms_norm(y, x, o->norm.x, NULL, hp->eps, f->d);
}

/* What a head multiplies: h, the drawn token if it sees it, 1. */
static size_t n_inputs(const fitting *f, const one_head *o) { return (o->offset ? 2 : 1) * f->d + 1; }

/* x: the head's inputs; y: what is to be added to h. */
static void fit_rows(void *arg, int ith, int nth) {
    const row_job *j = arg;
    fitting *f = j->f;
    const size_t d = f->d, n = n_inputs(f, j->o);
    size_t from, to;
    pool_share(f->n_rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *x = f->x + r * n, *y = f->y + r * d;
        normed(f, j->o, x, f->e->streams[j->o->layer] + f->at[r] * d);
        if (j->o->offset) model_token_row(f->e->m, f->ids[f->at[r] + 1], x + d);
        x[n - 1] = 1;
        const float *goal = f->e->hidden + f->goal[r] * d;
        for (size_t i = 0; i < d; i++) y[i] = f->by[r] * (goal[i] - x[i]);
        for (size_t i = 0; i < n; i++) x[i] *= f->by[r];
    }
}

static mote_status fit_pass(fitting *f, const data_batch *b, size_t first, size_t last, mote_error *err) {
    (void)err;
    for (size_t k = 0; k < f->h->n_heads; k++) {
        row_job j = {f, &f->h->heads[k]};
        if (!f->sums[k]) continue;
        choose_rows(f, j.o, b, first, last);
        pool_run(f->pool, fit_rows, &j);
        squares_add(f->sums[k], f->g, f->x, f->y, f->n_rows);
    }
    return MOTE_OK;
}

static mote_status solve_head(fitting *f, squares *sums, one_head *o, mote_error *err) {
    const size_t d = f->d, n = n_inputs(f, o);
    double *damp = MEM_NEW_N(double, n), mean = 0;
    float *w = MEM_NEW_N(float, n * d);
    mote_status s = damp && w ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory to fit a head");
    for (size_t i = 0; s == MOTE_OK && i < n - 1; i++) mean += sums->xx[i * n + i] / (double)(n - 1);
    for (size_t i = 0; s == MOTE_OK && i < n; i++) damp[i] = (i < n - 1 ? RIDGE * sums->xx[i * n + i] : 0) + 1e-9 * (mean + 1);
    if (s == MOTE_OK) s = squares_solve(sums, f->pool, damp, w, err);
    for (size_t r = 0; s == MOTE_OK && r < d; r++) {
        memcpy(o->w.x + r * d, w + r * n, d * sizeof *w);
        if (o->offset) memcpy(o->v.x + r * d, w + r * n + d, d * sizeof *w);
        o->b.x[r] = w[r * n + n - 1];
    }
    mem_free(damp);
    mem_free(w);
    return s;
}

static void begin_as(one_head *o, const one_head *before) {
    memcpy(o->w.x, before->w.x, before->w.rows * before->w.cols * sizeof *o->w.x);
    memcpy(o->v.x, before->v.x, before->v.rows * before->v.cols * sizeof *o->v.x);
    memcpy(o->b.x, before->b.x, before->b.cols * sizeof *o->b.x);
}

mote_status head_set_fit(head_set *h, const heads_fit_opts *o, mote_error *err) {
    fitting f;
    mote_status s = open_fitting(&f, h, o, err);
    for (size_t k = 0; s == MOTE_OK && k < h->n_heads; k++)
        if (h->heads[k].offset <= 1) s = squares_open(&f.sums[k], n_inputs(&f, &h->heads[k]), f.d, err);
    if (s == MOTE_OK) s = visit(&f, 0, o->n_tokens, fit_pass, err);
    for (size_t k = 0; s == MOTE_OK && k < h->n_heads; k++) {
        if (f.sums[k]) s = solve_head(&f, f.sums[k], &h->heads[k], err);
        else begin_as(&h->heads[k], &h->heads[k - 1]);
    }
    close_fitting(&f);
    return s;
}

/* ---- gates ---- */
typedef struct gate_job {
    fitting *f;
    const one_head *o;
    size_t from, n; /* rows of the pass */
    size_t to;      /* where the first is noted */
} gate_job;

/* z of an exit in y. */
static void exit_rows(fitting *f, const one_head *o, size_t from, size_t n) {
    const size_t d = f->d;
    for (size_t r = 0; r < n; r++) normed(f, o, f->x + r * d, f->e->streams[o->layer] + f->at[from + r] * d);
    gemm_run(f->g, GEMM_F32, &(gemm_args){.m = n, .n = d, .k = d, .a = f->x, .b = o->w.x, .c = f->y, .lda = d, .ldb = d, .ldc = d, .tb = true});
    for (size_t r = 0; r < n; r++) {
        f->kern->axpy(f->y + r * d, f->x + r * d, 1, d);
        f->kern->axpy(f->y + r * d, o->b.x, 1, d);
    }
}

static void own_part(void *arg, int ith, int nth) {
    const gate_job *j = arg;
    fitting *f = j->f;
    const size_t n = f->hp->n_vocab;
    size_t from, to;
    pool_share(j->n, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *p = f->p + r * n, *logits = f->work + r * n;
        size_t best = 0;
        (void)extra_sure(p, n, &best);
        memcpy(logits, p, n * sizeof *p);
        float top = p[best], sum = f->kern->exp_sum(p, top, n);
        f->kern->scale(p, p, 1 / sum, n);
        f->own[r] = (own_row){f->kern->dot(p, logits, n) - top - logf(sum), best};
    }
}

static void exit_part(void *arg, int ith, int nth) {
    const gate_job *j = arg;
    fitting *f = j->f;
    const size_t d = f->d, n = f->hp->n_vocab;
    size_t from, to;
    pool_share(j->n, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *logits = f->logits + r * n, *work = f->work + r * n;
        const size_t row = j->to + r;
        const float mean = f->kern->dot(f->p + r * n, logits, n);
        size_t best = 0;
        for (size_t i = 0; i < SCALES; i++) {
            f->kern->scale(work, logits, scales[i], n);
            float sure = fminf(fmaxf(extra_sure(work, n, &best), SURE_LEAST), 1 - SURE_LEAST), top = work[best];
            f->odds[row * SCALES + i] = logf(sure / (1 - sure));
            f->divergence[row * SCALES + i] = f->own[r].p_log_p - scales[i] * mean + top + logf(f->kern->exp_sum(work, top, n));
        }
        memcpy(f->features + row * (d + 2), f->y + r * d, d * sizeof *f->y);
        f->same[row] = best == f->own[r].best;
    }
}

static mote_status gate_pass(fitting *f, const data_batch *b, size_t first, size_t last, mote_error *err) {
    static const one_head next = {0};
    (void)err;
    choose_rows(f, &next, b, first, last);
    f->n_rows = MIN(f->n_rows, f->gate_cap - f->n_gate);
    for (size_t from = 0, n; from < f->n_rows; from += n) {
        n = MIN(f->n_rows - from, (size_t)AT_ONCE);
        for (size_t r = 0; r < n; r++) memcpy(f->x + r * f->d, f->e->hidden + f->at[from + r] * f->d, f->d * sizeof *f->x);
        model_logits(f->e->s, f->x, n, f->p);
        pool_run(f->pool, own_part, &(gate_job){f, NULL, from, n, 0});
        for (size_t k = 0; k < f->n_exits; k++) {
            const one_head *o = &f->h->heads[k];
            exit_rows(f, o, from, n);
            model_logits(f->e->s, f->y, n, f->logits);
            pool_run(f->pool, exit_part, &(gate_job){f, o, from, n, k * f->gate_cap + f->n_gate});
        }
        f->n_gate += n;
    }
    return MOTE_OK;
}

/* How much each input is held back: by its variance; the constant and what the exit says itself hardly. */
static void gate_damp(double *damp, const float *x, size_t rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double sum = 0, square = 0;
        for (size_t r = 0; r < rows; r++) {
            double v = (double)x[r * n + i];
            sum += v;
            square += v * v;
        }
        double variance = fmax(square / (double)rows - sum / (double)rows * (sum / (double)rows), 0);
        damp[i] = (i + 2 < n ? GATE_RIDGE * variance : 1e-3) + 1e-6;
    }
}

/* The gate of exit k for z as it is in the features, and the odds at scale i. */
static mote_status fit_at(fitting *f, size_t k, size_t i, float *offset, double *damp, mote_error *err) {
    const size_t n = f->d + 2, rows = f->n_gate, first = k * f->gate_cap;
    float *x = f->features + first * n;
    one_head *o = &f->h->heads[k];
    for (size_t r = 0; r < rows; r++) {
        x[r * n + n - 2] = 1;
        x[r * n + n - 1] = offset[r] = f->odds[(first + r) * SCALES + i];
    }
    gate_damp(damp, x, rows, n);
    TRY(logistic_fit(o->gate, x, offset, f->same + first, rows, n, damp, f->g, f->pool, err));
    o->gate[n - 1] = fmaxf(1 + o->gate[n - 1], SLOPE_LEAST);
    o->gated = true;
    return MOTE_OK;
}

/* The scale of the rows that would leave. */
static size_t best_scale(const fitting *f, size_t k, size_t *leave) {
    const size_t n = f->d + 2, first = k * f->gate_cap;
    const float *gate = f->h->heads[k].gate, enough = logf(LEAVES / (1 - LEAVES));
    double sums[SCALES] = {0};
    size_t best = SCALE_1;
    *leave = 0;
    for (size_t r = 0; r < f->n_gate; r++) {
        if (f->kern->dot(gate, f->features + (first + r) * n, n) < enough) continue;
        ++*leave;
        for (size_t i = 0; i < SCALES; i++) sums[i] += (double)f->divergence[(first + r) * SCALES + i];
    }
    for (size_t i = 0; *leave >= LEAVE_LEAST && i < SCALES; i++)
        if (sums[i] < sums[best]) best = i;
    return f->hp->final_softcap > 0 ? SCALE_1 : best; /* behind a cap logits do not go with z */
}

static mote_status fit_gate(fitting *f, size_t k, float *offset, double *damp, mote_error *err) {
    const size_t n = f->d + 2, rows = f->n_gate, first = k * f->gate_cap;
    one_head *o = &f->h->heads[k];
    size_t same = 0, leave;
    TRY(fit_at(f, k, SCALE_1, offset, damp, err));
    const size_t at = best_scale(f, k, &leave);
    for (size_t r = 0; r < rows; r++) {
        f->kern->scale(f->features + (first + r) * n, f->features + (first + r) * n, scales[at], n - 2);
        same += f->same[first + r];
    }
    f->kern->scale(o->norm.x, o->norm.x, scales[at], f->d);
    f->kern->scale(o->b.x, o->b.x, scales[at], f->d);
    if (at != SCALE_1) TRY(fit_at(f, k, at, offset, damp, err));
    log_line(f->o->log, LOG_INFO, "exit behind layer %zu: on %zu tokens the model's likeliest %.1f %%; %.1f %% are sure by %g, and lie times %g nearest to the model", o->layer,
             rows, 100 * (double)same / (double)rows, 100 * (double)leave / (double)rows, (double)LEAVES, (double)scales[at]);
    return MOTE_OK;
}

mote_status head_set_gate(head_set *h, const heads_fit_opts *o, mote_error *err) {
    fitting f;
    double *damp = NULL;
    float *offset = NULL;
    size_t n_exits = 0, size;
    while (n_exits < h->n_heads && h->heads[n_exits].offset == 0) n_exits++;
    if (n_exits == 0) return MOTE_OK;
    mote_status s = open_fitting(&f, h, o, err);
    if (s == MOTE_OK) {
        f.n_exits = n_exits;
        f.gate_cap = (size_t)(GATE_SHARE * (double)o->n_tokens) + 1;
        const size_t rows = n_exits * f.gate_cap, logits = AT_ONCE * f.hp->n_vocab;
        if (ckd_mul_size(&size, rows, f.d + 2)) f.features = MEM_NEW_N(float, size);
        f.odds = MEM_NEW_N(float, rows * SCALES);
        f.divergence = MEM_NEW_N(float, rows * SCALES);
        f.same = MEM_NEW_N(bool, rows);
        f.p = MEM_NEW_N(float, logits);
        f.logits = MEM_NEW_N(float, logits);
        f.work = MEM_NEW_N(float, logits);
        damp = MEM_NEW_N(double, f.d + 2);
        offset = MEM_NEW_N(float, f.gate_cap);
        if (!f.features || !f.odds || !f.divergence || !f.same || !f.p || !f.logits || !f.work || !damp || !offset)
            s = ERR(err, MOTE_E_MEMORY, "out of memory for the gates of %zu exits", n_exits);
    }
    if (s == MOTE_OK) s = visit(&f, o->n_seen, f.gate_cap, gate_pass, err);
    if (s == MOTE_OK && f.n_gate == 0) s = ERR(err, MOTE_E_FORMAT, "the data hold nothing to fit gates on");
    for (size_t k = 0; s == MOTE_OK && k < n_exits; k++) s = fit_gate(&f, k, offset, damp, err);
    mem_free(damp);
    mem_free(offset);
    close_fitting(&f);
    return s;
}
