/* json_norm.c: the normalizer of a tokenizer.json: a list of steps from text to text. Semantics are those of Hugging
 * Face's tokenizers library. Invalid bytes become U+FFFD first. Every step takes time in proportion to the text. */
#include "token/json_int.h"

#include <utf8proc.h>

#define STEPS_MAX 32

enum step_kind {
    STEP_NFD, STEP_NFC, STEP_NFKD, STEP_NFKC, STEP_LOWER, STEP_STRIP, STEP_STRIP_ACCENTS, STEP_REPLACE, STEP_PREPEND,
    STEP_BERT, STEP_CHARSMAP
};
struct step {
    enum step_kind kind;
    str find, put;              /* replace, prepend */
    tok_pre *regex;             /* replace by regex */
    bool left, right;           /* strip */
    bool clean, chinese, accents, lower; /* BERT */
    tok_charsmap charsmap;
};
struct tok_norm {
    struct step step[STEPS_MAX];
    int n;
};

void tok_norm_free(tok_norm **out) {
    if (!*out) return;
    for (int i = 0; i < (*out)->n; i++) tok_pre_free(&(*out)->step[i].regex);
    mem_free(*out);
    *out = NULL;
}

/* ---- reading ---- */

static mote_status copy_str(tok_vocab *v, str s, str *out, mote_error *err) {
    char *p = arena_dup(&v->mem, s);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for a normalizer");
    *out = (str){p, s.n};
    return MOTE_OK;
}

static mote_status read_replace(tok_vocab *v, struct step *s, const json_t *j, mote_error *err) {
    const json_t *pattern = json_object_get(j, "pattern");
    str find = json_get_str(pattern, "String"), regex = json_get_str(pattern, "Regex");
    TRY(copy_str(v, json_get_str(j, "content"), &s->put, err));
    if (find.p) return copy_str(v, find, &s->find, err);
    if (!regex.p) FAIL(err, MOTE_E_FORMAT, "normalizer Replace: 'pattern' has neither 'String' nor 'Regex'");
    TRY(tok_pre_new(&s->regex, err));
    return tok_pre_add(s->regex, regex, TOK_SPLIT_REMOVED, false, err);
}

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static mote_status read_charsmap(tok_vocab *v, struct step *s, str text, mote_error *err) {
    unsigned char *p = arena_alloc(&v->mem, text.n / 4 * 3 + 4, 1);
    size_t n = 0;
    uint32_t bits = 0;
    int have = 0;
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for a normalizer");
    for (size_t i = 0; i < text.n; i++) {
        int d = base64_digit(text.p[i]);
        if (d < 0) continue;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        p[n++] = (unsigned char)(bits >> have);
    }
    return tok_charsmap_open(&s->charsmap, p, n, err);
}

static mote_status add_step(tok_vocab *v, const json_t *j, mote_error *err) {
    static const struct {
        const char *name;
        enum step_kind kind;
    } kinds[] = {{"NFD", STEP_NFD},         {"NFC", STEP_NFC},         {"NFKD", STEP_NFKD},
                 {"NFKC", STEP_NFKC},       {"Lowercase", STEP_LOWER}, {"Strip", STEP_STRIP},
                 {"Replace", STEP_REPLACE}, {"Prepend", STEP_PREPEND}, {"StripAccents", STEP_STRIP_ACCENTS},
                 {"BertNormalizer", STEP_BERT}, {"Precompiled", STEP_CHARSMAP}};
    str type = json_get_str(j, "type");
    size_t k = 0;
    while (k < COUNT_OF(kinds) && !str_is(type, kinds[k].name)) k++;
    if (k == COUNT_OF(kinds)) FAIL(err, MOTE_E_UNSUPPORTED, "normalizer '%.*s' is not supported", STR_ARG(type));
    if (v->norm->n == STEPS_MAX) FAIL(err, MOTE_E_LIMIT, "the normalizer has more than %d steps", STEPS_MAX);
    struct step *s = &v->norm->step[v->norm->n++];
    s->kind = kinds[k].kind;
    switch (s->kind) {
    case STEP_STRIP:
        s->left = json_get_bool(j, "strip_left", true);
        s->right = json_get_bool(j, "strip_right", true);
        break;
    case STEP_REPLACE: return read_replace(v, s, j, err);
    case STEP_PREPEND: return copy_str(v, json_get_str(j, "prepend"), &s->put, err);
    case STEP_BERT:
        s->lower = json_get_bool(j, "lowercase", true);
        s->clean = json_get_bool(j, "clean_text", true);
        s->chinese = json_get_bool(j, "handle_chinese_chars", true);
        s->accents = json_get_bool(j, "strip_accents", s->lower);
        break;
    case STEP_CHARSMAP: return read_charsmap(v, s, json_get_str(j, "precompiled_charsmap"), err);
    default: break;
    }
    return MOTE_OK;
}

static mote_status add_steps(tok_vocab *v, const json_t *j, int depth, mote_error *err) {
    if (!json_is_object(j)) return MOTE_OK;
    if (!str_is(json_get_str(j, "type"), "Sequence")) return add_step(v, j, err);
    const json_t *list = json_object_get(j, "normalizers");
    if (depth > 8) FAIL(err, MOTE_E_LIMIT, "normalizers nested deeper than 8");
    for (size_t i = 0; i < json_array_size(list); i++) TRY(add_steps(v, json_array_get(list, i), depth + 1, err));
    return MOTE_OK;
}

mote_status tok_norm_read(tok_vocab *v, const json_t *j, mote_error *err) {
    if (!json_is_object(j)) return MOTE_OK;
    v->norm = MEM_NEW(tok_norm);
    if (!v->norm) FAIL(err, MOTE_E_MEMORY, "out of memory for a normalizer");
    TRY(add_steps(v, j, 0, err));
    for (int i = 0; i < v->norm->n; i++) {
        const struct step *s = &v->norm->step[i];
        bool to_space_sign = s->kind == STEP_REPLACE && str_is(s->find, " ") && str_is(s->put, "\xE2\x96\x81");
        if (to_space_sign) v->escape_space = true;
        if (s->kind == STEP_PREPEND) v->add_space_prefix = true;
    }
    return MOTE_OK;
}

/* ---- applying ---- */

static uint32_t next_char(str s, size_t *i) {
    uint32_t cp;
    *i += utf8_decode(s.p + *i, s.n - *i, &cp);
    return cp == UTF8_BAD ? 0xFFFD : cp;
}

static void put_char(buf *b, uint32_t cp) {
    char c[4];
    buf_put(b, c, utf8_encode(cp, c));
}

typedef struct code_points {
    utf8proc_int32_t *p;
    size_t n, cap;
} code_points;

/* Canonical order: marks behind one base character, sorted by combining class, equal ones as they were. */
static mote_status order_marks(code_points *d, mote_error *err) {
    code_points kept = {0};
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < d->n && s == MOTE_OK;) {
        size_t end = i, at[256] = {0};
        while (end < d->n && utf8proc_get_property(d->p[end])->combining_class) end++;
        size_t n = end - i;
        if (n > 1 && (s = mem_grow(&kept.p, &kept.cap, n, sizeof *kept.p, TOK_TEXT_BYTES_MAX, err)) == MOTE_OK) {
            for (size_t k = i; k < end; k++) at[utf8proc_get_property(d->p[k])->combining_class & 255]++;
            for (size_t c = 0, sum = 0; c < 256; c++) {
                size_t count = at[c];
                at[c] = sum;
                sum += count;
            }
            for (size_t k = i; k < end; k++) kept.p[at[utf8proc_get_property(d->p[k])->combining_class & 255]++] = d->p[k];
            memcpy(d->p + i, kept.p, n * sizeof *kept.p);
        }
        i = end + 1;
    }
    mem_free(kept.p);
    return s;
}

static mote_status decompose(str in, bool compat, code_points *d, mote_error *err) {
    int options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0);
    for (size_t i = 0; i < in.n;) {
        uint32_t cp = next_char(in, &i);
        TRY(mem_grow(&d->p, &d->cap, d->n + 32, sizeof *d->p, 4 * TOK_TEXT_BYTES_MAX, err));
        int last = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, d->p + d->n, 32, (utf8proc_option_t)options, &last);
        if (n > 0 && n <= 32) d->n += (size_t)n;
        else d->p[d->n++] = (utf8proc_int32_t)cp;
    }
    return order_marks(d, err);
}

static mote_status unicode_form(str in, buf *out, bool compat, bool compose, mote_error *err) {
    code_points d = {0};
    mote_status s = decompose(in, compat, &d, err);
    if (s == MOTE_OK && compose) {
        utf8proc_ssize_t n = utf8proc_normalize_utf32(d.p, (utf8proc_ssize_t)d.n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n >= 0) d.n = (size_t)n;
    }
    for (size_t i = 0; s == MOTE_OK && i < d.n; i++) put_char(out, (uint32_t)d.p[i]);
    mem_free(d.p);
    return s;
}

static void put_lower(buf *out, uint32_t cp) {
    if (cp == 0x130) buf_puts(out, "i\xCC\x87"); /* the one character whose lower case is two */
    else put_char(out, tok_uni_lower(cp));
}

static void strip(const struct step *s, str in, buf *out) {
    size_t from = 0, to = 0;
    bool any = false;
    for (size_t i = 0; i < in.n;) {
        size_t at = i;
        if (tok_uni_space(next_char(in, &i))) continue;
        if (!any) from = at;
        any = true;
        to = i;
    }
    if (!s->left) from = 0;
    if (!s->right) to = in.n;
    if (any) buf_put(out, in.p + from, to - from);
    else if (!s->left || !s->right) buf_put_str(out, in);
}

static mote_status replace(const struct step *s, str in, buf *out, mote_error *err) {
    if (!s->regex) {
        for (size_t i = 0; i < in.n;) {
            size_t hit = s->find.n ? str_find(in, s->find, i) : SIZE_MAX;
            size_t end = hit == SIZE_MAX ? in.n : hit;
            buf_put(out, in.p + i, end - i);
            if (hit != SIZE_MAX) buf_put_str(out, s->put);
            i = hit == SIZE_MAX ? in.n : hit + s->find.n;
        }
        return MOTE_OK;
    }
    tok_cut *cut;
    const tok_pieces *pieces;
    TRY(tok_cut_open(&cut, s->regex, err));
    mote_status st = tok_cut_run(cut, in, &pieces, err);
    for (size_t i = 0, at = 0; st == MOTE_OK && i < pieces->n; at += pieces->len[i++]) {
        if (pieces->dropped[i]) buf_put_str(out, s->put);
        else buf_put(out, in.p + at, pieces->len[i]);
    }
    tok_cut_close(&cut);
    return st;
}

#define RANGES(table)                                                                              \
    static bool in_##table(uint32_t cp) {                                                          \
        for (size_t i = 0; i < COUNT_OF(table) && table[i][0] <= cp; i++)                          \
            if (cp <= table[i][1]) return true;                                                    \
        return false;                                                                              \
    }
#define MARK(from, to) {from, to},
static const uint32_t new_marks[][2] = {
#include "token/bert.def"
};
#define FORMAT(from, to) {from, to},
static const uint32_t new_formats[][2] = {
#include "token/bert.def"
};
RANGES(new_marks)
RANGES(new_formats)

static void clean(str in, buf *out) {
    for (size_t i = 0; i < in.n;) {
        uint32_t cp = next_char(in, &i);
        if (cp == 0 || cp == 0xFFFD) continue;
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
        if (cp == '\t' || cp == '\n' || cp == '\r') cp = ' ';
        else if ((c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO) && !in_new_formats(cp)) continue;
        else if (tok_uni_space(cp)) cp = ' ';
        put_char(out, cp);
    }
}

static void surround_chinese(str in, buf *out) {
    for (size_t i = 0; i < in.n;) {
        uint32_t cp = next_char(in, &i);
        bool chinese = tok_bert_chinese(cp);
        if (chinese) buf_putc(out, ' ');
        put_char(out, cp);
        if (chinese) buf_putc(out, ' ');
    }
}

/* nonspacing: only category Mn, as BERT wants it; else all marks. */
static void drop_marks(str in, buf *out, bool nonspacing) {
    for (size_t i = 0; i < in.n;) {
        uint32_t cp = next_char(in, &i);
        if (nonspacing ? utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_MN && !in_new_marks(cp)
                       : tok_uni_class(cp) == TOK_CLS_M)
            continue;
        put_char(out, cp);
    }
}

static void lower_all(str in, buf *out) {
    for (size_t i = 0; i < in.n;) put_lower(out, next_char(in, &i));
}

static void apply_charsmap(const struct step *s, str in, buf *out) {
    for (size_t i = 0; i < in.n;) {
        str put;
        size_t used = tok_charsmap_match(&s->charsmap, in.p + i, in.n - i, &put);
        if (used) {
            buf_put_str(out, put);
            i += used;
        } else {
            put_char(out, next_char(in, &i));
        }
    }
}

/* The result lies in one of two buffers; *in is the text so far, *spare the buffer that it does not lie in. */
static void swap(str *in, buf **spare, buf *a, buf *b) {
    *in = buf_str(*spare);
    *spare = *spare == a ? b : a;
    buf_clear(*spare);
}

static mote_status bert(const struct step *s, str *in, buf **spare, buf *a, buf *b, mote_error *err) {
    if (s->clean) clean(*in, *spare), swap(in, spare, a, b);
    if (s->chinese) surround_chinese(*in, *spare), swap(in, spare, a, b);
    if (s->accents) {
        TRY(unicode_form(*in, *spare, false, false, err));
        swap(in, spare, a, b);
        drop_marks(*in, *spare, true);
        swap(in, spare, a, b);
    }
    if (s->lower) lower_all(*in, *spare), swap(in, spare, a, b);
    return MOTE_OK;
}

mote_status tok_norm_apply(const tok_norm *n, str text, buf *a, buf *b, str *out, mote_error *err) {
    *out = text;
    if (!n) return MOTE_OK;
    buf *spare = a;
    buf_clear(a);
    buf_clear(b);
    for (int i = 0; i < n->n; i++) {
        const struct step *s = &n->step[i];
        str in = *out;
        if (s->kind == STEP_BERT) {
            TRY(bert(s, out, &spare, a, b, err));
            continue;
        }
        switch (s->kind) {
        case STEP_NFD: TRY(unicode_form(in, spare, false, false, err)); break;
        case STEP_NFC: TRY(unicode_form(in, spare, false, true, err)); break;
        case STEP_NFKD: TRY(unicode_form(in, spare, true, false, err)); break;
        case STEP_NFKC: TRY(unicode_form(in, spare, true, true, err)); break;
        case STEP_LOWER: lower_all(in, spare); break;
        case STEP_STRIP: strip(s, in, spare); break;
        case STEP_STRIP_ACCENTS: drop_marks(in, spare, false); break;
        case STEP_REPLACE: TRY(replace(s, in, spare, err)); break;
        case STEP_PREPEND:
            if (in.n) buf_put_str(spare, s->put);
            buf_put_str(spare, in);
            break;
        case STEP_CHARSMAP: apply_charsmap(s, in, spare); break;
        case STEP_BERT: break;
        }
        TRY(buf_check(spare, "a normalized text", err));
        swap(out, &spare, a, b);
    }
    return buf_check(spare, "a normalized text", err);
}
