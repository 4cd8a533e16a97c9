/* mem.h: checked arithmetic and allocation.
 *
 * Every number that comes from a file or a request passes through ckd_* before it sizes or indexes
 * anything. All allocation in the library goes through mem_*, so that the fault tests can fail the
 * n-th one and the decode loop can be proved to allocate nothing. */
#ifndef MOTE_BASE_MEM_H
#define MOTE_BASE_MEM_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *r = a op b; false when the result does not fit (then *r is unspecified). */
static inline bool ckd_add_size(size_t *r, size_t a, size_t b) { return !__builtin_add_overflow(a, b, r); }
static inline bool ckd_mul_size(size_t *r, size_t a, size_t b) { return !__builtin_mul_overflow(a, b, r); }
static inline bool ckd_add_u64(uint64_t *r, uint64_t a, uint64_t b) { return !__builtin_add_overflow(a, b, r); }
static inline bool ckd_mul_u64(uint64_t *r, uint64_t a, uint64_t b) { return !__builtin_mul_overflow(a, b, r); }

/* n × size zeroed bytes, NULL when out of memory or when the product overflows. n 0 gives a unique pointer. */
void *mem_calloc(size_t n, size_t size);
/* Like realloc to n × size bytes; on failure the old block stays valid and NULL is returned. */
void *mem_resize(void *p, size_t n, size_t size);
/* Gives the whole pages of [p, p + size) back to the system; they read as zeros from then on. */
void mem_forget(const void *p, size_t size);
/* size bytes aligned to 64, zeroed; freed with mem_free_aligned. Large blocks ask for huge pages. */
void *mem_alloc_aligned(size_t size);
/* The same from small pages: for what fills slowly and may never be full; until mem_make_huge, once it does. */
void *mem_alloc_sparse(size_t size);
void mem_make_huge(void *p, size_t size); /* p, size: as given by and to mem_alloc_sparse. Contents stay */
void mem_free_aligned(void *p); /* either */
void mem_free(void *p);
/* A NUL-terminated copy of n bytes; NULL when out of memory. */
char *mem_strndup(const char *s, size_t n);
char *mem_strdup(const char *s);

#define MEM_NEW(type) ((type *)mem_calloc(1, sizeof(type)))
#define MEM_NEW_N(type, n) ((type *)mem_calloc((n), sizeof(type)))
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Grows *v (cap elements of `size` bytes) so that it holds n; doubles, never beyond max elements. */
mote_status mem_grow(void *v, size_t *cap, size_t n, size_t size, size_t max, mote_error *err);

#endif
