/* eval_docs.c: files to documents: JSON lines, a JSON array, MMLU's CSV, llama.cpp's HellaSwag text. */
#include "run/eval_tasks.h"

#include <string.h>

#define DOC_BYTES_MAX ((size_t)4 << 20)

static str next_line(str *text) {
    const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = end ? (size_t)(end - text->p) : text->n;
    str line = str_sub(*text, 0, n);
    *text = str_sub(*text, end ? n + 1 : n, text->n - n - (end != NULL));
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    return line;
}

static mote_status append(json_t *all, json_t *doc, mote_error *err) {
    if (!doc || json_array_append_new(all, doc) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

static mote_status read_lines(json_t *all, str text, const char *path, mote_error *err) {
    for (size_t number = 1; text.n; number++) {
        str line = next_line(&text);
        char what[512];
        json_t *doc;
        if (!py_strip(line).n) continue;
        (void)snprintf(what, sizeof what, "%.400s, line %zu", path, number);
        if (line.n > DOC_BYTES_MAX) FAIL(err, MOTE_E_LIMIT, "%s has %zu bytes: no item is so long", what, line.n);
        TRY(json_parse(&doc, line, what, err));
        if (!json_is_object(doc)) {
            json_decref(doc);
            FAIL(err, MOTE_E_FORMAT, "%s is not an object", what);
        }
        TRY(append(all, doc, err));
    }
    return MOTE_OK;
}

static mote_status read_array(json_t *all, str text, const char *path, mote_error *err) {
    json_t *v, *doc;
    size_t i;
    TRY(json_parse(&v, text, path, err));
    mote_status s = MOTE_OK;
    json_array_foreach(v, i, doc) {
        if (!json_is_object(doc)) s = ERR(err, MOTE_E_FORMAT, "%s: item %zu is not an object", path, i);
        else if (json_array_append(all, doc) != 0) s = ERR(err, MOTE_E_MEMORY, "out of memory");
        if (s != MOTE_OK) break;
    }
    json_decref(v);
    return s;
}

/* One field of a CSV row: quoted where it begins with a quote, which stands for itself when doubled. */
static bool csv_field(str *row, buf *out, bool *more) {
    buf_clear(out);
    *more = false;
    if (row->n && row->p[0] == '"') {
        size_t i = 1;
        for (; i < row->n; i++) {
            if (row->p[i] == '"' && (i + 1 == row->n || row->p[i + 1] != '"')) break;
            if (row->p[i] == '"') i++;
            buf_putc(out, row->p[i]);
        }
        if (i >= row->n) return false;
        *row = str_sub(*row, i + 1, row->n - i - 1);
        if (row->n && row->p[0] != ',') return false;
    } else {
        const char *end = row->n ? memchr(row->p, ',', row->n) : NULL;
        size_t n = end ? (size_t)(end - row->p) : row->n;
        buf_put(out, row->p, n);
        *row = str_sub(*row, n, row->n - n);
    }
    if (row->n) {
        *more = true;
        *row = str_sub(*row, 1, row->n - 1);
    }
    return true;
}

/* A row ends at a line's end that is not inside quotes. */
static str csv_row(str *text) {
    bool quoted = false;
    size_t i = 0;
    for (; i < text->n && (quoted || text->p[i] != '\n'); i++)
        if (text->p[i] == '"') quoted = !quoted;
    str row = str_sub(*text, 0, i);
    *text = str_sub(*text, MIN(i + 1, text->n), text->n - MIN(i + 1, text->n));
    if (row.n && row.p[row.n - 1] == '\r') row.n--;
    return row;
}

/* question, A, B, C, D, right answer as a letter or number; the first row may be a heading. */
static mote_status read_mmlu(json_t *all, str text, const char *path, mote_error *err) {
    buf f;
    mote_status s = MOTE_OK;
    buf_init(&f, DOC_BYTES_MAX);
    for (size_t number = 1; text.n && s == MOTE_OK; number++) {
        str row = csv_row(&text);
        json_t *doc = json_object(), *choices = json_array();
        bool more = true, ok = doc && choices;
        size_t n = 0;
        if (!py_strip(row).n) n = 6;
        for (; ok && more && n < 6; n++) {
            ok = csv_field(&row, &f, &more);
            if (!ok) break;
            if (n == 0) ok = json_object_set_new(doc, "question", json_stringn(buf_str(&f).p, f.n)) == 0;
            else if (n < 5) ok = json_array_append_new(choices, json_stringn(buf_str(&f).p, f.n)) == 0;
            else {
                int right = f.n != 1 ? -1 : f.p[0] >= 'A' && f.p[0] <= 'D' ? f.p[0] - 'A' : f.p[0] >= '0' && f.p[0] <= '3' ? f.p[0] - '0' : -1;
                ok = right >= 0 && json_object_set_new(doc, "answer", json_integer(right)) == 0;
            }
        }
        ok = ok && n == 6;
        if (!ok && number == 1 && json_array_size(choices) == 4) { /* a heading */
            json_decref(choices);
            json_decref(doc);
            continue;
        }
        bool empty = json_array_size(choices) == 0;
        ok = ok && json_object_set(doc, "choices", choices) == 0;
        if (!ok) s = ERR(err, MOTE_E_FORMAT, "%s, row %zu: expected a question, four choices and which is right, A to D or 0 to 3", path, number);
        else if (!empty && json_array_append(all, doc) != 0) s = ERR(err, MOTE_E_MEMORY, "out of memory");
        json_decref(choices);
        json_decref(doc);
    }
    buf_free(&f);
    return s;
}

/* llama.cpp's text: a line with "activity: context", the number of the right ending, four endings. */
static mote_status read_hellaswag(json_t *all, str text, const char *path, mote_error *err) {
    while (text.n) {
        str context = next_line(&text), gold = next_line(&text), e[4];
        int64_t label;
        for (int i = 0; i < 4; i++) e[i] = next_line(&text);
        if (!context.n && !text.n) break;
        if (!str_to_i64(py_strip(gold), &label) || label < 0 || label > 3) FAIL(err, MOTE_E_FORMAT, "%s: expected six lines an item: context, number of the right ending, four endings", path);
        TRY(append(all, json_pack("{s:s%, s:I, s:[s%,s%,s%,s%]}", "query", context.p, context.n, "label", (json_int_t)label, "endings", e[0].p, e[0].n,
                                  e[1].p, e[1].n, e[2].p, e[2].n, e[3].p, e[3].n), err));
    }
    return MOTE_OK;
}

mote_status eval_read_docs(json_t **out, const char *path, mote_error *err) {
    file_map f = {0};
    TRY(file_open(&f, path, FILE_READ, err));
    str text = {(const char *)f.p, f.n}, head = py_strip(str_sub(text, 0, MIN(text.n, (size_t)256)));
    json_t *all = json_array();
    mote_status s = all ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    str name = {path, strlen(path)};
    if (s == MOTE_OK) {
        if (str_ends(name, STR(".csv"))) s = read_mmlu(all, text, path, err);
        else if (head.n && head.p[0] == '[') s = read_array(all, text, path, err);
        else if (head.n && head.p[0] == '{') s = read_lines(all, text, path, err);
        else s = read_hellaswag(all, text, path, err);
    }
    if (s == MOTE_OK && json_array_size(all) == 0) s = ERR(err, MOTE_E_FORMAT, "%s holds no items", path);
    file_close(&f);
    if (s == MOTE_OK) *out = all;
    else json_decref(all);
    return s;
}
