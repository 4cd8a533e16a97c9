/* heads_run.c: a run of `mote heads`, from its options to its file. See heads_run.h. */
#include "train/heads_run.h"

#include "base/clock.h"
#include "train/distil.h"
#include "train/runlog.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#define LR 1e-3         /* Cai et al. 2024, §3.1 */
#define FIT_TOKENS 6e4
#define FEW 2048           /* of the vocabulary: tokens that are drawn beside those that matter, for gradients */
#define FIT_MOST 0.8       /* of the data: the gates learn from others */
#define HELD_TOKENS 4096
#define LIKELY 4096
enum { N_CTX = 256, BATCH = 4, LOOKS = 5, BYTES_A_TOKEN = 4 };

/* Of many data little is read: one step in so many, so that it comes from more texts. */
typedef struct thinned {
    train_source of;
    size_t apart;
} thinned;
enum { APART_MOST = 32 };

typedef struct job {
    const mote_train_heads_opts *o;
    mote_train_heads_report *r;
    train_machine mc;
    log_sink log;
    model *m;
    net *n;
    tok_vocab *vocab;
    chat_template *tmpl;
    data *learn, *held;
    data_source *sources;
    head_set set;
    quant_type type;
    train_amount amount;
    train_data of;
    distil_rows rows;       /* that the model made up */
    distil_source *made;
    train_source source;
    thinned thin;
    size_t fit_tokens;
    bool trains;            /* by gradients, too */
    trainer_opts to;
    train_param params[HEAD_VARS * HEADS_MAX];
    size_t n_params;
    json_t *identity;
    trainer *t;
    runlog *runlog;
    heads_seen seen[HEADS_MAX]; /* of the last look at held-out data */
    bool looked;
    char dir[480];
    double flops;
} job;

static void say(void *ctx, int level, const char *line) {
    const job *j = ctx;
    if (level >= LOG_INFO && j->o->on.line) j->o->on.line(j->o->on.ctx, line);
}

static bool first(const job *j) { return ranks_rank(j->mc.ranks) == 0; }

/* ---- opening ---- */
static mote_status check(job *j, mote_error *err) {
    const mote_train_heads_opts *o = j->o;
    const quant_format *f = quant_by_name(o->out_type ? o->out_type : "f16");
    if (!o->model) FAIL(err, MOTE_E_USAGE, "no model that the heads are for");
    if (!o->out || !*o->out) FAIL(err, MOTE_E_USAGE, "no output: the heads file to write is missing");
    if (!o->n_data && !o->untrained) FAIL(err, MOTE_E_USAGE, "no data: at least one file of text or JSONL is needed");
    if (o->train.freeze) FAIL(err, MOTE_E_USAGE, "freeze: the model that heads are for keeps all its weights anyway");
    if (!f || !f->encode) FAIL(err, MOTE_E_USAGE, "'%.40s' is no number format that can be written", o->out_type);
    if (!(o->text >= 0 && o->text <= 1)) FAIL(err, MOTE_E_USAGE, "a share of %g of the text's own tokens: expected 0 to 1", o->text);
    if (!(o->generate >= 0 && o->sample_temperature >= 0)) FAIL(err, MOTE_E_USAGE, "%g tokens to make up at temperature %g: expected numbers from 0 on", o->generate, o->sample_temperature);
    if (!(o->held_out < 1)) FAIL(err, MOTE_E_USAGE, "%g of the data held out: expected a share below 1", o->held_out);
    j->type = f->type;
    return MOTE_OK;
}

static mote_status open_base(job *j, mote_error *err) {
    const mote_train_heads_opts *o = j->o;
    size_t layers[HEADS_MAX], n = 0, medusa = o->medusa;
    const char *exits = o->exits;
    if (!exits && !medusa) {
        exits = "auto";
        medusa = 3;
    }
    TRY(train_machine_open(&j->mc, &o->train, o->on.progress != NULL, err));
    TRY(model_open(&j->m, o->model, &(model_opts){.cpu_mask = j->mc.cpu_mask, .log = &j->log}, j->mc.pool, err));
    TRY(head_set_exits(layers, &n, exits ? exits : "", j->m->hp.n_layer, err));
    TRY(net_open(&j->n, j->m, j->mc.pool, &(net_opts){.frozen = true, .checkpoint = true, .packed = true}, err));
    TRY(head_set_open(&j->set, j->n, layers, n, medusa, (float)o->text, err));
    if (j->m->hp.n_embd % quant_get((int)j->type)->block != 0)
        FAIL(err, MOTE_E_USAGE, "%s has blocks of %u numbers, which do not divide the heads' width of %zu; take another type", quant_get((int)j->type)->name,
             quant_get((int)j->type)->block, j->m->hp.n_embd);
    j->n_params = head_set_params(&j->set, j->params, COUNT_OF(j->params));
    for (size_t i = 0; i < j->n_params; i++) j->r->n_trained += j->params[i].v->rows * j->params[i].v->cols;
    return MOTE_OK;
}

static mote_status open_data(job *j, size_t n_ctx, mote_error *err) {
    const mote_train_heads_opts *o = j->o;
    mote_error none;
    TRY(tok_open(&j->vocab, model_get_file(j->m), &j->log, err));
    if (data_template(&j->tmpl, model_get_file(j->m), j->vocab, &none) != MOTE_OK) j->tmpl = NULL; /* only chats need one, and the data say so */
    j->sources = MEM_NEW_N(data_source, o->n_data);
    if (!j->sources) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < o->n_data; i++) j->sources[i].path = o->data[i];
    double held = o->held_out < 0 ? 0 : o->held_out > 0 ? o->held_out : 0.01;
    data_opts d = {.sources = j->sources, .n_sources = o->n_data, .vocab = j->vocab, .tmpl = j->tmpl, .n_ctx = n_ctx, .seed = o->train.seed ? o->train.seed : 1,
                   .split = held > 0 ? DATA_TRAIN : DATA_ALL, .held_out = held, .log = &j->log};
    TRY(data_open(&j->learn, &d, err));
    if (!(held > 0)) return MOTE_OK;
    d.split = DATA_HELD;
    if (data_get_stats(j->learn, SIZE_MAX).held_out == 0 || data_open(&j->held, &d, &none) != MOTE_OK)
        log_line(&j->log, LOG_WARN, "too little data to hold some out: the heads' figures are not measured");
    return MOTE_OK;
}

/* ---- looking ---- */
/* What every head says on the same held-out items each time. */
static mote_status look(job *j, tape *t, mote_error *err) {
    size_t all = j->held ? data_n_items(j->held) : 0, n = MIN(all, MAX(HELD_TOKENS / j->amount.n_ctx, (size_t)1));
    heads_seen sums[HEADS_MAX] = {{0}};
    for (size_t i = 0; i < n; i++) {
        data_batch b;
        TRY(data_item(j->held, i * all / n, &b, err));
        if (!(b.sum_weight > 0)) continue;
        tape_reset(t);
        var *loss;
        TRY(head_set_loss(&loss, &j->set, t, &b, b.sum_weight, false, err));
        for (size_t k = 0; k < j->set.n_heads; k++) {
            const heads_seen *s = &j->set.seen[k];
            sums[k] = (heads_seen){sums[k].divergence + s->weight * s->divergence, sums[k].ce + s->weight * s->ce, sums[k].agree + s->weight * s->agree,
                                   sums[k].weight + s->weight};
        }
    }
    j->looked = n > 0;
    for (size_t k = 0; k < j->set.n_heads; k++) {
        double by = 1 / sums[k].weight; /* none: not a number, as it should be */
        j->seen[k] = (heads_seen){sums[k].divergence * by, sums[k].ce * by, sums[k].agree * by, sums[k].weight};
    }
    return MOTE_OK;
}

static void note_figures(job *j, bool before) {
    j->r->n = j->set.n_heads;
    for (size_t k = 0; k < j->set.n_heads; k++) {
        mote_head_figures *f = &j->r->heads[k];
        f->layer = j->set.heads[k].layer;
        f->offset = j->set.heads[k].offset;
        double agree = j->looked ? j->seen[k].agree : (double)NAN, divergence = j->looked ? j->seen[k].divergence : (double)NAN;
        if (before) f->agree_before = agree, f->divergence_before = divergence;
        f->agree = agree;
        f->divergence = divergence;
    }
}

/* ---- hooks ---- */
static mote_status on_eval(void *ctx, tape *t, double *loss, mote_error *err) {
    job *j = ctx;
    if (j->to.ema > 0) trainer_swap_ema(j->t);
    mote_status s = look(j, t, err);
    if (j->to.ema > 0) trainer_swap_ema(j->t);
    *loss = 0;
    for (size_t k = 0; k < j->set.n_heads; k++) *loss += pow(0.8, (double)j->set.heads[k].offset) * j->seen[k].divergence;
    return s;
}

static mote_status on_progress(void *ctx, const train_progress *p, mote_error *err) {
    job *j = ctx;
    if (!first(j)) return MOTE_OK;
    mote_train_progress shown = settings_progress(p, &j->mc, j->flops);
    j->r->tokens = p->tokens;
    j->r->skipped = p->skipped;
    j->r->seconds = p->seconds;
    j->r->tokens_per_s = p->tokens_per_s;
    if (j->runlog) TRY(runlog_step(j->runlog, &shown, err));
    if (j->o->on.progress) j->o->on.progress(j->o->on.ctx, &shown);
    return MOTE_OK;
}

static bool on_stop(void *ctx) {
    const job *j = ctx;
    return j->o->on.stop && j->o->on.stop(j->o->on.ctx);
}

static var *on_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err) {
    job *j = ctx;
    var *loss;
    (void)head_set_loss(&loss, &j->set, t, b, sum_weight, true, err);
    return loss;
}

/* ---- the run ---- */
static mote_status make_dir(job *j, mote_error *err) {
    const char *dir = j->o->train.dir;
    if (dir && !*dir) return MOTE_OK;
    int n = dir ? snprintf(j->dir, sizeof j->dir, "%s", dir) : snprintf(j->dir, sizeof j->dir, "%s.run", j->o->out);
    if (n < 0 || (size_t)n >= sizeof j->dir) FAIL(err, MOTE_E_USAGE, "the folder's name is too long");
    if (first(j) && mkdir(j->dir, 0777) != 0 && errno != EEXIST) FAIL(err, MOTE_E_IO, "%s: %s", j->dir, strerror(errno));
    return MOTE_OK;
}

static mote_status make_identity(job *j, mote_error *err) {
    const mote_train_heads_opts *o = j->o;
    buf which;
    buf_init(&which, 4096);
    for (size_t k = 0; k < j->set.n_heads; k++) buf_printf(&which, "%s%zu+%zu", k ? "," : "", j->set.heads[k].layer, j->set.heads[k].offset);
    json_t *own = json_pack("{s:s, s:s%, s:f, s:f, s:f, s:I, s:I, s:s}", "model", o->model, "heads", which.p ? which.p : "", which.n, "text", o->text, "fit", o->fit,
                            "generate", o->generate, "batch", (json_int_t)j->amount.batch, "ctx", (json_int_t)j->amount.n_ctx, "data", data_digest(j->learn));
    buf_free(&which);
    j->identity = settings_identity(&j->to, &o->train);
    if (!own || !j->identity || json_object_update(j->identity, own) != 0) {
        json_decref(own);
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    }
    json_decref(own);
    j->to.identity = j->identity;
    return MOTE_OK;
}

/* What a token costs: the base and its vocabulary forward, and for each head, forward and back, its own matrix and what is drawn of the vocabulary. */
static double flops_of(const job *j) {
    const hparams *h = &j->m->hp;
    double wide = (double)h->n_embd, some = fmin((double)h->n_vocab, 2 * (double)FEW);
    return settings_flops(j->n, j->amount.n_ctx) / 3 + 2 * wide * (double)h->n_vocab + (double)j->set.n_heads * 6 * wide * (some + 2 * wide);
}

static mote_status plan(job *j, mote_error *err) {
    mote_train_settings s = j->o->train;
    size_t known = j->m->hp.n_ctx_train;
    if (!s.n_ctx) s.n_ctx = known && known < N_CTX ? known : N_CTX;
    if (!s.batch) s.batch = BATCH;
    TRY(settings_amount(&j->amount, &s, known, 1, err)); /* the rows' length */
    if (!j->o->n_data) return MOTE_OK;
    TRY(head_set_engine(&j->set, j->o->model, &j->mc, j->amount.n_ctx, j->amount.micro_batch, err));
    j->set.few = FEW;
    TRY(open_data(j, j->amount.n_ctx, err));
    double tokens = j->o->generate > 0 ? j->o->generate : (double)data_get_stats(j->learn, SIZE_MAX).bytes / BYTES_A_TOKEN;
    j->trains = s.steps || s.tokens > 0 || s.epochs > 0;
    j->fit_tokens = (size_t)fmin(j->o->fit > 0 ? j->o->fit : FIT_TOKENS, fmax(FIT_MOST * tokens, 1));
    if (!j->trains && j->o->fit < 0) FAIL(err, MOTE_E_USAGE, "the heads are neither fitted nor trained: untrained ones need no data");
    TRY(settings_amount(&j->amount, &s, known, tokens, err));
    TRY(settings_trainer(&j->to, &s, &j->mc, j->amount.steps, LR, 0, err));
    if (!s.eval_every) j->to.eval_every = MAX(j->amount.steps / LOOKS, (uint64_t)1);
    j->to.log = &j->log;
    j->flops = flops_of(j);
    return MOTE_OK;
}

static bool cancelled(void *ctx, size_t done, size_t total) {
    (void)done;
    (void)total;
    return on_stop(ctx);
}

/* What the model goes on to say, in place of the text. */
static mote_status open_made(job *j, train_source *rows, mote_error *err) {
    const mote_train_heads_opts *o = j->o;
    char path[520];
    if (!*j->dir) FAIL(err, MOTE_E_USAGE, "what the model makes up is kept in the run's folder: it needs one");
    (void)snprintf(path, sizeof path, "%s/generated", j->dir);
    distil_made made = {.from = j->learn, .model = o->model, .tokens = o->generate, .n_ctx = j->amount.n_ctx, .temperature = (float)o->sample_temperature,
                        .seed = o->train.seed + 17, .n_threads = o->train.n_threads, .stop = cancelled, .ctx = j, .log = &j->log};
    TRY(distil_make_rows(&j->rows, &made, path, err));
    distil_source_opts so = {.rows_per_step = j->amount.batch, .rows_per_part = j->amount.micro_batch, .n_ctx = j->amount.n_ctx, .rows = &j->rows,
                             .seed = o->train.seed + 5};
    TRY(distil_source_open(&j->made, &so, err));
    *rows = distil_source_rows(j->made);
    return MOTE_OK;
}

static mote_status thinned_step(void *ctx, double progress, int rank, int world, train_step_rows *out, mote_error *err) {
    const thinned *t = ctx;
    for (size_t i = 0; i < t->apart; i++) TRY(t->of.step(t->of.ctx, progress, rank, world, out, err));
    return MOTE_OK;
}
static mote_status thinned_part(void *ctx, size_t i, data_batch *out, mote_error *err) {
    const thinned *t = ctx;
    return t->of.part(t->of.ctx, i, out, err);
}
static json_t *thinned_cursor(void *ctx) { return ((const thinned *)ctx)->of.cursor(((const thinned *)ctx)->of.ctx); }
static mote_status thinned_seek(void *ctx, const json_t *cursor, mote_error *err) { return ((const thinned *)ctx)->of.seek(((const thinned *)ctx)->of.ctx, cursor, err); }

static mote_status open_rows(job *j, mote_error *err) {
    if (j->trains || j->o->generate > 0) TRY(make_dir(j, err));
    j->of = (train_data){.d = j->learn, .rows_per_step = j->amount.batch, .rows_per_part = j->amount.micro_batch};
    j->source = trainer_data_source(&j->of);
    if (j->o->generate > 0) return open_made(j, &j->source, err);
    const double there = (double)data_get_stats(j->learn, SIZE_MAX).bytes / BYTES_A_TOKEN;
    const double read = (j->trains ? (double)(j->amount.steps * j->amount.batch * j->amount.n_ctx) : 0) + 2 * (double)j->fit_tokens;
    j->thin = (thinned){j->source, MIN(MAX((size_t)(there / read), (size_t)1), (size_t)APART_MOST)};
    j->source = (train_source){&j->thin, thinned_step, thinned_part, thinned_cursor, thinned_seek};
    return MOTE_OK;
}

static mote_status open_trainer(job *j, mote_error *err) {
    if (*j->dir) j->to.dir = j->dir;
    TRY(make_identity(j, err));
    train_hooks hooks = {.ctx = j, .progress = on_progress, .eval = j->held ? on_eval : NULL, .stop = on_stop};
    return trainer_open(&j->t, &j->to, j->params, j->n_params, &j->source, on_loss, j, &hooks, err);
}

static heads_fit_opts fit_opts(job *j) {
    const size_t trained = j->trains ? j->amount.steps * j->amount.batch * j->amount.n_ctx : 0;
    return (heads_fit_opts){.rows = &j->source, .n_tokens = j->fit_tokens, .n_seen = MAX(j->fit_tokens, trained), .mc = &j->mc, .stop = on_stop, .ctx = j, .log = &j->log};
}

static mote_status finish(job *j, mote_error *err) {
    struct stat st;
    if (!first(j)) return MOTE_OK;
    if (j->to.ema > 0 && j->t) trainer_swap_ema(j->t);
    if (!j->o->untrained) {
        const heads_fit_opts fit = fit_opts(j);
        TRY(head_set_gate(&j->set, &fit, err));
    }
    TRY(head_set_write(&j->set, j->o->out, j->type, j->looked ? j->seen : NULL, err));
    if (stat(j->o->out, &st) == 0) j->r->bytes = (uint64_t)st.st_size;
    j->r->finished = true;
    if (!j->runlog) return MOTE_OK;
    json_t *facts = json_pack("{s:s, s:s, s:I, s:I}", "base", j->o->model, "output", j->o->out, "steps", (json_int_t)j->r->steps, "tokens", (json_int_t)j->r->tokens);
    for (size_t k = 0; facts && j->looked && k < j->r->n; k++) {
        char name[80];
        const mote_head_figures *f = &j->r->heads[k];
        (void)snprintf(name, sizeof name, "agreement behind layer %zu, offset %zu", f->layer, f->offset);
        (void)json_object_set_new(facts, name, json_real(f->agree));
    }
    mote_status s = facts ? runlog_finish(j->runlog, "Heads", facts, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    json_decref(facts);
    j->r->loss = runlog_loss(j->runlog);
    return s;
}

/* By gradients, from the checkpoint on where there is one, which holds what was fitted. */
static mote_status train(job *j, mote_error *err) {
    double held;
    if (j->r->resumed_at && first(j)) log_line(&j->log, LOG_INFO, "going on from step %" PRIu64 " (%s)", j->r->resumed_at, j->dir);
    if (*j->dir && first(j)) TRY(runlog_open(&j->runlog, j->dir, j->r->resumed_at, err));
    bool was_done = j->r->resumed_at >= j->amount.steps;
    mote_status s = trainer_run(j->t, err);
    j->r->steps = trainer_at(j->t);
    if (s != MOTE_OK && !(s == MOTE_E_IO && trainer_at(j->t) == j->amount.steps)) return s;
    if (was_done) TRY(on_eval(j, trainer_tape(j->t), &held, err));
    note_figures(j, false);
    mote_error late;
    mote_status done = finish(j, &late);
    if (s == MOTE_OK && done != MOTE_OK && err) *err = late;
    return s != MOTE_OK ? s : done;
}

static mote_status fit(job *j, tape *t, mote_error *err) {
    const heads_fit_opts o = fit_opts(j);
    const uint64_t begun = clock_ns();
    if (j->o->untrained || j->o->fit < 0) return MOTE_OK;
    TRY(head_set_fit(&j->set, &o, err));
    if (first(j)) log_line(&j->log, LOG_INFO, "fitted on %zu tokens in %.1f s", o.n_tokens, (double)(clock_ns() - begun) * 1e-9);
    if (j->trains) return MOTE_OK;
    TRY(look(j, t, err));
    note_figures(j, false);
    j->r->tokens = o.n_tokens;
    j->r->seconds = (double)(clock_ns() - begun) * 1e-9;
    return MOTE_OK;
}

/* What the heads are before anything is done to them. */
static mote_status look_before(job *j, tape *t, mote_error *err) {
    TRY(look(j, t, err));
    note_figures(j, true);
    return MOTE_OK;
}

/* Where there are Medusa heads. */
static mote_status choose_likely(job *j, mote_error *err) {
    heads_fit_opts o = fit_opts(j);
    const size_t n = j->o->likely == SIZE_MAX ? 0 : j->o->likely ? j->o->likely : LIKELY;
    o.n_tokens = MAX(o.n_tokens, o.n_seen);
    return n && j->set.heads[j->set.n_heads - 1].offset ? head_set_choose_likely(&j->set, &o, n, err) : MOTE_OK;
}

static mote_status make(job *j, mote_error *err) {
    if (!j->o->untrained) {
        TRY(open_rows(j, err));
        TRY(choose_likely(j, err));
    }
    if (j->trains && !j->o->untrained) {
        TRY(open_trainer(j, err));
        TRY(look_before(j, trainer_tape(j->t), err));
        TRY(trainer_resume(j->t, &j->r->resumed_at, err));
        if (j->r->resumed_at == 0) TRY(fit(j, trainer_tape(j->t), err));
        return train(j, err);
    }
    tape *t;
    TRY(tape_open(&t, &(tape_opts){.pool = j->mc.pool, .kern = j->mc.kern, .prec = j->mc.prec}, err));
    mote_status s = look_before(j, t, err);
    if (s == MOTE_OK) s = fit(j, t, err);
    tape_close(&t);
    return s == MOTE_OK ? finish(j, err) : s;
}

static void close_all(job *j) {
    runlog_close(&j->runlog);
    trainer_close(&j->t);
    head_set_close(&j->set);
    distil_source_close(&j->made);
    distil_rows_free(&j->rows);
    data_close(&j->learn);
    data_close(&j->held);
    mem_free(j->sources);
    json_decref(j->identity);
    chat_template_close(&j->tmpl);
    tok_close(&j->vocab);
    net_close(&j->n);
    model_close(&j->m);
    train_machine_close(&j->mc);
    mem_free(j);
}

mote_status heads_run(const mote_train_heads_opts *o, mote_train_heads_report *r, mote_error *err) {
    job *j = MEM_NEW(job);
    if (!j) FAIL(err, MOTE_E_MEMORY, "out of memory");
    j->o = o;
    j->r = r;
    j->log = (log_sink){say, j};
    r->loss = (double)NAN;
    mote_status s = check(j, err);
    if (s == MOTE_OK) s = open_base(j, err);
    if (s == MOTE_OK) s = plan(j, err);
    if (s == MOTE_OK) s = make(j, err);
    if (s != MOTE_OK) ranks_leave(j->mc.ranks);
    close_all(j);
    return s;
}
