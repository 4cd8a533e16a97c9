/* vocab_json.c: opening a vocabulary from tokenizer.json: tokens, merges, added tokens, what stands around a text. */
#include "token/json_int.h"

/* jansson takes no NUL in a key, and vocabularies have a token of one. U+FFFF, which is no character, stands in for
 * it: the escape is rewritten before parsing, and put right when texts are copied. */
#define NUL_SIGN "\xEF\xBF\xBF"
static mote_status parse_vocabulary(json_t **out, str json, mote_error *err) {
    size_t hit = str_find(json, STR("\\u0000"), 0);
    if (hit == SIZE_MAX) return json_parse(out, json, "tokenizer.json", err);
    char *copy = mem_strndup(json.p, json.n);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu bytes of tokenizer.json", json.n);
    for (size_t i = 0; i + 1 < json.n; i++) {
        if (copy[i] != '\\') continue;
        if (json.n - i >= 6 && memcmp(copy + i, "\\u0000", 6) == 0) memcpy(copy + i, "\\uFFFF", 6);
        i++;
    }
    mote_status s = json_parse(out, (str){copy, json.n}, "tokenizer.json", err);
    mem_free(copy);
    return s;
}

typedef struct loader {
    tok_vocab *v;
    const json_t *root, *model, *config;
    const log_sink *log;
    mote_error *err;
} loader;

static mote_status copy_text(tok_vocab *v, str s, str *out, mote_error *err) {
    if (s.n > TOK_TOKEN_BYTES_MAX)
        FAIL(err, MOTE_E_LIMIT, "a token of %zu bytes, at most %zu are taken", s.n, TOK_TOKEN_BYTES_MAX);
    char *p = arena_dup(&v->mem, s);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for a vocabulary");
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++) { /* NUL_SIGN back to NUL */
        bool nul = s.n - i >= 3 && memcmp(s.p + i, NUL_SIGN, 3) == 0;
        p[n] = nul ? 0 : s.p[i];
        i += nul ? 3 : 1;
    }
    *out = (str){p, n};
    v->token_len_max = MAX(v->token_len_max, s.n);
    return MOTE_OK;
}

static mote_status check_id(const loader *l, json_int_t id, str text) {
    if (id < 0 || id >= (json_int_t)TOK_VOCAB_MAX)
        FAIL(l->err, MOTE_E_LIMIT, "token '%.*s' has id %lld, taken are 0 to %zu", STR_ARG(text), (long long)id,
             TOK_VOCAB_MAX - 1);
    return MOTE_OK;
}

/* Highest id + 1 over the model's tokens and the added ones. */
static mote_status count_tokens(const loader *l, const json_t *vocab, const json_t *added) {
    json_int_t top = -1;
    const char *key;
    json_t *val;
    if (json_is_array(vocab)) top = (json_int_t)json_array_size(vocab) - 1;
    json_object_foreach((json_t *)(uintptr_t)vocab, key, val) {
        if (!json_is_integer(val)) FAIL(l->err, MOTE_E_FORMAT, "token '%.100s': the id is not an integer", key);
        TRY(check_id(l, json_integer_value(val), str_of(key)));
        top = MAX(top, json_integer_value(val));
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i);
        json_int_t id = json_integer_value(json_object_get(a, "id"));
        TRY(check_id(l, id, json_get_str(a, "content")));
        top = MAX(top, id);
    }
    if (top < 0) FAIL(l->err, MOTE_E_FORMAT, "tokenizer.json: the model has no 'vocab'");
    TRY(check_id(l, top, STR("the last")));
    l->v->n = (size_t)top + 1;
    return MOTE_OK;
}

static mote_status load_tokens(const loader *l) {
    tok_vocab *v = l->v;
    const json_t *vocab = json_object_get(l->model, "vocab"), *added = json_object_get(l->root, "added_tokens");
    TRY(count_tokens(l, vocab, added));
    TRY(mem_grow(&v->text, &v->cap_syms, v->n, sizeof *v->text, INT32_MAX, l->err));
    v->type = arena_alloc(&v->mem, v->n, 1);
    v->flag = arena_alloc(&v->mem, v->n, 1);
    v->score = arena_alloc(&v->mem, v->n, sizeof *v->score);
    if (!v->type || !v->flag || !v->score) FAIL(l->err, MOTE_E_MEMORY, "out of memory for %zu tokens", v->n);
    memset(v->type, TOK_UNUSED, v->n);
    for (size_t i = 0; i < v->n; i++) v->text[i] = STR("");
    const char *key;
    size_t key_len;
    json_t *val;
    json_object_keylen_foreach((json_t *)(uintptr_t)vocab, key, key_len, val) {
        size_t id = (size_t)json_integer_value(val);
        TRY(copy_text(v, (str){key, key_len}, &v->text[id], l->err));
        v->type[id] = TOK_NORMAL;
    }
    for (size_t i = 0; json_is_array(vocab) && i < json_array_size(vocab); i++) {
        const json_t *pair = json_array_get(vocab, i), *s = json_array_get(pair, 0);
        if (!json_is_string(s) || !json_is_number(json_array_get(pair, 1)))
            FAIL(l->err, MOTE_E_FORMAT, "tokenizer.json: token %zu is not a text with a score", i);
        TRY(copy_text(v, (str){json_string_value(s), json_string_length(s)}, &v->text[i], l->err));
        v->score[i] = json_number_value(json_array_get(pair, 1));
        v->type[i] = TOK_NORMAL;
    }
    return MOTE_OK;
}

static mote_status load_added(const loader *l) {
    tok_vocab *v = l->v;
    const json_t *added = json_object_get(l->root, "added_tokens");
    size_t empty = 0;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i);
        str content = json_get_str(a, "content");
        size_t id = (size_t)json_integer_value(json_object_get(a, "id"));
        if (content.n == 0) {
            empty++;
            continue;
        }
        bool special = json_get_bool(a, "special", false), known = str_eq(v->text[id], content);
        TRY(copy_text(v, content, &v->text[id], l->err));
        v->type[id] = special ? TOK_CONTROL : TOK_USER_DEFINED;
        if (!known) v->flag[id] |= TOK_FLAG_ADDED;
        if (json_get_bool(a, "lstrip", false)) v->flag[id] |= TOK_FLAG_LSTRIP;
        if (json_get_bool(a, "rstrip", false)) v->flag[id] |= TOK_FLAG_RSTRIP;
        if (json_get_bool(a, "single_word", false)) v->flag[id] |= TOK_FLAG_WORD;
        if (json_get_bool(a, "normalized", !special) && v->norm) v->flag[id] |= TOK_FLAG_NORMALIZED;
    }
    if (empty) log_line(l->log, LOG_WARN, "%zu added tokens are empty and are ignored", empty);
    return MOTE_OK;
}

/* "a b", or ["a", "b"]. */
static bool merge_at(const void *list, size_t i, str *left, str *right) {
    const json_t *m = json_array_get(list, i), *a = json_array_get(m, 0), *b = json_array_get(m, 1);
    *left = (str){json_string_value(a), json_string_length(a)};
    *right = (str){json_string_value(b), json_string_length(b)};
    if (json_is_string(m)) {
        str s = {json_string_value(m), json_string_length(m)};
        size_t space = s.n ? str_find(s, STR(" "), 1) : SIZE_MAX;
        if (space == SIZE_MAX) return false;
        *left = str_sub(s, 0, space);
        *right = str_sub(s, space + 1, s.n - space - 1);
    }
    return left->n > 0 && right->n > 0;
}

static mote_status load_merges(const loader *l) {
    tok_vocab *v = l->v;
    const json_t *merges = json_object_get(l->model, "merges");
    size_t n = json_array_size(merges), odd = 0;
    if (n > TOK_MERGES_MAX) FAIL(l->err, MOTE_E_LIMIT, "%zu merges, at most %zu are taken", n, TOK_MERGES_MAX);
    /* a merge of what are no tokens could never happen */
    TRY(tok_merges_load(v, n, merge_at, merges, true, &odd, l->err));
    if (odd) log_line(l->log, LOG_WARN, "%zu of %zu merges are not two tokens and are ignored", odd, n);
    return MOTE_OK;
}

static void find_bytes(tok_vocab *v) {
    static const char hex[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; b++) {
        char c[8] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        if (v->byte_level) {
            v->byte_sym[b] = tok_find(v, (str){c, tok_byte_char((unsigned char)b, c)});
        } else if (v->byte_fallback) {
            v->byte_sym[b] = tok_find(v, (str){c, 6});
            if (v->byte_sym[b] >= 0 && v->type[v->byte_sym[b]] == TOK_NORMAL) v->type[v->byte_sym[b]] = TOK_BYTE;
        }
    }
}

static mote_status load_model(const loader *l) {
    tok_vocab *v = l->v;
    str type = json_get_str(l->model, "type"), prefix = json_get_str(l->model, "continuing_subword_prefix");
    v->byte_fallback = json_get_bool(l->model, "byte_fallback", false);
    v->fuse_unk = json_get_bool(l->model, "fuse_unk", false);
    int32_t unk = tok_find(v, json_get_str(l->model, "unk_token"));
    v->role[TOK_ROLE_UNK] = unk;
    find_bytes(v);
    if (v->kind == TOK_KIND_WORDPIECE) {
        TRY(copy_text(v, prefix.p ? prefix : STR("##"), &v->char_prefix, l->err));
        v->word_chars_max = (size_t)MAX(1, json_get_int(l->model, "max_input_chars_per_word", 100));
        TRY(tok_wordpiece_prepare(v, l->err));
    } else if (v->kind == TOK_KIND_UNIGRAM) {
        json_int_t id = json_get_int(l->model, "unk_id", -1);
        if (id >= 0 && (size_t)id < v->n) {
            v->role[TOK_ROLE_UNK] = (int32_t)id;
            if (v->type[id] == TOK_NORMAL) v->type[id] = TOK_UNKNOWN;
        }
        TRY(tok_unigram_prepare(v, NULL, l->err));
    } else {
        if (prefix.n || json_get_str(l->model, "end_of_word_suffix").n)
            FAIL(l->err, MOTE_E_UNSUPPORTED, "%.*s with a prefix or suffix of subwords is not supported", STR_ARG(type));
        v->ignore_merges = json_get_bool(l->model, "ignore_merges", false);
        TRY(load_merges(l));
        if (!v->byte_level) TRY(tok_joints_build(v, l->err));
    }
    return MOTE_OK;
}

static mote_status choose_kind(const loader *l) {
    str type = json_get_str(l->model, "type");
    bool list = json_is_array(json_object_get(l->model, "vocab"));
    if (str_is(type, "BPE") || (!type.p && json_object_get(l->model, "merges"))) l->v->kind = TOK_KIND_BPE;
    else if (str_is(type, "Unigram") || (!type.p && list)) l->v->kind = TOK_KIND_UNIGRAM;
    else if (str_is(type, "WordPiece")) l->v->kind = TOK_KIND_WORDPIECE;
    else FAIL(l->err, MOTE_E_UNSUPPORTED, "tokenizer.json: model '%.*s'; known are BPE, Unigram, WordPiece", STR_ARG(type));
    if (list != (l->v->kind == TOK_KIND_UNIGRAM)) FAIL(l->err, MOTE_E_FORMAT, "tokenizer.json: 'vocab' is of the wrong type");
    return MOTE_OK;
}

/* ---- around a text ---- */

static void put_around(tok_vocab *v, bool after, int32_t id) {
    int *n = after ? &v->n_after : &v->n_before;
    if (id >= 0 && *n < TOK_AROUND_MAX) (after ? v->after : v->before)[(*n)++] = id;
}

static void read_template(tok_vocab *v, const json_t *j) {
    const json_t *single = json_object_get(j, "single"), *ids = json_object_get(j, "special_tokens");
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i), *special = json_object_get(item, "SpecialToken");
        if (json_object_get(item, "Sequence")) after = true;
        if (!special) continue;
        str name = json_get_str(special, "id");
        const json_t *entry = name.p ? json_object_getn(ids, name.p, name.n) : NULL, *list = json_object_get(entry, "ids");
        for (size_t k = 0; k < json_array_size(list); k++) {
            json_int_t id = json_integer_value(json_array_get(list, k));
            if (id >= 0 && (size_t)id < v->n) put_around(v, after, (int32_t)id);
        }
    }
}

static void read_post(tok_vocab *v, const json_t *j, int depth) {
    str type = json_get_str(j, "type");
    const json_t *list = json_object_get(j, "processors");
    if (str_is(type, "Sequence") && depth < 8)
        for (size_t i = 0; i < json_array_size(list); i++) read_post(v, json_array_get(list, i), depth + 1);
    if (str_is(type, "TemplateProcessing")) read_template(v, j);
    if (!str_is(type, "BertProcessing") && !str_is(type, "RobertaProcessing")) return;
    json_int_t cls = json_integer_value(json_array_get(json_object_get(j, "cls"), 1));
    json_int_t sep = json_integer_value(json_array_get(json_object_get(j, "sep"), 1));
    if (cls >= 0 && (size_t)cls < v->n) put_around(v, false, (int32_t)cls);
    if (sep >= 0 && (size_t)sep < v->n) put_around(v, true, (int32_t)sep);
}

/* A token of tokenizer_config.json: a text, or an object with it as "content". */
static int32_t config_token(const loader *l, const char *key) {
    const json_t *j = json_object_get(l->config, key);
    str s = json_is_object(j) ? json_get_str(j, "content") : json_get_str(l->config, key);
    return s.n ? tok_find(l->v, s) : TOK_NONE;
}

static void load_roles(const loader *l) {
    static const struct {
        const char *key;
        tok_role role;
    } keys[] = {{"bos_token", TOK_ROLE_BOS}, {"cls_token", TOK_ROLE_BOS}, {"eos_token", TOK_ROLE_EOS},
                {"unk_token", TOK_ROLE_UNK}, {"sep_token", TOK_ROLE_SEP}, {"pad_token", TOK_ROLE_PAD},
                {"mask_token", TOK_ROLE_MASK}};
    tok_vocab *v = l->v;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        int32_t id = config_token(l, keys[i].key);
        if (id >= 0 && v->role[keys[i].role] < 0) v->role[keys[i].role] = id;
    }
    read_post(v, json_object_get(l->root, "post_processor"), 0);
    int32_t bos = v->role[TOK_ROLE_BOS], eos = v->role[TOK_ROLE_EOS];
    const json_t *add_bos = json_object_get(l->config, "add_bos_token"), *add_eos = json_object_get(l->config, "add_eos_token");
    bool has_bos = v->n_before == 1 && v->before[0] == bos, has_eos = v->n_after == 1 && v->after[0] == eos;
    if (json_is_true(add_bos) && v->n_before == 0) put_around(v, false, bos);
    if (json_is_false(add_bos) && has_bos) v->n_before = 0;
    if (json_is_true(add_eos) && v->n_after == 0) put_around(v, true, eos);
    if (json_is_false(add_eos) && has_eos) v->n_after = 0;
}

/* The default chat template of tokenizer_config.json. */
static str chat_template(const loader *l) {
    const json_t *t = json_object_get(l->config, "chat_template");
    for (size_t i = 0; i < json_array_size(t); i++)
        if (str_is(json_get_str(json_array_get(t, i), "name"), "default"))
            return json_get_str(json_array_get(t, i), "template");
    return json_is_string(t) ? json_get_str(l->config, "chat_template") : STR("");
}

/* Added tokens that are looked for in normalized text are normalized themselves. */
static mote_status load_late(const loader *l) {
    tok_vocab *v = l->v;
    buf a, b;
    mote_status s = MOTE_OK;
    if (!v->norm) return MOTE_OK;
    buf_init(&a, 64 * TOK_TOKEN_BYTES_MAX);
    buf_init(&b, 64 * TOK_TOKEN_BYTES_MAX);
    TRY(tok_trie_init(&v->late, l->err));
    for (size_t i = 0; i < v->n && s == MOTE_OK; i++) {
        str text;
        if (!(v->flag[i] & TOK_FLAG_NORMALIZED)) continue;
        s = tok_norm_apply(v->norm, v->text[i], &a, &b, &text, l->err);
        if (s == MOTE_OK && text.n) s = tok_trie_put(&v->late, STR(""), text, (int32_t)i, l->err);
    }
    buf_free(&a);
    buf_free(&b);
    return s;
}

static mote_status load(const loader *l) {
    tok_vocab *v = l->v;
    v->from_json = true;
    if (!json_is_object(l->model)) FAIL(l->err, MOTE_E_FORMAT, "tokenizer.json has no 'model'");
    TRY(choose_kind(l));
    TRY(tok_norm_read(v, json_object_get(l->root, "normalizer"), l->err));
    TRY(tok_json_pre_read(v, json_object_get(l->root, "pre_tokenizer"), l->err));
    TRY(load_tokens(l));
    TRY(load_added(l));
    TRY(tok_vocab_index(v, l->err));
    TRY(load_model(l));
    load_roles(l);
    TRY(load_late(l));
    return tok_vocab_finish(v, chat_template(l), l->err);
}

mote_status tok_open_json(tok_vocab **out, str json, str config_json, const log_sink *log, mote_error *err) {
    json_t *root = NULL, *config = NULL;
    mote_status s;
    *out = NULL;
    TRYG(s, parse_vocabulary(&root, json, err));
    if (config_json.n) TRYG(s, json_parse(&config, config_json, "tokenizer_config.json", err));
    TRYG(s, tok_vocab_new(out, err));
    loader l = {.v = *out, .root = root, .model = json_object_get(root, "model"), .config = config, .log = log, .err = err};
    s = load(&l);
out:
    json_decref(root);
    json_decref(config);
    if (s != MOTE_OK) tok_close(out);
    return s;
}
