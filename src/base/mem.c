#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COLLAPSE 25 /* MADV_COLLAPSE, Linux 6.1, which C libraries may not name yet; older kernels refuse it */
#define HUGE_BYTES ((size_t)2 << 20)
#define HUGE_FROM_BYTES (2 * HUGE_BYTES)

void *mem_calloc(size_t n, size_t size) {
    if (n == 0 || size == 0) n = size = 1;
    return calloc(n, size);
}

void *mem_resize(void *p, size_t n, size_t size) {
    size_t bytes;
    if (!ckd_mul_size(&bytes, n, size)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

/* Large blocks are not touched here: calloc gets them zeroed from the kernel, page by page as they are used, so that a
 * big cache costs nothing until it fills. What calloc returned stands just before the aligned address. */
static unsigned char *alloc_aligned(size_t size, size_t align) {
    if (size > SIZE_MAX - 2 * align) return NULL;
    size_t padded = (size + align - 1) / align * align;
    unsigned char *raw = calloc(1, padded + align);
    if (!raw) return NULL;
    unsigned char *p = raw + (align - (uintptr_t)raw % align);
    memcpy(p - sizeof raw, &raw, sizeof raw);
    return p;
}

void mem_forget(const void *p, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)p + page - 1) / page * page, to = ((uintptr_t)p + size) / page * page;
    union {
        uintptr_t in;
        void *out;
    } first = {from};
    if (from < to) (void)madvise(first.out, to - from, MADV_DONTNEED);
}

static size_t align_of(size_t size) { return size >= HUGE_FROM_BYTES ? HUGE_BYTES : 64; }

void *mem_alloc_sparse(size_t size) { return alloc_aligned(size, align_of(size)); }

void mem_make_huge(void *p, size_t size) {
    if (align_of(size) != HUGE_BYTES) return;
    size_t padded = (size + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    (void)madvise(p, padded, MADV_HUGEPAGE);
    (void)madvise(p, padded, COLLAPSE);
}

void *mem_alloc_aligned(size_t size) {
    void *p = mem_alloc_sparse(size);
    if (p && align_of(size) == HUGE_BYTES) (void)madvise(p, (size + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
    return p;
}

void mem_free_aligned(void *p) {
    if (!p) return;
    void *raw;
    memcpy(&raw, (unsigned char *)p - sizeof raw, sizeof raw);
    free(raw);
}
void mem_free(void *p) { free(p); }

char *mem_strndup(const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *r = mem_calloc(n + 1, 1);
    if (r && n) memcpy(r, s, n);
    return r;
}

char *mem_strdup(const char *s) { return mem_strndup(s, strlen(s)); }

mote_status mem_grow(void *v, size_t *cap, size_t n, size_t size, size_t max, mote_error *err) {
    if (n <= *cap) return MOTE_OK;
    if (n > max) FAIL(err, MOTE_E_LIMIT, "more than %zu elements", max);
    size_t want = *cap < 8 ? 8 : *cap;
    while (want < n) want = want > max / 2 ? max : want * 2;
    void *old, *p;
    memcpy(&old, v, sizeof old);
    p = mem_resize(old, want, size);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory growing to %zu elements of %zu bytes", want, size);
    memcpy(v, &p, sizeof p);
    *cap = want;
    return MOTE_OK;
}
