/* cmd_make.c: a model by a recipe. A stage is this program again, with the stage's command: what it prints goes to the
 * stage's log, its progress to the terminal, and a stage that dies takes nothing with it. */
#include "commands.h"
#include "models.h"
#include "mote/make.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct make_options {
    const char *work, *out;
    int64_t threads;
    bool dry_run, no_eval, json;
};

const cli_option make_options[] = {
    OPT_STR(struct make_options, out, "output", "o", "FILE.gguf", "in place of the recipe's 'out'"),
    OPT_STR(struct make_options, work, "work", "w", "DIR", "where stages are kept (OUT.make)"),
    OPT_FLAG(struct make_options, dry_run, "dry-run", NULL, "check the recipe and its files; run nothing"),
    OPT_FLAG(struct make_options, no_eval, "no-eval", NULL, "do not measure (only without a gate)"),
    OPT_INT(struct make_options, threads, "threads", "t", "N", 0, 256, "threads of the measurements (0: by measurement)"),
    OPT_FLAG(struct make_options, json, "json", NULL, "print the report as JSON"),
    {0},
};
const cli_example make_examples[] = {
    {"mote make recipes/q4.yaml", "a first recipe: importance matrix, four bits, a gate"},
    {"mote make recipe.yaml -o small.gguf", "again, after a change: only what the change touches is run"},
    {"mote make recipe.yaml --dry-run", "is the recipe right?"},
    {0},
};

struct state {
    const char *self;
};

static char *find_model(void *ctx, const char *name) {
    int code;
    (void)ctx;
    return models_names_one(name) ? models_resolve(name, &code) : NULL;
}

static volatile sig_atomic_t asked; /* the signal that asks for an end */
static void on_signal(int sig) { asked = sig; }

/* The status of a stage. Ctrl-C reaches the stage itself, which may have a checkpoint to write: its end is waited for. Another program's SIGTERM is
 * handed on. */
static int wait_for(pid_t pid) {
    int status = 0;
    for (bool handed_on = false; waitpid(pid, &status, 0) < 0 && errno == EINTR;) {
        if (asked == SIGTERM && !handed_on) handed_on = kill(pid, SIGTERM) == 0;
    }
    return status;
}

static int run_stage(void *ctx, const char *const *argv, size_t argc, const char *log) {
    const struct state *s = ctx;
    char **args = calloc(argc + 2, sizeof *args);
    posix_spawn_file_actions_t files;
    struct sigaction on = {.sa_handler = on_signal}, interrupt, term;
    pid_t pid;
    int status = 0;
    if (!args || posix_spawn_file_actions_init(&files) != 0) {
        free(args);
        return CLI_BAD_DATA;
    }
    args[0] = strdup("mote");
    for (size_t i = 0; i < argc; i++) args[i + 1] = strdup(argv[i]);
    asked = 0;
    (void)sigaction(SIGINT, &on, &interrupt);
    (void)sigaction(SIGTERM, &on, &term);
    bool ok = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
              posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0666) == 0 &&
              (isatty(STDERR_FILENO) || posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO) == 0) &&
              posix_spawn(&pid, s->self, &files, NULL, args, environ) == 0;
    if (ok) status = wait_for(pid);
    (void)sigaction(SIGINT, &interrupt, NULL);
    (void)sigaction(SIGTERM, &term, NULL);
    posix_spawn_file_actions_destroy(&files);
    for (size_t i = 0; i <= argc; i++) free(args[i]);
    free(args);
    if (!ok) return CLI_IO;
    if (asked && status) return 128 + SIGINT;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool show(void *ctx, size_t stage, size_t n_stages, const char *what) {
    (void)ctx;
    cli_say("stage %zu of %zu: %s", stage + 1, n_stages, what);
    return true;
}

static int print_json(const mote_make_report *r) {
    json_t *stages = json_array();
    for (size_t i = 0; i < r->n_stages; i++)
        (void)json_array_append_new(stages, json_pack("{s:s, s:s, s:b, s:f, s:I, s:f, s:f, s:f}", "command", r->stages[i].name, "key", r->stages[i].key, "kept", r->stages[i].cached,
                                                      "seconds", r->stages[i].seconds, "bytes", (json_int_t)r->stages[i].bytes, "perplexity", r->stages[i].ppl, "kld",
                                                      r->stages[i].kld, "same_top", r->stages[i].top));
    return cli_print_json(json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:b, s:s, s:b, s:s, s:o}", "out", r->out, "bytes_from", (json_int_t)r->bytes_from, "bytes", (json_int_t)r->bytes_to,
                                    "perplexity_from", r->ppl_from, "perplexity", r->ppl_to, "kld", r->kld, "same_top", r->top, "passed", r->gate_passed, "smoke", r->smoke, "smoke_broken", r->smoke_broken, "report", r->report,
                                    "stages", stages));
}

static int print_result(const mote_make_report *r) {
    char from[32], to[32];
    for (size_t i = 0; i < r->n_stages; i++) {
        const mote_make_stage *s = &r->stages[i];
        (void)printf("%2zu %-12s %.12s %s", i + 1, s->name, s->key, s->cached ? "kept" : "run ");
        if (s->makes_model && s->bytes) (void)printf("  %10s", cli_size(to, s->bytes));
        if (s->ppl > 0) (void)printf("  PPL %.4f", s->ppl);
        if (s->top > 0) (void)printf("  KLD %.4f  same top %.1f %%", s->kld, s->top * 100);
        (void)putchar('\n');
    }
    if (!r->bytes_to) return cli_done(CLI_OK);
    (void)printf("%s: %s from %s", r->out, cli_size(to, r->bytes_to), cli_size(from, r->bytes_from));
    if (r->ppl_from > 0) (void)printf(", perplexity %.4f from %.4f", r->ppl_to, r->ppl_from);
    if (*r->smoke) (void)printf("\nsmoke test: %s", r->smoke);
    (void)printf("\nreport: %s\n", r->report);
    return cli_done(CLI_OK);
}

int cmd_make(const cli_command *self, int argc, char **argv) {
    struct make_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    if (args.n != 1) return cli_usage(self, "which recipe? mote make RECIPE.yaml");
    struct state s = {.self = "/proc/self/exe"};
    const mote_make_options m = {.work = o.work, .out = o.out, .dry_run = o.dry_run, .no_eval = o.no_eval, .n_threads = (int)o.threads, .find_model = find_model, .run = run_stage,
                                 .progress = isatty(STDERR_FILENO) ? show : NULL, .ctx = &s};
    mote_make_report *r = calloc(1, sizeof *r);
    mote_error err;
    if (!r) {
        (void)cli_error(&err, MOTE_E_MEMORY, "out of memory");
        return cli_fail(&err);
    }
    mote_status st = mote_make(args.v[0], &m, r, &err);
    if (st == MOTE_OK) code = o.json ? print_json(r) : print_result(r);
    else code = cli_fail(&err);
    free(r);
    return code;
}
