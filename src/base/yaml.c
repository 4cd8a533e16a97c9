#include "base/yaml.h"
#include "base/file.h"
#include "base/mem.h"

#include <yaml.h>

/* A list or map that is being read. */
struct level {
    json_t *node;
    char *anchor;
    char *key; /* of a map: read, its value is still to come */
    size_t key_bytes;
    size_t nodes; /* of the document when it began */
    int height;   /* of the highest node within, 0: empty */
    bool is_map;
};

struct anchor {
    char *name;
    json_t *node;
    size_t nodes;
    int height;
};

struct reader {
    const char *what;
    mote_error *err;
    yaml_parser_t parser;
    struct level levels[YAML_DEPTH_MAX];
    int depth;
    struct anchor anchors[YAML_ANCHORS_MAX];
    size_t n_anchors, nodes;
    json_t *root;
    bool ended; /* the root is whole */
};

static size_t line_of(const yaml_event_t *e) { return e->start_mark.line + 1; }

static str text_of(const yaml_event_t *e) {
    return (str){(const char *)e->data.scalar.value, e->data.scalar.length};
}

/* ---- scalars: YAML 1.2.2, section 10.3.2 ---- */

static bool one_of(str s, const char *const *words) {
    for (; *words; words++)
        if (str_is(s, *words)) return true;
    return false;
}

static bool is_null(str s) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return one_of(s, words);
}
static bool is_true(str s) {
    static const char *const words[] = {"true", "True", "TRUE", NULL};
    return one_of(s, words);
}
static bool is_false(str s) {
    static const char *const words[] = {"false", "False", "FALSE", NULL};
    return one_of(s, words);
}
static bool is_infinite(str s) {
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
    if (s.n && (s.p[0] == '-' || s.p[0] == '+')) s = str_sub(s, 1, s.n - 1);
    return one_of(s, words);
}

static size_t digits(str s, size_t at, const char *set) {
    size_t n = 0;
    while (at + n < s.n && s.p[at + n] && strchr(set, s.p[at + n])) n++;
    return n;
}

static bool is_based(str s, char letter, const char *set) {
    return s.n > 2 && s.p[0] == '0' && s.p[1] == letter && digits(s, 2, set) == s.n - 2;
}

static bool is_oct(str s) { return is_based(s, 'o', "01234567"); }
static bool is_hex(str s) { return is_based(s, 'x', "0123456789abcdefABCDEF"); }

static bool is_whole(str s) {
    size_t sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    return (s.n > sign && digits(s, sign, "0123456789") == s.n - sign) || is_oct(s) || is_hex(s);
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(str s) {
    size_t at = s.n && (s.p[0] == '-' || s.p[0] == '+');
    size_t whole = digits(s, at, "0123456789"), part = 0;
    at += whole;
    if (at < s.n && s.p[at] == '.') {
        part = digits(s, at + 1, "0123456789");
        at += 1 + part;
    }
    if (whole + part == 0) return false;
    if (at < s.n && (s.p[at] == 'e' || s.p[at] == 'E')) {
        at++;
        if (at < s.n && (s.p[at] == '-' || s.p[at] == '+')) at++;
        size_t n = digits(s, at, "0123456789");
        if (n == 0) return false;
        at += n;
    }
    return at == s.n;
}

static bool based_value(str s, unsigned base, int64_t *out) {
    uint64_t v = 0;
    for (size_t i = 2; i < s.n; i++) {
        char c = s.p[i];
        unsigned d = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 32) - 'a') + 10;
        if (v > ((uint64_t)INT64_MAX - d) / base) return false;
        v = v * base + d;
    }
    *out = (int64_t)v;
    return true;
}

static mote_status number(struct reader *r, const yaml_event_t *e, str s, json_t **out) {
    int64_t i;
    double d;
    str plain = s.p[0] == '+' ? str_sub(s, 1, s.n - 1) : s;
    if (is_whole(s)) {
        if (!(is_oct(s) || is_hex(s) ? based_value(s, is_oct(s) ? 8 : 16, &i) : str_to_i64(plain, &i)))
            FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: the integer %.*s does not fit into 64 bits", r->what, line_of(e), STR_ARG(s));
        *out = json_integer(i);
        return MOTE_OK;
    }
    if (!str_to_double(plain, &d))
        FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: the number %.*s is out of range", r->what, line_of(e), STR_ARG(s));
    *out = json_real(d);
    return MOTE_OK;
}

#define CORE_TAG "tag:yaml.org,2002:"

static mote_status bad_tag(struct reader *r, const yaml_event_t *e, const char *tag) {
    FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: the tag '%.100s' is not supported here", r->what, line_of(e), tag);
}

static mote_status scalar(struct reader *r, const yaml_event_t *e, json_t **out) {
    str s = text_of(e);
    const char *tag = (const char *)e->data.scalar.tag;
    bool plain = e->data.scalar.plain_implicit, text = !plain;
    const char *wanted = "";
    *out = NULL;
    if (tag && strcmp(tag, "!") == 0) text = true;
    else if (tag) {
        if (strncmp(tag, CORE_TAG, strlen(CORE_TAG)) != 0) return bad_tag(r, e, tag);
        wanted = tag + strlen(CORE_TAG);
        text = strcmp(wanted, "str") == 0;
    }
    if (text) *out = json_stringn(s.p, s.n);
    else if (is_null(s) && (!*wanted || strcmp(wanted, "null") == 0)) *out = json_null();
    else if ((is_true(s) || is_false(s)) && (!*wanted || strcmp(wanted, "bool") == 0)) *out = json_boolean(is_true(s));
    else if ((is_whole(s) || is_float(s)) && (!*wanted || strcmp(wanted, "float") == 0 || (strcmp(wanted, "int") == 0 && is_whole(s)))) {
        TRY(number(r, e, s, out));
        if (*out && strcmp(wanted, "float") == 0 && json_is_integer(*out)) {
            json_int_t whole = json_integer_value(*out);
            json_decref(*out);
            *out = json_real((double)whole);
        }
    } else if (is_infinite(s))
        FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: %.*s: infinity and NaN are no values here", r->what, line_of(e), STR_ARG(s));
    else if (*wanted) return bad_tag(r, e, tag);
    else *out = json_stringn(s.p, s.n);
    if (!*out) FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
    return MOTE_OK;
}

/* ---- the tree ---- */

static mote_status count(struct reader *r, const yaml_event_t *e, size_t n) {
    r->nodes += n;
    if (r->nodes > YAML_NODES_MAX)
        FAIL(r->err, MOTE_E_LIMIT, "%s: line %zu: more than %zu values, aliases counted in full", r->what, line_of(e), YAML_NODES_MAX);
    return MOTE_OK;
}

/* A finished node goes where it belongs. Takes `node` over. */
static mote_status place(struct reader *r, const yaml_event_t *e, json_t *node, int height) {
    struct level *l = r->depth ? &r->levels[r->depth - 1] : NULL;
    if (r->depth + height > YAML_DEPTH_MAX) {
        json_decref(node);
        FAIL(r->err, MOTE_E_LIMIT, "%s: line %zu: nested deeper than %d", r->what, line_of(e), YAML_DEPTH_MAX);
    }
    if (!l) {
        r->root = node;
        r->ended = true;
        return MOTE_OK;
    }
    l->height = MAX(l->height, height);
    int failed;
    if (l->is_map) {
        failed = json_object_setn_new(l->node, l->key, l->key_bytes, node);
        mem_free(l->key);
        l->key = NULL;
    } else failed = json_array_append_new(l->node, node);
    if (failed) FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
    return MOTE_OK;
}

static mote_status remember(struct reader *r, const yaml_event_t *e, const char *name, json_t *node, size_t nodes, int height) {
    if (r->n_anchors == YAML_ANCHORS_MAX)
        FAIL(r->err, MOTE_E_LIMIT, "%s: line %zu: more than %d anchors", r->what, line_of(e), YAML_ANCHORS_MAX);
    char *copy = mem_strdup(name);
    if (!copy) FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
    r->anchors[r->n_anchors++] = (struct anchor){copy, json_incref(node), nodes, height};
    return MOTE_OK;
}

static bool wants_key(const struct reader *r) {
    return r->depth && r->levels[r->depth - 1].is_map && !r->levels[r->depth - 1].key;
}

static mote_status key(struct reader *r, const yaml_event_t *e) {
    struct level *l = &r->levels[r->depth - 1];
    if (e->type != YAML_SCALAR_EVENT || e->data.scalar.anchor)
        FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: a key must be a plain word or text", r->what, line_of(e));
    str s = text_of(e);
    if (memchr(s.p, 0, s.n) || s.n > 1000)
        FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: a key of %zu bytes, or with a zero byte in it", r->what, line_of(e), s.n);
    if (str_is(s, "<<") && e->data.scalar.plain_implicit)
        FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: merge keys (<<) are not of YAML 1.2; write the values out", r->what, line_of(e));
    if (json_object_getn(l->node, s.p, s.n))
        FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: the key '%.*s' is given twice", r->what, line_of(e), STR_ARG(s));
    l->key = mem_strndup(s.p, s.n);
    l->key_bytes = s.n;
    if (!l->key) FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
    return count(r, e, 1);
}

static mote_status open_level(struct reader *r, const yaml_event_t *e, bool is_map) {
    const char *anchor = (const char *)(is_map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor);
    const char *tag = (const char *)(is_map ? e->data.mapping_start.tag : e->data.sequence_start.tag);
    if (tag && strcmp(tag, "!") != 0 && strcmp(tag, is_map ? CORE_TAG "map" : CORE_TAG "seq") != 0) return bad_tag(r, e, tag);
    if (r->depth == YAML_DEPTH_MAX)
        FAIL(r->err, MOTE_E_LIMIT, "%s: line %zu: nested deeper than %d", r->what, line_of(e), YAML_DEPTH_MAX);
    struct level *l = &r->levels[r->depth];
    *l = (struct level){.node = is_map ? json_object() : json_array(), .nodes = r->nodes, .is_map = is_map};
    if (anchor) l->anchor = mem_strdup(anchor);
    if (!l->node || (anchor && !l->anchor)) {
        json_decref(l->node);
        mem_free(l->anchor);
        FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
    }
    r->depth++;
    return count(r, e, 1);
}

static mote_status close_level(struct reader *r, const yaml_event_t *e) {
    struct level *l = &r->levels[r->depth - 1];
    mote_status s = MOTE_OK;
    if (l->anchor) s = remember(r, e, l->anchor, l->node, r->nodes - l->nodes, l->height + 1);
    mem_free(l->anchor);
    r->depth--;
    if (s != MOTE_OK) {
        json_decref(l->node);
        return s;
    }
    return place(r, e, l->node, l->height + 1);
}

static mote_status alias(struct reader *r, const yaml_event_t *e) {
    const char *name = (const char *)e->data.alias.anchor;
    for (size_t i = r->n_anchors; i-- > 0;) {
        const struct anchor *a = &r->anchors[i];
        if (strcmp(a->name, name) != 0) continue;
        TRY(count(r, e, a->nodes));
        json_t *copy = json_deep_copy(a->node);
        if (!copy) FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
        return place(r, e, copy, a->height);
    }
    FAIL(r->err, MOTE_E_FORMAT, "%s: line %zu: the alias *%.100s names no anchor that is complete before it", r->what, line_of(e), name);
}

static mote_status value(struct reader *r, const yaml_event_t *e) {
    if (wants_key(r) && e->type != YAML_MAPPING_END_EVENT) return key(r, e);
    switch (e->type) {
    case YAML_SEQUENCE_START_EVENT: return open_level(r, e, false);
    case YAML_MAPPING_START_EVENT: return open_level(r, e, true);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: return close_level(r, e);
    case YAML_ALIAS_EVENT: return alias(r, e);
    case YAML_SCALAR_EVENT: {
        json_t *v;
        TRY(count(r, e, 1));
        TRY(scalar(r, e, &v));
        mote_status s = e->data.scalar.anchor ? remember(r, e, (const char *)e->data.scalar.anchor, v, 1, 0) : MOTE_OK;
        if (s != MOTE_OK) {
            json_decref(v);
            return s;
        }
        return place(r, e, v, 0);
    }
    default: return MOTE_OK;
    }
}

static mote_status syntax_error(struct reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) FAIL(r->err, MOTE_E_MEMORY, "%s: out of memory", r->what);
    if (p->error == YAML_READER_ERROR)
        FAIL(r->err, MOTE_E_FORMAT, "%s: bad YAML at byte %zu: %s", r->what, p->problem_offset, p->problem ? p->problem : "not text");
    FAIL(r->err, MOTE_E_FORMAT, "%s: bad YAML at line %zu, column %zu: %s%s%s", r->what, p->problem_mark.line + 1,
         p->problem_mark.column + 1, p->problem ? p->problem : "not understood", p->context ? " " : "", p->context ? p->context : "");
}

static mote_status read_events(struct reader *r) {
    for (;;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&r->parser, &e)) return syntax_error(r);
        yaml_event_type_t type = e.type;
        mote_status s = MOTE_OK;
        if (type == YAML_DOCUMENT_START_EVENT && r->ended)
            s = ERR(r->err, MOTE_E_FORMAT, "%s: line %zu: a second document; one is read", r->what, line_of(&e));
        else s = value(r, &e);
        yaml_event_delete(&e);
        TRY(s);
        if (type == YAML_STREAM_END_EVENT) return MOTE_OK;
    }
}

mote_status yaml_parse(json_t **out, str text, const char *what, mote_error *err) {
    *out = NULL;
    if (text.n > YAML_BYTES_MAX) FAIL(err, MOTE_E_LIMIT, "%s: %zu bytes of YAML, at most %zu are read", what, text.n, YAML_BYTES_MAX);
    struct reader *r = MEM_NEW(struct reader);
    if (!r || !yaml_parser_initialize(&r->parser)) {
        mem_free(r);
        FAIL(err, MOTE_E_MEMORY, "%s: out of memory", what);
    }
    r->what = what;
    r->err = err;
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
    mote_status s = read_events(r);
    yaml_parser_delete(&r->parser);
    for (int i = 0; i < r->depth; i++) {
        json_decref(r->levels[i].node);
        mem_free(r->levels[i].anchor);
        mem_free(r->levels[i].key);
    }
    for (size_t i = 0; i < r->n_anchors; i++) {
        json_decref(r->anchors[i].node);
        mem_free(r->anchors[i].name);
    }
    if (s == MOTE_OK) *out = r->root ? r->root : json_null();
    else json_decref(r->root);
    mem_free(r);
    return s;
}

mote_status yaml_read(json_t **out, const char *path, mote_error *err) {
    file_map m;
    *out = NULL;
    TRY(file_open(&m, path, FILE_READ, err));
    mote_status s = yaml_parse(out, (str){(const char *)m.p, m.n}, path, err);
    file_close(&m);
    return s;
}
