/* arena.h: a bump allocator with one owner and one end. Everything dies together in arena_free.
 * Born with a maximum. Memory is zeroed. Thread: one at a time. */
#ifndef MOTE_BASE_ARENA_H
#define MOTE_BASE_ARENA_H

#include "base/mem.h"
#include "base/str.h"

typedef struct arena {
    struct arena_block *last;
    size_t used_bytes, max_bytes;
} arena;

void arena_init(arena *a, size_t max_bytes);
void arena_free(arena *a); /* the arena can be used again afterwards */
/* n × size zeroed bytes aligned to 16; NULL when over the maximum or out of memory. */
void *arena_alloc(arena *a, size_t n, size_t size);
/* A NUL-terminated copy of s. */
char *arena_dup(arena *a, str s);
#define ARENA_NEW(a, type) ((type *)arena_alloc((a), 1, sizeof(type)))
#define ARENA_NEW_N(a, type, n) ((type *)arena_alloc((a), (n), sizeof(type)))

#endif
