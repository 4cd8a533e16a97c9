/* jinja_repr.c: values as text, and text as numbers, the way Python writes and reads them. */
#include "chat/jinja_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Digits of |f| rounded to n significant ones, and the decimal exponent of the first; independent of the
 * locale's decimal point. */
static int float_digits(double f, int n, char digits[40]) {
    char tmp[48];
    (void)snprintf(tmp, sizeof tmp, "%.*e", n - 1, fabs(f));
    const char *e = strchr(tmp, 'e');
    size_t k = 0;
    for (const char *p = tmp; p < e; p++)
        if (*p >= '0' && *p <= '9') digits[k++] = *p;
    digits[k] = 0;
    int exp = 0;
    for (const char *p = e + 2; *p; p++) exp = exp * 10 + (*p - '0');
    return e[1] == '-' ? -exp : exp;
}

/* The double that digits × 10^(exp - len + 1) reads back as. */
static double read_back(const char *digits, int exp, bool negative) {
    char tmp[64];
    double f = 0;
    int n = snprintf(tmp, sizeof tmp, "%s%c.%se%d", negative ? "-" : "", digits[0], digits[1] ? digits + 1 : "0", exp);
    (void)str_to_double((str){tmp, (size_t)n}, &f);
    return f;
}

void jinja_float_repr(double f, char out[40]) {
    if (isnan(f) || isinf(f)) {
        memcpy(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf", 5);
        return;
    }
    char d[40];
    int exp = 0, n = 1;
    for (n = 15; n <= 17; n++) { /* 15 digits always survive, 17 always suffice */
        exp = float_digits(f, n, d);
        if (n == 17 || read_back(d, exp, signbit(f)) == f) break;
    }
    size_t len = strlen(d), k = 0;
    while (len > 1 && d[len - 1] == '0') d[--len] = 0;
    char tmp[64];
    int used;
    if (exp < -4 || exp >= 16)
        used = snprintf(tmp, sizeof tmp, "%c%s%.16se%c%02d", d[0], len > 1 ? "." : "", d + 1, exp < 0 ? '-' : '+', abs(exp) % 1000);
    else if (exp < 0) used = snprintf(tmp, sizeof tmp, "0.%.*s%.17s", -exp - 1, "000", d);
    else if ((int)len <= exp + 1) used = snprintf(tmp, sizeof tmp, "%.17s%.*s.0", d, exp + 1 - (int)len, "000000000000000");
    else used = snprintf(tmp, sizeof tmp, "%.*s.%.17s", exp + 1, d, d + exp + 1);
    if (signbit(f)) out[k++] = '-';
    memcpy(out + k, tmp, (size_t)used + 1);
}

bool jinja_parse_int(str s, int base, int64_t *out) {
    size_t i = 0, n = s.n, len;
    while (i < n && jinja_is_space(jinja_char_at(s.p + i, &len))) i += len;
    while (n > i && jinja_is_space((unsigned char)s.p[n - 1])) n--;
    bool negative = i < n && s.p[i] == '-', any = false;
    if (i < n && (s.p[i] == '-' || s.p[i] == '+')) i++;
    if (n - i > 2 && s.p[i] == '0') {
        int c = s.p[i + 1] | 32, prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (prefix && (base == prefix || base == 0)) {
            base = prefix;
            i += 2;
            if (i < n && s.p[i] == '_') i++;
        }
    }
    if (base == 0) base = 10;
    uint64_t v = 0;
    for (; i < n; i++) {
        int c = s.p[i], digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (c == '_' && any && i + 1 < n && s.p[i + 1] != '_') continue;
        if (digit >= base) return false;
        if (!ckd_mul_u64(&v, v, (uint64_t)base) || !ckd_add_u64(&v, v, (uint64_t)digit)) return false;
        any = true;
    }
    if (!any || v > (uint64_t)INT64_MAX + negative) return false;
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static bool word_is(str s, const char *word) {
    if (s.n != strlen(word)) return false;
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] | 32) != word[i]) return false;
    return true;
}

bool jinja_parse_float(str s, double *out) {
    char tmp[64];
    size_t n = 0, len;
    while (s.n && jinja_is_space(jinja_char_at(s.p, &len))) s = str_sub(s, len, s.n - len);
    while (s.n && jinja_is_space((unsigned char)s.p[s.n - 1])) s.n--;
    bool sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    str rest = sign ? str_sub(s, 1, s.n - 1) : s;
    if (word_is(rest, "inf") || word_is(rest, "infinity") || word_is(rest, "nan")) {
        *out = word_is(rest, "nan") ? (double)NAN : (double)INFINITY;
        if (sign && s.p[0] == '-') *out = -*out;
        return true;
    }
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool digit = c >= '0' && c <= '9';
        if (c == '_' && i > 0 && i + 1 < s.n && s.p[i - 1] != '_' && s.p[i + 1] != '_') continue;
        if (!(digit || c == '.' || (c | 32) == 'e' || c == '-' || c == '+') || n == sizeof tmp) return false;
        tmp[n++] = c;
    }
    return str_to_double((str){tmp, n}, out);
}

static void repr_str(jbuild *b, const jstr *s) {
    bool single = memchr(s->p, '\'', s->n) != NULL, dbl = memchr(s->p, '"', s->n) != NULL;
    char quote = single && !dbl ? '"' : '\'';
    if (s->markup) jinja_build_lit(b, "Markup(");
    jinja_build_put(b, &quote, 1, false);
    size_t from = 0;
    for (size_t i = 0; i < s->n;) {
        size_t len;
        uint32_t c = jinja_char_at(s->p + i, &len);
        char esc[16] = "";
        if (c == (uint32_t)quote || c == '\\') (void)snprintf(esc, sizeof esc, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t') (void)snprintf(esc, sizeof esc, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!jinja_is_printable(c))
            (void)snprintf(esc, sizeof esc, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        if (esc[0]) {
            jinja_build_part(b, s, from, i - from);
            jinja_build_put(b, esc, strlen(esc), jinja_str_content_at(s, i));
            from = i + len;
        }
        i += len;
    }
    jinja_build_part(b, s, from, s->n - from);
    jinja_build_put(b, &quote, 1, false);
    if (s->markup) jinja_build_lit(b, ")");
}

static mote_status repr_list(jvm *vm, jbuild *b, const jval *v, uint32_t n, const char *open, const char *close) {
    jinja_build_lit(b, open);
    for (uint32_t i = 0; i < n; i++) {
        if (i) jinja_build_lit(b, ", ");
        TRY(jinja_repr(vm, b, v[i]));
    }
    jinja_build_lit(b, close);
    return MOTE_OK;
}

static mote_status repr_dict(jvm *vm, jbuild *b, const jdict *d) {
    jinja_build_lit(b, "{");
    for (uint32_t i = 0; i < d->n; i++) {
        if (i) jinja_build_lit(b, ", ");
        TRY(jinja_repr(vm, b, d->e[i].key));
        jinja_build_lit(b, ": ");
        TRY(jinja_repr(vm, b, d->e[i].val));
    }
    jinja_build_lit(b, "}");
    return MOTE_OK;
}

static void put_int(jbuild *b, const char *before, int64_t i, const char *after) {
    char tmp[80];
    (void)snprintf(tmp, sizeof tmp, "%s%lld%s", before, (long long)i, after);
    jinja_build_lit(b, tmp);
}

static mote_status repr_range(jbuild *b, const jrange *r) {
    put_int(b, "range(", r->start, ", ");
    put_int(b, "", r->stop, "");
    if (r->step != 1) put_int(b, ", ", r->step, "");
    jinja_build_lit(b, ")");
    return MOTE_OK;
}

static mote_status repr_nested(jvm *vm, jbuild *b, jval v) {
    jval *items;
    uint32_t n;
    switch (v.t) {
    case JT_LIST: return repr_list(vm, b, v.l->v, v.l->n, "[", "]");
    case JT_TUPLE: return repr_list(vm, b, v.l->v, v.l->n, "(", v.l->n == 1 ? ",)" : ")");
    case JT_DICT: return repr_dict(vm, b, v.d);
    case JT_NS:
        jinja_build_lit(b, "<Namespace ");
        TRY(repr_dict(vm, b, v.d));
        jinja_build_lit(b, ">");
        return MOTE_OK;
    default: /* JT_VIEW */
        jinja_build_lit(b, jinja_type_name(v));
        TRY(jinja_items(vm, v, &items, &n));
        return repr_list(vm, b, items, n, "([", "])");
    }
}

mote_status jinja_repr(jvm *vm, jbuild *b, jval v) {
    char tmp[64];
    TRY(jinja_spend(vm, 1));
    switch (v.t) {
    case JT_UNDEF: jinja_build_lit(b, "Undefined"); return MOTE_OK;
    case JT_NONE: jinja_build_lit(b, "None"); return MOTE_OK;
    case JT_BOOL: jinja_build_lit(b, v.b ? "True" : "False"); return MOTE_OK;
    case JT_INT: put_int(b, "", v.i, ""); return MOTE_OK;
    case JT_FLOAT:
        jinja_float_repr(v.f, tmp);
        jinja_build_lit(b, tmp);
        return MOTE_OK;
    case JT_STR: repr_str(b, v.s); return MOTE_OK;
    case JT_RANGE: return repr_range(b, v.range);
    case JT_MACRO:
        jinja_build_lit(b, "<Macro ");
        repr_str(b, v.macro->node->text);
        jinja_build_lit(b, ">");
        return MOTE_OK;
    case JT_LOOP:
        put_int(b, "<LoopContext ", (int64_t)v.loop->i + 1, "/");
        put_int(b, "", jinja_length(v), ">");
        return MOTE_OK;
    case JT_LIST:
    case JT_TUPLE:
    case JT_DICT:
    case JT_NS:
    case JT_VIEW: {
        TRY(jinja_enter(vm));
        mote_status s = repr_nested(vm, b, v);
        jinja_leave(vm);
        return s;
    }
    default:
        jinja_build_lit(b, "<");
        jinja_build_lit(b, jinja_type_name(v));
        jinja_build_lit(b, " object>");
        return MOTE_OK;
    }
}

mote_status jinja_print(jvm *vm, jbuild *b, jval v) {
    if (v.t == JT_STR) jinja_build_str(b, v.s);
    else if (v.t != JT_UNDEF) return jinja_repr(vm, b, v);
    return MOTE_OK;
}

mote_status jinja_str_of(jvm *vm, jval v, const jstr **out) {
    if (v.t == JT_STR) {
        *out = v.s;
        return MOTE_OK;
    }
    jbuild b;
    jval s;
    jinja_build_init(&b, vm);
    TRY(jinja_print(vm, &b, v));
    TRY(jinja_build_done(&b, &s));
    *out = s.s;
    return MOTE_OK;
}
