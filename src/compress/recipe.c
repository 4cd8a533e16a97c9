/* recipe.c: reading llm-compressor's recipes. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "compress/recipe.h"

#include "base/yaml.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- names ---- */

const char *recipe_module(str tensor, char *dst, size_t cap) {
    static const char *const names[][2] = {
        {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},  {"attn_v", "self_attn.v_proj"},
        {"attn_output", "self_attn.o_proj"}, {"attn_qkv", "self_attn.qkv_proj"}, {"ffn_gate", "mlp.gate_proj"},
        {"ffn_up", "mlp.up_proj"},           {"ffn_down", "mlp.down_proj"},   {"ffn_gate_exps", "mlp.experts.gate_proj"},
        {"ffn_up_exps", "mlp.experts.up_proj"}, {"ffn_down_exps", "mlp.experts.down_proj"}};
    if (str_ends(tensor, STR(".weight"))) tensor.n -= strlen(".weight");
    size_t dot = str_starts(tensor, STR("blk.")) ? str_find(tensor, STR("."), 4) : SIZE_MAX;
    (void)snprintf(dst, cap, "%.*s", STR_ARG(tensor));
    if (str_is(tensor, "output")) (void)snprintf(dst, cap, "lm_head");
    if (str_is(tensor, "token_embd")) (void)snprintf(dst, cap, "model.embed_tokens");
    for (size_t i = 0; dot != SIZE_MAX && i < COUNT_OF(names); i++) {
        if (!str_is(str_sub(tensor, dot + 1, tensor.n - dot - 1), names[i][0])) continue;
        (void)snprintf(dst, cap, "model.layers.%.*s.%s", (int)(dot - 4), tensor.p + 4, names[i][1]);
    }
    return dst;
}

/* ---- schemes ---- */

static bool same_word(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        if ((*a | 32) != (*b | 32)) return false;
    }
    return *a == *b;
}

static mote_status set_type(recipe *r, const char *type, mote_error *err) {
    if (r->type && strcmp(r->type, type)) {
        FAIL(err, MOTE_E_UNSUPPORTED, "the recipe asks for %s and for %s; give one scheme here, and the exceptions with --tensor-type", r->type, type);
    }
    r->type = type;
    return MOTE_OK;
}

static mote_status scheme_by_name(recipe *r, const char *name, mote_error *err) {
    static const char *const schemes[][2] = {
        {"W4A16", "Q4_0"}, {"W4A16_ASYM", "Q4_1"}, {"W8A16", "Q8_0"}, {"W8A8", "Q8_0"}, {"INT8", "Q8_0"}, {"W4A8", "Q4_0"},
        {"W3A16", "Q3_K_S"}, {"W2A16", "Q2_K_S"}, {"W5A16", "Q5_0"}, {"W6A16", "Q6_K"}, {"NVFP4", "NVFP4"}, {"NVFP4A16", "NVFP4"},
        {"MXFP4", "MXFP4"}, {"MXFP4A16", "MXFP4"}};
    if (!strncmp(name, "GGUF:", 5)) return set_type(r, name + 5, err); /* auto-round's way to say it */
    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        if (same_word(name, schemes[i][0])) return set_type(r, schemes[i][1], err);
    }
    FAIL(err, MOTE_E_UNSUPPORTED, "scheme '%s' has no counterpart in GGUF; W4A16, W4A16_ASYM, W8A16, W8A8, W4A8, W3A16, W2A16, NVFP4, MXFP4 "
         "and GGUF:TYPE do", name);
}

/* weights: {num_bits, type, symmetric, strategy, group_size, …} */
static mote_status scheme_by_weights(recipe *r, const json_t *w, mote_error *err) {
    static const char *const known[] = {"num_bits", "type", "symmetric", "strategy", "group_size", "observer", "observer_kwargs", "dynamic", "actorder", "block_structure"};
    static const char *const by_bits[9][2] = {[2] = {"Q2_K_S", "Q2_K_S"}, [3] = {"Q3_K_S", "Q3_K_S"}, [4] = {"Q4_1", "Q4_0"},
                                              [5] = {"Q5_1", "Q5_0"},     [6] = {"Q6_K", "Q6_K"},     [8] = {"Q8_0", "Q8_0"}};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)w, key, value) {
        bool ok = false;
        for (size_t i = 0; i < COUNT_OF(known); i++) ok |= !strcmp(key, known[i]);
        if (!ok) FAIL(err, MOTE_E_UNSUPPORTED, "weights: '%s' is not known", key);
    }
    int64_t bits = json_get_int(w, "num_bits", 0), group = json_get_int(w, "group_size", 32);
    str type = json_get_str(w, "type");
    if (type.p && str_is(type, "float")) {
        if (bits == 4) return set_type(r, group == 32 ? "MXFP4" : "NVFP4", err);
        FAIL(err, MOTE_E_UNSUPPORTED, "weights of %lld-bit floats have no counterpart in GGUF; int 8 does (Q8_0)", (long long)bits);
    }
    if (bits < 2 || bits > 8 || !by_bits[bits][0]) FAIL(err, MOTE_E_UNSUPPORTED, "weights of %lld bits are not possible: 2 to 6, or 8", (long long)bits);
    return set_type(r, by_bits[bits][json_get_bool(w, "symmetric", true)], err);
}

/* ---- lists of modules ---- */

static mote_status add_pattern(recipe *r, const char *text, const char ***list, size_t *n, mote_error *err) {
    size_t len = strlen(text);
    char *p = arena_alloc(&r->mem, 2 * len + 32, 1);
    const char **grown = ARENA_NEW_N(&r->mem, const char *, *n + 1);
    if (!p || !grown) FAIL(err, MOTE_E_MEMORY, "out of memory for the recipe");
    if (!strncmp(text, "re:", 3)) {
        (void)snprintf(p, 2 * len + 32, "^(?:%s)", text + 3); /* Python's re.match */
    } else {
        char *q = p;
        q += snprintf(q, 8, "^");
        for (const char *c = text; *c; c++) {
            if (strchr("\\^$.|?*+()[]{}", *c)) *q++ = '\\';
            *q++ = *c;
        }
        *q++ = '$';
        *q = 0;
    }
    for (size_t i = 0; i < *n; i++) grown[i] = (*list)[i];
    grown[(*n)++] = p;
    *list = grown;
    return MOTE_OK;
}

static mote_status read_modules(recipe *r, const char *modifier, const char *key, const json_t *value, mote_error *err) {
    bool ignore = !strcmp(key, "ignore");
    size_t i, count = json_is_array(value) ? json_array_size(value) : 1;
    for (i = 0; i < count; i++) {
        const json_t *v = json_is_array(value) ? json_array_get(value, i) : value;
        const char *s = json_string_value(v);
        if (json_is_null(v)) continue;
        if (!s) FAIL(err, MOTE_E_FORMAT, "%s: '%s' must be a list of names", modifier, key);
        if (!ignore && (!strcmp(s, "Linear") || !strcmp(s, "__ALL__"))) continue; /* all there are */
        if (!ignore && strncmp(s, "re:", 3) && s[0] >= 'A' && s[0] <= 'Z') {
            FAIL(err, MOTE_E_UNSUPPORTED, "%s: targets '%s': of classes only Linear is known here; use re: and the name", modifier, s);
        }
        TRY(ignore ? add_pattern(r, s, &r->ignore, &r->n_ignore, err) : add_pattern(r, s, &r->targets, &r->n_targets, err));
    }
    return MOTE_OK;
}

/* ---- modifiers ---- */

enum { SCALES = 1, PRUNES = 2, ROUNDS = 4 };
static const struct modifier {
    const char *name, *method;
    int does;
} modifiers[] = {
    {"GPTQModifier", "gptq", ROUNDS},         {"AWQModifier", "awq", SCALES | ROUNDS},
    {"SmoothQuantModifier", "smoothquant", SCALES}, {"QuantizationModifier", "nearest", ROUNDS},
    {"AutoRoundModifier", "autoround", ROUNDS}, {"SparseGPTModifier", "sparsegpt", PRUNES},
    {"WandaPruningModifier", "wanda", PRUNES},
};

static mote_status number(const char *modifier, const char *key, const json_t *v, double lo, double hi, double *out, mote_error *err) {
    if (!json_is_number(v) || !(json_number_value(v) >= lo) || !(json_number_value(v) <= hi)) {
        FAIL(err, MOTE_E_RANGE, "%s: '%s' must be a number from %g to %g", modifier, key, lo, hi);
    }
    *out = json_number_value(v);
    return MOTE_OK;
}

static mote_status read_groups(recipe *r, const char *modifier, const json_t *groups, mote_error *err) {
    const char *name;
    json_t *group;
    if (!json_is_object(groups)) FAIL(err, MOTE_E_FORMAT, "%s: config_groups must be a map", modifier);
    json_object_foreach((json_t *)(uintptr_t)groups, name, group) {
        const char *key;
        json_t *v;
        if (!json_is_object(group)) {
            FAIL(err, MOTE_E_FORMAT, "%s: config_groups: '%s' must be a map", modifier, name);
        }
        json_object_foreach(group, key, v) {
            if (!strcmp(key, "targets")) TRY(read_modules(r, modifier, key, v, err));
            else if (!strcmp(key, "weights")) TRY(scheme_by_weights(r, v, err));
            else if (strcmp(key, "input_activations") && strcmp(key, "format") && !(json_is_null(v) && !strcmp(key, "output_activations"))) {
                FAIL(err, MOTE_E_UNSUPPORTED, "%s: config_groups: '%s' is not known", modifier, key);
            }
        }
    }
    return MOTE_OK;
}

/* "2:4", "unstructured", "0:0". */
static mote_status read_mask(recipe *r, const char *modifier, const json_t *v, mote_error *err) {
    str s = {json_string_value(v), json_string_length(v)};
    int64_t keep = 0, of = 0;
    const char *colon = s.p ? memchr(s.p, ':', s.n) : NULL;
    size_t at = colon ? (size_t)(colon - s.p) : 0;
    if (s.p && (str_is(s, "unstructured") || str_is(s, "0:0"))) return MOTE_OK;
    bool ok = colon && str_to_i64(str_sub(s, 0, at), &keep) && str_to_i64(str_sub(s, at + 1, s.n - at - 1), &of);
    if (!ok || keep < 1 || of <= keep || of > 32) FAIL(err, MOTE_E_USAGE, "%s: mask_structure must be N:M, like \"2:4\", or \"unstructured\"", modifier);
    r->o.keep = (int)keep;
    r->o.of = (int)of;
    return MOTE_OK;
}

/* Keys that only steer how llm-compressor uses memory or order: the result does not hang on them. */
static bool harmless(const char *key) {
    static const char *const keys[] = {"sequential_update", "sequential_targets", "offload_hessians", "offload_device", "offload_cache",
                                       "num_calibration_steps", "calibration_function", "quantize", "disable_quantization_observer_epoch"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        if (!strcmp(key, keys[i])) return true;
    }
    return false;
}

static mote_status read_order(recipe *r, const char *modifier, const json_t *v, mote_error *err) {
    const char *s = json_string_value(v);
    if (json_is_null(v)) return MOTE_OK;
    if (s && (!strcmp(s, "static") || !strcmp(s, "weight"))) {
        r->o.no_act_order = false;
        return MOTE_OK;
    }
    FAIL(err, MOTE_E_UNSUPPORTED, "%s: actorder '%s' regroups columns, which no GGUF format can hold; \"static\" can be had", modifier, s ? s : "?");
}

static mote_status read_field(recipe *r, const struct modifier *m, const char *key, const json_t *v, mote_error *err) {
    double x = 0;
    mote_calibrate_options *o = &r->o;
    if (!strcmp(key, "targets") || !strcmp(key, "ignore")) return read_modules(r, m->name, key, v, err);
    if (harmless(key) || (json_is_null(v) && strcmp(key, "scheme"))) return MOTE_OK;
    if (m->does & ROUNDS) {
        if (!strcmp(key, "scheme") && json_is_string(v)) return scheme_by_name(r, json_string_value(v), err);
        if (!strcmp(key, "config_groups")) return read_groups(r, m->name, v, err);
        if (!strcmp(key, "actorder") && !strcmp(m->method, "gptq")) return read_order(r, m->name, v, err);
    }
    bool feedback = !strcmp(m->method, "gptq") || !strcmp(m->method, "sparsegpt");
    if (feedback && !strcmp(key, "dampening_frac")) return number(m->name, key, v, 1e-9, 100, &o->damp, err);
    if (feedback && !strcmp(key, "block_size")) {
        TRY(number(m->name, key, v, 32, 256, &x, err));
        o->block = (size_t)x;
        return MOTE_OK;
    }
    if (!strcmp(m->method, "smoothquant") && !strcmp(key, "smoothing_strength")) return number(m->name, key, v, 0.01, 1, &o->alpha, err);
    if (!strcmp(m->method, "awq") && !strcmp(key, "n_grid")) {
        TRY(number(m->name, key, v, 1, 1000, &x, err));
        o->n_grid = (size_t)x;
        return MOTE_OK;
    }
    if (!strcmp(m->method, "awq") && !strcmp(key, "duo_scaling") && json_is_true(v)) return MOTE_OK;
    if (!strcmp(m->method, "autoround") && (!strcmp(key, "iters") || !strcmp(key, "lr"))) {
        TRY(number(m->name, key, v, 0, 1e6, &x, err));
        if (key[0] == 'l') o->lr = x;
        else o->steps = (size_t)x;
        return MOTE_OK;
    }
    if ((m->does & PRUNES) && !strcmp(key, "sparsity")) return number(m->name, key, v, 0, 0.99, &o->sparsity, err);
    if ((m->does & PRUNES) && !strcmp(key, "mask_structure")) return read_mask(r, m->name, v, err);
    FAIL(err, MOTE_E_UNSUPPORTED, "%s: '%s' is not known, or cannot be followed", m->name, key);
}

static mote_status read_modifier(recipe *r, const char *name, const json_t *fields, mote_error *err) {
    const struct modifier *m = NULL;
    const char *key;
    json_t *v;
    for (size_t i = 0; i < COUNT_OF(modifiers); i++) {
        if (!strcmp(name, modifiers[i].name)) m = &modifiers[i];
    }
    if (!m) {
        FAIL(err, MOTE_E_UNSUPPORTED, "modifier '%s' is not known; GPTQModifier, AWQModifier, SmoothQuantModifier, QuantizationModifier, "
             "AutoRoundModifier, SparseGPTModifier and WandaPruningModifier are", name);
    }
    mote_calibrate_options *o = &r->o;
    if ((m->does & SCALES) && o->scale) FAIL(err, MOTE_E_UNSUPPORTED, "%s: the recipe scales with %s already", name, o->scale);
    if ((m->does & PRUNES) && o->prune) FAIL(err, MOTE_E_UNSUPPORTED, "%s: the recipe prunes with %s already", name, o->prune);
    bool scaled_only = o->scale && !strcmp(o->scale, "awq") && o->round && !strcmp(o->round, "nearest"); /* AWQ, then a better rounding */
    if ((m->does & ROUNDS) && o->round && !scaled_only) FAIL(err, MOTE_E_UNSUPPORTED, "%s: the recipe rounds with %s already", name, o->round);
    if (m->does & SCALES) o->scale = m->method;
    if (m->does & PRUNES) o->prune = m->method;
    if (m->does & ROUNDS) o->round = m->does & SCALES ? "nearest" : m->method;
    if (json_is_null(fields)) return MOTE_OK;
    if (!json_is_object(fields)) FAIL(err, MOTE_E_FORMAT, "%s: its settings must be a map", name);
    json_object_foreach((json_t *)(uintptr_t)fields, key, v) TRY(read_field(r, m, key, v, err));
    if ((m->does & PRUNES) && o->of) {
        double share = 1 - (double)o->keep / (double)o->of;
        if (o->sparsity > 0 && (o->sparsity < share - 0.01 || o->sparsity > share + 0.01)) {
            FAIL(err, MOTE_E_USAGE, "%s: sparsity %g and mask_structure %d:%d do not agree", name, o->sparsity, o->keep, o->of);
        }
        o->sparsity = 0;
    }
    return MOTE_OK;
}

static bool ends(const char *s, const char *with) { return str_ends(str_of(s), str_of(with)); }

/* Stages hold groups of modifiers; either level may be left out. */
static mote_status read_level(recipe *r, const json_t *map, int depth, mote_error *err) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)map, key, v) {
        if (ends(key, "Modifier")) {
            TRY(read_modifier(r, key, v, err));
        } else if (json_is_object(v) && depth < 2 && (ends(key, "stage") || ends(key, "modifiers") || ends(key, "mods"))) {
            TRY(read_level(r, v, depth + 1, err));
        } else if (strcmp(key, "run_type") && strcmp(key, "version") && strcmp(key, "args")) {
            FAIL(err, MOTE_E_UNSUPPORTED, "'%s' is neither a stage, nor a group of modifiers, nor a modifier", key);
        }
    }
    return MOTE_OK;
}

static mote_status read_tree(recipe *r, const mote_calibrate_options *base, mote_error *err) {
    r->o = *base;
    r->o.scale = r->o.prune = r->o.round = NULL;
    if (!json_is_object(r->tree)) FAIL(err, MOTE_E_FORMAT, "a recipe is a map of stages");
    TRY(read_level(r, r->tree, 0, err));
    if (!r->o.scale && !r->o.prune && !r->o.round) FAIL(err, MOTE_E_FORMAT, "the recipe has no modifier");
    if (r->o.round && !r->type && !base->quantize.type) {
        FAIL(err, MOTE_E_USAGE, "the recipe rounds, and says neither scheme nor config_groups; or give a TYPE");
    }
    if (!base->quantize.type) r->o.quantize.type = r->type;
    return MOTE_OK;
}

mote_status recipe_parse(recipe *r, str text, const char *name, const mote_calibrate_options *base, mote_error *err) {
    *r = (recipe){0};
    arena_init(&r->mem, (size_t)16 << 20);
    TRY(yaml_parse(&r->tree, text, name, err));
    mote_status s = read_tree(r, base, err);
    return s == MOTE_OK ? s : err_prefix(err, s, "recipe %s", name);
}

mote_status recipe_open(recipe *r, const char *path, const mote_calibrate_options *base, mote_error *err) {
    *r = (recipe){0};
    arena_init(&r->mem, (size_t)16 << 20);
    TRY(yaml_read(&r->tree, path, err));
    mote_status s = read_tree(r, base, err);
    return s == MOTE_OK ? s : err_prefix(err, s, "recipe %s", path);
}

void recipe_free(recipe *r) {
    json_decref(r->tree);
    arena_free(&r->mem);
    *r = (recipe){0};
}

/* ---- what it means for a model ---- */

/* Whether a pattern matches the module or one of those that it is part of (model.layers.3). */
static mote_status matches(const char *const *patterns, size_t n, const char *module, bool *out, mote_error *err) {
    *out = false;
    for (size_t i = 0; i < n && !*out; i++) {
        int code;
        size_t at;
        pcre2_code *c = pcre2_compile((const unsigned char *)patterns[i], PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
        pcre2_match_data *m = pcre2_match_data_create(1, NULL);
        if (!c || !m) {
            pcre2_code_free(c);
            pcre2_match_data_free(m);
            FAIL(err, MOTE_E_USAGE, "'%s' is no regular expression (at character %zu)", patterns[i], at);
        }
        for (size_t len = strlen(module); len && !*out; len--) {
            if (module[len] && module[len] != '.') continue;
            *out = pcre2_match(c, (const unsigned char *)module, len, 0, 0, m, NULL) >= 0;
        }
        pcre2_match_data_free(m);
        pcre2_code_free(c);
    }
    return MOTE_OK;
}

mote_status recipe_bind(recipe *r, const model_file *f, mote_error *err) {
    mote_calibrate_options *o = &r->o;
    size_t n = model_file_n_tensors(f), n_types = o->quantize.n_overrides, n_left = o->n_ignore;
    mote_tensor_type *types = ARENA_NEW_N(&r->mem, mote_tensor_type, n + n_types + 1);
    const char **left = ARENA_NEW_N(&r->mem, const char *, n + n_left + 1);
    if (!types || !left) FAIL(err, MOTE_E_MEMORY, "out of memory for the recipe");
    for (size_t i = 0; i < n_types; i++) types[i] = o->quantize.overrides[i]; /* the command line comes first */
    for (size_t i = 0; i < n_left; i++) left[i] = o->ignore[i];
    bool tied = !model_file_find_tensor(f, "output.weight");
    for (size_t i = 0; i < n; i++) {
        const tensor_info *t = model_file_tensor(f, i);
        char module[192], pattern[200];
        bool in = false, out = false;
        if (t->n_dims < 2) continue;
        (void)recipe_module(t->name, module, sizeof module);
        if (tied && str_is(t->name, "token_embd.weight")) (void)snprintf(module, sizeof module, "lm_head");
        TRY(matches(r->ignore, r->n_ignore, module, &out, err));
        if (r->n_targets) TRY(matches(r->targets, r->n_targets, module, &in, err));
        bool embedding = str_is(t->name, "token_embd.weight") || str_is(t->name, "output.weight");
        if (!out && (!r->n_targets || in || embedding)) continue; /* targets speak of layers; the embedding follows the type's rules */
        size_t len = (size_t)snprintf(pattern, sizeof pattern, "^\\Q%.*s\\E$", STR_ARG(t->name));
        char *name = arena_dup(&r->mem, (str){pattern, len});
        if (!name) FAIL(err, MOTE_E_MEMORY, "out of memory for the recipe");
        left[n_left++] = name;
        if (o->quantize.type) types[n_types++] = (mote_tensor_type){name, t->type == QUANT_F32 ? "F16" : quant_get((int)t->type)->name};
    }
    o->quantize.overrides = types;
    o->quantize.n_overrides = n_types;
    o->ignore = left;
    o->n_ignore = n_left;
    return MOTE_OK;
}
