/* jinja_json.c: JSON to values, and the filter tojson as Hugging Face defines it (json.dumps). */
#include "chat/jinja_int.h"

#include <math.h>
#include <stdio.h>

static mote_status from_string(jvm *vm, const char *p, size_t n, bool content, jval *out) {
    if (!utf8_valid(p, n)) RAISE(vm, "a variable holds text that is not valid UTF-8");
    return jinja_str_new(vm, p, n, content, out);
}

static mote_status from_object(jvm *vm, json_t *j, bool content, jval *out) {
    TRY(jinja_dict_new(vm, (uint32_t)json_object_size(j), out));
    for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it)) {
        jval key, val;
        const char *name = json_object_iter_key(it);
        TRY(from_string(vm, name, json_object_iter_key_len(it), content, &key));
        TRY(jinja_from_json(vm, json_object_iter_value(it), content, &val));
        TRY(jinja_dict_put(vm, out->d, key, val));
    }
    return MOTE_OK;
}

static mote_status from_array(jvm *vm, json_t *j, bool content, jval *out) {
    TRY(jinja_list_new(vm, (uint32_t)json_array_size(j), JT_LIST, out));
    for (uint32_t i = 0; i < out->l->n; i++)
        TRY(jinja_from_json(vm, json_array_get(j, i), content, &out->l->v[i]));
    return MOTE_OK;
}

mote_status jinja_from_json(jvm *vm, json_t *j, bool content, jval *out) {
    switch (json_typeof(j)) {
    case JSON_NULL: *out = JNONE; return MOTE_OK;
    case JSON_TRUE: *out = jbool(true); return MOTE_OK;
    case JSON_FALSE: *out = jbool(false); return MOTE_OK;
    case JSON_INTEGER: *out = jint(json_integer_value(j)); return MOTE_OK;
    case JSON_REAL: *out = jfloat(json_real_value(j)); return MOTE_OK;
    case JSON_STRING: return from_string(vm, json_string_value(j), json_string_length(j), content, out);
    default: break;
    }
    TRY(jinja_enter(vm));
    TRY(json_is_object(j) ? from_object(vm, j, content, out) : from_array(vm, j, content, out));
    jinja_leave(vm);
    return MOTE_OK;
}

/* Templates build control tokens from roles ('<|' + role + '|>'), so these names, and no others, count as
 * the template's own text. */
static bool known_role(const jstr *s) {
    static const char *const roles[] = {
        "system", "user", "assistant", "tool", "developer", "function", "ipython", "model", "observation",
        "context", "document", "documents", "available_tools", "human", "bot", "gpt",
    };
    for (size_t i = 0; i < COUNT_OF(roles); i++)
        if (jstr_is(s, roles[i])) return true;
    return false;
}

mote_status jinja_from_messages(jvm *vm, json_t *j, jval *out) {
    TRY(jinja_from_json(vm, j, true, out));
    if (out->t != JT_LIST) return MOTE_OK;
    for (uint32_t i = 0; i < out->l->n; i++) {
        if (out->l->v[i].t != JT_DICT) continue;
        jdict *d = out->l->v[i].d;
        for (uint32_t k = 0; k < d->n; k++) {
            jval *v = &d->e[k].val;
            if (v->t == JT_STR && known_role(v->s) && jstr_is(d->e[k].key.s, "role"))
                TRY(jinja_str_new(vm, v->s->p, v->s->n, false, v));
        }
    }
    return MOTE_OK;
}

/* ---- tojson ---- */

typedef struct dump {
    jvm *vm;
    jbuild b;
    const jstr *indent, *item_sep, *key_sep; /* indent NULL: one line */
    bool ascii, sort;
    int level;
} dump;

/* The JSON escape of c into esc, or an empty string when it stands for itself. */
static void escape_of(uint32_t c, bool ascii, char esc[16]) {
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *hit = c && c < 128 ? strchr(from, (int)c) : NULL;
    esc[0] = 0;
    if (hit) (void)snprintf(esc, 16, "\\%c", to[hit - from]);
    else if (c < 32 || (ascii && c >= 127 && c < 0x10000 && c != 127)) (void)snprintf(esc, 16, "\\u%04x", c);
    else if (ascii && c >= 0x10000)
        (void)snprintf(esc, 16, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
}

static void dump_str(dump *d, const jstr *s) {
    size_t from = 0;
    jinja_build_lit(&d->b, "\"");
    for (size_t i = 0; i < s->n;) {
        size_t len;
        char esc[16];
        uint32_t c = jinja_char_at(s->p + i, &len);
        escape_of(c, d->ascii, esc);
        if (esc[0]) {
            jinja_build_part(&d->b, s, from, i - from);
            jinja_build_put(&d->b, esc, strlen(esc), jinja_str_content_at(s, i));
            from = i + len;
        }
        i += len;
    }
    jinja_build_part(&d->b, s, from, s->n - from);
    jinja_build_lit(&d->b, "\"");
}

static void dump_newline(dump *d) {
    if (!d->indent) return;
    jinja_build_lit(&d->b, "\n");
    jinja_build_repeat(&d->b, d->indent, d->level);
}

static mote_status dump_value(dump *d, jval v);

static void dump_float(dump *d, double f) {
    char tmp[40];
    jinja_float_repr(f, tmp);
    jinja_build_lit(&d->b, isnan(f) ? "NaN" : isinf(f) ? (f < 0 ? "-Infinity" : "Infinity") : tmp);
}

static mote_status dump_key(dump *d, jval k) {
    if (k.t == JT_STR) {
        dump_str(d, k.s);
        return MOTE_OK;
    }
    if (k.t != JT_NONE && k.t != JT_BOOL && k.t != JT_INT && k.t != JT_FLOAT)
        return jinja_raise(d->vm, MOTE_E_TEMPLATE, __FILE__, __LINE__,
                           "keys must be str, int, float, bool or None, not %s", jinja_type_name(k));
    jinja_build_lit(&d->b, "\"");
    TRY(dump_value(d, k));
    jinja_build_lit(&d->b, "\"");
    return MOTE_OK;
}

/* The order in which a dict's entries are written. */
static mote_status entry_order(dump *d, const jdict *m, jval **order) {
    jvm *vm = d->vm;
    jval *keys;
    TRY(jinja_alloc(vm, m->n, sizeof **order, order));
    TRY(jinja_alloc(vm, m->n, sizeof *keys, &keys));
    for (uint32_t i = 0; i < m->n; i++) {
        (*order)[i] = jint(i);
        keys[i] = m->e[i].key;
    }
    return d->sort ? jinja_sort(vm, *order, keys, m->n, false) : MOTE_OK;
}

static mote_status dump_dict(dump *d, const jdict *m) {
    jval *order;
    TRY(entry_order(d, m, &order));
    jinja_build_lit(&d->b, "{");
    d->level++;
    for (uint32_t i = 0; i < m->n; i++) {
        const jentry *e = &m->e[order[i].i];
        if (i) jinja_build_str(&d->b, d->item_sep);
        dump_newline(d);
        TRY(dump_key(d, e->key));
        jinja_build_str(&d->b, d->key_sep);
        TRY(dump_value(d, e->val));
    }
    d->level--;
    if (m->n) dump_newline(d);
    jinja_build_lit(&d->b, "}");
    return MOTE_OK;
}

static mote_status dump_list(dump *d, const jlist *l) {
    jinja_build_lit(&d->b, "[");
    d->level++;
    for (uint32_t i = 0; i < l->n; i++) {
        if (i) jinja_build_str(&d->b, d->item_sep);
        dump_newline(d);
        TRY(dump_value(d, l->v[i]));
    }
    d->level--;
    if (l->n) dump_newline(d);
    jinja_build_lit(&d->b, "]");
    return MOTE_OK;
}

static mote_status dump_value(dump *d, jval v) {
    TRY(jinja_spend(d->vm, 1));
    switch (v.t) {
    case JT_NONE: jinja_build_lit(&d->b, "null"); return MOTE_OK;
    case JT_BOOL: jinja_build_lit(&d->b, v.b ? "true" : "false"); return MOTE_OK;
    case JT_INT: return jinja_print(d->vm, &d->b, v);
    case JT_FLOAT: dump_float(d, v.f); return MOTE_OK;
    case JT_STR: dump_str(d, v.s); return MOTE_OK;
    case JT_LIST:
    case JT_TUPLE:
    case JT_DICT: {
        TRY(jinja_enter(d->vm));
        mote_status s = v.t == JT_DICT ? dump_dict(d, v.d) : dump_list(d, v.l);
        jinja_leave(d->vm);
        return s;
    }
    default:
        return jinja_raise(d->vm, MOTE_E_TEMPLATE, __FILE__, __LINE__, "Object of type %s is not JSON serializable",
                           jinja_type_name(v));
    }
}

static mote_status indent_of(jvm *vm, jval v, const jstr **out) {
    jval s;
    if (v.t == JT_STR) {
        *out = v.s;
        return MOTE_OK;
    }
    int64_t n;
    jbuild b;
    TRY(jinja_to_int(vm, v, "indent", &n));
    jinja_build_init(&b, vm);
    jinja_build_fill(&b, ' ', n, false);
    TRY(jinja_build_done(&b, &s));
    *out = s.s;
    return MOTE_OK;
}

JBUILTIN(tojson) {
    dump d = {.vm = vm};
    jval item, key;
    jinja_build_init(&d.b, vm);
    d.ascii = jgiven(a[0]) && jinja_truth(a[0]);
    d.sort = jgiven(a[3]) && jinja_truth(a[3]);
    if (jgiven(a[1]) && a[1].t != JT_NONE) TRY(indent_of(vm, a[1], &d.indent));
    TRY(jinja_str_lit(vm, d.indent ? "," : ", ", &item));
    TRY(jinja_str_lit(vm, ": ", &key));
    if (jgiven(a[2]) && a[2].t != JT_NONE) {
        if (!jis_list(a[2]) || a[2].l->n != 2 || a[2].l->v[0].t != JT_STR || a[2].l->v[1].t != JT_STR)
            RAISE(vm, "tojson: separators must be two strings");
        item = a[2].l->v[0];
        key = a[2].l->v[1];
    }
    d.item_sep = item.s;
    d.key_sep = key.s;
    TRY(dump_value(&d, self));
    return jinja_build_done(&d.b, out);
}

const jbuiltin jinja_tojson = {"tojson", "ensure_ascii=,indent=,separators=,sort_keys=", tojson};
