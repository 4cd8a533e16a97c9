/* cmd_run.c: answer once, or open a chat (repl.c). */
#include "answer.h"
#include "repl.h"
#include "commands.h"
#include "models.h"
#include "presets.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN struct run_options

const cli_option run_options[] = {
    OPT_STR(RUN, prompt, "prompt", "p", "TEXT", "the prompt, instead of an argument"),
    OPT_STR(RUN, file, "file", "f", "FILE", "a file (- for standard input) as prompt, or after the prompt"),
    OPT_STR(RUN, system, "system-prompt", "sys", "TEXT", "what the model is told before the conversation"),
    OPT_CHOICE(RUN, task, "task", NULL, "chat|summarize|rewrite|explain|classify|extract", "what to do with the prompt, in the words that small models understand best; classify and extract choose among labels, or the text's own words, and write nothing"),
    OPT_STR(RUN, labels, "labels", NULL, "A,B,…", "classify: the labels"),
    OPT_STR(RUN, fields, "fields", NULL, "A,B,…", "extract: what to look for; the answer is JSON"),
    OPT_INT(RUN, n_predict, "predict", "n", "N", -1, 1 << 30, "answer at most N tokens (-1: until the model ends)"),
    OPT_FLAG(RUN, raw, "raw", NULL, "no chat template: continue the prompt, print the continuation alone"),
    OPT_STR(RUN, prefix, "prefix", NULL, "TEXT", "fill in the middle: what stands before"),
    OPT_STR(RUN, suffix, "suffix", NULL, "TEXT", "fill in the middle: what stands after"),
    OPT_LIST(RUN, stops, "reverse-prompt", "r", "TEXT", "end the answer before this text; may be given many times"),
    OPT_CHOICE(RUN, think, "think", NULL, "on|off|hide", "reasoning of models that can: on, off, or on but not shown"),
    OPT_STR(RUN, template_file, "chat-template-file", NULL, "FILE", "a Jinja template instead of the model's"),
    OPT_STR(RUN, state, "prompt-cache", NULL, "FILE", "read the computed state of the prompt from here if it is there, and save it after the answer"),
    OPT_INT(RUN, keep, "keep", NULL, "N", -1, 1 << 24, "with --raw: tokens at the start that a context shift keeps (-1: the prompt)"),
    OPT_FLAG(RUN, no_shift, "no-context-shift", NULL, "end when the context is full instead of dropping what is oldest"),
    OPT_FLAG(RUN, special, "special", NULL, "show control tokens"),
    OPT_FLAG(RUN, json, "json", NULL, "print one JSON object: text, why it ended, tokens, times"),
    OPT_FLAG(RUN, no_history, "no-history", NULL, "do not keep what is typed in the chat for the next time"),
    OPT_FLAG(RUN, stats, "stats", NULL, "print tokens per second after the answer"),
    MODEL_OPTIONS(RUN, model),
    SESSION_OPTIONS(RUN, session),
    SAMPLE_OPTIONS(RUN, sample),
    SPEC_OPTIONS(RUN, spec),
    {0},
};
const cli_example run_examples[] = {
    {"mote run", "chat with the default model"},
    {"mote run 'Why is the sky blue?'", "answer once"},
    {"mote run -m model.gguf -f notes.txt 'Summarize this:'", "a prompt and a file"},
    {"git diff | mote run qwen2.5-coder-0.5b-instruct -f - 'Write a commit message for:'", "a prompt and a pipe"},
    {"mote run --task summarize -f letter.txt", "what small models do well, asked as they were taught"},
    {"mote run --task rewrite -f letter.txt", "shorter and plainer"},
    {"mote run --task classify --labels sports,politics,business 'The striker scored twice.'", "one of these labels, always"},
    {"mote run --task extract --fields name,city,date -f letter.txt", "words of the text, as JSON"},
    {"mote run -m model.gguf -p 'Once upon a time' -n 64 --temp 0 --raw", "continue a text, always the same way"},
    {"mote run -m big.gguf -md small.gguf --stats -f main.c 'Rename the variable n to count:'", "a small model guesses, the big one decides"},
    {"mote run -m qwen2.5-coder-0.5b-instruct --prefix 'int add(int a, int b) {' --suffix '}'", "fill in the middle"},
    {0},
};

#define PROMPT_MAX ((size_t)1 << 28)

/* Which argument is the model and which the prompt: a lone one is a model if it names one. */
static int take_arguments(const cli_command *self, struct run_options *o, const cli_args *args) {
    size_t i = 0;
    if (!o->model.model && (args->n == 2 || (args->n == 1 && models_names_one(args->v[0])))) o->model.model = args->v[i++];
    if (i < args->n) {
        if (o->prompt || i + 1 < args->n) return cli_usage(self, "'%s': there is a prompt already", args->v[i]);
        o->prompt = args->v[i++];
    }
    if ((o->prefix || o->suffix) && (o->prompt || o->raw)) return cli_usage(self, "--prefix and --suffix are the prompt");
    return CLI_OK;
}

/* The whole prompt: text, file or pipe, or text and then file. NULL with CLI_OK: there is none, so it is a chat. */
static int read_prompt(const struct run_options *o, char **out, size_t *n) {
    mote_error err;
    *out = NULL;
    bool piped = !o->prompt && !o->prefix && !o->suffix && isatty(STDIN_FILENO) != 1;
    const char *path = o->file ? o->file : piped ? "-" : NULL, *text = o->prompt ? o->prompt : "";
    size_t n_text = strlen(text), n_file = 0;
    if (!path && !o->prompt) return CLI_OK;
    char *file = path ? cli_read_file(path, PROMPT_MAX, &n_file, &err) : NULL;
    if (path && !file) return cli_fail(&err);
    char *all = malloc(n_text + n_file + 3);
    if (!all) {
        free(file);
        cli_say("out of memory");
        return CLI_IO;
    }
    memcpy(all, text, n_text);
    if (n_text && n_file) memcpy(all + n_text, "\n\n", 2), n_text += 2;
    if (n_file) memcpy(all + n_text, file, n_file);
    *n = n_text + n_file;
    all[*n] = 0;
    free(file);
    *out = all;
    return CLI_OK;
}

static int print_json(const loaded *l, const answer *a) {
    const mote_gen_result *r = &a->result;
    json_t *v = json_pack("{s:o, s:s, s:I, s:I, s:I, s:f, s:f, s:I, s:I}", "text", cli_json_text(a->text ? a->text : "", a->n), "finish",
                                    mote_finish_name(r->finish), "prompt_tokens", (json_int_t)r->n_prompt, "cached_tokens",
                                    (json_int_t)r->n_reused, "answer_tokens", (json_int_t)r->n_generated, "prompt_ms", r->prompt_ms,
                                    "answer_ms", r->generate_ms, "drafted_tokens", (json_int_t)r->n_drafted, "accepted_tokens",
                                    (json_int_t)r->n_accepted);
    json_t *exits = exits_json(l);
    if (v && exits) (void)json_object_set_new(v, "exits", exits);
    return cli_print_json(v);
}

static mote_status generate(loaded *l, const struct run_options *o, const char *prompt, size_t n, answer *a, mote_error *err) {
    if (o->prefix || o->suffix) {
        const char *prefix = o->prefix ? o->prefix : "", *suffix = o->suffix ? o->suffix : "";
        return mote_infill(l->session, 0, prefix, strlen(prefix), suffix, strlen(suffix), &a->opts, &a->result, err);
    }
    if (o->raw) return mote_complete(l->session, 0, prompt, n, &a->opts, &a->result, err);
    mote_chat *chat = NULL;
    mote_status s = chat_open(&chat, l, o, err);
    if (s == MOTE_OK) s = mote_chat_say(chat, prompt, n, &a->opts, &a->result, err);
    mote_chat_close(&chat);
    return s;
}

/* The prompt in the words of its task, if there is one. */
static int fit_prompt(const struct run_options *o, char **prompt, size_t *n) {
    if (!*prompt || !o->task || presets_chooses(o)) return CLI_OK;
    char *text = presets_prompt(o, *prompt, *n, n);
    free(*prompt);
    *prompt = text;
    return text ? CLI_OK : CLI_IO;
}

static int answer_once(loaded *l, const struct run_options *o, mote_sampler *sampler, const char *prompt, size_t n) {
    mote_error err;
    if (o->state && access(o->state, F_OK) == 0 && mote_session_load(l->session, 0, o->state, &err) != MOTE_OK)
        cli_say("%s; the prompt is computed anew", err.message);
    answer a = {.opts = run_gen_opts(o, l, sampler), .stream = !o->json, .thinking_shown = run_shows_thinking(o)};
    answer_begin(&a, l->session);
    mote_status s = generate(l, o, prompt, n, &a, &err);
    answer_end(&a);
    int code = s == MOTE_OK ? CLI_OK : cli_fail(&err);
    if (code == CLI_OK && o->json) code = print_json(l, &a);
    else if (code == CLI_OK) {
        if (!o->raw && !a.failed_write) (void)putchar('\n');
        answer_print_finish(&a);
        if (o->stats || o->model.verbose) {
            answer_print_stats(&a, l->speculator);
            exits_say(l);
        }
        code = cli_done(code);
    }
    if (code == CLI_OK && o->state && mote_session_save(l->session, 0, o->state, &err) != MOTE_OK) code = cli_fail(&err);
    free(a.text);
    return code == CLI_OK && answer_interrupted() ? 128 + SIGINT : code;
}

mote_gen_opts run_gen_opts(const struct run_options *o, const loaded *l, mote_sampler *sampler) {
    mote_gen_opts g = mote_gen_opts_default();
    g.n_predict = o->n_predict > 0 ? (size_t)o->n_predict : 0;
    g.sampler = sampler;
    g.speculator = l->speculator;
    g.stops = o->stops.v;
    g.n_stops = o->stops.n;
    g.show_special = o->special;
    g.ignore_end = o->sample.ignore_eos;
    return g;
}

bool run_shows_thinking(const struct run_options *o) { return !o->think || strcmp(o->think, "hide") != 0; }

int cmd_run(const cli_command *self, int argc, char **argv) {
    struct run_options o = {.n_predict = -1, .keep = -1, .sample = sample_defaults, .spec = spec_defaults};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 2, argc, argv, &code)) return code;
    code = take_arguments(self, &o, &args);
    if (code == CLI_OK) code = presets_apply(self, &o);
    if (code != CLI_OK) return code;
    if (o.n_predict == 0) return cli_usage(self, "-n 0 asks for no answer; -1 is without limit");
    if (o.stops.n > MOTE_STOPS_MAX) return cli_usage(self, "at most %d of -r", MOTE_STOPS_MAX);
    char *prompt;
    size_t n = 0;
    code = read_prompt(&o, &prompt, &n);
    if (code != CLI_OK) return code;
    if (prompt && n == 0 && !o.raw) {
        free(prompt);
        return cli_usage(self, "the prompt is empty");
    }
    if (!prompt && presets_chooses(&o)) return cli_usage(self, "--task %s needs a text", o.task);
    loaded l = {0};
    mote_sampler *sampler = NULL;
    code = fit_prompt(&o, &prompt, &n);
    if (code == CLI_OK) code = load_model(&l, &o.model, NULL, false);
    if (code == CLI_OK && mote_model_is_encoder(l.model)) {
        cli_say("%s makes embeddings, not text: mote embed -m %s", l.path, l.path);
        code = CLI_BAD_DATA;
    }
    mote_session_opts so = load_session_opts(&o.session);
    so.context_shift = o.raw && !o.no_shift;
    if (o.keep >= 0) so.n_keep = (size_t)o.keep;
    if (code == CLI_OK) code = load_session(&l, &o.session, &so, o.model.verbose);
    if (code == CLI_OK) code = load_speculator(&l, &o.spec);
    if (code == CLI_OK) code = load_sampling(&o.sample, l.model);
    if (code == CLI_OK) code = load_sampler(&sampler, l.model, &o.sample);
    if (code == CLI_OK) {
        answer_install_sigint();
        bool once = prompt || o.prefix || o.suffix;
        code = once && presets_chooses(&o) ? presets_choose(&l, &o, prompt, n) : once ? answer_once(&l, &o, sampler, prompt, n) : chat_run(&l, &o, &sampler);
    }
    mote_sampler_close(&sampler);
    load_close(&l);
    free(prompt);
    return code;
}
