/* jinja_lex.c: template source to tokens.
 *
 * Follows Jinja2's lexer with trim_blocks and lstrip_blocks: the newline after a block or comment goes, and
 * so does the white space between the start of a line and a block or comment; '-' strips all white space on
 * its side, '+' keeps it. Every branch moves forward, so the time is linear in the source. */
#include "chat/jinja_int.h"

typedef struct lexer {
    arena *mem;
    str s;
    size_t pos;
    uint32_t line;
    bool line_starting; /* what was consumed last ended with a newline */
    jtok *toks;
    size_t n, cap;
    char stack[JINJA_EXPR_DEPTH_MAX]; /* closing brackets that are due */
    int n_stack;
    mote_error *err;
} lexer;

#define LEX_FAIL(lx, ...) FAIL((lx)->err, MOTE_E_FORMAT, "template line %u: " __VA_ARGS__)

static mote_status put(lexer *lx, jtok_type type, str text) {
    TRY(mem_grow(&lx->toks, &lx->cap, lx->n + 1, sizeof *lx->toks, 4 * JINJA_SOURCE_MAX, lx->err));
    lx->toks[lx->n++] = (jtok){.type = type, .line = lx->line, .text = text};
    return MOTE_OK;
}

static void advance(lexer *lx, size_t to) {
    for (size_t i = lx->pos; i < to; i++) lx->line += lx->s.p[i] == '\n';
    if (to > lx->pos) lx->line_starting = lx->s.p[to - 1] == '\n';
    lx->pos = to;
}

static char at(const lexer *lx, size_t i) { return i < lx->s.n ? lx->s.p[i] : 0; }
static bool starts(const lexer *lx, size_t i, const char *lit) {
    return i <= lx->s.n && str_starts(str_sub(lx->s, i, lx->s.n - i), str_of(lit));
}

/* Length of the white space at i. */
static size_t space_len(str s, size_t i) {
    size_t from = i;
    while (i < s.n) {
        size_t len;
        if (!jinja_is_space(jinja_char_at(s.p + i, &len))) break;
        i += len;
    }
    return i - from;
}

static size_t rstrip(str s) {
    size_t n = s.n;
    while (n > 0) {
        size_t i = n - 1, len;
        while (i > 0 && ((unsigned char)s.p[i] & 0xC0) == 0x80) i--;
        if (!jinja_is_space(jinja_char_at(s.p + i, &len))) break;
        n = i;
    }
    return n;
}

/* Template text before a tag that begins at `tag` and carries `sign`. */
static mote_status put_data(lexer *lx, size_t tag, char sign, bool is_variable) {
    str text = str_sub(lx->s, lx->pos, tag - lx->pos);
    bool line_starting = lx->line_starting;
    size_t keep = text.n;
    if (sign == '-') keep = rstrip(text);
    else if (sign != '+' && !is_variable) {
        size_t line = text.n;
        while (line > 0 && text.p[line - 1] != '\n') line--;
        if ((line > 0 || line_starting) && space_len(text, line) == text.n - line) keep = line;
    }
    if (keep) TRY(put(lx, T_DATA, str_sub(text, 0, keep)));
    advance(lx, tag);
    return MOTE_OK;
}

/* The end of a tag at i: sign and closing marker; the new position, or 0 when there is none. */
static size_t tag_end(const lexer *lx, size_t i, const char *marker, bool trim, bool plus) {
    if (at(lx, i) == '-' && starts(lx, i + 1, marker)) return i + 3 + space_len(lx->s, i + 3);
    if (plus && at(lx, i) == '+' && starts(lx, i + 1, marker)) return i + 3;
    if (!starts(lx, i, marker)) return 0;
    return i + 2 + (trim && at(lx, i + 2) == '\n');
}

static mote_status lex_comment(lexer *lx) {
    uint32_t line = lx->line;
    for (size_t i = lx->pos; i < lx->s.n; i++) {
        char c = lx->s.p[i];
        size_t end = c == '#' || c == '-' || c == '+' ? tag_end(lx, i, "#}", true, true) : 0;
        if (end) {
            advance(lx, end);
            return MOTE_OK;
        }
    }
    LEX_FAIL(lx, "Missing end of comment tag", line);
}

/* When a raw tag begins at the "{%" at i: the position after it, else 0. */
static size_t raw_begin(const lexer *lx, size_t i) {
    i += 2;
    if (at(lx, i) == '-' || at(lx, i) == '+') i++;
    i += space_len(lx->s, i);
    if (!starts(lx, i, "raw")) return 0;
    i += 3;
    i += space_len(lx->s, i);
    return tag_end(lx, i, "%}", false, false);
}

static mote_status lex_raw(lexer *lx) {
    uint32_t line = lx->line;
    for (size_t i = lx->pos; (i = str_find(lx->s, STR("{%"), i)) != SIZE_MAX; i += 2) {
        size_t j = i + 2;
        char sign = at(lx, j) == '-' || at(lx, j) == '+' ? lx->s.p[j++] : 0;
        j += space_len(lx->s, j);
        if (!starts(lx, j, "endraw")) continue;
        j += 6;
        j += space_len(lx->s, j);
        size_t end = tag_end(lx, j, "%}", true, true);
        if (!end) continue;
        TRY(put_data(lx, i, sign, false));
        advance(lx, end);
        return MOTE_OK;
    }
    LEX_FAIL(lx, "Missing end of raw directive", line);
}

/* One character of an escape sequence with `digits` hexadecimal digits at i. */
static bool hex_escape(str s, size_t i, int digits, uint32_t *cp) {
    *cp = 0;
    for (int k = 0; k < digits; k++, i++) {
        char c = i < s.n ? s.p[i] : 0;
        uint32_t v = c >= '0' && c <= '9' ? (uint32_t)(c - '0')
                   : (c | 32) >= 'a' && (c | 32) <= 'f' ? (uint32_t)((c | 32) - 'a' + 10) : 16;
        if (v == 16) return false;
        *cp = *cp << 4 | v;
    }
    return true;
}

/* Decodes the escape after a backslash at s.p[*i]; appends to out. */
static mote_status unescape_one(lexer *lx, str s, size_t *i, char *out, size_t *n) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.p[(*i)++];
    if (c == '\n') return MOTE_OK;
    const char *hit = c ? strchr(from, c) : NULL;
    uint32_t cp = 0;
    if (hit) {
        out[(*n)++] = to[hit - from];
        return MOTE_OK;
    }
    if (c >= '0' && c <= '7') {
        cp = (uint32_t)(c - '0');
        for (int k = 0; k < 2 && *i < s.n && s.p[*i] >= '0' && s.p[*i] <= '7'; k++) cp = cp * 8 + (uint32_t)(s.p[(*i)++] - '0');
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (!hex_escape(s, *i, digits, &cp) || cp > 0x10FFFF) LEX_FAIL(lx, "bad \\%c escape in a string", lx->line, c);
        *i += (size_t)digits;
    } else if (c == 'N') LEX_FAIL(lx, "\\N{name} escapes are not supported", lx->line);
    else { /* an unknown escape stays as it is; a multi-byte character follows as ordinary text */
        out[(*n)++] = '\\';
        out[(*n)++] = c;
        return MOTE_OK;
    }
    *n += utf8_encode(cp, out + *n);
    return MOTE_OK;
}

static mote_status lex_string(lexer *lx) {
    char quote = lx->s.p[lx->pos];
    size_t i = lx->pos + 1;
    while (i < lx->s.n && lx->s.p[i] != quote) i += lx->s.p[i] == '\\' ? 2 : 1;
    if (i >= lx->s.n) LEX_FAIL(lx, "unexpected char '%c': the string does not end", lx->line, quote);
    str raw = str_sub(lx->s, lx->pos + 1, i - lx->pos - 1);
    char *out = arena_alloc(lx->mem, raw.n + 1, 1); /* no escape is shorter than what it stands for */
    if (!out) FAIL(lx->err, MOTE_E_MEMORY, "out of memory reading a template");
    size_t n = 0;
    for (size_t k = 0; k < raw.n;) {
        if (raw.p[k] != '\\') out[n++] = raw.p[k++];
        else {
            k++;
            TRY(unescape_one(lx, raw, &k, out, &n));
        }
    }
    TRY(put(lx, T_STRING, (str){out, n}));
    advance(lx, i + 1);
    return MOTE_OK;
}

static bool is_digit_of(char c, int base) {
    if (base <= 10) return c >= '0' && c < '0' + base;
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* End of (_?digit)* from i. */
static size_t digits_end(const lexer *lx, size_t i, int base) {
    for (;;) {
        size_t k = i + (at(lx, i) == '_');
        if (k >= lx->s.n || !is_digit_of(lx->s.p[k], base)) return i;
        i = k + 1;
    }
}

/* End of a float literal at i, or i when there is none. */
static size_t float_end(const lexer *lx, size_t from) {
    if (from > 0 && lx->s.p[from - 1] == '.') return from;
    size_t i = digits_end(lx, from, 10);
    bool fraction = at(lx, i) == '.' && is_digit_of(at(lx, i + 1), 10);
    if (fraction) i = digits_end(lx, i + 1, 10);
    if ((at(lx, i) | 32) == 'e') {
        size_t k = i + 1 + (at(lx, i + 1) == '+' || at(lx, i + 1) == '-');
        if (is_digit_of(at(lx, k), 10)) return digits_end(lx, k, 10);
    }
    return fraction ? i : from;
}

static mote_status lex_number(lexer *lx) {
    size_t from = lx->pos, end = float_end(lx, from);
    bool is_float = end > from;
    int base = 10;
    if (!is_float) {
        char c = (char)(at(lx, from + 1) | 32);
        int prefix = at(lx, from) != '0' ? 10 : c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        if (prefix != 10 && digits_end(lx, from + 2, prefix) > from + 2) {
            base = prefix;
            end = digits_end(lx, from + 2, prefix);
        } else if (at(lx, from) == '0') /* "0123" is two numbers, hence an error for the parser */
            for (end = from + 1; at(lx, end) == '0' || (at(lx, end) == '_' && at(lx, end + 1) == '0');) end++;
        else end = digits_end(lx, from, 10);
    }
    char tmp[64];
    size_t n = 0;
    for (size_t i = from + (base == 10 ? 0 : 2); i < end && n < sizeof tmp; i++)
        if (lx->s.p[i] != '_') tmp[n++] = lx->s.p[i];
    TRY(put(lx, is_float ? T_FLOAT : T_INT, str_sub(lx->s, from, end - from)));
    jtok *t = &lx->toks[lx->n - 1];
    bool ok = is_float ? str_to_double((str){tmp, n}, &t->f) : jinja_parse_int((str){tmp, n}, base, &t->i);
    if (!ok || n == sizeof tmp) LEX_FAIL(lx, "number out of range", lx->line);
    advance(lx, end);
    return MOTE_OK;
}

static mote_status lex_operator(lexer *lx) {
    static const struct {
        char text[3];
        jtok_type type;
    } ops[] = {
        {"//", T_FLOORDIV}, {"**", T_POW}, {"==", T_EQ}, {"!=", T_NE}, {">=", T_GE}, {"<=", T_LE},
        {"+", T_ADD}, {"-", T_SUB}, {"/", T_DIV}, {"*", T_MUL}, {"%", T_MOD}, {"~", T_TILDE},
        {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN}, {")", T_RPAREN}, {"{", T_LBRACE}, {"}", T_RBRACE},
        {">", T_GT}, {"<", T_LT}, {"=", T_ASSIGN}, {".", T_DOT}, {":", T_COLON}, {"|", T_PIPE}, {",", T_COMMA},
        {";", T_SEMICOLON},
    };
    for (size_t k = 0; k < COUNT_OF(ops); k++) {
        if (!starts(lx, lx->pos, ops[k].text)) continue;
        char c = ops[k].text[0];
        if (c == '(' || c == '[' || c == '{') {
            if (lx->n_stack == JINJA_EXPR_DEPTH_MAX) LEX_FAIL(lx, "brackets nested too deeply", lx->line);
            lx->stack[lx->n_stack++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (lx->n_stack == 0) LEX_FAIL(lx, "unexpected '%c'", lx->line, c);
            char due = lx->stack[--lx->n_stack];
            if (due != c) LEX_FAIL(lx, "unexpected '%c', expected '%c'", lx->line, c, due);
        }
        TRY(put(lx, ops[k].type, str_of(ops[k].text)));
        advance(lx, lx->pos + strlen(ops[k].text));
        return MOTE_OK;
    }
    size_t len;
    (void)jinja_char_at(lx->s.p + lx->pos, &len);
    LEX_FAIL(lx, "unexpected char '%.*s'", lx->line, (int)len, lx->s.p + lx->pos);
}

/* The inside of a block ("%}") or variable ("}}"), up to and with its end. */
static mote_status lex_code(lexer *lx, bool block) {
    for (;;) {
        size_t end = lx->n_stack ? 0 : tag_end(lx, lx->pos, block ? "%}" : "}}", block, block);
        if (end) {
            TRY(put(lx, block ? T_BLOCK_END : T_VAR_END, STR("")));
            advance(lx, end);
            return MOTE_OK;
        }
        if (lx->pos >= lx->s.n) return MOTE_OK; /* the parser reports what is missing */
        size_t len;
        uint32_t c = jinja_char_at(lx->s.p + lx->pos, &len);
        if (jinja_is_space(c)) advance(lx, lx->pos + space_len(lx->s, lx->pos));
        else if (c >= '0' && c <= '9') TRY(lex_number(lx));
        else if (jinja_is_word(c)) {
            size_t i = lx->pos;
            while (i < lx->s.n && jinja_is_word(jinja_char_at(lx->s.p + i, &len))) i += len;
            TRY(put(lx, T_NAME, str_sub(lx->s, lx->pos, i - lx->pos)));
            advance(lx, i);
        } else if (c == '"' || c == '\'') TRY(lex_string(lx));
        else TRY(lex_operator(lx));
    }
}

/* Everything up to the next tag, and the tag. */
static mote_status lex_root(lexer *lx) {
    size_t tag = lx->pos;
    while (tag < lx->s.n && !(lx->s.p[tag] == '{' && (at(lx, tag + 1) == '{' || at(lx, tag + 1) == '%' || at(lx, tag + 1) == '#')))
        tag++;
    if (tag >= lx->s.n) {
        TRY(put(lx, T_DATA, str_sub(lx->s, lx->pos, lx->s.n - lx->pos)));
        advance(lx, lx->s.n);
        return MOTE_OK;
    }
    char kind = lx->s.p[tag + 1], sign = at(lx, tag + 2);
    if (sign != '-' && sign != '+') sign = 0;
    TRY(put_data(lx, tag, sign, kind == '{'));
    size_t raw = kind == '%' ? raw_begin(lx, tag) : 0;
    if (raw) {
        advance(lx, raw);
        return lex_raw(lx);
    }
    if (kind != '#') TRY(put(lx, kind == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN, STR("")));
    advance(lx, tag + 2 + (sign != 0));
    return kind == '#' ? lex_comment(lx) : lex_code(lx, kind == '%');
}

/* A copy with "\n" for every kind of newline and without one at the end. */
static mote_status normalize(arena *mem, str source, str *out, mote_error *err) {
    char *p = arena_alloc(mem, source.n + 1, 1);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory reading a template");
    size_t n = 0;
    for (size_t i = 0; i < source.n; i++) {
        char c = source.p[i];
        if (c == '\r' && i + 1 < source.n && source.p[i + 1] == '\n') continue;
        p[n++] = c == '\r' ? '\n' : c;
    }
    if (n && p[n - 1] == '\n') n--;
    *out = (str){p, n};
    return MOTE_OK;
}

mote_status jinja_lex(arena *mem, str source, jtok **toks, size_t *n, mote_error *err) {
    lexer lx = {.mem = mem, .line = 1, .line_starting = true, .err = err};
    *toks = NULL;
    TRY(normalize(mem, source, &lx.s, err));
    mote_status s = MOTE_OK;
    while (s == MOTE_OK && lx.pos < lx.s.n) s = lex_root(&lx);
    if (s == MOTE_OK) s = put(&lx, T_EOF, STR("end of template"));
    if (s != MOTE_OK) {
        mem_free(lx.toks);
        return s;
    }
    *toks = lx.toks;
    *n = lx.n;
    return MOTE_OK;
}
