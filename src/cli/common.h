/* common.h: options that several commands share, and what they open with them. */
#ifndef MOTE_CLI_COMMON_H
#define MOTE_CLI_COMMON_H

#include "cli.h"
#include "mote/mote.h"

/* ---- the model and the threads ---- */
typedef struct model_flags {
    const char *model, *cpu_mask, *rope_scaling;
    int64_t threads;
    double rope_freq_base, rope_freq_scale, dynamic;
    bool no_mmap, mlock, verbose, no_dynamic;
    cli_list lora, lora_scaled;
    const char *heads;
} model_flags;

#define MODEL_OPT(S, F)                                                                                          \
    OPT_STR(S, F.model, "model", "m", "MODEL", "GGUF file, Hugging Face folder or name (the default model when absent)")
#define MODEL_OPTIONS(S, F)                                                                                      \
    MODEL_OPT(S, F),                                                                                             \
    OPT_INT(S, F.threads, "threads", "t", "N", 0, 256, "threads (0: by measurement)"),                             \
    OPT_STR(S, F.cpu_mask, "cpu-mask", NULL, "RUNG",                                                             \
            "highest instruction set to use: scalar, avx2, avx512, avx512vnni, neon, … (also MOTE_CPU_MASK)"),   \
    OPT_FLAG(S, F.no_mmap, "no-mmap", NULL, "read the model into memory instead of mapping it"),                 \
    OPT_FLAG(S, F.mlock, "mlock", NULL, "keep the model from being swapped out"),                                \
    OPT_CHOICE(S, F.rope_scaling, "rope-scaling", NULL, "none|linear|yarn", "RoPE scaling instead of the file's"), \
    OPT_NUM(S, F.rope_freq_base, "rope-freq-base", NULL, "X", 0, 1e12, "RoPE base frequency (0: the file's)"),   \
    OPT_NUM(S, F.rope_freq_scale, "rope-freq-scale", NULL, "X", 0, 1e6, "RoPE frequency factor (0: the file's)"), \
    OPT_NUM(S, F.dynamic, "dynamic", NULL, "X", 0, 0.9, "leave out so many of the feed-forward neurons, those that a token's gates say it needs least (0: as `mote prune --dynamic` set it)"), \
    OPT_FLAG(S, F.no_dynamic, "no-dynamic", NULL, "leave none out"),                                            \
    OPT_LIST(S, F.lora, "lora", NULL, "FILE[=X]", "apply a LoRA adapter (GGUF, or a folder in PEFT's form), X times as strong; repeatable"), \
    OPT_LIST(S, F.lora_scaled, "lora-scaled", NULL, "FILE:X", "the same, as llama.cpp writes it"),              \
    OPT_STR(S, F.heads, "heads", NULL, "FILE", "extra heads of the model: early exits, Medusa heads (see mote heads)"), \
    OPT_FLAG(S, F.verbose, "verbose", "v", "say what is loaded, how much memory it takes and how fast it runs")

/* ---- the session ---- */
typedef struct session_flags {
    int64_t ctx, batch, ubatch, keep;
    const char *type_k, *type_v, *activations, *exit_threshold;
    bool no_shift;
} session_flags;

#define CACHE_TYPES "f32|f16|bf16|q8_0|q4_0"
#define SESSION_OPTIONS(S, F)                                                                                    \
    OPT_INT(S, F.ctx, "ctx-size", "c", "N", 0, 1 << 24, "context: positions of the cache (0: what the model was trained with, at most 8192)"), \
    OPT_INT(S, F.batch, "batch-size", "b", "N", 1, 65536, "at most so many tokens of a prompt at once, an upper bound of -ub"), \
    OPT_INT(S, F.ubatch, "ubatch-size", "ub", "N", 1, 65536, "tokens of one pass over the weights"),             \
    OPT_CHOICE(S, F.type_k, "cache-type-k", "ctk", CACHE_TYPES, "number format of the cached keys"),             \
    OPT_CHOICE(S, F.type_v, "cache-type-v", "ctv", CACHE_TYPES, "number format of the cached values"),           \
    OPT_STR(S, F.exit_threshold, "exit-threshold", NULL, "X", "with --heads: a token leaves at the first early exit that is so sure of the next (0 to 1): faster, other results"), \
    OPT_CHOICE(S, F.activations, "activations", NULL, "f32|fast", "fast: 8-bit activations where weights are quantized; f32: exact")

/* ---- speculation ---- */
typedef struct spec_flags {
    const char *spec, *draft;
    int64_t n_max, n_min;
    double p_min;
} spec_flags;
extern const spec_flags spec_defaults; /* the library's */

#define SPEC_OPTIONS(S, F)                                                                                       \
    OPT_CHOICE(S, F.spec, "spec", NULL, "auto|off|ngram|draft|exit|medusa", "several tokens per pass by guessing, never other tokens: auto: n-grams of the text, -md and --heads where given, as far as it pays"), \
    OPT_STR(S, F.draft, "model-draft", "md", "MODEL", "a smaller model with the same tokenizer, to guess"),      \
    OPT_INT(S, F.n_max, "draft-max", "draft", "N", 1, MOTE_SPEC_MAX, "guess at most N tokens at once"),          \
    OPT_INT(S, F.n_min, "draft-min", NULL, "N", 0, MOTE_SPEC_MAX, "fewer guesses than N are not tried"),         \
    OPT_NUM(S, F.p_min, "draft-p-min", NULL, "X", 0, 1, "the draft model stops guessing where it is less sure than X")

/* ---- sampling ---- */
typedef struct sample_flags {
    int64_t seed, top_k, min_keep, repeat_last_n, dry_allowed_length, dry_last_n, mirostat;
    double temp, dynatemp_range, dynatemp_exponent, top_p, min_p, typical, top_n_sigma, xtc_probability, xtc_threshold;
    double repeat_penalty, frequency_penalty, presence_penalty, dry_multiplier, dry_base, mirostat_tau, mirostat_eta;
    cli_list dry_breakers, bias;
    const char *order;
    bool ignore_eos, penalty_prompt;
} sample_flags;
extern const sample_flags sample_defaults;
bool sample_unsaid(double flag); /* whether the user left it open */

#define SAMPLE_OPTIONS(S, F)                                                                                     \
    OPT_INT(S, F.seed, "seed", "s", "N", -1, 9e15, "seed of the draws (-1: a new one each time)"),               \
    OPT_NUM(S, F.temp, "temp", NULL, "X", 0, 100, "temperature (0: always the likeliest token)"),                \
    OPT_INT(S, F.top_k, "top-k", NULL, "N", 0, 1 << 30, "draw among the N likeliest (0: off)"),                  \
    OPT_NUM(S, F.top_p, "top-p", NULL, "X", 0, 1, "draw among the likeliest that have probability X together (1: off)"), \
    OPT_NUM(S, F.min_p, "min-p", NULL, "X", 0, 1, "draw among those at least X times as likely as the likeliest (0: off)"), \
    OPT_NUM(S, F.typical, "typical", NULL, "X", 0, 1, "locally typical sampling (1: off)"),                      \
    OPT_NUM(S, F.top_n_sigma, "top-n-sigma", NULL, "X", -1, 1000, "keep logits within X standard deviations of the best (-1: off)"), \
    OPT_INT(S, F.min_keep, "min-keep", NULL, "N", 0, 1 << 20, "the filters leave at least N tokens"),            \
    OPT_NUM(S, F.xtc_probability, "xtc-probability", NULL, "X", 0, 1, "chance to leave out the top choices (0: off)"), \
    OPT_NUM(S, F.xtc_threshold, "xtc-threshold", NULL, "X", 0, 1, "probability above which a token is a top choice"), \
    OPT_NUM(S, F.dynatemp_range, "dynatemp-range", NULL, "X", 0, 100, "temperature from temp-X to temp+X by entropy (0: off)"), \
    OPT_NUM(S, F.dynatemp_exponent, "dynatemp-exp", NULL, "X", 0, 100, "exponent of the dynamic temperature"),   \
    OPT_INT(S, F.repeat_last_n, "repeat-last-n", NULL, "N", -1, 1 << 20, "tokens that penalties look back on (-1: all, 0: none)"), \
    OPT_NUM(S, F.repeat_penalty, "repeat-penalty", NULL, "X", 0.01, 100, "divide the logit of repeated tokens (1: off)"), \
    OPT_NUM(S, F.frequency_penalty, "frequency-penalty", NULL, "X", -100, 100, "subtract per occurrence (0: off)"), \
    OPT_NUM(S, F.presence_penalty, "presence-penalty", NULL, "X", -100, 100, "subtract once (0: off)"),          \
    OPT_FLAG(S, F.penalty_prompt, "penalty-prompt", NULL, "the three penalties look at the prompt as well, not only at the answer"), \
    OPT_NUM(S, F.dry_multiplier, "dry-multiplier", NULL, "X", 0, 100, "DRY: penalty on repeated sequences (0: off)"), \
    OPT_NUM(S, F.dry_base, "dry-base", NULL, "X", 1, 100, "DRY: growth of the penalty with the length"),         \
    OPT_INT(S, F.dry_allowed_length, "dry-allowed-length", NULL, "N", 0, 1 << 20, "DRY: repeated lengths that cost nothing"), \
    OPT_INT(S, F.dry_last_n, "dry-penalty-last-n", NULL, "N", -1, 1 << 20, "DRY: tokens looked back on (-1: all)"), \
    OPT_LIST(S, F.dry_breakers, "dry-sequence-breaker", NULL, "TEXT", "DRY: text over which nothing is counted; replaces the defaults"), \
    OPT_INT(S, F.mirostat, "mirostat", NULL, "N", 0, 2, "mirostat 1 or 2 in place of the filters (0: off)"),     \
    OPT_NUM(S, F.mirostat_tau, "mirostat-ent", NULL, "X", 0, 100, "mirostat: target surprise (tau)"),            \
    OPT_NUM(S, F.mirostat_eta, "mirostat-lr", NULL, "X", 0, 100, "mirostat: learning rate (eta)"),               \
    OPT_LIST(S, F.bias, "logit-bias", NULL, "ID+X", "add X to the logit of a token: 15043+1, 15043-1, 15043-inf"), \
    OPT_STR(S, F.order, "samplers", NULL, "A;B;…", "order of the filters (default " MOTE_SAMPLE_ORDER_DEFAULT ")"), \
    OPT_FLAG(S, F.ignore_eos, "ignore-eos", NULL, "never end the answer before -n tokens")

/* ---- what is opened ---- */
typedef struct loaded {
    char *path;
    mote_engine *engine;
    mote_model *model;
    mote_session *session;
    mote_model *draft;
    mote_speculator *speculator;
    bool exits; /* tokens of the session may leave early */
} loaded;

/* Each returns an exit code after a message. name NULL: the default model. */
int load_engine(loaded *l, const model_flags *f);
int load_model(loaded *l, const model_flags *f, const char *name, bool no_weights);
mote_session_opts load_session_opts(const session_flags *f);
int load_session(loaded *l, const session_flags *f, const mote_session_opts *o, bool verbose);
/* Opens the draft model, when there is one, and the speculator of l->session; none with --spec off. */
int load_speculator(loaded *l, const spec_flags *f);
void load_close(loaded *l);
/* What early exits did, on stderr; as JSON, NULL. Nothing, and NULL, when tokens could not leave. */
void exits_say(const loaded *l);
json_t *exits_json(const loaded *l);
/* Appends the adapters of --lora (scaled: --lora-scaled) to all; their paths are to be freed, also after a failure. Returns an exit code. */
int read_adapters(mote_adapter *all, size_t *n, const cli_list *l, bool scaled);
/* What the user left open: the model's recommendation, or the library's default. */
int load_sampling(sample_flags *f, const mote_model *m);
/* Opens a sampler, behind load_sampling; bad values of the less usual options are reported by the library. */
int load_sampler(mote_sampler **out, const mote_model *m, const sample_flags *f);

/* "1, 2 3" or "[1, 2, 3]" appended to a growing array of ids. Returns an exit code. */
typedef struct id_list {
    int32_t *p;
    size_t n, cap;
} id_list;
int ids_parse(const cli_command *c, id_list *l, const char *text);
bool ids_reserve(id_list *l, size_t n); /* false after a message */
/* Ids of text; MOTE_TOK_* flags. Returns an exit code. */
int ids_of_text(id_list *l, const mote_model *m, const char *text, size_t n, int flags);
#endif
