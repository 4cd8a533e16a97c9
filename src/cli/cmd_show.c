/* cmd_show.c: what is in a model file. */
#include "commands.h"
#include "models.h"
#include "mote/model_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct show_options {
    const char *model;
    bool json, tensors, metadata, template;
};

const cli_option show_options[] = {
    OPT_STR(struct show_options, model, "model", "m", "MODEL", "the model, instead of the first argument"),
    OPT_FLAG(struct show_options, tensors, "tensors", NULL, "list every tensor"),
    OPT_FLAG(struct show_options, metadata, "metadata", NULL, "list every metadata entry"),
    OPT_FLAG(struct show_options, template, "template", NULL, "print the chat template and nothing else"),
    OPT_FLAG(struct show_options, json, "json", NULL, "print everything as one JSON object (arrays of more than 64 elements are cut)"),
    {0},
};
const cli_example show_examples[] = {
    {"mote show smollm2-135m-instruct", "architecture, sizes, formats, licence, context, tokenizer"},
    {"mote show model.gguf --tensors", "and every tensor"},
    {"mote show model.gguf --json | jq .tensors", "for scripts"},
    {0},
};

#define ELEMENTS_SHOWN 64

static json_t *json_value(const mote_file *f, size_t i, const mote_meta *m) {
    switch (m->kind) {
    case MOTE_KIND_BOOL: return json_boolean(m->i != 0);
    case MOTE_KIND_FLOAT: {
        json_t *v = json_real(m->f);
        return v ? v : json_null();
    }
    case MOTE_KIND_TEXT: return cli_json_text(m->text.p, m->text.n);
    case MOTE_KIND_UINT64: return m->i < 0 ? json_real((double)(uint64_t)m->i) : json_integer(m->i);
    case MOTE_KIND_INT: return json_integer(m->i);
    case MOTE_KIND_ARRAY: break;
    }
    json_t *a = json_array();
    mote_meta e;
    for (uint64_t k = 0; k < m->count && k < ELEMENTS_SHOWN && mote_file_meta_at(f, i, k, &e) == MOTE_OK; k++)
        (void)json_array_append_new(a, json_value(f, i, &e));
    return json_pack("{s:s, s:I, s:o}", "type", m->type, "count", (json_int_t)m->count, "first", a);
}

/* The text of a key, empty when it is absent or something else. */
static mote_text text_at(const mote_file *f, const char *key) {
    size_t i = mote_file_find_meta(f, key);
    return i == SIZE_MAX ? (mote_text){"", 0} : mote_file_meta(f, i).text;
}

/* "llama.context_length": the architecture's own keys. */
static size_t find_own(const mote_file *f, const char *key) {
    mote_text arch = text_at(f, "general.architecture");
    char full[256];
    (void)snprintf(full, sizeof full, "%.*s.%s", (int)(arch.n > 100 ? 100 : arch.n), arch.n ? arch.p : "", key);
    return mote_file_find_meta(f, full);
}

/* ---- totals per number format ---- */
#define TYPES_MAX 64
typedef struct type_total {
    const char *type;
    uint64_t tensors, weights, bytes;
} type_total;

static size_t totals(const mote_file *f, type_total t[TYPES_MAX], type_total *all) {
    size_t n = 0;
    *all = (type_total){.type = "all"};
    for (size_t i = 0; i < mote_file_n_tensors(f); i++) {
        mote_tensor x = mote_file_tensor(f, i);
        size_t k = 0;
        while (k < n && t[k].type != x.type) k++;
        if (k == TYPES_MAX) continue;
        if (k == n) t[n++] = (type_total){.type = x.type};
        type_total *both[] = {&t[k], all};
        for (size_t b = 0; b < 2; b++) {
            both[b]->tensors++;
            both[b]->weights += x.n_weights;
            both[b]->bytes += x.size_bytes;
        }
    }
    return n;
}

static double bits(const type_total *t) { return t->weights ? 8 * (double)t->bytes / (double)t->weights : 0; }

static json_t *shape_of(const mote_tensor *t) {
    json_t *shape = json_array();
    for (int d = 0; d < t->n_dims; d++) (void)json_array_append_new(shape, json_integer((json_int_t)t->ne[d]));
    return shape;
}

static int print_json(const mote_file *f, const char *path) {
    json_t *meta = json_object(), *tensors = json_array(), *types = json_array();
    for (size_t i = 0; i < mote_file_n_meta(f); i++) {
        mote_meta m = mote_file_meta(f, i);
        (void)json_object_setn_new(meta, m.key.p, m.key.n, json_value(f, i, &m));
    }
    for (size_t i = 0; i < mote_file_n_tensors(f); i++) {
        mote_tensor t = mote_file_tensor(f, i);
        (void)json_array_append_new(tensors, json_pack("{s:o, s:s, s:o, s:I}", "name", cli_json_text(t.name.p, t.name.n), "type", t.type, "shape",
                                                       shape_of(&t), "size", (json_int_t)t.size_bytes));
    }
    type_total t[TYPES_MAX], all;
    size_t n = totals(f, t, &all);
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(types, json_pack("{s:s, s:I, s:I, s:I}", "type", t[i].type, "tensors", (json_int_t)t[i].tensors,
                                                     "weights", (json_int_t)t[i].weights, "size", (json_int_t)t[i].bytes));
    return cli_print_json(json_pack("{s:s, s:I, s:I, s:f, s:o, s:o, s:o}", "path", path, "size", (json_int_t)mote_file_bytes(f),
                                    "weights", (json_int_t)all.weights, "bits_per_weight", bits(&all), "metadata", meta, "types",
                                    types, "tensors", tensors));
}

/* Text of a file goes to a terminal: control characters are replaced, so that it cannot steer it. */
static void print_text(mote_text t, size_t max) {
    for (size_t i = 0; i < t.n && i < max; i++) {
        unsigned char c = (unsigned char)t.p[i];
        (void)putchar(c < 0x20 || c == 0x7F ? (c == '\n' || c == '\t' ? ' ' : '?') : c);
    }
    if (t.n > max) (void)fputs("…", stdout);
}

static void print_value(const mote_file *f, size_t i, const mote_meta *m) {
    switch (m->kind) {
    case MOTE_KIND_BOOL: (void)fputs(m->i ? "true" : "false", stdout); return;
    case MOTE_KIND_FLOAT: (void)printf("%g", m->f); return;
    case MOTE_KIND_TEXT: print_text(m->text, 100); return;
    case MOTE_KIND_UINT64: (void)printf("%" PRIu64, (uint64_t)m->i); return;
    case MOTE_KIND_INT: (void)printf("%" PRId64, m->i); return;
    case MOTE_KIND_ARRAY: break;
    }
    mote_meta e;
    (void)printf("%" PRIu64 " × %s [", m->count, m->type);
    for (uint64_t k = 0; k < m->count && k < 6 && mote_file_meta_at(f, i, k, &e) == MOTE_OK; k++) {
        if (k) (void)fputs(", ", stdout);
        print_value(f, i, &e);
    }
    (void)fputs(m->count > 6 ? ", …]" : "]", stdout);
}

static void print_line(const char *what, const mote_file *f, size_t i) {
    if (i == SIZE_MAX) return;
    mote_meta m = mote_file_meta(f, i);
    (void)printf("%-16s ", what);
    print_value(f, i, &m);
    (void)putchar('\n');
}

static mote_text json_text(const json_t *v) { return (mote_text){json_string_value(v), json_string_length(v)}; }

static void print_origin(const char *what, mote_text name, const json_t *hash) {
    (void)printf("%-16s ", what);
    print_text(name, 100);
    (void)fputs(" (SHA-256 ", stdout);
    print_text(json_text(hash), 64);
    (void)puts(")");
}

static void print_named_origin(const char *what, const json_t *of) { print_origin(what, json_text(json_object_get(of, "name")), json_object_get(of, "sha256")); }

/* How `mote make` made it (docs/formats/gguf.md). */
static void print_made(const mote_file *f, const char *path) {
    mote_text text = text_at(f, "mote.make");
    json_t *made = text.n ? json_loadb(text.p, text.n, 0, NULL) : NULL;
    const json_t *figures = json_object_get(made, "figures");
    bool same = false;
    size_t i;
    json_t *stage, *word;
    if (!made) return;
    (void)putchar('\n');
    const json_t *recipe = json_object_get(made, "recipe");
    const char *included;
    print_named_origin("made by recipe", recipe);
    json_object_foreach(json_object_get(recipe, "included"), included, word) print_origin("with", (mote_text){included, strlen(included)}, word);
    print_named_origin("made from", json_object_get(made, "source"));
    json_array_foreach(json_object_get(made, "stages"), i, stage) {
        size_t k;
        (void)printf("%s %2zu         ", i ? "     " : "stage", i + 1);
        json_array_foreach(json_object_get(stage, "arguments"), k, word) {
            (void)putchar(' ');
            print_text(json_text(word), 100);
        }
        (void)putchar('\n');
    }
    if (figures)
        (void)printf("measured         perplexity %.4f (%.3f times the source's), divergence %.4f, same likeliest token %.1f %%\n",
                     json_number_value(json_object_get(figures, "perplexity")),
                     json_number_value(json_object_get(figures, "perplexity")) / json_number_value(json_object_get(figures, "perplexity_from")),
                     json_number_value(json_object_get(figures, "kld")), 100 * json_number_value(json_object_get(figures, "same_top")));
    bool checked = mote_file_check_made(path, &same, NULL) == MOTE_OK;
    (void)printf("weights          %s\n", same ? "those that were made then" : checked ? "CHANGED since then: the figures are not theirs" : "not noted");
    json_decref(made);
}

static void print_summary(const mote_file *f, const char *path) {
    char size[32], tensor_size[32];
    type_total t[TYPES_MAX], all;
    size_t n = totals(f, t, &all);
    (void)printf("%-16s %s\n%-16s %s\n", "file", path, "size", cli_size(size, mote_file_bytes(f)));
    static const struct {
        const char *what, *key;
        bool own;
    } lines[] = {
        {"architecture", "general.architecture", false}, {"name", "general.name", false},
        {"licence", "general.license", false},           {"context", "context_length", true},
        {"layers", "block_count", true},                 {"width", "embedding_length", true},
        {"feed-forward", "feed_forward_length", true},   {"heads", "attention.head_count", true},
        {"KV heads", "attention.head_count_kv", true},   {"experts", "expert_count", true},
        {"experts used", "expert_used_count", true},     {"tokenizer", "tokenizer.ggml.model", false},
        {"pre-tokenizer", "tokenizer.ggml.pre", false},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        print_line(lines[i].what, f, lines[i].own ? find_own(f, lines[i].key) : mote_file_find_meta(f, lines[i].key));
    size_t tokens = mote_file_find_meta(f, "tokenizer.ggml.tokens");
    if (tokens != SIZE_MAX) (void)printf("%-16s %" PRIu64 "\n", "vocabulary", mote_file_meta(f, tokens).count);
    (void)printf("%-16s %s\n", "chat template", text_at(f, "tokenizer.chat_template").n ? "yes (--template prints it)" : "no");
    (void)printf("%-16s %" PRIu64 " (%.2f bits each)\n\n", "weights", all.weights, bits(&all));
    (void)printf("%-10s %8s %14s %10s  %s\n", "FORMAT", "TENSORS", "WEIGHTS", "SIZE", "BITS");
    for (size_t i = 0; i < n; i++)
        (void)printf("%-10s %8" PRIu64 " %14" PRIu64 " %10s  %.2f\n", t[i].type, t[i].tensors, t[i].weights,
                     cli_size(tensor_size, t[i].bytes), bits(&t[i]));
    print_made(f, path);
}

static void print_metadata(const mote_file *f) {
    (void)puts("\nMETADATA");
    for (size_t i = 0; i < mote_file_n_meta(f); i++) {
        mote_meta m = mote_file_meta(f, i);
        print_text(m.key, 200);
        (void)printf(" (%s) = ", m.type);
        print_value(f, i, &m);
        (void)putchar('\n');
    }
}

static void print_tensors(const mote_file *f) {
    (void)puts("\nTENSORS");
    for (size_t i = 0; i < mote_file_n_tensors(f); i++) {
        mote_tensor t = mote_file_tensor(f, i);
        char size[32], shape[96] = "";
        for (int d = 0; d < t.n_dims; d++) {
            size_t n = strlen(shape);
            (void)snprintf(shape + n, sizeof shape - n, "%s%" PRIu64, d ? " × " : "", t.ne[d]);
        }
        (void)printf("%-8s %-28s %10s  ", t.type, shape, cli_size(size, t.size_bytes));
        print_text(t.name, 200);
        (void)putchar('\n');
    }
}

int cmd_show(const cli_command *self, int argc, char **argv) {
    struct show_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    const char *name = o.model ? o.model : args.n ? args.v[0] : NULL;
    if (!name) return cli_usage(self, "which model? A file, a folder or a name (mote list)");
    char *path = models_resolve(name, &code);
    if (!path) return code;
    mote_file *f;
    mote_error err;
    if (mote_file_open(&f, path, &err) != MOTE_OK) code = cli_fail(&err);
    else if (o.json) code = print_json(f, path);
    else if (o.template) {
        mote_text t = text_at(f, "tokenizer.chat_template");
        (void)fwrite(t.n ? t.p : "", 1, t.n, stdout);
        code = cli_done(CLI_OK);
    } else {
        print_summary(f, path);
        if (o.metadata) print_metadata(f);
        if (o.tensors) print_tensors(f);
        code = cli_done(CLI_OK);
    }
    mote_file_close(&f);
    free(path);
    return code;
}
