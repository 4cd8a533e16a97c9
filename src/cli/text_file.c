/* text_file.c: a text to look at, from a file of text or from JSON lines. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void put(FILE *out, const json_t *text) {
    if (json_is_string(text)) (void)fprintf(out, "%s\n", json_string_value(text));
}

/* "text", or what is said in "messages"; false: neither is there. */
static bool put_line(FILE *out, const json_t *line) {
    const json_t *text = json_object_get(line, "text"), *messages = json_object_get(line, "messages");
    size_t i;
    json_t *m;
    put(out, text);
    json_array_foreach(messages, i, m) put(out, json_object_get(m, "content"));
    return json_is_string(text) || json_array_size(messages) > 0;
}

static bool put_lines(FILE *out, const char *path, const char *lines, size_t n, mote_error *err) {
    size_t number = 1;
    for (const char *at = lines, *end; at < lines + n; at = end + 1, number++) {
        const char *stop = memchr(at, '\n', (size_t)(lines + n - at));
        json_error_t why;
        end = stop ? stop : lines + n;
        if (strspn(at, " \t\r") >= (size_t)(end - at)) continue;
        json_t *line = json_loadb(at, (size_t)(end - at), 0, &why);
        const bool good = line && put_line(out, line);
        if (!good) (void)cli_error(err, MOTE_E_FORMAT, "%s, line %zu: %s", path, number, *why.text && !line ? why.text : "expected \"text\" or \"messages\"");
        json_decref(line);
        if (!good) return false;
    }
    return true;
}

/* The lines' texts, or NULL. */
static char *texts_of(const char *path, const char *lines, size_t n, size_t *out_n, mote_error *err) {
    char *texts = NULL;
    FILE *out = open_memstream(&texts, out_n);
    const bool good = out && put_lines(out, path, lines, n, err);
    const bool written = out && fclose(out) == 0;
    if (good && written && *out_n) return texts;
    if (!out || (good && !written)) (void)cli_error(err, MOTE_E_MEMORY, "out of memory");
    else if (good) (void)cli_error(err, MOTE_E_FORMAT, "%s: there is no text in it", path);
    free(texts);
    return NULL;
}

char *cli_read_text(const char *path, size_t max, size_t *n, mote_error *err) {
    const size_t len = strlen(path);
    char *whole = cli_read_file(path, max, n, err);
    if (!whole || len < 6 || strcmp(path + len - 6, ".jsonl") != 0) return whole;
    char *texts = texts_of(path, whole, *n, n, err);
    free(whole);
    return texts;
}
