/* cmd_template.c: a chat template and a conversation in, the prompt out. */
#include "commands.h"
#include "common.h"
#include "models.h"
#include "mote/model_file.h"
#include "mote/template.h"

#include <stdlib.h>
#include <string.h>

struct template_options {
    const char *model, *file, *conversation, *bos, *eos, *pad, *unk, *now;
    bool spans;
};

const cli_option template_options[] = {
    OPT_STR(struct template_options, file, "file", "f", "FILE", "the template (Jinja)"),
    OPT_STR(struct template_options, model, "model", "m", "MODEL", "a model, whose template is taken instead"),
    OPT_STR(struct template_options, conversation, "conversation", "c", "FILE",
            "a JSON object with messages, tools, add_generation_prompt and other variables (- for standard input)"),
    OPT_STR(struct template_options, bos, "bos-token", NULL, "TEXT", "the variable bos_token"),
    OPT_STR(struct template_options, eos, "eos-token", NULL, "TEXT", "the variable eos_token"),
    OPT_STR(struct template_options, pad, "pad-token", NULL, "TEXT", "the variable pad_token"),
    OPT_STR(struct template_options, unk, "unk-token", NULL, "TEXT", "the variable unk_token"),
    OPT_STR(struct template_options, now, "now", NULL, "TIME", "what the template takes for now: \"2026-01-02 03:04:05\""),
    OPT_FLAG(struct template_options, spans, "json", NULL, "print JSON: the text, and which parts of it came from the conversation"),
    {0},
};
const cli_example template_examples[] = {
    {"mote template -f chat.jinja -c conversation.json", "the prompt of a conversation"},
    {"mote template -m model.gguf -c conversation.json --json", "with the model's template, and where each part came from"},
    {0},
};

#define FILE_MAX ((size_t)64 << 20)
#define SPANS_MAX 65536

static int model_template(const char *name, char **out, size_t *n) {
    int code = CLI_OK;
    char *path = models_resolve(name, &code);
    if (!path) return code;
    mote_file *f;
    mote_error err;
    if (mote_file_open(&f, path, &err) != MOTE_OK) code = cli_fail(&err);
    else {
        size_t i = mote_file_find_meta(f, "tokenizer.chat_template");
        mote_text t = i == SIZE_MAX ? (mote_text){"", 0} : mote_file_meta(f, i).text;
        *out = t.n ? strndup(t.p, t.n) : NULL;
        *n = t.n;
        if (!*out) {
            cli_say("%s has no chat template", path);
            code = CLI_BAD_DATA;
        }
    }
    mote_file_close(&f);
    free(path);
    return code;
}

static int print_spans(const char *text, size_t n, const mote_template_opts *o) {
    json_t *spans = json_array();
    for (size_t i = 0; i < o->n_spans && i < o->spans_cap; i++)
        (void)json_array_append_new(spans, json_pack("{s:o, s:b}", "text", cli_json_text(text + o->spans[i].offset, o->spans[i].len),
                                                     "from_conversation", (int)o->spans[i].is_content));
    return cli_print_json(json_pack("{s:o, s:o}", "text", cli_json_text(text, n), "spans", spans));
}

/* Asks for the length with a first guess, then with what is needed. */
static int render(const struct template_options *o, const char *source, size_t source_n, const char *json, size_t json_n) {
    mote_error err;
    mote_template_opts t = mote_template_opts_default();
    t.bos_token = o->bos;
    t.eos_token = o->eos;
    t.pad_token = o->pad;
    t.unk_token = o->unk;
    t.now = o->now;
    t.spans = o->spans ? calloc(SPANS_MAX, sizeof *t.spans) : NULL;
    t.spans_cap = t.spans ? SPANS_MAX : 0;
    size_t cap = 1 << 16, needed = 0;
    char *text = malloc(cap);
    int code = text ? CLI_OK : CLI_IO;
    while (code == CLI_OK) {
        if (mote_template_render(source, source_n, json, json_n, &t, text, cap, &needed, &err) != MOTE_OK) code = cli_fail(&err);
        if (code != CLI_OK || needed < cap) break;
        cap = needed + 1;
        char *grown = realloc(text, cap);
        if (!grown) code = CLI_IO;
        else text = grown;
    }
    if (code == CLI_OK && o->spans) code = print_spans(text, needed, &t);
    else if (code == CLI_OK) (void)fwrite(text, 1, needed, stdout);
    free(text);
    free(t.spans);
    return cli_done(code);
}

int cmd_template(const cli_command *self, int argc, char **argv) {
    struct template_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if ((o.file != NULL) == (o.model != NULL)) return cli_usage(self, "which template? -f FILE or -m MODEL, one of them");
    if (!o.conversation) return cli_usage(self, "which conversation? -c FILE");
    mote_error err;
    size_t source_n = 0, json_n = 0;
    char *source = NULL, *json = NULL;
    if (o.model) code = model_template(o.model, &source, &source_n);
    else if ((source = cli_read_file(o.file, FILE_MAX, &source_n, &err))) code = CLI_OK;
    else code = cli_fail(&err);
    if (code == CLI_OK && !(json = cli_read_file(o.conversation, FILE_MAX, &json_n, &err))) code = cli_fail(&err);
    if (code == CLI_OK) code = render(&o, source, source_n, json, json_n);
    free(source);
    free(json);
    return code;
}
