#include "base/json.h"

/* jansson recurses, so depth is bounded by a scan that does not. */
static bool depth_within(str s, int max) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') in_string = true;
        else if (c == '[' || c == '{') {
            if (++depth > max) return false;
        } else if (c == ']' || c == '}') depth--;
    }
    return true;
}

mote_status json_parse(json_t **out, str text, const char *what, mote_error *err) {
    *out = NULL;
    if (text.n > JSON_BYTES_MAX)
        FAIL(err, MOTE_E_LIMIT, "%s: %zu bytes of JSON, at most %zu are read", what, text.n, JSON_BYTES_MAX);
    if (!depth_within(text, JSON_DEPTH_MAX))
        FAIL(err, MOTE_E_LIMIT, "%s: JSON nested deeper than %d", what, JSON_DEPTH_MAX);
    json_error_t je;
    json_t *v = json_loadb(text.p ? text.p : "", text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!v && (je.text[0] == 0 || json_error_code(&je) == json_error_out_of_memory)) /* jansson says nothing then */
        FAIL(err, MOTE_E_MEMORY, "%s: out of memory reading JSON of %zu bytes", what, text.n);
    if (!v) FAIL(err, MOTE_E_FORMAT, "%s: bad JSON at line %d, column %d: %s", what, je.line, je.column, je.text);
    *out = v;
    return MOTE_OK;
}

str json_get_str(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return json_is_string(v) ? (str){json_string_value(v), json_string_length(v)} : (str){NULL, 0};
}

int64_t json_get_int(const json_t *obj, const char *key, int64_t otherwise) {
    const json_t *v = json_object_get(obj, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

double json_get_num(const json_t *obj, const char *key, double otherwise) {
    const json_t *v = json_object_get(obj, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

bool json_get_bool(const json_t *obj, const char *key, bool otherwise) {
    const json_t *v = json_object_get(obj, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}
