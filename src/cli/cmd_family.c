/* cmd_family.c: the models that come with mote, and what was measured of each (figures/NAME.json beside them, written by bench/family.py). */
#include "commands.h"
#include "models.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct family_options {
    bool json;
};

const cli_option family_options[] = {
    OPT_FLAG(struct family_options, json, "json", NULL, "print JSON: what was measured, and where the file is"),
    {0},
};
const cli_example family_examples[] = {{"mote family", "sizes, memory, speed and quality of mote's own models"}, {0}};

/* A number for people, or "-" when it was not measured. */
static const char *number(char out[24], const json_t *row, const char *key, double times, int digits, const char *unit) {
    const json_t *v = json_object_get(row, key);
    if (json_is_number(v)) (void)snprintf(out, 24, "%.*f%s", digits, json_number_value(v) * times, unit);
    else (void)snprintf(out, 24, "-");
    return out;
}

/* "27.10 (x1.43)", "41.2 % (93 %)": a figure, and what share it is of the model's that this one was made from. */
static const char *perplexity(char out[56], const json_t *row) {
    char a[24], b[24];
    (void)snprintf(out, 56, "%s (x%s)", number(a, row, "perplexity", 1, 2, ""), number(b, row, "perplexity_ratio", 1, 2, ""));
    return out;
}
static const char *tasks(char out[56], const json_t *row) {
    char a[24], b[24];
    (void)snprintf(out, 56, "%s (%s)", number(a, row, "tasks", 100, 1, " %"), number(b, row, "tasks_share", 1, 0, " %"));
    return out;
}

/* Whether the file beside the figures is the one they are of. */
static void check_file(json_t *row, const char *dir) {
    char *path = models_join(dir, models_entry_text(row, "file"));
    const bool here = access(path, R_OK) == 0;
    (void)json_object_set_new(row, "here", json_boolean(here));
    (void)json_object_set_new(row, "same", json_boolean(here && models_hash_is(path, models_entry_text(row, "sha256"))));
    (void)json_object_set_new(row, "path", here ? json_string(path) : json_null());
    free(path);
}

static int by_size(const void *a, const void *b) {
    const double x = json_number_value(json_object_get(*(json_t *const *)a, "bytes")), y = json_number_value(json_object_get(*(json_t *const *)b, "bytes"));
    return (x > y) - (x < y);
}

enum { ROWS_MAX = 64 };

static size_t read_figures(json_t *rows[ROWS_MAX], const char *dir) {
    char *folder = models_join(dir, "figures");
    DIR *d = opendir(folder);
    size_t n = 0;
    for (struct dirent *e; d && n < ROWS_MAX && (e = readdir(d));) {
        const size_t len = strlen(e->d_name);
        if (len < 6 || strcmp(e->d_name + len - 5, ".json") != 0) continue;
        char *path = models_join(folder, e->d_name);
        json_error_t why;
        if ((rows[n] = json_load_file(path, 0, &why))) check_file(rows[n++], dir);
        else cli_say("%s:%d: %s", path, why.line, why.text);
        free(path);
    }
    if (d) (void)closedir(d);
    free(folder);
    qsort(rows, n, sizeof *rows, by_size);
    return n;
}

static void print_table(json_t *const *rows, size_t n) {
    bool stale = false;
    (void)printf("%-14s %10s %9s %9s %9s %9s %9s %16s %15s\n", "MODEL", "PARAMETERS", "FILE", "MEMORY", "START", "FIRST", "TOKENS/S", "PERPLEXITY", "TASKS");
    for (size_t i = 0; i < n; i++) {
        char a[24], b[24], c[24], d[24], e[24], f[24], g[56], h[56], name[64];
        const json_t *r = rows[i];
        const bool same = json_is_true(json_object_get(r, "same"));
        stale |= !same;
        (void)snprintf(name, sizeof name, "%s%s", models_entry_text(r, "name"), same ? "" : " *");
        (void)printf("%-14s %10s %9s %9s %9s %9s %9s %16s %15s\n", name, number(a, r, "parameters", 1e-6, 1, " M"), number(b, r, "bytes", 1e-6, 1, " MB"),
                     number(c, r, "memory_bytes", 1e-6, 1, " MB"), number(d, r, "start_ms", 1, 0, " ms"), number(e, r, "first_token_ms", 1, 0, " ms"),
                     number(f, r, "tokens_per_s", 1, 0, ""), perplexity(g, r), tasks(h, r));
    }
    (void)puts("\nMEMORY: resident, with a context of 2,048 tokens in q8_0. START: from the command to the first token; FIRST: to the first token of a running\n"
               "model, 32 tokens asked. TOKENS/S: one sequence, 2 threads. PERPLEXITY: WikiText-2, windows of 512 tokens (times that of the model it was made\n"
               "from). TASKS: mean accuracy (share of that model's, above guessing). Measured by bench/family.py.");
    if (stale) (void)puts("*: the file is not here, or not the one that was measured");
}

int cmd_family(const cli_command *self, int argc, char **argv) {
    struct family_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    json_t *rows[ROWS_MAX];
    char *dir = models_bundle_dir();
    size_t n = dir ? read_figures(rows, dir) : 0;
    free(dir);
    if (o.json) {
        json_t *all = json_array();
        for (size_t i = 0; i < n; i++) (void)json_array_append(all, rows[i]);
        code = cli_print_json(all);
    } else if (n == 0) {
        cli_say("no models came with this copy of mote");
        code = CLI_IO;
    } else {
        print_table(rows, n);
        code = cli_done(CLI_OK);
    }
    for (size_t i = 0; i < n; i++) json_decref(rows[i]);
    return code;
}
