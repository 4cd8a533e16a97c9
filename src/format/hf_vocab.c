/* hf_vocab.c: tokenizer.json's vocabulary to tokenizer.ggml.*.
 *
 * Four kinds, told apart by model.type and by what surrounds it:
 *   byte-level BPE                  "gpt2": tokens and merges; pre-tokenizer by name
 *   BPE over text with ▁ and <0xNN> "llama": a merge's rank becomes the score of its result
 *   Unigram                         "t5": scores, and the precompiled normalisation table
 *   WordPiece                       "bert": ▁ before the first piece of a word instead of ## before the others */
#include "format/hf_vocab.h"

#include <stdio.h>

#define SPACE_MARK "\xE2\x96\x81" /* ▁ */
#define SCRATCH_MAX ((size_t)1 << 20)

/* ---- which pre-tokenizer ---- */

static void describe(const json_t *p, buf *b, int depth) {
    str type = json_get_str(p, "type");
    if (str_is(type, "Sequence") && depth < 4) {
        const json_t *list = json_object_get(p, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++) describe(json_array_get(list, i), b, depth + 1);
        return;
    }
    buf_put_str(b, type);
    if (str_is(type, "Split")) {
        const json_t *pattern = json_object_get(p, "pattern");
        str text = json_get_str(pattern, "Regex");
        if (!text.p) text = json_get_str(pattern, "String");
        buf_putc(b, '(');
        buf_put_str(b, text);
        buf_putc(b, ')');
    } else if (str_is(type, "ByteLevel") && json_get_bool(p, "use_regex", true)) buf_puts(b, "(regex)");
    else if (str_is(type, "Digits") && json_get_bool(p, "individual_digits", false)) buf_puts(b, "(1)");
    buf_putc(b, ';');
}

const char *hf_pre_name(const json_t *tokenizer, buf *scratch) {
    static const struct {
        const char *name, *has, *and_has;
    } known[] = {
        {"deepseek-v3", "Split(\\p{N}{1,3})", "Split([一-龥"},
        {"deepseek-llm", "Split([\r\n])", "A-Za-zµ"},
        {"deepseek-llm", "Split([\\r\\n])", "A-Za-zµ"},
        {"deepseek-coder", "Split([\r\n])", "\\p{L}+)"},
        {"deepseek-coder", "Split([\\r\\n])", "\\p{L}+)"},
        {"falcon", "Punctuation", "[0-9][0-9][0-9]"},
        {"bloom", " ?[^(\\s|", ""},
        {"gpt-4o", "\\p{Lu}", "(?i:'s"},
        {"tekken", "\\p{Lu}", ""},
        {"qwen35", "[\\p{L}\\p{M}]+|\\p{N}|", ""},
        {"llama-bpe", "\\p{L}+|\\p{N}{1,3}|", ""},
        {"qwen2", "\\p{L}+|\\p{N}|", ""},
        {"starcoder", "Digits(1);", "ByteLevel"},
        {"gpt-2", "ByteLevel(regex)", ""},
    };
    buf_clear(scratch);
    describe(json_object_get(tokenizer, "pre_tokenizer"), scratch, 0);
    str d = buf_str(scratch);
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (str_find(d, str_of(known[i].has), 0) != SIZE_MAX && str_find(d, str_of(known[i].and_has), 0) != SIZE_MAX)
            return known[i].name;
    return "default";
}

/* Does this part of the tokenizer, or one inside it, have this type? */
static const json_t *part_of_type(const json_t *p, const char *type, int depth) {
    static const char *const lists[] = {"normalizers", "pretokenizers", "decoders", "processors"};
    if (!p || depth > 4) return NULL;
    if (str_is(json_get_str(p, "type"), type)) return p;
    for (size_t l = 0; l < COUNT_OF(lists); l++) {
        const json_t *list = json_object_get(p, lists[l]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *found = part_of_type(json_array_get(list, i), type, depth + 1);
            if (found) return found;
        }
    }
    return NULL;
}

/* ---- tokens ---- */

mote_status hf_vocab_set(hf_vocab *v, int64_t id, str text, int32_t type, float score, mote_error *err) {
    if (id < 0 || (uint64_t)id >= v->n)
        FAIL(err, MOTE_E_RANGE, "tokenizer.json: token '%.*s' has id %lld, outside the vocabulary of %zu", STR_ARG(text),
             (long long)id, v->n);
    char *copy = arena_dup(v->mem, text);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory for the vocabulary");
    v->tokens[id] = (str){copy, text.n};
    v->types[id] = type;
    v->scores[id] = score;
    return MOTE_OK;
}

/* One more than the largest id. */
static size_t count_ids(const json_t *model_vocab, const json_t *added) {
    size_t n = json_is_array(model_vocab) ? json_array_size(model_vocab) : 0;
    const char *key;
    json_t *v;
    union { /* jansson's iteration wants what is not const; nothing is changed */
        const json_t *in;
        json_t *out;
    } o = {json_is_object(model_vocab) ? model_vocab : NULL};
    json_object_foreach(o.out, key, v) {
        json_int_t id = json_integer_value(v);
        if (id >= 0 && (size_t)id >= n) n = (size_t)id + 1;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        int64_t id = json_get_int(json_array_get(added, i), "id", -1);
        if (id >= 0 && (size_t)id >= n) n = (size_t)id + 1;
    }
    return n;
}

mote_status hf_vocab_init(hf_vocab *v, size_t n, mote_error *err) {
    if (n == 0 || n > FORMAT_STRINGS_MAX)
        FAIL(err, MOTE_E_LIMIT, "tokenizer.json: a vocabulary of %zu tokens (at most %zu)", n, FORMAT_STRINGS_MAX);
    v->n = n;
    v->tokens = ARENA_NEW_N(v->mem, str, n);
    v->types = ARENA_NEW_N(v->mem, int32_t, n);
    v->scores = ARENA_NEW_N(v->mem, float, n);
    if (!v->tokens || !v->types || !v->scores || !index_init(&v->index, v->mem, n))
        FAIL(err, MOTE_E_MEMORY, "out of memory for a vocabulary of %zu tokens", n);
    return MOTE_OK;
}

static mote_status read_pieces(hf_vocab *v, const json_t *pieces, mote_error *err) {
    if (json_is_array(pieces)) { /* Unigram: [[piece, score], …] */
        for (size_t i = 0; i < json_array_size(pieces); i++) {
            const json_t *p = json_array_get(pieces, i), *text = json_array_get(p, 0);
            if (!json_is_string(text)) FAIL(err, MOTE_E_FORMAT, "tokenizer.json: vocabulary entry %zu is no pair", i);
            TRY(hf_vocab_set(v, (int64_t)i, (str){json_string_value(text), json_string_length(text)}, TYPE_NORMAL,
                          (float)json_number_value(json_array_get(p, 1)), err));
        }
        return MOTE_OK;
    }
    const char *key;
    json_t *id;
    union {
        const json_t *in;
        json_t *out;
    } o = {pieces};
    json_object_foreach(o.out, key, id) {
        if (!json_is_integer(id)) FAIL(err, MOTE_E_FORMAT, "tokenizer.json: token '%.100s' has no id", key);
        size_t n = json_object_iter_key_len(json_object_key_to_iter(key));
        TRY(hf_vocab_set(v, json_integer_value(id), (str){key, n}, TYPE_NORMAL, 0, err));
    }
    return MOTE_OK;
}

bool hf_looks_special(str s) {
    return (str_starts(s, STR("<|")) && str_ends(s, STR("|>"))) ||
           (str_starts(s, STR("<\xEF\xBD\x9C")) && str_ends(s, STR("\xEF\xBD\x9C>")));
}

static mote_status read_added(hf_vocab *v, const json_t *added, mote_error *err) {
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i);
        str text = json_get_str(a, "content");
        if (!text.n) continue;
        bool special = json_get_bool(a, "special", false) || hf_looks_special(text);
        TRY(hf_vocab_set(v, json_get_int(a, "id", -1), text, special ? TYPE_CONTROL : TYPE_USER_DEFINED, -1000.0f, err));
    }
    return MOTE_OK;
}

mote_status hf_vocab_finish(hf_vocab *v, mote_error *err) {
    for (size_t i = 0; i < v->n; i++) {
        char name[32];
        if (!v->tokens[i].p) {
            (void)snprintf(name, sizeof name, "[PAD%zu]", i);
            TRY(hf_vocab_set(v, (int64_t)i, str_of(name), TYPE_UNUSED, -10000.0f, err));
        }
        if (index_add(&v->index, v->tokens, sizeof *v->tokens, i) == INDEX_CROWDED)
            FAIL(err, MOTE_E_LIMIT, "tokenizer.json: too many colliding tokens");
    }
    return MOTE_OK;
}

static bool is_byte_token(str s) {
    static const char hex[] = "0123456789ABCDEFabcdef";
    return s.n == 6 && memcmp(s.p, "<0x", 3) == 0 && s.p[5] == '>' && memchr(hex, s.p[3], 22) && memchr(hex, s.p[4], 22);
}

/* ---- merges ---- */

/* A merge is "a b" or ["a", "b"]. */
static bool merge_parts(const json_t *m, str *a, str *b) {
    if (json_is_array(m)) {
        const json_t *x = json_array_get(m, 0), *y = json_array_get(m, 1);
        if (!json_is_string(x) || !json_is_string(y)) return false;
        *a = (str){json_string_value(x), json_string_length(x)};
        *b = (str){json_string_value(y), json_string_length(y)};
        return true;
    }
    if (!json_is_string(m)) return false;
    str s = {json_string_value(m), json_string_length(m)};
    size_t gap = str_find(s, STR(" "), 1);
    if (gap == SIZE_MAX) return false;
    *a = str_sub(s, 0, gap);
    *b = str_sub(s, gap + 1, s.n - gap - 1);
    return true;
}

static mote_status put_merges(hf *h, const json_t *merges, mote_error *err) {
    size_t n = json_array_size(merges);
    str *out = ARENA_NEW_N(&h->f->mem, str, n);
    if (!out || n > FORMAT_STRINGS_MAX) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu merges", n);
    for (size_t i = 0; i < n; i++) {
        str a, b;
        if (!merge_parts(json_array_get(merges, i), &a, &b))
            FAIL(err, MOTE_E_FORMAT, "tokenizer.json: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", i);
        char *p = arena_alloc(&h->f->mem, a.n + b.n + 2, 1);
        if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for merges");
        memcpy(p, a.p, a.n);
        p[a.n] = ' ';
        memcpy(p + a.n + 1, b.p, b.n);
        out[i] = (str){p, a.n + b.n + 1};
    }
    return hf_put_kv(h, "tokenizer.ggml.merges",
                     (kv){.type = KV_ARRAY, .elem = KV_STRING, .count = n, .strings = out}, err);
}

/* SentencePiece merges by the score of the result, so that gets minus the rank of its first merge. */
static mote_status score_merges(hf_vocab *v, const json_t *merges, mote_error *err) {
    buf joined;
    buf_init(&joined, SCRATCH_MAX);
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        str a, b;
        if (!merge_parts(json_array_get(merges, i), &a, &b))
            FAILG(s, err, MOTE_E_FORMAT, "tokenizer.json: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", i);
        buf_clear(&joined);
        buf_put_str(&joined, a);
        buf_put_str(&joined, b);
        TRYG(s, buf_check(&joined, "a merge", err));
        size_t id = index_find(&v->index, v->tokens, sizeof *v->tokens, buf_str(&joined));
        if (id != SIZE_MAX && v->types[id] == TYPE_NORMAL && v->scores[id] >= 0) v->scores[id] = -(float)(i + 1);
    }
    for (size_t i = 0; i < v->n; i++) /* pieces that nothing merges to come last */
        if (v->types[i] == TYPE_NORMAL && v->scores[i] >= 0) v->scores[i] = -(float)(json_array_size(merges) + 1);
out:
    buf_free(&joined);
    return s;
}

/* ---- the kinds ---- */

static mote_status put_byte_bpe(hf *h, const json_t *tokenizer, const json_t *model, mote_error *err) {
    buf scratch;
    buf_init(&scratch, SCRATCH_MAX);
    mote_status s = hf_put_str(h, "tokenizer.ggml.model", STR("gpt2"), err);
    if (s == MOTE_OK) s = hf_put_str(h, "tokenizer.ggml.pre", str_of(hf_pre_name(tokenizer, &scratch)), err);
    buf_free(&scratch);
    return s == MOTE_OK ? put_merges(h, json_object_get(model, "merges"), err) : s;
}

static mote_status put_spm(hf *h, const json_t *tokenizer, const json_t *model, hf_vocab *v, mote_error *err) {
    const json_t *meta = part_of_type(json_object_get(tokenizer, "pre_tokenizer"), "Metaspace", 0);
    bool prefix = part_of_type(json_object_get(tokenizer, "normalizer"), "Prepend", 0) != NULL;
    if (meta) {
        str scheme = json_get_str(meta, "prepend_scheme");
        prefix = scheme.p ? !str_is(scheme, "never") : json_get_bool(meta, "add_prefix_space", true);
    }
    str unk = json_get_str(model, "unk_token");
    for (size_t i = 0; i < v->n; i++)
        if (unk.n && str_eq(v->tokens[i], unk)) v->types[i] = TYPE_UNKNOWN;
        else if (is_byte_token(v->tokens[i])) v->types[i] = TYPE_BYTE;
    TRY(score_merges(v, json_object_get(model, "merges"), err));
    TRY(hf_put_str(h, "tokenizer.ggml.model", STR("llama"), err));
    TRY(hf_put_str(h, "tokenizer.ggml.pre", STR("default"), err));
    return hf_put_bool(h, "tokenizer.ggml.add_space_prefix", prefix, err);
}

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The normalizer's precompiled table, base64 in tokenizer.json, bytes in GGUF. */
static mote_status put_charsmap(hf *h, str text, mote_error *err) {
    unsigned char *out = arena_alloc(&h->f->mem, text.n / 4 + 1, 3);
    if (!out) FAIL(err, MOTE_E_MEMORY, "out of memory");
    size_t n = 0;
    uint32_t bits = 0;
    int held = 0;
    for (size_t i = 0; i < text.n && text.p[i] != '='; i++) {
        int d = base64_digit(text.p[i]);
        if (d < 0) FAIL(err, MOTE_E_FORMAT, "tokenizer.json: precompiled_charsmap is not base64");
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (unsigned char)(bits >> held);
        }
    }
    return hf_put_kv(h, "tokenizer.ggml.precompiled_charsmap",
                     (kv){.type = KV_ARRAY, .elem = KV_U8, .count = n, .elems = out}, err);
}

static mote_status put_unigram(hf *h, const json_t *tokenizer, const json_t *model, hf_vocab *v, mote_error *err) {
    const json_t *normalizer = json_object_get(tokenizer, "normalizer");
    int64_t unk = json_get_int(model, "unk_id", -1);
    if (unk >= 0 && (size_t)unk < v->n) v->types[unk] = TYPE_UNKNOWN;
    for (size_t i = 0; i < v->n; i++)
        if (v->types[i] == TYPE_NORMAL && is_byte_token(v->tokens[i])) v->types[i] = TYPE_BYTE;
    TRY(hf_put_str(h, "tokenizer.ggml.model", STR("t5"), err));
    TRY(hf_put_str(h, "tokenizer.ggml.pre", STR("default"), err));
    TRY(hf_put_bool(h, "tokenizer.ggml.add_space_prefix", true, err));
    TRY(hf_put_bool(h, "tokenizer.ggml.remove_extra_whitespaces", part_of_type(normalizer, "Replace", 0) != NULL, err));
    const json_t *table = part_of_type(normalizer, "Precompiled", 0);
    str text = json_get_str(table, "precompiled_charsmap");
    return text.n ? put_charsmap(h, text, err) : MOTE_OK;
}

/* "##ing" becomes "ing" and "walk" "▁walk"; [CLS] and the like stay. */
static mote_status put_wordpiece(hf *h, hf_vocab *v, mote_error *err) {
    for (size_t i = 0; i < v->n; i++) {
        str t = v->tokens[i];
        if (t.n >= 2 && t.p[0] == '[' && t.p[t.n - 1] == ']') continue;
        if (str_starts(t, STR("##"))) {
            v->tokens[i] = str_sub(t, 2, t.n - 2);
            continue;
        }
        char *p = arena_alloc(v->mem, t.n + sizeof SPACE_MARK, 1);
        if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for the vocabulary");
        memcpy(p, SPACE_MARK, sizeof SPACE_MARK - 1);
        memcpy(p + sizeof SPACE_MARK - 1, t.p, t.n);
        v->tokens[i] = (str){p, t.n + sizeof SPACE_MARK - 1};
    }
    TRY(hf_put_str(h, "tokenizer.ggml.model", STR("bert"), err));
    return hf_put_str(h, "tokenizer.ggml.pre", STR("bert-bge"), err);
}

static const unsigned char *bytes_of(const void *p) { return p; }

mote_status hf_vocab_put(hf *h, const hf_vocab *v, bool scores, mote_error *err) {
    kv k = {.type = KV_ARRAY, .elem = KV_STRING, .count = v->n, .strings = v->tokens};
    TRY(hf_put_kv(h, "tokenizer.ggml.tokens", k, err));
    k = (kv){.type = KV_ARRAY, .elem = KV_I32, .count = v->n, .elems = bytes_of(v->types)};
    TRY(hf_put_kv(h, "tokenizer.ggml.token_type", k, err));
    k = (kv){.type = KV_ARRAY, .elem = KV_F32, .count = v->n, .elems = bytes_of(v->scores)};
    return scores ? hf_put_kv(h, "tokenizer.ggml.scores", k, err) : MOTE_OK;
}

mote_status hf_put_vocab(hf *h, const json_t *tokenizer, mote_error *err) {
    const json_t *model = json_object_get(tokenizer, "model"), *added = json_object_get(tokenizer, "added_tokens");
    const json_t *pieces = json_object_get(model, "vocab");
    if (!json_is_object(pieces) && !json_is_array(pieces)) FAIL(err, MOTE_E_FORMAT, "tokenizer.json has no model.vocab");
    hf_vocab v = {.mem = &h->f->mem};
    size_t n = count_ids(pieces, added);
    TRY(hf_vocab_init(&v, MAX(n, (size_t)h->n_vocab), err));
    TRY(read_pieces(&v, pieces, err));
    TRY(read_added(&v, added, err));
    TRY(hf_vocab_finish(&v, err));
    str type = json_get_str(model, "type");
    bool byte_level = part_of_type(json_object_get(tokenizer, "pre_tokenizer"), "ByteLevel", 0) ||
                      part_of_type(json_object_get(tokenizer, "decoder"), "ByteLevel", 0);
    bool has_merges = json_is_array(json_object_get(model, "merges"));
    if (str_is(type, "WordPiece")) TRY(put_wordpiece(h, &v, err));
    else if (str_is(type, "Unigram") || json_is_array(pieces)) TRY(put_unigram(h, tokenizer, model, &v, err));
    else if (has_merges && byte_level) TRY(put_byte_bpe(h, tokenizer, model, err));
    else if (has_merges) TRY(put_spm(h, tokenizer, model, &v, err));
    else FAIL(err, MOTE_E_UNSUPPORTED, "tokenizer.json: a tokenizer of type '%.*s' is not supported", STR_ARG(type));
    return hf_vocab_put(h, &v, !(has_merges && byte_level) && !str_is(type, "WordPiece"), err);
}
