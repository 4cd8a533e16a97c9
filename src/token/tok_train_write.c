/* tok_train_write.c: a learnt vocabulary as GGUF metadata and as Hugging Face's tokenizer.json. */
#include "token/tok_train_int.h"

#include <sys/stat.h>

/* What <|im_start|> and <|im_end|> are for. */
static const char chatml[] = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
                             "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static bool is_special(const tok_train *t, size_t id) { return id < t->o.n_special; }

static int32_t special_id(const tok_train *t, const char *name) {
    for (size_t i = 0; i < t->o.n_special; i++)
        if (strcmp(t->o.special[i], name) == 0) return (int32_t)i;
    return TOK_NONE;
}

static bool has_chatml(const tok_train *t) {
    return special_id(t, "<|im_start|>") != TOK_NONE && special_id(t, "<|im_end|>") != TOK_NONE;
}

/* The token as vocabularies spell it: bytes by their stand-ins. */
static void spell(const tok_train *t, size_t id, buf *out) {
    char c[4];
    if (is_special(t, id)) buf_put_str(out, t->token[id]);
    else
        for (size_t i = 0; i < t->token[id].n; i++) buf_put(out, c, tok_byte_char((unsigned char)t->token[id].p[i], c));
}

/* Spelled tokens and merges as views into one buffer. */
typedef struct spelling {
    buf text;
    str *tokens, *merges;
} spelling;

static void spelling_free(spelling *s) {
    buf_free(&s->text);
    mem_free(s->tokens);
    mem_free(s->merges);
}

static mote_status spell_all(const tok_train *t, spelling *s, mote_error *err) {
    buf_init(&s->text, (size_t)1 << 32);
    s->tokens = MEM_NEW_N(str, t->n_tokens);
    s->merges = MEM_NEW_N(str, t->n_merges + 1);
    size_t *end = MEM_NEW_N(size_t, t->n_tokens + t->n_merges + 1);
    mote_status st = MOTE_OK;
    if (!s->tokens || !s->merges || !end) FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu tokens", t->n_tokens);
    for (size_t i = 0; i < t->n_tokens; i++) {
        spell(t, i, &s->text);
        end[i] = s->text.n;
    }
    for (size_t i = 0; i < t->n_merges; i++) {
        spell(t, (size_t)t->merges[i].left, &s->text);
        buf_putc(&s->text, ' ');
        spell(t, (size_t)t->merges[i].right, &s->text);
        end[t->n_tokens + i] = s->text.n;
    }
    TRYG(st, buf_check(&s->text, "vocabulary", err));
    for (size_t i = 0, from = 0; i < t->n_tokens + t->n_merges; from = end[i++]) {
        str one = {s->text.p + from, end[i] - from};
        if (i < t->n_tokens) s->tokens[i] = one;
        else s->merges[i - t->n_tokens] = one;
    }
out:
    mem_free(end);
    return st;
}

/* ---- GGUF ---- */

static mote_status put_strings(gguf_writer *w, const char *key, const str *p, size_t n, mote_error *err) {
    const kv k = {.key = str_of(key), .type = KV_ARRAY, .elem = KV_STRING, .count = n, .strings = p};
    return gguf_put_kv(w, &k, err);
}

static mote_status put_types(gguf_writer *w, const tok_train *t, mote_error *err) {
    unsigned char *types = MEM_NEW_N(unsigned char, t->n_tokens * 4); /* little-endian i32 */
    if (!types) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tokens", t->n_tokens);
    for (size_t i = 0; i < t->n_tokens; i++) types[i * 4] = is_special(t, i) ? TOK_CONTROL : TOK_NORMAL;
    const kv k = {.key = STR("tokenizer.ggml.token_type"), .type = KV_ARRAY, .elem = KV_I32, .count = t->n_tokens, .elems = types};
    mote_status st = gguf_put_kv(w, &k, err);
    mem_free(types);
    return st;
}

static mote_status put_tokenizer(gguf_writer *w, const tok_train *t, const spelling *s, mote_error *err) {
    TRY(gguf_put_str(w, "general.architecture", STR("llama"), err));
    TRY(gguf_put_str(w, "general.type", STR("vocabulary"), err));
    TRY(gguf_put_u32(w, "llama.vocab_size", (uint32_t)t->n_tokens, err));
    TRY(gguf_put_str(w, "tokenizer.ggml.model", STR("gpt2"), err));
    TRY(gguf_put_str(w, "tokenizer.ggml.pre", str_of(t->o.pre), err));
    TRY(put_strings(w, "tokenizer.ggml.tokens", s->tokens, t->n_tokens, err));
    TRY(put_types(w, t, err));
    TRY(put_strings(w, "tokenizer.ggml.merges", s->merges, t->n_merges, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 0, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 0, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.padding_token_id", 0, err));
    TRY(gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false, err));
    if (!has_chatml(t)) return MOTE_OK;
    TRY(gguf_put_u32(w, "tokenizer.ggml.eot_token_id", (uint32_t)special_id(t, "<|im_end|>"), err));
    return gguf_put_str(w, "tokenizer.chat_template", str_of(chatml), err);
}

static mote_status write_gguf(const tok_train *t, const spelling *s, const char *path, mote_error *err) {
    gguf_writer *w = NULL;
    TRY(gguf_writer_open(&w, path, 32, err));
    mote_status st = put_tokenizer(w, t, s, err);
    if (st == MOTE_OK) st = gguf_writer_begin(w, err);
    if (st == MOTE_OK) st = gguf_writer_commit(w, err);
    gguf_writer_close(&w);
    return st;
}

/* ---- tokenizer.json ---- */

static json_t *pre_json(const char *pre) {
    static const char qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    bool is_qwen2 = strcmp(pre, "qwen2") == 0;
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", !is_qwen2);
    if (strcmp(pre, "gpt-2") == 0) return bytes;
    json_t *first = is_qwen2 ? json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", qwen2, "behavior", "Isolated", "invert", 0)
                             : json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, bytes);
}

static json_t *added_json(const tok_train *t) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->o.n_special; i++) {
        json_t *one = json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content", t->o.special[i], "single_word", 0, "lstrip", 0,
                                "rstrip", 0, "normalized", 0, "special", 1);
        if (!one || json_array_append_new(list, one) != 0) json_decref(list), list = NULL;
    }
    return list;
}

static json_t *model_json(const tok_train *t, const spelling *s) {
    json_t *vocab = json_object(), *merges = json_array(), *model = NULL;
    bool ok = vocab && merges;
    for (size_t i = 0; ok && i < t->n_tokens; i++)
        ok = json_object_setn_new(vocab, s->tokens[i].p, s->tokens[i].n, json_integer((json_int_t)i)) == 0;
    for (size_t i = 0; ok && i < t->n_merges; i++)
        ok = json_array_append_new(merges, json_stringn(s->merges[i].p, s->merges[i].n)) == 0;
    if (ok)
        model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                          "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
    json_decref(vocab);
    json_decref(merges);
    return model;
}

/* Writes and frees v. */
static mote_status write_tree(json_t *v, const char *path, mote_error *err) {
    char *text = v ? json_dumps(v, JSON_INDENT(2)) : NULL;
    json_decref(v);
    if (!text) FAIL(err, MOTE_E_MEMORY, "%s: out of memory", path);
    file_writer w;
    mote_status st = file_writer_open(&w, path, err);
    if (st == MOTE_OK) st = file_write(&w, text, strlen(text), err);
    if (st == MOTE_OK) st = file_write(&w, "\n", 1, err);
    if (st == MOTE_OK) st = file_writer_commit(&w, err);
    file_writer_abort(&w);
    free(text); /* jansson's */
    return st;
}

static mote_status write_json(const tok_train *t, const spelling *s, const char *path, mote_error *err) {
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1);
    json_t *root = json_pack("{s:s, s:n, s:n, s:o*, s:n, s:o*, s:n, s:o*, s:o*}", "version", "1.0", "truncation", "padding", "added_tokens",
                             added_json(t), "normalizer", "pre_tokenizer", pre_json(t->o.pre), "post_processor", "decoder", bytes, "model",
                             model_json(t, s));
    return write_tree(root, path, err);
}

static mote_status write_config(const tok_train *t, const char *path, mote_error *err) {
    const char *end = t->o.special[0], *turn = has_chatml(t) ? "<|im_end|>" : end;
    json_t *c = json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", end, "eos_token", turn, "pad_token",
                          end, "add_prefix_space", 0, "clean_up_tokenization_spaces", 0);
    if (c && has_chatml(t) && json_object_set_new(c, "chat_template", json_string(chatml)) != 0) json_decref(c), c = NULL;
    return write_tree(c, path, err);
}

mote_status tok_train_write(const tok_train *t, const char *path, mote_error *err) {
    if (!t->token) FAIL(err, MOTE_E_USAGE, "the vocabulary is not finished");
    spelling s = {0};
    mote_status st = spell_all(t, &s, err);
    if (st != MOTE_OK) {
        spelling_free(&s);
        return st;
    }
    char name[4096];
    if (str_ends(str_of(path), STR(".gguf"))) st = write_gguf(t, &s, path, err);
    else if (str_ends(str_of(path), STR(".json"))) st = write_json(t, &s, path, err);
    else if (mkdir(path, 0777) != 0 && !file_is_dir(path)) st = ERR(err, MOTE_E_IO, "%s: the folder cannot be made", path);
    else if (snprintf(name, sizeof name, "%s/tokenizer.json", path) >= (int)sizeof name - 8) st = ERR(err, MOTE_E_USAGE, "the path is too long");
    else {
        st = write_json(t, &s, name, err);
        (void)snprintf(name, sizeof name, "%s/tokenizer_config.json", path);
        if (st == MOTE_OK) st = write_config(t, name, err);
    }
    spelling_free(&s);
    return st;
}
