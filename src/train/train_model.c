/* train_model.c: a run of `mote train`, from options to the file: the model, the data, the trainer, what is told meanwhile. */
#include "train/train_model.h"

#include "run/run.h"
#include "train/layerskip.h"
#include "train/new_model.h"
#include "train/runlog.h"
#include "train/train_look.h"
#include "train/train_recipe.h"
#include "train/vocabulary.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

enum { EVAL_ROWS_MIN = 4, EVAL_ROWS_MAX = 64, ITEMS_LOOKED_AT = 200 };

typedef struct job {
    train_recipe recipe;
    const mote_train_options *o; /* recipe.o */
    train_machine machine;
    char dir[4096], base[4352];
    mote_model_shape shape;
    model_file *file, *tok_file;
    model *model;
    tok_vocab *vocab;
    chat_template *tmpl;
    net *net;
    data *data, *held;
    train_data of;
    train_amount amount;
    trainer *trainer;
    layerskip skip;
    runlog *log;
    log_sink sink;
    double flops, held_tokens;
    size_t n_params, held_rows;
    buf sample;
    json_t *identity;
    mote_train_report report;
} job;

static bool first(const job *j) { return ranks_rank(j->machine.ranks) == 0; }

static void say(void *ctx, int level, const char *text) {
    const job *j = ctx;
    if (level >= LOG_INFO && j->o->callbacks.line) j->o->callbacks.line(j->o->callbacks.ctx, text);
}

/* ---- folder and model ---- */
static mote_status open_folder(job *j, mote_error *err) {
    const char *dir = j->o->settings.dir;
    size_t room = sizeof j->dir;
    if (dir && strlen(dir) >= room) FAIL(err, MOTE_E_USAGE, "the path of the folder has more than %zu bytes", room);
    if (dir) (void)snprintf(j->dir, room, "%s", dir);
    else if ((size_t)snprintf(j->dir, room, "%s.run", j->o->out) >= room) FAIL(err, MOTE_E_USAGE, "the output's path has more than %zu bytes", room - 5);
    if (first(j) && *j->dir && mkdir(j->dir, 0777) != 0 && errno != EEXIST) FAIL(err, MOTE_E_IO, "%s: cannot make the folder: %s", j->dir, strerror(errno));
    return MOTE_OK;
}

/* The others wait for what the first process does; each gets its status. */
static mote_status told_by_first(job *j, mote_status s, mote_error *err) {
    int32_t code = (int32_t)s;
    mote_status sent = ranks_share(j->machine.ranks, &code, sizeof code, s == MOTE_OK ? err : NULL);
    if (s != MOTE_OK) return s;
    TRY(sent);
    if (code != MOTE_OK) FAIL(err, (mote_status)code, "the first process failed; its message says why");
    return MOTE_OK;
}

/* What the new model's file must have been made of, to be used again. */
static mote_status mark_of(job *j, buf *b, mote_error *err) {
    const mote_model_shape *s = &j->shape;
    buf_printf(b, "%s depth %zu width %zu heads %zu/%zu ff %zu ctx %zu rope %g %s seed %" PRIu64 " tokenizer %s", s->arch, s->depth, s->width, s->n_head,
               s->n_head_kv, s->n_ff, s->n_ctx, s->rope_base, s->untied ? "untied" : "tied", j->o->settings.seed,
               j->o->tokenizer ? j->o->tokenizer : "");
    if (!j->o->tokenizer) {
        buf_printf(b, "trained %zu", s->n_vocab);
        for (size_t i = 0; i < j->o->n_data; i++) buf_printf(b, " %s", j->o->data[i].path);
    }
    return buf_check(b, "the shape", err);
}

static bool made_before(const char *path, str mark) {
    model_file *f;
    str had = {NULL, 0};
    if (model_file_open(&f, path, 0, NULL) != MOTE_OK) return false;
    bool same = kv_get_str(f, "mote.train.new", &had, (str){NULL, 0}, NULL) == MOTE_OK && str_eq(had, mark);
    model_file_close(&f);
    return same;
}

/* The one that was named, or one that is learnt from the data's texts. */
static mote_status open_tokenizer(job *j, mote_error *err) {
    const char *path = j->o->tokenizer;
    char made[sizeof j->base + 16];
    if (!path) {
        mote_status s;
        const char **paths = MEM_NEW_N(const char *, j->o->n_data);
        if (!paths) FAIL(err, MOTE_E_MEMORY, "out of memory");
        for (size_t i = 0; i < j->o->n_data; i++) paths[i] = j->o->data[i].path;
        (void)snprintf(made, sizeof made, "%.*s.vocab.gguf", (int)(strlen(j->base) - strlen(".gguf")), j->base);
        log_line(&j->sink, LOG_INFO, "learning a vocabulary of %zu tokens", j->shape.n_vocab);
        s = vocabulary_train(paths, j->o->n_data, made, &(mote_tokenizer_options){.vocab_size = j->shape.n_vocab}, NULL, err);
        mem_free(paths);
        TRY(s);
        path = made;
    }
    return model_file_open(&j->tok_file, path, MODEL_FILE_VOCAB | MODEL_FILE_NO_TENSORS_OK, err);
}

static mote_status make_new(job *j, mote_error *err) {
    buf mark;
    buf_init(&mark, 1 << 16);
    mote_status s = mark_of(j, &mark, err);
    if (s == MOTE_OK && !made_before(j->base, buf_str(&mark))) {
        s = open_tokenizer(j, err);
        if (s == MOTE_OK) s = new_model_write(j->base, &j->shape, j->tok_file, j->o->settings.seed ? j->o->settings.seed : 1, buf_str(&mark), err);
    }
    buf_free(&mark);
    return s;
}

static mote_status open_base(job *j, mote_error *err) {
    const mote_train_options *o = j->o;
    if (o->model) {
        if ((size_t)snprintf(j->base, sizeof j->base, "%s", o->model) >= sizeof j->base) FAIL(err, MOTE_E_USAGE, "the model's path is too long");
    } else {
        j->shape = o->shape;
        TRY(new_model_shape(&j->shape, o->settings.n_ctx ? o->settings.n_ctx : 512, err));
        (void)snprintf(j->base, sizeof j->base, *j->dir ? "%s/init.gguf" : "%s.init.gguf", *j->dir ? j->dir : o->out);
        TRY(told_by_first(j, first(j) ? make_new(j, err) : MOTE_OK, err));
    }
    TRY(model_file_open(&j->file, j->base, MODEL_FILE_VOCAB, err));
    TRY(model_open(&j->model, j->base, &(model_opts){.cpu_mask = j->machine.cpu_mask, .log = &j->sink}, j->machine.pool, err));
    TRY(tok_open(&j->vocab, j->file, &j->sink, err));
    TRY(net_open(&j->net, j->model, j->machine.pool, &(net_opts){.checkpoint = o->settings.recompute, .freeze = o->settings.freeze}, err));
    if (data_template(&j->tmpl, j->file, j->vocab, NULL) != MOTE_OK) j->tmpl = NULL; /* only chats need one, and the data say so */
    return MOTE_OK;
}

/* ---- data ---- */
static mote_status order_of(const char *word, data_order *out, mote_error *err) {
    static const char *const words[] = {"shuffled", "as-is", "easy-first"};
    static const data_order orders[] = {DATA_SHUFFLED, DATA_AS_IS, DATA_EASY_FIRST};
    *out = DATA_SHUFFLED;
    for (size_t i = 0; i < COUNT_OF(words) && word; i++)
        if (strcmp(words[i], word) == 0) {
            *out = orders[i];
            return MOTE_OK;
        }
    if (word) FAIL(err, MOTE_E_USAGE, "order '%.40s': expected shuffled, as-is or easy-first", word);
    return MOTE_OK;
}

static mote_status open_set(data **out, const job *j, const data_source *sources, size_t n, data_split split, double held_out, size_t n_ctx, mote_error *err) {
    data_opts o = {.sources = sources, .n_sources = n, .vocab = j->vocab, .tmpl = j->tmpl, .n_ctx = n_ctx, .seed = j->o->settings.seed,
                   .split = split, .held_out = held_out, .log = &j->sink, .order = DATA_AS_IS};
    if (split == DATA_TRAIN) TRY(order_of(j->o->order, &o.order, err));
    return data_open(out, &o, err);
}

/* About how many tokens an epoch has, by looking at some items. */
static mote_status count_tokens(const job *j, double *out, mote_error *err) {
    size_t n = data_n_items(j->data), step = n / ITEMS_LOOKED_AT + 1, looked = 0;
    double tokens = 0;
    tok_ids ids = {0};
    buf b;
    mote_status s = MOTE_OK;
    buf_init(&b, (size_t)64 << 20);
    for (size_t i = 0; i < n && s == MOTE_OK; i += step, looked++) {
        buf_clear(&b);
        ids.n = 0;
        s = data_item_text(j->data, i, &b, err);
        if (s == MOTE_OK) s = tok_encode(j->vocab, buf_str(&b), TOK_SPECIAL, &ids, err);
        tokens += (double)ids.n + 1;
    }
    tok_ids_free(&ids);
    buf_free(&b);
    *out = looked ? tokens / (double)looked * (double)n : 0;
    return s;
}

static mote_status open_data(job *j, size_t n_ctx, mote_error *err) {
    const mote_train_options *o = j->o;
    double held_out = o->eval_data || o->held_out < 0 ? 0 : o->held_out > 0 ? o->held_out : 0.01;
    data_source *s = MEM_NEW_N(data_source, o->n_data), eval = {.path = o->eval_data};
    mote_error none;
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < o->n_data; i++)
        s[i] = (data_source){.path = o->data[i].path, .weight = o->data[i].weight, .from = o->data[i].from, .until = o->data[i].until};
    mote_status st = open_set(&j->data, j, s, o->n_data, DATA_TRAIN, held_out, n_ctx, err);
    if (st == MOTE_OK && o->eval_data) st = open_set(&j->held, j, &eval, 1, DATA_ALL, 0, n_ctx, err);
    else if (st == MOTE_OK && held_out > 0 && data_get_stats(j->data, SIZE_MAX).held_out > 0 &&
             open_set(&j->held, j, s, o->n_data, DATA_HELD, held_out, n_ctx, &none) != MOTE_OK)
        log_line(&j->sink, LOG_WARN, "nothing is held out: %s", none.message);
    mem_free(s);
    return st;
}

/* With a depth alone: 20 tokens per weight (Hoffmann et al. 2022), but each of the data's at most 4 times (Muennighoff et al. 2023); a step of
 * 1024 tokens per layer; a rate that falls with the width. */
static void one_dial(const job *j, mote_train_settings *s, double n_tokens, double *lr) {
    *lr = 1e-3;
    if (j->o->model) {
        *lr = 1e-4;
        return;
    }
    *lr = 3e-3 * sqrt(256 / (double)j->shape.width);
    if (!s->optimizer) s->optimizer = "muon";
    if (!s->batch) s->batch = MAX(1024 * j->shape.depth / j->amount.n_ctx, 4);
    if (!s->steps && !(s->tokens > 0) && !(s->epochs > 0)) s->tokens = fmin(20 * new_model_params(&j->shape), 4 * n_tokens);
}

static mote_status plan(job *j, trainer_opts *t, mote_error *err) {
    mote_train_settings s = j->o->settings;
    double n_tokens, lr;
    size_t known = j->model->hp.n_ctx_train;
    TRY(settings_amount(&j->amount, &s, known, 1, err)); /* the rows' length */
    TRY(open_data(j, j->amount.n_ctx, err));
    TRY(count_tokens(j, &n_tokens, err));
    one_dial(j, &s, n_tokens, &lr);
    TRY(settings_amount(&j->amount, &s, known, n_tokens, err));
    TRY(settings_trainer(t, &s, &j->machine, j->amount.steps, lr, j->o->model ? 0.01 : 0.1, err));
    double looks = (double)j->amount.steps / (double)t->eval_every + 1; /* all together about a tenth of the run's time */
    j->held_rows = (size_t)fmin(fmax(0.3 * (double)j->amount.steps * (double)j->amount.batch / looks, EVAL_ROWS_MIN), EVAL_ROWS_MAX);
    j->flops = settings_flops(j->net, j->amount.n_ctx);
    j->identity = settings_identity(t, &s);
    if (!j->identity || json_object_set_new(j->identity, "batch", json_integer((json_int_t)j->amount.batch)) ||
        json_object_set_new(j->identity, "ctx", json_integer((json_int_t)j->amount.n_ctx)) ||
        json_object_set_new(j->identity, "data", json_string(data_digest(j->data))))
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (j->o->layer_dropout > 0) (void)json_object_set_new(j->identity, "layer_dropout", json_real(j->o->layer_dropout));
    if (j->o->early_exit > 0) (void)json_object_set_new(j->identity, "early_exit", json_real(j->o->early_exit));
    return MOTE_OK;
}

/* ---- hooks ---- */
static mote_status on_progress(void *ctx, const train_progress *p, mote_error *err) {
    job *j = ctx;
    mote_train_progress out = settings_progress(p, &j->machine, j->flops);
    if (!first(j)) return MOTE_OK;
    out.sample = isfinite(p->eval_loss) && j->sample.n ? j->sample.p : NULL;
    j->report.tokens_per_s = out.tokens_per_s;
    j->report.machine_share = out.machine_share;
    j->report.seconds = p->seconds;
    j->report.tokens = p->tokens;
    j->report.skipped = p->skipped;
    j->report.loss = p->loss; /* what a log says instead, where there is one, is smoothed */
    if (!isnan(p->eval_loss)) j->report.eval_loss = p->eval_loss;
    if (j->log) TRY(runlog_step(j->log, &out, err));
    if (j->o->callbacks.progress) j->o->callbacks.progress(j->o->callbacks.ctx, &out);
    return MOTE_OK;
}

static mote_status on_eval(void *ctx, tape *t, double *loss, mote_error *err) {
    job *j = ctx;
    bool averages = j->o->settings.ema > 0;
    mote_status s = MOTE_OK;
    if (averages) trainer_swap_ema(j->trainer);
    if (j->held) s = train_look_loss(loss, j->net, t, j->held, j->held_rows, j->amount.micro_batch, j->machine.ranks, err);
    buf_clear(&j->sample);
    if (s == MOTE_OK && j->o->sample_tokens && first(j))
        s = train_look_sample(&j->sample, j->net, t, j->vocab, str_of(j->o->sample_prompt ? j->o->sample_prompt : "Once upon a time"),
                              j->o->sample_tokens, j->o->settings.seed, err);
    if (averages) trainer_swap_ema(j->trainer);
    return s;
}

static bool on_stop(void *ctx) {
    const job *j = ctx;
    return j->o->callbacks.stop && j->o->callbacks.stop(j->o->callbacks.ctx);
}

/* ---- the run ---- */
static json_t *facts(const job *j) {
    json_t *f = json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "output", j->o->out, "parameters", (json_int_t)j->n_params,
                          "started from", j->o->model ? j->o->model : "random weights", "steps", (json_int_t)j->amount.steps, "rows of a step",
                          (json_int_t)j->amount.batch, "tokens of a row", (json_int_t)j->amount.n_ctx, "tokens", (json_int_t)j->report.tokens,
                          "seconds in the last process", j->report.seconds, "tokens per second", j->report.tokens_per_s,
                          "share of the machine's limit", j->report.machine_share);
    if (f) (void)json_object_update_missing(f, j->identity);
    return f;
}

static mote_status finish(job *j, mote_error *err) {
    int type = -1;
    if (j->o->out_type) {
        const quant_format *f = quant_by_name(j->o->out_type);
        if (!f || !f->encode) FAIL(err, MOTE_E_USAGE, "'%.40s' is no number format that can be written", j->o->out_type);
        type = (int)f->type;
    } else if (!j->o->model) type = QUANT_BF16;
    if (j->o->settings.ema > 0) trainer_swap_ema(j->trainer);
    bool no_chat = !j->o->model;
    for (size_t i = 0; i < j->o->n_data; i++) no_chat &= data_source_kind(j->data, i) != DATA_CHAT;
    mote_status s = train_write_net(j->net, j->file, type, no_chat, j->o->out, err);
    if (j->o->settings.ema > 0) trainer_swap_ema(j->trainer);
    TRY(s);
    if (!j->log) return MOTE_OK;
    json_t *f = facts(j);
    s = f ? runlog_finish(j->log, "Training", f, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    json_decref(f);
    j->report.loss = runlog_loss(j->log);
    j->report.eval_loss = runlog_eval(j->log, &j->report.best_eval_loss);
    (void)snprintf(j->report.curve, sizeof j->report.curve, "%s", runlog_curve(j->log));
    return s;
}

static mote_status train(job *j, trainer_opts *t, mote_error *err) {
    size_t n = trainer_net_params(j->net, j->o->settings.decay_all, NULL, 0);
    train_param *params = MEM_NEW_N(train_param, n);
    train_hooks hooks = {.ctx = j, .progress = on_progress, .eval = j->held || j->o->sample_tokens ? on_eval : NULL, .stop = on_stop};
    if (!params) FAIL(err, MOTE_E_MEMORY, "out of memory");
    (void)trainer_net_params(j->net, j->o->settings.decay_all, params, n);
    for (size_t i = 0; i < n; i++) j->n_params += params[i].v->rows * params[i].v->cols;
    j->of = (train_data){.d = j->data, .rows_per_step = j->amount.batch, .rows_per_part = j->amount.micro_batch};
    train_source source = trainer_data_source(&j->of);
    t->dir = *j->dir ? j->dir : NULL;
    t->identity = j->identity;
    t->log = &j->sink;
    j->skip = (layerskip){.n = j->net, .steps = j->amount.steps, .seed = j->o->settings.seed, .dropout = j->o->layer_dropout, .exit = j->o->early_exit,
                          .rising = !j->o->model, .rank = ranks_rank(j->machine.ranks), .at = UINT64_MAX};
    bool skips = j->o->layer_dropout > 0 || j->o->early_exit > 0;
    mote_status s = trainer_open(&j->trainer, t, params, n, &source, skips ? layerskip_loss : trainer_next_token_loss,
                                 skips ? (void *)&j->skip : (void *)j->net, &hooks, err);
    mem_free(params);
    TRY(s);
    j->skip.t = j->trainer;
    TRY(trainer_resume(j->trainer, &j->report.resumed_at, err));
    if (j->report.resumed_at && first(j)) log_line(&j->sink, LOG_INFO, "going on from step %" PRIu64 " (%s)", j->report.resumed_at, j->dir);
    if (first(j) && *j->dir) TRY(runlog_open(&j->log, j->dir, j->report.resumed_at, err));
    s = trainer_run(j->trainer, err);
    if (s != MOTE_OK && !(s == MOTE_E_IO && trainer_at(j->trainer) == j->amount.steps)) return s;
    j->report.steps = trainer_at(j->trainer);
    j->report.n_params = j->n_params;
    j->report.data_items = data_n_items(j->data);
    j->report.finished = first(j);
    (void)snprintf(j->report.output, sizeof j->report.output, "%s", j->o->out);
    mote_error late;
    mote_status done = first(j) ? finish(j, &late) : MOTE_OK;
    if (s == MOTE_OK && done != MOTE_OK && err) *err = late;
    return s != MOTE_OK ? s : done;
}

static void job_close(job *j) {
    runlog_close(&j->log);
    trainer_close(&j->trainer);
    data_close(&j->data);
    data_close(&j->held);
    net_close(&j->net);
    chat_template_close(&j->tmpl);
    tok_close(&j->vocab);
    model_close(&j->model);
    model_file_close(&j->file);
    model_file_close(&j->tok_file);
    train_machine_close(&j->machine);
    json_decref(j->identity);
    buf_free(&j->sample);
    train_recipe_close(&j->recipe);
    mem_free(j);
}

mote_status train_model(const mote_train_options *options, mote_train_report *report, mote_error *err) {
    job *j = MEM_NEW(job);
    if (!j) FAIL(err, MOTE_E_MEMORY, "out of memory");
    j->report.loss = j->report.eval_loss = (double)NAN;
    buf_init(&j->sample, (size_t)1 << 20);
    j->sink = (log_sink){say, j};
    j->o = &j->recipe.o;
    trainer_opts t;
    mote_status s;
    TRYG(s, train_recipe_open(&j->recipe, options, err));
    if (!j->o->out || !*j->o->out) FAILG(s, err, MOTE_E_USAGE, "no output: the GGUF file to write is missing");
    if (!(j->o->layer_dropout >= 0 && j->o->layer_dropout < 1 && j->o->early_exit >= 0 && j->o->early_exit <= 1))
        FAILG(s, err, MOTE_E_USAGE, "layer dropout %g, early exit %g: expected numbers from 0 to 1", j->o->layer_dropout, j->o->early_exit);
    if (!j->o->n_data) FAILG(s, err, MOTE_E_USAGE, "no data: at least one file of text or JSONL is needed");
    TRYG(s, train_machine_open(&j->machine, &j->o->settings, j->o->callbacks.progress != NULL, err));
    TRYG(s, told_by_first(j, open_folder(j, err), err));
    TRYG(s, open_base(j, err));
    TRYG(s, plan(j, &t, err));
    s = train(j, &t, err);
    if (report) *report = j->report;
out:
    if (s != MOTE_OK) ranks_leave(j->machine.ranks);
    job_close(j);
    return s;
}
