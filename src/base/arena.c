#include "base/arena.h"

#define BLOCK_BYTES ((size_t)64 << 10)

struct arena_block {
    struct arena_block *prev;
    size_t used, cap; /* bytes after the header */
};
_Static_assert(sizeof(struct arena_block) <= 32, "header is padded to 32 bytes");
#define HEADER 32

void arena_init(arena *a, size_t max_bytes) { *a = (arena){.max_bytes = max_bytes}; }

void arena_free(arena *a) {
    for (struct arena_block *b = a->last; b;) {
        struct arena_block *prev = b->prev;
        mem_free(b);
        b = prev;
    }
    a->last = NULL;
    a->used_bytes = 0;
}

void *arena_alloc(arena *a, size_t n, size_t size) {
    size_t bytes;
    if (!ckd_mul_size(&bytes, n, size) || bytes > a->max_bytes) return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > a->max_bytes - a->used_bytes) return NULL;
    struct arena_block *b = a->last;
    if (!b || b->cap - b->used < bytes) {
        size_t cap = MAX(bytes, BLOCK_BYTES);
        b = mem_calloc(HEADER + cap, 1);
        if (!b) return NULL;
        b->cap = cap;
        if (a->last && bytes > BLOCK_BYTES / 4) { /* keep filling the open block; file the big one behind it */
            b->prev = a->last->prev;
            a->last->prev = b;
        } else {
            b->prev = a->last;
            a->last = b;
        }
    }
    void *p = (char *)b + HEADER + b->used;
    b->used += bytes;
    a->used_bytes += bytes;
    return p;
}

char *arena_dup(arena *a, str s) {
    if (s.n == SIZE_MAX) return NULL;
    char *p = arena_alloc(a, s.n + 1, 1);
    if (p && s.n) memcpy(p, s.p, s.n);
    return p;
}
