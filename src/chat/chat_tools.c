/* chat_tools.c: the forms in which models write tool calls. Arguments are handed on as the model wrote them when they
 * are JSON; the tagged forms are made into a JSON object. */
#include "chat/chat_tools.h"

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

str chat_trim(str s) {
    while (s.n && is_space(s.p[0])) s = str_sub(s, 1, s.n - 1);
    while (s.n && is_space(s.p[s.n - 1])) s.n--;
    return s;
}

static size_t string_extent(str s) {
    for (size_t i = 1; i < s.n; i++) {
        if (s.p[i] == '\\') i++;
        else if (s.p[i] == '"') return i + 1;
    }
    return 0;
}

size_t chat_json_extent(str s) {
    size_t depth = 0;
    if (s.n == 0) return 0;
    if (s.p[0] == '"') return string_extent(s);
    if (s.p[0] != '{' && s.p[0] != '[') { /* a number or a word */
        size_t i = 0;
        while (i < s.n && !is_space(s.p[i]) && !strchr(",}]", s.p[i])) i++;
        return i == 0 ? SIZE_MAX : i < s.n ? i : 0;
    }
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '"') {
            size_t n = string_extent(str_sub(s, i, s.n - i));
            if (n == 0) return 0;
            i += n - 1;
        } else if (c == '{' || c == '[') depth++;
        else if ((c == '}' || c == ']') && --depth == 0) return i + 1;
    }
    return 0;
}

/* The text of member `key` of the JSON object s, unparsed; {NULL, 0} when absent. */
static str member(str s, const char *key) {
    size_t i = 1;
    for (;;) {
        while (i < s.n && (is_space(s.p[i]) || s.p[i] == ',')) i++;
        if (i >= s.n || s.p[i] != '"') return (str){NULL, 0};
        size_t n = string_extent(str_sub(s, i, s.n - i));
        if (n == 0) return (str){NULL, 0};
        str name = str_sub(s, i + 1, n - 2);
        i += n;
        while (i < s.n && (is_space(s.p[i]) || s.p[i] == ':')) i++;
        size_t len = chat_json_extent(str_sub(s, i, s.n - i));
        if (len == 0 || len == SIZE_MAX) return (str){NULL, 0};
        if (str_is(name, key)) return str_sub(s, i, len);
        i += len;
    }
}

static json_t *parse(str s) {
    json_t *j;
    return json_parse(&j, s, "a tool call", NULL) == MOTE_OK ? j : NULL;
}

/* One {"name": …, "arguments" or "parameters": …, "id": …}, maybe inside {"function": …}. */
static mote_status read_object(str s, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err) {
    json_t *j = parse(s), *f = json_object_get(j, "function");
    mote_status st = MOTE_OK;
    *understood = false;
    if (json_is_object(f)) s = member(s, "function");
    else f = j;
    const char *key = json_object_get(f, "arguments") ? "arguments" : "parameters";
    json_t *args = json_object_get(f, key);
    str name = json_get_str(f, "name"), id = json_get_str(j, "id");
    if (name.n && (!args || json_is_object(args) || json_is_string(args) || json_is_null(args))) {
        str text = STR("{}");
        if (json_is_object(args)) text = member(s, key);
        if (json_is_string(args)) text = json_get_str(f, key);
        *understood = text.p != NULL;
        if (*understood) st = fn(ctx, id, name, text, err);
    }
    json_decref(j);
    return st;
}

/* Whether every element of the array is a call, so that all or nothing is handed on. */
static bool all_calls(const json_t *a) {
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *o = json_array_get(a, i), *f = json_object_get(o, "function");
        if (!json_is_string(json_object_get(json_is_object(f) ? f : o, "name"))) return false;
    }
    return json_array_size(a) > 0;
}

static mote_status read_array(str s, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err) {
    json_t *j = parse(s);
    *understood = json_is_array(j) && all_calls(j);
    json_decref(j);
    for (size_t i = 1; *understood;) {
        while (i < s.n && (is_space(s.p[i]) || s.p[i] == ',')) i++;
        if (i >= s.n || s.p[i] != '{') break;
        size_t len = chat_json_extent(str_sub(s, i, s.n - i));
        bool one;
        if (len == 0 || len == SIZE_MAX) break;
        TRY(read_object(str_sub(s, i, len), &one, fn, ctx, err));
        i += len;
    }
    return MOTE_OK;
}

/* ---- arguments in tags ---- */

/* Takes what stands before the next `end` off the front of *s; false when it is not there. */
static bool take_until(str *s, const char *end, str *out) {
    size_t at = str_find(*s, str_of(end), 0);
    if (at == SIZE_MAX) return false;
    *out = str_sub(*s, 0, at);
    *s = str_sub(*s, at + strlen(end), s->n - at - strlen(end));
    return true;
}

static bool take(str *s, const char *prefix) {
    *s = chat_trim(*s);
    if (!str_starts(*s, str_of(prefix))) return false;
    *s = str_sub(*s, strlen(prefix), s->n - strlen(prefix));
    return true;
}

/* A value in tags: JSON when it is JSON and no string, else text. */
static int put_value(json_t *args, str key, str value) {
    str v = chat_trim(value);
    json_t *j = v.n && v.p[0] != '"' ? parse(v) : NULL;
    if (!j) { /* one newline on each side belongs to the tags */
        if (value.n && value.p[0] == '\n') value = str_sub(value, 1, value.n - 1);
        if (value.n && value.p[value.n - 1] == '\n') value.n--;
        j = json_stringn(value.p, value.n);
    }
    return json_object_setn_new(args, key.p, key.n, j);
}

static mote_status hand_on(json_t *args, str name, chat_call_fn *fn, void *ctx, mote_error *err) {
    char *text = json_dumps(args, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (!text) FAIL(err, MOTE_E_MEMORY, "out of memory reading a tool call");
    mote_status s = fn(ctx, (str){NULL, 0}, name, str_of(text), err);
    free(text);
    return s;
}

/* <function=name> <parameter=key> value </parameter> … </function> */
static mote_status read_function_tags(str s, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err) {
    str name, key, value;
    mote_status st = MOTE_OK;
    json_t *args = json_object();
    bool ok = args && take(&s, "<function=") && take_until(&s, ">", &name);
    while (ok && take(&s, "<parameter=")) {
        ok = take_until(&s, ">", &key) && take_until(&s, "</parameter>", &value);
        ok = ok && put_value(args, chat_trim(key), value) == 0;
    }
    *understood = ok && chat_trim(name).n && take(&s, "</function>");
    if (*understood) st = hand_on(args, chat_trim(name), fn, ctx, err);
    json_decref(args);
    return st;
}

/* name <arg_key>k</arg_key> <arg_value>v</arg_value> … */
static mote_status read_arg_tags(str s, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err) {
    mote_status st = MOTE_OK;
    json_t *args = json_object();
    size_t at = str_find(s, STR("<arg_key>"), 0);
    str name = chat_trim(str_sub(s, 0, at == SIZE_MAX ? s.n : at)), key, value;
    bool ok = args && name.n;
    for (size_t i = 0; i < name.n; i++) ok = ok && !is_space(name.p[i]) && !strchr("<>{}\"", name.p[i]);
    s = at == SIZE_MAX ? (str){s.p, 0} : str_sub(s, at, s.n - at);
    while (ok && take(&s, "<arg_key>")) {
        ok = take_until(&s, "</arg_key>", &key) && take(&s, "<arg_value>") && take_until(&s, "</arg_value>", &value);
        ok = ok && put_value(args, chat_trim(key), value) == 0;
    }
    *understood = ok && chat_trim(s).n == 0;
    if (*understood) st = hand_on(args, name, fn, ctx, err);
    json_decref(args);
    return st;
}

/* name[ARGS]{…}, name[CALL_ID]id[ARGS]{…} or name{…} */
static mote_status read_named(str s, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err) {
    size_t brace = str_find(s, STR("{"), 0);
    str id = {NULL, 0}, head, args, name;
    *understood = false;
    if (brace == SIZE_MAX) return MOTE_OK;
    head = str_sub(s, 0, brace);
    args = chat_trim(str_sub(s, brace, s.n - brace));
    if (str_ends(chat_trim(head), STR("[ARGS]"))) head = str_sub(chat_trim(head), 0, chat_trim(head).n - 6);
    if (take_until(&head, "[CALL_ID]", &name)) id = chat_trim(head);
    else name = head;
    name = chat_trim(name);
    json_t *j = parse(args);
    *understood = name.n && json_is_object(j);
    json_decref(j);
    return *understood ? fn(ctx, id, name, args, err) : MOTE_OK;
}

mote_status chat_calls_read(chat_tool_syntax syntax, str body, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err) {
    str s = chat_trim(body), name;
    *understood = false;
    if (s.n == 0) return MOTE_OK;
    if (s.p[0] == '{') return read_object(s, understood, fn, ctx, err);
    if (s.p[0] == '[') return read_array(s, understood, fn, ctx, err);
    switch (syntax) {
    case CHAT_TOOLS_TAGGED:
        if (str_starts(s, STR("<function="))) return read_function_tags(s, understood, fn, ctx, err);
        return read_arg_tags(s, understood, fn, ctx, err);
    case CHAT_TOOLS_MISTRAL: return read_named(s, understood, fn, ctx, err);
    case CHAT_TOOLS_FUNCTION: {
        if (!take_until(&s, ">", &name)) return MOTE_OK;
        s = chat_trim(s);
        json_t *j = parse(s);
        *understood = chat_trim(name).n && json_is_object(j);
        json_decref(j);
        return *understood ? fn(ctx, (str){NULL, 0}, chat_trim(name), s, err) : MOTE_OK;
    }
    default: return MOTE_OK;
    }
}
