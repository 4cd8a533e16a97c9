/* vocab_oracle.c: token ids against $MOTE_SHARED/oracle/vocab: every line of every vocabulary equal, and back again to
 * the same bytes where the tokenizer is lossless. The models of models.sh are compared too where they have been
 * fetched. vocab_oracle [--report] [NAME…] */
#include "oracle_util.h"
#include "report.h"
#include "token/token.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    size_t lines, equal, back, back_of;
} tally;

static int argc_, failures, rows;
static char **argv_;

static file_map load(const char *path) {
    file_map m = {0};
    mote_error e;
    if (file_open(&m, path, FILE_READ, &e) != MOTE_OK) {
        printf("%s\n", e.message);
        exit(1);
    }
    return m;
}

static str next_line(str *rest) {
    size_t end = str_find(*rest, STR("\n"), 0);
    str line = {rest->p, end == SIZE_MAX ? rest->n : end};
    size_t used = end == SIZE_MAX ? rest->n : end + 1;
    *rest = (str){rest->p + used, rest->n - used};
    return line;
}

static bool lossless(const tok_vocab *v) {
    return tok_vocab_kind(v) == TOK_KIND_BPE || tok_vocab_kind(v) == TOK_KIND_SPM;
}

static void compare(const tok_vocab *v, const char *name, str text, const json_t *want, tally *t) {
    tok_ids got = {0};
    mote_error e;
    buf back;
    buf_init(&back, (size_t)1 << 24);
    t->lines++;
    if (tok_encode(v, text, 0, &got, &e) != MOTE_OK) {
        printf("%s line %zu: %s\n", name, t->lines, e.message);
        return;
    }
    bool same = got.n == json_array_size(want);
    size_t at = 0;
    for (; same && at < got.n; at++) same = json_integer_value(json_array_get(want, at)) == got.p[at];
    t->equal += same;
    if (!same && t->lines - t->equal <= 3) printf("%s line %zu differs at token %zu\n", name, t->lines, at);
    if (lossless(v)) {
        t->back_of++;
        bool ok = tok_detokenize(v, got.p, got.n, TOK_SPECIAL | TOK_TRIM, &back, &e) == MOTE_OK;
        ok = ok && str_eq(buf_str(&back), text);
        t->back += ok;
        if (!ok && t->back_of - t->back <= 3) printf("%s line %zu does not come back\n", name, t->lines);
    }
    buf_free(&back);
    tok_ids_free(&got);
}

static void jsonl(const tok_vocab *v, const char *name, const char *ids, tally *t) {
    char path[4096];
    file_map texts = load(oracle_path(path, "vocab/text.jsonl")), want = load(oracle_path(path, "vocab/%s", ids));
    str a = {(const char *)texts.p, texts.n}, b = {(const char *)want.p, want.n};
    while (a.n) {
        json_t *text = NULL, *w = NULL;
        mote_error e;
        if (json_parse(&text, next_line(&a), "text", &e) != MOTE_OK || json_parse(&w, next_line(&b), "ids", &e) != MOTE_OK) {
            printf("%s: %s\n", name, e.message);
            exit(1);
        }
        compare(v, name, (str){json_string_value(text), json_string_length(text)}, w, t);
        json_decref(text);
        json_decref(w);
    }
    file_close(&texts);
    file_close(&want);
}

/* llama.cpp's own cases: texts between marks, one line of ids for each. */
static void inp_out(const tok_vocab *v, const char *name, tally *t) {
    char path[4096];
    static const str mark = {"\n__ggml_vocab_test__\n", 21};
    file_map in = {0};
    if (file_open(&in, oracle_path(path, "vocab/ggml-vocab-%s.gguf.inp", name), FILE_READ, NULL) != MOTE_OK) return;
    file_map out = load(oracle_path(path, "vocab/ggml-vocab-%s.gguf.out", name));
    str a = {(const char *)in.p, in.n}, b = {(const char *)out.p, out.n};
    while (a.n) {
        size_t end = str_find(a, mark, 0), len = end == SIZE_MAX ? a.n : end;
        str text = {a.p, len}, line = next_line(&b);
        a = end == SIZE_MAX ? (str){a.p, 0} : (str){a.p + end + mark.n, a.n - end - mark.n};
        json_t *want = json_array();
        for (size_t i = 0; i < line.n;) {
            size_t to = str_find(line, STR(" "), i);
            if (to == SIZE_MAX) to = line.n;
            int64_t id = 0;
            if (to > i && str_to_i64(str_sub(line, i, to - i), &id)) json_array_append_new(want, json_integer(id));
            i = to + 1;
        }
        compare(v, name, text, want, t);
        json_decref(want);
    }
    file_close(&in);
    file_close(&out);
}

static void row(const char *name, const tok_vocab *v, const tally *t) {
    char measured[128];
    bool ok = t->lines > 0 && t->equal == t->lines && t->back == t->back_of;
    (void)snprintf(measured, sizeof measured, "%zu/%zu equal, %zu/%zu back", t->equal, t->lines, t->back, t->back_of);
    if (report_wanted(argc_, argv_))
        report_row("vocab", name, measured, "all", ok ? "ok" : "FAIL", "-", tok_kind_name(tok_vocab_kind(v)));
    else printf("%-28s %-36s bar: all  %s\n", name, measured, ok ? "ok" : "FAIL");
    failures += !ok;
    rows++;
}

static void gguf(const char *name, const char *path, const char *ids, bool cases) {
    model_file *f = NULL;
    tok_vocab *v = NULL;
    mote_error e;
    tally t = {0};
    if (!oracle_wanted(name, argc_, argv_)) return;
    if (model_file_open(&f, path, MODEL_FILE_NO_TENSORS_OK, &e) != MOTE_OK || tok_open(&v, f, NULL, &e) != MOTE_OK) {
        printf("%s: %s\n", name, e.message);
        failures++;
    } else {
        jsonl(v, name, ids, &t);
        if (cases) inp_out(v, name, &t);
        row(name, v, &t);
    }
    tok_close(&v);
    model_file_close(&f);
}

static void folder(const char *name, const char *path, const char *ids) {
    mote_error e;
    tok_vocab *v = NULL;
    tally t = {0};
    if (!oracle_wanted(name, argc_, argv_)) return;
    file_map m = load(path);
    if (tok_open_json(&v, (str){(const char *)m.p, m.n}, (str){0}, NULL, &e) != MOTE_OK) {
        printf("%s: %s\n", name, e.message);
        failures++;
    } else {
        jsonl(v, name, ids, &t);
        row(name, v, &t);
    }
    tok_close(&v);
    file_close(&m);
}

/* $MOTE_MODELS or the cache models.sh fills; false when this file is not there. */
static bool model_path(char out[4096], const char *file) {
    const char *dir = getenv("MOTE_MODELS"), *home = getenv("HOME");
    if (dir && *dir) (void)snprintf(out, 4096, "%s/%s", dir, file);
    else (void)snprintf(out, 4096, "%s/.cache/mote/models/%s", home ? home : "", file);
    FILE *f = fopen(out, "rb");
    if (!f) {
        if (report_wanted(argc_, argv_)) report_row("vocab", file, "not fetched", "all", "SKIP", "-", "-");
        else printf("%-28s skipped: not fetched (models.sh)\n", file);
        return false;
    }
    (void)fclose(f);
    return true;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

int main(int argc, char **argv) {
    static const struct {
        const char *file, *name, *ids;
    } models[] = {
        {"smollm2-135m-instruct.q4_1.gguf", "smollm2", "model-smollm2-135m-q4_1.ids.jsonl"},
        {"qwen2.5-coder-0.5b-instruct.q4_k_m.gguf", "qwen2.5-coder", "model-qwen.ids.jsonl"},
        {"gemma3-270m.q4_k_m.gguf", "gemma3", "model-gemma3-270m-q4km.ids.jsonl"},
    };
    static const char *const hf[] = {"whisper-base", "all-minilm-l6-v2"};
    char dir[4096], path[4096];
    struct dirent **list;
    argc_ = argc;
    argv_ = argv;
    int n = scandir(oracle_path(dir, "vocab"), &list, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char name[256], ids[300];
        const char *file = list[i]->d_name;
        size_t len = strlen(file);
        if (strncmp(file, "ggml-vocab-", 11) == 0 && len > 16 && len < 200 && strcmp(file + len - 5, ".gguf") == 0) {
            (void)snprintf(name, sizeof name, "%.*s", (int)(len - 16), file + 11);
            (void)snprintf(ids, sizeof ids, "%s.ids.jsonl", name);
            gguf(name, oracle_path(path, "vocab/%s", file), ids, true);
        }
        free(list[i]);
    }
    if (n >= 0) free(list);
    for (size_t i = 0; i < COUNT_OF(models); i++)
        if (model_path(path, models[i].file)) gguf(models[i].name, path, models[i].ids, false);
    for (size_t i = 0; i < COUNT_OF(hf); i++) {
        char file[128], ids[128];
        (void)snprintf(file, sizeof file, "%s/tokenizer.json", hf[i]);
        (void)snprintf(ids, sizeof ids, "hf-%s.ids.jsonl", hf[i]);
        if (model_path(path, file)) folder(hf[i], path, ids);
    }
    printf("%d vocabularies, %d failures\n", rows, failures);
    return failures || rows == 0;
}
