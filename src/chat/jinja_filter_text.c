/* jinja_filter_text.c: filters on text and numbers. */
#include "chat/jinja_int.h"

#include <math.h>
#include <stdio.h>

static bool flag(jval v) { return jgiven(v) && jinja_truth(v); }

static mote_status int_or(jvm *vm, jval v, int64_t otherwise, int64_t *out) {
    *out = otherwise;
    return jgiven(v) ? jinja_to_int(vm, v, "an argument", out) : MOTE_OK;
}

/* ---- case, trimming, replacing ---- */

static mote_status change_case(jvm *vm, jval self, int mode, jval *out) {
    const jstr *s;
    TRY(jinja_str_of(vm, self, &s));
    return jinja_change_case(vm, s, mode, out);
}
JBUILTIN(f_upper) { return change_case(vm, self, CASE_UPPER, out); }
JBUILTIN(f_lower) { return change_case(vm, self, CASE_LOWER, out); }
JBUILTIN(f_capitalize) { return change_case(vm, self, CASE_CAPITAL, out); }

static bool ends_word(uint32_t c) { return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || jinja_is_space(c); }

/* Each word begins in upper case; words end at white space, hyphens and opening brackets. */
JBUILTIN(f_title) {
    const jstr *s;
    jbuild b;
    bool start = true;
    TRY(jinja_str_of(vm, self, &s));
    jinja_build_init(&b, vm);
    TRY(jinja_spend(vm, s->n / 8));
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t mapped[3], c = jinja_char_at(s->p + i, &len);
        bool sep = ends_word(c);
        size_t n = start && !sep ? jinja_to_upper(c, mapped) : jinja_to_lower(c, mapped);
        jinja_build_cp(&b, mapped, n, jinja_str_content_at(s, i));
        start = sep;
    }
    return jinja_build_done(&b, out);
}

JBUILTIN(f_trim) {
    const jstr *s, *chars = NULL;
    TRY(jinja_str_of(vm, self, &s));
    if (jgiven(a[0]) && a[0].t != JT_NONE) {
        if (a[0].t != JT_STR) RAISE(vm, "strip arg must be None or str, not %s", jinja_type_name(a[0]));
        chars = a[0].s;
    }
    return jinja_strip(vm, s, chars, STRIP_LEFT | STRIP_RIGHT, out);
}

JBUILTIN(f_replace) {
    const jstr *s, *from, *to;
    int64_t max;
    TRY(jinja_str_of(vm, self, &s));
    TRY(jinja_str_of(vm, a[0], &from));
    TRY(jinja_str_of(vm, a[1], &to));
    TRY(int_or(vm, a[2].t == JT_NONE ? JMISSING : a[2], -1, &max));
    return jinja_replace(vm, s, from, to, max, out);
}

JBUILTIN(f_string) {
    const jstr *s;
    TRY(jinja_str_of(vm, self, &s));
    *out = jstring(s);
    return MOTE_OK;
}

JBUILTIN(f_center) {
    const jstr *s;
    int64_t width;
    jval space;
    TRY(jinja_str_of(vm, self, &s));
    TRY(int_or(vm, a[0], 80, &width));
    TRY(jinja_str_lit(vm, " ", &space));
    return jinja_pad(vm, s, width, space.s, STRIP_LEFT | STRIP_RIGHT, out);
}

/* indent(width, first, blank) */
JBUILTIN(f_indent) {
    jval by = a[0], newline, lines, text;
    jbuild b;
    if (self.t == JT_UNDEF) return jinja_raise_undef(vm, self);
    if (self.t != JT_STR) RAISE(vm, "indent: text expected, not %s", jinja_type_name(self));
    if (by.t != JT_STR) {
        int64_t width;
        TRY(int_or(vm, by, 4, &width));
        jinja_build_init(&b, vm);
        jinja_build_fill(&b, ' ', width, false);
        TRY(jinja_build_done(&b, &by));
    }
    TRY(jinja_str_lit(vm, "\n", &newline));
    TRY(jinja_concat(vm, self.s, newline.s, &text));
    TRY(jinja_split_lines(vm, text.s, false, &lines));
    jinja_build_init(&b, vm);
    for (uint32_t i = 0; i < lines.l->n; i++) {
        const jstr *line = lines.l->v[i].s;
        if (i) jinja_build_lit(&b, "\n");
        if (i ? line->n || flag(a[2]) : flag(a[1])) jinja_build_str(&b, by.s);
        jinja_build_str(&b, line);
    }
    TRY(jinja_build_done(&b, out));
    return self.s->markup ? jinja_as_markup(vm, *out, out) : MOTE_OK;
}

/* truncate(length, killwords, end, leeway) */
JBUILTIN(f_truncate) {
    int64_t length, leeway;
    jval end = a[2], cut, parts;
    if (jinja_length(self) < 0) RAISE(vm, "object of type '%s' has no len()", jinja_type_name(self));
    if (!jgiven(end)) TRY(jinja_str_lit(vm, "...", &end));
    if (end.t != JT_STR) RAISE(vm, "truncate: end must be text");
    TRY(int_or(vm, a[0], 255, &length));
    TRY(int_or(vm, a[3].t == JT_NONE ? JMISSING : a[3], 5, &leeway));
    if (length < end.s->n_chars || leeway < 0) RAISE(vm, "truncate: expected length >= %u", end.s->n_chars);
    *out = self;
    if (leeway > INT32_MAX || length > INT32_MAX || jinja_length(self) <= length + leeway) return MOTE_OK;
    if (self.t != JT_STR) RAISE(vm, "truncate: text expected, not %s", jinja_type_name(self));
    TRY(jinja_str_sub(vm, self.s, 0, jinja_str_offset(self.s, (size_t)(length - end.s->n_chars)), &cut));
    if (!flag(a[1])) {
        jval space;
        TRY(jinja_str_lit(vm, " ", &space));
        TRY(jinja_split(vm, cut.s, space.s, 1, true, &parts));
        cut = parts.l->v[0];
    }
    return jinja_concat(vm, cut.s, end.s, out);
}

/* ---- wrapping ---- */

static bool letter_at(const jstr *s, size_t i) {
    size_t len;
    return jinja_is_alpha(jinja_char_at(s->p + i, &len));
}

/* Whether a line may break behind the hyphen at i of the word that begins at `from`: letters around it, two or more
 * word characters on either side (the common part of textwrap's rule). */
static bool breaks_after(const jstr *s, size_t from, size_t i) {
    size_t len, before = i, n = 0;
    while (before > from && ((unsigned char)s->p[--before] & 0xC0) == 0x80) {}
    if (before == from || !letter_at(s, before)) return false;
    for (i++; i < s->n; i += len, n++) {
        uint32_t c = jinja_char_at(s->p + i, &len);
        if (!jinja_is_word(c)) return false;
        if (n >= 1 && jinja_is_alpha(c)) return true;
    }
    return false;
}

/* End of the chunk at i: a run of white space, or a word or a part of one. */
static size_t chunk_end(const jstr *s, size_t i, bool hyphens) {
    size_t len, from = i;
    bool space = jinja_is_space(jinja_char_at(s->p + i, &len));
    for (; i < s->n; i += len) {
        uint32_t c = jinja_char_at(s->p + i, &len);
        if (jinja_is_space(c) != space) return i;
        if (hyphens && c == '-' && breaks_after(s, from, i)) return i + 1;
    }
    return s->n;
}

typedef struct wrap {
    jbuild b;
    const jstr *sep;
    int64_t width;
    bool break_long, hyphens;
} wrap;

/* One line of text as lines of at most width characters, filled greedily; white space at their borders goes (Python's
 * textwrap). */
static mote_status wrap_line(jvm *vm, wrap *w, const jstr *s) {
    bool any = false; /* a line has been written */
    for (size_t i = 0; i < s->n;) {
        size_t len, from = i, to = i, end; /* [from, to): the line; `end`: of the chunk that is looked at */
        int64_t used = 0;
        if (any && jinja_is_space(jinja_char_at(s->p + i, &len))) from = to = i = chunk_end(s, i, false);
        for (; i < s->n; i = end) {
            end = chunk_end(s, i, w->hyphens);
            int64_t chars = (int64_t)jinja_str_chars((str){s->p + i, end - i});
            bool space = jinja_is_space(jinja_char_at(s->p + i, &len));
            TRY(jinja_spend(vm, (end - i) / 8 + 1));
            if (used + chars > w->width) {
                if (chars <= w->width || (!w->break_long && used > 0)) break;
                if (w->break_long) {
                    const jstr word = {.p = s->p + i, .n = (uint32_t)(end - i), .n_chars = (uint32_t)chars};
                    end = i + jinja_str_offset(&word, (size_t)(w->width - used));
                }
                i = end;
                if (!space) to = end;
                break;
            }
            used += chars;
            if (!space) to = end;
        }
        if (to == from) continue; /* nothing but white space */
        if (any) jinja_build_str(&w->b, w->sep);
        any = true;
        jinja_build_part(&w->b, s, from, to - from);
    }
    return MOTE_OK;
}

/* wordwrap(width, break_long_words, wrapstring, break_on_hyphens) */
JBUILTIN(f_wordwrap) {
    wrap w = {.break_long = !jgiven(a[1]) || jinja_truth(a[1]), .hyphens = !jgiven(a[3]) || jinja_truth(a[3])};
    jval lines, sep = a[2];
    TRY(int_or(vm, a[0], 79, &w.width));
    if (self.t != JT_STR) RAISE(vm, "wordwrap: text expected, not %s", jinja_type_name(self));
    if (w.width <= 0) RAISE(vm, "invalid width %lld (must be > 0)", (long long)w.width);
    if (!jgiven(sep) || sep.t == JT_NONE) TRY(jinja_str_lit(vm, "\n", &sep));
    if (sep.t != JT_STR) RAISE(vm, "wordwrap: wrapstring must be text");
    TRY(jinja_split_lines(vm, self.s, false, &lines));
    jinja_build_init(&w.b, vm);
    w.sep = sep.s;
    for (uint32_t i = 0; i < lines.l->n; i++) {
        if (i) jinja_build_str(&w.b, w.sep);
        TRY(wrap_line(vm, &w, lines.l->v[i].s));
    }
    return jinja_build_done(&w.b, out);
}

JBUILTIN(f_wordcount) {
    const jstr *s;
    int64_t n = 0;
    bool in_word = false;
    TRY(jinja_str_of(vm, self, &s));
    for (size_t i = 0, len; i < s->n; i += len) {
        bool word = jinja_is_word(jinja_char_at(s->p + i, &len));
        n += word && !in_word;
        in_word = word;
    }
    *out = jint(n);
    return jinja_spend(vm, s->n / 16);
}

/* ---- markup ---- */

JBUILTIN(f_safe) {
    const jstr *s;
    TRY(jinja_str_of(vm, self, &s));
    return jinja_as_markup(vm, jstring(s), out);
}

JBUILTIN(f_escape) {
    const jstr *s;
    TRY(jinja_str_of(vm, self, &s));
    return jinja_escape(vm, s, out);
}

JBUILTIN(f_forceescape) {
    const jstr *s;
    TRY(jinja_str_of(vm, self, &s));
    jstr plain = *s;
    plain.markup = false;
    return jinja_escape(vm, &plain, out);
}

/* The character an entity at i stands for and the entity's length; 0 when it is none. */
static size_t entity(const jstr *s, size_t i, uint32_t *c) {
    static const struct {
        const char *name;
        uint32_t c;
    } named[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}, {"&#34;", '"'}, {"&nbsp;", 0xA0}};
    str rest = str_sub(jview_of(s), i, s->n - i);
    for (size_t k = 0; k < COUNT_OF(named); k++)
        if (str_starts(rest, str_of(named[k].name))) {
            *c = named[k].c;
            return strlen(named[k].name);
        }
    return 0;
}

JBUILTIN(f_striptags) {
    const jstr *s;
    jbuild b;
    jval text, parts, space;
    size_t i = 0, end;
    TRY(jinja_str_of(vm, self, &s));
    jinja_build_init(&b, vm);
    while (i < s->n) {
        bool comment = str_starts(str_sub(jview_of(s), i, s->n - i), STR("<!--"));
        end = s->p[i] != '<' ? SIZE_MAX : str_find(jview_of(s), comment ? STR("-->") : STR(">"), i);
        TRY(jinja_spend(vm, 1));
        if (end != SIZE_MAX) {
            i = end + (comment ? 3 : 1);
            continue;
        }
        if (s->p[i] == '<') TRY(jinja_spend(vm, (s->n - i) / 64));
        uint32_t c;
        size_t len = s->p[i] == '&' ? entity(s, i, &c) : 0;
        if (len) jinja_build_cp(&b, &c, 1, jinja_str_content_at(s, i));
        else jinja_build_part(&b, s, i, len = 1);
        i += len;
    }
    TRY(jinja_build_done(&b, &text));
    TRY(jinja_split(vm, text.s, NULL, -1, false, &parts));
    TRY(jinja_str_lit(vm, " ", &space));
    return jinja_join(vm, space.s, parts.l->v, parts.l->n, false, out);
}

JBUILTIN(f_xmlattr) {
    jbuild b;
    if (self.t != JT_DICT) RAISE(vm, "xmlattr: a mapping is expected, not %s", jinja_type_name(self));
    jinja_build_init(&b, vm);
    for (uint32_t i = 0; i < self.d->n; i++) {
        const jentry *e = &self.d->e[i];
        const jstr *text;
        jval key, val;
        if (e->val.t == JT_NONE || e->val.t == JT_UNDEF) continue;
        if (e->key.t != JT_STR || strpbrk(e->key.s->n ? e->key.s->p : "", " />=\t\n"))
            for (uint32_t k = 0; e->key.t != JT_STR || k < e->key.s->n; k++)
                if (e->key.t != JT_STR || strchr(" />=\t\n\r\f\v", e->key.s->p[k])) RAISE(vm, "Invalid character in attribute name");
        TRY(jinja_escape(vm, e->key.s, &key));
        TRY(jinja_str_of(vm, e->val, &text));
        TRY(jinja_escape(vm, text, &val));
        if (b.n || !jgiven(a[0]) || jinja_truth(a[0])) jinja_build_lit(&b, " ");
        jinja_build_str(&b, key.s);
        jinja_build_lit(&b, "=\"");
        jinja_build_str(&b, val.s);
        jinja_build_lit(&b, "\"");
    }
    return jinja_build_done(&b, out);
}

static void quote(jbuild *b, const jstr *s, bool query) {
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->p[i];
        char esc[4];
        bool content = jinja_str_content_at(s, i);
        bool keep = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("_.-~", c) != NULL;
        if (c == 0) keep = false;
        if (keep || (c == '/' && !query)) jinja_build_put(b, s->p + i, 1, content);
        else if (c == ' ' && query) jinja_build_put(b, "+", 1, content);
        else {
            (void)snprintf(esc, sizeof esc, "%%%02X", c);
            jinja_build_put(b, esc, 3, content);
        }
    }
}

JBUILTIN(f_urlencode) {
    jbuild b;
    const jstr *s;
    jval *items, *pair, v = self;
    uint32_t n, k;
    jview view = {self.d, VIEW_ITEMS};
    jinja_build_init(&b, vm);
    if (self.t == JT_STR || !jinja_iterable(self)) {
        TRY(jinja_str_of(vm, self, &s));
        quote(&b, s, false);
        return jinja_build_done(&b, out);
    }
    if (self.t == JT_DICT) v = (jval){.t = JT_VIEW, .view = &view};
    TRY(jinja_items(vm, v, &items, &n));
    for (uint32_t i = 0; i < n; i++) {
        TRY(jinja_items(vm, items[i], &pair, &k));
        if (k != 2) RAISE(vm, "urlencode: pairs are expected");
        if (i) jinja_build_lit(&b, "&");
        TRY(jinja_str_of(vm, pair[0], &s));
        quote(&b, s, true);
        jinja_build_lit(&b, "=");
        TRY(jinja_str_of(vm, pair[1], &s));
        quote(&b, s, true);
    }
    return jinja_build_done(&b, out);
}

/* ---- formats, numbers ---- */

JBUILTIN(f_format) {
    const jstr *s;
    if (raw->n_pos && raw->n_kw) RAISE(vm, "can't handle positional and keyword arguments at the same time");
    TRY(jinja_str_of(vm, self, &s));
    return jinja_format_percent(vm, s, raw, true, out);
}

JBUILTIN(f_pprint) {
    jbuild b;
    jinja_build_init(&b, vm);
    TRY(jinja_repr(vm, &b, self));
    return jinja_build_done(&b, out);
}

static mote_status double_to_int(jvm *vm, double f, jval *out) {
    if (!(fabs(f) < 9.2e18)) RAISE(vm, "cannot convert this float to an integer");
    *out = jint((int64_t)f);
    return MOTE_OK;
}

/* int(default, base) */
JBUILTIN(f_int) {
    int64_t i, base;
    double f;
    *out = jgiven(a[0]) ? a[0] : jint(0);
    TRY(int_or(vm, a[1], 10, &base));
    if (base != 0 && (base < 2 || base > 36)) base = 10;
    switch (self.t) {
    case JT_UNDEF: return jinja_raise_undef(vm, self);
    case JT_BOOL:
    case JT_INT: *out = jint(self.t == JT_INT ? self.i : self.b); return MOTE_OK;
    case JT_FLOAT: return isnan(self.f) ? MOTE_OK : double_to_int(vm, self.f, out);
    case JT_STR:
        if (jinja_parse_int(jview_of(self.s), (int)base, &i)) *out = jint(i);
        else if (jinja_parse_float(jview_of(self.s), &f) && isfinite(f)) return double_to_int(vm, f, out);
        return MOTE_OK;
    default: return MOTE_OK;
    }
}

JBUILTIN(f_float) {
    double f;
    *out = jgiven(a[0]) ? a[0] : jfloat(0);
    if (self.t == JT_UNDEF) return jinja_raise_undef(vm, self);
    if (self.t == JT_FLOAT) *out = self;
    else if (self.t == JT_INT || self.t == JT_BOOL) *out = jfloat(self.t == JT_INT ? (double)self.i : (double)self.b);
    else if (self.t == JT_STR && jinja_parse_float(jview_of(self.s), &f)) *out = jfloat(f);
    return MOTE_OK;
}

JBUILTIN(f_abs) {
    if (self.t == JT_UNDEF) return jinja_raise_undef(vm, self);
    if (self.t == JT_FLOAT) *out = jfloat(fabs(self.f));
    else if (self.t == JT_BOOL) *out = jint(self.b);
    else if (self.t != JT_INT) RAISE(vm, "bad operand type for abs(): '%s'", jinja_type_name(self));
    else if (self.i == INT64_MIN) RAISE(vm, "integer result does not fit in 64 bits");
    else *out = jint(self.i < 0 ? -self.i : self.i);
    return MOTE_OK;
}

/* round(f, digits): half to even on the exact decimal value, by way of printf. */
static double round_digits(double f, int64_t digits) {
    char tmp[400], plain[400];
    double r;
    size_t n = 0;
    if (!isfinite(f) || digits > 60) return f;
    if (digits < 0) {
        double unit = pow(10, (double)-digits);
        return isfinite(unit) ? nearbyint(f / unit) * unit : 0;
    }
    (void)snprintf(tmp, sizeof tmp, "%.*f", (int)digits, f);
    for (const char *p = tmp; *p; p++) plain[n++] = (*p >= '0' && *p <= '9') || *p == '-' ? *p : '.';
    return n < 64 && str_to_double((str){plain, n}, &r) ? r : f;
}

static int64_t round_int(int64_t i, int64_t digits) {
    if (digits >= 0) return i;
    int64_t unit = 1;
    for (; digits < 0 && unit < INT64_MAX / 20; digits++) unit *= 10;
    if (digits < 0) return 0;
    int64_t low = i - ((i % unit) + unit) % unit, rest = i - low;
    bool up = rest * 2 > unit || (rest * 2 == unit && (low / unit) % 2 != 0);
    return up ? low + unit : low;
}

/* round(precision, method) */
JBUILTIN(f_round) {
    int64_t digits;
    bool common = !jgiven(a[1]) || (a[1].t == JT_STR && jstr_is(a[1].s, "common"));
    bool up = !common && a[1].t == JT_STR && jstr_is(a[1].s, "ceil");
    TRY(int_or(vm, a[0], 0, &digits));
    if (!common && !up && !(a[1].t == JT_STR && jstr_is(a[1].s, "floor"))) RAISE(vm, "method must be common, ceil or floor");
    if (self.t == JT_BOOL) self = jint(self.b);
    if (self.t != JT_INT && self.t != JT_FLOAT) RAISE(vm, "type %s doesn't define __round__ method", jinja_type_name(self));
    if (common) {
        *out = self.t == JT_INT ? jint(round_int(self.i, digits)) : jfloat(round_digits(self.f, digits));
        return MOTE_OK;
    }
    double f = self.t == JT_INT ? (double)self.i : self.f, scale = pow(10, (double)digits);
    *out = jfloat((up ? ceil(f * scale) : floor(f * scale)) / scale);
    return MOTE_OK;
}

JBUILTIN(f_filesizeformat) {
    static const char *const units[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    jval v;
    char tmp[64];
    bool binary = flag(a[0]);
    double base = binary ? 1024 : 1000, unit = base;
    TRY(f_float(vm, self, &JNONE, raw, &v)); /* none where it cannot be converted */
    if (v.t != JT_FLOAT) RAISE(vm, "could not convert '%s' object to float", jinja_type_name(self));
    int i = 0;
    if (v.f == 1) return jinja_str_lit(vm, "1 Byte", out);
    if (v.f < base) (void)snprintf(tmp, sizeof tmp, "%.0f Bytes", trunc(v.f));
    else {
        while (i < 7 && v.f >= unit * base) {
            unit *= base;
            i++;
        }
        double n = v.f / unit;
        (void)snprintf(tmp, sizeof tmp, "%.0f.%d %s", trunc(n + 0.05), (int)(fmod(n + 0.05, 1) * 10), units[binary][i]);
    }
    return jinja_str_new(vm, tmp, strlen(tmp), false, out);
}

JBUILTIN(f_default) {
    *out = self;
    if (self.t != JT_UNDEF && !(flag(a[1]) && !jinja_truth(self))) return MOTE_OK;
    if (!jgiven(a[0])) return jinja_str_lit(vm, "", out);
    *out = a[0];
    return MOTE_OK;
}

const jbuiltin jinja_filters_text[] = {
    {"trim", "chars=", f_trim}, {"default", "default_value=,boolean=", f_default},
    {"d", "default_value=,boolean=", f_default}, {"string", "", f_string}, {"safe", "", f_safe},
    {"upper", "", f_upper}, {"lower", "", f_lower}, {"capitalize", "", f_capitalize}, {"title", "", f_title},
    {"replace", "old,new,count=", f_replace}, {"indent", "width=,first=,blank=", f_indent},
    {"int", "default=,base=", f_int}, {"float", "default=", f_float}, {"abs", "", f_abs},
    {"round", "precision=,method=", f_round}, {"format", NULL, f_format}, {"center", "width=", f_center},
    {"truncate", "length=,killwords=,end=,leeway=", f_truncate},
    {"wordwrap", "width=,break_long_words=,wrapstring=,break_on_hyphens=", f_wordwrap},
    {"wordcount", "", f_wordcount}, {"escape", "", f_escape}, {"e", "", f_escape}, {"forceescape", "", f_forceescape},
    {"striptags", "", f_striptags}, {"xmlattr", "autospace=", f_xmlattr}, {"urlencode", "", f_urlencode},
    {"pprint", "", f_pprint}, {"filesizeformat", "binary=", f_filesizeformat},
    {NULL, NULL, NULL},
};

const jbuiltin *jinja_filter(str name) {
    if (str_is(name, jinja_tojson.name)) return &jinja_tojson;
    const jbuiltin *b = jinja_builtin_find(jinja_filters_text, name);
    return b ? b : jinja_builtin_find(jinja_filters_seq, name);
}
