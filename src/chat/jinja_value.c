/* jinja_value.c: lists, dicts, iteration, equality, order and truth, with Python's meaning. */
#include "chat/jinja_int.h"

#include <math.h>

static const char *const type_names[] = {
    [JT_MISSING] = "missing", [JT_UNDEF] = "Undefined", [JT_NONE] = "NoneType", [JT_BOOL] = "bool", [JT_INT] = "int",
    [JT_FLOAT] = "float", [JT_STR] = "str", [JT_LIST] = "list", [JT_TUPLE] = "tuple", [JT_DICT] = "dict",
    [JT_VIEW] = "dict_items", [JT_RANGE] = "range", [JT_ITER] = "generator", [JT_NS] = "Namespace",
    [JT_LOOP] = "LoopContext", [JT_MACRO] = "Macro", [JT_FUNC] = "function", [JT_METHOD] = "builtin_function_or_method",
    [JT_CYCLER] = "Cycler", [JT_JOINER] = "Joiner",
};

const char *jinja_type_name(jval v) {
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.t == JT_VIEW) return views[v.view->kind];
    if (v.t == JT_ITER && v.l->type_name) return v.l->type_name;
    if (v.t == JT_STR && v.s->markup) return "Markup";
    return type_names[v.t];
}

/* ---- making ---- */

mote_status jinja_list_new(jvm *vm, uint32_t n, jtype t, jval *out) {
    jlist *l;
    TRY(jinja_spend(vm, n / 16));
    TRY(jinja_alloc(vm, 1, sizeof *l, &l));
    TRY(jinja_alloc(vm, n, sizeof *l->v, &l->v));
    l->n = n;
    *out = (jval){.t = t, .l = l};
    return MOTE_OK;
}

mote_status jinja_iter_new(jvm *vm, jval *v, uint32_t n, const char *type_name, jval *out) {
    jlist *l;
    TRY(jinja_alloc(vm, 1, sizeof *l, &l));
    *l = (jlist){.v = v, .n = n, .type_name = type_name};
    *out = (jval){.t = JT_ITER, .l = l};
    return MOTE_OK;
}

mote_status jinja_undef(jvm *vm, const char *hint, jval *out) {
    jundef *u;
    TRY(jinja_alloc(vm, 1, sizeof *u, &u));
    u->hint = hint;
    *out = (jval){.t = JT_UNDEF, .u = u};
    return MOTE_OK;
}

/* What Jinja2's messages call an object. */
static const char *object_name(jval v) {
    switch (v.t) {
    case JT_NONE: return "None";
    case JT_NS: return "jinja2.utils.Namespace object";
    case JT_LOOP: return "jinja2.runtime.LoopContext object";
    case JT_MACRO: return "jinja2.runtime.Macro object";
    case JT_STR: return "str object";
    case JT_DICT: return "dict object";
    case JT_LIST: return "list object";
    case JT_TUPLE: return "tuple object";
    case JT_INT: return "int object";
    case JT_FLOAT: return "float object";
    case JT_BOOL: return "bool object";
    default: return "object";
    }
}

mote_status jinja_undef_attr(jvm *vm, jval obj, const jstr *name, bool unsafe, jval *out) {
    jundef *u;
    TRY(jinja_alloc(vm, 1, sizeof *u, &u));
    *u = (jundef){.of = unsafe ? jinja_type_name(obj) : object_name(obj), .name = name, .unsafe = unsafe};
    *out = (jval){.t = JT_UNDEF, .u = u};
    return MOTE_OK;
}

mote_status jinja_undef_name(jvm *vm, str name, jval *out) {
    jstr *s;
    jundef *u;
    TRY(jinja_alloc(vm, 1, sizeof *s, &s));
    TRY(jinja_alloc(vm, 1, sizeof *u, &u));
    *s = (jstr){.p = name.p, .n = (uint32_t)name.n};
    u->name = s;
    *out = (jval){.t = JT_UNDEF, .u = u};
    return MOTE_OK;
}

/* ---- numbers ---- */

static bool is_number(jval v) { return v.t == JT_INT || v.t == JT_FLOAT || v.t == JT_BOOL; }
static int64_t int_of(jval v) { return v.t == JT_BOOL ? v.b : v.i; }

/* a <=> b; 2 when one is NaN. long double holds every int64 and double where it has 64 bits of mantissa;
 * elsewhere huge integers compare as doubles. */
static int number_order(jval a, jval b) {
    if (a.t != JT_FLOAT && b.t != JT_FLOAT) {
        int64_t x = int_of(a), y = int_of(b);
        return x < y ? -1 : x > y;
    }
    long double x = a.t == JT_FLOAT ? (long double)a.f : (long double)int_of(a);
    long double y = b.t == JT_FLOAT ? (long double)b.f : (long double)int_of(b);
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

mote_status jinja_to_int(jvm *vm, jval v, const char *what, int64_t *out) {
    if (v.t == JT_UNDEF) return jinja_raise_undef(vm, v);
    if (v.t != JT_INT && v.t != JT_BOOL) RAISE(vm, "%s must be an integer, not %s", what, jinja_type_name(v));
    *out = int_of(v);
    return MOTE_OK;
}

/* ---- truth, length, iteration ---- */

int64_t jinja_length(jval v) {
    switch (v.t) {
    case JT_UNDEF: return 0;
    case JT_STR: return v.s->n_chars;
    case JT_LIST:
    case JT_TUPLE: return v.l->n;
    case JT_DICT: return v.d->n;
    case JT_VIEW: return v.view->d->n;
    case JT_RANGE: return v.range->n;
    case JT_LOOP: return v.loop->n;
    default: return -1;
    }
}

bool jinja_truth(jval v) {
    switch (v.t) {
    case JT_NONE: return false;
    case JT_BOOL: return v.b;
    case JT_INT: return v.i != 0;
    case JT_FLOAT: return v.f != 0;
    default: return jinja_length(v) != 0;
    }
}

bool jinja_iterable(jval v) {
    switch (v.t) {
    case JT_UNDEF:
    case JT_STR:
    case JT_LIST:
    case JT_TUPLE:
    case JT_DICT:
    case JT_VIEW:
    case JT_RANGE:
    case JT_ITER:
    case JT_LOOP: return true;
    default: return false;
    }
}

/* The characters of a text; those of markup are plain. */
static mote_status chars_of(jvm *vm, const jstr *text, jval *v) {
    size_t at = 0;
    const jstr plain = {.p = text->p, .n = text->n, .n_chars = text->n_chars, .content = text->content, .cuts = text->cuts,
                        .n_cuts = text->n_cuts}, *s = &plain;
    for (uint32_t i = 0; i < s->n_chars; i++) {
        size_t len = jutf8_len((unsigned char)s->p[at]);
        if (s->n_chars == 1) TRY(jinja_str_new(vm, s->p, s->n, s->content, &v[i])); /* the whole would be this very struct */
        else TRY(jinja_str_sub(vm, s, at, len, &v[i]));
        at += len;
    }
    return MOTE_OK;
}

static mote_status view_items(jvm *vm, const jview *view, jval *v) {
    for (uint32_t i = 0; i < view->d->n; i++) {
        const jentry *e = &view->d->e[i];
        if (view->kind != VIEW_ITEMS) v[i] = view->kind == VIEW_KEYS ? e->key : e->val;
        else {
            TRY(jinja_list_new(vm, 2, JT_TUPLE, &v[i]));
            v[i].l->v[0] = e->key;
            v[i].l->v[1] = e->val;
        }
    }
    return MOTE_OK;
}

mote_status jinja_items(jvm *vm, jval v, jval **items, uint32_t *n) {
    *items = NULL;
    *n = 0;
    if (!jinja_iterable(v) || v.t == JT_LOOP) RAISE(vm, "'%s' object is not iterable", jinja_type_name(v));
    if (v.t == JT_UNDEF) return MOTE_OK;
    if (v.t == JT_LIST || v.t == JT_TUPLE || v.t == JT_ITER) {
        uint32_t pos = v.t == JT_ITER ? v.l->pos : 0;
        *items = pos < v.l->n ? v.l->v + pos : NULL;
        *n = v.l->n - pos;
        if (v.t == JT_ITER) v.l->pos = v.l->n;
        return MOTE_OK;
    }
    *n = (uint32_t)jinja_length(v);
    TRY(jinja_spend(vm, *n));
    TRY(jinja_alloc(vm, *n, sizeof(jval), items));
    if (v.t == JT_STR) return chars_of(vm, v.s, *items);
    if (v.t == JT_VIEW) return view_items(vm, v.view, *items);
    for (uint32_t i = 0; i < *n; i++)
        (*items)[i] = v.t == JT_DICT ? v.d->e[i].key : jint(v.range->start + v.range->step * (int64_t)i);
    return MOTE_OK;
}

/* ---- equality and order ---- */

static mote_status equal_lists(jvm *vm, const jlist *a, const jlist *b, bool *out) {
    *out = a->n == b->n;
    for (uint32_t i = 0; i < a->n && *out; i++) TRY(jinja_equal(vm, a->v[i], b->v[i], out));
    return MOTE_OK;
}

static mote_status equal_dicts(jvm *vm, const jdict *a, const jdict *b, bool *out) {
    *out = a->n == b->n;
    for (uint32_t i = 0; i < a->n && *out; i++) {
        jval other;
        TRY(jinja_dict_get(vm, b, a->e[i].key, &other, out));
        if (*out) TRY(jinja_equal(vm, a->e[i].val, other, out));
    }
    return MOTE_OK;
}

mote_status jinja_equal(jvm *vm, jval a, jval b, bool *out) {
    TRY(jinja_spend(vm, 1));
    *out = false;
    if (is_number(a) && is_number(b)) {
        *out = number_order(a, b) == 0;
        return MOTE_OK;
    }
    if (a.t != b.t) return MOTE_OK;
    switch (a.t) {
    case JT_NONE:
    case JT_UNDEF: *out = true; return MOTE_OK;
    case JT_STR: *out = jstr_eq(a.s, b.s); return jinja_spend(vm, a.s->n / 256);
    case JT_RANGE:
        *out = a.range->n == b.range->n &&
               (a.range->n == 0 || (a.range->start == b.range->start && (a.range->n == 1 || a.range->step == b.range->step)));
        return MOTE_OK;
    case JT_LIST:
    case JT_TUPLE:
    case JT_DICT: {
        if (a.l == b.l) {
            *out = true;
            return MOTE_OK;
        }
        TRY(jinja_enter(vm));
        mote_status s = a.t == JT_DICT ? equal_dicts(vm, a.d, b.d, out) : equal_lists(vm, a.l, b.l, out);
        jinja_leave(vm);
        return s;
    }
    default: *out = a.l == b.l; return MOTE_OK; /* any pointer member: identity */
    }
}

static int str_order(const jstr *a, const jstr *b) {
    int c = memcmp(a->p, b->p, MIN(a->n, b->n));
    return c ? (c < 0 ? -1 : 1) : a->n < b->n ? -1 : a->n > b->n;
}

mote_status jinja_order(jvm *vm, jval a, jval b, const char *op, int *out) {
    TRY(jinja_spend(vm, a.t == JT_STR ? a.s->n / 64 + 1 : 1));
    if (is_number(a) && is_number(b)) *out = number_order(a, b);
    else if (a.t == JT_STR && b.t == JT_STR) *out = str_order(a.s, b.s);
    else if (jis_list(a) && a.t == b.t) {
        uint32_t i = 0, n = MIN(a.l->n, b.l->n);
        bool same = true;
        TRY(jinja_enter(vm));
        for (; i < n && same; i++) TRY(jinja_equal(vm, a.l->v[i], b.l->v[i], &same));
        if (!same) TRY(jinja_order(vm, a.l->v[i - 1], b.l->v[i - 1], op, out));
        else *out = a.l->n < b.l->n ? -1 : a.l->n > b.l->n;
        jinja_leave(vm);
    } else if (a.t == JT_UNDEF || b.t == JT_UNDEF) return jinja_raise_undef(vm, a.t == JT_UNDEF ? a : b);
    else RAISE(vm, "'%s' not supported between instances of '%s' and '%s'", op, jinja_type_name(a), jinja_type_name(b));
    return MOTE_OK;
}

static mote_status among(jvm *vm, const jval *items, uint32_t n, jval v, bool *out) {
    *out = false;
    for (uint32_t i = 0; i < n && !*out; i++) TRY(jinja_equal(vm, items[i], v, out));
    return MOTE_OK;
}

mote_status jinja_contains(jvm *vm, jval seq, jval v, bool *out) {
    *out = false;
    jval found, *items;
    uint32_t n;
    if (seq.t == JT_STR) {
        if (v.t != JT_STR) RAISE(vm, "'in <string>' requires string as left operand, not %s", jinja_type_name(v));
        *out = str_find(jview_of(seq.s), jview_of(v.s), 0) != SIZE_MAX;
        return jinja_spend(vm, seq.s->n / 64);
    }
    if (seq.t == JT_DICT) return jinja_dict_get(vm, seq.d, v, &found, out);
    if (seq.t == JT_VIEW && seq.view->kind == VIEW_KEYS) return jinja_dict_get(vm, seq.view->d, v, &found, out);
    if (!jinja_iterable(seq) || seq.t == JT_LOOP) RAISE(vm, "argument of type '%s' is not iterable", jinja_type_name(seq));
    TRY(jinja_items(vm, seq, &items, &n));
    return among(vm, items, n, v, out);
}

/* ---- dicts ---- */

static mote_status hash_of(jvm *vm, jval v, uint64_t *h) {
    switch (v.t) {
    case JT_STR: *h = str_hash(jview_of(v.s)); return jinja_spend(vm, v.s->n / 64);
    case JT_BOOL:
    case JT_INT: *h = (uint64_t)int_of(v) * 0x9E3779B97F4A7C15u; return MOTE_OK;
    case JT_FLOAT:
        if (v.f >= -9.2e18 && v.f <= 9.2e18 && floor(v.f) == v.f) return hash_of(vm, jint((int64_t)v.f), h);
        memcpy(h, &v.f, sizeof *h);
        return MOTE_OK;
    case JT_TUPLE:
        *h = v.l->n;
        TRY(jinja_enter(vm));
        for (uint32_t i = 0; i < v.l->n; i++) {
            uint64_t one;
            TRY(hash_of(vm, v.l->v[i], &one));
            *h = (*h ^ one) * 0xff51afd7ed558ccdu;
        }
        jinja_leave(vm);
        return jinja_spend(vm, v.l->n);
    case JT_LIST:
    case JT_DICT: RAISE(vm, "unhashable type: '%s'", jinja_type_name(v));
    default: *h = (uint64_t)v.t; return MOTE_OK;
    }
}

#define INDEX_FROM 8 /* entries from which a dict has a hash index */

static mote_status find_entry(jvm *vm, const jdict *d, jval key, uint64_t hash, jentry **e) {
    bool same = false;
    *e = NULL;
    if (!d->index) {
        for (uint32_t i = 0; i < d->n; i++) {
            if (d->e[i].hash != hash) continue;
            TRY(jinja_equal(vm, d->e[i].key, key, &same));
            if (same) *e = &d->e[i];
            if (same) break;
        }
        return MOTE_OK;
    }
    for (uint32_t k = (uint32_t)(hash >> 32) & d->mask; d->index[k]; k = (k + 1) & d->mask) {
        jentry *c = &d->e[d->index[k] - 1];
        TRY(jinja_spend(vm, 1));
        if (c->hash == hash) TRY(jinja_equal(vm, c->key, key, &same));
        if (!same) continue;
        *e = c;
        return MOTE_OK;
    }
    return MOTE_OK;
}

static void index_put(jdict *d, uint32_t i) {
    uint32_t k = (uint32_t)(d->e[i].hash >> 32) & d->mask;
    while (d->index[k]) k = (k + 1) & d->mask;
    d->index[k] = i + 1;
}

static mote_status grow_dict(jvm *vm, jdict *d) {
    uint32_t cap = d->cap ? d->cap * 2 : 4;
    jentry *e;
    TRY(jinja_alloc(vm, cap, sizeof *e, &e));
    if (d->n) memcpy(e, d->e, d->n * sizeof *e);
    d->e = e;
    d->cap = cap;
    if (cap <= INDEX_FROM) return MOTE_OK;
    TRY(jinja_alloc(vm, (size_t)cap * 2, sizeof *d->index, &d->index));
    d->mask = cap * 2 - 1;
    for (uint32_t i = 0; i < d->n; i++) index_put(d, i);
    return jinja_spend(vm, d->n / 4);
}

mote_status jinja_dict_new(jvm *vm, uint32_t cap, jval *out) {
    jdict *d;
    TRY(jinja_alloc(vm, 1, sizeof *d, &d));
    *out = (jval){.t = JT_DICT, .d = d};
    while (d->cap < cap) TRY(grow_dict(vm, d));
    return MOTE_OK;
}

mote_status jinja_dict_put(jvm *vm, jdict *d, jval key, jval val) {
    uint64_t hash;
    jentry *e;
    TRY(hash_of(vm, key, &hash));
    TRY(find_entry(vm, d, key, hash, &e));
    if (e) {
        e->val = val;
        return MOTE_OK;
    }
    if (d->n == d->cap) TRY(grow_dict(vm, d));
    d->e[d->n] = (jentry){key, val, hash};
    if (d->index) index_put(d, d->n);
    d->n++;
    return MOTE_OK;
}

mote_status jinja_dict_get(jvm *vm, const jdict *d, jval key, jval *out, bool *found) {
    uint64_t hash;
    jentry *e;
    *found = false;
    TRY(hash_of(vm, key, &hash));
    TRY(find_entry(vm, d, key, hash, &e));
    if (e) *out = e->val;
    *found = e != NULL;
    return MOTE_OK;
}

jval jinja_dict_find(const jdict *d, str key) {
    for (uint32_t i = 0; i < d->n; i++)
        if (d->e[i].key.t == JT_STR && str_eq(jview_of(d->e[i].key.s), key)) return d->e[i].val;
    return JMISSING;
}

/* ---- slices, sorting ---- */

mote_status jinja_slice_bounds(jvm *vm, jval start, jval stop, jval step, int64_t len, jrange *out) {
    int64_t st = 1, lo, hi, a, b;
    if (step.t != JT_NONE) TRY(jinja_to_int(vm, step, "slice indices", &st));
    if (st == 0) RAISE(vm, "slice step cannot be zero");
    if (st < -INT32_MAX) st = -INT32_MAX;
    if (st > INT32_MAX) st = INT32_MAX;
    lo = st < 0 ? -1 : 0;
    hi = st < 0 ? len - 1 : len;
    a = st < 0 ? hi : lo;
    b = st < 0 ? lo : hi;
    if (start.t != JT_NONE) {
        TRY(jinja_to_int(vm, start, "slice indices", &a));
        if (a < 0) a = a < -len ? lo : a + len;
        a = a < lo ? lo : a > hi ? hi : a;
    }
    if (stop.t != JT_NONE) {
        TRY(jinja_to_int(vm, stop, "slice indices", &b));
        if (b < 0) b = b < -len ? lo : b + len;
        b = b < lo ? lo : b > hi ? hi : b;
    }
    int64_t n = st > 0 ? (b > a ? (b - a - 1) / st + 1 : 0) : (a > b ? (a - b - 1) / -st + 1 : 0);
    *out = (jrange){a, b, st, n};
    return MOTE_OK;
}

/* Bottom-up merge sort of the order `idx` by keys. */
static mote_status merge_sort(jvm *vm, const jval *keys, uint32_t *idx, uint32_t *tmp, uint32_t n, bool reverse) {
    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t lo = 0; lo < n; lo += 2 * width) {
            uint32_t mid = MIN(lo + width, n), hi = MIN(mid + width, n), i = lo, j = mid;
            for (uint32_t k = lo; k < hi; k++) {
                bool right = i >= mid;
                if (!right && j < hi) {
                    int c;
                    TRY(jinja_order(vm, keys[idx[j]], keys[idx[i]], "<", &c));
                    right = reverse ? c == 1 : c == -1;
                }
                tmp[k] = right ? idx[j++] : idx[i++];
            }
        }
        memcpy(idx, tmp, n * sizeof *idx);
    }
    return MOTE_OK;
}

mote_status jinja_sort(jvm *vm, jval *v, const jval *keys, uint32_t n, bool reverse) {
    uint32_t *idx;
    jval *copy;
    TRY(jinja_alloc(vm, (size_t)n * 2, sizeof *idx, &idx));
    TRY(jinja_alloc(vm, n, sizeof *copy, &copy));
    for (uint32_t i = 0; i < n; i++) idx[i] = i;
    TRY(merge_sort(vm, keys, idx, idx + n, n, reverse));
    if (n) memcpy(copy, v, n * sizeof *copy);
    for (uint32_t i = 0; i < n; i++) v[i] = copy[idx[i]];
    return MOTE_OK;
}
