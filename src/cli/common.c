/* common.c: opening what the shared options describe. */
#include "common.h"
#include "models.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void log_line(void *ctx, int level, const char *line) {
    const model_flags *f = ctx;
    if (level >= MOTE_LOG_WARN || f->verbose) cli_say("%s", line);
}

int load_engine(loaded *l, const model_flags *f) {
    mote_error err;
    mote_engine_opts o = mote_engine_opts_default();
    union { /* the library hands the context back as it got it */
        const model_flags *in;
        void *out;
    } ctx = {f};
    const char *from_environment = getenv("MOTE_CPU_MASK");
    o.n_threads = (int)f->threads;
    o.isa = f->cpu_mask ? f->cpu_mask : from_environment && *from_environment ? from_environment : NULL;
    o.log = log_line;
    o.log_ctx = ctx.out;
    return mote_engine_open(&l->engine, &o, &err) == MOTE_OK ? CLI_OK : cli_fail(&err);
}

static int rope_scaling(const char *word) {
    if (!word) return MOTE_ROPE_SCALING_FILE;
    return word[0] == 'n' ? MOTE_ROPE_SCALING_NONE : word[0] == 'l' ? MOTE_ROPE_SCALING_LINEAR : MOTE_ROPE_SCALING_YARN;
}

/* "FILE=X" or "FILE:X" into *a; text is cut. A file whose name ends so is meant where it exists. */
static void split_scale(char *text, mote_adapter *a) {
    char *sign = strrchr(text, '='), *colon = strrchr(text, ':'), *end;
    *a = (mote_adapter){text, 1};
    if (!sign || (colon && colon > sign)) sign = colon;
    if (!sign || !sign[1]) return;
    double x = strtod(sign + 1, &end);
    if (*end) return;
    *sign = 0;
    a->scale = (float)x;
}

int read_adapters(mote_adapter *all, size_t *n, const cli_list *l, bool scaled) {
    for (size_t i = 0; i < l->n; i++) {
        char *text = strdup(l->v[i]);
        if (!text) {
            cli_say("out of memory");
            return CLI_IO;
        }
        split_scale(text, &all[*n]);
        if (scaled && strcmp(text, l->v[i]) == 0) {
            cli_say("--lora-scaled takes FILE:X, not '%s'", text);
            free(text);
            return CLI_USAGE;
        }
        (*n)++;
    }
    return CLI_OK;
}

int load_model(loaded *l, const model_flags *f, const char *name, bool no_weights) {
    mote_error err;
    int code = l->engine ? CLI_OK : load_engine(l, f);
    if (code != CLI_OK) return code;
    l->path = models_resolve(name ? name : f->model, &code);
    if (!l->path) return code;
    mote_model_opts o = mote_model_opts_default();
    o.no_weights = no_weights;
    o.heads = f->heads;
    o.no_mmap = f->no_mmap;
    o.mlock = f->mlock;
    o.rope_scaling = rope_scaling(f->rope_scaling);
    o.rope_freq_base = (float)f->rope_freq_base;
    o.rope_freq_scale = (float)f->rope_freq_scale;
    o.dynamic = f->no_dynamic ? -1 : (float)f->dynamic;
    mote_adapter adapters[2 * CLI_LIST_MAX];
    code = read_adapters(adapters, &o.n_adapters, &f->lora, false);
    if (code == CLI_OK) code = read_adapters(adapters, &o.n_adapters, &f->lora_scaled, true);
    o.adapters = adapters;
    if (code == CLI_OK && mote_model_open(&l->model, l->engine, l->path, &o, &err) != MOTE_OK) code = cli_fail(&err);
    for (size_t i = 0; i < o.n_adapters; i++) free((void *)(uintptr_t)adapters[i].path);
    return code;
}

mote_session_opts load_session_opts(const session_flags *f) {
    mote_session_opts o = mote_session_opts_default();
    if (f->ctx) o.n_ctx = (size_t)f->ctx;
    if (f->ubatch) o.n_batch = (size_t)f->ubatch;
    if (f->batch && (size_t)f->batch < o.n_batch) o.n_batch = (size_t)f->batch;
    if (f->type_k) o.type_k = f->type_k;
    if (f->type_v) o.type_v = f->type_v;
    if (f->activations) o.exact = strcmp(f->activations, "f32") == 0;
    return o;
}

int load_session(loaded *l, const session_flags *f, const mote_session_opts *own, bool verbose) {
    mote_error err;
    mote_session_opts o = own ? *own : load_session_opts(f);
    if (f->exit_threshold) {
        char *end;
        o.exit_threshold = strtof(f->exit_threshold, &end);
        if (end == f->exit_threshold || *end || !(o.exit_threshold >= 0)) {
            cli_say("--exit-threshold takes a number from 0 to 1, not '%s'", f->exit_threshold);
            return CLI_USAGE;
        }
    }
    if (mote_session_open(&l->session, l->model, &o, &err) != MOTE_OK) return cli_fail(&err);
    l->exits = o.exit_threshold <= 1;
    char text[2048];
    if (verbose && mote_session_describe(l->session, text, sizeof text) < sizeof text) cli_say("%s", text);
    return CLI_OK;
}

/* It mirrors mote_spec_opts_default; a test compares. */
const spec_flags spec_defaults = {.n_max = 16};

/* Tokens that may leave early are not drafted by an exit too. */
static bool can_draft(const loaded *l) {
    return mote_model_n_heads(l->model, MOTE_HEADS_DRAFTS) > 0 && !l->exits;
}

int load_speculator(loaded *l, const spec_flags *f) {
    mote_error err;
    mote_spec_opts o = mote_spec_opts_default();
    char word = f->spec ? f->spec[0] : 'a';
    if (word == 'o') return CLI_OK;
    if (word == 'd' && !f->draft) {
        cli_say("--spec draft needs a draft model: -md MODEL");
        return CLI_USAGE;
    }
    if (f->draft && (word == 'a' || word == 'd')) {
        int code;
        char *path = models_resolve(f->draft, &code);
        if (!path) return code;
        mote_status s = mote_model_open(&l->draft, l->engine, path, NULL, &err);
        free(path);
        if (s != MOTE_OK) return cli_fail(&err);
    }
    const bool all = word == 'a';
    o.ngram = all || word == 'n';
    o.draft = l->draft;
    o.exit = word == 'e' || (all && can_draft(l));
    o.medusa = word == 'm' || (all && mote_model_n_heads(l->model, MOTE_HEADS_AHEAD));
    o.n_max = (size_t)f->n_max;
    o.n_min = (size_t)f->n_min;
    o.p_min = (float)f->p_min;
    return mote_speculator_open(&l->speculator, l->session, &o, &err) == MOTE_OK ? CLI_OK : cli_fail(&err);
}

void exits_say(const loaded *l) {
    mote_exit_stats x = {.size = sizeof x};
    char text[1024] = "";
    size_t n = 0;
    if (!l->exits) return;
    mote_session_get_exits(l->session, &x);
    for (size_t i = 0; i < x.n_exits && n < sizeof text - 64; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s behind layer %zu %zu", i ? "," : "", x.layer[i], x.n_left[i]);
    cli_say("exits: %zu tokens went through %.2f of %zu layers on average; left%s", x.n_tokens, x.layers, x.n_layer, text);
}

json_t *exits_json(const loaded *l) {
    mote_exit_stats x = {.size = sizeof x};
    if (!l->exits) return NULL;
    mote_session_get_exits(l->session, &x);
    json_t *exits = json_array();
    for (size_t i = 0; i < x.n_exits; i++)
        (void)json_array_append_new(exits, json_pack("{s:I, s:I}", "layer", (json_int_t)x.layer[i], "left", (json_int_t)x.n_left[i]));
    return json_pack("{s:I, s:f, s:I, s:o}", "tokens", (json_int_t)x.n_tokens, "layers", x.layers, "of_layers", (json_int_t)x.n_layer, "exits", exits);
}

void load_close(loaded *l) {
    mote_speculator_close(&l->speculator);
    mote_model_close(&l->draft);
    mote_session_close(&l->session);
    mote_model_close(&l->model);
    mote_engine_close(&l->engine);
    free(l->path);
    l->path = NULL;
}

/* ---- sampling ---- */

#define UNSAID (double)NAN
enum { UNSAID_COUNT = -1000 /* no option takes it */ };

/* What each flag is before the user says otherwise. UNSAID: what the model recommends, or the library's default. */
const sample_flags sample_defaults = {
    .seed = -1, .temp = UNSAID, .dynatemp_exponent = 1, .top_k = UNSAID_COUNT, .top_p = UNSAID, .min_p = UNSAID, .typical = 1, .top_n_sigma = -1,
    .xtc_probability = UNSAID, .xtc_threshold = UNSAID, .repeat_last_n = UNSAID_COUNT, .repeat_penalty = UNSAID, .dry_base = 1.75, .dry_allowed_length = 2,
    .dry_last_n = -1, .mirostat = UNSAID_COUNT, .mirostat_tau = UNSAID, .mirostat_eta = UNSAID,
};

bool sample_unsaid(double flag) { return isnan(flag); }

int load_sampling(sample_flags *f, const mote_model *m) {
    mote_sample_opts o = mote_sample_opts_default();
    mote_error err;
    if (mote_model_sampling(m, &o, &err) != MOTE_OK) return cli_fail(&err);
    const struct {
        double *flag;
        float v;
    } numbers[] = {{&f->temp, o.temp}, {&f->top_p, o.top_p}, {&f->min_p, o.min_p}, {&f->xtc_probability, o.xtc_probability}, {&f->xtc_threshold, o.xtc_threshold},
                   {&f->repeat_penalty, o.repeat_penalty}, {&f->mirostat_tau, o.mirostat_tau}, {&f->mirostat_eta, o.mirostat_eta}};
    const struct {
        int64_t *flag;
        int32_t v;
    } counts[] = {{&f->top_k, o.top_k}, {&f->repeat_last_n, o.penalty_last_n}, {&f->mirostat, o.mirostat}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sample_unsaid(*numbers[i].flag)) *numbers[i].flag = (double)numbers[i].v;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (*counts[i].flag == UNSAID_COUNT) *counts[i].flag = counts[i].v;
    return CLI_OK;
}

/* "15043+1.5", "15043-inf". */
static bool parse_bias(const char *text, mote_logit_bias *b) {
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (end == text || errno || id < 0 || id > INT32_MAX || (*end != '+' && *end != '-')) return false;
    const char *number = end;
    double v = strtod(number, &end);
    if (*end || isnan(v) || v > 1e6) return false;
    *b = (mote_logit_bias){(int32_t)id, (float)v};
    return true;
}

int load_sampler(mote_sampler **out, const mote_model *m, const sample_flags *f) {
    static mote_logit_bias bias[CLI_LIST_MAX];
    mote_error err;
    mote_sample_opts o = mote_sample_opts_default();
    for (size_t i = 0; i < f->bias.n; i++)
        if (!parse_bias(f->bias.v[i], &bias[i])) {
            cli_say("--logit-bias takes ID+X or ID-X, not '%s'", f->bias.v[i]);
            return CLI_USAGE;
        }
    o.seed = f->seed < 0 ? MOTE_SEED_RANDOM : (uint64_t)f->seed;
    o.temp = (float)f->temp;
    o.dynatemp_range = (float)f->dynatemp_range;
    o.dynatemp_exponent = (float)f->dynatemp_exponent;
    o.top_k = (int32_t)f->top_k;
    o.top_p = (float)f->top_p;
    o.min_p = (float)f->min_p;
    o.typical_p = (float)f->typical;
    o.top_n_sigma = (float)f->top_n_sigma;
    o.min_keep = (int32_t)f->min_keep;
    o.xtc_probability = (float)f->xtc_probability;
    o.xtc_threshold = (float)f->xtc_threshold;
    o.penalty_last_n = (int32_t)f->repeat_last_n;
    o.repeat_penalty = (float)f->repeat_penalty;
    o.frequency_penalty = (float)f->frequency_penalty;
    o.presence_penalty = (float)f->presence_penalty;
    o.dry_multiplier = (float)f->dry_multiplier;
    o.dry_base = (float)f->dry_base;
    o.dry_allowed_length = (int32_t)f->dry_allowed_length;
    o.dry_last_n = (int32_t)f->dry_last_n;
    o.dry_breakers = f->dry_breakers.n ? f->dry_breakers.v : NULL;
    o.n_dry_breakers = f->dry_breakers.n;
    o.mirostat = (int)f->mirostat;
    o.mirostat_tau = (float)f->mirostat_tau;
    o.mirostat_eta = (float)f->mirostat_eta;
    o.bias = bias;
    o.n_bias = f->bias.n;
    o.ignore_end = f->ignore_eos;
    o.penalty_prompt = f->penalty_prompt;
    o.order = f->order;
    return mote_sampler_open(out, m, &o, &err) == MOTE_OK ? CLI_OK : cli_fail(&err);
}

/* ---- lists of ids ---- */

bool ids_reserve(id_list *l, size_t n) {
    if (n <= l->cap) return true;
    size_t cap = n < 64 ? 64 : n > (SIZE_MAX >> 4) ? n : n + n / 2;
    int32_t *grown = cap <= SIZE_MAX / sizeof *grown ? realloc(l->p, cap * sizeof *grown) : NULL;
    if (!grown) {
        cli_say("out of memory for %zu ids", n);
        return false;
    }
    l->p = grown;
    l->cap = cap;
    return true;
}

int ids_parse(const cli_command *c, id_list *l, const char *text) {
    static const char between[] = ", []\t\r\n";
    for (const char *p = text + strspn(text, between); *p; p += strspn(p, between)) {
        char *end;
        errno = 0;
        long long id = strtoll(p, &end, 10);
        if (end == p || errno || (*end && !strchr(between, *end)))
            return cli_usage(c, "'%.60s' is not a list of token ids", text);
        if (id < 0 || id > INT32_MAX) return cli_usage(c, "%lld is not a token id", id);
        if (!ids_reserve(l, l->n + 1)) return CLI_IO;
        l->p[l->n++] = (int32_t)id;
        p = end;
    }
    return CLI_OK;
}

/* A text seldom has more tokens than bytes: the second round is for those that do. */
int ids_of_text(id_list *l, const mote_model *m, const char *text, size_t n, int flags) {
    mote_error err;
    size_t needed = n + 16;
    do {
        if (!ids_reserve(l, needed)) return CLI_IO;
        if (mote_tokenize(m, text, n, flags, l->p, l->cap, &needed, &err) != MOTE_OK) return cli_fail(&err);
    } while (needed > l->cap);
    l->n = needed;
    return CLI_OK;
}
