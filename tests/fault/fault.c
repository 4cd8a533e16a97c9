#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

static atomic_int armed;
static atomic_size_t fail_at, seen, allocations, live;
static atomic_bool sticky_fault, happened;

static bool fails(enum fault_kind kind) {
    if (atomic_load(&armed) != (int)kind) return false;
    size_t n = atomic_fetch_add(&seen, 1) + 1, at = atomic_load(&fail_at);
    if (n != at && !(n > at && atomic_load(&sticky_fault))) return false;
    atomic_store(&happened, true);
    return true;
}

/* The linker's names: __real_X is the C library's, __wrap_X what our code calls. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void __real_free(void *p);
char *__real_realpath(const char *path, char *resolved);
ssize_t __real_read(int fd, void *p, size_t n);
int __real_open(const char *path, int flags, ...);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
size_t __real_fwrite(const void *p, size_t size, size_t n, FILE *f);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);
void __wrap_free(void *p);
char *__wrap_realpath(const char *path, char *resolved);
ssize_t __wrap_read(int fd, void *p, size_t n);
int __wrap_open(const char *path, int flags, ...);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
size_t __wrap_fwrite(const void *p, size_t size, size_t n, FILE *f);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);

static void *counted(void *p) {
    if (p) {
        (void)atomic_fetch_add(&live, 1);
        (void)atomic_fetch_add(&allocations, 1);
    }
    return p;
}

void *__wrap_malloc(size_t n) { return fails(FAULT_ALLOC) ? NULL : counted(__real_malloc(n)); }
void *__wrap_calloc(size_t n, size_t size) {
    return fails(FAULT_ALLOC) ? NULL : counted(__real_calloc(n, size));
}
void *__wrap_realloc(void *p, size_t n) {
    if (fails(FAULT_ALLOC)) return NULL;
    void *r = __real_realloc(p, n);
    if (!p) return counted(r);
    if (r) (void)atomic_fetch_add(&allocations, 1);
    return r;
}
int __wrap_posix_memalign(void **p, size_t align, size_t n) {
    if (fails(FAULT_ALLOC)) return ENOMEM;
    int bad = __real_posix_memalign(p, align, n);
    if (!bad) (void)counted(*p);
    return bad;
}
void __wrap_free(void *p) {
    if (p) (void)atomic_fetch_sub(&live, 1);
    __real_free(p);
}

/* Its result is the C library's allocation and freed as ours are. */
char *__wrap_realpath(const char *path, char *resolved) {
    if (fails(FAULT_READ)) {
        errno = EIO;
        return NULL;
    }
    char *p = __real_realpath(path, resolved);
    return resolved ? p : counted(p);
}
ssize_t __wrap_read(int fd, void *p, size_t n) {
    if (!fails(FAULT_READ)) return __real_read(fd, p, n);
    errno = EIO;
    return -1;
}
int __wrap_open(const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    if (!fails(FAULT_READ)) return __real_open(path, flags, mode);
    errno = EMFILE;
    return -1;
}
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    if (!fails(FAULT_READ)) return __real_mmap(at, n, prot, flags, fd, offset);
    errno = ENODEV;
    return MAP_FAILED;
}

size_t __wrap_fwrite(const void *p, size_t size, size_t n, FILE *f) {
    if (!fails(FAULT_WRITE)) return __real_fwrite(p, size, n, f);
    errno = ENOSPC;
    return 0;
}
int __wrap_fsync(int fd) {
    if (!fails(FAULT_WRITE)) return __real_fsync(fd);
    errno = EIO;
    return -1;
}
int __wrap_rename(const char *from, const char *to) {
    if (!fails(FAULT_WRITE)) return __real_rename(from, to);
    errno = EACCES;
    return -1;
}

void fault_init(void) { json_set_alloc_funcs(__wrap_malloc, __wrap_free); }

void fault_arm(enum fault_kind kind, size_t n, bool sticky) {
    atomic_store(&seen, 0);
    atomic_store(&allocations, 0);
    atomic_store(&fail_at, n);
    atomic_store(&sticky_fault, sticky);
    atomic_store(&happened, false);
    atomic_store(&armed, (int)kind);
}

void fault_disarm(void) { atomic_store(&armed, FAULT_NONE); }
bool fault_happened(void) { return atomic_load(&happened); }
size_t fault_allocations(void) { return atomic_load(&allocations); }
size_t fault_live(void) { return atomic_load(&live); }
