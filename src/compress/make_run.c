/* make_run.c: stages: their arguments, their keys, running them, and the result into its place. */
#include "compress/maker.h"

#include "mote/version.h"
#include "run/eval_tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- small things ---- */

mote_status make_put(maker *m, make_args *a, const char *text, mote_error *err) {
    if (a->n + 1 >= MAKE_ARGS_MAX) FAIL(err, MOTE_E_LIMIT, "a stage has more than %d arguments", MAKE_ARGS_MAX);
    a->v[a->n] = arena_dup(&m->mem, str_of(text));
    if (!a->v[a->n++]) FAIL(err, MOTE_E_MEMORY, "out of memory for arguments");
    return MOTE_OK;
}

mote_status make_save_json(const char *path, const json_t *v, mote_error *err) {
    char *text = v ? json_dumps(v, JSON_INDENT(1)) : NULL;
    if (!text) FAIL(err, MOTE_E_MEMORY, "%s: out of memory", path);
    file_writer w;
    mote_status st = file_writer_open(&w, path, err);
    if (st == MOTE_OK) st = file_write(&w, text, strlen(text), err);
    if (st == MOTE_OK) st = file_writer_commit(&w, err);
    file_writer_abort(&w);
    free(text); /* jansson's */
    return st;
}

json_t *make_load_json(const char *path) {
    file_map f;
    json_t *v = NULL;
    if (file_open(&f, path, FILE_READ, NULL) != MOTE_OK) return NULL;
    if (json_parse(&v, (str){(const char *)f.p, f.n}, path, NULL) != MOTE_OK) v = NULL;
    file_close(&f);
    return v;
}

static mote_status make_folder(const char *path, mote_error *err) {
    if (mkdir(path, 0777) == 0 || file_is_dir(path)) return MOTE_OK;
    FAIL(err, MOTE_E_IO, "%s: the folder cannot be made: %s", path, strerror(errno));
}

/* The hash of a file, once per call as long as its size and time stay; of a folder: of the files a model in it has. */
mote_status make_hash(maker *m, const char *path, char hex[SHA256_HEX], mote_error *err) {
    struct stat st;
    char seen[256];
    if (stat(path, &st) != 0) FAIL(err, MOTE_E_NOT_FOUND, "%s: %s", path, strerror(errno));
    (void)snprintf(seen, sizeof seen, "%lld %lld.%ld ", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    str known = json_get_str(m->hashes, path);
    if (known.n && str_starts(known, str_of(seen))) {
        memcpy(hex, known.p + strlen(seen), SHA256_HEX);
        return MOTE_OK;
    }
    if (S_ISDIR(st.st_mode)) {
        model_file *f;
        TRY(model_file_open(&f, path, 0, err));
        sha256 *h = sha256_new();
        for (size_t i = 0; h && i < model_file_n_tensors(f); i++) {
            const tensor_info *t = model_file_tensor(f, i);
            sha256_update(h, t->name.p, t->name.n);
            sha256_update(h, t->data, t->size);
        }
        if (h) sha256_final(h, hex);
        sha256_free(h);
        model_file_close(&f);
        if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    } else TRY(sha256_file(path, hex, err));
    (void)snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s", hex);
    if (json_object_set_new(m->hashes, path, json_string(seen)) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    return MOTE_OK;
}

/* ---- arguments ---- */

#define IN "{in}"
#define OUT "{out}"

/* The bytes of the path in "FILE:WEIGHT"; all of `text` where that is a file, or no number follows a colon. */
static size_t path_bytes(const char *text) {
    const char *colon = strrchr(text, ':');
    double number;
    if (!colon || access(text, F_OK) == 0 || !str_to_double(str_of(colon + 1), &number)) return strlen(text);
    return (size_t)(colon - text);
}

bool make_is_there(const char *text, char cut[MAKE_PATH_MAX]) {
    return snprintf(cut, MAKE_PATH_MAX, "%.*s", (int)path_bytes(text), text) < MAKE_PATH_MAX && access(cut, R_OK) == 0;
}

/* "{name}" of what a stage has made, at the beginning of the text; *end: the bytes it takes there. */
static const make_named *find_named(const maker *m, str text, size_t *end) {
    for (size_t i = 0; i < m->n_named; i++) {
        const size_t n = strlen(m->named[i].name);
        *end = n + 2;
        if (text.n >= n + 2 && text.p[0] == '{' && text.p[n + 1] == '}' && memcmp(text.p + 1, m->named[i].name, n) == 0) return &m->named[i];
    }
    return NULL;
}

/* Puts what stands for itself in the place of {in}, {source}, {imatrix}, {name}; {out} stays until the key is known. A file beside
 * the recipe is given its path. */
static mote_status put_value(maker *m, make_args *a, str value, mote_error *err) {
    const struct {
        const char *name, *value;
    } places[] = {{IN, m->model}, {"{source}", m->source}, {"{imatrix}", m->imatrix}, {"{text}", m->eval_text}, {"{adapter}", m->adapter}};
    buf b;
    buf_init(&b, MAKE_PATH_MAX * 4);
    for (size_t i = 0; i < value.n;) {
        const str rest = str_sub(value, i, value.n - i);
        size_t k = 0, end;
        while (k < COUNT_OF(places) && !str_starts(rest, str_of(places[k].name))) k++;
        const make_named *d = k < COUNT_OF(places) ? NULL : find_named(m, rest, &end);
        if (k < COUNT_OF(places)) buf_puts(&b, places[k].value), i += strlen(places[k].name);
        else if (d) buf_puts(&b, d->path), i += end;
        else buf_putc(&b, value.p[i++]);
    }
    mote_status st = buf_check(&b, "argument", err);
    char beside[MAKE_PATH_MAX], cut[MAKE_PATH_MAX];
    int n = b.p && b.n && b.p[0] != '/' ? snprintf(beside, sizeof beside, "%s%s", m->dir, b.p) : 0;
    bool there = n > 0 && n < MAKE_PATH_MAX && make_is_there(beside, cut);
    if (st == MOTE_OK) st = make_put(m, a, there ? beside : b.p ? b.p : "", err);
    buf_free(&b);
    return st;
}

static mote_status put_option(maker *m, make_args *a, const char *name, const json_t *v, mote_error *err) {
    char text[64], option[128];
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++) TRY(put_option(m, a, name, json_array_get(v, i), err));
        return MOTE_OK;
    }
    if (json_is_false(v) || json_is_null(v)) return MOTE_OK;
    if (strlen(name) > 100) FAIL(err, MOTE_E_FORMAT, "%s: the option '%.60s…' is too long", m->recipe_path, name);
    (void)snprintf(option, sizeof option, "--%s", name);
    TRY(make_put(m, a, option, err));
    if (json_is_true(v)) return MOTE_OK;
    if (json_is_string(v)) return put_value(m, a, (str){json_string_value(v), json_string_length(v)}, err);
    if (json_is_integer(v)) (void)snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v)) (void)snprintf(text, sizeof text, "%.9g", json_real_value(v));
    else FAIL(err, MOTE_E_FORMAT, "%s: '%s' is a map; an option is a word, a number, true or a list of them", m->recipe_path, name);
    return make_put(m, a, text, err);
}

static bool given(const json_t *options, const char *name) { return json_object_get(options, name) != NULL; }

static bool is_quantized(const char *path) {
    model_file *f;
    bool any = false;
    if (model_file_open(&f, path, 0, NULL) != MOTE_OK) return false;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        quant_type t = model_file_tensor(f, i)->type;
        any |= t != QUANT_F32 && t != QUANT_F16 && t != QUANT_BF16;
    }
    model_file_close(&f);
    return any;
}

/* What the command wants beside its options: where models come from and go to. */
static mote_status put_usual(maker *m, make_args *a, const char *name, const make_command *c, const json_t *options, mote_error *err) {
    if (given(options, "args") && !(c->flags & MAKE_DATA)) return MOTE_OK;
    if (c->flags & (MAKE_SIDE | MAKE_TRAINS | MAKE_MERGES | MAKE_DATA)) {
        if (!given(options, "model")) {
            TRY(make_put(m, a, "-m", err));
            TRY(make_put(m, a, c->flags & MAKE_DATA ? m->source : m->model, err));
        }
        TRY(make_put(m, a, "-o", err));
        TRY(make_put(m, a, OUT, err));
    }
    if (c->flags & MAKE_TRAINS && !given(options, "data") && json_object_get(m->recipe, "data"))
        TRY(put_option(m, a, "data", json_object_get(m->recipe, "data"), err));
    if (strcmp(name, "distill") == 0 && !given(options, "teacher") && !given(options, "cache")) {
        TRY(make_put(m, a, "--teacher", err));
        TRY(make_put(m, a, m->source, err));
    }
    if (c->flags & MAKE_MERGES && m->adapter[0] && !given(options, "lora") && !given(options, "lora-scaled") && !given(options, "with")) {
        TRY(make_put(m, a, "--lora", err));
        TRY(make_put(m, a, m->adapter, err));
    }
    if (strcmp(name, "quantize") == 0) {
        if (m->imatrix[0] && !given(options, "imatrix") && !given(options, "method")) {
            TRY(make_put(m, a, "--imatrix", err));
            TRY(make_put(m, a, m->imatrix, err));
        }
        if (!given(options, "allow-requantize") && is_quantized(m->model)) TRY(make_put(m, a, "--allow-requantize", err));
    }
    if (!(c->flags & (MAKE_SIDE | MAKE_TRAINS | MAKE_MERGES | MAKE_IN_OUT | MAKE_DATA)) && c->name[0] && !given(options, "model")) {
        TRY(make_put(m, a, "-m", err));
        TRY(make_put(m, a, m->model, err));
    }
    return MOTE_OK;
}

/* Commands that try what they have made; here only the end is tried. */
static bool tries(const char *name) {
    static const char *const names[] = {"quantize", "sparsify", "prune", "distill", "merge"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static mote_status put_all(maker *m, make_args *a, size_t stage, const char *name, const make_command *c, const json_t *options, mote_error *err) {
    const char *key;
    json_t *value;
    TRY(make_put(m, a, name, err));
    TRY(put_usual(m, a, name, c, options, err));
    if (tries(name) && !given(options, "no-smoke")) TRY(make_put(m, a, "--no-smoke", err));
    str type = json_get_str(options, "type");
    bool quantizes = strcmp(name, "quantize") == 0;
    json_object_foreach((json_t *)(uintptr_t)options, key, value) {
        if (strcmp(key, "args") == 0 || (quantizes && strcmp(key, "type") == 0) || strcmp(key, "as") == 0) continue;
        TRY(put_option(m, a, key, value, err));
    }
    const json_t *args = json_object_get(options, "args");
    for (size_t i = 0; i < json_array_size(args); i++) {
        const json_t *v = json_array_get(args, i);
        if (!json_is_string(v)) FAIL(err, MOTE_E_FORMAT, "%s: stage %zu: 'args' is a list of words", m->recipe_path, stage + 1);
        TRY(put_value(m, a, (str){json_string_value(v), json_string_length(v)}, err));
    }
    if (!(c->flags & MAKE_IN_OUT) || args) return MOTE_OK;
    TRY(make_put(m, a, m->model, err));
    TRY(make_put(m, a, OUT, err));
    if (!quantizes) return MOTE_OK;
    if (!type.n) FAIL(err, MOTE_E_FORMAT, "%s: stage %zu: quantize needs a type: Q4_K_M, or auto with a target", m->recipe_path, stage + 1);
    return str_is(type, "auto") ? make_plan_types(m, a, err) : make_put(m, a, type.p, err);
}

/* ---- keys ---- */

/* How long a run is and at what rates: what may change while its learning rate stands still (schedule wsd). */
static bool is_length(const char *option) {
    static const char *const all[] = {"--steps", "--decay", "--lr-steps"};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (strcmp(option, all[i]) == 0) return true;
    return false;
}

/* whole: else without the length of a run that is open, so that it goes on in its folder. */
static mote_status key_of(maker *m, const make_args *a, bool whole, char hex[SHA256_HEX], mote_error *err) {
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    mote_status st = MOTE_OK;
    sha256_update(h, MOTE_VERSION, sizeof MOTE_VERSION);
    for (size_t i = 0; i < a->n && st == MOTE_OK; i++) {
        char content[SHA256_HEX], path[MAKE_PATH_MAX];
        struct stat s;
        if (!whole && is_length(a->v[i])) {
            i++;
            continue;
        }
        bool is_file = make_is_there(a->v[i], path) && stat(path, &s) == 0 && (S_ISREG(s.st_mode) || (S_ISDIR(s.st_mode) && i && (strcmp(a->v[i - 1], "-m") == 0 || strcmp(a->v[i - 1], "--teacher") == 0)));
        if (is_file) st = make_hash(m, path, content, err);
        if (st != MOTE_OK) break;
        if (is_file) sha256_update(h, "file ", 5), sha256_update(h, content, sizeof content);
        const char *rest = a->v[i] + (is_file ? strlen(path) : 0); /* of a file: its weight, or nothing */
        if (*rest || !is_file) sha256_update(h, rest, strlen(rest) + 1);
    }
    sha256_final(h, hex);
    sha256_free(h);
    return st;
}

/* The length of the run may change: its recipe says schedule: wsd. */
static bool is_open(const make_args *a) {
    for (size_t i = 0; i + 1 < a->n; i++)
        if (strcmp(a->v[i], "--schedule") == 0 && strcmp(a->v[i + 1], "wsd") == 0) return true;
    return false;
}

/* ---- one stage ---- */

static mote_status read_done(const json_t *done, const char *out, mote_make_stage *s, bool makes_file, bool *good) {
    struct stat st;
    *good = false;
    if (!done || !str_is(json_get_str(done, "key"), s->key)) return MOTE_OK;
    if (makes_file && (stat(out, &st) != 0 || st.st_size != json_get_int(done, "bytes", -1))) return MOTE_OK;
    s->seconds = json_get_num(done, "seconds", 0);
    s->bytes = (uint64_t)json_get_int(done, "bytes", 0);
    *good = true;
    return MOTE_OK;
}

/* What a command that failed said about it: its last line that begins with "mote" and has a colon. "": it said it elsewhere (on a terminal). */
static void last_words(const char *log, char *out, size_t cap) {
    file_map f;
    *out = 0;
    if (file_open(&f, log, FILE_READ, NULL) != MOTE_OK) return;
    str all = {(const char *)f.p, f.n};
    for (size_t at = 0; at < all.n;) {
        size_t end = MIN(str_find(all, STR("\n"), at), all.n), colon = str_find(all, STR(": "), at);
        if (str_starts(str_sub(all, at, end - at), STR("mote")) && colon < end) (void)snprintf(out, cap, "%.*s: ", (int)MIN(end - colon - 2, cap - 4), all.p + colon + 2);
        at = end + 1;
    }
    file_close(&f);
}

static mote_status run_command(maker *m, const make_args *a, const char *dir, const char *out, mote_error *err) {
    const char *argv[MAKE_ARGS_MAX];
    char log[MAKE_PATH_MAX + 32], known[MAKE_PATH_MAX], words[270];
    (void)snprintf(log, sizeof log, "%s/log.txt", dir);
    TRY(make_sensitivity(m, known, err));
    for (size_t i = 0; i < a->n; i++) argv[i] = strcmp(a->v[i], OUT) == 0 ? out : strcmp(a->v[i], MAKE_SENSITIVITY) == 0 ? known : a->v[i];
    argv[a->n] = NULL;
    int code = m->o->run(m->o->ctx, argv, a->n, log);
    if (code == 0) return MOTE_OK;
    mote_status st = code == 3 ? MOTE_E_GATE : code == 2 ? MOTE_E_USAGE : code == 4 ? MOTE_E_IO : code == 130 ? MOTE_E_CANCELLED : MOTE_E_FORMAT;
    last_words(log, words, sizeof words);
    if (st == MOTE_E_CANCELLED) FAIL(err, st, "stage '%s' was stopped: %s%s", a->v[0], words, log);
    FAIL(err, st, "stage '%s' ended with code %d: %s%s", a->v[0], code, words, log);
}

static json_t *args_json(const make_args *a) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < a->n; i++) (void)json_array_append_new(list, json_string(a->v[i]));
    return list;
}

/* Where a stage is kept, and what was noted there when it was done (NULL: nothing). A run whose length is open has one folder for all lengths, until it
 * was brought to an end with another one. */
static mote_status find_folder(maker *m, const make_args *a, mote_make_stage *s, char dir[MAKE_PATH_MAX], json_t **done, mote_error *err) {
    for (int whole = !is_open(a); whole < 2; whole++) {
        char hex[SHA256_HEX], path[MAKE_PATH_MAX + 32], folder[sizeof s->folder];
        TRY(key_of(m, a, whole, hex, err));
        (void)snprintf(folder, sizeof folder, "%.47s-%.16s", s->name, hex);
        memcpy(s->folder, folder, sizeof folder);
        if (snprintf(dir, MAKE_PATH_MAX, "%s/%s", m->work, folder) >= MAKE_PATH_MAX - 32) FAIL(err, MOTE_E_USAGE, "the path is too long");
        (void)snprintf(path, sizeof path, "%s/done.json", dir);
        *done = make_load_json(path);
        if (!*done || str_is(json_get_str(*done, "key"), s->key)) return MOTE_OK;
        json_decref(*done);
        *done = NULL;
    }
    return MOTE_OK;
}

static bool takes_model(const maker *m, const make_args *a) {
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i], m->model) == 0) return true;
    return false;
}

/* Runs the stage, or finds that it was run. out: what it makes, or its folder. */
static mote_status run_stage(maker *m, const make_args *a, const make_command *c, bool makes_file, mote_make_stage *s, char out[MAKE_PATH_MAX], mote_error *err) {
    char dir[MAKE_PATH_MAX], done_path[MAKE_PATH_MAX + 32];
    json_t *done;
    TRY(key_of(m, a, true, s->key, err));
    TRY(find_folder(m, a, s, dir, &done, err));
    (void)snprintf(out, MAKE_PATH_MAX, "%.*s/out.%s", MAKE_PATH_MAX - 16, dir, c->flags & MAKE_DATA ? "jsonl" : "gguf");
    (void)snprintf(done_path, sizeof done_path, "%s/done.json", dir);
    s->makes_model = makes_file && !(c->flags & (MAKE_SIDE | MAKE_ADAPTER | MAKE_DATA));
    mote_status st = read_done(done, out, s, makes_file, &s->cached);
    json_decref(done);
    if (m->o->dry_run && m->ahead && takes_model(m, a)) s->cached = false, s->bytes = 0, s->seconds = 0;
    if (st != MOTE_OK || s->cached || m->o->dry_run) return st;
    TRY(make_folder(dir, err));
    uint64_t began = clock_ns();
    TRY(run_command(m, a, dir, out, err));
    s->seconds = (double)(clock_ns() - began) * 1e-9;
    struct stat file = {0};
    if (makes_file && stat(out, &file) != 0) FAIL(err, MOTE_E_INTERNAL, "stage '%s' is done, but %s is not there", s->name, out);
    s->bytes = (uint64_t)file.st_size;
    json_t *v = json_pack("{s:s, s:s, s:s, s:f, s:I, s:o*}", "key", s->key, "version", MOTE_VERSION, "command", s->name, "seconds", s->seconds, "bytes",
                          (json_int_t)s->bytes, "arguments", args_json(a));
    st = make_save_json(done_path, v, err);
    json_decref(v);
    return st;
}

bool make_counts_steps(const json_t *options) {
    return given(options, "steps") || given(options, "tokens") || given(options, "epochs") || given(options, "recipe");
}

static bool told(const maker *m, size_t stage, const char *what) {
    return !m->o->progress || m->o->progress(m->o->ctx, stage, make_n_stages(m), what);
}

/* What the stage made, by its name ("as", or the command's own). */
static mote_status keep_named(maker *m, const char *command, const json_t *options, const char *path, mote_error *err) {
    const str as = json_get_str(options, "as");
    size_t end;
    char name[40];
    (void)snprintf(name, sizeof name, "{%.*s}", as.n ? (int)MIN(as.n, 32) : (int)strlen(command), as.n ? as.p : command);
    if (as.n >= sizeof m->named->name || find_named(m, str_of(name), &end)) FAIL(err, MOTE_E_FORMAT, "%s: 'as: %.40s': the name is too long, or given twice", m->recipe_path, name);
    if (m->n_named == MAKE_NAMED_MAX) FAIL(err, MOTE_E_LIMIT, "%s: more than %d stages that are called by name", m->recipe_path, MAKE_NAMED_MAX);
    make_named *d = &m->named[m->n_named++];
    (void)snprintf(d->name, sizeof d->name, "%.*s", (int)strlen(name) - 2, name + 1);
    (void)snprintf(d->path, sizeof d->path, "%s", path);
    return MOTE_OK;
}

static mote_status one_stage(maker *m, size_t i, mote_error *err) {
    const make_command *c;
    const json_t *options;
    mote_make_stage *s = &m->r->stages[i];
    make_args a = {0}, with_steps = {0};
    char out[MAKE_PATH_MAX], base_key[SHA256_HEX];
    TRY(make_stage_of(m, i, &c, &options, err));
    const json_t *stage = json_array_get(json_object_get(m->recipe, "stages"), i);
    (void)snprintf(s->name, sizeof s->name, "%s", json_is_string(stage) ? json_string_value(stage) : json_object_iter_key(json_object_iter((json_t *)(uintptr_t)stage)));
    if (!told(m, i, s->name)) FAIL(err, MOTE_E_CANCELLED, "cancelled before stage %zu (%s); what is done stays", i + 1, s->name);
    TRY(put_all(m, &a, i, s->name, c, options, err));
    bool makes_file = false;
    for (size_t k = 0; k < a.n; k++) makes_file |= strcmp(a.v[k], OUT) == 0;
    const make_args *args = &a;
    if (c->flags & MAKE_TRAINS && m->time > 0 && !make_counts_steps(options) && !m->o->dry_run) {
        TRY(key_of(m, &a, true, base_key, err));
        TRY(make_plan_steps(m, i, &a, base_key, &with_steps, err));
        args = &with_steps;
    }
    TRY(run_stage(m, args, c, makes_file, s, out, err));
    m->r->n_stages = i + 1;
    if (c->flags & MAKE_DATA || (makes_file && given(options, "as"))) TRY(keep_named(m, s->name, options, out, err));
    if (c->flags & MAKE_DATA) return MOTE_OK;
    m->ahead |= s->makes_model && !s->cached;
    if (!makes_file || (m->o->dry_run && !s->cached)) return MOTE_OK; /* there is nothing to go on with */
    (void)snprintf(c->flags & MAKE_SIDE ? m->imatrix : c->flags & MAKE_ADAPTER ? m->adapter : m->model, MAKE_PATH_MAX, "%s", out);
    if (c->flags & MAKE_MERGES) m->adapter[0] = 0;
    if (!s->makes_model || m->o->no_eval || m->o->dry_run) return MOTE_OK;
    if (!told(m, i, "measuring")) FAIL(err, MOTE_E_CANCELLED, "cancelled after stage %zu (%s)", i + 1, s->name);
    return make_measure(m, m->model, s, err);
}

/* ---- the end ---- */

static mote_status copy_into_place(maker *m, mote_error *err) {
    file_map f;
    file_writer w;
    TRY(file_open(&f, m->model, FILE_MAP, err));
    mote_status st = file_writer_open(&w, m->out, err);
    for (size_t at = 0; st == MOTE_OK && at < f.n; at += (size_t)1 << 24) st = file_write(&w, f.p + at, MIN(f.n - at, (size_t)1 << 24), err);
    if (st == MOTE_OK) st = file_writer_commit(&w, err);
    file_writer_abort(&w);
    file_close(&f);
    return st;
}

static mote_status judge(maker *m, mote_error *err) {
    mote_make_report *r = m->r;
    double ratio = r->ppl_from > 0 ? r->ppl_to / r->ppl_from : 0;
    if (m->target && r->bytes_to > m->target)
        FAIL(err, MOTE_E_LIMIT, "the model has %.1f MB, the target is %.1f MB; nothing was replaced. A stage 'quantize: {type: auto}' is planned from the target",
             (double)r->bytes_to * 1e-6, (double)m->target * 1e-6);
    if (m->gate_ratio > 0 && !(ratio <= m->gate_ratio))
        FAIL(err, MOTE_E_GATE, "the perplexity is %.3f times the source's, the gate is %.3f; nothing was replaced (%s)", ratio, m->gate_ratio, r->report);
    if (m->gate_kld > 0 && !(r->kld <= m->gate_kld)) FAIL(err, MOTE_E_GATE, "the divergence is %.4f nats, the gate is %.4f; nothing was replaced (%s)", r->kld, m->gate_kld, r->report);
    if (m->gate_top > 0 && !(r->top >= m->gate_top)) FAIL(err, MOTE_E_GATE, "%.1f %% of the likeliest tokens are the source's, the gate is %.1f %%; nothing was replaced (%s)", r->top * 100, m->gate_top * 100, r->report);
    if (r->smoke_broken)
        FAIL(err, MOTE_E_GATE, "the result fails the smoke test (%s); nothing was replaced ('smoke: false' in the recipe leaves the test out)", r->smoke);
    r->gate_passed = true;
    return MOTE_OK;
}

/* A few questions to the result, and to the source where it looks broken. */
static mote_status try_out(maker *m, mote_error *err) {
    mote_make_report *r = m->r;
    mote_smoke_check c = {.size = sizeof c};
    if (!m->smoke || m->o->no_eval) return MOTE_OK;
    TRY(eval_smoke_check(m->model, m->source, m->o->n_threads, &c, err));
    r->smoke_broken = c.broken;
    const mote_smoke_result *a = &c.model;
    if (c.ran) (void)snprintf(r->smoke, sizeof r->smoke, "of %zu answers %zu loop, %zu are empty, %zu stop at logits that are not numbers", a->n_answers, a->n_loops, a->n_empty, a->n_broken);
    else (void)snprintf(r->smoke, sizeof r->smoke, "skipped: %.230s", c.why);
    return MOTE_OK;
}

mote_status make_all(maker *m, mote_error *err) {
    mote_make_report *r = m->r;
    char plan[MAKE_PATH_MAX + 32], noted[MAKE_PATH_MAX + 32], before[SHA256_HEX], after[SHA256_HEX];
    struct stat st;
    if (!m->o->dry_run) TRY(make_folder(m->work, err));
    (void)snprintf(plan, sizeof plan, "%s/plan.json", m->work);
    m->plan = make_load_json(plan);
    if (!json_is_object(m->plan)) {
        json_decref(m->plan);
        m->plan = json_object();
    }
    TRY(make_hash(m, m->source, before, err));
    (void)snprintf(m->model, sizeof m->model, "%s", m->source);
    (void)snprintf(r->out, sizeof r->out, "%s", m->out);
    r->target_bytes = m->target;
    r->bytes_from = stat(m->source, &st) == 0 ? (uint64_t)st.st_size : 0;
    mote_make_stage from = {.name = "source"};
    if (!m->o->no_eval && !m->o->dry_run) {
        if (!told(m, 0, "measuring the source")) FAIL(err, MOTE_E_CANCELLED, "cancelled");
        TRY(make_measure(m, m->source, &from, err));
        r->ppl_from = from.ppl;
    }
    for (size_t i = 0; i < make_n_stages(m); i++) TRY(one_stage(m, i, err));
    if (m->o->dry_run) return MOTE_OK;
    for (size_t i = 0; i < r->n_stages; i++)
        if (r->stages[i].makes_model) r->ppl_to = r->stages[i].ppl, r->kld = r->stages[i].kld, r->top = r->stages[i].top;
    if (strcmp(m->model, m->source) == 0) FAIL(err, MOTE_E_USAGE, "%s: no stage makes a model", m->recipe_path);
    (void)snprintf(noted, sizeof noted, "%s/result.gguf", m->work);
    TRY(make_note(m, noted, err));
    (void)snprintf(m->model, sizeof m->model, "%.*s", MAKE_PATH_MAX - 1, noted);
    if (stat(m->model, &st) != 0) FAIL(err, MOTE_E_IO, "%s: %s", m->model, strerror(errno));
    r->bytes_to = (uint64_t)st.st_size;
    r->seconds = (double)(clock_ns() - m->began_ns) * 1e-9;
    TRY(make_hash(m, m->source, after, err));
    if (strcmp(before, after) != 0) FAIL(err, MOTE_E_MISMATCH, "%s: the source has changed meanwhile", m->source);
    if (!told(m, make_n_stages(m) - 1, "trying it out")) FAIL(err, MOTE_E_CANCELLED, "cancelled at the end; what is done stays");
    TRY(try_out(m, err));
    mote_error why = {0};
    (void)snprintf(r->report, sizeof r->report, "%.*s/report/report.md", MAKE_PATH_MAX - 32, m->work);
    mote_status verdict = judge(m, &why);
    TRY(make_report(m, err));
    if (verdict != MOTE_OK) {
        if (err) *err = why;
        return verdict;
    }
    return copy_into_place(m, err);
}

mote_status make_recipe(const char *recipe, const mote_make_options *o, mote_make_report *report, mote_error *err) {
    mote_make_report own;
    maker *m = MEM_NEW(maker);
    if (!m) FAIL(err, MOTE_E_MEMORY, "out of memory");
    m->o = o;
    m->r = report ? report : &own;
    *m->r = (mote_make_report){0};
    m->recipe_path = recipe;
    m->began_ns = clock_ns();
    m->hashes = json_object();
    arena_init(&m->mem, (size_t)64 << 20);
    mote_status st = m->hashes ? make_read(m, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    if (st == MOTE_OK) st = make_all(m, err);
    json_decref(m->recipe);
    json_decref(m->included);
    json_decref(m->plan);
    json_decref(m->hashes);
    arena_free(&m->mem);
    engine_release(m->engine);
    mem_free(m);
    return st;
}
