/* vocab.c: the vocabulary: its tables, what tokens are for, and the bytes they stand for. */
#include "token/token_int.h"

#define MEM_MAX ((size_t)1 << 30)

mote_status tok_vocab_new(tok_vocab **out, mote_error *err) {
    tok_vocab *v = *out = MEM_NEW(tok_vocab);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory for a vocabulary");
    arena_init(&v->mem, MEM_MAX);
    for (int i = 0; i < TOK_ROLES; i++) v->role[i] = TOK_NONE;
    for (int i = 0; i < 256; i++) v->byte_sym[i] = TOK_NONE;
    return MOTE_OK;
}

void tok_close(tok_vocab **out) {
    tok_vocab *v = *out;
    if (!v) return;
    mem_free(v->text);
    buf_free(&v->piece_bytes);
    mem_free(v->joints);
    tok_map_free(&v->map);
    tok_merges_free(&v->merges);
    tok_trie_free(&v->special);
    tok_trie_free(&v->trie);
    tok_trie_free(&v->user_trie);
    tok_trie_free(&v->late);
    tok_pre_free(&v->pre);
    tok_pre_free(&v->pre2);
    tok_norm_free(&v->norm);
    arena_free(&v->mem);
    mem_free(v);
    *out = NULL;
}

mote_status tok_vocab_index(tok_vocab *v, mote_error *err) {
    TRY(tok_map_init(&v->map, v->n, err));
    for (size_t i = 0; i < v->n; i++) {
        if (v->text[i].n) TRY(tok_map_put(&v->map, v->text, (int32_t)i, err)); /* tokenizer.json may leave ids out */
    }
    v->n_syms = v->n;
    return MOTE_OK;
}

mote_status tok_vocab_symbol(tok_vocab *v, str s, int32_t *id, mote_error *err) {
    *id = tok_map_get(&v->map, v->text, s.p, s.n);
    if (*id >= 0) return MOTE_OK;
    TRY(mem_grow(&v->text, &v->cap_syms, v->n_syms + 1, sizeof *v->text, INT32_MAX, err));
    char *copy = arena_dup(&v->mem, s);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory for the merges of a vocabulary");
    v->text[v->n_syms] = (str){copy, s.n};
    *id = (int32_t)v->n_syms++;
    return tok_map_put(&v->map, v->text, *id, err);
}

/* Merges on their way into the table. */
typedef struct batch {
    str left[TOK_MANY_MAX], right[TOK_MANY_MAX], whole[TOK_MANY_MAX];
    uint32_t rank[TOK_MANY_MAX];
    size_t n;
    buf bytes; /* of the wholes */
} batch;

static mote_status batch_put(tok_vocab *v, batch *b, bool tokens_only, size_t *odd, mote_error *err) {
    int32_t l[TOK_MANY_MAX], r[TOK_MANY_MAX], made[TOK_MANY_MAX];
    size_t at = 0;
    TRY(buf_check(&b->bytes, "the merges of a vocabulary", err));
    for (size_t i = 0; i < b->n; i++) {
        b->whole[i] = (str){b->bytes.p + at, b->left[i].n + b->right[i].n};
        at += b->whole[i].n;
    }
    tok_map_get_many(&v->map, v->text, b->left, l, b->n);
    tok_map_get_many(&v->map, v->text, b->right, r, b->n);
    tok_map_get_many(&v->map, v->text, b->whole, made, b->n);
    for (size_t i = 0; i < b->n; i++) tok_merges_expect(&v->merges, l[i], r[i]);
    for (size_t i = 0; i < b->n; i++) {
        if (tokens_only && (l[i] < 0 || r[i] < 0)) {
            ++*odd;
            continue;
        }
        /* what is no token becomes a symbol, unless an earlier merge has made it one */
        if (l[i] < 0) TRY(tok_vocab_symbol(v, b->left[i], &l[i], err));
        if (r[i] < 0) TRY(tok_vocab_symbol(v, b->right[i], &r[i], err));
        if (made[i] < 0) TRY(tok_vocab_symbol(v, b->whole[i], &made[i], err));
        tok_merges_put(&v->merges, l[i], r[i], b->rank[i], made[i]);
    }
    b->n = 0;
    buf_clear(&b->bytes);
    return MOTE_OK;
}

mote_status tok_merges_load(tok_vocab *v, size_t n, tok_merge_at at, const void *list, bool tokens_only, size_t *odd,
                            mote_error *err) {
    batch b = {.n = 0};
    mote_status s = MOTE_OK;
    *odd = 0;
    TRY(tok_merges_init(&v->merges, n, err));
    buf_init(&b.bytes, 2 * TOK_MANY_MAX * TOK_TOKEN_BYTES_MAX);
    for (size_t i = 0; i < n && s == MOTE_OK; i++) {
        str left, right;
        if (!at(list, i, &left, &right)) {
            ++*odd;
            continue;
        }
        if (left.n > TOK_TOKEN_BYTES_MAX || right.n > TOK_TOKEN_BYTES_MAX)
            FAILG(s, err, MOTE_E_LIMIT, "merge %zu is longer than %zu bytes", i, TOK_TOKEN_BYTES_MAX);
        b.left[b.n] = left;
        b.right[b.n] = right;
        b.rank[b.n++] = (uint32_t)i;
        buf_put_str(&b.bytes, left);
        buf_put_str(&b.bytes, right);
        if (b.n == TOK_MANY_MAX) s = batch_put(v, &b, tokens_only, odd, err);
    }
    if (s == MOTE_OK) s = batch_put(v, &b, tokens_only, odd, err);
out:
    buf_free(&b.bytes);
    return s;
}

/* ---- bytes ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int tok_byte_value(str s) {
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    int hi = hex_digit(s.p[3]), lo = hex_digit(s.p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static bool printable(unsigned b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

/* GPT-2's table: printable Latin-1 stands for itself, the other bytes in order for U+0100 and up. */
size_t tok_byte_char(unsigned char byte, char out[4]) {
    unsigned cp = byte;
    if (!printable(byte)) cp = byte <= 0x20 ? 0x100u + byte : byte <= 0xA0 ? 0x121u + (byte - 0x7Fu) : 0x143u;
    return utf8_encode(cp, out);
}

int tok_char_byte(uint32_t cp) {
    if (cp < 0x100) return printable(cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

static void put_unescaped(buf *b, str s) { /* ▁ is a space */
    for (size_t i = 0; i < s.n;) {
        if (s.n - i >= 3 && memcmp(s.p + i, "\xE2\x96\x81", 3) == 0) {
            buf_putc(b, ' ');
            i += 3;
        } else {
            buf_putc(b, s.p[i++]);
        }
    }
}

static void put_from_stand_ins(buf *b, str s) {
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        size_t len = utf8_decode(s.p + i, s.n - i, &cp);
        int byte = cp == UTF8_BAD ? -1 : tok_char_byte(cp);
        if (byte >= 0) buf_putc(b, (char)byte);
        else buf_put(b, s.p + i, len);
        i += len;
    }
}

static void put_piece(const tok_vocab *v, size_t id, buf *b) {
    str s = v->text[id];
    int type = v->type[id], byte;
    if (type == TOK_CONTROL || type == TOK_UNKNOWN || type == TOK_USER_DEFINED) buf_put_str(b, s);
    else if (type == TOK_BYTE && (byte = tok_byte_value(s)) >= 0) buf_putc(b, (char)byte);
    else if (v->kind == TOK_KIND_TRIE) tok_trie_unescape(s, b);
    else if (v->kind == TOK_KIND_BPE && v->byte_level) put_from_stand_ins(b, s);
    else if (v->kind == TOK_KIND_WORDPIECE && v->from_json) {
        if (v->char_prefix.n && str_starts(s, v->char_prefix)) buf_put(b, s.p + v->char_prefix.n, s.n - v->char_prefix.n);
        else buf_putc(b, ' '), buf_put_str(b, s);
    } else if (v->escape_space || (v->kind != TOK_KIND_BPE && v->kind != TOK_KIND_PLAMO2)) put_unescaped(b, s);
    else buf_put_str(b, s);
}

static mote_status make_pieces(tok_vocab *v, mote_error *err) {
    buf b;
    buf_init(&b, MEM_MAX / 2);
    v->piece_from = arena_alloc(&v->mem, v->n + 1, sizeof *v->piece_from);
    if (!v->piece_from) FAIL(err, MOTE_E_MEMORY, "out of memory for the pieces of a vocabulary");
    for (size_t i = 0; i < v->n; i++) {
        put_piece(v, i, &b);
        v->piece_from[i + 1] = (uint32_t)b.n;
    }
    mote_status s = buf_check(&b, "the pieces of a vocabulary", err);
    v->piece_bytes = b;
    v->pieces = buf_str(&v->piece_bytes);
    return s;
}

/* ---- what tokens are for ---- */

static void known_names(tok_vocab *v) {
    enum { TOK_ROLE_NONE = TOK_ROLES };
    static const struct {
        const char *text;
        int role;
        bool ends;
    } known[] = {
#define TOK_NAME(text, role, ends) {text, TOK_ROLE_##role, ends},
#include "token/names.def"
#undef TOK_NAME
    };
    bool given[TOK_ROLES];
    for (int i = 0; i < TOK_ROLES; i++) given[i] = v->role[i] != TOK_NONE;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        int32_t id = tok_find(v, str_of(known[i].text));
        if (id < 0) continue;
        int role = known[i].role;
        bool takes = role < TOK_ROLES && !given[role];
        if (takes && v->role[role] == TOK_NONE) v->role[role] = id;
        if (known[i].ends || (takes && v->role[role] == id)) v->type[id] = TOK_CONTROL;
        if (known[i].ends) v->flag[id] |= TOK_FLAG_EOG;
    }
}

static void mark_ends(tok_vocab *v) {
    static const tok_role ending[] = {TOK_ROLE_EOS,     TOK_ROLE_EOT,     TOK_ROLE_EOM,
                                      TOK_ROLE_FIM_PAD, TOK_ROLE_FIM_REP, TOK_ROLE_FIM_SEP};
    for (size_t i = 0; i < COUNT_OF(ending); i++)
        if (v->role[ending[i]] >= 0) v->flag[v->role[ending[i]]] |= TOK_FLAG_EOG;
}

static bool ends_answer(const tok_vocab *v, const char *name) {
    int32_t id = tok_find(v, str_of(name));
    return id >= 0 && (v->flag[id] & TOK_FLAG_EOG);
}

static void retype(tok_vocab *v, const char *name, tok_type type) {
    int32_t id = tok_find(v, str_of(name));
    if (id < 0) return;
    v->type[id] = (uint8_t)type;
    v->flag[id] &= (uint8_t)~TOK_FLAG_EOG;
}

/* Families where a well-known name means something else. */
static void known_exceptions(tok_vocab *v) {
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    bool calls = ends_answer(v, "<|call|>") || ends_answer(v, "<|calls|>");
    for (size_t i = 0; i < COUNT_OF(shown); i++) { /* o200k_harmony: the answer's structure is part of its text */
        int32_t id = tok_find(v, str_of(shown[i]));
        if (id >= 0) v->type[id] = TOK_USER_DEFINED;
    }
    /* o200k_harmony, solar-open: <|end|> ends a message, not the answer */
    if (calls && (ends_answer(v, "<|return|>") || ends_answer(v, "<|flush|>")) && ends_answer(v, "<|end|>"))
        retype(v, "<|end|>", TOK_USER_DEFINED);
    /* gemma 4, plamo: </s> is a plain token */
    if (ends_answer(v, "<|tool_response>") || ends_answer(v, "<|plamo:eos|>")) retype(v, "</s>", TOK_NORMAL);
}

/* Tokens that the chat template writes are its delimiters, even those the file calls user-defined. */
static void mark_delimiters(tok_vocab *v, str tmpl) {
    for (size_t i = 0; i < tmpl.n; i++) {
        uint32_t node = 0;
        for (size_t k = i; k < tmpl.n; k++) {
            node = tok_trie_step(&v->special, node, (unsigned char)tmpl.p[k]);
            if (!node) break;
            int32_t id = tok_trie_value(&v->special, node);
            if (id < 0) continue;
            bool blank = true;
            for (size_t c = i; c <= k; c++) blank &= tok_uni_space((unsigned char)tmpl.p[c]);
            if (!blank) v->flag[id] |= TOK_FLAG_DELIMITER;
        }
    }
}

mote_status tok_vocab_finish(tok_vocab *v, str chat_template, mote_error *err) {
    known_names(v);
    mark_ends(v);
    known_exceptions(v);
    TRY(make_pieces(v, err));
    TRY(tok_trie_init(&v->special, err));
    for (size_t i = 0; i < v->n; i++) {
        bool special = v->type[i] == TOK_CONTROL || v->type[i] == TOK_UNKNOWN || v->type[i] == TOK_USER_DEFINED;
        if (special && v->text[i].n && !(v->flag[i] & TOK_FLAG_NORMALIZED))
            TRY(tok_trie_put(&v->special, STR(""), v->text[i], (int32_t)i, err));
    }
    mark_delimiters(v, chat_template);
    return MOTE_OK;
}

/* Which characters ever stand beside each other inside a symbol: text can be cut wherever two do not. */
static inline uint32_t joint(uint32_t a, uint32_t b) {
    uint64_t h = ((uint64_t)a << 21 ^ b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> (64 - TOK_JOINT_BITS));
}

mote_status tok_joints_build(tok_vocab *v, mote_error *err) {
    v->joints = MEM_NEW_N(uint64_t, (size_t)1 << (TOK_JOINT_BITS - 6));
    if (!v->joints) FAIL(err, MOTE_E_MEMORY, "out of memory for the joints of a vocabulary");
    for (size_t i = 0; i < v->n_syms; i++) {
        str s = v->text[i];
        uint32_t before = 0, cp;
        for (size_t k = 0; k < s.n; before = cp) {
            bool first = k == 0;
            k += utf8_decode(s.p + k, s.n - k, &cp);
            if (first) continue;
            uint32_t j = joint(before, cp);
            v->joints[j >> 6] |= (uint64_t)1 << (j & 63);
        }
    }
    return MOTE_OK;
}

bool tok_joined(const tok_vocab *v, uint32_t a, uint32_t b) {
    uint32_t j = joint(a, b);
    return v->joints[j >> 6] >> (j & 63) & 1;
}

/* ---- asking ---- */

static bool has(const tok_vocab *v, int32_t id) { return id >= 0 && (size_t)id < v->n; }

size_t tok_count(const tok_vocab *v) { return v->n; }
tok_kind tok_vocab_kind(const tok_vocab *v) { return v->kind; }
int32_t tok_id(const tok_vocab *v, tok_role role) { return v->role[role]; }
tok_type tok_type_of(const tok_vocab *v, int32_t id) { return has(v, id) ? (tok_type)v->type[id] : TOK_UNUSED; }
bool tok_is_eog(const tok_vocab *v, int32_t id) { return has(v, id) && (v->flag[id] & TOK_FLAG_EOG); }
bool tok_is_control(const tok_vocab *v, int32_t id) {
    return has(v, id) && (v->type[id] == TOK_CONTROL || v->type[id] == TOK_UNKNOWN);
}
str tok_text(const tok_vocab *v, int32_t id) { return has(v, id) ? v->text[id] : STR(""); }
bool tok_adds_bos(const tok_vocab *v) { return v->n_before > 0; }
bool tok_adds_eos(const tok_vocab *v) { return v->n_after > 0; }

int32_t tok_find(const tok_vocab *v, str s) {
    int32_t id = tok_map_get(&v->map, v->text, s.p, s.n);
    return has(v, id) ? id : TOK_NONE;
}

const char *tok_kind_name(tok_kind k) {
    static const char *const names[] = {"BPE", "SentencePiece BPE", "unigram", "WordPiece", "longest match", "PLaMo 2"};
    return names[k];
}

mote_status tok_open(tok_vocab **out, const model_file *f, const log_sink *log, mote_error *err) {
    str json = model_file_tokenizer_json(f);
    mote_status s;
    *out = NULL;
    if (json.n) { /* the folder's other files know of further ids and of the chat template */
        TRY(tok_open_json(out, json, model_file_tokenizer_config(f), log, err));
        str tmpl;
        TRYG(s, kv_get_str(f, "tokenizer.chat_template", &tmpl, STR(""), err));
        TRYG(s, tok_roles_read(*out, f, log, err));
        mark_ends(*out);
        mark_delimiters(*out, tmpl);
    } else {
        TRY(tok_vocab_new(out, err));
        s = tok_open_gguf(*out, f, log, err);
    }
out:
    if (s != MOTE_OK) tok_close(out);
    return s;
}
