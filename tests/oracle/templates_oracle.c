/* templates_oracle.c: every chat template of $MOTE_SHARED/oracle/templates with every conversation: the text equal
 * byte for byte, an error where Jinja2 gives one. templates_oracle [--report] [NAME…] */
#include "oracle_util.h"
#include "report.h"

#include "chat/chat.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* Prints where two texts part. */
static void show_difference(str got, str want) {
    size_t i = 0;
    while (i < got.n && i < want.n && got.p[i] == want.p[i]) i++;
    size_t from = i > 60 ? i - 60 : 0;
    printf("    at byte %zu\n    want …%.*s\n    got  …%.*s\n", i, (int)MIN(want.n - from, 160), want.p + from,
           (int)MIN(got.n > from ? got.n - from : 0, 160), got.p + from);
}

static bool one(const jinja *t, const char *conversation, json_t *vars, const json_t *want, const jinja_opts *opts) {
    chat_text out;
    mote_error err = {0};
    mote_status s = jinja_render(t, vars, opts, &out, &err);
    str text = json_get_str(want, "text"), error = json_get_str(want, "error");
    bool ok = error.p ? s == MOTE_E_TEMPLATE : s == MOTE_OK && str_eq((str){out.p, out.n}, text);
    if (!ok) {
        printf("  %s: ", conversation);
        if (s != MOTE_OK) printf("error %s\n", err.message);
        else if (error.p) printf("no error, but Jinja2 says: %s\n", error.p);
        else {
            printf("another text\n");
            show_difference((str){out.p, out.n}, text);
        }
    }
    chat_text_free(&out);
    return ok;
}

static bool check(str name, json_t *conversations, const jinja_opts *opts, bool report) {
    char path[4096], rel[512], measured[64];
    file_map src = {0};
    mote_error err = {0};
    jinja *t = NULL;
    size_t equal = 0, n = json_object_size(conversations);
    (void)snprintf(rel, sizeof rel, "templates/%.*s.json", (int)name.n, name.p);
    json_t *want = oracle_json(rel);
    oracle_path(path, "templates/%.*s.jinja", (int)name.n, name.p);
    if (file_open(&src, path, FILE_READ, &err) != MOTE_OK || jinja_parse(&t, (str){(const char *)src.p, src.n}, &err) != MOTE_OK)
        printf("%.*s: %s\n", (int)name.n, name.p, err.message);
    const char *key;
    json_t *vars;
    json_object_foreach(conversations, key, vars) {
        bool ok = t && one(t, key, vars, json_object_get(want, key), opts);
        equal += ok;
    }
    if (equal < n) printf("%.*s: %zu of %zu conversations equal\n", (int)name.n, name.p, equal, n);
    (void)snprintf(rel, sizeof rel, "%.*s", (int)name.n, name.p);
    (void)snprintf(measured, sizeof measured, "%zu/%zu equal", equal, n);
    if (report) report_row("templates", rel, measured, "all", equal == n ? "ok" : "FAIL", "-", "jinja");
    jinja_close(&t);
    file_close(&src);
    json_decref(want);
    return equal == n;
}

int main(int argc, char **argv) {
    char path[4096];
    struct tm now = {.tm_year = 126, .tm_mday = 2, .tm_hour = 3, .tm_min = 4, .tm_sec = 5};
    json_t *trusted = json_pack("{ssssssss}", "bos_token", "<s>", "eos_token", "</s>", "pad_token", "<pad>", "unk_token", "<unk>");
    jinja_opts opts = {.now = &now, .trusted = trusted};
    size_t n = 0, ok = 0;
    json_t *conversations = oracle_json("templates/conversations.json");
    DIR *d = opendir(oracle_path(path, "templates"));
    if (!d) {
        printf("cannot list %s\n", path);
        return 1;
    }
    for (struct dirent *e; (e = readdir(d));) {
        str name = str_of(e->d_name);
        if (!str_ends(name, STR(".jinja")) || !oracle_wanted(e->d_name, argc, argv)) continue;
        n++;
        ok += check((str){name.p, name.n - 6}, conversations, &opts, report_wanted(argc, argv));
    }
    closedir(d);
    json_decref(conversations);
    json_decref(trusted);
    printf("%zu of %zu templates equal with every conversation\n", ok, n);
    return n > 0 && ok == n ? 0 : 1;
}
