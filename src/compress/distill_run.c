/* distill_run.c: a run of distillation or of quantization-aware training: what is opened, in which order, and what is written. The parts
 * are in train/distil*.c and train/qat.c. */
#include "compress/distill_run.h"

#include "compress/parts.h"
#include "compress/rules.h"
#include "compress/share_tie.h"
#include "format/edit.h"
#include "train/distil.h"
#include "train/qat_state.h"
#include "train/runlog.h"
#include "train/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LR_FLOAT 2e-4
#define LR_QAT 1e-4
#define HELD_ROWS 16

typedef struct job {
    const mote_distill_options *o;
    mote_distill_report *r;
    train_machine machine;
    model *student, *teacher; /* teacher NULL: none, or the student's own file */
    net *net, *theirs;
    tok_vocab *vocab, *their_vocab;
    chat_template *tmpl;
    model_file *source;       /* the student's file, with its vocabulary, for writing */
    distil_term terms[DISTIL_TERMS_MAX];
    size_t n_terms;
    distil_align *align;
    int32_t *layer_map;       /* or NULL */
    share_tie *tie;           /* of the student's file, where layers share tensors */
    rules_choice *choice;     /* of QAT */
    ftype type;
    qat *q;
    qat_state state;          /* path NULL: checkpoints */
    bool goes_on;             /* from a state: the student is what was written */
    bool slot_over;
    uint64_t slot_began_ns;
    distil *d;
    data *text, *held;
    data_source *sources;
    distil_cache *cache;
    distil_rows rows;         /* made up by the teacher, or the cache's */
    distil_source *from;
    trainer_opts to;
    train_amount amount;
    train_param *params;
    trainer *t;
    runlog *log;
    json_t *identity;
    char dir[480];
    double flops;
    log_sink sink;
} job;

static void tell(job *j, const char *fmt, ...) MOTE_PRINTF(2, 3);
static void tell(job *j, const char *fmt, ...) {
    char text[400];
    va_list ap;
    if (!j->o->callbacks.line) return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    j->o->callbacks.line(j->o->callbacks.ctx, text);
}

static void log_to_caller(void *ctx, int level, const char *line) {
    if (level >= LOG_INFO) tell(ctx, "%s", line);
}

static bool cancelled(void *ctx, size_t done, size_t total) {
    const job *j = ctx;
    (void)done;
    (void)total;
    return j->o->callbacks.stop && j->o->callbacks.stop(j->o->callbacks.ctx);
}

/* ---- opening ---- */
static mote_status check_options(const mote_distill_options *o, mote_error *err) {
    bool writes_cache = o->write_cache != NULL;
    if (!writes_cache && (!o->student || !o->out)) FAIL(err, MOTE_E_USAGE, "a student and an output are needed");
    if (writes_cache && !o->teacher) FAIL(err, MOTE_E_USAGE, "a file of likeliest tokens needs a teacher");
    if (!o->teacher && !o->cache && !o->qat.type) FAIL(err, MOTE_E_USAGE, "a teacher is needed (or a file of its likeliest tokens, or quantization-aware training, where the student teaches itself)");
    if (o->cache && (o->n_data || o->generate > 0 || o->on_policy > 0 || o->select || o->align || o->teacher))
        FAIL(err, MOTE_E_USAGE, "a file of likeliest tokens stands for teacher and data: it cannot be combined with a teacher, data, generating, the student's own words, choosing or aligning");
    if (!o->cache && !o->n_data) FAIL(err, MOTE_E_USAGE, "data are missing");
    if (!(o->on_policy >= 0 && o->on_policy <= 1)) FAIL(err, MOTE_E_USAGE, "a share of %g of the student's own words: expected 0 to 1", o->on_policy);
    if (o->select && !(o->keep >= 0 && o->keep <= 1)) FAIL(err, MOTE_E_USAGE, "keep %g of the examples: expected 0 to 1", o->keep);
    if (o->generate > 0 && o->align) FAIL(err, MOTE_E_USAGE, "what a teacher of another vocabulary makes up is text: generate it with `mote run`, and give it as data");
    if (o->qat.state && !o->qat.type) FAIL(err, MOTE_E_USAGE, "a state file belongs to quantization-aware training; other runs have checkpoints");
    if ((o->qat.slot_steps || o->qat.slot_seconds > 0) && !o->qat.state) FAIL(err, MOTE_E_USAGE, "slots need a state file");
    if (o->qat.state && o->settings.ema > 0) FAIL(err, MOTE_E_USAGE, "moving averages of the weights need checkpoints: no state file beside them");
    if (o->qat.state && (o->qat.state_bits < 0 || (o->qat.state_bits > 0 && o->qat.state_bits < QAT_STATE_LEAST) || o->qat.state_bits > QAT_STATE_MOST))
        FAIL(err, MOTE_E_USAGE, "%d bits a weight in the state file: expected %d to %d", o->qat.state_bits, QAT_STATE_LEAST, QAT_STATE_MOST);
    if (o->after && (o->qat.state || o->write_cache)) FAIL(err, MOTE_E_USAGE, "to begin after another run goes neither with a state file, which is one itself, nor with writing a cache");
    if (o->qat.type && o->out_type) FAIL(err, MOTE_E_USAGE, "quantization-aware training writes its own formats: no output type beside it");
    return MOTE_OK;
}

static mote_status open_models(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    model_opts mo = {.cpu_mask = 0, .log = &j->sink};
    const char *teacher = o->teacher ? o->teacher : o->cache ? NULL : o->student, *student = j->goes_on ? o->out : o->student;
    if (j->goes_on && teacher && !o->teacher && strcmp(o->student, o->out) == 0)
        FAIL(err, MOTE_E_USAGE, "%s is the packed student: it cannot be its own teacher; name one", o->out);
    if (!o->write_cache) {
        TRY(model_open(&j->student, student, &mo, j->machine.pool, err));
        TRY(net_open(&j->net, j->student, j->machine.pool, &(net_opts){.checkpoint = o->settings.recompute, .freeze = o->settings.freeze}, err));
        TRY(model_file_open(&j->source, student, MODEL_FILE_VOCAB, err));
        TRY(share_tie_open(&j->tie, student, j->net, err));
        if (j->tie && o->qat.type) FAIL(err, MOTE_E_UNSUPPORTED, "%s: layers share tensors: quantization-aware training needs each one's own (mote convert)", student);
    }
    if (teacher) {
        bool own = student && strcmp(teacher, student) == 0;
        if (!own || !j->student) TRY(model_open(&j->teacher, teacher, &mo, j->machine.pool, err));
        TRY(net_open(&j->theirs, j->teacher ? j->teacher : j->student, j->machine.pool, &(net_opts){.frozen = true}, err));
    }
    const model *speaks = j->student ? j->student : j->teacher;
    TRY(tok_open(&j->vocab, model_get_file(speaks), &j->sink, err));
    if (j->teacher && j->student) TRY(tok_open(&j->their_vocab, model_get_file(j->teacher), &j->sink, err));
    if (o->align && j->their_vocab) {
        TRY(distil_align_open(&j->align, j->vocab, j->their_vocab, err));
        j->r->shared_vocab = distil_align_shared(j->align);
    }
    mote_error none;
    if (data_template(&j->tmpl, model_get_file(speaks), j->vocab, &none) != MOTE_OK) j->tmpl = NULL; /* texts need none */
    return MOTE_OK;
}

static int format_of(void *ctx, size_t i) {
    const job *j = ctx;
    const tensor_info *t = model_file_tensor(model_get_file(j->student), i);
    if (j->goes_on) return t->n_dims < 2 ? -1 : (int)t->type;
    bool is_float = j->choice[i].got == QUANT_F32 || j->choice[i].got == QUANT_F16 || j->choice[i].got == QUANT_BF16;
    return t->n_dims < 2 || (is_float && j->o->qat.only_scales) ? -1 : (int)j->choice[i].got;
}

static mote_status cache_type(quant_type *out, const char *name, mote_error *err) {
    const quant_format *f = name ? quant_by_name(name) : NULL;
    *out = QUANT_F32;
    if (!name) return MOTE_OK;
    if (!f) FAIL(err, MOTE_E_USAGE, "cache type '%s' is not known", name);
    *out = f->type;
    return kv_check(f->type, f->type, 64, 64, err);
}

static mote_status open_qat(job *j, mote_error *err) {
    const mote_qat_options *q = &j->o->qat;
    const model_file *f = model_get_file(j->student);
    rules *by;
    mote_quantize_options qo = {.type = q->type, .overrides = q->overrides, .n_overrides = q->n_overrides, .output_format = q->output_format,
                                .token_embedding_format = q->token_embedding_format, .pure = q->pure, .allow_requantize = true};
    qat_opts opts = {.kind = q->only_scales ? QAT_SCALES : QAT_WEIGHTS, .format = format_of, .ctx = j, .fixed_scales = q->fixed_scales,
                     .acts = q->activations, .scale_lr = (float)q->scale_lr, .keep_zeros = j->o->settings.keep_zeros,
                     .before = j->teacher ? model_get_file(j->teacher) : NULL};
    TRY(embedding_parts_read(q->token_embedding_format, &opts.parts, err));
    if (opts.parts.n && q->state) FAIL(err, MOTE_E_UNSUPPORTED, "a state file beside an embedding in parts: use checkpoints");
    if (opts.parts.n) qo.token_embedding_format = quant_get((int)opts.parts.type[0])->name;
    TRY(cache_type(&opts.k_type, q->type_k, err));
    TRY(cache_type(&opts.v_type, q->type_v, err));
    j->choice = MEM_NEW_N(rules_choice, model_file_n_tensors(f) + 1);
    if (!j->choice) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(rules_open(&by, f, &qo, false, err));
    j->type = rules_type(by);
    mote_status s = rules_decide(by, f, j->choice, err);
    rules_close(&by);
    TRY(s);
    for (size_t i = 0; i < model_file_n_tensors(f) && !j->goes_on; i++)
        if (j->choice[i].why) tell(j, "%.*s: %s in place of %s: %s", STR_ARG(model_file_tensor(f, i)->name), quant_get((int)j->choice[i].got)->name,
                                   quant_get((int)j->choice[i].wanted)->name, j->choice[i].why);
    return qat_open(&j->q, j->net, j->machine.pool, &opts, err);
}

/* ---- rows ---- */
static mote_status open_data(job *j, size_t n_ctx, mote_error *err) {
    const mote_distill_options *o = j->o;
    j->sources = MEM_NEW_N(data_source, MAX(o->n_data, (size_t)1));
    if (!j->sources) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < o->n_data; i++) j->sources[i] = (data_source){.path = o->data[i].path, .weight = o->data[i].weight, .from = o->data[i].from, .until = o->data[i].until};
    double held = o->held_out < 0 || o->write_cache ? 0 : o->held_out > 0 ? o->held_out : 0.01;
    data_opts d = {.sources = j->sources, .n_sources = o->n_data, .vocab = j->vocab, .tmpl = j->tmpl, .n_ctx = n_ctx, .loss_on_all = o->whole_chats,
                   .seed = o->settings.seed ? o->settings.seed : 1, .split = held > 0 ? DATA_TRAIN : DATA_ALL, .held_out = held, .log = &j->sink};
    TRY(data_open(&j->text, &d, err));
    if (!(held > 0)) return MOTE_OK;
    d.split = DATA_HELD;
    mote_error none;
    if (data_open(&j->held, &d, &none) != MOTE_OK) tell(j, "too little data to hold some out");
    return MOTE_OK;
}

static mote_status rows_file(job *j, char path[520], mote_error *err) {
    if (!*j->dir) FAIL(err, MOTE_E_USAGE, "a folder for the run is needed (--dir)");
    (void)snprintf(path, 520, "%s/generated", j->dir);
    return MOTE_OK;
}

static mote_status make_rows(job *j, size_t n_ctx, mote_error *err) {
    const mote_distill_options *o = j->o;
    char path[520];
    TRY(rows_file(j, path, err));
    distil_made made = {.from = j->text, .model = o->teacher ? o->teacher : o->student, .tokens = o->generate, .n_ctx = n_ctx, .prompt = o->prompt_tokens,
                        .temperature = (float)o->sample_temperature, .seed = o->settings.seed + 17, .n_threads = o->settings.n_threads, .stop = cancelled, .ctx = j,
                        .log = &j->sink};
    return distil_make_rows(&j->rows, &made, path, err);
}

static mote_status check_cache(job *j, mote_error *err) {
    const distil_cache_info *c = distil_cache_about(j->cache);
    double want = j->o->temperature > 0 ? j->o->temperature : 1;
    if (c->n_vocab != j->student->hp.n_vocab)
        FAIL(err, MOTE_E_MISMATCH, "%s: the teacher had a vocabulary of %zu tokens, the student has one of %zu", j->o->cache, c->n_vocab, j->student->hp.n_vocab);
    if (fabs((double)c->temperature - want) > 1e-6)
        FAIL(err, MOTE_E_MISMATCH, "%s was made at temperature %g; this run has %g", j->o->cache, (double)c->temperature, want);
    for (size_t i = 0; i < j->n_terms; i++)
        if (j->terms[i].kind != DISTIL_KL && j->terms[i].kind != DISTIL_CE)
            FAIL(err, MOTE_E_USAGE, "a file of likeliest tokens serves the losses kl and ce alone");
    return distil_rows_read(&j->rows, j->cache, err);
}

/* ---- the student's own words ---- */
static mote_status write_net(job *j, const char *path, bool for_rolling, mote_error *err);
static bool written_whole(void *ctx, const var *v);

static mote_status roll_student(void *ctx, const distil_rows *prompts, distil_rows *out, mote_error *err) {
    job *j = ctx;
    char path[560];
    (void)snprintf(path, sizeof path, "%s%s.speaks", *j->dir ? j->dir : j->o->out, *j->dir ? "/student" : "");
    TRY(write_net(j, path, true, err));
    distil_roll roll = {.path = path, .n_ctx = j->amount.n_ctx, .temperature = (float)(j->o->sample_temperature > 0 ? j->o->sample_temperature : 1),
                        .at_once = 8, .seed = trainer_at(j->t) + 1000003 * (j->o->settings.seed + 1), .n_threads = j->o->settings.n_threads, .stop = cancelled, .ctx = j};
    mote_status s = distil_roll_out(&roll, prompts, out, err);
    (void)unlink(path);
    return s;
}

/* ---- choosing examples ---- */
static mote_status choose(job *j, distil_select_kind kind, uint64_t seed, mote_error *err) {
    uint32_t *items = NULL;
    size_t n;
    distil_select sel = {.kind = kind, .keep = j->o->keep > 0 ? j->o->keep : 0.3, .pool = j->o->select_pool ? j->o->select_pool : 2000, .seed = seed,
                         .stop = cancelled, .ctx = j};
    TRY(distil_choose(j->d, trainer_tape(j->t), j->text, &sel, &items, &n, &j->r->look_tokens, err));
    j->r->selected = n;
    j->r->looked_at += MIN(sel.pool, data_n_items(j->text));
    mote_status s = distil_source_select(j->from, items, n, err);
    mem_free(items);
    return s;
}

static mote_status before_step(void *ctx, uint64_t step, mote_error *err) {
    job *j = ctx;
    distil_select_kind kind;
    uint64_t every = j->o->select_every ? j->o->select_every : 50;
    if (!j->o->select || !distil_select_find(j->o->select, &kind)) return MOTE_OK;
    bool again = kind == DISTIL_SELECT_ACTIVE && step % every == 0;
    if (step > 0 && !again) return MOTE_OK;
    return choose(j, kind, j->o->settings.seed + step + 1, err);
}

/* ---- the run ---- */
/* Looks at the same held-out items each time. */
static mote_status look(job *j, tape *t, distill_seen *mean, mote_error *err) {
    *mean = (distill_seen){.divergence = (double)NAN, .ce = (double)NAN, .agree = (double)NAN};
    if (!j->held) return MOTE_OK;
    double d = 0, c = 0, a = 0, rows = 0;
    size_t n = data_n_items(j->held);
    for (size_t i = 0; i < n && i < HELD_ROWS; i++) {
        data_batch b;
        distill_seen seen;
        TRY(data_item(j->held, i * n / MIN(n, (size_t)HELD_ROWS), &b, err));
        TRY(distil_measure(j->d, t, &b, &seen, err));
        d += seen.divergence * (double)seen.rows;
        c += seen.ce * (double)seen.rows;
        a += seen.agree * (double)seen.rows;
        rows += (double)seen.rows;
    }
    if (!(rows > 0)) return MOTE_OK;
    bool dense = j->theirs && !j->align;
    *mean = (distill_seen){dense ? d / rows : (double)NAN, c / rows, dense ? a / rows : (double)NAN, (size_t)rows};
    return MOTE_OK;
}

static mote_status on_eval(void *ctx, tape *t, double *loss, mote_error *err) {
    job *j = ctx;
    distill_seen seen;
    TRY(look(j, t, &seen, err));
    *loss = isnan(seen.divergence) ? seen.ce : seen.divergence;
    j->r->divergence = seen.divergence;
    j->r->ce = seen.ce;
    j->r->agree = seen.agree;
    return MOTE_OK;
}

static mote_status on_progress(void *ctx, const train_progress *p, mote_error *err) {
    job *j = ctx;
    mote_train_progress show = settings_progress(p, &j->machine, j->flops);
    distil_figures f = distil_take_figures(j->d);
    j->r->rows += f.rows;
    j->r->steps = p->step;
    j->r->tokens = p->tokens;
    j->r->seconds = p->seconds;
    j->r->tokens_per_s = p->tokens_per_s;
    j->r->machine_share = show.machine_share;
    j->r->skipped = p->skipped;
    if (ranks_rank(j->machine.ranks) != 0) return MOTE_OK;
    if (j->log) TRY(runlog_step(j->log, &show, err));
    if (j->o->callbacks.progress) j->o->callbacks.progress(j->o->callbacks.ctx, &show);
    return MOTE_OK;
}

static mote_status on_part(void *ctx, size_t i, mote_error *err) {
    (void)i;
    (void)err;
    distil_part_done(((job *)ctx)->d);
    return MOTE_OK;
}
static mote_status on_grads(void *ctx, mote_error *err) {
    job *j = ctx;
    (void)err;
    distil_grads_done(j->d);
    if (j->tie) share_tie_grads(j->tie);
    return MOTE_OK;
}
static mote_status on_updated(void *ctx, uint64_t step, mote_error *err) {
    (void)step;
    (void)err;
    distil_updated(((job *)ctx)->d);
    return MOTE_OK;
}
static bool on_stop(void *ctx) {
    job *j = ctx;
    const mote_qat_options *q = &j->o->qat;
    if (q->slot_steps && trainer_at(j->t) - j->r->resumed_at >= q->slot_steps) j->slot_over = true;
    if (q->slot_seconds > 0 && (double)(clock_ns() - j->slot_began_ns) >= 1e9 * q->slot_seconds) j->slot_over = true;
    return j->slot_over || cancelled(ctx, 0, 0);
}

/* Both files of a slot, so that whenever the run is killed a pair of them is there. */
static mote_status on_save(void *ctx, mote_error *err) {
    job *j = ctx;
    if (ranks_rank(j->machine.ranks) != 0) return MOTE_OK;
    TRY(qat_state_write(&j->state, &j->r->state_bytes, err));
    TRY(write_net(j, j->o->out, false, err));
    return qat_state_commit(&j->state, err);
}

static mote_status make_identity(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    json_t *v = settings_identity(&j->to, &o->settings);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    j->identity = v;
    json_t *own = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:s, s:s, s:b, s:I, s:I, s:s}", "student", o->student, "teacher", o->teacher ? o->teacher : "", "loss",
                            o->loss ? o->loss : "kl", "temperature", o->temperature, "on_policy", o->on_policy, "generate", o->generate, "keep", o->keep,
                            "select", o->select ? o->select : "", "qat", o->qat.type ? o->qat.type : "", "only_scales", o->qat.only_scales, "rows",
                            (json_int_t)j->amount.batch, "ctx", (json_int_t)j->amount.n_ctx, "data", j->text ? data_digest(j->text) : o->cache ? o->cache : "");
    if (!own || json_object_update_new(v, own) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (o->layer_map && json_object_set_new(v, "map", json_string(o->layer_map)) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (o->after && json_object_set_new(v, "after", json_string(o->after)) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (o->qat.state) { /* the one is written anew, and both may lie elsewhere in the next slot */
        (void)json_object_del(v, "student");
        (void)json_object_del(v, "teacher");
    }
    j->to.identity = v;
    return MOTE_OK;
}

static mote_status make_dir(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    const char *dir = o->settings.dir;
    if (dir && !*dir) return MOTE_OK;
    int n = dir ? snprintf(j->dir, sizeof j->dir, "%s", dir) : snprintf(j->dir, sizeof j->dir, "%s.run", o->out ? o->out : o->write_cache);
    if (n < 0 || (size_t)n >= sizeof j->dir) FAIL(err, MOTE_E_USAGE, "the folder's name is too long");
    if (mkdir(j->dir, 0777) != 0 && errno != EEXIST) FAIL(err, MOTE_E_IO, "%s: %s", j->dir, strerror(errno));
    return MOTE_OK;
}

static mote_status open_training(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    /* of text, about four bytes a token */
    double tokens = j->rows.n ? (double)j->rows.start[j->rows.n] : (double)data_get_stats(j->text, SIZE_MAX).bytes / 4;
    TRY(settings_amount(&j->amount, &o->settings, j->student->hp.n_ctx_train, tokens, err));
    TRY(settings_trainer(&j->to, &o->settings, &j->machine, j->amount.steps, j->q ? LR_QAT : LR_FLOAT, 0, err));
    j->to.log = &j->sink;
    if (*j->dir && !o->qat.state) j->to.dir = j->dir;
    if (j->to.eval_every == 0) j->to.eval_every = MAX(j->amount.steps / 20, (uint64_t)1);
    TRY(make_identity(j, err));
    distil_opts d = {.student = j->net, .teacher = j->theirs, .terms = j->terms, .n_terms = j->n_terms, .temperature = (float)o->temperature, .beta = (float)o->beta,
                     .relation_set = o->relation_layer > 0, .relation_layer = o->relation_layer > 0 ? (size_t)o->relation_layer - 1 : 0, .align = j->align, .qat = j->q, .layer_map = j->layer_map,
                     .seed = o->settings.seed};
    TRY(distil_open(&j->d, &d, err));
    distil_source_opts so = {.d = j->d, .data = j->rows.n ? NULL : j->text, .rows_per_step = j->amount.batch, .rows_per_part = j->amount.micro_batch, .n_ctx = j->amount.n_ctx,
                             .rows = j->rows.n ? &j->rows : NULL, .cache = j->cache, .seed = o->settings.seed + 5, .on_policy = o->on_policy, .ahead = o->on_policy_ahead,
                             .prompt = o->prompt_tokens, .roll = roll_student, .roll_ctx = j, .before = before_step, .before_ctx = j};
    TRY(distil_source_open(&j->from, &so, err));
    size_t n = distil_params(j->d, NULL, 0);
    j->params = MEM_NEW_N(train_param, n + 1);
    if (!j->params) FAIL(err, MOTE_E_MEMORY, "out of memory");
    n = distil_params(j->d, j->params, n);
    train_source rows = distil_source_rows(j->from);
    train_hooks hooks = {.ctx = j, .progress = on_progress, .part_done = on_part, .grads_done = on_grads, .updated = on_updated, .eval = j->held ? on_eval : NULL, .save = o->qat.state ? on_save : NULL, .stop = on_stop};
    TRY(trainer_open(&j->t, &j->to, j->params, n, &rows, distil_loss, j->d, &hooks, err));
    j->state = (qat_state){.path = o->qat.state, .q = j->q, .t = j->t, .params = j->params, .n_params = n, .bits = o->qat.state_bits ? o->qat.state_bits : QAT_STATE_BITS,
                           .in_file = written_whole, .ctx = j};
    return MOTE_OK;
}

/* ---- writing ---- */
static quant_type stored_type(const tensor_info *t, int type) {
    bool is_float = t->type == QUANT_F32 || t->type == QUANT_F16 || t->type == QUANT_BF16, matrix = t->n_dims > 1 && t->ne[0] % 32 == 0;
    quant_type to = !matrix ? (is_float ? t->type : QUANT_F32) : type >= 0 ? (quant_type)type : is_float ? t->type : QUANT_BF16;
    return matrix && t->ne[0] % quant_get((int)to)->block != 0 ? QUANT_F16 : to;
}

static mote_status put_param(const job *j, model_edit *e, size_t i, int type, mote_error *err) {
    const param *p = net_param(j->net, i);
    const tensor_info *t = p->info;
    const float *x = p->v.x;
    if (j->tie) TRY(share_tie_stored(j->tie, i, &t, &x, err));
    return t ? edit_put(e, t->name, stored_type(t, type), t->n_dims, t->ne, x, NULL, err) : MOTE_OK;
}

static bool written_whole(void *ctx, const var *v) {
    const job *j = ctx;
    for (size_t i = 0; i < net_n_params(j->net); i++) {
        const param *p = net_param(j->net, i);
        if (&p->v == v) return stored_type(p->info, -1) == QUANT_F32;
    }
    return false;
}

static mote_status put_packed(model_edit *e, qat_tensor t, mote_error *err) {
    uint64_t ne[TENSOR_DIMS_MAX];
    memcpy(ne, t.p->info->ne, sizeof ne);
    if (t.rows != t.p->v.rows) ne[1] = t.rows; /* a part of the embedding */
    return edit_put_bytes(e, str_of(t.name), t.type, t.p->info->n_dims, ne, t.bytes, err);
}

static mote_status put_all(job *j, model_edit *e, bool for_rolling, mote_error *err) {
    const quant_format *f = j->o->out_type ? quant_by_name(j->o->out_type) : NULL;
    int type = for_rolling ? QUANT_BF16 : f ? (int)f->type : -1;
    for (size_t i = 0; i < net_n_params(j->net); i++) {
        const param *p = net_param(j->net, i);
        size_t k = j->q ? qat_find(j->q, p) : SIZE_MAX;
        if (k != SIZE_MAX) {
            for (; k < qat_n(j->q) && qat_get(j->q, k).p == p; k++) TRY(put_packed(e, qat_get(j->q, k), err));
        } else if (p->trained) TRY(put_param(j, e, i, type, err));
    }
    if (!j->q) return MOTE_OK;
    TRY(edit_set_u32(e, "general.file_type", (uint32_t)ftypes[j->type].file_type, err));
    return edit_set_u32(e, "general.quantization_version", 2, err);
}

static mote_status write_net(job *j, const char *path, bool for_rolling, mote_error *err) {
    model_edit *e;
    TRY(edit_open(&e, j->tie ? share_tie_file(j->tie) : j->source, err));
    mote_status s = put_all(j, e, for_rolling, err);
    if (s == MOTE_OK) s = edit_write(e, path, err);
    edit_close(&e);
    return s;
}

static mote_status finish(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    if (j->to.ema > 0) {
        trainer_swap_ema(j->t);
        distil_updated(j->d);
    }
    if (ranks_rank(j->machine.ranks) != 0) return MOTE_OK;
    if (!o->qat.state) TRY(write_net(j, o->out, false, err)); /* else it is there */
    struct stat st;
    if (stat(o->out, &st) == 0) j->r->bytes = (uint64_t)st.st_size;
    j->r->finished = true;
    if (!j->log) return MOTE_OK;
    json_t *facts = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "student", o->student, "teacher", o->teacher ? o->teacher : o->cache ? o->cache : "the student before rounding", "loss",
                              o->loss ? o->loss : "kl", "packed as", o->qat.type ? o->qat.type : "floats", "steps", (json_int_t)j->r->steps, "tokens", (json_int_t)j->r->tokens);
    if (facts && !isnan(j->r->divergence_before)) (void)json_object_set_new(facts, "held-out divergence before", json_real(j->r->divergence_before));
    if (facts && !isnan(j->r->divergence)) (void)json_object_set_new(facts, "held-out divergence after", json_real(j->r->divergence));
    mote_status s = runlog_finish(j->log, "Distillation", facts, err);
    json_decref(facts);
    (void)snprintf(j->r->curve, sizeof j->r->curve, "%s", runlog_curve(j->log));
    j->r->loss = runlog_loss(j->log);
    return s;
}

/* The weights, and the scales of their formats, as the run before had them. */
static mote_status begin_after(job *j, mote_error *err) {
    char dir[sizeof j->dir];
    if (snprintf(dir, sizeof dir, "%s.run", j->o->after) >= (int)sizeof dir) FAIL(err, MOTE_E_USAGE, "the folder's name is too long");
    TRY(trainer_begin(j->t, dir, err));
    if (j->q) {
        model_file *from;
        TRY(model_file_open(&from, j->o->after, MODEL_FILE_STACKED, err));
        mote_status st = qat_take_scales(j->q, from, err);
        model_file_close(&from);
        TRY(st);
    }
    trainer_begun(j->t);
    return MOTE_OK;
}

static mote_status train(job *j, mote_error *err) {
    distill_seen before;
    TRY(open_training(j, err));
    if (j->goes_on) {
        TRY(qat_state_read(&j->state, err));
        j->r->resumed_at = trainer_at(j->t);
    } else TRY(trainer_resume(j->t, &j->r->resumed_at, err));
    if (j->o->after && j->r->resumed_at == 0) TRY(begin_after(j, err));
    distil_updated(j->d);
    j->r->steps = j->r->resumed_at;
    j->r->steps_in_all = j->to.steps;
    if (*j->dir && ranks_rank(j->machine.ranks) == 0) TRY(runlog_open(&j->log, j->dir, j->r->resumed_at, err));
    if (j->r->resumed_at == 0) {
        TRY(look(j, trainer_tape(j->t), &before, err));
        j->r->divergence_before = before.divergence;
        if (!isnan(before.divergence)) tell(j, "held out, before: divergence %.4f, cross-entropy %.4f, the same likeliest token %.1f %%", before.divergence, before.ce, 100 * before.agree);
    }
    j->slot_began_ns = clock_ns();
    mote_status ran = trainer_run(j->t, err);
    if (ran != MOTE_OK && !(ran == MOTE_E_CANCELLED && j->slot_over)) return ran;
    double held;
    if (j->held && isnan(j->r->ce)) TRY(on_eval(j, trainer_tape(j->t), &held, err)); /* a run that was finished already, a slot that ended */
    return finish(j, err);
}

/* ---- a file of likeliest tokens ---- */
static mote_status keep_batch(job *j, tape *t, distil_cache_writer *w, const data_batch *b, mote_error *err) {
    double temperature = j->o->temperature > 0 ? j->o->temperature : 1;
    if (cancelled(j, 0, 0)) FAIL(err, MOTE_E_CANCELLED, "cancelled: no file was written");
    return distil_keep(j->theirs, t, b, (float)temperature, w, j->o->top_k ? j->o->top_k : 64, err);
}

static mote_status keep_text(job *j, tape *t, distil_cache_writer *w, mote_error *err) {
    for (uint64_t step = 0; step < j->amount.steps; step++) {
        data_step_info info;
        TRY(data_step(j->text, j->amount.batch, 0, 1, &info, err));
        for (size_t at = 0; at < info.mine.n_rows; at += j->amount.micro_batch) {
            data_batch b;
            TRY(data_part(j->text, at, MIN(j->amount.micro_batch, info.mine.n_rows - at), &b, err));
            TRY(keep_batch(j, t, w, &b, err));
        }
    }
    return MOTE_OK;
}

static mote_status keep_made_up(job *j, tape *t, distil_cache_writer *w, mote_error *err) {
    int32_t *pos = MEM_NEW_N(int32_t, j->amount.n_ctx), *target = MEM_NEW_N(int32_t, j->amount.n_ctx);
    mote_status s = pos && target ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < j->rows.n && s == MOTE_OK; i++) {
        size_t from = j->rows.start[i], n = j->rows.start[i + 1] - from;
        const uint32_t start[2] = {0, (uint32_t)n};
        for (size_t k = 0; k < n; k++) {
            pos[k] = (int32_t)k;
            target[k] = j->rows.counts[from + k] ? j->rows.ids[from + k + 1] : -1;
        }
        data_batch b = {.seqs = {.n = n, .n_seq = 1, .start = start, .pos = pos}, .ids = j->rows.ids + from, .target = target, .n_rows = 1};
        s = keep_batch(j, t, w, &b, err);
    }
    mem_free(pos);
    mem_free(target);
    return s;
}

static mote_status write_cache(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    distil_cache_info info = {.n_vocab = j->teacher->hp.n_vocab, .k = o->top_k ? o->top_k : 64, .temperature = (float)(o->temperature > 0 ? o->temperature : 1)};
    distil_cache_writer *w = NULL;
    tape *t = NULL;
    mote_status s;
    struct stat st;
    TRY(settings_amount(&j->amount, &o->settings, j->teacher->hp.n_ctx_train, (double)data_get_stats(j->text, SIZE_MAX).bytes / 4, err));
    if (stat(o->teacher, &st) == 0 && S_ISREG(st.st_mode)) TRY(sha256_file(o->teacher, info.teacher, err));
    (void)snprintf(info.data, sizeof info.data, "%s", data_digest(j->text));
    TRYG(s, tape_open(&t, &(tape_opts){.pool = j->machine.pool, .kern = j->machine.kern, .prec = j->machine.prec}, err));
    TRYG(s, distil_cache_create(&w, o->write_cache, &info, err));
    TRYG(s, j->rows.n ? keep_made_up(j, t, w, err) : keep_text(j, t, w, err));
    TRYG(s, distil_cache_commit(w, &info, err));
    j->r->cached_tokens = info.n_tokens;
    j->r->rows = info.n_records;
    j->r->finished = true;
    if (stat(o->write_cache, &st) == 0) j->r->bytes = (uint64_t)st.st_size;
out:
    distil_cache_discard(&w);
    tape_close(&t);
    return s;
}

static mote_status run(job *j, mote_error *err) {
    const mote_distill_options *o = j->o;
    distil_select_kind kind;
    TRY(check_options(o, err));
    if (o->select && !distil_select_find(o->select, &kind)) FAIL(err, MOTE_E_USAGE, "choose by '%s': expected loss, diverse, both, active or random", o->select);
    if (o->out_type && !quant_by_name(o->out_type)) FAIL(err, MOTE_E_USAGE, "output type '%s' is not known", o->out_type);
    TRY(distil_terms(j->terms, &j->n_terms, o->loss && *o->loss ? o->loss : "kl", err));
    j->goes_on = o->qat.state && qat_state_there(o->qat.state);
    TRY(train_machine_open(&j->machine, &o->settings, o->callbacks.progress != NULL, err));
    TRY(open_models(j, err));
    TRY(make_dir(j, err));
    if (o->qat.type && j->student) TRY(open_qat(j, err));
    for (size_t i = 0; i < j->n_terms && o->settings.recompute; i++)
        if (j->terms[i].kind == DISTIL_ATTN || j->terms[i].kind == DISTIL_FFN) FAIL(err, MOTE_E_USAGE, "losses on feature maps need what recomputing layers throws away");
    if (o->layer_map && j->student && j->theirs) {
        if (!(j->layer_map = MEM_NEW_N(int32_t, j->student->hp.n_layer))) FAIL(err, MOTE_E_MEMORY, "out of memory");
        TRY(distil_layers(j->layer_map, j->student->hp.n_layer, net_model(j->theirs)->hp.n_layer, o->layer_map, err));
    }
    if (o->cache) {
        TRY(distil_cache_open(&j->cache, o->cache, err));
        TRY(check_cache(j, err));
    } else TRY(open_data(j, o->settings.n_ctx ? o->settings.n_ctx : 512, err));
    if (o->generate > 0) TRY(make_rows(j, o->settings.n_ctx ? o->settings.n_ctx : 512, err));
    if (j->net) j->flops = settings_flops(j->net, o->settings.n_ctx ? o->settings.n_ctx : 512) + (j->theirs ? settings_flops(j->theirs, 512) / 3 : 0);
    return o->write_cache ? write_cache(j, err) : train(j, err);
}

static void close_all(job *j) {
    runlog_close(&j->log);
    trainer_close(&j->t);
    distil_source_close(&j->from);
    distil_close(&j->d);
    qat_close(&j->q);
    distil_align_close(&j->align);
    data_close(&j->text);
    data_close(&j->held);
    distil_cache_close(&j->cache);
    distil_rows_free(&j->rows);
    share_tie_close(&j->tie);
    net_close(&j->net);
    net_close(&j->theirs);
    tok_close(&j->vocab);
    tok_close(&j->their_vocab);
    chat_template_close(&j->tmpl);
    model_close(&j->student);
    model_close(&j->teacher);
    model_file_close(&j->source);
    mem_free(j->choice);
    mem_free(j->layer_map);
    mem_free(j->sources);
    mem_free(j->params);
    json_decref(j->identity);
    train_machine_close(&j->machine);
}

mote_status compress_distill(const mote_distill_options *o, mote_distill_report *r, mote_error *err) {
    mote_distill_report own;
    job *j = MEM_NEW(job);
    if (!j) FAIL(err, MOTE_E_MEMORY, "out of memory");
    j->o = o;
    j->r = r ? r : &own;
    j->sink = (log_sink){log_to_caller, j};
    *j->r = (mote_distill_report){.loss = (double)NAN, .divergence = (double)NAN, .ce = (double)NAN, .agree = (double)NAN, .divergence_before = (double)NAN, .shared_vocab = 1};
    mote_status s = run(j, err);
    close_all(j);
    mem_free(j);
    return s;
}
