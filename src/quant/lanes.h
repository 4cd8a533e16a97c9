/* lanes.h: as many floats at once as the instruction set has, for the files that are compiled for each (quant_int.h). What is done
 * with them is element by element, so that all sets give the same bits. */
#ifndef MOTE_QUANT_LANES_H
#define MOTE_QUANT_LANES_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), may_alias));
typedef uint8_t bvec __attribute__((vector_size(LANES), aligned(1), may_alias));

/* At an address that is a multiple of 64 bytes; take and put: at any. */
#define V(p) (*(const vec *)(const void *)(p))
static inline vec take(const float *p) {
    return (vec) * (const loose *)(const void *)p;
}
static inline void put(float *p, vec v) {
    *(loose *)(void *)p = (loose)v;
}

static inline vec all(float f) {
    return f - (vec){0};
}
static inline ivec all_int(int32_t i) {
    return i - (ivec){0};
}
/* b where one of them is NaN. */
static inline vec lesser(vec a, vec b) {
#ifdef __AVX512F__
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    ivec less = a < b;
    return (vec)((less & (ivec)a) | (~less & (ivec)b));
#endif
}
static inline vec larger(vec a, vec b) {
#ifdef __AVX512F__
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    ivec more = a > b;
    return (vec)((more & (ivec)a) | (~more & (ivec)b));
#endif
}
/* a where the mask is -1, b where it is 0. */
static inline vec pick(ivec mask, vec a, vec b) {
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}
static inline vec magnitude(vec v) {
    return (vec)((ivec)v & all_int(0x7FFFFFFF));
}
static inline bool any_of(ivec mask) {
#ifdef __AVX512F__
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}
/* The nearest whole number in lo..hi. Adding 1.5 2^23 drops the fraction, rounding to even. */
static inline vec nearest(vec t, float lo, float hi) {
    t = lesser(larger(t, all(lo)), all(hi));
    return (t + all(0x1.8p23f)) - all(0x1.8p23f);
}
static inline vec sqrt_of(vec v) {
#ifdef __AVX512F__
    return (vec)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
    return (vec)_mm256_sqrt_ps((__m256)v);
#else
    for (int i = 0; i < LANES; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
#endif
}

#endif
