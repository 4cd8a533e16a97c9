/* vocab_gguf.c: opening a vocabulary from GGUF metadata (tokenizer.ggml.*). */
#include "token/token_int.h"

enum { WHOLE = 1, BOS = 2, NOBOS = 4, RAW = 8, NEWLINES = 16 }; /* flags in pre.def */

#define TOK_PRE_SET(id, ...) PRE_##id,
enum pre_id {
#include "token/pre.def"
};
#define TOK_PRE_SET(id, ...) static const char *const passes_##id[] = {__VA_ARGS__, NULL};
#include "token/pre.def"
#define TOK_PRE_SET(id, ...) [PRE_##id] = passes_##id,
static const char *const *const passes_of[] = {
#include "token/pre.def"
};
static const struct pre_name {
    const char *name;
    enum pre_id id;
    int flags;
} pre_names[] = {
#define TOK_PRE_NAME(name, id, flags) {name, PRE_##id, flags},
#include "token/pre.def"
};

typedef struct loader {
    tok_vocab *v;
    const model_file *f;
    const log_sink *log;
    mote_error *err;
} loader;

/* An array entry of the metadata; NULL when absent. */
static mote_status find_array(const loader *l, const char *key, const kv **out) {
    *out = model_file_find(l->f, key);
    if (*out && (*out)->type != KV_ARRAY) FAIL(l->err, MOTE_E_FORMAT, "'%s' is not an array", key);
    return MOTE_OK;
}

static mote_status load_texts(const loader *l) {
    static const char key[] = "tokenizer.ggml.tokens";
    tok_vocab *v = l->v;
    const kv *k;
    TRY(find_array(l, key, &k));
    if (!k) FAIL(l->err, MOTE_E_FORMAT, "'%s' is missing", key);
    if (k->elem != KV_STRING) FAIL(l->err, MOTE_E_FORMAT, "'%s' is not an array of strings", key);
    if (k->count == 0 || k->count > TOK_VOCAB_MAX)
        FAIL(l->err, MOTE_E_LIMIT, "'%s' has %llu entries, 1 to %zu are taken", key, (unsigned long long)k->count,
             TOK_VOCAB_MAX);
    v->n = (size_t)k->count;
    TRY(mem_grow(&v->text, &v->cap_syms, v->n, sizeof *v->text, INT32_MAX, l->err));
    for (size_t i = 0; i < v->n; i++) {
        v->text[i] = kv_at_str(k, i);
        if (v->text[i].n > TOK_TOKEN_BYTES_MAX)
            FAIL(l->err, MOTE_E_LIMIT, "'%s': token %zu is %zu bytes long, at most %zu are taken", key, i, v->text[i].n,
                 TOK_TOKEN_BYTES_MAX);
        v->token_len_max = MAX(v->token_len_max, v->text[i].n);
        if (v->text[i].n) continue;
        buf name; /* an empty text could never be found again */
        buf_init(&name, 64);
        buf_printf(&name, "[EMPTY_%zu]", i);
        char *p = arena_dup(&v->mem, buf_str(&name));
        v->text[i] = (str){p, p ? name.n : 0};
        buf_free(&name);
        if (!p) FAIL(l->err, MOTE_E_MEMORY, "out of memory for a vocabulary");
    }
    return MOTE_OK;
}

static mote_status load_types(const loader *l) {
    static const char key[] = "tokenizer.ggml.token_type";
    tok_vocab *v = l->v;
    const kv *k;
    TRY(find_array(l, key, &k));
    v->type = arena_alloc(&v->mem, v->n, 1);
    v->flag = arena_alloc(&v->mem, v->n, 1);
    if (!v->type || !v->flag) FAIL(l->err, MOTE_E_MEMORY, "out of memory for %zu tokens", v->n);
    memset(v->type, TOK_NORMAL, v->n);
    if (!k) return MOTE_OK;
    if (k->count < v->n)
        FAIL(l->err, MOTE_E_MISMATCH, "'%s' has %llu entries for %zu tokens", key, (unsigned long long)k->count, v->n);
    size_t odd = 0;
    for (size_t i = 0; i < v->n; i++) {
        int64_t t;
        if (!kv_at_int(k, i, &t)) FAIL(l->err, MOTE_E_FORMAT, "'%s' is not an array of integers", key);
        if (t == TOK_BYTE && tok_byte_value(v->text[i]) < 0) t = TOK_NORMAL, odd++;
        else if (t < TOK_NORMAL || t > TOK_BYTE) t = TOK_UNUSED;
        v->type[i] = (uint8_t)t;
    }
    if (odd) log_line(l->log, LOG_WARN, "%zu byte tokens are not spelled <0xHH> and are taken as text", odd);
    return MOTE_OK;
}

static mote_status load_scores(const loader *l) {
    static const char key[] = "tokenizer.ggml.scores";
    tok_vocab *v = l->v;
    const kv *k;
    TRY(find_array(l, key, &k));
    v->score = arena_alloc(&v->mem, v->n, sizeof *v->score);
    if (!v->score) FAIL(l->err, MOTE_E_MEMORY, "out of memory for %zu tokens", v->n);
    if (!k) return MOTE_OK;
    if (k->count < v->n)
        FAIL(l->err, MOTE_E_MISMATCH, "'%s' has %llu entries for %zu tokens", key, (unsigned long long)k->count, v->n);
    for (size_t i = 0; i < v->n; i++) {
        double s;
        if (!kv_at_num(k, i, &s)) FAIL(l->err, MOTE_E_FORMAT, "'%s' is not an array of numbers", key);
        v->score[i] = s;
    }
    return MOTE_OK;
}

static bool merge_at(const void *list, size_t i, str *left, str *right) {
    str s = kv_at_str(list, i);
    size_t space = s.n ? str_find(s, STR(" "), 1) : SIZE_MAX; /* a side may itself be a space */
    if (space == SIZE_MAX || space + 1 == s.n) return false;
    *left = str_sub(s, 0, space);
    *right = str_sub(s, space + 1, s.n - space - 1);
    return true;
}

static mote_status load_merges(const loader *l) {
    static const char key[] = "tokenizer.ggml.merges";
    tok_vocab *v = l->v;
    const kv *k;
    TRY(find_array(l, key, &k));
    size_t count = k ? (size_t)k->count : 0, odd = 0;
    if (k && k->elem != KV_STRING) FAIL(l->err, MOTE_E_FORMAT, "'%s' is not an array of strings", key);
    if (count > TOK_MERGES_MAX)
        FAIL(l->err, MOTE_E_LIMIT, "'%s' has %zu entries, at most %zu are taken", key, count, TOK_MERGES_MAX);
    TRY(tok_merges_load(v, count, merge_at, k, false, &odd, l->err));
    if (odd) log_line(l->log, LOG_WARN, "%zu of %zu merges are not two words and are ignored", odd, count);
    return MOTE_OK;
}

/* Which symbol each byte begins as. */
static mote_status spell_bytes(const loader *l) {
    tok_vocab *v = l->v;
    for (int b = 0; b < 256; b++) {
        char c[8];
        if (v->byte_level) {
            size_t n = tok_byte_char((unsigned char)b, c);
            TRY(tok_vocab_symbol(v, (str){c, n}, &v->byte_sym[b], l->err));
            continue;
        }
        static const char hex[] = "0123456789ABCDEF";
        char name[] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        int32_t id = tok_find(v, (str){name, sizeof name});
        if (id < 0) {
            c[0] = (char)b;
            id = tok_plain(v, tok_find(v, (str){c, 1}));
        }
        v->byte_sym[b] = id;
    }
    return MOTE_OK;
}

static const struct pre_name *find_pre(str name) {
    for (size_t i = 0; i < COUNT_OF(pre_names); i++)
        if (str_is(name, pre_names[i].name)) return &pre_names[i];
    return NULL;
}

static mote_status make_pre(tok_pre **out, const struct pre_name *row, mote_error *err) {
    TRY(tok_pre_new(out, err));
    for (const char *const *p = passes_of[row->id]; *p; p++)
        TRY(tok_pre_add(*out, str_of(*p), TOK_SPLIT_ISOLATED, false, err));
    return MOTE_OK;
}

mote_status tok_pre_named(tok_pre **out, str name, mote_error *err) {
    const struct pre_name *row = find_pre(name);
    *out = NULL;
    if (!row) FAIL(err, MOTE_E_NOT_FOUND, "no pre-tokenizer is called '%.*s'", STR_ARG(name));
    return make_pre(out, row, err);
}

static mote_status open_bpe(const loader *l, str pre, bool *add_bos) {
    tok_vocab *v = l->v;
    if (pre.n == 0) {
        log_line(l->log, LOG_WARN, "'tokenizer.ggml.pre' is missing; text is cut by the default rules");
        pre = STR("default");
    }
    const struct pre_name *row = find_pre(pre);
    if (!row) {
        log_line(l->log, LOG_WARN, "unknown pre-tokenizer '%.*s': text is cut by the default rules, "
                 "answers may be worse", STR_ARG(pre));
        row = &pre_names[0];
    }
    v->byte_level = !(row->flags & RAW);
    v->escape_space = (row->flags & RAW) != 0;
    v->ignore_merges = (row->flags & WHOLE) != 0;
    v->newline_words = (row->flags & NEWLINES) != 0;
    *add_bos = (row->flags & BOS) != 0;
    if (row->flags & NOBOS) v->role[TOK_ROLE_BOS] = TOK_NONE;
    TRY(make_pre(&v->pre, row, l->err));
    TRY(load_merges(l));
    TRY(spell_bytes(l));
    return v->byte_level ? MOTE_OK : tok_joints_build(v, l->err);
}

mote_status tok_roles_read(tok_vocab *v, const model_file *f, const log_sink *log, mote_error *err) {
    static const char *const keys[] = {
#define TOK_ROLE_KEY(name, key) "tokenizer.ggml." key,
        TOK_ROLE_MAP(TOK_ROLE_KEY)
#undef TOK_ROLE_KEY
    };
    static const struct {
        const char *key;
        tok_role role;
    } older[] = {{"tokenizer.ggml.prefix_token_id", TOK_ROLE_FIM_PRE},
                 {"tokenizer.ggml.suffix_token_id", TOK_ROLE_FIM_SUF},
                 {"tokenizer.ggml.middle_token_id", TOK_ROLE_FIM_MID}};
    for (size_t i = 0; i < TOK_ROLES + COUNT_OF(older); i++) {
        const char *key = i < TOK_ROLES ? keys[i] : older[i - TOK_ROLES].key;
        int32_t *id = &v->role[i < TOK_ROLES ? i : (size_t)older[i - TOK_ROLES].role];
        uint32_t given;
        if (*id >= 0 && (size_t)*id >= v->n) *id = TOK_NONE;
        TRY(kv_get_u32(f, key, &given, UINT32_MAX, err));
        if (given == UINT32_MAX) continue;
        if (given < v->n) *id = (int32_t)given;
        else log_line(log, LOG_WARN, "'%s' is %u, beyond the %zu tokens; ignored", key, given, v->n);
    }
    return MOTE_OK;
}

static void defaults(tok_vocab *v, int32_t bos, int32_t eos, int32_t unk, int32_t sep, int32_t pad) {
    v->role[TOK_ROLE_BOS] = bos;
    v->role[TOK_ROLE_EOS] = eos;
    v->role[TOK_ROLE_UNK] = unk;
    v->role[TOK_ROLE_SEP] = sep;
    v->role[TOK_ROLE_PAD] = pad;
}

/* tokenizer.ggml.model decides the kind and what holds when the file does not say. */
static mote_status choose_kind(const loader *l, str model, str *pre) {
    tok_vocab *v = l->v;
    if (str_is(model, "gpt2") || str_is(model, "gemma4")) {
        v->kind = TOK_KIND_BPE;
        if (str_is(model, "gemma4")) *pre = STR("gemma4");
    } else if (str_is(model, "llama")) {
        v->kind = TOK_KIND_SPM;
        defaults(v, 1, 2, 0, TOK_NONE, TOK_NONE);
    } else if (str_is(model, "t5")) {
        v->kind = TOK_KIND_UNIGRAM;
        defaults(v, TOK_NONE, 1, 2, TOK_NONE, 0);
    } else if (str_is(model, "bert")) {
        v->kind = TOK_KIND_WORDPIECE;
        defaults(v, 101, TOK_NONE, 100, 102, 0);
        v->role[TOK_ROLE_MASK] = 103;
    } else if (str_is(model, "rwkv")) {
        v->kind = TOK_KIND_TRIE;
    } else if (str_is(model, "plamo2")) {
        v->kind = TOK_KIND_PLAMO2;
        defaults(v, 1, 2, 0, TOK_NONE, 3);
    } else if (str_is(model, "none") || str_is(model, "no_vocab") || str_is(model, "test")) {
        FAIL(l->err, MOTE_E_NOT_FOUND, "the file has no tokenizer ('tokenizer.ggml.model' is '%.*s')", STR_ARG(model));
    } else {
        FAIL(l->err, MOTE_E_UNSUPPORTED, "'tokenizer.ggml.model' is '%.*s'; known are gpt2, gemma4, llama, t5, bert, rwkv, plamo2",
             STR_ARG(model));
    }
    return MOTE_OK;
}

/* A marker before or after texts, when the vocabulary has it. */
static void put_around(int32_t *list, int *n, int32_t id) {
    if (id >= 0) list[(*n)++] = id;
}

static mote_status load_around(const loader *l, bool add_bos, bool add_eos) {
    tok_vocab *v = l->v;
    TRY(kv_get_bool(l->f, "tokenizer.ggml.add_bos_token", &add_bos, add_bos, l->err));
    TRY(kv_get_bool(l->f, "tokenizer.ggml.add_eos_token", &add_eos, add_eos, l->err));
    if (v->newline_words) add_bos = true; /* Gemma 4 files say otherwise and are wrong */
    if (v->kind == TOK_KIND_WORDPIECE) {
        put_around(v->before, &v->n_before, v->role[TOK_ROLE_BOS]);
        put_around(v->after, &v->n_after, v->role[TOK_ROLE_SEP]);
        return MOTE_OK;
    }
    if (v->kind == TOK_KIND_TRIE) return MOTE_OK;
    if (add_bos) put_around(v->before, &v->n_before, v->role[TOK_ROLE_BOS]);
    if (add_eos) put_around(v->after, &v->n_after, v->role[TOK_ROLE_EOS]);
    return MOTE_OK;
}

/* Models whose special tokens eat the white space around them; the file does not say so. */
static mote_status load_strips(const loader *l, str pre) {
    tok_vocab *v = l->v;
    str name, arch;
    TRY(kv_get_str(l->f, "general.name", &name, STR(""), l->err));
    TRY(kv_get_str(l->f, "general.architecture", &arch, STR(""), l->err));
    static const char *const jina[] = {"jina-v2-de", "jina-v2-es", "jina-v2-code"};
    int32_t mask = tok_find(v, STR("<mask>"));
    bool strips = str_is(arch, "nomic-bert-moe") || str_is(arch, "jina-bert-v3");
    for (size_t i = 0; i < COUNT_OF(jina); i++) strips |= str_is(pre, jina[i]);
    if (strips && mask >= 0) v->flag[mask] |= TOK_FLAG_LSTRIP;
    char low[64] = {0};
    for (size_t i = 0; i < name.n && i < sizeof low - 1; i++) low[i] = (char)tok_uni_lower((unsigned char)name.p[i]);
    if (strstr(low, "modern-bert") && (mask = tok_find(v, STR("[MASK]"))) >= 0) v->flag[mask] |= TOK_FLAG_LSTRIP;
    if (!strstr(low, "phi-3") && !strstr(low, "phi3")) return MOTE_OK;
    for (size_t i = 0; i < v->n; i++) {
        bool special = v->type[i] == TOK_CONTROL || v->type[i] == TOK_UNKNOWN || v->type[i] == TOK_USER_DEFINED;
        bool plain = str_is(v->text[i], "<unk>") || str_is(v->text[i], "<s>") || str_is(v->text[i], "<|endoftext|>");
        if ((special && !plain) || str_is(v->text[i], "</s>")) v->flag[i] |= TOK_FLAG_RSTRIP;
    }
    return MOTE_OK;
}

mote_status tok_open_gguf(tok_vocab *v, const model_file *f, const log_sink *log, mote_error *err) {
    loader load = {v, f, log, err};
    const loader *l = &load;
    str model, pre, tmpl;
    TRY(kv_get_str(f, "tokenizer.ggml.model", &model, STR(""), err));
    if (model.n == 0) FAIL(err, MOTE_E_NOT_FOUND, "the file has no tokenizer ('tokenizer.ggml.model' is missing)");
    TRY(kv_get_str(f, "tokenizer.ggml.pre", &pre, STR(""), err));
    TRY(kv_get_str(f, "tokenizer.chat_template", &tmpl, STR(""), err));
    TRY(choose_kind(l, model, &pre));
    TRY(load_texts(l));
    TRY(load_types(l));
    TRY(tok_vocab_index(v, err));
    bool add_bos = v->kind == TOK_KIND_SPM, add_eos = v->kind == TOK_KIND_UNIGRAM;
    v->add_space_prefix = v->kind == TOK_KIND_SPM;
    TRY(kv_get_bool(f, "tokenizer.ggml.add_space_prefix", &v->add_space_prefix, v->add_space_prefix, err));
    TRY(kv_get_bool(f, "tokenizer.ggml.remove_extra_whitespaces", &v->merge_spaces, false, err));
    if (v->kind == TOK_KIND_BPE) TRY(open_bpe(l, pre, &add_bos));
    else if (v->kind == TOK_KIND_SPM || v->kind == TOK_KIND_UNIGRAM || v->kind == TOK_KIND_PLAMO2) {
        v->escape_space = v->kind != TOK_KIND_PLAMO2;
        TRY(load_scores(l));
        TRY(spell_bytes(l));
    }
    TRY(tok_roles_read(v, f, log, err));
    TRY(load_around(l, add_bos, add_eos));
    TRY(tok_vocab_finish(v, tmpl, err));
    if (v->kind == TOK_KIND_SPM) TRY(tok_joints_build(v, err));
    if (v->kind == TOK_KIND_UNIGRAM) TRY(tok_unigram_prepare(v, model_file_find(f, "tokenizer.ggml.precompiled_charsmap"), err));
    if (v->kind == TOK_KIND_WORDPIECE) {
        v->lower = v->strip_accents = true;
        TRY(kv_get_bool(f, "tokenizer.ggml.normalizer.lowercase", &v->lower, true, err));
        TRY(kv_get_bool(f, "tokenizer.ggml.normalizer.strip_accents", &v->strip_accents, v->lower, err));
        TRY(tok_wordpiece_prepare(v, err));
    }
    if (v->kind == TOK_KIND_TRIE) TRY(tok_trie_prepare(v, err));
    if (v->kind == TOK_KIND_PLAMO2) TRY(tok_plamo2_prepare(v, err));
    return load_strips(l, pre);
}
