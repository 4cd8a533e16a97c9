/* repl.c: the interactive chat of `mote run`. */
#include "repl.h"
#include "line.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)64 << 20)

mote_status chat_open(mote_chat **out, loaded *l, const struct run_options *o, mote_error *err) {
    mote_chat_opts c = mote_chat_opts_default();
    size_t n;
    char *template = NULL;
    if (o->template_file && !(template = cli_read_file(o->template_file, FILE_MAX, &n, err))) return err->code;
    c.system = o->system;
    c.template_text = template;
    c.thinking = !o->think ? -1 : strcmp(o->think, "off") == 0 ? 0 : 1;
    c.drop_oldest = !o->no_shift;
    mote_status s = mote_chat_open(out, l->session, 0, &c, err);
    free(template);
    return s;
}

typedef struct repl {
    loaded *l;
    struct run_options *o;
    mote_sampler **sampler;
    mote_chat *chat;
    answer answer;
    bool stats;
    char **kept; /* strings that options point into */
    size_t n_kept;
} repl;

/* What /set and /params know. */
static const cli_option parameters[] = {
    OPT_INT(struct run_options, n_predict, "predict", "n", "N", -1, 1 << 30, "answer at most N tokens"),
    SAMPLE_OPTIONS(struct run_options, sample),
    {0},
};

/* ---- answers ---- */

typedef mote_status (*speak)(repl *r, const char *text, mote_error *err);

static mote_status say(repl *r, const char *text, mote_error *err) {
    return mote_chat_say(r->chat, text, strlen(text), &r->answer.opts, &r->answer.result, err);
}

static mote_status again(repl *r, const char *text, mote_error *err) {
    (void)text;
    return mote_chat_regenerate(r->chat, &r->answer.opts, &r->answer.result, err);
}

static void answer_with(repl *r, speak how, const char *text) {
    mote_error err;
    r->answer.opts = run_gen_opts(r->o, r->l, *r->sampler);
    answer_begin(&r->answer, r->l->session);
    mote_status s = how(r, text, &err);
    answer_end(&r->answer);
    (void)puts("\n");
    if (s != MOTE_OK) cli_say("%s", err.message);
    else answer_print_finish(&r->answer);
    if (s == MOTE_OK && r->stats) {
        answer_print_stats(&r->answer, r->l->speculator);
        exits_say(r->l);
    }
    (void)answer_interrupted();
}

/* ---- commands. Each returns false to leave the chat. ---- */

static bool do_help(repl *r, const char *text);

static bool do_system(repl *r, const char *text) {
    mote_error err;
    if (mote_chat_set_system(r->chat, *text ? text : NULL, &err) != MOTE_OK) cli_say("%s", err.message);
    else (void)puts(*text ? "The system message is set." : "The system message is removed.");
    return true;
}

static bool do_clear(repl *r, const char *text) {
    (void)text;
    mote_chat_clear(r->chat);
    (void)puts("The conversation is forgotten.");
    return true;
}

static bool do_regen(repl *r, const char *text) {
    answer_with(r, again, text);
    return true;
}

static bool do_stats(repl *r, const char *text) {
    if (*text) r->stats = strcmp(text, "off") != 0;
    else if (r->answer.result.n_prompt) answer_print_stats(&r->answer, r->l->speculator);
    if (*text || !r->answer.result.n_prompt) (void)printf("Statistics are %s.\n", r->stats ? "on" : "off");
    return true;
}

static void print_parameter(const repl *r, const cli_option *p) {
    const char *field = (const char *)r->o + p->field;
    (void)printf("  %-22s", p->name);
    switch (p->kind) {
    case CLI_INT: (void)printf("%lld\n", (long long)*(const int64_t *)(const void *)field); break;
    case CLI_NUM: (void)printf("%g\n", *(const double *)(const void *)field); break;
    case CLI_FLAG: (void)puts(*(const bool *)(const void *)field ? "on" : "off"); break;
    case CLI_LIST: (void)printf("%zu given\n", ((const cli_list *)(const void *)field)->n); break;
    default: {
        const char *s = *(const char *const *)(const void *)field;
        (void)puts(s ? s : "default");
    }
    }
}

static bool do_params(repl *r, const char *text) {
    (void)text;
    for (const cli_option *p = parameters; p->name; p++) print_parameter(r, p);
    (void)printf("  %-22s%llu\n", "seed in use", (unsigned long long)mote_sampler_seed(*r->sampler));
    return true;
}

/* A copy of text that lives as long as the chat: options point into it. */
static char *keep(repl *r, const char *text) {
    char **grown = realloc(r->kept, (r->n_kept + 1) * sizeof *grown), *copy = grown ? strdup(text) : NULL;
    if (grown) r->kept = grown;
    if (copy) r->kept[r->n_kept++] = copy;
    return copy;
}

static bool do_set(repl *r, const char *text) {
    char *words = keep(r, text);
    size_t n = words ? strcspn(words, " =") : 0;
    char *value = words ? words + n : NULL;
    if (!value || !*value) {
        (void)puts("/set NAME VALUE, as in: /set temp 0.5 (/params shows what there is)");
        return true;
    }
    *value++ = 0;
    struct run_options before = *r->o;
    mote_sampler *fresh = NULL;
    if (cli_set(parameters, words, value + strspn(value, " "), r->o) && load_sampler(&fresh, r->l->model, &r->o->sample) == CLI_OK) {
        mote_sampler_close(r->sampler);
        *r->sampler = fresh;
    } else *r->o = before;
    return true;
}

/* Fetches a text of unknown length from the library. Caller frees; NULL after a message. */
static char *messages_of(const repl *r, size_t *n) {
    mote_error err;
    if (mote_chat_messages(r->chat, NULL, 0, n, &err) != MOTE_OK) {
        cli_say("%s", err.message);
        return NULL;
    }
    char *text = malloc(*n + 1);
    if (text && mote_chat_messages(r->chat, text, *n + 1, n, &err) == MOTE_OK) return text;
    free(text);
    cli_say("out of memory");
    return NULL;
}

static bool do_save(repl *r, const char *text) {
    size_t n;
    char *messages = *text ? messages_of(r, &n) : NULL;
    if (!*text) (void)puts("/save FILE");
    if (!messages) return true;
    FILE *f = fopen(text, "we");
    bool ok = f && fwrite(messages, 1, n, f) == n && fputc('\n', f) != EOF;
    if (f && fclose(f) != 0) ok = false;
    if (ok) (void)printf("%zu messages are saved in %s.\n", mote_chat_n_messages(r->chat), text);
    else cli_say("%s: %s", text, strerror(errno));
    free(messages);
    return true;
}

static bool do_load(repl *r, const char *text) {
    mote_error err;
    size_t n;
    char *messages = NULL;
    if (!*text) {
        (void)puts("/load FILE");
        return true;
    }
    if (!(messages = cli_read_file(text, FILE_MAX, &n, &err)) || mote_chat_set_messages(r->chat, messages, n, &err) != MOTE_OK)
        cli_say("%s", err.message);
    else (void)printf("%zu messages are loaded.\n", mote_chat_n_messages(r->chat));
    free(messages);
    return true;
}

static bool do_history(repl *r, const char *text) {
    (void)text;
    size_t n, i;
    char *all = messages_of(r, &n);
    json_t *messages = all ? json_loadb(all, n, 0, NULL) : NULL, *m;
    json_array_foreach(messages, i, m) {
        const char *content = json_string_value(json_object_get(m, "content"));
        (void)printf("%s: %s\n", json_string_value(json_object_get(m, "role")), content ? content : "");
    }
    json_decref(messages);
    free(all);
    return true;
}

static bool do_exit(repl *r, const char *text) {
    (void)r;
    (void)text;
    return false;
}

static const struct {
    const char *name, *arguments, *help;
    bool (*run)(repl *r, const char *text);
} commands[] = {
    {"help", "", "this list", do_help},
    {"system", "[TEXT]", "replace or remove the system message", do_system},
    {"clear", "", "forget the conversation", do_clear},
    {"regen", "", "answer the last message again", do_regen},
    {"params", "", "show the sampling parameters", do_params},
    {"set", "NAME VALUE", "change one: /set temp 0.5", do_set},
    {"stats", "[on|off]", "tokens per second of the last answer, or of each", do_stats},
    {"history", "", "show the conversation", do_history},
    {"save", "FILE", "write the conversation as JSON", do_save},
    {"load", "FILE", "read it back", do_load},
    {"exit", "", "leave (also /bye, Ctrl-D)", do_exit},
    {"bye", "", "leave", do_exit},
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static bool do_help(repl *r, const char *text) {
    (void)r;
    (void)text;
    for (size_t i = 0; i + 1 < N_COMMANDS; i++) {
        char shown[64];
        (void)snprintf(shown, sizeof shown, "/%s %s", commands[i].name, commands[i].arguments);
        (void)printf("  %-20s %s\n", shown, commands[i].help);
    }
    (void)puts("  A message of several lines: end lines with \\, or put it between \"\"\" and \"\"\".\n"
               "  Ctrl-C stops the answer.");
    return true;
}

static const char *command_name(const void *ctx, size_t i) {
    (void)ctx;
    return commands[i].name;
}

static bool command(repl *r, const char *line) {
    size_t n = strcspn(line, " \n");
    const char *text = line + n + strspn(line + n, " \n");
    char name[32];
    (void)snprintf(name, sizeof name, "%.*s", (int)n, line);
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return commands[i].run(r, text);
    const char *near = cli_closest(name, command_name, NULL, N_COMMANDS);
    if (near) (void)printf("There is no /%s; did you mean /%s?\n", name, near);
    else (void)printf("There is no /%s; /help shows what there is.\n", name);
    return true;
}

static bool blank(const char *s) {
    while (isspace((unsigned char)*s)) s++;
    return !*s;
}

static void greet(const repl *r) {
    mote_session_info i = {.size = sizeof i};
    char weights[32], session[32];
    mote_session_get_info(r->l->session, &i);
    const char *name = mote_model_name(r->l->model), *note = mote_chat_note(r->chat);
    (void)printf("%s (%s): weights %s, session %s with %zu tokens of context, %d threads. /help shows commands.\n",
                 *name ? name : r->l->path, mote_model_arch(r->l->model), cli_size(weights, i.weight_bytes),
                 cli_size(session, i.total_bytes), i.n_ctx, i.n_threads);
    if (note) (void)puts(note);
}

int chat_run(loaded *l, struct run_options *o, mote_sampler **sampler) {
    mote_error err;
    repl r = {.l = l, .o = o, .sampler = sampler, .stats = o->stats || o->model.verbose,
        .answer = {.stream = true, .thinking_shown = run_shows_thinking(o)}};
    if (chat_open(&r.chat, l, o, &err) != MOTE_OK) return cli_fail(&err);
    line_reader *lines = line_open(!o->no_history);
    if (!lines) cli_say("the terminal cannot be read");
    else greet(&r);
    const char *text;
    int interrupts = 0;
    for (bool go_on = lines != NULL; go_on;) {
        line_result got = line_read(lines, "> ", &text);
        if (got == LINE_END) break;
        if (got == LINE_INTERRUPTED) {
            if (++interrupts == 2) break;
            (void)puts("Ctrl-C again or Ctrl-D leaves.");
            continue;
        }
        interrupts = 0;
        if (blank(text)) continue;
        if (text[0] == '/') go_on = command(&r, text + 1);
        else answer_with(&r, say, text);
    }
    line_close(&lines);
    mote_chat_close(&r.chat);
    free(r.answer.text);
    for (size_t i = 0; i < r.n_kept; i++) free(r.kept[i]);
    free(r.kept);
    return cli_done(CLI_OK);
}
