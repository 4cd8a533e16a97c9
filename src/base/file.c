#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Live mappings, for file_guard_contains. A slot is free when its base is 0. This is process state on
 * purpose: SIGBUS is delivered to the process, not to a model. */
#define GUARD_SLOTS 256
static struct {
    _Atomic uintptr_t base;
    _Atomic size_t size;
} guard[GUARD_SLOTS];

static void guard_add(const void *p, size_t n) {
    for (size_t i = 0; i < GUARD_SLOTS; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&guard[i].base, &none, (uintptr_t)p)) {
            atomic_store(&guard[i].size, n);
            return;
        }
    }
}

static void guard_remove(const void *p) {
    for (size_t i = 0; i < GUARD_SLOTS; i++)
        if (atomic_load(&guard[i].base) == (uintptr_t)p) {
            atomic_store(&guard[i].size, 0);
            atomic_store(&guard[i].base, 0);
            return;
        }
}

/* The slot of the mapping that an address lies in; GUARD_SLOTS when in none. */
static size_t guard_find(uintptr_t a) {
    for (size_t i = 0; i < GUARD_SLOTS; i++) {
        uintptr_t base = atomic_load(&guard[i].base);
        if (base && a >= base && a - base < atomic_load(&guard[i].size)) return i;
    }
    return GUARD_SLOTS;
}

bool file_guard_contains(const void *addr) { return guard_find((uintptr_t)addr) < GUARD_SLOTS; }

void file_drop(const void *p, size_t n) {
    enum { AROUND = 2 << 20 }; /* Linux maps what lies around a fault, as much as it cached in one piece: so the neighbours go too */
    uintptr_t from = (uintptr_t)p;
    size_t slot = guard_find(from);
    if (slot == GUARD_SLOTS) return;
    uintptr_t base = atomic_load(&guard[slot].base);
    size_t size = atomic_load(&guard[slot].size), offset = from - base, at = offset / AROUND * AROUND;
    if (n > size - offset) n = size - offset;
    n = MIN((offset + n + AROUND - 1) / AROUND * AROUND, size) - at;
    union {
        uintptr_t in;
        void *out;
    } first = {base + at};
    (void)madvise(first.out, n, MADV_DONTNEED);
}

static mote_status read_whole(file_map *out, int fd, size_t n, const char *path, mote_error *err) {
    unsigned char *p = mem_alloc_aligned(n ? n : 1);
    if (!p) FAIL(err, MOTE_E_MEMORY, "%s: out of memory for %zu bytes", path, n);
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, p + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            mem_free_aligned(p);
            FAIL(err, MOTE_E_IO, "%s: %s after %zu of %zu bytes", path, r ? strerror(errno) : "ends early", got, n);
        }
        got += (size_t)r;
    }
    *out = (file_map){p, n, false};
    return MOTE_OK;
}

/* Takes fd over and closes it. */
static mote_status open_fd(file_map *out, int fd, const char *path, int how, mote_error *err) {
    mote_status s = MOTE_OK;
    struct stat st;
    *out = (file_map){0};
    if (fd < 0) FAIL(err, errno == ENOENT ? MOTE_E_NOT_FOUND : MOTE_E_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) FAILG(s, err, MOTE_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) FAILG(s, err, MOTE_E_IO, "%s: not a regular file", path);
    size_t n = (size_t)st.st_size;
    if (how == FILE_READ || n == 0) {
        s = read_whole(out, fd, n, path, err);
        goto out;
    }
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) FAILG(s, err, MOTE_E_IO, "%s: cannot map %zu bytes: %s", path, n, strerror(errno));
    guard_add(p, n);
    *out = (file_map){p, n, true};
out:
    close(fd);
    return s;
}

mote_status file_open(file_map *out, const char *path, int how, mote_error *err) {
    return open_fd(out, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), path, how, err);
}

mote_status file_open_at(file_map *out, const char *dir, const char *name, int how, mote_error *err) {
    *out = (file_map){0};
    if (!name[0] || name[0] == '/' || strstr(name, ".."))
        FAIL(err, MOTE_E_FORMAT, "file name '%.100s' leads out of the model's folder", name);
    char *root = realpath(dir, NULL), *joined = NULL, *real = NULL;
    mote_status s = MOTE_OK;
    if (!root) FAILG(s, err, MOTE_E_IO, "%s: %s", dir, strerror(errno));
    size_t len = strlen(root) + strlen(name) + 2;
    joined = mem_calloc(len, 1);
    if (!joined) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    (void)snprintf(joined, len, "%s/%s", root, name);
    real = realpath(joined, NULL);
    if (!real) FAILG(s, err, errno == ENOENT ? MOTE_E_NOT_FOUND : MOTE_E_IO, "%s: %s", joined, strerror(errno));
    size_t rn = strlen(root);
    if (strncmp(real, root, rn) != 0 || real[rn] != '/')
        FAILG(s, err, MOTE_E_FORMAT, "file name '%.100s' is a link that leads out of the model's folder", name);
    s = file_open(out, real, how, err);
out:
    free(root);
    free(real);
    mem_free(joined);
    return s;
}

void file_close(file_map *m) {
    if (!m || !m->p) return;
    union {
        const unsigned char *in;
        void *out;
    } p = {m->p};
    if (m->mapped) {
        guard_remove(m->p);
        munmap(p.out, m->n);
    } else mem_free_aligned(p.out);
    *m = (file_map){0};
}

bool file_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

mote_status file_writer_open(file_writer *w, const char *path, mote_error *err) {
    *w = (file_writer){0};
    size_t n = strlen(path) + 16;
    w->path = mem_strdup(path);
    w->tmp = mem_calloc(n, 1);
    if (!w->path || !w->tmp) {
        file_writer_abort(w);
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    }
    (void)snprintf(w->tmp, n, "%s.XXXXXX", path);
    int fd = mkostemp(w->tmp, O_CLOEXEC);
    if (fd >= 0) {
        mode_t mask = umask(0);
        (void)umask(mask);
        (void)fchmod(fd, 0666 & ~mask);
        w->f = fdopen(fd, "wb");
        if (!w->f) close(fd);
    } else w->tmp[0] = 0;
    if (!w->f) {
        mote_status s = ERR(err, MOTE_E_IO, "%s: cannot write: %s", path, strerror(errno));
        file_writer_abort(w);
        return s;
    }
    return MOTE_OK;
}

mote_status file_write(file_writer *w, const void *p, size_t n, mote_error *err) {
    if (n && fwrite(p, 1, n, w->f) != n) FAIL(err, MOTE_E_IO, "%s: writing failed: %s", w->path, strerror(errno));
    w->written += n;
    return MOTE_OK;
}

/* The rename is durable only when the folder is synced too. */
static void sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
    if (!dir) return;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    mem_free(dir);
}

mote_status file_writer_commit(file_writer *w, mote_error *err) {
    mote_status s = MOTE_OK;
    if (fflush(w->f) != 0 || fsync(fileno(w->f)) != 0)
        FAILG(s, err, MOTE_E_IO, "%s: cannot write to disk: %s", w->path, strerror(errno));
    int closed = fclose(w->f);
    w->f = NULL;
    if (closed != 0) FAILG(s, err, MOTE_E_IO, "%s: cannot close: %s", w->path, strerror(errno));
    if (rename(w->tmp, w->path) != 0) FAILG(s, err, MOTE_E_IO, "%s: cannot rename: %s", w->path, strerror(errno));
    w->tmp[0] = 0;
    sync_folder(w->path);
out:
    file_writer_abort(w);
    return s;
}

void file_writer_abort(file_writer *w) {
    if (w->f) (void)fclose(w->f);
    if (w->tmp && w->tmp[0]) (void)unlink(w->tmp);
    mem_free(w->tmp);
    mem_free(w->path);
    *w = (file_writer){0};
}
