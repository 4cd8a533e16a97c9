/* jinja_method.c: the methods of Python's str, list, tuple and dict, and of Jinja2's own objects. Those that
 * would change a list or dict are known but refused, as in Jinja2's immutable sandbox. */
#include "chat/jinja_int.h"

/* ---- arguments ---- */

static mote_status text_arg(jvm *vm, jval v, const char *what, const jstr **out) {
    *out = v.t == JT_STR ? v.s : NULL;
    if (!*out) RAISE(vm, "%s must be str, not %s", what, jinja_type_name(v));
    return MOTE_OK;
}

static mote_status opt_text(jvm *vm, jval v, const char *what, const jstr **out) {
    *out = NULL;
    return !jgiven(v) || v.t == JT_NONE ? MOTE_OK : text_arg(vm, v, what, out);
}

static mote_status opt_int(jvm *vm, jval v, int64_t otherwise, int64_t *out) {
    *out = otherwise;
    return jgiven(v) ? jinja_to_int(vm, v, "an argument", out) : MOTE_OK;
}

/* The part of s between the code points start and end (Python's slice rules), as byte offsets. */
static mote_status part_of(jvm *vm, const jstr *s, jval start, jval end, size_t *from, size_t *to) {
    jrange r;
    *from = *to = 0;
    TRY(jinja_slice_bounds(vm, jgiven(start) ? start : JNONE, jgiven(end) ? end : JNONE, JNONE, s->n_chars, &r));
    *from = jinja_str_offset(s, (size_t)r.start);
    *to = r.n > 0 ? jinja_str_offset(s, (size_t)(r.start + r.n)) : *from;
    if (r.stop < r.start) *to = SIZE_MAX; /* the empty text is not found here */
    return jinja_spend(vm, s->n == s->n_chars ? 1 : s->n / 16);
}

/* ---- str ---- */

#define CASE_METHOD(name, mode) \
    JBUILTIN(name) { return jinja_change_case(vm, self.s, (mode), out); }
CASE_METHOD(str_upper, CASE_UPPER)
CASE_METHOD(str_lower, CASE_LOWER)
CASE_METHOD(str_title, CASE_TITLE)
CASE_METHOD(str_capitalize, CASE_CAPITAL)
CASE_METHOD(str_swapcase, CASE_SWAP)

static mote_status strip(jvm *vm, jval self, jval set, int sides, jval *out) {
    const jstr *chars;
    TRY(opt_text(vm, set, "strip arg", &chars));
    return jinja_strip(vm, self.s, chars, sides, out);
}
JBUILTIN(str_strip) { return strip(vm, self, a[0], STRIP_LEFT | STRIP_RIGHT, out); }
JBUILTIN(str_lstrip) { return strip(vm, self, a[0], STRIP_LEFT, out); }
JBUILTIN(str_rstrip) { return strip(vm, self, a[0], STRIP_RIGHT, out); }

static mote_status split(jvm *vm, jval self, const jval *a, bool right, jval *out) {
    const jstr *sep;
    int64_t max;
    TRY(opt_text(vm, a[0], "separator", &sep));
    TRY(opt_int(vm, a[1], -1, &max));
    return jinja_split(vm, self.s, sep, max, right, out);
}
JBUILTIN(str_split) { return split(vm, self, a, false, out); }
JBUILTIN(str_rsplit) { return split(vm, self, a, true, out); }
JBUILTIN(str_splitlines) { return jinja_split_lines(vm, self.s, jgiven(a[0]) && jinja_truth(a[0]), out); }

static mote_status partition(jvm *vm, jval self, jval arg, bool right, jval *out) {
    const jstr *sep, *s = self.s;
    size_t hit, last = SIZE_MAX;
    TRY(text_arg(vm, arg, "separator", &sep));
    if (sep->n == 0) RAISE(vm, "empty separator");
    for (size_t at = 0; (hit = str_find(jview_of(s), jview_of(sep), at)) != SIZE_MAX; at = hit + 1) {
        last = hit;
        TRY(jinja_spend(vm, 1));
        if (!right) break;
    }
    TRY(jinja_list_new(vm, 3, JT_TUPLE, out));
    jval *v = out->l->v;
    TRY(jinja_str_lit(vm, "", &v[1]));
    v[0] = v[2] = v[1];
    if (last == SIZE_MAX) v[right ? 2 : 0] = self;
    else {
        v[1] = arg;
        TRY(jinja_str_sub(vm, s, 0, last, &v[0]));
        TRY(jinja_str_sub(vm, s, last + sep->n, s->n - last - sep->n, &v[2]));
    }
    return MOTE_OK;
}
JBUILTIN(str_partition) { return partition(vm, self, a[0], false, out); }
JBUILTIN(str_rpartition) { return partition(vm, self, a[0], true, out); }

/* Code point index of the first or last occurrence between start and end, or -1. */
static mote_status find(jvm *vm, jval self, const jval *a, bool last, int64_t *out) {
    const jstr *sub;
    size_t from, to, hit, best = SIZE_MAX;
    *out = -1;
    TRY(text_arg(vm, a[0], "substring", &sub));
    TRY(part_of(vm, self.s, a[1], a[2], &from, &to));
    if (to == SIZE_MAX) return MOTE_OK;
    str within = {self.s->p, to};
    for (size_t at = from; (hit = str_find(within, jview_of(sub), at)) != SIZE_MAX; at = hit + 1) {
        best = hit;
        TRY(jinja_spend(vm, 1));
        if (!last) break;
    }
    if (best != SIZE_MAX) *out = (int64_t)jinja_str_chars((str){self.s->p, best});
    return jinja_spend(vm, self.s->n / 64);
}

static mote_status find_or_fail(jvm *vm, jval self, const jval *a, bool last, bool must, jval *out) {
    int64_t i;
    TRY(find(vm, self, a, last, &i));
    if (must && i < 0) RAISE(vm, "substring not found");
    *out = jint(i);
    return MOTE_OK;
}
JBUILTIN(str_find_) { return find_or_fail(vm, self, a, false, false, out); }
JBUILTIN(str_rfind) { return find_or_fail(vm, self, a, true, false, out); }
JBUILTIN(str_index) { return find_or_fail(vm, self, a, false, true, out); }
JBUILTIN(str_rindex) { return find_or_fail(vm, self, a, true, true, out); }

JBUILTIN(str_count) {
    const jstr *sub;
    size_t from, to, hit;
    int64_t n = 0;
    TRY(text_arg(vm, a[0], "substring", &sub));
    TRY(part_of(vm, self.s, a[1], a[2], &from, &to));
    if (to != SIZE_MAX && sub->n == 0) n = (int64_t)jinja_str_chars((str){self.s->p + from, to - from}) + 1;
    for (size_t at = from; to != SIZE_MAX && sub->n && (hit = str_find((str){self.s->p, to}, jview_of(sub), at)) != SIZE_MAX; n++) {
        at = hit + sub->n;
        TRY(jinja_spend(vm, 1));
    }
    *out = jint(n);
    return jinja_spend(vm, self.s->n / 64);
}

/* startswith and endswith: a text or a tuple of them. */
static mote_status affix(jvm *vm, jval self, const jval *a, bool start, jval *out) {
    size_t from, to;
    bool yes = false;
    const char *name = start ? "startswith" : "endswith";
    const jval *options = a[0].t == JT_TUPLE ? a[0].l->v : a;
    uint32_t n = a[0].t == JT_TUPLE ? a[0].l->n : 1;
    TRY(part_of(vm, self.s, a[1], a[2], &from, &to));
    for (uint32_t i = 0; i < n; i++) {
        if (options[i].t != JT_STR)
            RAISE(vm, "%s first arg must be str or a tuple of str, not %s", name, jinja_type_name(options[i]));
        if (to == SIZE_MAX) continue;
        str part = str_sub(jview_of(self.s), from, to - from), affix_text = jview_of(options[i].s);
        yes = yes || (start ? str_starts(part, affix_text) : str_ends(part, affix_text));
    }
    *out = jbool(yes);
    return MOTE_OK;
}
JBUILTIN(str_startswith) { return affix(vm, self, a, true, out); }
JBUILTIN(str_endswith) { return affix(vm, self, a, false, out); }

static mote_status remove_affix(jvm *vm, jval self, jval arg, bool start, jval *out) {
    const jstr *s = self.s, *x;
    TRY(text_arg(vm, arg, "argument", &x));
    bool yes = start ? str_starts(jview_of(s), jview_of(x)) : str_ends(jview_of(s), jview_of(x));
    return jinja_str_sub(vm, s, yes && start ? x->n : 0, yes ? s->n - x->n : s->n, out);
}
JBUILTIN(str_removeprefix) { return remove_affix(vm, self, a[0], true, out); }
JBUILTIN(str_removesuffix) { return remove_affix(vm, self, a[0], false, out); }

JBUILTIN(str_replace) {
    const jstr *from, *to;
    int64_t max;
    TRY(text_arg(vm, a[0], "replace() argument 1", &from));
    TRY(text_arg(vm, a[1], "replace() argument 2", &to));
    TRY(opt_int(vm, a[2], -1, &max));
    return jinja_replace(vm, self.s, from, to, max, out);
}

JBUILTIN(str_join) {
    jval *items;
    uint32_t n;
    TRY(jinja_items(vm, a[0], &items, &n));
    return jinja_join(vm, self.s, items, n, false, out);
}

static mote_status pad(jvm *vm, jval self, const jval *a, int where, jval *out) {
    int64_t width;
    jval fill = a[1];
    if (!jgiven(fill)) TRY(jinja_str_lit(vm, " ", &fill));
    TRY(jinja_to_int(vm, a[0], "width", &width));
    if (fill.t != JT_STR) RAISE(vm, "The fill character must be a unicode character, not %s", jinja_type_name(fill));
    return jinja_pad(vm, self.s, width, fill.s, where, out);
}
JBUILTIN(str_center) { return pad(vm, self, a, STRIP_LEFT | STRIP_RIGHT, out); }
JBUILTIN(str_ljust) { return pad(vm, self, a, STRIP_RIGHT, out); }
JBUILTIN(str_rjust) { return pad(vm, self, a, STRIP_LEFT, out); }

JBUILTIN(str_zfill) {
    int64_t width;
    jbuild b;
    const jstr *s = self.s;
    size_t sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    TRY(jinja_to_int(vm, a[0], "width", &width));
    jinja_build_init(&b, vm);
    jinja_build_part(&b, s, 0, sign);
    jinja_build_fill(&b, '0', width - (int64_t)s->n_chars, false);
    jinja_build_part(&b, s, sign, s->n - sign);
    return jinja_build_done(&b, out);
}

JBUILTIN(str_expandtabs) {
    int64_t size, column = 0;
    jbuild b;
    const jstr *s = self.s;
    TRY(opt_int(vm, a[0], 8, &size));
    jinja_build_init(&b, vm);
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = jinja_char_at(s->p + i, &len);
        TRY(jinja_spend(vm, 1));
        if (c == '\t') {
            int64_t step = size > 0 ? size - column % size : 0;
            jinja_build_fill(&b, ' ', step, jinja_str_content_at(s, i));
            column += step;
        } else {
            jinja_build_part(&b, s, i, len);
            column = c == '\n' || c == '\r' ? 0 : column + 1;
        }
    }
    return jinja_build_done(&b, out);
}

/* All characters satisfy f, and there is at least one. */
static mote_status all_are(jvm *vm, jval self, bool (*f)(uint32_t c), bool when_empty, jval *out) {
    bool yes = self.s->n ? true : when_empty;
    for (size_t i = 0, len; i < self.s->n && yes; i += len) yes = f(jinja_char_at(self.s->p + i, &len));
    *out = jbool(yes);
    return jinja_spend(vm, self.s->n / 32);
}
static bool is_ascii(uint32_t c) { return c < 128; }
JBUILTIN(str_isalpha) { return all_are(vm, self, jinja_is_alpha, false, out); }
JBUILTIN(str_isalnum) { return all_are(vm, self, jinja_is_alnum, false, out); }
JBUILTIN(str_isdigit) { return all_are(vm, self, jinja_is_digit, false, out); }
JBUILTIN(str_isdecimal) { return all_are(vm, self, jinja_is_decimal, false, out); }
JBUILTIN(str_isnumeric) { return all_are(vm, self, jinja_is_numeric, false, out); }
JBUILTIN(str_isspace) { return all_are(vm, self, jinja_is_space, false, out); }
JBUILTIN(str_isprintable) { return all_are(vm, self, jinja_is_printable, true, out); }
JBUILTIN(str_isascii) { return all_are(vm, self, is_ascii, true, out); }

JBUILTIN(str_isidentifier) {
    TRY(all_are(vm, self, jinja_is_word, false, out));
    if (out->b) out->b = !jinja_is_numeric((unsigned char)self.s->p[0]);
    return MOTE_OK;
}
JBUILTIN(str_isupper) { return jinja_call_builtin(vm, jinja_test(STR("upper")), self, raw, out); }
JBUILTIN(str_islower) { return jinja_call_builtin(vm, jinja_test(STR("lower")), self, raw, out); }

JBUILTIN(str_istitle) {
    bool any = false, after_cased = false, yes = true;
    for (size_t i = 0, len; i < self.s->n && yes; i += len) {
        uint32_t c = jinja_char_at(self.s->p + i, &len);
        bool up = jinja_is_upper(c) || jinja_is_title(c), low = jinja_is_lower(c);
        if (up) yes = !after_cased;
        if (low) yes = after_cased;
        after_cased = up || low;
        any = any || after_cased;
    }
    *out = jbool(any && yes);
    return jinja_spend(vm, self.s->n / 32);
}

JBUILTIN(str_format) { return jinja_format_braces(vm, self.s, raw, NULL, out); }
JBUILTIN(str_format_map) {
    if (a[0].t != JT_DICT) RAISE(vm, "format_map() takes a mapping");
    static const jargs none = {0};
    return jinja_format_braces(vm, self.s, &none, a[0].d, out);
}

static const jbuiltin str_methods[] = {
    {"split", "sep=,maxsplit=", str_split}, {"strip", "/chars=", str_strip}, {"lstrip", "/chars=", str_lstrip},
    {"rstrip", "/chars=", str_rstrip}, {"startswith", "/prefix,start=,end=", str_startswith},
    {"endswith", "/suffix,start=,end=", str_endswith}, {"replace", "/old,new,count=", str_replace},
    {"format", NULL, str_format}, {"format_map", "/mapping", str_format_map}, {"upper", "", str_upper},
    {"lower", "", str_lower}, {"casefold", "", str_lower}, {"title", "", str_title},
    {"capitalize", "", str_capitalize}, {"swapcase", "", str_swapcase}, {"join", "/iterable", str_join},
    {"rsplit", "sep=,maxsplit=", str_rsplit}, {"splitlines", "keepends=", str_splitlines},
    {"partition", "/sep", str_partition}, {"rpartition", "/sep", str_rpartition},
    {"find", "/sub,start=,end=", str_find_}, {"rfind", "/sub,start=,end=", str_rfind},
    {"index", "/sub,start=,end=", str_index}, {"rindex", "/sub,start=,end=", str_rindex},
    {"count", "/sub,start=,end=", str_count}, {"removeprefix", "/prefix", str_removeprefix},
    {"removesuffix", "/suffix", str_removesuffix}, {"center", "/width,fillchar=", str_center},
    {"ljust", "/width,fillchar=", str_ljust}, {"rjust", "/width,fillchar=", str_rjust},
    {"zfill", "/width", str_zfill}, {"expandtabs", "tabsize=", str_expandtabs}, {"isalpha", "", str_isalpha},
    {"isalnum", "", str_isalnum}, {"isdigit", "", str_isdigit}, {"isdecimal", "", str_isdecimal},
    {"isnumeric", "", str_isnumeric}, {"isspace", "", str_isspace}, {"isprintable", "", str_isprintable},
    {"isascii", "", str_isascii}, {"isidentifier", "", str_isidentifier}, {"isupper", "", str_isupper},
    {"islower", "", str_islower}, {"istitle", "", str_istitle},
    {NULL, NULL, NULL},
};

/* ---- list, tuple, dict ---- */

JBUILTIN(list_count) {
    int64_t n = 0;
    for (uint32_t i = 0; i < self.l->n; i++) {
        bool same;
        TRY(jinja_equal(vm, self.l->v[i], a[0], &same));
        n += same;
    }
    *out = jint(n);
    return MOTE_OK;
}

JBUILTIN(list_index) {
    jrange r;
    TRY(jinja_slice_bounds(vm, jgiven(a[1]) ? a[1] : JNONE, jgiven(a[2]) ? a[2] : JNONE, JNONE, self.l->n, &r));
    for (int64_t i = 0; i < r.n; i++) {
        bool same;
        TRY(jinja_equal(vm, self.l->v[r.start + i], a[0], &same));
        if (!same) continue;
        *out = jint(r.start + i);
        return MOTE_OK;
    }
    RAISE(vm, "the value is not in the %s", jinja_type_name(self));
}

JBUILTIN(list_copy) {
    TRY(jinja_list_new(vm, self.l->n, JT_LIST, out));
    if (self.l->n) memcpy(out->l->v, self.l->v, self.l->n * sizeof(jval));
    return MOTE_OK;
}

static const jbuiltin list_methods[] = {
    {"count", "/value", list_count}, {"index", "/value,start=,stop=", list_index}, {"copy", "", list_copy},
    {NULL, NULL, NULL},
};

static mote_status view(jvm *vm, jval self, int kind, jval *out) {
    jview *v;
    TRY(jinja_alloc(vm, 1, sizeof *v, &v));
    v->d = self.d;
    v->kind = kind == 0 ? VIEW_KEYS : kind == 1 ? VIEW_VALUES : VIEW_ITEMS;
    *out = (jval){.t = JT_VIEW, .view = v};
    return MOTE_OK;
}
JBUILTIN(dict_keys) { return view(vm, self, 0, out); }
JBUILTIN(dict_values) { return view(vm, self, 1, out); }
JBUILTIN(dict_items) { return view(vm, self, 2, out); }

JBUILTIN(dict_get) {
    bool found;
    TRY(jinja_dict_get(vm, self.d, a[0], out, &found));
    if (!found) *out = jgiven(a[1]) ? a[1] : JNONE;
    return MOTE_OK;
}

JBUILTIN(dict_copy) {
    TRY(jinja_dict_new(vm, self.d->n, out));
    for (uint32_t i = 0; i < self.d->n; i++) TRY(jinja_dict_put(vm, out->d, self.d->e[i].key, self.d->e[i].val));
    return MOTE_OK;
}

static const jbuiltin dict_methods[] = {
    {"get", "/key,default=", dict_get}, {"items", "", dict_items}, {"keys", "", dict_keys},
    {"values", "", dict_values}, {"copy", "", dict_copy},
    {NULL, NULL, NULL},
};

/* ---- numbers ---- */

JBUILTIN(float_is_integer) {
    *out = jbool(self.f - self.f == 0 && (double)(int64_t)MAX(MIN(self.f, 9e18), -9e18) == self.f);
    return MOTE_OK;
}

JBUILTIN(int_bit_length) {
    uint64_t v = self.t == JT_BOOL ? self.b : self.i < 0 ? 0 - (uint64_t)self.i : (uint64_t)self.i;
    *out = jint(v ? 64 - __builtin_clzll(v) : 0);
    return MOTE_OK;
}

static const jbuiltin float_methods[] = {{"is_integer", "", float_is_integer}, {NULL, NULL, NULL}};
static const jbuiltin int_methods[] = {{"bit_length", "", int_bit_length}, {NULL, NULL, NULL}};

/* ---- Jinja2's objects ---- */

JBUILTIN(loop_cycle) {
    if (!raw->n_pos) RAISE(vm, "no items for cycling given");
    *out = raw->pos[self.loop->i % raw->n_pos];
    return MOTE_OK;
}

JBUILTIN(loop_changed) {
    jval now;
    bool same = false;
    TRY(jinja_list_new(vm, raw->n_pos, JT_TUPLE, &now));
    if (raw->n_pos) memcpy(now.l->v, raw->pos, raw->n_pos * sizeof(jval));
    if (jgiven(self.loop->changed)) TRY(jinja_equal(vm, self.loop->changed, now, &same));
    self.loop->changed = now;
    *out = jbool(!same);
    return MOTE_OK;
}

JBUILTIN(cycler_next) {
    jcycler *c = self.cycler;
    *out = c->items.v[c->pos];
    c->pos = (c->pos + 1) % c->items.n;
    return MOTE_OK;
}

JBUILTIN(cycler_reset) {
    self.cycler->pos = 0;
    *out = JNONE;
    return MOTE_OK;
}

static const jbuiltin loop_methods[] = {{"cycle", NULL, loop_cycle}, {"changed", NULL, loop_changed}, {NULL, NULL, NULL}};
static const jbuiltin cycler_methods[] = {{"next", "", cycler_next}, {"reset", "", cycler_reset}, {NULL, NULL, NULL}};

static bool is_one_of(str name, const char *const *names) {
    for (; *names; names++)
        if (str_is(name, *names)) return true;
    return false;
}

void jinja_find_method(jval v, str name, const jbuiltin **b, bool *unsafe) {
    static const char *const list_unsafe[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove", NULL};
    static const char *const dict_unsafe[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const jbuiltin *const tables[JT_JOINER + 1] = {
        [JT_STR] = str_methods, [JT_LIST] = list_methods, [JT_TUPLE] = list_methods, [JT_DICT] = dict_methods,
        [JT_FLOAT] = float_methods, [JT_INT] = int_methods, [JT_BOOL] = int_methods, [JT_LOOP] = loop_methods,
        [JT_CYCLER] = cycler_methods,
    };
    *unsafe = (v.t == JT_LIST && is_one_of(name, list_unsafe)) || (v.t == JT_DICT && is_one_of(name, dict_unsafe)) ||
              (name.n > 4 && str_starts(name, STR("__")) && str_ends(name, STR("__")));
    *b = tables[v.t] ? jinja_builtin_find(tables[v.t], name) : NULL;
    if (v.t == JT_TUPLE && *b && str_is(name, "copy")) *b = NULL;
}
