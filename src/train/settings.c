#include "train/settings.h"

#include "tensor/machine.h"
#include "tensor/tensor.h"

#include <math.h>

#define ROW(name, kind, field) {name, SETTING_##kind, offsetof(mote_train_settings, field)}
const setting train_settings_table[] = {
    ROW("steps", COUNT, steps), ROW("max_steps", COUNT, steps), ROW("tokens", NUM, tokens), ROW("epochs", NUM, epochs),
    ROW("max_seconds", NUM, max_seconds), ROW("num_train_epochs", NUM, epochs), ROW("ctx", COUNT, n_ctx), ROW("max_seq_length", COUNT, n_ctx), ROW("batch", COUNT, batch),
    ROW("micro_batch", COUNT, micro_batch), ROW("per_device_train_batch_size", COUNT, micro_batch), ROW("lr", NUM, lr),
    ROW("learning_rate", NUM, lr), ROW("lr_steps", STR, lr_steps), ROW("schedule", STR, schedule), ROW("lr_scheduler_type", STR, schedule), ROW("warmup", NUM, warmup),
    ROW("warmup_ratio", NUM, warmup), ROW("warmup_steps", NUM, warmup), ROW("decay", NUM, decay), ROW("decay_shape", STR, decay_shape),
    ROW("floor", NUM, floor), ROW("optimizer", STR, optimizer), ROW("muon_lr", NUM, muon_lr), ROW("beta1", NUM, beta1),
    ROW("beta2", NUM, beta2), ROW("eps", NUM, eps), ROW("weight_decay", NUM, weight_decay), ROW("decay_all", BOOL, decay_all),
    ROW("keep_zeros", BOOL, keep_zeros),
    ROW("clip", NUM, clip), ROW("max_grad_norm", NUM, clip), ROW("ema", NUM, ema), ROW("state_bits", INT, state_bits),
    ROW("precision", STR, precision), ROW("recompute", BOOL, recompute), ROW("freeze", STR, freeze), ROW("gradient_checkpointing", BOOL, recompute),
    ROW("threads", INT, n_threads), ROW("seed", COUNT, seed), ROW("dir", STR, dir), ROW("save_every", COUNT, save_every),
    ROW("save_steps", COUNT, save_every), ROW("keep", COUNT, keep), ROW("eval_every", COUNT, eval_every), ROW("eval_steps", COUNT, eval_every),
    ROW("on_nan", STR, on_nan), {0},
};
#undef ROW

/* ---- recipes ---- */
static bool is_zero(const void *p, size_t n) {
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++)
        if (b[i]) return false;
    return true;
}

static mote_status put(void *field, setting_kind kind, const char *key, const json_t *v, const char *what, mote_error *err) {
    switch (kind) {
    case SETTING_STR: {
        if (!json_is_string(v)) FAIL(err, MOTE_E_FORMAT, "%s: %s: expected text", what, key);
        const char *s = json_string_value(v);
        if (is_zero(field, sizeof s)) memcpy(field, &s, sizeof s);
        return MOTE_OK;
    }
    case SETTING_NUM: {
        if (!json_is_number(v)) FAIL(err, MOTE_E_FORMAT, "%s: %s: expected a number", what, key);
        double d = json_number_value(v);
        if (is_zero(field, sizeof d)) memcpy(field, &d, sizeof d);
        return MOTE_OK;
    }
    case SETTING_COUNT: {
        if (!json_is_integer(v) || json_integer_value(v) < 0) FAIL(err, MOTE_E_FORMAT, "%s: %s: expected a whole number from 0 on", what, key);
        uint64_t n = (uint64_t)json_integer_value(v);
        _Static_assert(sizeof(size_t) == sizeof n, "counts are of one size");
        if (is_zero(field, sizeof n)) memcpy(field, &n, sizeof n);
        return MOTE_OK;
    }
    case SETTING_INT: {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 1 << 20)
            FAIL(err, MOTE_E_FORMAT, "%s: %s: expected a small whole number", what, key);
        int n = (int)json_integer_value(v);
        if (is_zero(field, sizeof n)) memcpy(field, &n, sizeof n);
        return MOTE_OK;
    }
    case SETTING_BOOL: {
        if (!json_is_boolean(v)) FAIL(err, MOTE_E_FORMAT, "%s: %s: expected true or false", what, key);
        bool b = json_is_true(v);
        if (is_zero(field, sizeof b)) memcpy(field, &b, sizeof b);
        return MOTE_OK;
    }
    }
    return MOTE_OK;
}

mote_status settings_read(void *fields, const setting *table, const json_t *obj, const char *what, mote_error *err) {
    if (!json_is_object(obj)) FAIL(err, MOTE_E_FORMAT, "%s: expected a map of names and values", what);
    union { /* jansson's iterators take no const */
        const json_t *in;
        json_t *out;
    } o = {obj};
    const char *key;
    json_t *v;
    json_object_foreach(o.out, key, v) {
        const setting *s = table;
        while (s->name && strcmp(s->name, key) != 0) s++;
        if (!s->name) {
            buf known;
            buf_init(&known, 300);
            for (s = table; s->name; s++) buf_printf(&known, "%s%s", s == table ? "" : ", ", s->name);
            mote_status st = ERR(err, MOTE_E_FORMAT, "%s: '%.60s' is not known here; known are %s", what, key, known.p ? known.p : "");
            buf_free(&known);
            return st;
        }
        if (json_is_null(v)) continue;
        TRY(put((char *)fields + s->field, s->kind, key, v, what, err));
    }
    return MOTE_OK;
}

/* ---- the machine ---- */
static mote_status precision(gemm_prec *out, const mote_train_settings *s, mote_error *err) {
    const char *p = s->precision ? s->precision : "";
    if (strcmp(p, "f32") == 0) *out = GEMM_F32;
    else if (strcmp(p, "bf16") == 0 || !*p) *out = GEMM_BF16; /* products fall back by themselves where there are no instructions */
    else FAIL(err, MOTE_E_USAGE, "precision '%.40s': expected f32 or bf16", p);
    return MOTE_OK;
}

mote_status train_machine_open(train_machine *m, const mote_train_settings *s, bool measure, mote_error *err) {
    mote_status st;
    int known = 1;
    *m = (train_machine){.cpu_mask = s->isa ? cpu_mask_by_name(s->isa, &known) : CPU_ALL};
    if (m->cpu_mask == 0) m->cpu_mask = CPU_SCALAR_ONLY;
    if (!known) FAIL(err, MOTE_E_USAGE, "unknown instruction set '%.40s'; expected scalar, avx2, avx512, …, all", s->isa);
    TRY(precision(&m->prec, s, err));
    TRYG(st, ranks_open(&m->ranks, s->mpi_module, err));
    TRYG(st, pool_open(&m->pool, s->n_threads, err));
    m->kern = tensor_kernels_open(m->cpu_mask);
    if (!m->kern) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    if (measure) {
        mote_machine *limits = MEM_NEW(mote_machine);
        if (!limits) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
        limits->size = sizeof *limits;
        st = machine_measure(limits, m->cpu_mask, pool_size(m->pool), true, err);
        double f32 = machine_peak_limit(limits, "f32"), bf16 = machine_peak_limit(limits, "bf16");
        m->peak_flop_s = 1e9 * (m->prec == GEMM_BF16 && bf16 > 0 ? bf16 : f32);
        mem_free(limits);
    }
out:
    if (st != MOTE_OK) train_machine_close(m);
    return st;
}

void train_machine_close(train_machine *m) {
    tensor_kernels_close(&m->kern);
    pool_close(&m->pool);
    ranks_close(&m->ranks);
}

/* ---- the trainer's options ---- */

/* A share of the steps, or from 1 on steps; below 0: none. */
static uint64_t share_of(double x, double otherwise, uint64_t steps) {
    if (x < 0) return 0;
    if (x == 0) x = otherwise;
    double n = x < 1 ? x * (double)steps : x;
    return n >= (double)steps ? steps : (uint64_t)(n + 0.5);
}

static double unless_negative(double x, double otherwise) { return x < 0 ? 0 : x > 0 ? x : otherwise; }

static mote_status word(int *out, const char *given, const char *const *words, const char *what, mote_error *err) {
    *out = 0;
    if (!given || !*given) return MOTE_OK;
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], given) == 0) {
            *out = i;
            return MOTE_OK;
        }
    buf b;
    buf_init(&b, 200);
    for (int i = 0; words[i]; i++) buf_printf(&b, "%s%s", i ? ", " : "", words[i]);
    mote_status s = ERR(err, MOTE_E_USAGE, "%s '%.40s': expected one of %s", what, given, b.p);
    buf_free(&b);
    return s;
}

/* "N=X,…" into stages, X over the peak. */
static mote_status lr_stages(schedule *s, const char *given, double lr, mote_error *err) {
    const str all = str_of(given ? given : "");
    for (size_t at = 0, end; at < all.n; at = end + 1) {
        end = MIN(str_find(all, STR(","), at), all.n);
        const str one = str_sub(all, at, end - at);
        const size_t eq = MIN(str_find(one, STR("="), 0), one.n);
        uint64_t from;
        double rate;
        if (eq == one.n || end + 1 == all.n || !str_to_u64(str_sub(one, 0, eq), &from) || !str_to_double(str_sub(one, eq + 1, one.n - eq - 1), &rate) || !(rate > 0 && rate <= 10))
            FAIL(err, MOTE_E_USAGE, "lr_steps '%.80s': expected STEPS=RATE,…, as 1000=1e-4,3000=5e-5", given);
        if (s->n_stages == SCHEDULE_STAGES) FAIL(err, MOTE_E_LIMIT, "lr_steps '%.80s': at most %d", given, SCHEDULE_STAGES);
        if (s->n_stages && from <= s->stages[s->n_stages - 1].from) FAIL(err, MOTE_E_USAGE, "lr_steps '%.80s': expected rising steps", given);
        s->stages[s->n_stages++] = (schedule_stage){from, rate / lr};
    }
    return MOTE_OK;
}

mote_status settings_trainer(trainer_opts *out, const mote_train_settings *s, const train_machine *m, uint64_t steps, double lr, double weight_decay,
                             mote_error *err) {
    static const char *const guards[] = {"stop", "skip", "back", NULL}, *const optims[] = {"adamw", "muon", NULL},
                             *const shapes[] = {"linear", "sqrt", NULL}, *const schedules[] = {"wsd", "cosine", "linear", "constant", NULL};
    static const schedule_kind kinds[] = {SCHEDULE_WSD, SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT};
    int on_nan, optimizer, shape, kind;
    TRY(word(&on_nan, s->on_nan, guards, "on_nan", err));
    TRY(word(&optimizer, s->optimizer, optims, "optimizer", err));
    TRY(word(&shape, s->decay_shape, shapes, "decay_shape", err));
    TRY(word(&kind, s->schedule, schedules, "schedule", err));
    if (!(s->floor >= 0 && s->floor <= 1)) FAIL(err, MOTE_E_USAGE, "floor %g: expected a share from 0 to 1", s->floor);
    if (!(s->ema >= 0 && s->ema < 1)) FAIL(err, MOTE_E_USAGE, "ema %g: expected 0 or a number below 1, as 0.999", s->ema);
    *out = (trainer_opts){.pool = m->pool, .kern = m->kern, .prec = m->prec, .ranks = m->ranks, .steps = steps,
        .clip = unless_negative(s->clip, 1), .ema = s->ema, .guard = (train_guard)on_nan, .save_every = s->save_every, .keep = s->keep, .max_seconds = s->max_seconds,
        .eval_every = s->eval_every ? s->eval_every : MAX(steps / 20, 1)};
    out->optim = (optim_opts){.kind = optimizer ? OPTIM_MUON : OPTIM_ADAMW, .lr = s->lr > 0 ? s->lr : lr, .beta1 = s->beta1, .beta2 = s->beta2,
        .eps = s->eps, .decay = unless_negative(s->weight_decay, weight_decay), .muon_lr = s->muon_lr, .prec = m->prec, .state_bits = s->state_bits,
        .keep_zeros = s->keep_zeros};
    out->schedule = (schedule){.kind = kinds[kind], .steps = steps, .warmup = share_of(s->warmup, 0.02, steps),
        .decay = share_of(s->decay, 0.2, steps), .sqrt_decay = shape == 1, .floor = s->floor};
    return lr_stages(&out->schedule, s->lr_steps, out->optim.lr, err);
}

json_t *settings_identity(const trainer_opts *o, const mote_train_settings *s) {
    const optim_opts *p = &o->optim;
    json_t *v = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:s, s:I, s:I, s:I, s:b, s:f, s:f, s:f, s:I, s:s, s:b, s:b}", "optimizer",
                     p->kind == OPTIM_MUON ? "muon" : "adamw", "lr", p->lr, "muon_lr", p->muon_lr, "beta1", p->beta1, "beta2", p->beta2, "eps",
                     p->eps, "weight_decay", p->decay, "state_bits", p->state_bits ? p->state_bits : 32, "schedule", schedule_name(o->schedule.kind),
                     "steps", (json_int_t)o->steps, "warmup_steps", (json_int_t)o->schedule.warmup, "decay_steps", (json_int_t)o->schedule.decay,
                     "sqrt_decay", o->schedule.sqrt_decay, "floor", o->schedule.floor, "clip", o->clip, "ema", o->ema, "seed",
                     (json_int_t)s->seed, "precision", o->prec == GEMM_BF16 ? "bf16" : "f32", "decay_all", s->decay_all, "keep_zeros",
                     s->keep_zeros);
    for (size_t i = 0; v && i < o->schedule.n_stages; i++) {
        const schedule_stage *stage = &o->schedule.stages[i];
        if (i == 0) (void)json_object_set_new(v, "lr_steps", json_array());
        (void)json_array_append_new(json_object_get(v, "lr_steps"), json_pack("[I, f]", (json_int_t)stage->from, stage->factor));
    }
    if (v && s->freeze) (void)json_object_set_new(v, "freeze", json_string(s->freeze));
    return v;
}

mote_status settings_amount(train_amount *out, const mote_train_settings *s, size_t model_ctx, double n_tokens, mote_error *err) {
    enum { PART_TOKENS = 2048 };
    size_t ctx = s->n_ctx ? s->n_ctx : model_ctx && model_ctx < 512 ? model_ctx : 512;
    if (model_ctx && ctx > model_ctx) FAIL(err, MOTE_E_USAGE, "rows of %zu tokens: the model knows positions for %zu", ctx, model_ctx);
    if (ctx < 2 || ctx > (size_t)1 << 20) FAIL(err, MOTE_E_USAGE, "rows of %zu tokens: expected 2 to 1048576", ctx);
    size_t batch = s->batch ? s->batch : 8, micro = s->micro_batch ? s->micro_batch : MAX(PART_TOKENS / ctx, 1);
    if (batch > 1 << 20) FAIL(err, MOTE_E_USAGE, "a batch of %zu rows: at most 1048576", batch);
    double per_step = (double)(batch * ctx), tokens = s->tokens > 0 ? s->tokens : (s->epochs > 0 ? s->epochs : 1) * n_tokens;
    double steps = s->steps ? (double)s->steps : ceil(tokens / per_step);
    if (!(steps >= 1 && steps < 1e12)) FAIL(err, MOTE_E_USAGE, "%g steps: expected at least one", steps);
    *out = (train_amount){ctx, batch, MIN(micro, batch), (uint64_t)steps};
    return MOTE_OK;
}

/* ---- progress ---- */
double settings_flops(const net *n, size_t n_ctx) {
    const model *m = net_model(n);
    const hparams *h = &m->hp;
    double weights = 0;
    const tensor_info *embd = m->slots[R_TOKEN_EMBD].info, *head = m->slots[R_OUTPUT].info;
    union { /* net_param hands out what may be changed; it is only read here */
        const net *in;
        net *out;
    } u = {n};
    for (size_t i = 0; i < net_n_params(n); i++) {
        const param *p = net_param(u.out, i);
        double size = (double)p->v.rows * (double)p->v.cols;
        if (p->v.rows == 1 || (p->info == embd && head)) continue; /* looked up, not multiplied */
        if (p->info->n_dims > 2 && h->n_expert) size *= (double)h->n_expert_used / (double)h->n_expert;
        weights += size;
    }
    return 6 * weights + 6 * (double)h->n_layer * (double)h->n_embd * (double)n_ctx;
}

mote_train_progress settings_progress(const train_progress *p, const train_machine *m, double flops_per_token) {
    double flop_s = p->tokens_per_s * flops_per_token, most = m->peak_flop_s * ranks_size(m->ranks);
    return (mote_train_progress){.step = p->step, .steps = p->steps, .loss = p->loss, .grad_norm = p->grad_norm, .lr = p->rate,
        .eval_loss = p->eval_loss, .tokens = p->tokens, .tokens_per_s = p->tokens_per_s, .flop_s = flop_s,
        .machine_share = most > 0 ? flop_s / most : 0, .seconds = p->seconds, .seconds_left = p->seconds_left, .skipped = p->skipped,
        .peak_bytes = p->peak_bytes};
}
