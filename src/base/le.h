/* le.h: little-endian numbers of n bytes (up to 8), at any address. */
#ifndef MOTE_BASE_LE_H
#define MOTE_BASE_LE_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t le_get(const unsigned char *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static inline void le_put(unsigned char *p, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(v >> (8 * i));
}

#endif
