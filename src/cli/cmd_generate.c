/* cmd_generate.c: many prompts answered side by side, from files into a file. Each answer depends on its prompt and its own seed
 * alone, so that neither the number of sequences nor a run that was broken off changes one; they are written in the prompts' order. */
#include "answer.h"
#include "commands.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GEN struct generate_options
GEN {
    const char *out, *system, *template_file;
    int64_t n_predict, parallel, ask;
    bool raw;
    model_flags model;
    session_flags session;
    sample_flags sample;
};

const cli_option generate_options[] = {
    OPT_STR(GEN, out, "output", "o", "OUT.jsonl", "where the answers go (default: standard output); a file that has some already is gone on with"),
    OPT_INT(GEN, n_predict, "predict", "n", "N", 1, 1 << 24, "at most N tokens of each answer"),
    OPT_INT(GEN, parallel, "parallel", "np", "N", 1, 256, "sequences at once; the answers are the same for any number"),
    OPT_INT(GEN, ask, "ask", NULL, "N", 1, 1 << 24, "the model makes up N questions itself, and answers them"),
    OPT_FLAG(GEN, raw, "raw", NULL, "lines are beginnings to go on with, not questions"),
    OPT_STR(GEN, system, "system-prompt", "sys", "TEXT", "what the model is told before each conversation that has no system message"),
    OPT_STR(GEN, template_file, "chat-template-file", NULL, "FILE", "a Jinja template instead of the model's"),
    MODEL_OPTIONS(GEN, model),
    SESSION_OPTIONS(GEN, session),
    SAMPLE_OPTIONS(GEN, sample),
    {0},
};
const cli_example generate_examples[] = {
    {"mote generate questions.txt -o answers.jsonl", "a question a line, a conversation a line"},
    {"mote generate chats.jsonl -o answers.jsonl -n 300 --temp 0", "lines with \"messages\", \"prompt\", or \"text\" to go on with"},
    {"mote generate --ask 1000 -m smollm2-135m-instruct -o taught.jsonl", "training data from the model alone"},
    {0},
};

#define LINE_TEXT_MAX ((size_t)1 << 24)
enum { CTX_DEFAULT = 2048, TRIES = 16, JOBS_MAX = 1 << 24 };

typedef enum job_kind { JOB_CHAT, JOB_TEXT, JOB_ASK } job_kind;
typedef struct job {
    json_t *line; /* the prompt's members; with the answer, what is written */
    job_kind kind;
    bool done;
} job;

typedef struct slot {
    bool busy, again; /* again: the same job begins anew, with the question that was made up, or without one */
    size_t job, n_prompt, n_said, tries;
    mote_chat *chat;
    mote_sampler *sampler;
    int32_t *said; /* [n_ctx]; the last one is not in the sequence yet */
} slot;

typedef struct work {
    const GEN *o;
    loaded l;
    job *jobs;
    size_t n_jobs, cap, next, head; /* the next to begin; the first that is not written */
    slot *slots;
    size_t n_slots, n_ctx, n_tokens, n_failed;
    int32_t *ids, *ask_ids; /* [n_ctx + 1]; what stands before a user's words */
    size_t n_ask_ids;
    mote_step *steps;
    const char *path; /* of the prompts, in messages */
    FILE *out;
    cli_progress bar;
} work;

/* ---- prompts ---- */

static int add_job(work *w, json_t *line, job_kind kind) {
    if (!line) {
        cli_say("out of memory");
        return CLI_IO;
    }
    if (w->n_jobs == w->cap) {
        size_t cap = 2 * w->cap + 64;
        job *grown = w->n_jobs < JOBS_MAX ? realloc(w->jobs, cap * sizeof *grown) : NULL;
        if (!grown) {
            json_decref(line);
            cli_say("out of memory after %zu prompts", w->n_jobs);
            return CLI_IO;
        }
        w->jobs = grown;
        w->cap = cap;
    }
    w->jobs[w->n_jobs++] = (job){.line = line, .kind = kind};
    return CLI_OK;
}

static bool good_messages(const json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        if (!json_is_string(json_object_get(m, "role")) || !json_is_string(json_object_get(m, "content"))) return false;
    }
    return json_array_size(messages) > 0;
}

static int add_json(work *w, size_t number, const char *text, size_t n) {
    json_error_t why;
    json_t *line = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why), *prompt = json_object_get(line, "prompt"), *messages = json_object_get(line, "messages");
    if (json_is_string(prompt) && !messages) {
        messages = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
        (void)json_object_del(line, "prompt");
        (void)json_object_set_new(line, "messages", messages);
    }
    bool chat = good_messages(messages), go_on = !messages && json_is_string(json_object_get(line, "text"));
    if (chat || go_on) return add_job(w, line, chat ? JOB_CHAT : JOB_TEXT);
    if (!line) cli_say("%s, line %zu: %s", w->path, number, why.text);
    else cli_say("%s, line %zu: expected an object with \"messages\" (of \"role\" and \"content\"), \"prompt\" or \"text\"", w->path, number);
    json_decref(line);
    return CLI_BAD_DATA;
}

static int add_line(void *ctx, size_t number, char *text, size_t n) {
    work *w = ctx;
    if (n == 0) return CLI_OK;
    if (n > LINE_TEXT_MAX) {
        cli_say("%s, line %zu: %zu bytes, the limit is %zu", w->path, number, n, LINE_TEXT_MAX);
        return CLI_BAD_DATA;
    }
    if (text[0] == '{') return add_json(w, number, text, n);
    json_t *words = json_stringn(text, n);
    if (!words) {
        cli_say("%s, line %zu: not UTF-8", w->path, number);
        return CLI_BAD_DATA;
    }
    if (w->o->raw) return add_job(w, json_pack("{s:o}", "text", words), JOB_TEXT);
    return add_job(w, json_pack("{s:[{s:s, s:o}]}", "messages", "role", "user", "content", words), JOB_CHAT);
}

static int read_prompts(work *w, const cli_args *args) {
    int code = CLI_OK;
    for (size_t i = 0; i < args->n && code == CLI_OK; i++) code = cli_each_line(w->path = args->v[i], add_line, w);
    for (int64_t i = 0; i < w->o->ask && code == CLI_OK; i++) code = add_job(w, json_pack("{s:[]}", "messages"), JOB_ASK);
    if (code == CLI_OK && w->n_jobs == 0) {
        cli_say("there are no prompts in it");
        code = CLI_BAD_DATA;
    }
    return code;
}

/* ---- what is there already ---- */

/* Whether `there`, a line of an earlier run, answers this prompt. */
static bool answers(const json_t *there, const job *j) {
    const json_t *want = json_object_get(j->line, "messages"), *have = json_object_get(there, "messages");
    if (j->kind == JOB_TEXT) {
        const char *opening = json_string_value(json_object_get(j->line, "text")), *text = json_string_value(json_object_get(there, "text"));
        return text && strncmp(text, opening, strlen(opening)) == 0;
    }
    if (!have) return false;
    for (size_t i = 0; i < json_array_size(want); i++)
        if (!json_equal(json_array_get(want, i), json_array_get(have, i))) return false;
    return true;
}

static int count_line(void *ctx, size_t number, char *text, size_t n) {
    work *w = ctx;
    json_t *there = json_loadb(text, n, 0, NULL);
    bool good = there && w->head < w->n_jobs && answers(there, &w->jobs[w->head]);
    json_decref(there);
    if (!good) {
        cli_say("%s, line %zu: no answer to prompt %zu of this run; give it another name, or remove it", w->o->out, number, w->head + 1);
        return CLI_BAD_DATA;
    }
    json_decref(w->jobs[w->head].line);
    w->jobs[w->head++].line = NULL;
    return CLI_OK;
}

/* Cuts off a last line that a killed run left unfinished. */
static int cut_broken_line(FILE *f) {
    long end = 0;
    for (int c; (c = getc(f)) != EOF;)
        if (c == '\n') end = ftell(f);
    return fflush(f) != 0 || ftruncate(fileno(f), end) != 0 || fseek(f, 0, SEEK_END) != 0;
}

static int open_output(work *w) {
    w->out = stdout;
    if (!w->o->out) return CLI_OK;
    w->out = fopen(w->o->out, "a+");
    if (!w->out || fseek(w->out, 0, SEEK_SET) != 0 || cut_broken_line(w->out)) {
        cli_say("%s: %s", w->o->out, strerror(errno));
        return CLI_IO;
    }
    int code = cli_each_line(w->o->out, count_line, w);
    w->next = w->head;
    if (code == CLI_OK && w->head) cli_say("going on after %zu answers in %s", w->head, w->o->out);
    return code;
}

/* ---- answers ---- */

static int write_ready(work *w) {
    for (; w->head < w->n_jobs && w->jobs[w->head].done; w->head++) {
        char *text = json_dumps(w->jobs[w->head].line, JSON_COMPACT);
        bool good = text && fputs(text, w->out) >= 0 && putc('\n', w->out) != EOF && fflush(w->out) == 0;
        free(text);
        json_decref(w->jobs[w->head].line);
        w->jobs[w->head].line = NULL;
        if (good) continue;
        cli_say("%s: %s", w->o->out ? w->o->out : "standard output", strerror(errno));
        return CLI_IO;
    }
    cli_progress_show(&w->bar, (double)w->head, (double)w->n_jobs, "answers");
    return CLI_OK;
}

static int fail_job(work *w, slot *s, const mote_error *err) {
    job *j = &w->jobs[s->job];
    (void)json_object_set_new(j->line, "finish", json_string("error"));
    (void)json_object_set_new(j->line, "error", cli_json_text(err->message, strlen(err->message)));
    j->done = true;
    s->busy = false;
    w->n_failed++;
    return write_ready(w);
}

static mote_status chat_ids(const slot *s, const json_t *messages, int32_t *ids, size_t cap, size_t *n, mote_error *err) {
    char *text = json_dumps(messages, JSON_COMPACT);
    if (!text) return cli_error(err, MOTE_E_MEMORY, "out of memory");
    mote_status st = mote_chat_set_messages(s->chat, text, strlen(text), err);
    if (st == MOTE_OK) st = mote_chat_prompt(s->chat, NULL, 0, NULL, ids, cap, n, err);
    free(text);
    return st;
}

static mote_status text_ids(const work *w, const char *text, size_t *n, mote_error *err) {
    size_t begin = mote_tokenizer_adds_bos(w->l.model) ? 1 : 0;
    w->ids[0] = mote_token_by_role(w->l.model, "bos");
    mote_status st = mote_tokenize(w->l.model, text, strlen(text), MOTE_TOK_SPECIAL, w->ids + begin, w->n_ctx - begin, n, err);
    *n += begin;
    return st;
}

/* What the template puts before a user's words: the tokens that two conversations begin with which differ in those alone. */
static mote_status find_ask_ids(work *w, mote_error *err) {
    size_t n, k;
    const slot *s = &w->slots[0];
    json_t *one = json_pack("[{s:s, s:s}]", "role", "user", "content", "Why"), *other = json_pack("[{s:s, s:s}]", "role", "user", "content", "42");
    mote_status st = one && other ? chat_ids(s, one, w->ask_ids, w->n_ctx, &n, err) : cli_error(err, MOTE_E_MEMORY, "out of memory");
    if (st == MOTE_OK) st = chat_ids(s, other, w->ids, w->n_ctx, &k, err);
    if (st == MOTE_OK)
        for (n = n < k ? n : k; w->n_ask_ids < n && w->ids[w->n_ask_ids] == w->ask_ids[w->n_ask_ids];) w->n_ask_ids++;
    if (st == MOTE_OK && w->n_ask_ids == 0) st = cli_error(err, MOTE_E_UNSUPPORTED, "--ask: the template has nothing before a user's words that the model could go on from");
    json_decref(one);
    json_decref(other);
    return st;
}

static mote_status open_sampler(const work *w, slot *s, mote_error *err) {
    sample_flags f = w->o->sample;
    f.seed = (int64_t)(((uint64_t)f.seed + s->job + s->tries * 0x9E3779B97F4Aull) & INT64_MAX); /* its own draws, in any company */
    mote_sampler_close(&s->sampler);
    return load_sampler(&s->sampler, w->l.model, &f) == CLI_OK ? MOTE_OK : cli_error(err, MOTE_E_RANGE, "the options of sampling do not fit");
}

static int said(work *w, slot *s, int32_t id);

static int draw(work *w, slot *s) {
    mote_error err;
    int32_t id;
    if (mote_sampler_draw(s->sampler, mote_session_logits(w->l.session, (size_t)(s - w->slots)), &id, &err) != MOTE_OK) return fail_job(w, s, &err);
    return said(w, s, id);
}

static mote_status feed(work *w, slot *s, mote_error *err) {
    const job *j = &w->jobs[s->job];
    const int32_t *ids = j->kind == JOB_ASK ? w->ask_ids : w->ids;
    mote_status st = MOTE_OK;
    s->n_prompt = w->n_ask_ids;
    if (j->kind == JOB_CHAT) st = chat_ids(s, json_object_get(j->line, "messages"), w->ids, w->n_ctx, &s->n_prompt, err);
    if (j->kind == JOB_TEXT) st = text_ids(w, json_string_value(json_object_get(j->line, "text")), &s->n_prompt, err);
    if (st != MOTE_OK) return st;
    if (s->n_prompt == 0 || s->n_prompt >= w->n_ctx)
        return cli_error(err, MOTE_E_CONTEXT, "a prompt of %zu tokens: expected 1 to %zu (-c makes room)", s->n_prompt, w->n_ctx - 1);
    st = mote_session_prompt(w->l.session, (size_t)(s - w->slots), ids, s->n_prompt, NULL, err);
    if (st == MOTE_OK) st = open_sampler(w, s, err);
    if (st == MOTE_OK) mote_sampler_prompt(s->sampler, ids, s->n_prompt);
    return st;
}

static int begin(work *w, slot *s) {
    mote_error err;
    s->n_said = 0;
    s->again = false;
    s->busy = true;
    mote_status st = feed(w, s, &err);
    if (st == MOTE_E_CANCELLED) return cli_fail(&err);
    return st == MOTE_OK ? draw(w, s) : fail_job(w, s, &err);
}

static json_t *text_of(const work *w, const slot *s) {
    mote_error err;
    size_t n;
    if (mote_detokenize(w->l.model, s->said, s->n_said, 0, NULL, 0, &n, &err) != MOTE_OK) return NULL;
    char *text = malloc(n + 1);
    json_t *v = text && mote_detokenize(w->l.model, s->said, s->n_said, 0, text, n + 1, &n, &err) == MOTE_OK ? cli_json_text(text, n) : NULL;
    free(text);
    return v;
}

/* A question that the model made up is whole and says something; else it tries again. Not at once: other sequences' logits still wait. */
static int asked(work *w, slot *s, json_t *text, bool whole) {
    job *j = &w->jobs[s->job];
    mote_error err;
    const char *words = json_string_value(text);
    if (whole && words[strspn(words, " \n\t")]) {
        (void)json_array_append_new(json_object_get(j->line, "messages"), json_pack("{s:s, s:o}", "role", "user", "content", text));
        j->kind = JOB_CHAT;
        s->again = true;
    } else json_decref(text);
    s->busy = false;
    if (s->again || (s->again = ++s->tries < TRIES)) return CLI_OK;
    (void)cli_error(&err, MOTE_E_OUTPUT, "the model made up no question in %d tries", TRIES);
    return fail_job(w, s, &err);
}

static int finish(work *w, slot *s, const char *why) {
    job *j = &w->jobs[s->job];
    json_t *text = text_of(w, s);
    if (!text) {
        cli_say("out of memory");
        return CLI_IO;
    }
    w->n_tokens += s->n_said;
    if (j->kind == JOB_ASK) return asked(w, s, text, strcmp(why, "stop") == 0);
    if (j->kind == JOB_CHAT) (void)json_array_append_new(json_object_get(j->line, "messages"), json_pack("{s:s, s:o}", "role", "assistant", "content", text));
    else {
        json_t *both = json_sprintf("%s%s", json_string_value(json_object_get(j->line, "text")), json_string_value(text));
        (void)json_object_set_new(j->line, "text", both);
        json_decref(text);
    }
    (void)json_object_set_new(j->line, "finish", json_string(why));
    (void)json_object_set_new(j->line, "tokens", json_integer((json_int_t)s->n_said));
    j->done = true;
    s->busy = false;
    return write_ready(w);
}

static int said(work *w, slot *s, int32_t id) {
    if (mote_token_is_end(w->l.model, id) && !w->o->sample.ignore_eos) return finish(w, s, "stop");
    size_t most = w->jobs[s->job].kind == JOB_ASK ? w->n_ctx / 4 : (size_t)w->o->n_predict;
    s->said[s->n_said++] = id;
    return s->n_said == most || s->n_prompt + s->n_said >= w->n_ctx ? finish(w, s, "length") : CLI_OK;
}

/* One more token for every sequence. *busy: how many there are. */
static int step_all(work *w, size_t *busy) {
    mote_error err;
    int code = CLI_OK;
    *busy = 0;
    for (size_t i = 0; i < w->n_slots; i++)
        if (w->slots[i].busy) w->steps[(*busy)++] = (mote_step){i, w->slots[i].said[w->slots[i].n_said - 1]};
    if (*busy && mote_session_step(w->l.session, w->steps, *busy, &err) != MOTE_OK) return cli_fail(&err);
    for (size_t i = 0; i < *busy && code == CLI_OK; i++) code = draw(w, &w->slots[w->steps[i].seq]);
    return code;
}

static int answer_all(work *w) {
    int code = CLI_OK;
    for (size_t busy = 1; busy && code == CLI_OK;) {
        for (size_t i = 0; i < w->n_slots && code == CLI_OK; i++) {
            slot *s = &w->slots[i];
            while (!s->busy && (s->again || w->next < w->n_jobs) && code == CLI_OK) {
                if (!s->again) {
                    s->job = w->next++;
                    s->tries = 0;
                }
                code = begin(w, s);
            }
        }
        if (code == CLI_OK) code = step_all(w, &busy);
        if (answer_interrupted()) code = 128 + SIGINT;
    }
    return code;
}

/* ---- the command ---- */

static int open_slots(work *w) {
    mote_error err;
    mote_session_opts so = load_session_opts(&w->o->session);
    mote_chat_opts c = mote_chat_opts_default();
    char *template = NULL;
    size_t n;
    so.n_seq = (size_t)w->o->parallel < w->n_jobs - w->head ? (size_t)w->o->parallel : w->n_jobs - w->head;
    if (w->o->session.ctx == 0) so.n_ctx = CTX_DEFAULT;
    if (w->o->template_file && !(template = cli_read_file(w->o->template_file, LINE_TEXT_MAX, &n, &err))) return cli_fail(&err);
    int code = load_session(&w->l, &w->o->session, &so, w->o->model.verbose);
    mote_session_info info = {.size = sizeof info};
    if (code == CLI_OK) mote_session_get_info(w->l.session, &info);
    w->n_ctx = info.n_ctx;
    w->ids = malloc((w->n_ctx + 1) * sizeof *w->ids);
    w->ask_ids = malloc((w->n_ctx + 1) * sizeof *w->ask_ids);
    w->steps = calloc(so.n_seq, sizeof *w->steps);
    w->slots = calloc(so.n_seq, sizeof *w->slots);
    if (code == CLI_OK && (!w->ids || !w->ask_ids || !w->steps || !w->slots)) code = CLI_IO;
    c.system = w->o->system;
    c.template_text = template;
    for (; code == CLI_OK && w->n_slots < so.n_seq; w->n_slots++) {
        slot *s = &w->slots[w->n_slots];
        s->said = malloc((w->n_ctx + 1) * sizeof *s->said);
        if (!s->said) code = CLI_IO;
        else if (mote_chat_open(&s->chat, w->l.session, w->n_slots, &c, &err) != MOTE_OK) code = cli_fail(&err);
    }
    free(template);
    if (code == CLI_IO) cli_say("out of memory");
    if (code == CLI_OK && w->o->ask && find_ask_ids(w, &err) != MOTE_OK) code = cli_fail(&err);
    return code;
}

static void close_work(work *w) {
    for (size_t i = 0; i < w->n_slots; i++) {
        mote_chat_close(&w->slots[i].chat);
        mote_sampler_close(&w->slots[i].sampler);
        free(w->slots[i].said);
    }
    for (size_t i = 0; i < w->n_jobs; i++) json_decref(w->jobs[i].line);
    free(w->slots);
    free(w->steps);
    free(w->ids);
    free(w->ask_ids);
    free(w->jobs);
    load_close(&w->l);
}

int cmd_generate(const cli_command *self, int argc, char **argv) {
    GEN o = {.n_predict = 512, .parallel = 8, .sample = sample_defaults};
    cli_args args;
    int code;
    o.sample.seed = 1;
    if (!cli_parse(self, &o, &args, CLI_LIST_MAX, argc, argv, &code)) return code;
    if ((args.n == 0) == (o.ask == 0)) return cli_usage(self, "prompts from files, or --ask N: one of both");
    if (o.sample.seed < 0) return cli_usage(self, "answers that can be made again need a seed from 0 on");
    work w = {.o = &o};
    code = read_prompts(&w, &args);
    if (code == CLI_OK) code = open_output(&w);
    size_t before = w.head;
    if (code == CLI_OK && w.head < w.n_jobs) {
        code = load_model(&w.l, &o.model, NULL, false);
        if (code == CLI_OK) code = load_sampling(&o.sample, w.l.model);
        if (code == CLI_OK) code = open_slots(&w);
        answer_install_sigint();
        w.bar = cli_progress_start("generating");
        if (code == CLI_OK) code = answer_all(&w);
        cli_progress_end(&w.bar);
    }
    if (code == CLI_OK) cli_say("%zu answers, %zu tokens", w.head - before, w.n_tokens);
    if (code == CLI_OK && w.n_failed) {
        cli_say("%zu of them failed: see \"error\" in their lines", w.n_failed);
        code = CLI_BAD_DATA;
    }
    if (w.out && w.out != stdout && fclose(w.out) != 0 && code == CLI_OK) {
        cli_say("%s: %s", o.out, strerror(errno));
        code = CLI_IO;
    }
    close_work(&w);
    return o.out ? code : code == CLI_OK ? cli_done(code) : code;
}
