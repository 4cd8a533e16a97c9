/* cmd_embed.c: texts to vectors. */
#include "commands.h"
#include "common.h"

#include <stdlib.h>
#include <string.h>

struct embed_options {
    model_flags model;
    const char *jsonl, *pooling;
    bool raw;
};

const cli_option embed_options[] = {
    OPT_STR(struct embed_options, jsonl, "jsonl", NULL, "FILE", "one JSON string per line in, one JSON array of floats per line out (- for standard input)"),
    OPT_CHOICE(struct embed_options, pooling, "pooling", NULL, "mean|cls|last", "how the tokens' vectors become one, instead of the model's way"),
    OPT_FLAG(struct embed_options, raw, "no-normalize", NULL, "leave the vectors as long as they are"),
    MODEL_OPTIONS(struct embed_options, model),
    {0},
};
const cli_example embed_examples[] = {
    {"mote embed -m all-minilm-l6-v2 'a text' 'another'", "one array of floats a line"},
    {"mote embed -m all-minilm-l6-v2 --jsonl texts.jsonl", "many texts, for scripts"},
    {0},
};

/* Texts wait here until a batch is full: the library sorts a batch by length and computes several at once. */
#define BATCH 64
typedef struct batch {
    const struct embed_options *o;
    loaded l;
    json_t *texts[BATCH];
    size_t n, n_embd;
    float *out; /* [BATCH, n_embd] */
} batch;

static int pooling(const char *word) {
    if (!word) return MOTE_POOL_MODEL;
    return word[0] == 'm' ? MOTE_POOL_MEAN : word[0] == 'c' ? MOTE_POOL_CLS : MOTE_POOL_LAST;
}

static int flush_batch(batch *b) {
    const char *texts[BATCH];
    size_t bytes[BATCH];
    mote_error err;
    mote_embed_opts o = mote_embed_opts_default();
    o.pooling = pooling(b->o->pooling);
    o.normalize = !b->o->raw;
    for (size_t i = 0; i < b->n; i++) {
        texts[i] = json_string_value(b->texts[i]);
        bytes[i] = json_string_length(b->texts[i]);
    }
    int code = CLI_OK;
    if (b->n && mote_embed(b->l.session, texts, bytes, b->n, &o, b->out, NULL, &err) != MOTE_OK) code = cli_fail(&err);
    for (size_t i = 0; code == CLI_OK && i < b->n; i++) {
        (void)putchar('[');
        for (size_t k = 0; k < b->n_embd; k++) (void)printf(k ? ", %.9g" : "%.9g", (double)b->out[i * b->n_embd + k]);
        (void)puts("]");
    }
    for (size_t i = 0; i < b->n; i++) json_decref(b->texts[i]);
    b->n = 0;
    return code == CLI_OK ? cli_done(code) : code;
}

static int add(batch *b, json_t *text) {
    b->texts[b->n++] = text;
    return b->n == BATCH ? flush_batch(b) : CLI_OK;
}

static int add_line(void *ctx, size_t number, char *text, size_t n) {
    batch *b = ctx;
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (json_is_string(v)) return add(b, v);
    json_decref(v);
    cli_say("%s:%zu: not a JSON string", b->o->jsonl, number);
    return CLI_BAD_DATA;
}

int cmd_embed(const cli_command *self, int argc, char **argv) {
    struct embed_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, CLI_LIST_MAX, argc, argv, &code)) return code;
    if ((args.n > 0) == (o.jsonl != NULL)) return cli_usage(self, "which texts? As arguments or --jsonl FILE, one of them");
    if (!o.model.model) o.model.model = "all-minilm-l6-v2";
    batch b = {.o = &o};
    mote_error err;
    code = load_model(&b.l, &o.model, NULL, false);
    if (code == CLI_OK && mote_embed_session_open(&b.l.session, b.l.model, &err) != MOTE_OK) code = cli_fail(&err);
    if (code == CLI_OK) {
        b.n_embd = mote_model_n_embd(b.l.model);
        b.out = calloc(BATCH * b.n_embd, sizeof *b.out);
        if (!b.out) cli_say("out of memory"), code = CLI_IO;
    }
    for (size_t i = 0; code == CLI_OK && i < args.n; i++) code = add(&b, cli_json_text(args.v[i], strlen(args.v[i])));
    if (code == CLI_OK && o.jsonl) code = cli_each_line(o.jsonl, add_line, &b);
    if (code == CLI_OK) code = flush_batch(&b);
    for (size_t i = 0; i < b.n; i++) json_decref(b.texts[i]);
    free(b.out);
    load_close(&b.l);
    return cli_done(code);
}
