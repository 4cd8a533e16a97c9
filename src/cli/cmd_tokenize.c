/* cmd_tokenize.c: text to ids, ids to text. */
#include "commands.h"
#include "common.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((size_t)1 << 30)

struct tokenize_options {
    model_flags model;
    const char *file, *jsonl;
    bool special, bos, ids;
};

const cli_option tokenize_options[] = {
    MODEL_OPT(struct tokenize_options, model),
    OPT_STR(struct tokenize_options, file, "file", "f", "FILE", "the text: a whole file, - for standard input"),
    OPT_STR(struct tokenize_options, jsonl, "jsonl", NULL, "FILE", "one JSON string per line in, one JSON array of ids per line out"),
    OPT_FLAG(struct tokenize_options, special, "special", NULL, "parse control tokens such as <|im_end|> in the text"),
    OPT_FLAG(struct tokenize_options, bos, "bos", NULL, "put around the text what the model wants there (BOS, EOS)"),
    OPT_FLAG(struct tokenize_options, ids, "ids", NULL, "print the ids alone, as a JSON array"),
    {0},
};
const cli_example tokenize_examples[] = {
    {"mote tokenize -m model.gguf 'Hello world'", "each id and its text"},
    {"mote tokenize -m model.gguf --ids -f book.txt", "a JSON array of the ids of a file"},
    {"mote tokenize -m model.gguf --jsonl strings.jsonl", "many texts, for scripts"},
    {0},
};

struct detokenize_options {
    model_flags model;
    const char *ids, *jsonl;
    bool special;
};

const cli_option detokenize_options[] = {
    MODEL_OPT(struct detokenize_options, model),
    OPT_STR(struct detokenize_options, ids, "ids", NULL, "1,2,3", "the ids, as a list; else arguments"),
    OPT_STR(struct detokenize_options, jsonl, "jsonl", NULL, "FILE", "one JSON array of ids per line in, one JSON string per line out"),
    OPT_FLAG(struct detokenize_options, special, "special", NULL, "show control tokens"),
    {0},
};
const cli_example detokenize_examples[] = {
    {"mote detokenize -m model.gguf 19556 905", "the text of ids"},
    {"mote detokenize -m model.gguf --jsonl ids.jsonl", "many arrays, for scripts"},
    {0},
};

/* A tokenizer with room for its results, reused from line to line. */
typedef struct work {
    loaded l;
    int flags;
    const char *source; /* for messages */
    id_list ids;
    char *text;
    size_t cap_text;
} work;

static int work_close(work *w, int code) {
    load_close(&w->l);
    free(w->ids.p);
    free(w->text);
    return cli_done(code);
}

static int detokenize(work *w, const int32_t *ids, size_t n_ids, size_t *n) {
    mote_error err;
    for (*n = w->cap_text ? w->cap_text : 4096;;) {
        if (*n > w->cap_text) {
            char *grown = realloc(w->text, *n);
            if (!grown) {
                cli_say("out of memory for %zu bytes", *n);
                return CLI_IO;
            }
            w->text = grown;
            w->cap_text = *n;
        }
        if (mote_detokenize(w->l.model, ids, n_ids, w->flags, w->text, w->cap_text, n, &err) != MOTE_OK) return cli_fail(&err);
        if (*n <= w->cap_text) return CLI_OK;
    }
}

static void print_ids(const int32_t *ids, size_t n) {
    (void)putchar('[');
    for (size_t i = 0; i < n; i++) (void)printf(i ? ", %" PRId32 : "%" PRId32, ids[i]);
    (void)puts("]");
}

static int bad_line(const work *w, size_t number, const char *expected) {
    cli_say("%s:%zu: not %s", w->source, number, expected);
    return CLI_BAD_DATA;
}

static int tokenize_line(void *ctx, size_t number, char *text, size_t n) {
    work *w = ctx;
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    int code = json_is_string(v) ? CLI_OK : bad_line(w, number, "a JSON string");
    if (code == CLI_OK) code = ids_of_text(&w->ids, w->l.model, json_string_value(v), json_string_length(v), w->flags);
    if (code == CLI_OK) print_ids(w->ids.p, w->ids.n);
    json_decref(v);
    return code;
}

/* One token a line: its id, a tab, its text as a JSON string. */
static int print_tokens(work *w) {
    w->flags = MOTE_TOK_SPECIAL;
    for (size_t i = 0; i < w->ids.n; i++) {
        size_t n;
        int code = detokenize(w, &w->ids.p[i], 1, &n);
        if (code != CLI_OK) return code;
        (void)printf("%7" PRId32 "  \"", w->ids.p[i]);
        for (size_t k = 0; k < n; k++) {
            unsigned char c = (unsigned char)w->text[k];
            if (c < 0x20 || c == 0x7F) (void)printf("\\x%02x", c);
            else (void)putchar(c);
        }
        (void)puts("\"");
    }
    return CLI_OK;
}

int cmd_tokenize(const cli_command *self, int argc, char **argv) {
    struct tokenize_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    if ((args.n > 0) + (o.file != NULL) + (o.jsonl != NULL) != 1)
        return cli_usage(self, "what to tokenize? A text, --file or --jsonl, one of them");
    work w = {.flags = (o.special ? MOTE_TOK_SPECIAL : 0) | (o.bos ? MOTE_TOK_BOS : 0), .source = o.jsonl};
    char *whole = NULL;
    code = load_model(&w.l, &o.model, NULL, true);
    if (code == CLI_OK && o.jsonl) code = cli_each_line(o.jsonl, tokenize_line, &w);
    else if (code == CLI_OK) {
        mote_error err;
        size_t n = args.n ? strlen(args.v[0]) : 0;
        if (o.file && !(whole = cli_read_file(o.file, TEXT_MAX, &n, &err))) code = cli_fail(&err);
        if (code == CLI_OK) code = ids_of_text(&w.ids, w.l.model, o.file ? whole : args.v[0], n, w.flags);
        if (code == CLI_OK && o.ids) print_ids(w.ids.p, w.ids.n);
        else if (code == CLI_OK) code = print_tokens(&w);
    }
    free(whole);
    return work_close(&w, code);
}

static int detokenize_line(void *ctx, size_t number, char *text, size_t n) {
    work *w = ctx;
    json_error_t e;
    json_t *v = json_loadb(text, n, 0, &e), *id;
    int code = json_is_array(v) ? CLI_OK : bad_line(w, number, "a JSON array of integers");
    size_t i, bytes = 0;
    if (code == CLI_OK && !ids_reserve(&w->ids, json_array_size(v))) code = CLI_IO;
    json_array_foreach(v, i, id) {
        json_int_t x = json_integer_value(id);
        if (code == CLI_OK && (!json_is_integer(id) || x < 0 || x > INT32_MAX)) code = bad_line(w, number, "a JSON array of token ids");
        if (code == CLI_OK) w->ids.p[i] = (int32_t)x;
    }
    if (code == CLI_OK) code = detokenize(w, w->ids.p, json_array_size(v), &bytes);
    json_decref(v);
    if (code != CLI_OK) return code;
    return cli_print_json(cli_json_text(w->text, bytes));
}

int cmd_detokenize(const cli_command *self, int argc, char **argv) {
    struct detokenize_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, CLI_LIST_MAX, argc, argv, &code)) return code;
    if ((args.n > 0) + (o.ids != NULL) + (o.jsonl != NULL) != 1)
        return cli_usage(self, "which ids? As arguments, --ids or --jsonl, one of them");
    work w = {.flags = (o.special ? MOTE_TOK_SPECIAL : 0) | MOTE_TOK_TRIM, .source = o.jsonl};
    code = load_model(&w.l, &o.model, NULL, true);
    if (code == CLI_OK && o.jsonl) code = cli_each_line(o.jsonl, detokenize_line, &w);
    else if (code == CLI_OK) {
        size_t bytes;
        if (o.ids) code = ids_parse(self, &w.ids, o.ids);
        for (size_t i = 0; code == CLI_OK && i < args.n; i++) code = ids_parse(self, &w.ids, args.v[i]);
        if (code == CLI_OK) code = detokenize(&w, w.ids.p, w.ids.n, &bytes);
        if (code == CLI_OK) {
            (void)fwrite(w.text, 1, bytes, stdout);
            (void)putchar('\n');
        }
    }
    return work_close(&w, code);
}
