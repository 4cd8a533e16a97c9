/* jinja_filter_seq.c: filters on sequences and mappings. */
#include "chat/jinja_int.h"

/* ---- attribute paths ---- */

static mote_status path_step(jvm *vm, jval v, str part, jval otherwise, jval *out) {
    jval key;
    int64_t i;
    bool digits = part.n > 0;
    for (size_t k = 0; k < part.n; k++) digits = digits && part.p[k] >= '0' && part.p[k] <= '9';
    if (digits && str_to_i64(part, &i)) key = jint(i);
    else TRY(jinja_str_new(vm, part.p, part.n, false, &key));
    TRY(jinja_item(vm, v, key, out));
    if (out->t == JT_UNDEF && jgiven(otherwise)) *out = otherwise;
    return MOTE_OK;
}

mote_status jinja_get_path(jvm *vm, jval v, jval path, jval otherwise, jval *out) {
    if (otherwise.t == JT_NONE) otherwise = JMISSING;
    *out = v;
    if (!jgiven(path) || path.t == JT_NONE) return MOTE_OK;
    if (path.t != JT_STR) {
        TRY(jinja_item(vm, v, path, out));
        if (out->t == JT_UNDEF && jgiven(otherwise)) *out = otherwise;
        return MOTE_OK;
    }
    str s = jview_of(path.s);
    for (size_t from = 0;;) {
        size_t dot = str_find(s, STR("."), from), end = dot == SIZE_MAX ? s.n : dot;
        TRY(path_step(vm, *out, str_sub(s, from, end - from), otherwise, out));
        if (dot == SIZE_MAX) return MOTE_OK;
        from = dot + 1;
    }
}

/* Strings in lower case unless case matters; the rest as it is. */
static mote_status fold(jvm *vm, jval v, bool case_sensitive, jval *out) {
    *out = v;
    return v.t == JT_STR && !case_sensitive ? jinja_change_case(vm, v.s, CASE_LOWER, out) : MOTE_OK;
}

static bool flag(jval v) { return jgiven(v) && jinja_truth(v); }

/* The sort key of an item: a list with one value per comma-separated path. */
static mote_status multi_key(jvm *vm, jval item, jval paths, bool case_sensitive, jval *out) {
    jvec l = {0};
    jval part;
    if (paths.t != JT_STR) {
        TRY(jinja_get_path(vm, item, paths, JMISSING, &part));
        TRY(fold(vm, part, case_sensitive, &part));
        TRY(jinja_vec_add(vm, &l, part));
        return jinja_vec_list(vm, &l, out);
    }
    str s = jview_of(paths.s);
    for (size_t from = 0;;) {
        size_t comma = str_find(s, STR(","), from), end = comma == SIZE_MAX ? s.n : comma;
        jval path;
        TRY(jinja_str_sub(vm, paths.s, from, end - from, &path));
        TRY(jinja_get_path(vm, item, path, JMISSING, &part));
        TRY(fold(vm, part, case_sensitive, &part));
        TRY(jinja_vec_add(vm, &l, part));
        if (comma == SIZE_MAX) return jinja_vec_list(vm, &l, out);
        from = comma + 1;
    }
}

/* A list that is a copy of the items of v. */
static mote_status list_of(jvm *vm, jval v, jval *out) {
    jval *items;
    uint32_t n;
    TRY(jinja_items(vm, v, &items, &n));
    TRY(jinja_list_new(vm, n, JT_LIST, out));
    if (n) memcpy(out->l->v, items, n * sizeof(jval));
    return MOTE_OK;
}

static mote_status iter_of(jvm *vm, const jvec *l, jval *out) { return jinja_iter_new(vm, l->v, l->n, NULL, out); }

/* ---- taking ---- */

JBUILTIN(f_length) {
    int64_t n = jinja_length(self);
    if (n < 0) RAISE(vm, "object of type '%s' has no len()", jinja_type_name(self));
    *out = jint(n);
    return MOTE_OK;
}

JBUILTIN(f_list) { return list_of(vm, self, out); }

JBUILTIN(f_first) {
    jval *items;
    uint32_t n;
    if (self.t == JT_ITER && self.l->pos < self.l->n) {
        *out = self.l->v[self.l->pos++];
        return MOTE_OK;
    }
    TRY(jinja_items(vm, self, &items, &n));
    if (!n) return jinja_undef(vm, "No first item, sequence was empty.", out);
    *out = items[0];
    return MOTE_OK;
}

JBUILTIN(f_last) {
    jval *items;
    uint32_t n;
    if (self.t == JT_ITER) RAISE(vm, "'%s' object is not reversible", jinja_type_name(self));
    TRY(jinja_items(vm, self, &items, &n));
    if (!n) return jinja_undef(vm, "No last item, sequence was empty.", out);
    *out = items[n - 1];
    return MOTE_OK;
}

/* The same prompt for the same request matters more than chance: the first item. */
JBUILTIN(f_random) {
    jval *items;
    uint32_t n;
    TRY(jinja_items(vm, self, &items, &n));
    if (!n) return jinja_undef(vm, "No random item, sequence was empty.", out);
    *out = items[0];
    return MOTE_OK;
}

JBUILTIN(f_reverse) {
    jval *items, *back;
    uint32_t n;
    if (self.t == JT_STR) {
        jbuild b;
        jinja_build_init(&b, vm);
        for (size_t at = self.s->n; at > 0;) {
            size_t end = at--;
            while (((unsigned char)self.s->p[at] & 0xC0) == 0x80) at--;
            jinja_build_part(&b, self.s, at, end - at);
            TRY(jinja_spend(vm, 1));
        }
        return jinja_build_done(&b, out);
    }
    TRY(jinja_items(vm, self, &items, &n));
    TRY(jinja_alloc(vm, n, sizeof *back, &back));
    for (uint32_t i = 0; i < n; i++) back[i] = items[n - 1 - i];
    if (self.t != JT_ITER) return jinja_iter_new(vm, back, n, "list_reverseiterator", out);
    return jinja_vec_list(vm, &(jvec){back, n, n}, out);
}

JBUILTIN(f_join) {
    jval *items, sep = a[0];
    uint32_t n;
    const jstr *d;
    if (!jgiven(sep)) TRY(jinja_str_lit(vm, "", &sep));
    TRY(jinja_str_of(vm, sep, &d));
    TRY(jinja_items(vm, self, &items, &n));
    if (jgiven(a[1]) && a[1].t != JT_NONE) {
        jval *attrs;
        TRY(jinja_alloc(vm, n, sizeof *attrs, &attrs));
        for (uint32_t i = 0; i < n; i++) TRY(jinja_get_path(vm, items[i], a[1], JMISSING, &attrs[i]));
        items = attrs;
    }
    return jinja_join(vm, d, items, n, true, out);
}

JBUILTIN(f_attr) {
    if (a[0].t != JT_STR) RAISE(vm, "attr: the name must be a string");
    TRY(jinja_attr(vm, self, a[0].s, out));
    if (self.t == JT_DICT && out->t != JT_UNDEF && out->t != JT_METHOD)
        return jinja_undef_attr(vm, self, a[0].s, false, out); /* attributes only, no keys */
    return MOTE_OK;
}

/* ---- sorting, grouping ---- */

/* sort(reverse, case_sensitive, attribute) */
JBUILTIN(f_sort) {
    jval *keys;
    TRY(list_of(vm, self, out));
    jlist *l = out->l;
    TRY(jinja_alloc(vm, l->n, sizeof *keys, &keys));
    for (uint32_t i = 0; i < l->n; i++) TRY(multi_key(vm, l->v[i], a[2], flag(a[1]), &keys[i]));
    return jinja_sort(vm, l->v, keys, l->n, flag(a[0]));
}

JBUILTIN(f_dictsort) {
    bool by_value = jgiven(a[1]) && a[1].t == JT_STR && jstr_is(a[1].s, "value");
    if (jgiven(a[1]) && !by_value && !(a[1].t == JT_STR && jstr_is(a[1].s, "key")))
        RAISE(vm, "You can only sort by either \"key\" or \"value\"");
    if (self.t == JT_UNDEF) return jinja_raise_undef(vm, self);
    if (self.t != JT_DICT) RAISE(vm, "'%s' object has no attribute 'items'", jinja_type_name(self));
    jval *keys, *pairs;
    uint32_t n;
    jview view = {self.d, VIEW_ITEMS};
    TRY(jinja_items(vm, (jval){.t = JT_VIEW, .view = &view}, &pairs, &n));
    TRY(jinja_alloc(vm, n, sizeof *keys, &keys));
    for (uint32_t i = 0; i < n; i++) TRY(fold(vm, pairs[i].l->v[by_value], flag(a[0]), &keys[i]));
    TRY(jinja_sort(vm, pairs, keys, n, flag(a[2])));
    return jinja_vec_list(vm, &(jvec){pairs, n, n}, out);
}

/* groupby(attribute, default, case_sensitive) */
JBUILTIN(f_groupby) {
    jval l, *keys, *order;
    jvec groups = {0};
    jval otherwise = jgiven(a[1]) ? a[1] : JNONE;
    TRY(list_of(vm, self, &l));
    uint32_t n = l.l->n;
    TRY(jinja_alloc(vm, n, sizeof *keys, &keys));
    TRY(jinja_alloc(vm, n, sizeof *order, &order));
    for (uint32_t i = 0; i < n; i++) {
        TRY(jinja_get_path(vm, l.l->v[i], a[0], otherwise, &keys[i]));
        TRY(fold(vm, keys[i], flag(a[2]), &keys[i]));
        order[i] = jint(i);
    }
    TRY(jinja_sort(vm, order, keys, n, false));
    for (uint32_t i = 0, end; i < n; i = end) {
        bool same = true;
        for (end = i + 1; end < n; end++) {
            TRY(jinja_equal(vm, keys[order[end].i], keys[order[i].i], &same));
            if (!same) break;
        }
        jval group, list;
        TRY(jinja_list_new(vm, end - i, JT_LIST, &list));
        for (uint32_t k = i; k < end; k++) list.l->v[k - i] = l.l->v[order[k].i];
        TRY(jinja_list_new(vm, 2, JT_TUPLE, &group));
        TRY(jinja_get_path(vm, list.l->v[0], a[0], otherwise, &group.l->v[0]));
        group.l->v[1] = list;
        group.l->grouper = true;
        TRY(jinja_vec_add(vm, &groups, group));
    }
    return jinja_vec_list(vm, &groups, out);
}

/* unique(case_sensitive, attribute) */
JBUILTIN(f_unique) {
    jval *items, seen, key, ignored;
    uint32_t n;
    jvec l = {0};
    TRY(jinja_dict_new(vm, 0, &seen));
    TRY(jinja_items(vm, self, &items, &n));
    for (uint32_t i = 0; i < n; i++) {
        bool found;
        TRY(jinja_get_path(vm, items[i], a[1], JMISSING, &key));
        TRY(fold(vm, key, flag(a[0]), &key));
        TRY(jinja_dict_get(vm, seen.d, key, &ignored, &found));
        if (found) continue;
        TRY(jinja_dict_put(vm, seen.d, key, JNONE));
        TRY(jinja_vec_add(vm, &l, items[i]));
    }
    return iter_of(vm, &l, out);
}

/* min and max(case_sensitive, attribute) */
static mote_status extreme(jvm *vm, jval self, const jval *a, int sign, jval *out) {
    jval *items, best = JNONE, key;
    uint32_t n;
    TRY(jinja_items(vm, self, &items, &n));
    if (!n) return jinja_undef(vm, "No aggregated item, sequence was empty.", out);
    for (uint32_t i = 0; i < n; i++) {
        int c = sign;
        TRY(jinja_get_path(vm, items[i], a[1], JMISSING, &key));
        TRY(fold(vm, key, flag(a[0]), &key));
        if (i) TRY(jinja_order(vm, key, best, sign < 0 ? "<" : ">", &c));
        if (c != sign) continue;
        best = key;
        *out = items[i];
    }
    return MOTE_OK;
}
JBUILTIN(f_min) { return extreme(vm, self, a, -1, out); }
JBUILTIN(f_max) { return extreme(vm, self, a, 1, out); }

/* sum(attribute, start) */
JBUILTIN(f_sum) {
    jval *items, v, total = jgiven(a[1]) ? a[1] : jint(0);
    uint32_t n;
    if (total.t == JT_STR) RAISE(vm, "sum() can't sum strings [use ''.join(seq) instead]");
    TRY(jinja_items(vm, self, &items, &n));
    for (uint32_t i = 0; i < n; i++) {
        TRY(jinja_get_path(vm, items[i], a[0], JMISSING, &v));
        TRY(jinja_binary(vm, OP_ADD, total, v, &total));
    }
    *out = total;
    return MOTE_OK;
}

/* ---- cutting ---- */

JBUILTIN(f_batch) {
    jval *items, row;
    uint32_t n;
    int64_t count;
    jvec rows = {0};
    TRY(jinja_to_int(vm, a[0], "linecount", &count));
    TRY(jinja_items(vm, self, &items, &n));
    if (count < 1) RAISE(vm, "linecount must be positive");
    for (uint32_t i = 0; i < n; i += (uint32_t)MIN(count, (int64_t)n)) {
        uint32_t have = (uint32_t)MIN((int64_t)(n - i), count);
        bool pad = jgiven(a[1]) && a[1].t != JT_NONE;
        if (count > INT32_MAX) RAISE(vm, "linecount is too large");
        TRY(jinja_list_new(vm, pad ? (uint32_t)count : have, JT_LIST, &row));
        memcpy(row.l->v, items + i, have * sizeof(jval));
        for (uint32_t k = have; k < row.l->n; k++) row.l->v[k] = a[1];
        TRY(jinja_vec_add(vm, &rows, row));
    }
    return iter_of(vm, &rows, out);
}

JBUILTIN(f_slice) {
    jval *items, row;
    uint32_t n;
    int64_t slices, offset = 0;
    jvec rows = {0};
    TRY(jinja_to_int(vm, a[0], "slices", &slices));
    TRY(jinja_items(vm, self, &items, &n));
    if (slices == 0) RAISE(vm, "integer division or modulo by zero");
    for (int64_t i = 0; i < slices; i++) {
        int64_t per = n / slices, extra = n % slices, start = offset + i * per;
        if (i < extra) offset++;
        int64_t end = offset + (i + 1) * per;
        bool pad = jgiven(a[1]) && a[1].t != JT_NONE && i >= extra;
        TRY(jinja_list_new(vm, (uint32_t)(end - start + pad), JT_LIST, &row));
        if (end > start) memcpy(row.l->v, items + start, (size_t)(end - start) * sizeof(jval));
        if (pad) row.l->v[end - start] = a[1];
        TRY(jinja_vec_add(vm, &rows, row));
    }
    return iter_of(vm, &rows, out);
}

JBUILTIN(f_items) {
    jval *pairs;
    uint32_t n = 0;
    if (self.t == JT_UNDEF) return jinja_iter_new(vm, NULL, 0, NULL, out);
    if (self.t != JT_DICT) RAISE(vm, "Can only get item pairs from a mapping.");
    jview view = {self.d, VIEW_ITEMS};
    TRY(jinja_items(vm, (jval){.t = JT_VIEW, .view = &view}, &pairs, &n));
    return jinja_iter_new(vm, pairs, n, NULL, out);
}

/* ---- map, select, reject ---- */

static jval kwarg(const jargs *args, const char *name) {
    for (uint32_t i = 0; i < args->n_kw; i++)
        if (jstr_is(args->kw[i].name, name)) return args->kw[i].v;
    return JMISSING;
}

JBUILTIN(f_map) {
    jval *items, v, path = kwarg(raw, "attribute");
    uint32_t n;
    jvec l = {0};
    const jbuiltin *f = NULL;
    jargs rest = *raw;
    if (!jinja_truth(self)) return iter_of(vm, &l, out);
    if (raw->n_pos || !jgiven(path)) {
        if (!raw->n_pos) RAISE(vm, "map requires a filter argument");
        if (raw->pos[0].t == JT_STR) f = jinja_filter(jview_of(raw->pos[0].s));
        if (!f) RAISE(vm, "No filter named like the argument of map.");
        rest.pos++;
        rest.n_pos--;
    }
    TRY(jinja_items(vm, self, &items, &n));
    for (uint32_t i = 0; i < n; i++) {
        if (f) TRY(jinja_call_builtin(vm, f, items[i], &rest, &v));
        else TRY(jinja_get_path(vm, items[i], path, kwarg(raw, "default"), &v));
        TRY(jinja_vec_add(vm, &l, v));
    }
    return iter_of(vm, &l, out);
}

/* select and reject (by_attr: …attr): keeps the items whose test, or truth, is `keep`. */
static mote_status choose(jvm *vm, jval self, const jargs *raw, bool by_attr, bool keep, jval *out) {
    jval *items, v;
    uint32_t n, off = by_attr;
    jvec l = {0};
    const jbuiltin *test = NULL;
    jargs rest = *raw;
    if (!jinja_truth(self)) return iter_of(vm, &l, out);
    if (by_attr && !raw->n_pos) RAISE(vm, "Missing parameter for attribute name");
    if (raw->n_pos > off) {
        if (raw->pos[off].t == JT_STR) test = jinja_test(jview_of(raw->pos[off].s));
        if (!test) RAISE(vm, "No test named like the argument of select or reject.");
        rest.pos += off + 1;
        rest.n_pos -= off + 1;
    }
    TRY(jinja_items(vm, self, &items, &n));
    for (uint32_t i = 0; i < n; i++) {
        v = items[i];
        if (by_attr) TRY(jinja_get_path(vm, v, raw->pos[0], JMISSING, &v));
        if (test) TRY(jinja_call_builtin(vm, test, v, &rest, &v));
        if (jinja_truth(v) == keep) TRY(jinja_vec_add(vm, &l, items[i]));
    }
    return iter_of(vm, &l, out);
}
JBUILTIN(f_select) { return choose(vm, self, raw, false, true, out); }
JBUILTIN(f_reject) { return choose(vm, self, raw, false, false, out); }
JBUILTIN(f_selectattr) { return choose(vm, self, raw, true, true, out); }
JBUILTIN(f_rejectattr) { return choose(vm, self, raw, true, false, out); }

const jbuiltin jinja_filters_seq[] = {
    {"length", "", f_length}, {"count", "", f_length}, {"list", "", f_list}, {"first", "", f_first},
    {"last", "", f_last}, {"random", "", f_random}, {"reverse", "", f_reverse}, {"join", "d=,attribute=", f_join},
    {"attr", "name", f_attr}, {"sort", "reverse=,case_sensitive=,attribute=", f_sort},
    {"dictsort", "case_sensitive=,by=,reverse=", f_dictsort}, {"items", "", f_items},
    {"groupby", "attribute,default=,case_sensitive=", f_groupby}, {"unique", "case_sensitive=,attribute=", f_unique},
    {"min", "case_sensitive=,attribute=", f_min}, {"max", "case_sensitive=,attribute=", f_max},
    {"sum", "attribute=,start=", f_sum}, {"batch", "linecount,fill_with=", f_batch},
    {"slice", "slices,fill_with=", f_slice}, {"map", NULL, f_map}, {"select", NULL, f_select},
    {"reject", NULL, f_reject}, {"selectattr", NULL, f_selectattr}, {"rejectattr", NULL, f_rejectattr},
    {NULL, NULL, NULL},
};
