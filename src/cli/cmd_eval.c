/* cmd_eval.c: the usual tasks, over files of items. */
#include "commands.h"
#include "common.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct eval_options {
    model_flags model;
    session_flags session;
    const char *data, *samples, *system, *kld;
    cli_list fewshot;
    int64_t limit, n_fewshot, seed, max_tokens;
    bool chat, list, smoke, json;
};

const cli_option eval_options[] = {
    OPT_STR(struct eval_options, data, "data", "d", "FOLDER", "where the items of tasks named without a file lie: FOLDER/TASK.jsonl, .json, .csv or .txt"),
    OPT_INT(struct eval_options, limit, "limit", NULL, "N", 0, 1 << 30, "the first N items of each task (0: all)"),
    OPT_INT(struct eval_options, n_fewshot, "num-fewshot", NULL, "N", -1, 64, "examples before each item (-1: the task's own number)"),
    OPT_LIST(struct eval_options, fewshot, "fewshot", NULL, "TASK=FILE", "draw a task's examples from this file (else from its own items)"),
    OPT_INT(struct eval_options, seed, "fewshot-seed", NULL, "N", 0, 9e15, "seed of the draw"),
    OPT_INT(struct eval_options, max_tokens, "max-tokens", NULL, "N", 0, 1 << 20, "of a generated answer (0: the task's own number)"),
    OPT_FLAG(struct eval_options, chat, "apply-chat-template", NULL, "put prompts through the model's chat template"),
    OPT_STR(struct eval_options, system, "system-instruction", NULL, "TEXT", "with --apply-chat-template: a system message"),
    OPT_STR(struct eval_options, kld, "kld", NULL, "BASE", "task perplexity: the divergence from these log-probabilities (mote perplexity --kl-divergence-base)"),
    OPT_STR(struct eval_options, samples, "log-samples", NULL, "FILE", "write one JSON line for each item"),
    OPT_FLAG(struct eval_options, smoke, "smoke", NULL, "a dozen questions: do answers end, loop, come out empty? Exit code 3 where they are broken"),
    OPT_FLAG(struct eval_options, list, "list", NULL, "list the tasks"),
    OPT_FLAG(struct eval_options, json, "json", NULL, "print JSON"),
    MODEL_OPTIONS(struct eval_options, model),
    SESSION_OPTIONS(struct eval_options, session),
    {0},
};
const cli_example eval_examples[] = {
    {"mote eval -m model.gguf hellaswag=hellaswag_val.jsonl --limit 1000", "one task, with its standard error"},
    {"mote eval -m model.gguf -d ./tasks arc_easy piqa winogrande", "several, from ./tasks/arc_easy.jsonl …"},
    {"mote eval -m model.gguf gsm8k=test.jsonl --fewshot gsm8k=train.jsonl --log-samples answers.jsonl", "keep the answers to look at"},
    {"mote eval -m small.gguf --kld base perplexity=wiki.test.txt wikitext=wiki.test.txt", "how well it predicts a text, and how far from another model it is"},
    {"mote eval -m small.gguf --smoke", "after making a model smaller: does it still behave?"},
    {"mote eval -m hf-folder boolq=val.jsonl --activations f32 -ctk f32 -ctv f32", "comparable with lm-evaluation-harness to the item"},
    {0},
};

#define CTX_DEFAULT 2048

struct watch {
    cli_progress bar;
    FILE *samples;
    const char *task;
};

static int on_item(void *ctx, size_t done, size_t total, const char *json) {
    struct watch *w = ctx;
    if (w->samples && fprintf(w->samples, "{\"task\":\"%s\",%s\n", w->task, json + 1) < 0) return 1;
    cli_progress_show(&w->bar, (double)done, (double)total, "items");
    return 0;
}

static int print_tasks(void) {
    const char *about;
    for (size_t i = 0; mote_task_name(i, &about); i++) (void)printf("%-14s %s\n", mote_task_name(i, NULL), about);
    return cli_done(CLI_OK);
}

/* The file of a task's items: behind "=", or in the folder under one of the usual endings. owned. */
static char *find_file(const struct eval_options *o, const char *task, size_t n) {
    static const char *const endings[] = {"jsonl", "json", "csv", "txt"};
    if (task[n] == '=') return strdup(task + n + 1);
    for (size_t i = 0; o->data && i < sizeof endings / sizeof *endings; i++) {
        size_t size = strlen(o->data) + n + 16;
        char *path = malloc(size);
        if (!path) return NULL;
        (void)snprintf(path, size, "%s/%.*s.%s", o->data, (int)n, task, endings[i]);
        if (access(path, R_OK) == 0) return path;
        free(path);
    }
    return NULL;
}

static const char *fewshot_of(const struct eval_options *o, const char *task) {
    size_t n = strlen(task);
    for (size_t i = 0; i < o->fewshot.n; i++)
        if (strncmp(o->fewshot.v[i], task, n) == 0 && o->fewshot.v[i][n] == '=') return o->fewshot.v[i] + n + 1;
    return NULL;
}

static void print_result(const char *task, const mote_task_result *r, bool first) {
    if (first) (void)printf("%-14s  %-28s  %6s  %s\n", "task", "metric", "items", "value ± standard error");
    for (size_t k = 0; k < r->n_metrics; k++)
        (void)printf("%-14s  %-28s  %6zu  %8.4f ± %.4f\n", k ? "" : task, r->metrics[k].name, r->n_items, r->metrics[k].value, r->metrics[k].error);
    if (r->n_skipped) cli_say("%s: %zu items lack what the task needs (--log-samples says what)", task, r->n_skipped);
    (void)fflush(stdout);
}

static json_t *result_json(const mote_task_result *r) {
    json_t *v = json_pack("{s:I, s:I, s:I, s:f}", "items", (json_int_t)r->n_items, "skipped", (json_int_t)r->n_skipped, "tokens", (json_int_t)r->n_tokens, "seconds", r->seconds);
    for (size_t k = 0; k < r->n_metrics; k++)
        (void)json_object_set_new(v, r->metrics[k].name, json_pack("{s:f, s:f}", "value", r->metrics[k].value, "stderr", r->metrics[k].error));
    return v;
}

static bool is_perplexity(const char *word) {
    size_t n = strcspn(word, "=");
    return n == strlen("perplexity") && strncmp(word, "perplexity", n) == 0;
}

/* One word of the command line. */
static int run_task(const struct eval_options *o, loaded *l, const char *word, bool first, FILE *samples, json_t *all) {
    char name[64];
    size_t n = strcspn(word, "=");
    mote_error err;
    (void)snprintf(name, sizeof name, "%.*s", (int)(n < 60 ? n : 60), word);
    char *file = find_file(o, word, n);
    if (!file) {
        cli_say("task %s: no file of items: %s=FILE, or --data FOLDER with %s.jsonl in it", name, name, name);
        return CLI_USAGE;
    }
    struct watch w = {.bar = cli_progress_start(name), .samples = samples, .task = name};
    mote_task_opts t = mote_task_opts_default();
    mote_task_result r = {.size = sizeof r};
    t.task = name;
    t.file = file;
    t.fewshot_file = fewshot_of(o, name);
    if (o->n_fewshot >= 0) t.n_fewshot = (size_t)o->n_fewshot;
    t.fewshot_seed = (uint64_t)o->seed;
    t.limit = (size_t)o->limit;
    t.max_tokens = (size_t)o->max_tokens;
    t.reference = is_perplexity(word) ? o->kld : NULL;
    t.chat = o->chat;
    t.system = o->system;
    t.on_item = on_item;
    t.ctx = &w;
    mote_status s = mote_task_run(l->session, &t, &r, &err);
    cli_progress_end(&w.bar);
    free(file);
    if (s != MOTE_OK) return cli_fail(&err);
    if (all) (void)json_object_set_new(all, name, result_json(&r));
    else print_result(name, &r, first);
    return CLI_OK;
}

static int run_tasks(const struct eval_options *o, const cli_args *args, loaded *l) {
    bool any = false;
    for (size_t i = 0; i < args->n; i++) any |= is_perplexity(args->v[i]);
    if (o->kld && !any) {
        cli_say("--kld is for the task perplexity: perplexity=TEXT");
        return CLI_USAGE;
    }
    json_t *all = o->json ? json_object() : NULL;
    FILE *samples = o->samples ? fopen(o->samples, "w") : NULL;
    int code = CLI_OK;
    if (o->samples && !samples) {
        cli_say("cannot write %s", o->samples);
        code = CLI_IO;
    }
    for (size_t i = 0; i < args->n && code == CLI_OK; i++) code = run_task(o, l, args->v[i], i == 0, samples, all);
    if (samples && fclose(samples) != 0 && code == CLI_OK) {
        cli_say("cannot write %s", o->samples);
        code = CLI_IO;
    }
    if (code != CLI_OK || !all) {
        json_decref(all);
        return code;
    }
    return cli_print_json(all);
}

/* Broken: some logits are no numbers, no answer has a letter, or half of them turn in a circle. */
static int run_smoke(const struct eval_options *o, loaded *l) {
    mote_smoke_result r = {.size = sizeof r};
    mote_error err;
    if (mote_smoke(l->session, (size_t)o->max_tokens, &r, &err) != MOTE_OK) return cli_fail(&err);
    bool broken = r.n_broken > 0 || r.n_empty == r.n_answers || 2 * r.n_loops > r.n_answers;
    if (o->json) {
        int code = cli_print_json(json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "broken", (int)broken, "answers", (json_int_t)r.n_answers, "ended", (json_int_t)r.n_ended,
                                            "loops", (json_int_t)r.n_loops, "empty", (json_int_t)r.n_empty, "not_numbers", (json_int_t)r.n_broken, "tokens", (json_int_t)r.n_tokens));
        return code == CLI_OK && broken ? CLI_GATE : code;
    }
    (void)printf("%zu answers%s: %zu ended by themselves, %zu loop, %zu empty, %zu broken off by logits that are no numbers; %zu tokens\n", r.n_answers,
                 r.chat ? "" : " without a chat template", r.n_ended, r.n_loops, r.n_empty, r.n_broken, r.n_tokens);
    if (broken) cli_say("this model is broken");
    return cli_done(broken ? CLI_GATE : CLI_OK);
}

int cmd_eval(const cli_command *self, int argc, char **argv) {
    struct eval_options o = {.n_fewshot = -1, .seed = 1234, .session = {.ctx = CTX_DEFAULT}};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 64, argc, argv, &code)) return code;
    if (o.list) return print_tasks();
    if (args.n == 0 && !o.smoke) return cli_usage(self, "which tasks? mote eval -m MODEL TASK=FILE (mote eval --list)");
    loaded l = {0};
    code = load_model(&l, &o.model, NULL, false);
    if (code == CLI_OK) {
        mote_session_opts so = load_session_opts(&o.session);
        so.n_seq = 2 /* what choices share, and one of them */;
        so.checkpoint_every = 0;
        code = load_session(&l, &o.session, &so, o.model.verbose);
    }
    if (code == CLI_OK && o.smoke) code = run_smoke(&o, &l);
    if (code == CLI_OK && args.n) code = run_tasks(&o, &args, &l);
    load_close(&l);
    return code;
}
