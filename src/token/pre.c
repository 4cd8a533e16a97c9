/* pre.c: cutting text into words with a list of regular expressions.
 *
 * Where a regex asks only for ASCII characters and Unicode categories, it runs not on the text but on its shadow: one
 * byte per character, ASCII as it is, everything else as a byte that names its class (0xC0 + tok_class), all
 * Unicode white space as 0x0B. That is fast, exact about the Unicode version (ours, not PCRE2's), and cannot
 * be upset by invalid UTF-8. The other regexes run on the text in PCRE2's UTF mode, invalid bytes masked.
 *
 * Time: PCRE2's limits bound every match, a deadline bounds a text; hitting either is MOTE_E_LIMIT. Between passes
 * pieces are counted in characters. */
#include "token/token_int.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define PASSES_MAX 32
#define PATTERN_BYTES_MAX ((size_t)65536)
#define JIT_PATTERN_BYTES_MAX ((size_t)16384)
#define MATCH_LIMIT 20000000u
#define HEAP_LIMIT_KIB (256u << 10)
#define DEADLINE_BASE_NS 3000000000u
#define DEADLINE_PER_BYTE_NS 2000u
#define SHADOW_CLASS 0xC0
#define SHADOW_HAN 0xD8       /* Chinese letters */
#define SHADOW_HAN_OTHER 0xD9 /* code points of those blocks that are no letters */
#define SHADOW_SPACE 0x0B

enum pass_kind { PASS_SHADOW, PASS_TEXT, PASS_DIGITS };
struct pass {
    enum pass_kind kind;
    pcre2_code *code;
    tok_split how;
    bool invert;
};
struct tok_pre {
    pcre2_general_context *memory; /* PCRE2 allocates through mem.h like everyone */
    pcre2_compile_context *compile;
    struct pass pass[PASSES_MAX];
    int n;
    bool any_text;
};

static void *pcre_alloc(size_t n, void *ctx) {
    (void)ctx;
    return mem_resize(NULL, n, 1);
}
static void pcre_free(void *p, void *ctx) {
    (void)ctx;
    mem_free(p);
}

mote_status tok_pre_new(tok_pre **out, mote_error *err) {
    tok_pre *p = *out = MEM_NEW(tok_pre);
    if (p) p->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (p && p->memory) p->compile = pcre2_compile_context_create(p->memory);
    if (p && p->compile) return MOTE_OK;
    tok_pre_free(out);
    FAIL(err, MOTE_E_MEMORY, "out of memory for a pre-tokenizer");
}

void tok_pre_free(tok_pre **p) {
    if (!*p) return;
    for (int i = 0; i < (*p)->n; i++) pcre2_code_free((*p)->pass[i].code);
    pcre2_compile_context_free((*p)->compile);
    pcre2_general_context_free((*p)->memory);
    mem_free(*p);
    *p = NULL;
}

/* ---- rewriting a regex for the shadow ---- */

typedef struct byte_set {
    uint32_t w[8];
} byte_set;
static void set_add(byte_set *s, unsigned c) { s->w[c >> 5] |= 1u << (c & 31); }
static bool set_has(const byte_set *s, unsigned c) { return s->w[c >> 5] >> (c & 31) & 1; }
static void set_text(byte_set *s, const char *chars) {
    for (; *chars; chars++) set_add(s, (unsigned char)*chars);
}
static void set_span(byte_set *s, unsigned from, unsigned to) {
    for (unsigned c = from; c <= to; c++) set_add(s, c);
}
static void set_class(byte_set *s, tok_class c) { set_add(s, SHADOW_CLASS + (unsigned)c); }

/* The shadow bytes of \p{name}; false when the shadow cannot tell. */
static bool property(str name, byte_set *s) {
    *s = (byte_set){0};
    bool l = str_is(name, "L"), outside = str_is(name, "L>"), no_han = str_is(name, "L-"), n = str_is(name, "N");
    if (l || outside || no_han) {
        for (tok_class c = TOK_CLS_LU; c <= TOK_CLS_LO; c++) set_class(s, c);
        if (!no_han) set_add(s, SHADOW_HAN);
        if (!outside) set_span(s, 'A', 'Z'), set_span(s, 'a', 'z');
    } else if (str_is(name, "Lu")) set_class(s, TOK_CLS_LU), set_span(s, 'A', 'Z');
    else if (str_is(name, "Ll")) set_class(s, TOK_CLS_LL), set_span(s, 'a', 'z');
    else if (str_is(name, "Lt")) set_class(s, TOK_CLS_LT);
    else if (str_is(name, "Lm")) set_class(s, TOK_CLS_LM);
    else if (str_is(name, "Lo")) set_class(s, TOK_CLS_LO), set_add(s, SHADOW_HAN);
    else if (str_is(name, "M")) set_class(s, TOK_CLS_M);
    else if (n || str_is(name, "Nd")) {
        set_class(s, TOK_CLS_ND), set_span(s, '0', '9');
        if (n) set_class(s, TOK_CLS_NO);
    } else if (str_is(name, "P")) set_class(s, TOK_CLS_P), set_text(s, "!\"#%&'()*,-./:;?@[\\]_{}");
    else if (str_is(name, "S")) set_class(s, TOK_CLS_S), set_text(s, "$+<=>^`|~");
    else if (str_is(name, "Han")) set_add(s, SHADOW_HAN), set_add(s, SHADOW_HAN_OTHER);
    else return false;
    return true;
}

static void put_set(buf *out, const byte_set *s, bool negate) {
    for (unsigned c = 0; c < 256; c++) {
        if (set_has(s, c) == negate) continue;
        unsigned end = c;
        while (end < 255 && set_has(s, end + 1) != negate) end++;
        buf_printf(out, "\\x%02X", c);
        if (end > c) buf_printf(out, "-\\x%02X", end);
        c = end;
    }
}

/* One escape at re[i] == '\\'. Returns its length, 0 when the shadow cannot express it. */
static size_t shadow_escape(str re, size_t i, bool in_class, buf *out) {
    if (i + 1 >= re.n) return 0;
    char c = re.p[i + 1];
    byte_set set = {0};
    size_t len = 2;
    bool negate = false;
    if (c == 'p' || c == 'P') {
        str name;
        if (i + 2 >= re.n) return 0;
        if (re.p[i + 2] == '{') {
            size_t end = str_find(re, STR("}"), i);
            if (end == SIZE_MAX) return 0;
            name = str_sub(re, i + 3, end - i - 3);
            len = end + 1 - i;
        } else {
            name = str_sub(re, i + 2, 1);
            len = 3;
        }
        negate = c == 'P';
        if (name.n && name.p[0] == '^') negate = !negate, name = str_sub(name, 1, name.n - 1);
        if (!property(name, &set)) return 0;
    } else if (c == 'd' || c == 'D') {
        if (!property(STR("Nd"), &set)) return 0;
        negate = c == 'D';
    } else if (c == 's' || c == 'S' || c == 'r' || c == 'n' || c == 't' || c == 'f' ||
               (c > 0x20 && c < 0x7F && !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))) {
        buf_put(out, re.p + i, 2);
        return 2;
    } else return 0;
    if (!in_class) buf_putc(out, '[');
    put_set(out, &set, negate);
    if (!in_class) buf_putc(out, ']');
    return len;
}

/* Rewrites re for the shadow; false when it asks for what the shadow does not show. */
static bool shadow_pattern(str re, buf *out) {
    bool in_class = false;
    for (size_t i = 0; i < re.n;) {
        char c = re.p[i];
        if ((unsigned char)c >= 0x80 || c == 0) return false;
        if (c == '\\') {
            size_t len = shadow_escape(re, i, in_class, out);
            if (!len) return false;
            i += len;
            continue;
        }
        if (in_class && (c == '[' || (c == '&' && i + 1 < re.n && re.p[i + 1] == '&'))) return false;
        if (c == '[') {
            in_class = true;
            buf_putc(out, c);
            i++;
            if (i < re.n && re.p[i] == '^') buf_putc(out, re.p[i++]);
            if (i < re.n && re.p[i] == ']') return false;
            continue;
        }
        if (c == ']') in_class = false;
        buf_putc(out, c);
        i++;
    }
    return !in_class;
}

/* In UTF mode \s and \w are spelled out: PCRE2's \s also takes U+180E, its \w neither marks nor circled letters. */
static void text_pattern(str re, buf *out) {
    static const char spaces[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                                 "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
    static const char words[] = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}"
                                "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
    bool in_class = false;
    for (size_t i = 0; i < re.n; i++) {
        char c = re.p[i];
        if (c == '\\' && i + 1 < re.n) {
            char e = re.p[++i];
            if (e == 'w') buf_printf(out, in_class ? "%s" : "[%s]", words);
            else if (e == 'W' && !in_class) buf_printf(out, "[^%s]", words);
            else if (e == 's') buf_printf(out, in_class ? "%s" : "[%s]", spaces);
            else if (e == 'S' && !in_class) buf_printf(out, "[^%s]", spaces);
            else buf_put(out, re.p + i - 1, 2);
            continue;
        }
        if (c == '[') in_class = true;
        if (c == ']') in_class = false;
        buf_putc(out, c);
    }
}

static mote_status compile(tok_pre *p, struct pass *pass, str re, mote_error *err) {
    buf pattern;
    buf_init(&pattern, PATTERN_BYTES_MAX * 4);
    pass->kind = PASS_SHADOW;
    if (!shadow_pattern(re, &pattern)) {
        pass->kind = PASS_TEXT;
        buf_clear(&pattern);
        text_pattern(re, &pattern);
    }
    mote_status s = buf_check(&pattern, "a pre-tokenizer's regex", err);
    if (s == MOTE_OK) {
        uint32_t opts = PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
        opts |= pass->kind == PASS_TEXT ? PCRE2_UTF | PCRE2_UCP : PCRE2_NEVER_UTF | PCRE2_NEVER_UCP;
        int code = 0;
        PCRE2_SIZE at = 0;
        pass->code = pcre2_compile((PCRE2_SPTR)buf_str(&pattern).p, pattern.n, opts, &code, &at, p->compile);
        if (!pass->code && code == PCRE2_ERROR_HEAP_FAILED) {
            s = ERR(err, MOTE_E_MEMORY, "out of memory for a pre-tokenizer");
        } else if (!pass->code) {
            char why[160];
            (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            s = ERR(err, MOTE_E_UNSUPPORTED, "the pre-tokenizer's regex '%.*s': %s", STR_ARG(re), why);
        } else if (pattern.n <= JIT_PATTERN_BYTES_MAX) {
            (void)pcre2_jit_compile(pass->code, PCRE2_JIT_COMPLETE); /* without it, matching interprets */
        }
    }
    buf_free(&pattern);
    return s;
}

mote_status tok_pre_add(tok_pre *p, str regex, tok_split how, bool invert, mote_error *err) {
    if (p->n == PASSES_MAX) FAIL(err, MOTE_E_LIMIT, "the pre-tokenizer has more than %d passes", PASSES_MAX);
    if (regex.n > PATTERN_BYTES_MAX)
        FAIL(err, MOTE_E_LIMIT, "a pre-tokenizer's regex of %zu bytes, at most %zu are taken", regex.n,
             PATTERN_BYTES_MAX);
    struct pass *pass = &p->pass[p->n];
    *pass = (struct pass){.kind = PASS_DIGITS, .how = how, .invert = invert};
    if (!str_is(regex, "@digits")) TRY(compile(p, pass, regex, err));
    if (pass->kind == PASS_TEXT) p->any_text = true;
    p->n++;
    return MOTE_OK;
}

/* ---- running the passes ---- */

struct tok_cut {
    const tok_pre *pre;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    unsigned char *shadow, *char_len; /* per character */
    size_t n_chars, cap_shadow, cap_len;
    char *masked; /* the text with invalid bytes replaced, for UTF mode */
    size_t cap_masked;
    tok_pieces a, b;
    uint64_t deadline;
    unsigned until_check;
};

void tok_pieces_free(tok_pieces *p) {
    mem_free(p->len);
    mem_free(p->dropped);
    *p = (tok_pieces){0};
}

mote_status tok_cut_open(tok_cut **out, const tok_pre *p, mote_error *err) {
    tok_cut *c = *out = MEM_NEW(tok_cut);
    if (!c) FAIL(err, MOTE_E_MEMORY, "out of memory for a pre-tokenizer");
    c->pre = p;
    c->match = pcre2_match_data_create(1, p->memory);
    c->context = pcre2_match_context_create(p->memory);
    c->stack = pcre2_jit_stack_create(32 << 10, 8 << 20, p->memory);
    if (!c->match || !c->context || !c->stack) {
        tok_cut_close(out);
        FAIL(err, MOTE_E_MEMORY, "out of memory for a pre-tokenizer");
    }
    pcre2_jit_stack_assign(c->context, NULL, c->stack);
    (void)pcre2_set_match_limit(c->context, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(c->context, HEAP_LIMIT_KIB);
    return MOTE_OK;
}

void tok_cut_close(tok_cut **out) {
    tok_cut *c = *out;
    if (!c) return;
    pcre2_match_data_free(c->match);
    pcre2_match_context_free(c->context);
    pcre2_jit_stack_free(c->stack);
    mem_free(c->shadow);
    mem_free(c->char_len);
    mem_free(c->masked);
    tok_pieces_free(&c->a);
    tok_pieces_free(&c->b);
    mem_free(c);
    *out = NULL;
}

static mote_status add_piece(tok_pieces *p, size_t len, bool dropped, mote_error *err) {
    if (len == 0) return MOTE_OK;
    if (p->n == p->cap) TRY(mem_grow(&p->len, &p->cap, p->n + 1, sizeof *p->len, TOK_TEXT_BYTES_MAX, err));
    if (p->n == p->cap_dropped)
        TRY(mem_grow(&p->dropped, &p->cap_dropped, p->n + 1, sizeof *p->dropped, TOK_TEXT_BYTES_MAX, err));
    p->len[p->n] = (uint32_t)len;
    p->dropped[p->n++] = dropped;
    return MOTE_OK;
}

static unsigned char shadow_of(uint32_t cp) {
    if (cp < 0x80) return (unsigned char)cp;
    tok_class c = tok_uni_class(cp);
    if (c == TOK_CLS_SPACE) return SHADOW_SPACE;
    if (cp >= 0x3400 && tok_uni_han(cp)) return c == TOK_CLS_LO ? SHADOW_HAN : SHADOW_HAN_OTHER;
    return (unsigned char)(SHADOW_CLASS + (unsigned)c);
}

static mote_status make_shadow(tok_cut *c, str text, mote_error *err) {
    TRY(mem_grow(&c->shadow, &c->cap_shadow, text.n, 1, TOK_TEXT_BYTES_MAX, err));
    TRY(mem_grow(&c->char_len, &c->cap_len, text.n, 1, TOK_TEXT_BYTES_MAX, err));
    if (c->pre->any_text) {
        TRY(mem_grow(&c->masked, &c->cap_masked, text.n, 1, TOK_TEXT_BYTES_MAX, err));
        memcpy(c->masked, text.p, text.n);
    }
    c->n_chars = 0;
    for (size_t i = 0; i < text.n; c->n_chars++) {
        uint32_t cp;
        size_t len = utf8_decode(text.p + i, text.n - i, &cp);
        c->shadow[c->n_chars] = shadow_of(cp);
        c->char_len[c->n_chars] = (unsigned char)len;
        if (cp == UTF8_BAD && c->pre->any_text) c->masked[i] = 0x1A;
        i += len;
    }
    return MOTE_OK;
}

/* What becomes of matches and of what lies between them, in one piece of the pass before. */
typedef struct emitter {
    tok_pieces *out;
    size_t first; /* where this piece's parts begin */
    tok_split how;
    bool invert, last_match;
    mote_error *err;
} emitter;

static mote_status emit(emitter *e, size_t len, bool match) {
    tok_pieces *o = e->out;
    if (len == 0) return MOTE_OK;
    match = match != e->invert;
    bool any = o->n > e->first, joins = false;
    if (e->how == TOK_SPLIT_MERGED_PREVIOUS) joins = any && match && !e->last_match;
    else if (e->how == TOK_SPLIT_MERGED_NEXT) joins = any && !match && e->last_match;
    else if (e->how == TOK_SPLIT_CONTIGUOUS) joins = any && match == e->last_match;
    e->last_match = match;
    if (joins) {
        o->len[o->n - 1] += (uint32_t)len;
        return MOTE_OK;
    }
    return add_piece(o, len, match && e->how == TOK_SPLIT_REMOVED, e->err);
}

static mote_status check_deadline(tok_cut *c, mote_error *err) {
    if (c->until_check-- > 0) return MOTE_OK;
    c->until_check = 256;
    if (clock_ns() > c->deadline)
        FAIL(err, MOTE_E_LIMIT, "the pre-tokenizer's regex takes too long on this text");
    return MOTE_OK;
}

/* Characters in `bytes` bytes from character `at` on. */
static size_t chars_in(const tok_cut *c, size_t at, size_t bytes) {
    size_t n = 0;
    for (size_t sum = 0; sum < bytes; n++) sum += c->char_len[at + n];
    return n;
}

/* Matches a regex over n units of subject. In UTF mode units are bytes and lengths are turned into characters,
 * beginning with character `at`. */
static mote_status match_all(tok_cut *c, const struct pass *pass, const unsigned char *subject, size_t n, size_t at,
                             emitter *e) {
    size_t done = 0, from = 0;
    bool utf = pass->kind == PASS_TEXT;
    while (from < n) {
        TRY(check_deadline(c, e->err));
        int rc = pcre2_match(pass->code, subject, n, from, PCRE2_NO_UTF_CHECK, c->match, c->context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc == PCRE2_ERROR_NOMEMORY) FAIL(e->err, MOTE_E_MEMORY, "out of memory for a pre-tokenizer");
        if (rc < 0)
            FAIL(e->err, MOTE_E_LIMIT, "the pre-tokenizer's regex needs too many steps (PCRE2 error %d)", rc);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(c->match);
        size_t start = v[0], end = v[1];
        if (end < start || start < done) start = end = MAX(end, done); /* \K may do that */
        size_t gap = start - done, len = end - start;
        if (utf) {
            gap = chars_in(c, at, gap);
            at += gap;
            len = chars_in(c, at, len);
            at += len;
        }
        TRY(emit(e, gap, false));
        TRY(emit(e, len, true));
        done = end;
        from = end;
        if (start == end) /* an empty match must not stop us */
            do from++;
            while (utf && from < n && (subject[from] & 0xC0) == 0x80);
    }
    size_t rest = n - done;
    return emit(e, utf ? chars_in(c, at, rest) : rest, false);
}

static bool is_number(unsigned char s) {
    return (s >= '0' && s <= '9') || s == SHADOW_CLASS + TOK_CLS_ND || s == SHADOW_CLASS + TOK_CLS_NO;
}

/* Runs of numbers in threes from their end: 1234567 -> 1 234 567. What stands before a run stays with its first
 * group, for later passes to cut off: with llama.cpp's pieces their lookaheads see the same text. */
static mote_status cut_digits(const unsigned char *s, size_t n, emitter *e) {
    size_t from = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && is_number(s[end])) end++;
        if (end == i) {
            i++;
            continue;
        }
        size_t odd = (end - i) % 3;
        for (size_t take = odd ? odd : 3; i < end; take = 3) {
            i += take;
            TRY(emit(e, i - from, true));
            from = i;
        }
    }
    return emit(e, n - from, false);
}

static mote_status run_pass(tok_cut *c, const struct pass *pass, const tok_pieces *in, tok_pieces *out,
                            mote_error *err) {
    out->n = 0;
    size_t at = 0, byte = 0; /* the piece's first character, and its offset in bytes */
    for (size_t i = 0; i < in->n; i++) {
        size_t len = in->len[i], bytes = 0;
        if (pass->kind == PASS_TEXT)
            for (size_t k = 0; k < len; k++) bytes += c->char_len[at + k];
        emitter e = {.out = out, .first = out->n, .how = pass->how, .invert = pass->invert, .err = err};
        if (in->dropped[i]) {
            TRY(add_piece(out, len, true, err));
        } else if (pass->kind == PASS_DIGITS) {
            TRY(cut_digits(c->shadow + at, len, &e));
        } else if (pass->kind == PASS_SHADOW) {
            TRY(match_all(c, pass, c->shadow + at, len, at, &e));
        } else {
            TRY(match_all(c, pass, (const unsigned char *)c->masked + byte, bytes, at, &e));
        }
        at += len;
        byte += bytes;
    }
    return MOTE_OK;
}

mote_status tok_cut_run(tok_cut *c, str text, const tok_pieces **out, mote_error *err) {
    tok_pieces *in = &c->a, *next = &c->b;
    in->n = 0;
    if (c->pre->n == 0) {
        *out = in;
        return add_piece(in, text.n, false, err);
    }
    TRY(make_shadow(c, text, err));
    c->deadline = clock_ns() + DEADLINE_BASE_NS + DEADLINE_PER_BYTE_NS * (uint64_t)text.n;
    TRY(add_piece(in, c->n_chars, false, err));
    for (int i = 0; i < c->pre->n; i++) {
        TRY(run_pass(c, &c->pre->pass[i], in, next, err));
        tok_pieces *t = in;
        in = next;
        next = t;
    }
    size_t at = 0;
    for (size_t i = 0; i < in->n; i++) {
        size_t bytes = 0;
        for (size_t k = 0; k < in->len[i]; k++) bytes += c->char_len[at + k];
        at += in->len[i];
        in->len[i] = (uint32_t)bytes;
    }
    *out = in;
    return MOTE_OK;
}
