/* make_recipe.c: the recipe as it is written, checked key by key before anything runs. */
#include "compress/maker.h"

#include "base/yaml.h"
#include "run/sampler.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is known of commands; any other is run with the `args` it is given. */
static const make_command commands[] = {
    {"imatrix", MAKE_SIDE},
    {"quantize", MAKE_MODEL | MAKE_IN_OUT},
    {"sparsify", MAKE_MODEL | MAKE_IN_OUT},
    {"prune", MAKE_MODEL | MAKE_IN_OUT},
    {"convert", MAKE_MODEL | MAKE_IN_OUT},
    {"pack", MAKE_MODEL | MAKE_IN_OUT},
    {"export", MAKE_MODEL | MAKE_IN_OUT},
    {"train", MAKE_MODEL | MAKE_TRAINS},
    {"distill", MAKE_MODEL | MAKE_TRAINS},
    {"finetune", MAKE_TRAINS | MAKE_ADAPTER},
    {"merge", MAKE_MODEL | MAKE_MERGES},
    {"generate", MAKE_DATA},
    {"eval", 0},
    {"perplexity", 0},
    {"bench", 0},
};
static const make_command other = {"", 0}, finetune_full = {"finetune", MAKE_MODEL | MAKE_TRAINS};

static bool unit(str s, const char *const *names, const double *factors, size_t n, double *out) {
    size_t k = 0;
    while (k < s.n && (strchr("0123456789.eE+", s.p[k]) && s.p[k])) k++;
    double v;
    while (k && (s.p[k - 1] | 32) == 'e') k--;
    if (!str_to_double(str_sub(s, 0, k), &v) || !(v > 0)) return false;
    while (k < s.n && s.p[k] == ' ') k++;
    str name = str_sub(s, k, s.n - k);
    for (size_t i = 0; i < n; i++)
        if (str_is(name, names[i])) return *out = v * factors[i], true;
    return false;
}

bool make_bytes(const json_t *v, uint64_t *out) {
    static const char *const names[] = {"", "B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB", "k", "M", "G"};
    static const double factors[] = {1, 1, 1e3, 1e3, 1e6, 1e9, 1024, 1048576, 1073741824, 1e3, 1e6, 1e9};
    double x;
    if (json_is_number(v)) x = json_number_value(v);
    else if (!json_is_string(v) || !unit((str){json_string_value(v), json_string_length(v)}, names, factors, COUNT_OF(names), &x)) return false;
    if (!(x >= 1 && x < 1e18)) return false;
    *out = (uint64_t)x;
    return true;
}

bool make_seconds(const json_t *v, double *out) {
    static const char *const names[] = {"", "s", "min", "m", "h", "d"};
    static const double factors[] = {1, 1, 60, 60, 3600, 86400};
    if (json_is_number(v)) *out = json_number_value(v);
    else if (!json_is_string(v) || !unit((str){json_string_value(v), json_string_length(v)}, names, factors, COUNT_OF(names), out)) return false;
    return *out > 0 && *out < 1e10;
}

/* A path of the recipe: beside it, unless absolute or not there but here. */
static bool place(const maker *m, str given, char out[MAKE_PATH_MAX]) {
    int n = given.n && given.p[0] == '/' ? snprintf(out, MAKE_PATH_MAX, "%.*s", (int)given.n, given.p)
                                         : snprintf(out, MAKE_PATH_MAX, "%s%.*s", m->dir, (int)given.n, given.p);
    return n > 0 && n < MAKE_PATH_MAX;
}

static mote_status known_keys(const json_t *v, const char *where, const char *const *keys, mote_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0) i++;
        if (!keys[i]) FAIL(err, MOTE_E_FORMAT, "%s: unknown key '%.60s'", where, key);
    }
    return MOTE_OK;
}

static mote_status read_model(maker *m, mote_error *err) {
    str name = json_get_str(m->recipe, "model"), out = m->o->out ? str_of(m->o->out) : json_get_str(m->recipe, "out");
    if (!name.n) FAIL(err, MOTE_E_FORMAT, "%s: no 'model'", m->recipe_path);
    if (!out.n) FAIL(err, MOTE_E_FORMAT, "%s: no 'out', the file to make", m->recipe_path);
    if (!place(m, name, m->source)) FAIL(err, MOTE_E_FORMAT, "%s: 'model' is too long", m->recipe_path);
    if (access(m->source, R_OK) != 0) {
        char *found = m->o->find_model ? m->o->find_model(m->o->ctx, name.p) : NULL;
        if (!found) FAIL(err, MOTE_E_NOT_FOUND, "%s: model '%.200s' is neither a file nor a known name", m->recipe_path, name.p);
        (void)snprintf(m->source, sizeof m->source, "%s", found);
        free(found);
    }
    if (m->o->out) (void)snprintf(m->out, sizeof m->out, "%s", m->o->out);
    else if (!place(m, out, m->out)) FAIL(err, MOTE_E_FORMAT, "%s: 'out' is too long", m->recipe_path);
    struct stat a, b;
    if (stat(m->source, &a) == 0 && stat(m->out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        FAIL(err, MOTE_E_USAGE, "%s: 'out' is the source model itself, which is never written", m->out);
    int n = m->o->work ? snprintf(m->work, sizeof m->work, "%s", m->o->work) : snprintf(m->work, sizeof m->work, "%s.make", m->out);
    if (n >= (int)sizeof m->work - 100) FAIL(err, MOTE_E_USAGE, "the path of the work folder is too long");
    return MOTE_OK;
}

static mote_status read_gate(maker *m, mote_error *err) {
    static const char *const gate_keys[] = {"perplexity-ratio", "kld", "top", NULL}, *const eval_keys[] = {"text", "chunks", "ctx", NULL};
    const json_t *gate = json_object_get(m->recipe, "gate"), *eval = json_object_get(m->recipe, "eval");
    if (gate && !json_is_object(gate)) FAIL(err, MOTE_E_FORMAT, "%s: 'gate' is a map: {perplexity-ratio: 1.2}", m->recipe_path);
    if (eval && !json_is_object(eval)) FAIL(err, MOTE_E_FORMAT, "%s: 'eval' is a map: {text: FILE, chunks: 16}", m->recipe_path);
    if (gate) TRY(known_keys(gate, "gate", gate_keys, err));
    if (eval) TRY(known_keys(eval, "eval", eval_keys, err));
    m->gate_ratio = json_get_num(gate, "perplexity-ratio", 0);
    m->gate_kld = json_get_num(gate, "kld", 0);
    m->gate_top = json_get_num(gate, "top", 0);
    if (gate && !(m->gate_ratio > 0) && !(m->gate_kld > 0) && !(m->gate_top > 0)) FAIL(err, MOTE_E_FORMAT, "%s: the gate has no positive bound", m->recipe_path);
    int64_t chunks = json_get_int(eval, "chunks", 8), ctx = json_get_int(eval, "ctx", 512);
    if (chunks < 1 || chunks > 100000 || ctx < 16 || ctx > 1 << 20) FAIL(err, MOTE_E_FORMAT, "%s: eval: %lld windows of %lld tokens", m->recipe_path, (long long)chunks, (long long)ctx);
    m->eval_chunks = (size_t)chunks;
    m->eval_ctx = (size_t)ctx;
    str text = json_get_str(eval, "text");
    if (text.n && (!place(m, text, m->eval_text) || access(m->eval_text, R_OK) != 0)) FAIL(err, MOTE_E_NOT_FOUND, "%s: eval: no file %.200s", m->recipe_path, text.p);
    if (m->o->no_eval && gate) FAIL(err, MOTE_E_USAGE, "the recipe has a gate, which needs the evaluation");
    return MOTE_OK;
}

/* Every stage is one, and what a finetune learns is merged before a model is made without it. */
static mote_status check_stages(const maker *m, mote_error *err) {
    const size_t none = SIZE_MAX;
    size_t adapter = none, n = make_n_stages(m);
    for (size_t i = 0; i <= n; i++) {
        const make_command *c = NULL;
        const json_t *options = NULL;
        if (i < n) TRY(make_stage_of(m, i, &c, &options, err));
        bool merges = c && c->flags & MAKE_MERGES;
        if (adapter != none && !merges && (!c || c->flags & (MAKE_MODEL | MAKE_ADAPTER)))
            FAIL(err, MOTE_E_FORMAT, "%s: stage %zu: finetune gives an adapter, no model; put 'merge: {method: gptq}' behind it, or take 'method: full'",
                 m->recipe_path, adapter + 1);
        if (merges) adapter = none;
        if (c && c->flags & MAKE_ADAPTER && !json_object_get(options, "args")) adapter = i;
    }
    return MOTE_OK;
}

const make_sampling_key make_sampling_keys[MAKE_SAMPLING_MAX] = {
    {"temp", "general.sampling.temp", false},
    {"top-k", "general.sampling.top_k", true},
    {"top-p", "general.sampling.top_p", false},
    {"min-p", "general.sampling.min_p", false},
    {"repeat-last-n", "general.sampling.penalty_last_n", true},
    {"repeat-penalty", "general.sampling.penalty_repeat", false},
    {0},
};

static mote_status read_sampling(const maker *m, mote_error *err) {
    const char *keys[MAKE_SAMPLING_MAX] = {0};
    const json_t *sampling = json_object_get(m->recipe, "sampling");
    if (sampling && !json_is_object(sampling)) FAIL(err, MOTE_E_FORMAT, "%s: 'sampling' is a map: {temp: 0.3, top-p: 0.9}", m->recipe_path);
    for (size_t i = 0; make_sampling_keys[i].name; i++) {
        const make_sampling_key *k = &make_sampling_keys[i];
        const json_t *v = json_object_get(sampling, k->name);
        keys[i] = k->name;
        if (v && !(k->whole ? json_is_integer(v) : json_is_number(v))) FAIL(err, MOTE_E_FORMAT, "%s: sampling: %s is a %s", m->recipe_path, k->name, k->whole ? "whole number" : "number");
        if (v && sampler_check_advice(k->key, k->name, json_number_value(v), err) != MOTE_OK) return err_prefix(err, MOTE_E_RANGE, "%s: sampling", m->recipe_path);
    }
    return sampling ? known_keys(sampling, "sampling", keys, err) : MOTE_OK;
}

/* The stages of an included file, behind those of `to`; its hash is kept for the note in the result. */
static mote_status include(maker *m, const char *name, json_t *to, mote_error *err) {
    char path[MAKE_PATH_MAX], hex[SHA256_HEX];
    json_t *list;
    mote_status st = MOTE_OK;
    if (!place(m, str_of(name), path)) FAIL(err, MOTE_E_FORMAT, "%s: the path to include is too long", m->recipe_path);
    TRY(sha256_file(path, hex, err));
    TRY(yaml_read(&list, path, err));
    if (!json_is_array(list) || !json_array_size(list)) FAILG(st, err, MOTE_E_FORMAT, "%s: an included file is a list of stages", path);
    if (!m->included) m->included = json_object();
    if (json_object_set_new(m->included, basename(path), json_string(hex)) != 0 || json_array_extend(to, list) != 0) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
out:
    json_decref(list);
    return st;
}

/* `stages`, with what '- include: FILE' stands for in its place. */
static mote_status read_stages(maker *m, mote_error *err) {
    const json_t *given = json_object_get(m->recipe, "stages"), *stage;
    if (!json_is_array(given) || !json_array_size(given)) FAIL(err, MOTE_E_FORMAT, "%s: 'stages' is a list of commands", m->recipe_path);
    mote_status st = MOTE_OK;
    json_t *all = json_array();
    size_t i;
    json_array_foreach(given, i, stage) {
        const json_t *file = json_object_size(stage) == 1 ? json_object_get(stage, "include") : NULL;
        if (file && !json_is_string(file)) FAILG(st, err, MOTE_E_FORMAT, "%s: stage %zu: 'include' takes a file", m->recipe_path, i + 1);
        if (file) TRYG(st, include(m, json_string_value(file), all, err));
        else if (json_array_append(all, json_array_get(given, i)) != 0) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    }
    if (json_object_set(m->recipe, "stages", all) != 0) st = ERR(err, MOTE_E_MEMORY, "out of memory");
out:
    json_decref(all);
    return st;
}

mote_status make_read(maker *m, mote_error *err) {
    static const char *const keys[] = {"model", "out", "target", "time", "eval", "gate", "stages", "data", "name", "about", "smoke", "sampling", NULL};
    TRY(yaml_read(&m->recipe, m->recipe_path, err));
    if (!json_is_object(m->recipe)) FAIL(err, MOTE_E_FORMAT, "%s: a recipe is a map with model, out and stages", m->recipe_path);
    TRY(known_keys(m->recipe, m->recipe_path, keys, err));
    (void)snprintf(m->dir, sizeof m->dir, "%.*s", (int)(basename(m->recipe_path) - m->recipe_path), m->recipe_path);
    TRY(read_model(m, err));
    TRY(read_gate(m, err));
    TRY(read_sampling(m, err));
    const json_t *target = json_object_get(m->recipe, "target"), *time = json_object_get(m->recipe, "time");
    if (target && !make_bytes(target, &m->target)) FAIL(err, MOTE_E_FORMAT, "%s: 'target' is a size like 40MB", m->recipe_path);
    if (time && !make_seconds(time, &m->time)) FAIL(err, MOTE_E_FORMAT, "%s: 'time' is a time like 90s, 20min or 2h", m->recipe_path);
    const json_t *smoke = json_object_get(m->recipe, "smoke");
    if (smoke && !json_is_boolean(smoke)) FAIL(err, MOTE_E_FORMAT, "%s: 'smoke' is true or false", m->recipe_path);
    m->smoke = !json_is_false(smoke);
    TRY(read_stages(m, err));
    if (make_n_stages(m) > MOTE_MAKE_STAGES_MAX) FAIL(err, MOTE_E_LIMIT, "%s: more than %d stages", m->recipe_path, MOTE_MAKE_STAGES_MAX);
    return check_stages(m, err);
}

size_t make_n_stages(const maker *m) { return json_array_size(json_object_get(m->recipe, "stages")); }

mote_status make_stage_of(const maker *m, size_t i, const make_command **command, const json_t **options, mote_error *err) {
    const json_t *s = json_array_get(json_object_get(m->recipe, "stages"), i);
    const char *name = NULL;
    *options = NULL;
    if (json_is_string(s)) name = json_string_value(s);
    else if (json_is_object(s) && json_object_size(s) == 1) {
        void *it = json_object_iter((json_t *)(uintptr_t)s);
        name = json_object_iter_key(it);
        *options = json_object_iter_value(it);
        if (json_is_null(*options)) *options = NULL;
    }
    if (!name || !name[0] || (*options && !json_is_object(*options)))
        FAIL(err, MOTE_E_FORMAT, "%s: stage %zu is neither 'command' nor 'command: {option: value}'", m->recipe_path, i + 1);
    if (strlen(name) >= sizeof m->r->stages->name || strcspn(name, "/ \t") != strlen(name) || name[0] == '-') FAIL(err, MOTE_E_FORMAT, "%s: stage %zu: '%.60s' is no command", m->recipe_path, i + 1, name);
    *command = &other;
    for (size_t k = 0; k < COUNT_OF(commands); k++)
        if (strcmp(commands[k].name, name) == 0) *command = &commands[k];
    if ((*command)->flags & MAKE_ADAPTER && str_is(json_get_str(*options, "method"), "full")) *command = &finetune_full;
    return MOTE_OK;
}
