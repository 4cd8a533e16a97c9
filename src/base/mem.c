#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_FROM_BYTES ((size_t)4 << 20)

void *mem_calloc(size_t n, size_t size) {
    if (n == 0 || size == 0) n = size = 1;
    return calloc(n, size);
}

void *mem_resize(void *p, size_t n, size_t size) {
    size_t bytes;
    if (!ckd_mul_size(&bytes, n, size)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *mem_alloc_aligned(size_t size) {
    void *p = NULL;
    size_t align = size >= HUGE_FROM_BYTES ? (size_t)2 << 20 : 64;
    if (size > SIZE_MAX - align) return NULL;
    size_t padded = (size + align - 1) / align * align;
    if (posix_memalign(&p, align, padded ? padded : align) != 0) return NULL;
    if (align > 64) (void)madvise(p, padded, MADV_HUGEPAGE);
    memset(p, 0, padded);
    return p;
}

void mem_free_aligned(void *p) { free(p); }
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
