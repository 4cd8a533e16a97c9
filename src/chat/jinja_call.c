/* jinja_call.c: calling things, and the global functions. */
#include "chat/jinja_int.h"

/* The next name of a parameter list; *p moves behind its comma. */
static str next_param(const char **p, bool *optional) {
    const char *from = *p, *end = from + strcspn(from, ",");
    *p = *end ? end + 1 : end;
    *optional = end > from && end[-1] == '=';
    return (str){from, (size_t)(end - from) - *optional};
}

static mote_status bind(jvm *vm, const jbuiltin *b, const jargs *args, jval a[JINJA_ARGS_MAX]) {
    const char *p = b->params;
    bool positional_only = *p == '/';
    uint32_t n = 0, used = 0;
    if (positional_only) p++;
    while (*p) {
        bool optional;
        str name = next_param(&p, &optional);
        a[n] = n < args->n_pos ? args->pos[n] : JMISSING;
        for (uint32_t i = 0; i < args->n_kw && !positional_only; i++) {
            if (!str_eq(jview_of(args->kw[i].name), name)) continue;
            if (jgiven(a[n])) RAISE(vm, "%s() got multiple values for argument '%.*s'", b->name, STR_ARG(name));
            a[n] = args->kw[i].v;
            used++;
        }
        if (!jgiven(a[n]) && !optional) RAISE(vm, "%s() missing required argument: '%.*s'", b->name, STR_ARG(name));
        n++;
    }
    if (args->n_pos > n) RAISE(vm, "%s() takes at most %u arguments (%u given)", b->name, n, args->n_pos);
    if (used < args->n_kw) RAISE(vm, "%s() got an unexpected keyword argument", b->name);
    return MOTE_OK;
}

mote_status jinja_call_builtin(jvm *vm, const jbuiltin *b, jval self, const jargs *args, jval *out) {
    jval a[JINJA_ARGS_MAX];
    TRY(jinja_spend(vm, 2));
    if (!b->params) return b->fn(vm, self, NULL, args, out);
    TRY(bind(vm, b, args, a));
    return b->fn(vm, self, a, args, out);
}

static mote_status call_joiner(jvm *vm, jjoiner *j, jval *out) {
    if (!j->used) {
        j->used = true;
        return jinja_str_lit(vm, "", out);
    }
    *out = jstring(j->sep);
    return MOTE_OK;
}

mote_status jinja_call(jvm *vm, jval f, const jargs *args, jval *out) {
    switch (f.t) {
    case JT_MACRO: return jinja_call_macro(vm, f.macro, args, out);
    case JT_FUNC: return jinja_call_builtin(vm, f.func, JNONE, args, out);
    case JT_METHOD: return jinja_call_builtin(vm, f.method->fn, f.method->self->v, args, out);
    case JT_JOINER: return call_joiner(vm, f.joiner, out);
    case JT_UNDEF: return jinja_raise_undef(vm, f);
    case JT_LOOP:
        if (args->n_pos != 1 || args->n_kw) RAISE(vm, "loop() takes one argument");
        return jinja_loop_again(vm, f.loop, args->pos[0], out);
    default: RAISE(vm, "'%s' object is not callable", jinja_type_name(f));
    }
}

/* ---- globals ---- */

JBUILTIN(fn_range) {
    jrange *r;
    int64_t v[3] = {0, 0, 1};
    TRY(jinja_to_int(vm, a[0], "range() argument", &v[jgiven(a[1]) ? 0 : 1]));
    if (jgiven(a[1])) TRY(jinja_to_int(vm, a[1], "range() argument", &v[1]));
    if (jgiven(a[2])) TRY(jinja_to_int(vm, a[2], "range() argument", &v[2]));
    if (v[2] == 0) RAISE(vm, "range() arg 3 must not be zero");
    /* Bounds beyond this give ranges that are refused below or hold at most a few items; the limit keeps
     * the arithmetic exact. */
    const int64_t far = INT64_MAX / 4;
    for (int i = 0; i < 3; i++)
        if (v[i] > far || v[i] < -far) RAISE(vm, "range() arguments are too large");
    TRY(jinja_alloc(vm, 1, sizeof *r, &r));
    int64_t span = v[2] > 0 ? v[1] - v[0] : v[0] - v[1], step = v[2] > 0 ? v[2] : -v[2];
    *r = (jrange){v[0], v[1], v[2], span > 0 ? (span - 1) / step + 1 : 0};
    if (r->n > JINJA_RANGE_MAX)
        RAISE(vm, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", JINJA_RANGE_MAX);
    *out = (jval){.t = JT_RANGE, .range = r};
    return MOTE_OK;
}

/* The pairs of a mapping or of an iterable of pairs, put into d. */
static mote_status put_pairs(jvm *vm, jdict *d, jval from) {
    jval *items, *pair;
    uint32_t n, k;
    if (from.t == JT_DICT) {
        for (uint32_t i = 0; i < from.d->n; i++) TRY(jinja_dict_put(vm, d, from.d->e[i].key, from.d->e[i].val));
        return MOTE_OK;
    }
    TRY(jinja_items(vm, from, &items, &n));
    for (uint32_t i = 0; i < n; i++) {
        TRY(jinja_items(vm, items[i], &pair, &k));
        if (k != 2) RAISE(vm, "dictionary update sequence element #%u has length %u; 2 is required", i, k);
        TRY(jinja_dict_put(vm, d, pair[0], pair[1]));
    }
    return MOTE_OK;
}

JBUILTIN(fn_dict) {
    if (raw->n_pos > 1) RAISE(vm, "dict expected at most 1 argument, got %u", raw->n_pos);
    TRY(jinja_dict_new(vm, raw->n_kw, out));
    if (raw->n_pos) TRY(put_pairs(vm, out->d, raw->pos[0]));
    for (uint32_t i = 0; i < raw->n_kw; i++) TRY(jinja_dict_put(vm, out->d, jstring(raw->kw[i].name), raw->kw[i].v));
    return MOTE_OK;
}

JBUILTIN(fn_namespace) {
    TRY(fn_dict(vm, self, a, raw, out));
    out->t = JT_NS;
    return MOTE_OK;
}

JBUILTIN(fn_cycler) {
    jcycler *c;
    if (!raw->n_pos || raw->n_kw) RAISE(vm, "at least one item has to be provided");
    TRY(jinja_alloc(vm, 1, sizeof *c, &c));
    TRY(jinja_alloc(vm, raw->n_pos, sizeof *c->items.v, &c->items.v));
    memcpy(c->items.v, raw->pos, raw->n_pos * sizeof(jval));
    c->items.n = raw->n_pos;
    *out = (jval){.t = JT_CYCLER, .cycler = c};
    return MOTE_OK;
}

JBUILTIN(fn_joiner) {
    jjoiner *j;
    jval sep = a[0];
    TRY(jinja_alloc(vm, 1, sizeof *j, &j));
    if (!jgiven(sep)) TRY(jinja_str_lit(vm, ", ", &sep));
    TRY(jinja_str_of(vm, sep, &j->sep));
    *out = (jval){.t = JT_JOINER, .joiner = j};
    return MOTE_OK;
}

JBUILTIN(fn_raise) {
    const jstr *s;
    TRY(jinja_str_of(vm, a[0], &s));
    RAISE(vm, "%.*s", STR_ARG(jview_of(s)));
}

JBUILTIN(fn_strftime) {
    if (a[0].t != JT_STR) RAISE(vm, "strftime_now() takes a format string, not %s", jinja_type_name(a[0]));
    return jinja_strftime(vm, a[0].s, &vm->now, out);
}

static const jbuiltin globals[] = {
    {"range", "/start,stop=,step=", fn_range},
    {"dict", NULL, fn_dict},
    {"namespace", NULL, fn_namespace},
    {"cycler", NULL, fn_cycler},
    {"joiner", "sep=", fn_joiner},
    {"raise_exception", "/message", fn_raise},
    {"strftime_now", "/format", fn_strftime},
    {NULL, NULL, NULL},
};

const jbuiltin *jinja_builtin_find(const jbuiltin *table, str name) {
    for (; table->name; table++)
        if (str_is(name, table->name)) return table;
    return NULL;
}

const jbuiltin *jinja_global(str name) { return jinja_builtin_find(globals, name); }
