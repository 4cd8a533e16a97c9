/* finetune.c: a run of fine-tuning from its options to its file. See finetune_run.h. */
#include "train/finetune_run.h"

#include "format/edit.h"
#include "format/origin.h"
#include "run/conversation.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

static const char *const methods[] = {"lora", "rslora", "dora", "qlora", "full"};

static void say(const finetune *f, const char *text) {
    if (f->o->on.line) f->o->on.line(f->o->on.ctx, text);
}
static void log_to_user(void *ctx, int level, const char *line) {
    if (level >= LOG_WARN) say(ctx, line);
}

static mote_status check(finetune *f, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    const char *method = o->method ? o->method : "lora";
    size_t i = 0;
    while (i < COUNT_OF(methods) && strcmp(methods[i], method) != 0) i++;
    if (i == COUNT_OF(methods)) FAIL(err, MOTE_E_USAGE, "method '%.40s': expected lora, rslora, dora, qlora or full", method);
    f->method = (finetune_method)i;
    if (o->task && strcmp(o->task, "sft") != 0 && strcmp(o->task, "dpo") != 0) FAIL(err, MOTE_E_USAGE, "task '%.40s': expected sft or dpo", o->task);
    if (!o->model) FAIL(err, MOTE_E_USAGE, "no model to start from");
    if (f->method == FINETUNE_FULL && o->adapter) FAIL(err, MOTE_E_USAGE, "an adapter goes with lora, not with full");
    if (o->rank > ADAPTER_RANK_MAX) FAIL(err, MOTE_E_RANGE, "a rank of %zu: expected 1 to %u", o->rank, ADAPTER_RANK_MAX);
    if (!(o->alpha >= 0 && isfinite(o->alpha))) FAIL(err, MOTE_E_RANGE, "alpha %g: expected a number above 0", o->alpha);
    if (!(o->beta >= 0 && isfinite(o->beta))) FAIL(err, MOTE_E_RANGE, "beta %g: expected a number above 0", o->beta);
    if (o->dp_epsilon != 0 && o->dp_noise != 0) FAIL(err, MOTE_E_USAGE, "noise or epsilon, one of them: each follows from the other");
    if (!(o->gate >= 0 && isfinite(o->gate))) FAIL(err, MOTE_E_RANGE, "a gate of %g %%: expected a number from 0 on", o->gate);
    if (o->gate > 0 && !o->forget) FAIL(err, MOTE_E_USAGE, "a gate needs a text to judge by (forget)");
    f->private = o->dp_noise != 0 || o->dp_epsilon != 0;
    return MOTE_OK;
}

static mote_status open_model(finetune *f, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    chat_template_source src;
    TRY(train_machine_open(&f->mc, &o->train, o->on.progress != NULL, err));
    if (ranks_size(f->mc.ranks) > 1 && f->private) FAIL(err, MOTE_E_UNSUPPORTED, "private runs are made by one process");
    TRY(model_open(&f->m, o->model, &(model_opts){.log = &f->log}, f->mc.pool, err));
    const model_file *file = model_get_file(f->m);
    mote_status s = tok_open(&f->vocab, file, &f->log, err);
    if (s != MOTE_OK) return err_prefix(err, s, "%s: fine-tuning needs a tokenizer", o->model);
    run_template_source(file, f->vocab, &src);
    if (o->template_text) src.text = str_of(o->template_text);
    TRY(chat_template_open(&f->tmpl, &src, err));
    TRY(finetune_open_data(f, err));
    if (o->train.freeze && f->method != FINETUNE_FULL) FAIL(err, MOTE_E_USAGE, "freeze is for training all weights: adapters have their own targets");
    if (f->dpo && ranks_size(f->mc.ranks) > 1) FAIL(err, MOTE_E_UNSUPPORTED, "preferences are learned by one process");
    net_opts no = {.frozen = f->method != FINETUNE_FULL, .checkpoint = o->train.recompute, .packed = f->method == FINETUNE_QLORA,
                    .freeze = o->train.freeze};
    TRY(net_open(&f->n, f->m, f->mc.pool, &no, err));
    if (f->method == FINETUNE_FULL && f->replay && !(o->kl < 0)) TRY(net_open(&f->old, f->m, f->mc.pool, &(net_opts){.frozen = true, .packed = true}, err));
    f->flops = settings_flops(f->n, f->amount.n_ctx);
    return MOTE_OK;
}

static mote_status open_params(finetune *f, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    if (f->method != FINETUNE_FULL && o->train.keep_zeros)
        FAIL(err, MOTE_E_USAGE, "zeros stay zeros where all weights learn (--method full): an adapter changes the sum, whatever the zeros are");
    if (f->method != FINETUNE_FULL) {
        lora_opts lo = {.rank = o->rank, .alpha = o->alpha, .rslora = f->method == FINETUNE_RSLORA, .dora = f->method == FINETUNE_DORA,
                        .targets = o->targets, .seed = o->train.seed ? o->train.seed : 1};
        if (o->adapter) TRY(adapter_open(&f->from, o->adapter, model_get_file(f->m), err));
        lo.from = f->from;
        TRY(lora_open(&f->l, f->n, &lo, err));
    }
    f->n_params = f->l ? lora_params(f->l, NULL, 0) : trainer_net_params(f->n, o->train.decay_all, NULL, 0);
    f->params = MEM_NEW_N(train_param, f->n_params);
    if (!f->params) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (f->l) (void)lora_params(f->l, f->params, f->n_params);
    else (void)trainer_net_params(f->n, o->train.decay_all, f->params, f->n_params);
    return MOTE_OK;
}

/* ---- privacy ---- */

static mote_status choose_noise(finetune *f, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    size_t n = data_n_items(f->learn);
    f->delta = o->dp_delta != 0 ? o->dp_delta : 0.1 / (double)n;
    f->rate = (double)f->amount.batch / (double)n;
    f->sigma = o->dp_noise;
    double clip = o->dp_clip != 0 ? o->dp_clip : 1;
    TRY(privacy_check(o->dp_noise != 0 ? o->dp_noise : 1, clip, f->delta, (double)f->amount.batch, n, err));
    if (o->dp_epsilon != 0) TRY(privacy_find_sigma(&f->sigma, o->dp_epsilon, f->delta, fmin(f->rate, 1), f->amount.steps, err));
    if (getrandom(f->spent.key, sizeof f->spent.key, 0) != (ssize_t)sizeof f->spent.key) FAIL(err, MOTE_E_IO, "no random numbers from the system: %s", strerror(errno));
    return MOTE_OK;
}

static mote_status part_done(void *ctx, size_t i, mote_error *err) {
    finetune *f = ctx;
    mote_status s = privacy_add(f->dp, err);
    return s == MOTE_OK ? s : err_prefix(err, s, "example %u", f->chosen[i]);
}

static mote_status grads_done(void *ctx, mote_error *err) {
    finetune *f = ctx;
    privacy_take(f->dp, f->spent.key, f->draws);
    return privacy_spend(&f->spent, fmin(f->rate, 1), f->sigma, err);
}

/* ---- the run ---- */

static mote_status updated(void *ctx, uint64_t step, mote_error *err) {
    finetune *f = ctx;
    (void)step, (void)err;
    if (f->l) lora_changed(f->l);
    return MOTE_OK;
}

static mote_status progress(void *ctx, const train_progress *p, mote_error *err) {
    finetune *f = ctx;
    mote_train_progress shown = settings_progress(p, &f->mc, f->flops);
    if (f->o->on.progress) f->o->on.progress(f->o->on.ctx, &shown);
    return f->runlog ? runlog_step(f->runlog, &shown, err) : MOTE_OK;
}

static bool stop(void *ctx) {
    const finetune *f = ctx;
    return f->o->on.stop && f->o->on.stop(f->o->on.ctx);
}

static double usual_rate(const finetune *f) {
    bool small = model_get_info(f->m)->n_params < 1000000000u;
    if (f->method == FINETUNE_FULL) return f->dpo ? 1e-6 : small ? 1e-4 : 2e-5;
    return f->dpo ? 5e-5 : small ? 1e-3 : 2e-4;
}

/* The folder of checkpoints; NULL: none. */
static char *run_folder(const finetune *f) {
    const mote_finetune_opts *o = f->o;
    if (o->train.dir) return *o->train.dir ? mem_strdup(o->train.dir) : NULL;
    if (!o->out) return NULL;
    size_t n = strlen(o->out);
    char *dir = mem_calloc(n + 5, 1);
    if (!dir) return NULL;
    while (n > 1 && o->out[n - 1] == '/') n--;
    memcpy(dir, o->out, n);
    memcpy(dir + n, ".run", 4);
    return dir;
}

static mote_status open_trainer(finetune *f, const char *dir, mote_error *err) {
    const mote_finetune_opts *o = f->o;
    trainer_opts to;
    train_hooks hooks = {.ctx = f, .progress = progress, .updated = updated, .stop = stop};
    TRY(settings_trainer(&to, &o->train, &f->mc, f->amount.steps, usual_rate(f), 0, err));
    to.log = &f->log;
    to.dir = dir;
    to.max_bytes = 0;
    if (f->private) {
        to.clip = 0;
        hooks.part_done = part_done;
        hooks.grads_done = grads_done;
    }
    json_t *identity = settings_identity(&to, &o->train);
    if (!identity || json_object_set_new(identity, "method", json_string(methods[f->method])) != 0 ||
        json_object_set_new(identity, "data", json_string(data_digest(f->learn))) != 0)
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    to.identity = identity;
    train_source source = finetune_source(f);
    mote_status s = trainer_open(&f->t, &to, f->params, f->n_params, &source, finetune_loss, f, &hooks, err);
    json_decref(identity);
    TRY(s);
    if (!f->private) return MOTE_OK;
    TRY(trainer_keep(f->t, "privacy", &f->spent, sizeof f->spent, err));
    return privacy_open(&f->dp, f->params, f->n_params, f->sigma, o->dp_clip != 0 ? o->dp_clip : 1, (double)f->amount.batch, err);
}

/* ---- writing ---- */

static mote_status write_gguf(finetune *f, const char *path, mote_error *err) {
    model_edit *e;
    TRY(edit_open(&e, model_get_file(f->m), err));
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < net_n_params(f->n); i++) {
        const param *p = net_param(f->n, i);
        const tensor_info *t = p->info;
        bool is_float = t->type == QUANT_F32 || t->type == QUANT_F16 || t->type == QUANT_BF16;
        if (p->trained) TRYG(s, edit_put(e, t->name, is_float ? t->type : QUANT_F16, t->n_dims, t->ne, p->v.x, NULL, err));
    }
    s = edit_write(e, path, err);
out:
    edit_close(&e);
    return s;
}

static mote_status copy_file(const char *from, const char *to, const char *name, mote_error *err) {
    char path[4096];
    file_map m;
    file_writer w = {0};
    mote_status s = file_open_at(&m, from, name, FILE_READ, err);
    if (s == MOTE_E_NOT_FOUND) return MOTE_OK;
    TRY(s);
    (void)snprintf(path, sizeof path, "%s/%s", to, name);
    TRYG(s, file_writer_open(&w, path, err));
    TRYG(s, file_write(&w, m.p, m.n, err));
    s = file_writer_commit(&w, err);
out:
    file_writer_abort(&w);
    file_close(&m);
    return s;
}

static mote_status write_folder(finetune *f, const char *dir, mote_error *err) {
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
                                        "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"};
    const char *from = model_file_path(model_get_file(f->m));
    char path[4096];
    origin *o = NULL;
    mote_status s = MOTE_OK;
    size_t n = 0;
    if (!file_is_dir(from)) FAIL(err, MOTE_E_USAGE, "%s: a folder can be written only from a folder; call the output NAME.gguf", dir);
    if (mkdir(dir, 0777) != 0 && !file_is_dir(dir)) FAIL(err, MOTE_E_IO, "%s: %s", dir, strerror(errno));
    origin_value *v = MEM_NEW_N(origin_value, net_n_params(f->n));
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < net_n_params(f->n); i++) {
        const param *p = net_param(f->n, i);
        if (p->trained) v[n++] = (origin_value){.t = p->info, .x = p->v.x};
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) TRYG(s, copy_file(from, dir, names[i], err));
    TRYG(s, origin_open(&o, from, err));
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    s = origin_write(o, v, n, ORIGIN_WEIGHTS, NULL, path, err);
out:
    origin_close(&o);
    mem_free(v);
    return s;
}

static mote_status write_result(finetune *f, mote_error *err) {
    const char *out = f->o->out;
    if (!out || ranks_rank(f->mc.ranks) != 0) return MOTE_OK;
    if (f->o->train.ema > 0) trainer_swap_ema(f->t);
    bool gguf = str_ends(str_of(out), STR(".gguf"));
    if (!f->l) return gguf ? write_gguf(f, out, err) : write_folder(f, out, err);
    return gguf ? adapter_write_gguf(lora_adapter(f->l), out, err) : adapter_write_peft(lora_adapter(f->l), model_get_file(f->m), out, err);
}

/* ---- before and after ---- */

static mote_status judge(finetune *f, mote_finetune_result *r, bool after, mote_error *err) {
    tape *t = trainer_tape(f->t);
    if (f->forget) TRY(finetune_perplexity(f, t, after ? &r->ppl_after : &r->ppl_before, err));
    if (f->dpo) TRY(finetune_prefer(f, t, after, after ? &r->preferred_after : &r->preferred_before, err));
    return finetune_known(f, t, after ? &r->known_after : &r->known_before, &r->n_probe, err);
}

static void fill(finetune *f, mote_finetune_result *r) {
    r->steps = trainer_at(f->t);
    r->n_items = data_n_items(f->learn);
    r->n_all = (size_t)model_get_info(f->m)->n_params;
    for (size_t i = 0; i < f->n_params; i++) r->n_trained += f->params[i].v->rows * f->params[i].v->cols;
    if (f->runlog) r->loss = runlog_loss(f->runlog);
    if (!f->private) return;
    r->delta = f->delta;
    r->epsilon = privacy_epsilon(&f->spent, f->delta);
    r->share_cut = privacy_share_cut(f->dp);
}

static mote_status run(finetune *f, const char *dir, mote_finetune_result *r, mote_error *err) {
    uint64_t at = 0, began = clock_ns();
    if (f->private) TRY(choose_noise(f, err));
    TRY(open_trainer(f, dir, err));
    if (f->dpo) TRY(finetune_refer(f, trainer_tape(f->t), err)); /* the net is still the reference */
    TRY(judge(f, r, false, err));
    TRY(trainer_resume(f->t, &at, err));
    if (f->l) lora_changed(f->l);
    if (dir) TRY(runlog_open(&f->runlog, dir, at, err));
    mote_status s = trainer_run(f->t, err);
    fill(f, r);
    r->seconds = (double)(clock_ns() - began) * 1e-9;
    TRY(s);
    TRY(judge(f, r, true, err));
    if (f->o->gate > 0 && !(r->ppl_after <= r->ppl_before * (1 + f->o->gate / 100)))
        FAIL(err, MOTE_E_GATE, "perplexity on %s rose from %.4f to %.4f, %.2f %%; the gate is %g %%: nothing is written", f->o->forget, r->ppl_before,
             r->ppl_after, 100 * (r->ppl_after / r->ppl_before - 1), f->o->gate);
    return write_result(f, err);
}

static void close_all(finetune *f) {
    runlog_close(&f->runlog);
    trainer_close(&f->t);
    privacy_close(&f->dp);
    mem_free(f->params);
    mem_free(f->reference);
    mem_free(f->chosen);
    lora_close(&f->l);
    adapter_close(&f->from);
    net_close(&f->n);
    net_close(&f->old);
    data_close(&f->learn);
    data_close(&f->replay);
    data_close(&f->forget);
    data_close(&f->probe);
    chat_template_close(&f->tmpl);
    tok_close(&f->vocab);
    model_close(&f->m);
    train_machine_close(&f->mc);
}

mote_status finetune_run(const mote_finetune_opts *o, mote_finetune_result *r, mote_error *err) {
    finetune f = {.o = o};
    f.log = (log_sink){log_to_user, &f};
    mote_status s = check(&f, err);
    if (s == MOTE_OK) s = open_model(&f, err);
    if (s == MOTE_OK) s = open_params(&f, err);
    char *dir = s == MOTE_OK ? run_folder(&f) : NULL;
    if (s == MOTE_OK) s = run(&f, dir, r, err);
    mem_free(dir);
    close_all(&f);
    return s;
}
