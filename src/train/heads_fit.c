/* heads_fit.c: heads by least squares and gates by logistic regression, on streams of the engine's own passes. See heads_run.h. */
#include "model/extra.h"
#include "train/heads_run.h"
#include "train/squares.h"

#include <math.h>

#define GATE_SHARE 0.25 /* of the tokens that the heads are fitted on */
#define RIDGE 1e-3      /* of each input's own mean square */
#define GATE_RIDGE 3000 /* of each input's own variance: so many tokens' worth */
#define SURE_LEAST 1e-6f
#define SLOPE_LEAST 0.05f
enum { AT_ONCE = 32 /* rows whose logits are made together */ };

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
    float *x, *y;            /* [n_batch, d + 1], [n_batch, d] */
    squares *sums[HEADS_MAX];
    /* gates */
    float *logits;           /* [AT_ONCE, n_vocab] */
    size_t *best;            /* [n_batch] the model's likeliest token */
    size_t n_exits, n_gate, gate_cap;
    float *features, *offset; /* [n_exits, gate_cap, d + 2], [n_exits, gate_cap] */
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
    f->best = MEM_NEW_N(size_t, n);
    if (ckd_mul_size(&size, n, d + 1)) f->x = MEM_NEW_N(float, size);
    f->y = MEM_NEW_N(float, n * d);
    if (!f->at || !f->goal || !f->by || !f->best || !f->x || !f->y) FAIL(err, MOTE_E_MEMORY, "out of memory to fit %zu heads", h->n_heads);
    return MOTE_OK;
}

static void close_fitting(fitting *f) {
    for (size_t k = 0; k < HEADS_MAX; k++) squares_close(&f->sums[k]);
    gemm_close(&f->g);
    mem_free(f->at);
    mem_free(f->goal);
    mem_free(f->by);
    mem_free(f->best);
    mem_free(f->x);
    mem_free(f->y);
    mem_free(f->logits);
    mem_free(f->features);
    mem_free(f->offset);
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

/* x: the head's inputs and 1; y: what is to be added to them. */
static void fit_rows(void *arg, int ith, int nth) {
    const row_job *j = arg;
    fitting *f = j->f;
    const size_t d = f->d;
    size_t from, to;
    pool_share(f->n_rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        float *x = f->x + r * (d + 1), *y = f->y + r * d;
        normed(f, j->o, x, f->e->streams[j->o->layer] + f->at[r] * d);
        x[d] = 1;
        const float *goal = f->e->hidden + f->goal[r] * d;
        for (size_t i = 0; i < d; i++) y[i] = f->by[r] * (goal[i] - x[i]);
        for (size_t i = 0; i <= d; i++) x[i] *= f->by[r];
    }
}

static mote_status fit_pass(fitting *f, const data_batch *b, size_t first, size_t last, mote_error *err) {
    (void)err;
    for (size_t k = 0; k < f->h->n_heads; k++) {
        row_job j = {f, &f->h->heads[k]};
        choose_rows(f, j.o, b, first, last);
        pool_run(f->pool, fit_rows, &j);
        squares_add(f->sums[k], f->g, f->x, f->y, f->n_rows);
    }
    return MOTE_OK;
}

static mote_status solve_head(fitting *f, squares *sums, one_head *o, mote_error *err) {
    const size_t d = f->d, n = d + 1;
    double *damp = MEM_NEW_N(double, n), mean = 0;
    float *w = MEM_NEW_N(float, n * d);
    mote_status s = damp && w ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory to fit a head");
    for (size_t i = 0; s == MOTE_OK && i < d; i++) mean += sums->xx[i * n + i] / (double)d;
    for (size_t i = 0; s == MOTE_OK && i < n; i++) damp[i] = (i < d ? RIDGE * sums->xx[i * n + i] : 0) + 1e-9 * (mean + 1);
    if (s == MOTE_OK) s = squares_solve(sums, f->pool, damp, w, err);
    for (size_t r = 0; s == MOTE_OK && r < d; r++) {
        memcpy(o->w.x + r * d, w + r * n, d * sizeof *w);
        o->b.x[r] = w[r * n + d];
    }
    mem_free(damp);
    mem_free(w);
    return s;
}

mote_status head_set_fit(head_set *h, const heads_fit_opts *o, mote_error *err) {
    fitting f;
    mote_status s = open_fitting(&f, h, o, err);
    for (size_t k = 0; s == MOTE_OK && k < h->n_heads; k++) s = squares_open(&f.sums[k], f.d + 1, f.d, err);
    if (s == MOTE_OK) s = visit(&f, 0, o->n_tokens, fit_pass, err);
    for (size_t k = 0; s == MOTE_OK && k < h->n_heads; k++) s = solve_head(&f, f.sums[k], &h->heads[k], err);
    close_fitting(&f);
    return s;
}

/* ---- gates ---- */
typedef struct sure_job {
    fitting *f;
    size_t from, n;  /* rows of the pass whose logits are there */
    float *features; /* of the exit, behind what it has already; NULL: the model's own rows */
    float *offset;
    bool *same;
} sure_job;

static void gather_rows(void *arg, int ith, int nth) {
    const row_job *j = arg;
    fitting *f = j->f;
    const size_t d = f->d;
    size_t from, to;
    pool_share(f->n_rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        if (j->o) normed(f, j->o, f->x + r * d, f->e->streams[j->o->layer] + f->at[r] * d);
        else memcpy(f->x + r * d, f->e->hidden + f->at[r] * d, d * sizeof(float));
    }
}

static void look_rows(void *arg, int ith, int nth) {
    const sure_job *j = arg;
    fitting *f = j->f;
    const size_t d = f->d, n_vocab = f->hp->n_vocab;
    size_t from, to;
    pool_share(j->n, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        size_t best = 0, row = j->from + r;
        float sure = extra_sure(f->logits + r * n_vocab, n_vocab, &best);
        if (!j->features) {
            f->best[row] = best;
            continue;
        }
        sure = fminf(fmaxf(sure, SURE_LEAST), 1 - SURE_LEAST);
        float *x = j->features + row * (d + 2);
        memcpy(x, f->y + row * d, d * sizeof *x);
        x[d] = 1;
        x[d + 1] = j->offset[row] = logf(sure / (1 - sure));
        j->same[row] = best == f->best[row];
    }
}

static void look_at(fitting *f, const float *z, sure_job *j) {
    for (j->from = 0; j->from < f->n_rows; j->from += AT_ONCE) {
        j->n = MIN(f->n_rows - j->from, (size_t)AT_ONCE);
        model_logits(f->e->s, z + j->from * f->d, j->n, f->logits);
        pool_run(f->pool, look_rows, j);
    }
}

static mote_status gate_pass(fitting *f, const data_batch *b, size_t first, size_t last, mote_error *err) {
    static const one_head next = {0};
    const size_t d = f->d, cap = f->gate_cap;
    (void)err;
    choose_rows(f, &next, b, first, last);
    f->n_rows = MIN(f->n_rows, cap - f->n_gate);
    pool_run(f->pool, gather_rows, &(row_job){f, NULL});
    look_at(f, f->x, &(sure_job){.f = f});
    for (size_t k = 0; k < f->n_exits; k++) {
        const one_head *o = &f->h->heads[k];
        const size_t to = k * cap + f->n_gate;
        pool_run(f->pool, gather_rows, &(row_job){f, o});
        gemm_run(f->g, GEMM_F32, &(gemm_args){.m = f->n_rows, .n = d, .k = d, .a = f->x, .b = o->w.x, .c = f->y, .lda = d, .ldb = d, .ldc = d, .tb = true});
        for (size_t r = 0; r < f->n_rows; r++) {
            f->kern->axpy(f->y + r * d, f->x + r * d, 1, d);
            f->kern->axpy(f->y + r * d, o->b.x, 1, d);
        }
        look_at(f, f->y, &(sure_job){.f = f, .features = f->features + to * (d + 2), .offset = f->offset + to, .same = f->same + to});
    }
    f->n_gate += f->n_rows;
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

static mote_status fit_gate(fitting *f, size_t k, double *damp, mote_error *err) {
    const size_t n = f->d + 2, rows = f->n_gate;
    const float *x = f->features + k * f->gate_cap * n;
    one_head *o = &f->h->heads[k];
    size_t same = 0;
    gate_damp(damp, x, rows, n);
    TRY(logistic_fit(o->gate, x, f->offset + k * f->gate_cap, f->same + k * f->gate_cap, rows, n, damp, f->g, f->pool, err));
    o->gate[n - 1] = fmaxf(1 + o->gate[n - 1], SLOPE_LEAST);
    o->gated = true;
    for (size_t r = 0; r < rows; r++) same += f->same[k * f->gate_cap + r];
    log_line(f->o->log, LOG_DEBUG, "exit behind layer %zu: the model's likeliest token in %.1f %% of %zu places that its gate learns from", o->layer,
             100 * (double)same / (double)rows, rows);
    return MOTE_OK;
}

mote_status head_set_gate(head_set *h, const heads_fit_opts *o, mote_error *err) {
    fitting f;
    double *damp = NULL;
    size_t n_exits = 0, size;
    while (n_exits < h->n_heads && h->heads[n_exits].offset == 0) n_exits++;
    if (n_exits == 0) return MOTE_OK;
    mote_status s = open_fitting(&f, h, o, err);
    if (s == MOTE_OK) {
        f.n_exits = n_exits;
        f.gate_cap = (size_t)(GATE_SHARE * (double)o->n_tokens) + 1;
        if (ckd_mul_size(&size, n_exits * f.gate_cap, f.d + 2)) f.features = MEM_NEW_N(float, size);
        f.offset = MEM_NEW_N(float, n_exits * f.gate_cap);
        f.same = MEM_NEW_N(bool, n_exits * f.gate_cap);
        f.logits = MEM_NEW_N(float, AT_ONCE * f.hp->n_vocab);
        damp = MEM_NEW_N(double, f.d + 2);
        if (!f.features || !f.offset || !f.same || !f.logits || !damp) s = ERR(err, MOTE_E_MEMORY, "out of memory for the gates of %zu exits", n_exits);
    }
    if (s == MOTE_OK) s = visit(&f, o->n_tokens, f.gate_cap, gate_pass, err);
    if (s == MOTE_OK && f.n_gate == 0) s = ERR(err, MOTE_E_FORMAT, "the data hold nothing to fit gates on");
    for (size_t k = 0; s == MOTE_OK && k < n_exits; k++) s = fit_gate(&f, k, damp, err);
    mem_free(damp);
    close_fitting(&f);
    return s;
}
