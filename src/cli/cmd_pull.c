/* cmd_pull.c: pull a model into the cache folder; list what is there and what can be had; remove one. */
#include "commands.h"
#include "models.h"
#include "mote/model_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct pull_options {
    const char *sha256, *output;
    bool allow_http;
};

const cli_option pull_options[] = {
    OPT_STR(struct pull_options, sha256, "sha256", NULL, "HEX", "the SHA-256 the file must have; another content is thrown away"),
    OPT_STR(struct pull_options, output, "output", "o", "FILE", "where to put the file instead of the cache folder"),
    OPT_FLAG(struct pull_options, allow_http, "allow-http", NULL, "allow a URL that is not encrypted (give --sha256 with it)"),
    {0},
};
const cli_example pull_examples[] = {
    {"mote pull smollm2-135m-instruct", "a model of the catalogue"},
    {"mote pull https://example.org/model.gguf --sha256 9f86d0…", "a file by its address, resumed if it was begun, checked by hash"},
    {"mote pull ./model.gguf", "copy a file into the cache folder, to use it by name"},
    {0},
};

static bool valid_sha256(const char *s) { return strlen(s) == 64 && strspn(s, "0123456789abcdefABCDEF") == 64; }

/* The last part of a path or URL, without its query, with unusual characters replaced. NULL: there is none. */
static char *file_name_of(const char *source) {
    size_t end = strcspn(source, "?#"), begin = end;
    while (begin > 0 && source[begin - 1] != '/') begin--;
    if (begin == end || source[begin] == '.') return NULL;
    char *name = strndup(source + begin, end - begin);
    for (char *p = name; p && *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+", *p)) *p = '_';
    return name;
}

/* Copies a local file beside dest, then renames. */
static int copy_file(const char *from, const char *dest) {
    char *tmp = malloc(strlen(dest) + 16), block[1 << 16];
    FILE *in = fopen(from, "rbe"), *out = NULL;
    int code = CLI_IO;
    if (!tmp || !in) goto out;
    (void)snprintf(tmp, strlen(dest) + 16, "%s.part", dest);
    out = fopen(tmp, "wbe");
    if (!out) goto out;
    size_t n;
    while ((n = fread(block, 1, sizeof block, in)) > 0)
        if (fwrite(block, 1, n, out) != n) goto out;
    if (ferror(in) || fflush(out) != 0 || fsync(fileno(out)) != 0) goto out;
    if (rename(tmp, dest) == 0) code = CLI_OK;
out:
    if (code != CLI_OK) cli_say("%s to %s: %s", from, dest, strerror(errno));
    if (out) (void)fclose(out);
    if (code != CLI_OK && out) (void)unlink(tmp);
    if (in) (void)fclose(in);
    free(tmp);
    return code;
}

/* What is not a model is not kept under a model's name. */
static int check_model(const char *path) {
    mote_file *f;
    mote_error err;
    size_t n = strlen(path);
    if (n < 5 || strcasecmp(path + n - 5, ".gguf") != 0) return CLI_OK;
    if (mote_file_open(&f, path, &err) != MOTE_OK) {
        cli_say("%s", err.message);
        cli_say("%s: not a model; it was removed", path);
        (void)unlink(path);
        return CLI_BAD_DATA;
    }
    mote_file_close(&f);
    return CLI_OK;
}

static int pull_file(const cli_command *self, const struct pull_options *o, const char *source, bool is_url) {
    char *dir = models_dir(), *name = file_name_of(source), *dest = NULL;
    int code = CLI_IO;
    if (!dir) goto out;
    if (!o->output && !name) {
        code = cli_usage(self, "'%s' does not end in a file name; say where it shall lie with -o FILE", source);
        goto out;
    }
    dest = o->output ? strdup(o->output) : models_join(dir, name);
    if (!dest || (!o->output && !models_mkdirs(dir))) goto out;
    if (o->sha256 && access(dest, R_OK) == 0 && models_hash_is(dest, o->sha256)) cli_say("%s is there already", dest);
    else {
        if (is_url) code = models_download(source, dest, o->sha256, o->allow_http);
        else if (o->sha256 && !models_hash_is(source, o->sha256)) {
            cli_say("%s: its SHA-256 is not %s", source, o->sha256);
            code = CLI_BAD_DATA;
        } else code = copy_file(source, dest);
        if (code == CLI_OK) code = check_model(dest);
        if (code != CLI_OK) goto out;
    }
    (void)puts(dest);
    code = cli_done(CLI_OK);
out:
    free(dest);
    free(name);
    free(dir);
    return code;
}

int cmd_pull(const cli_command *self, int argc, char **argv) {
    struct pull_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    if (args.n == 0) return cli_usage(self, "which model? A name (mote list), an https address or a file");
    if (o.sha256 && !valid_sha256(o.sha256)) return cli_usage(self, "--sha256 takes 64 hexadecimal digits");
    const char *source = args.v[0];
    if (strstr(source, "://")) return pull_file(self, &o, source, true);
    struct stat st;
    if (stat(source, &st) == 0 && S_ISREG(st.st_mode)) return pull_file(self, &o, source, false);
    const json_t *entry = models_catalogue_find(source);
    if (entry && !o.output && !o.sha256) {
        code = models_fetch(entry); /* nothing, for a model that came with the program */
        if (code != CLI_OK) return code;
    } else if (entry) return cli_usage(self, "a model of the catalogue has its own hash and place: no --sha256, no -o");
    char *path = models_resolve(source, &code);
    if (!path) return code;
    (void)puts(path);
    free(path);
    return cli_done(CLI_OK);
}

struct list_options {
    bool json;
};

const cli_option list_options[] = {
    OPT_FLAG(struct list_options, json, "json", NULL, "print JSON: an array of objects"),
    {0},
};
const cli_example list_examples[] = {{"mote list", "what is in the cache folder, and what can be pulled"}, {0}};

static int64_t bytes_of(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : -1;
}

static json_t *listed(const char *name, const char *path, int64_t size, const char *about, bool here) {
    return json_pack("{s:s, s:s, s:I, s:s, s:b}", "name", name, "path", path, "size", (json_int_t)size, "about", about,
                     "here", (int)here);
}

static bool in_catalogue(const char *file) {
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)models_catalogue(), i, entry) {
        if (strcmp(models_entry_text(entry, "path"), file) == 0) return true;
    }
    return false;
}

static void list_catalogue(json_t *rows, const char *dir) {
    size_t i, k;
    json_t *entry, *file;
    json_array_foreach((json_t *)(uintptr_t)models_catalogue(), i, entry) {
        int64_t size = 0;
        bool here = true;
        json_array_foreach(json_object_get(entry, "files"), k, file) {
            char *path = models_join(dir, models_entry_text(file, "path"));
            size += json_integer_value(json_object_get(file, "size"));
            here = here && bytes_of(path) == json_integer_value(json_object_get(file, "size"));
            free(path);
        }
        char *bundled = models_bundled(entry), *path = bundled ? bundled : models_join(dir, models_entry_text(entry, "path"));
        if (bundled) size = bytes_of(path);
        (void)json_array_append_new(rows, listed(models_entry_text(entry, "name"), path, size,
                                                 models_entry_text(entry, "about"), here));
        free(path);
    }
}

/* Other GGUF files and Hugging Face folders of the cache folder. */
static void list_folder(json_t *rows, const char *dir) {
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        char *path = models_join(dir, name), *config = models_join(path, "config.json");
        size_t len = strlen(name);
        bool gguf = len > 5 && strcmp(name + len - 5, ".gguf") == 0;
        char *weights = models_join(path, "model.safetensors");
        bool folder = name[0] != '.' && access(config, F_OK) == 0 && access(weights, F_OK) == 0;
        if ((gguf || folder) && !in_catalogue(name)) {
            char *short_name = strndup(name, gguf ? len - 5 : len);
            (void)json_array_append_new(rows, listed(short_name ? short_name : name, path, bytes_of(gguf ? path : weights), "", true));
            free(short_name);
        }
        free(weights);
        free(config);
        free(path);
        free(names[i]);
    }
    if (n >= 0) free(names);
}

int cmd_list(const cli_command *self, int argc, char **argv) {
    struct list_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    char *dir = models_dir();
    if (!dir) return CLI_IO;
    json_t *rows = json_array(), *row;
    list_catalogue(rows, dir);
    list_folder(rows, dir);
    size_t i;
    if (o.json) code = cli_print_json(rows);
    else {
        (void)printf("%-32s %10s  %-4s  %s\n", "NAME", "SIZE", "HERE", "ABOUT");
        json_array_foreach(rows, i, row) {
            char size[32];
            bool here = json_is_true(json_object_get(row, "here"));
            (void)printf("%-32s %10s  %-4s  %s\n", models_entry_text(row, "name"),
                         cli_size(size, (uint64_t)json_integer_value(json_object_get(row, "size"))), here ? "yes" : "no",
                         models_entry_text(row, "about"));
        }
        (void)printf("\nModels lie in %s\n", dir);
        json_decref(rows);
        code = cli_done(CLI_OK);
    }
    free(dir);
    return code;
}

struct rm_options {
    bool yes;
};

const cli_option rm_options[] = {
    OPT_FLAG(struct rm_options, yes, "yes", "y", "do not ask"),
    {0},
};
const cli_example rm_examples[] = {{"mote rm smollm2-135m-instruct", "remove a model from the cache folder"}, {0}};

/* Removes a file, or a folder of files one or two levels deep, as models are. */
static bool remove_path(const char *path, int depth) {
    if (unlink(path) == 0) return true;
    DIR *d = depth < 4 ? opendir(path) : NULL;
    if (!d) return false;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *child = models_join(path, e->d_name);
        ok = remove_path(child, depth + 1);
        free(child);
    }
    (void)closedir(d);
    return ok && rmdir(path) == 0;
}

static bool confirmed(const char *path) {
    char answer[16] = "";
    (void)fprintf(stderr, "Remove %s? [y/N] ", path);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int cmd_rm(const cli_command *self, int argc, char **argv) {
    struct rm_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    if (args.n == 0) return cli_usage(self, "which model? mote list shows what is here");
    char *path = models_in_cache(args.v[0]);
    if (!path) {
        const json_t *entry = models_catalogue_find(args.v[0]);
        bool bundled = json_is_true(json_object_get(entry, "bundled"));
        cli_say(bundled ? "'%s' came with the program and stays with it" : "there is no model '%s' in the cache folder", args.v[0]);
        return CLI_IO;
    }
    if (!o.yes && !confirmed(path)) cli_say("nothing is removed");
    else if (!remove_path(path, 0)) {
        cli_say("%s: %s", path, strerror(errno));
        code = CLI_IO;
    } else (void)printf("%s is removed\n", path);
    free(path);
    return cli_done(code);
}
