/* ckpt_dir.c: the folder of a run's checkpoints: which stay, which is the newest good one, and who may write. */
#include "train/ckpt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP_DIGITS = 12, NAMES_MAX = 100000 };
#define NAME_FORMAT "step-%012" PRIu64 ".mtc"

struct ckpt_dir {
    char *path;
    size_t keep;
    const log_sink *log;
    int lock;
};

/* "step-000000000042.mtc" -> 42; rest: what follows it ("" or a temporary file's ".AbCdEf"). */
static bool parse_name(const char *name, uint64_t *step, const char **rest) {
    static const char head[] = "step-", tail[] = ".mtc";
    size_t h = sizeof head - 1;
    if (strncmp(name, head, h) != 0 || strspn(name + h, "0123456789") != STEP_DIGITS) return false;
    if (strncmp(name + h + STEP_DIGITS, tail, sizeof tail - 1) != 0) return false;
    *rest = name + h + STEP_DIGITS + sizeof tail - 1;
    return str_to_u64((str){name + h, STEP_DIGITS}, step);
}

static char *joined(const ckpt_dir *d, const char *name) {
    size_t n = strlen(d->path) + strlen(name) + 2;
    char *p = mem_calloc(n, 1);
    if (p) (void)snprintf(p, n, "%s/%s", d->path, name);
    return p;
}

static char *path_of(const ckpt_dir *d, uint64_t step) {
    char name[64];
    (void)snprintf(name, sizeof name, NAME_FORMAT, step);
    return joined(d, name);
}

static int newest_first(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The steps of the files that are there, newest first. Temporary files are removed on the way when `sweep` is set. */
static mote_status list(const ckpt_dir *d, uint64_t **out, size_t *n, bool sweep, mote_error *err) {
    DIR *dir = opendir(d->path);
    size_t cap = 0;
    *out = NULL;
    *n = 0;
    if (!dir) FAIL(err, MOTE_E_IO, "%s: %s", d->path, strerror(errno));
    mote_status s = MOTE_OK;
    for (struct dirent *e; s == MOTE_OK && (e = readdir(dir));) {
        uint64_t step;
        const char *rest;
        if (!parse_name(e->d_name, &step, &rest)) continue;
        if (*rest) {
            char *tmp = sweep && rest[0] == '.' && strlen(rest) == 7 ? joined(d, e->d_name) : NULL;
            if (tmp) (void)unlink(tmp);
            mem_free(tmp);
            continue;
        }
        s = mem_grow(out, &cap, *n + 1, sizeof **out, NAMES_MAX, err);
        if (s == MOTE_OK) (*out)[(*n)++] = step;
    }
    closedir(dir);
    if (s != MOTE_OK) {
        mem_free(*out);
        *out = NULL;
        *n = 0;
    } else if (*n) qsort(*out, *n, sizeof **out, newest_first);
    return s;
}

static mote_status take_lock(ckpt_dir *d, mote_error *err) {
    char *path = joined(d, "lock");
    if (!path) FAIL(err, MOTE_E_MEMORY, "out of memory");
    d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int why = errno;
    mem_free(path);
    if (d->lock < 0) FAIL(err, MOTE_E_IO, "%s: cannot write here: %s", d->path, strerror(why));
    if (flock(d->lock, LOCK_EX | LOCK_NB) != 0)
        FAIL(err, MOTE_E_MISMATCH, "%s: another run is writing its checkpoints here; end it, or give this one a folder of its own", d->path);
    return MOTE_OK;
}

mote_status ckpt_dir_open(ckpt_dir **out, const char *path, size_t keep, const log_sink *log, mote_error *err) {
    *out = NULL;
    if (mkdir(path, 0777) != 0 && errno != EEXIST) FAIL(err, MOTE_E_IO, "%s: cannot make the folder: %s", path, strerror(errno));
    if (!file_is_dir(path)) FAIL(err, MOTE_E_IO, "%s: not a folder", path);
    ckpt_dir *d = MEM_NEW(ckpt_dir);
    mote_status s = MOTE_OK;
    uint64_t *steps = NULL;
    size_t n;
    if (d) d->lock = -1;
    if (!d || !(d->path = mem_strdup(path))) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    d->keep = MAX(keep, 1);
    d->log = log;
    TRYG(s, take_lock(d, err));
    TRYG(s, list(d, &steps, &n, true, err));
    mem_free(steps);
    *out = d;
    return MOTE_OK;
out:
    ckpt_dir_close(&d);
    return s;
}

void ckpt_dir_close(ckpt_dir **d) {
    if (!*d) return;
    if ((*d)->lock >= 0) close((*d)->lock); /* and the lock is free */
    mem_free((*d)->path);
    mem_free(*d);
    *d = NULL;
}

mote_status ckpt_dir_save(ckpt_dir *d, uint64_t step, const json_t *meta, const ckpt_section *sections, size_t n, mote_error *err) {
    char *path = path_of(d, step);
    if (!path) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = ckpt_write(path, meta, sections, n, err);
    mem_free(path);
    TRY(s);
    uint64_t *steps;
    size_t n_steps;
    mote_error unimportant;
    if (list(d, &steps, &n_steps, false, &unimportant) != MOTE_OK) return MOTE_OK; /* old ones stay for now */
    size_t kept = 0;
    for (size_t i = 0; i < n_steps; i++) {
        if (steps[i] == step || (steps[i] < step && kept + 1 < d->keep)) { /* later ones are of a run that went back */
            kept += steps[i] != step;
            continue;
        }
        char *old = path_of(d, steps[i]);
        if (old) (void)unlink(old);
        mem_free(old);
    }
    mem_free(steps);
    return MOTE_OK;
}

mote_status ckpt_dir_latest(ckpt_dir *d, ckpt **out, mote_error *err) {
    uint64_t *steps;
    size_t n;
    *out = NULL;
    TRY(list(d, &steps, &n, false, err));
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < n && !*out; i++) {
        char *path = path_of(d, steps[i]);
        if (!path) {
            s = ERR(err, MOTE_E_MEMORY, "out of memory");
            break;
        }
        mote_error why;
        s = ckpt_open(out, path, &why);
        mem_free(path);
        if (s == MOTE_E_MEMORY) {
            if (err) *err = why;
            break;
        }
        if (s != MOTE_OK) log_line(d->log, LOG_WARN, "%s; looking for an older one", why.message);
        if (s != MOTE_OK && err) *err = why;
    }
    mem_free(steps);
    return *out || n == 0 ? MOTE_OK : s;
}
