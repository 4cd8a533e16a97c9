/* rng.h: PCG32 (O'Neill 2014, XSH-RR 64/32): small, seedable, the same on every machine. Not for secrets. */
#ifndef MOTE_BASE_RNG_H
#define MOTE_BASE_RNG_H

#include <stdint.h>

typedef struct rng {
    uint64_t state, inc;
} rng;

static inline uint32_t rng_u32(rng *r) {
    uint64_t old = r->state;
    r->state = old * 6364136223846793005u + r->inc;
    uint32_t x = (uint32_t)(((old >> 18) ^ old) >> 27), rot = (uint32_t)(old >> 59);
    return x >> rot | x << (-rot & 31);
}
static inline void rng_seed(rng *r, uint64_t seed, uint64_t stream) {
    r->state = 0;
    r->inc = stream << 1 | 1;
    (void)rng_u32(r);
    r->state += seed;
    (void)rng_u32(r);
}
/* Uniform in [0, 1) with 53 bits. */
static inline double rng_double(rng *r) {
    uint64_t hi = rng_u32(r);
    return (double)(hi << 21 ^ rng_u32(r) >> 11) * 0x1p-53;
}
/* Uniform in [0, n), unbiased; n ≥ 1. */
static inline uint32_t rng_below(rng *r, uint32_t n) {
    uint32_t floor = -n % n;
    for (;;) {
        uint32_t x = rng_u32(r);
        if (x >= floor) return x % n;
    }
}

#endif
