/* jinja_format.c: "%s" % …, "{}".format(…) and the mini-language of format specifications. */
#include "chat/jinja_int.h"

#include <math.h>
#include <stdio.h>

#define FORMAT_WIDTH_MAX 1000000
#define FORMAT_PRECISION_MAX 300

typedef struct spec {
    char fill[4];      /* one character in UTF-8 */
    size_t fill_len;
    char align;        /* < > ^ = or 0 */
    char sign;         /* + - space or 0 */
    bool alt;          /* # */
    char group;        /* , _ or 0 */
    int64_t width, precision; /* -1: not given */
    char type;         /* 0: not given */
} spec;

/* Copies printf's output of a float with '.' for whatever the locale uses. */
static size_t plain_float(const char *in, char *out) {
    size_t n = 0;
    bool point = false;
    for (; *in; in++) {
        bool keep = (*in >= '0' && *in <= '9') || *in == 'e' || *in == 'E' || *in == '-' || *in == '+';
        if (!keep && point) continue;
        point = !keep;
        out[n++] = keep ? *in : '.';
    }
    out[n] = 0;
    return n;
}

/* The digits of |f| in the given style, without sign. */
static void float_text(double f, const spec *sp, char out[800]) {
    char tmp[800], type = sp->type ? sp->type : 'g', fmt[8] = "%.*f";
    int precision = sp->precision < 0 ? 6 : (int)sp->precision;
    if (isnan(f) || isinf(f)) {
        bool upper = type == 'F' || type == 'E' || type == 'G';
        (void)snprintf(out, 800, "%s", isnan(f) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
        return;
    }
    f = fabs(f);
    if (type == '%') f *= 100;
    fmt[3] = type == '%' ? 'f' : type == 'n' ? 'g' : type;
    switch (fmt[3]) {
    case 'e': (void)snprintf(tmp, sizeof tmp, sp->alt ? "%#.*e" : "%.*e", precision, f); break;
    case 'E': (void)snprintf(tmp, sizeof tmp, sp->alt ? "%#.*E" : "%.*E", precision, f); break;
    case 'g': (void)snprintf(tmp, sizeof tmp, sp->alt ? "%#.*g" : "%.*g", precision ? precision : 1, f); break;
    case 'G': (void)snprintf(tmp, sizeof tmp, sp->alt ? "%#.*G" : "%.*G", precision ? precision : 1, f); break;
    default: (void)snprintf(tmp, sizeof tmp, sp->alt ? "%#.*f" : "%.*f", precision, f); break;
    }
    size_t n = plain_float(tmp, out);
    if (type == '%') (void)snprintf(out + n, 800 - n, "%%");
    if (!sp->type && !strpbrk(out, ".e") && n + 3 < 800) memcpy(out + n, ".0", 3); /* a float stays recognizable */
}

static void int_text(uint64_t v, int base, bool upper, char out[72]) {
    char tmp[72];
    size_t n = 0;
    do {
        uint64_t d = v % (uint64_t)base;
        tmp[n++] = (char)(d < 10 ? '0' + d : (upper ? 'A' : 'a') + d - 10);
        v /= (uint64_t)base;
    } while (v);
    for (size_t i = 0; i < n; i++) out[i] = tmp[n - 1 - i];
    out[n] = 0;
}

/* Puts a separator between groups of `size` digits of the leading integer part. */
static void put_grouped(jbuild *b, const char *digits, char group, int size) {
    size_t whole = strspn(digits, "0123456789abcdefABCDEF");
    if (group && size == 3) whole = strspn(digits, "0123456789");
    for (size_t i = 0; i < whole; i++) {
        if (group && i && (whole - i) % (size_t)size == 0) jinja_build_put(b, &group, 1, false);
        jinja_build_put(b, digits + i, 1, false);
    }
    jinja_build_lit(b, digits + whole);
}

static void fill(jbuild *b, const spec *sp, int64_t n) {
    const jstr one = {.p = sp->fill_len ? sp->fill : " ", .n = sp->fill_len ? (uint32_t)sp->fill_len : 1, .n_chars = 1};
    jinja_build_repeat(b, &one, n);
}

/* sign + prefix + digits, padded. */
static void put_number(jbuild *b, const spec *sp, bool negative, const char *prefix, const char *digits, int group_size) {
    char head[8];
    char align = sp->align ? sp->align : '>';
    const char *sign = negative ? "-" : sp->sign == '+' ? "+" : sp->sign == ' ' ? " " : "";
    (void)snprintf(head, sizeof head, "%s%s", sign, prefix);
    int64_t len = (int64_t)(strlen(head) + strlen(digits)), pad, left;
    if (sp->group) {
        int64_t whole = (int64_t)strspn(digits, group_size == 3 ? "0123456789" : "0123456789abcdefABCDEF");
        len += (whole - 1) / group_size;
    }
    pad = sp->width > len ? sp->width - len : 0;
    left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    fill(b, sp, left);
    jinja_build_lit(b, head);
    if (align == '=') fill(b, sp, pad);
    put_grouped(b, digits, sp->group, group_size);
    if (align == '<' || align == '^') fill(b, sp, pad - left);
}

static mote_status put_int_value(jvm *vm, jbuild *b, const spec *sp, int64_t i) {
    char digits[72], type = sp->type ? sp->type : 'd';
    int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    const char *prefix = "";
    if (type == 'c') {
        if (i < 0 || i > 0x10FFFF) RAISE(vm, "%%c arg not in range(0x110000)");
        (void)snprintf(digits, sizeof digits, "%s", "");
        digits[utf8_encode((uint32_t)i, digits)] = 0;
        jinja_build_lit(b, digits);
        return MOTE_OK;
    }
    if (sp->alt) prefix = type == 'b' ? "0b" : type == 'o' ? "0o" : type == 'x' ? "0x" : type == 'X' ? "0X" : "";
    int_text(i < 0 ? 0 - (uint64_t)i : (uint64_t)i, base, type == 'X', digits);
    put_number(b, sp, i < 0, prefix, digits, base == 10 ? 3 : 4);
    return MOTE_OK;
}

static mote_status put_float_value(jbuild *b, const spec *sp, double f) {
    char digits[800];
    if (!sp->type && sp->precision < 0) {
        jinja_float_repr(isnan(f) ? f : fabs(f), digits);
    } else float_text(f, sp, digits);
    put_number(b, sp, signbit(f) && !isnan(f), "", digits, 3);
    return MOTE_OK;
}

static mote_status put_text(jbuild *b, const spec *sp, const jstr *s) {
    size_t n = sp->precision >= 0 && sp->precision < s->n_chars ? jinja_str_offset(s, (size_t)sp->precision) : s->n;
    int64_t chars = (int64_t)MIN((uint64_t)s->n_chars, sp->precision >= 0 ? (uint64_t)sp->precision : UINT64_MAX);
    int64_t pad = sp->width > chars ? sp->width - chars : 0, left = sp->align == '>' ? pad : sp->align == '^' ? pad / 2 : 0;
    fill(b, sp, left);
    jinja_build_part(b, s, 0, n);
    fill(b, sp, pad - left);
    return MOTE_OK;
}

/* format(v, spec) for a parsed spec. */
static mote_status put_value(jvm *vm, jbuild *b, const spec *sp, jval v) {
    bool float_type = sp->type && strchr("eEfFgG%n", sp->type), int_type = sp->type && strchr("bcdoxX", sp->type);
    if (v.t == JT_BOOL && (float_type || int_type)) v = jint(v.b);
    if (v.t == JT_INT && (!float_type || sp->type == 'n') && sp->type != 's') return put_int_value(vm, b, sp, v.i);
    if (v.t == JT_INT && float_type) v = jfloat((double)v.i);
    if (v.t == JT_FLOAT && !int_type && sp->type != 's') return put_float_value(b, sp, v.f);
    if (sp->type && sp->type != 's')
        RAISE(vm, "Unknown format code '%c' for object of type '%s'", sp->type, jinja_type_name(v));
    if (v.t == JT_INT || v.t == JT_FLOAT) RAISE(vm, "Unknown format code 's' for object of type '%s'", jinja_type_name(v));
    const jstr *s;
    TRY(jinja_str_of(vm, v, &s));
    if (sp->align == '=') RAISE(vm, "'=' alignment not allowed in string format specifier");
    return put_text(b, sp, s);
}

static bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

static bool read_int(str s, size_t *i, int64_t *out) {
    size_t from = *i;
    int64_t v = 0;
    for (; *i < s.n && s.p[*i] >= '0' && s.p[*i] <= '9' && v <= FORMAT_WIDTH_MAX; (*i)++) v = v * 10 + (s.p[*i] - '0');
    if (*i > from) *out = v;
    return *i > from;
}

/* [[fill]align][sign][#][0][width][grouping][.precision][type] */
static mote_status parse_spec(jvm *vm, str s, spec *sp) {
    size_t i = 0, first = s.n ? jutf8_len((unsigned char)s.p[0]) : 0;
    *sp = (spec){.width = -1, .precision = -1};
    if (s.n > first && is_align(s.p[first])) {
        memcpy(sp->fill, s.p, first);
        sp->fill_len = first;
        sp->align = s.p[first];
        i = first + 1;
    } else if (s.n && is_align(s.p[0])) sp->align = s.p[i++];
    if (i < s.n && (s.p[i] == '+' || s.p[i] == '-' || s.p[i] == ' ')) sp->sign = s.p[i++];
    if (i < s.n && s.p[i] == '#') sp->alt = s.p[i++] == '#';
    if (i < s.n && s.p[i] == '0') {
        i++;
        if (!sp->fill_len) sp->fill[sp->fill_len++] = '0';
        if (!sp->align) sp->align = '=';
    }
    (void)read_int(s, &i, &sp->width);
    if (i < s.n && (s.p[i] == ',' || s.p[i] == '_')) sp->group = s.p[i++];
    if (i < s.n && s.p[i] == '.') {
        i++;
        if (!read_int(s, &i, &sp->precision)) RAISE(vm, "Format specifier missing precision");
    }
    if (i < s.n) sp->type = s.p[i++];
    if (i < s.n) RAISE(vm, "Invalid format specifier");
    if (sp->width > FORMAT_WIDTH_MAX || (sp->precision > FORMAT_PRECISION_MAX && sp->type && sp->type != 's'))
        RAISE(vm, "Too many decimal digits in format string");
    return MOTE_OK;
}

/* ---- {} ---- */

typedef struct braces {
    jvm *vm;
    const jargs *args;
    const jdict *map;
    bool markup;
    int64_t next; /* automatic number; -1 after a manual one */
    int depth;
} braces;

static mote_status format_into(braces *f, jbuild *b, const jstr *fmt, size_t from, size_t to);

static mote_status first_field(braces *f, str name, jval *out) {
    jvm *vm = f->vm;
    int64_t i;
    if (name.n == 0) {
        if (f->next < 0) RAISE(vm, "cannot switch from manual field specification to automatic field numbering");
        i = f->next++;
    } else if (!str_to_i64(name, &i)) {
        for (uint32_t k = 0; k < f->args->n_kw; k++)
            if (str_eq(jview_of(f->args->kw[k].name), name)) {
                *out = f->args->kw[k].v;
                return MOTE_OK;
            }
        *out = f->map ? jinja_dict_find(f->map, name) : JMISSING;
        if (!jgiven(*out)) RAISE(vm, "KeyError: '%.*s'", STR_ARG(name));
        return MOTE_OK;
    } else {
        if (f->next > 0) RAISE(vm, "cannot switch from automatic field numbering to manual field specification");
        f->next = -1;
    }
    if (i < 0 || i >= f->args->n_pos) RAISE(vm, "Replacement index %lld out of range for positional args tuple", (long long)i);
    *out = f->args->pos[i];
    return MOTE_OK;
}

/* name(.attribute | [index])* */
static mote_status field_value(braces *f, str name, jval *out) {
    jvm *vm = f->vm;
    size_t i = 0;
    while (i < name.n && name.p[i] != '.' && name.p[i] != '[') i++;
    TRY(first_field(f, str_sub(name, 0, i), out));
    while (i < name.n) {
        char open = name.p[i++];
        size_t from = i;
        jval key;
        int64_t n;
        while (i < name.n && (open == '[' ? name.p[i] != ']' : name.p[i] != '.' && name.p[i] != '[')) i++;
        str part = str_sub(name, from, i - from);
        if (part.n == 0) RAISE(vm, "Empty attribute in format string");
        TRY(jinja_str_new(vm, part.p, part.n, false, &key));
        if (open == '[') {
            if (i == name.n) RAISE(vm, "Missing ']' in format string");
            i++;
            if (str_to_i64(part, &n)) key = jint(n);
            TRY(jinja_item(vm, *out, key, out));
        } else TRY(jinja_attr(vm, *out, key.s, out));
    }
    return MOTE_OK;
}

/* !s, !r and !a. */
static mote_status convert(jvm *vm, char how, jval *v) {
    const jstr *s;
    jbuild b;
    if (how == 's') {
        TRY(jinja_str_of(vm, *v, &s));
        *v = jstring(s);
        return MOTE_OK;
    }
    if (how != 'r' && how != 'a') RAISE(vm, "Unknown conversion specifier '%c'", how);
    jinja_build_init(&b, vm);
    TRY(jinja_repr(vm, &b, *v));
    return jinja_build_done(&b, v);
}

/* The replacement field between the braces at from and to. */
static mote_status put_field(braces *f, jbuild *b, const jstr *fmt, size_t from, size_t to) {
    jvm *vm = f->vm;
    str s = str_sub(jview_of(fmt), from, to - from);
    size_t i = 0, bracket = 0;
    while (i < s.n && (bracket || (s.p[i] != '!' && s.p[i] != ':'))) {
        bracket = s.p[i] == '[' ? 1 : s.p[i] == ']' ? 0 : bracket;
        i++;
    }
    jval v;
    TRY(field_value(f, str_sub(s, 0, i), &v));
    if (i < s.n && s.p[i] == '!') {
        if (i + 1 >= s.n || (i + 2 < s.n && s.p[i + 2] != ':')) RAISE(vm, "expected ':' after conversion specifier");
        TRY(convert(vm, s.p[i + 1], &v));
        i += 2;
    }
    spec sp = {.width = -1, .precision = -1};
    if (i < s.n) {
        jbuild inner;
        jval text;
        jinja_build_init(&inner, vm);
        if (f->depth > 1) RAISE(vm, "Max string recursion exceeded");
        f->depth++;
        TRY(format_into(f, &inner, fmt, from + i + 1, to));
        f->depth--;
        TRY(jinja_build_done(&inner, &text));
        TRY(parse_spec(vm, jview_of(text.s), &sp));
    }
    if (f->markup && v.t == JT_STR) TRY(jinja_escape(vm, v.s, &v));
    return put_value(vm, b, &sp, v);
}

/* Offset of the brace that closes the field whose inside begins at i. */
static size_t field_end(const jstr *fmt, size_t i, size_t to) {
    int depth = 1;
    for (; i < to; i++) {
        if (fmt->p[i] == '{') depth++;
        if (fmt->p[i] == '}' && --depth == 0) return i;
    }
    return SIZE_MAX;
}

static mote_status format_into(braces *f, jbuild *b, const jstr *fmt, size_t from, size_t to) {
    jvm *vm = f->vm;
    for (size_t i = from; i < to;) {
        size_t lit = i;
        while (i < to && fmt->p[i] != '{' && fmt->p[i] != '}') i++;
        jinja_build_part(b, fmt, lit, i - lit);
        if (i == to) break;
        TRY(jinja_spend(vm, 2));
        if (i + 1 < to && fmt->p[i + 1] == fmt->p[i]) {
            jinja_build_part(b, fmt, i, 1);
            i += 2;
            continue;
        }
        if (fmt->p[i] == '}') RAISE(vm, "Single '}' encountered in format string");
        size_t end = field_end(fmt, i + 1, to);
        TRY(jinja_spend(vm, (end == SIZE_MAX ? to : end) / 64));
        if (end == SIZE_MAX) RAISE(vm, i + 1 == to ? "Single '{' encountered in format string" : "expected '}' before end of string");
        TRY(put_field(f, b, fmt, i + 1, end));
        i = end + 1;
    }
    return MOTE_OK;
}

mote_status jinja_format_braces(jvm *vm, const jstr *fmt, const jargs *args, const jdict *map, jval *out) {
    braces f = {.vm = vm, .args = args, .map = map, .markup = fmt->markup};
    jbuild b;
    jinja_build_init(&b, vm);
    TRY(format_into(&f, &b, fmt, 0, fmt->n));
    TRY(jinja_build_done(&b, out));
    return fmt->markup ? jinja_as_markup(vm, *out, out) : MOTE_OK;
}

/* ---- % ---- */

typedef struct percent {
    const jargs *args;
    uint32_t used;
    bool mapped;
} percent;

static mote_status percent_next(jvm *vm, percent *p, jval *out) {
    if (p->used >= p->args->n_pos) RAISE(vm, "not enough arguments for format string");
    *out = p->args->pos[p->used++];
    return MOTE_OK;
}

/* "%(name)": the value of that key of the mapping on the right, or of the keyword. */
static mote_status percent_key(jvm *vm, percent *p, str name, jval *out) {
    bool found = false;
    p->mapped = true;
    for (uint32_t i = 0; i < p->args->n_kw; i++)
        if (str_eq(jview_of(p->args->kw[i].name), name)) {
            *out = p->args->kw[i].v;
            return MOTE_OK;
        }
    if (p->args->n_pos == 1 && p->args->pos[0].t == JT_DICT) {
        jval key;
        TRY(jinja_str_new(vm, name.p, name.n, false, &key));
        TRY(jinja_dict_get(vm, p->args->pos[0].d, key, out, &found));
    } else if (!p->args->n_kw) RAISE(vm, "format requires a mapping");
    if (!found) RAISE(vm, "KeyError: '%.*s'", STR_ARG(name));
    return MOTE_OK;
}

static mote_status percent_number(jvm *vm, percent *p, str s, size_t *i, int64_t *out) {
    if (*i < s.n && s.p[*i] == '*') {
        jval v;
        (*i)++;
        TRY(percent_next(vm, p, &v));
        TRY(jinja_to_int(vm, v, "* wants int", out));
    } else (void)read_int(s, i, out);
    if (*out > FORMAT_WIDTH_MAX) RAISE(vm, "width too big");
    return MOTE_OK;
}

static mote_status percent_flags(jvm *vm, percent *p, str s, size_t *i, spec *sp) {
    for (; *i < s.n && strchr("-+ #0", s.p[*i]); (*i)++) {
        char c = s.p[*i];
        if (c == '-') sp->align = '<';
        else if (c == '+' || (c == ' ' && !sp->sign)) sp->sign = c;
        else if (c == '#') sp->alt = true;
        else if (c == '0') sp->fill[0] = '0';
    }
    TRY(percent_number(vm, p, s, i, &sp->width));
    if (*i < s.n && s.p[*i] == '.') {
        (*i)++;
        sp->precision = 0;
        TRY(percent_number(vm, p, s, i, &sp->precision));
    }
    while (*i < s.n && strchr("hlL", s.p[*i])) (*i)++;
    return MOTE_OK;
}

static mote_status percent_value(jvm *vm, jbuild *b, spec *sp, char type, jval v, bool markup) {
    bool integer = strchr("diouxX", type) != NULL, real = strchr("eEfFgG", type) != NULL;
    if ((integer || real) && sp->fill[0] == '0' && !sp->align) {
        sp->fill_len = 1;
        sp->align = '=';
    }
    if (!sp->align) sp->align = '>';
    if (v.t == JT_BOOL && (integer || real)) v = jint(v.b);
    if (integer || real) {
        if (v.t == JT_UNDEF) return jinja_raise_undef(vm, v);
        if (v.t != JT_INT && v.t != JT_FLOAT)
            RAISE(vm, "%%%c format: a number is required, not %s", type, jinja_type_name(v));
    }
    if (integer) {
        if (v.t == JT_FLOAT && (type == 'x' || type == 'X' || type == 'o' || !(fabs(v.f) < 9e18)))
            RAISE(vm, "%%%c format: an integer is required, not float", type);
        sp->type = type == 'i' || type == 'u' ? 'd' : type;
        return put_int_value(vm, b, sp, v.t == JT_INT ? v.i : (int64_t)v.f);
    }
    if (real) {
        if (sp->precision > FORMAT_PRECISION_MAX) RAISE(vm, "precision too big");
        sp->type = type;
        return put_float_value(b, sp, v.t == JT_INT ? (double)v.i : v.f);
    }
    if (type == 'c' && v.t == JT_INT) {
        sp->type = 'c';
        return put_int_value(vm, b, sp, v.i);
    }
    if (type == 'c' && (v.t != JT_STR || v.s->n_chars != 1)) RAISE(vm, "%%c requires int or char");
    TRY(convert(vm, type == 'c' ? 's' : type, &v));
    if (markup) TRY(jinja_escape(vm, v.s, &v));
    return put_text(b, sp, v.s);
}

mote_status jinja_format_percent(jvm *vm, const jstr *fmt, const jargs *args, bool tuple, jval *out) {
    jbuild b;
    percent p = {.args = args};
    str s = jview_of(fmt);
    jinja_build_init(&b, vm);
    for (size_t i = 0; i < s.n;) {
        size_t lit = i;
        while (i < s.n && s.p[i] != '%') i++;
        jinja_build_part(&b, fmt, lit, i - lit);
        if (i++ >= s.n) break;
        TRY(jinja_spend(vm, 2));
        spec sp = {.width = -1, .precision = -1};
        jval v = JMISSING;
        if (i < s.n && s.p[i] == '(') {
            size_t end = str_find(s, STR(")"), i);
            if (end == SIZE_MAX) RAISE(vm, "incomplete format key");
            TRY(percent_key(vm, &p, str_sub(s, i + 1, end - i - 1), &v));
            i = end + 1;
        }
        TRY(percent_flags(vm, &p, s, &i, &sp));
        if (i >= s.n) RAISE(vm, "incomplete format");
        char type = s.p[i++];
        if (type == '%') {
            jinja_build_part(&b, fmt, i - 1, 1);
            continue;
        }
        if (!strchr("diouxXeEfFgGcrsa", type)) RAISE(vm, "unsupported format character '%c'", type);
        if (!jgiven(v)) TRY(percent_next(vm, &p, &v));
        TRY(percent_value(vm, &b, &sp, type, v, fmt->markup));
    }
    jtype lone = tuple || args->n_pos != 1 ? JT_NONE : args->pos[0].t; /* what Python takes for a mapping */
    bool may_remain = lone == JT_DICT || lone == JT_LIST || lone == JT_RANGE || lone == JT_UNDEF;
    bool leftover = p.used < args->n_pos && !p.mapped && !may_remain;
    if (leftover) RAISE(vm, "not all arguments converted during string formatting");
    TRY(jinja_build_done(&b, out));
    return fmt->markup ? jinja_as_markup(vm, *out, out) : MOTE_OK;
}
