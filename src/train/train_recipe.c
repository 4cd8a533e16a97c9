#include "train/train_recipe.h"

enum { SOURCES_MAX = 10000 };

#define SHAPE(name, kind, field) {name, SETTING_##kind, offsetof(mote_train_options, shape.field)}
#define OPTION(name, kind, field) {name, SETTING_##kind, offsetof(mote_train_options, field)}
static const setting model_table[] = {
    SHAPE("arch", STR, arch), SHAPE("depth", COUNT, depth), SHAPE("width", COUNT, width), SHAPE("heads", COUNT, n_head),
    SHAPE("kv_heads", COUNT, n_head_kv), SHAPE("ff", COUNT, n_ff), SHAPE("context", COUNT, n_ctx), SHAPE("vocab", COUNT, n_vocab),
    SHAPE("untied", BOOL, untied), SHAPE("rope_base", NUM, rope_base), OPTION("from", STR, model), OPTION("tokenizer", STR, tokenizer), {0},
};
static const setting eval_table[] = {
    OPTION("data", STR, eval_data), OPTION("held_out", NUM, held_out), OPTION("sample_tokens", COUNT, sample_tokens),
    OPTION("sample_prompt", STR, sample_prompt), {0},
};
static const setting skip_table[] = {OPTION("dropout", NUM, layer_dropout), OPTION("exit", NUM, early_exit), {0}};
static const setting out_table[] = {OPTION("path", STR, out), OPTION("type", STR, out_type), {0}};
static const setting source_table[] = {
    {"path", SETTING_STR, offsetof(mote_train_source, path)},   {"weight", SETTING_NUM, offsetof(mote_train_source, weight)},
    {"from", SETTING_NUM, offsetof(mote_train_source, from)},   {"until", SETTING_NUM, offsetof(mote_train_source, until)}, {0},
};

/* A path, or a map with more to say. */
static mote_status source(mote_train_source *s, const json_t *v, const char *what, mote_error *err) {
    if (json_is_string(v)) {
        s->path = json_string_value(v);
        return MOTE_OK;
    }
    char place[300];
    (void)snprintf(place, sizeof place, "%.280s: data", what);
    TRY(settings_read(s, source_table, v, place, err));
    if (!s->path) FAIL(err, MOTE_E_FORMAT, "%s: an entry without a path", place);
    return MOTE_OK;
}

static mote_status sources(train_recipe *r, const json_t *v, const char *what, mote_error *err) {
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n == 0 || n > SOURCES_MAX) FAIL(err, MOTE_E_FORMAT, "%s: data: %zu files, expected 1 to %d", what, n, SOURCES_MAX);
    r->data = MEM_NEW_N(mote_train_source, n);
    if (!r->data) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) TRY(source(&r->data[i], json_is_array(v) ? json_array_get(v, i) : v, what, err));
    r->o.data = r->data;
    r->o.n_data = n;
    return MOTE_OK;
}

static mote_status section(train_recipe *r, const char *key, const json_t *v, mote_error *err) {
    char what[300];
    const char *path = r->o.recipe;
    (void)snprintf(what, sizeof what, "%.240s: %s", path, key);
    if (strcmp(key, "model") == 0) return settings_read(&r->o, model_table, v, what, err);
    if (strcmp(key, "train") == 0) return settings_read(&r->o.settings, train_settings_table, v, what, err);
    if (strcmp(key, "eval") == 0) return settings_read(&r->o, eval_table, v, what, err);
    if (strcmp(key, "data") == 0) return r->o.n_data ? MOTE_OK : sources(r, v, path, err);
    if (strcmp(key, "order") == 0 && json_is_string(v)) {
        if (!r->o.order) r->o.order = json_string_value(v);
        return MOTE_OK;
    }
    if (strcmp(key, "out") == 0 && json_is_string(v)) {
        if (!r->o.out) r->o.out = json_string_value(v);
        return MOTE_OK;
    }
    if (strcmp(key, "layer_skip") == 0) return settings_read(&r->o, skip_table, v, what, err);
    if (strcmp(key, "out") == 0) return settings_read(&r->o, out_table, v, what, err);
    FAIL(err, MOTE_E_FORMAT, "%s: '%.60s' is not known here; known are model, data, order, train, layer_skip, eval, out", path, key);
}

mote_status train_recipe_open(train_recipe *r, const mote_train_options *o, mote_error *err) {
    *r = (train_recipe){.o = *o};
    if (!o->recipe) return MOTE_OK;
    mote_status s = yaml_read(&r->tree, o->recipe, err);
    if (s == MOTE_OK && !json_is_object(r->tree)) s = ERR(err, MOTE_E_FORMAT, "%s: expected a map: model, data, train, eval, out", o->recipe);
    const char *key;
    json_t *v;
    if (s == MOTE_OK) {
        json_object_foreach(r->tree, key, v) {
            s = section(r, key, v, err);
            if (s != MOTE_OK) break;
        }
    }
    if (s != MOTE_OK) train_recipe_close(r);
    return s;
}

void train_recipe_close(train_recipe *r) {
    json_decref(r->tree);
    mem_free(r->data);
    *r = (train_recipe){0};
}
