/* text_file.c: a text to look at, from a file of text or from JSON lines. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct growing {
    char *p;
    size_t n, cap;
    bool failed;
} growing;

static void put(growing *g, const json_t *text) {
    const size_t n = json_string_length(text);
    if (!json_is_string(text) || g->failed) return;
    if (g->n + n + 2 > g->cap) {
        const size_t cap = 2 * g->cap + n + 2;
        char *p = realloc(g->p, cap);
        g->failed = !p;
        if (!p) return;
        g->p = p;
        g->cap = cap;
    }
    memcpy(g->p + g->n, json_string_value(text), n);
    g->p[g->n + n] = '\n';
    g->n += n + 1;
    g->p[g->n] = 0;
}

/* "text", or what is said in "messages"; false: neither is there. */
static bool put_line(growing *g, const json_t *line) {
    const json_t *text = json_object_get(line, "text"), *messages = json_object_get(line, "messages");
    size_t i;
    json_t *m;
    put(g, text);
    json_array_foreach(messages, i, m) put(g, json_object_get(m, "content"));
    return json_is_string(text) || json_array_size(messages) > 0;
}

/* The lines' texts, or NULL. */
static char *texts_of(const char *path, const char *lines, size_t n, size_t *out_n, mote_error *err) {
    growing g = {0};
    size_t number = 1;
    for (const char *at = lines, *end; at < lines + n; at = end + 1, number++) {
        const char *stop = memchr(at, '\n', (size_t)(lines + n - at));
        json_error_t why;
        end = stop ? stop : lines + n;
        if (strspn(at, " \t\r") >= (size_t)(end - at)) continue;
        json_t *line = json_loadb(at, (size_t)(end - at), 0, &why);
        const bool good = line && put_line(&g, line);
        json_decref(line);
        if (good && !g.failed) continue;
        if (g.failed) (void)cli_error(err, MOTE_E_MEMORY, "out of memory");
        else (void)cli_error(err, MOTE_E_FORMAT, "%s, line %zu: %s", path, number, *why.text && !line ? why.text : "expected \"text\" or \"messages\"");
        free(g.p);
        return NULL;
    }
    *out_n = g.n;
    if (!g.p) (void)cli_error(err, MOTE_E_FORMAT, "%s: there is no text in it", path);
    return g.p;
}

char *cli_read_text(const char *path, size_t max, size_t *n, mote_error *err) {
    const size_t len = strlen(path);
    char *whole = cli_read_file(path, max, n, err);
    if (!whole || len < 6 || strcmp(path + len - 6, ".jsonl") != 0) return whole;
    char *texts = texts_of(path, whole, *n, n, err);
    free(whole);
    return texts;
}
