/* json_pre.c: the pre-tokenizer of a tokenizer.json, and encoding with such a vocabulary.
 *
 * Pre-tokenizers become passes of pre.c. Two of them also change the text: Metaspace writes ▁ for spaces, and
 * ByteLevel may put a space in front. One such change is taken, between the passes before and those after it. */
#include "token/json_int.h"

typedef struct reader {
    tok_vocab *v;
    mote_error *err;
    bool changed; /* the text has been changed: passes go to the second list */
} reader;

static mote_status pass(reader *r, str regex, tok_split how, bool invert) {
    return tok_pre_add(r->changed ? r->v->pre2 : r->v->pre, regex, how, invert, r->err);
}

static mote_status split_kind(reader *r, str name, tok_split *how) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (!str_is(name, names[i])) continue;
        *how = (tok_split)i;
        return MOTE_OK;
    }
    FAIL(r->err, MOTE_E_UNSUPPORTED, "pre-tokenizer behaviour '%.*s' is not supported", STR_ARG(name));
}

/* A regex that matches s and nothing else. */
static mote_status literal(reader *r, str s, tok_split how, bool invert) {
    buf b;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c >= 0x80 || c <= 0x20;
        if (!word) buf_putc(&b, '\\');
        buf_putc(&b, s.p[i]);
    }
    mote_status st = buf_check(&b, "a pre-tokenizer's pattern", r->err);
    if (st == MOTE_OK && b.n) st = pass(r, buf_str(&b), how, invert);
    buf_free(&b);
    return st;
}

static mote_status change(reader *r, str type) {
    if (r->changed) FAIL(r->err, MOTE_E_UNSUPPORTED, "pre-tokenizer '%.*s' behind another that changes the text", STR_ARG(type));
    r->changed = true;
    return MOTE_OK;
}

static mote_status read_metaspace(reader *r, const json_t *j, str type) {
    tok_vocab *v = r->v;
    str scheme = json_get_str(j, "prepend_scheme"), sign = json_get_str(j, "replacement");
    if (sign.p && !str_is(sign, "\xE2\x96\x81"))
        FAIL(r->err, MOTE_E_UNSUPPORTED, "pre-tokenizer Metaspace with '%.*s' in place of a space", STR_ARG(sign));
    bool always = json_get_bool(j, "add_prefix_space", true);
    if (scheme.p) always = str_is(scheme, "always");
    TRY(change(r, type));
    v->meta = true;
    v->escape_space = true;
    v->meta_prefix = always ? TOK_PREFIX_ALWAYS : str_is(scheme, "first") ? TOK_PREFIX_FIRST : TOK_PREFIX_NEVER;
    v->add_space_prefix = v->meta_prefix != TOK_PREFIX_NEVER;
    return json_get_bool(j, "split", true) ? pass(r, STR("\xE2\x96\x81"), TOK_SPLIT_MERGED_NEXT, false) : MOTE_OK;
}

#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"
/* What Hugging Face's library does not know to be punctuation, its tables being older, is left out. */
static mote_status punctuation(reader *r, tok_split how) {
    static const uint32_t unknown[][2] = {
#define PUNCT(from, to) {from, to},
#include "token/bert.def"
    };
    static const uint32_t once[][2] = {
#define ONCE(from, to) {from, to},
#include "token/bert.def"
    };
    buf b;
    buf_init(&b, 1 << 16);
    buf_puts(&b, "(?![");
    for (size_t i = 0; i < COUNT_OF(unknown); i++) buf_printf(&b, "\\x{%X}-\\x{%X}", unknown[i][0], unknown[i][1]);
    buf_puts(&b, "])" PUNCTUATION "|[");
    for (size_t i = 0; i < COUNT_OF(once); i++) buf_printf(&b, "\\x{%X}-\\x{%X}", once[i][0], once[i][1]);
    buf_puts(&b, "]");
    mote_status s = buf_check(&b, "a pre-tokenizer", r->err);
    if (s == MOTE_OK) s = pass(r, buf_str(&b), how, false);
    buf_free(&b);
    return s;
}

static mote_status read_one(reader *r, const json_t *j) {
    tok_vocab *v = r->v;
    str type = json_get_str(j, "type");
    if (str_is(type, "ByteLevel")) {
        v->byte_level = true;
        if (json_get_bool(j, "add_prefix_space", true)) {
            TRY(change(r, type));
            v->add_space_prefix = v->byte_prefix = true;
        }
        static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
        return json_get_bool(j, "use_regex", true) ? pass(r, str_of(gpt2), TOK_SPLIT_ISOLATED, false) : MOTE_OK;
    }
    if (str_is(type, "Split")) {
        const json_t *pattern = json_object_get(j, "pattern");
        str regex = json_get_str(pattern, "Regex");
        bool invert = json_get_bool(j, "invert", false);
        tok_split how = TOK_SPLIT_ISOLATED;
        TRY(split_kind(r, json_get_str(j, "behavior"), &how));
        return regex.p ? pass(r, regex, how, invert) : literal(r, json_get_str(pattern, "String"), how, invert);
    }
    if (str_is(type, "Digits"))
        return pass(r, json_get_bool(j, "individual_digits", false) ? STR("\\p{N}") : STR("\\p{N}+"), TOK_SPLIT_ISOLATED, false);
    if (str_is(type, "Metaspace")) return read_metaspace(r, j, type);
    if (str_is(type, "Whitespace")) return pass(r, STR("\\w+|[^\\w\\s]+"), TOK_SPLIT_REMOVED, true);
    if (str_is(type, "WhitespaceSplit")) return pass(r, STR("\\s+"), TOK_SPLIT_REMOVED, false);
    if (str_is(type, "CharDelimiterSplit")) return literal(r, json_get_str(j, "delimiter"), TOK_SPLIT_REMOVED, false);
    if (str_is(type, "Punctuation")) {
        tok_split how = TOK_SPLIT_ISOLATED;
        if (json_get_str(j, "behavior").p) TRY(split_kind(r, json_get_str(j, "behavior"), &how));
        return punctuation(r, how);
    }
    if (str_is(type, "BertPreTokenizer")) {
        TRY(pass(r, STR("\\s+"), TOK_SPLIT_REMOVED, false));
        return punctuation(r, TOK_SPLIT_ISOLATED);
    }
    FAIL(r->err, MOTE_E_UNSUPPORTED, "pre-tokenizer '%.*s' is not supported", STR_ARG(type));
}

static mote_status read_all(reader *r, const json_t *j, int depth) {
    if (!json_is_object(j)) return MOTE_OK;
    if (!str_is(json_get_str(j, "type"), "Sequence")) return read_one(r, j);
    const json_t *list = json_object_get(j, "pretokenizers");
    if (depth > 8) FAIL(r->err, MOTE_E_LIMIT, "pre-tokenizers nested deeper than 8");
    for (size_t i = 0; i < json_array_size(list); i++) TRY(read_all(r, json_array_get(list, i), depth + 1));
    return MOTE_OK;
}

mote_status tok_json_pre_read(tok_vocab *v, const json_t *j, mote_error *err) {
    TRY(tok_pre_new(&v->pre, err));
    TRY(tok_pre_new(&v->pre2, err));
    reader r = {.v = v, .err = err};
    return read_all(&r, j, 0);
}

/* ---- encoding ---- */

static mote_status encode_word(tok_work *w, str word) {
    switch (w->v->kind) {
    case TOK_KIND_UNIGRAM: return tok_unigram_words(w, word);
    case TOK_KIND_WORDPIECE:
        buf_clear(&w->text);
        buf_puts(&w->text, "\xE2\x96\x81");
        buf_put_str(&w->text, word);
        TRY(buf_check(&w->text, "a word", w->err));
        return tok_wordpiece_word(w, buf_str(&w->text));
    default: return tok_bpe_word(w, word);
    }
}

/* A piece after the passes before the change: the change, and the passes behind it. */
static mote_status encode_piece(tok_work *w, str piece, bool first) {
    const tok_vocab *v = w->v;
    const tok_pieces *parts;
    if (!v->meta && !v->byte_prefix) return encode_word(w, piece);
    buf_clear(&w->piece);
    if (v->meta) {
        bool sign = str_starts(piece, STR(" ")) || str_starts(piece, STR("\xE2\x96\x81"));
        bool wants = v->meta_prefix == TOK_PREFIX_ALWAYS || (v->meta_prefix == TOK_PREFIX_FIRST && first);
        TRY(tok_escape_spaces(piece, wants && !sign, &w->piece, w->err));
    } else {
        if (!str_starts(piece, STR(" "))) buf_putc(&w->piece, ' ');
        buf_put_str(&w->piece, piece);
        TRY(buf_check(&w->piece, "a text", w->err));
    }
    str text = buf_str(&w->piece);
    if (!w->cut2) TRY(tok_cut_open(&w->cut2, v->pre2, w->err));
    TRY(tok_cut_run(w->cut2, text, &parts, w->err));
    for (size_t i = 0, at = 0; i < parts->n; at += parts->len[i++])
        if (!parts->dropped[i]) TRY(encode_word(w, str_sub(text, at, parts->len[i])));
    return MOTE_OK;
}

static mote_status encode_normalized(tok_work *w, str text, bool first) {
    const tok_pieces *pieces;
    if (!w->cut) TRY(tok_cut_open(&w->cut, w->v->pre, w->err));
    TRY(tok_cut_run(w->cut, text, &pieces, w->err));
    for (size_t i = 0, at = 0; i < pieces->n; at += pieces->len[i++])
        if (!pieces->dropped[i]) TRY(encode_piece(w, str_sub(text, at, pieces->len[i]), first && at == 0));
    return MOTE_OK;
}

mote_status tok_json_encode(tok_work *w, str text, bool first) {
    const tok_vocab *v = w->v;
    TRY(tok_norm_apply(v->norm, text, &w->norm, &w->norm2, &text, w->err));
    if (text.n == 0) return MOTE_OK;
    if (!v->late.edge || tok_trie_is_empty(&v->late)) return encode_normalized(w, text, first);
    w->first = first;
    return tok_partition(w, &v->late, text, NULL, 0, w->parse_control, encode_normalized);
}
