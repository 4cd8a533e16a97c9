/* peak_tmpl.h: makes the loops of peak.h. PEAK_REG is the constraint of a vector register in an asm statement. */
#include "kernel/peak.h"

#include <string.h>

#define PEAK_UNROLL _Pragma("GCC unroll 32")

/* STEP(acc, a, b) gives the new accumulator. That `a` may have changed keeps the compiler from moving work out of the
 * loop; the empty asm costs nothing. */
#define PEAK_FORM(id, count, V, LOAD, STORE, STEP)                                       \
    static void id##_##count(size_t times, void *io) {                                   \
        unsigned char *p = io;                                                           \
        V a = LOAD(p), acc[count];                                                       \
        const V b = LOAD(p + 64);                                                        \
        PEAK_UNROLL for (int j = 0; j < count; j++) acc[j] = LOAD(p + 128 + 64 * j);      \
        for (size_t i = 0; i < times; i++)                                               \
            PEAK_UNROLL for (int j = 0; j < count; j++) {                                \
                __asm__ volatile("" : "+" PEAK_REG(a));                                  \
                acc[j] = STEP(acc[j], a, b);                                             \
            }                                                                            \
        PEAK_UNROLL for (int j = 0; j < count; j++) STORE(p + 128 + 64 * j, acc[j]);      \
    }

#define PEAK(id, text, what, n_lanes, n_ops, n0, n1, n2, V, LOAD, STORE, STEP)            \
    PEAK_FORM(id, n0, V, LOAD, STORE, STEP)                                               \
    PEAK_FORM(id, n1, V, LOAD, STORE, STEP)                                               \
    PEAK_FORM(id, n2, V, LOAD, STORE, STEP)                                               \
    static const kern_peak id = {text, what, n_lanes, n_ops, {{id##_##n0, n0}, {id##_##n1, n1}, {id##_##n2, n2}}};

/* id(p, n) and id##4(p, n): everything once, into eight registers. */
#define PEAK_READ(id, V, LOAD, STORE, ZERO, XOR)                                                        \
    static uint64_t id##_end(const V *s) {                                                              \
        unsigned char last[sizeof(V)];                                                                  \
        uint64_t r;                                                                                     \
        V all = s[0];                                                                                   \
        for (int j = 1; j < 8; j++) all = XOR(all, s[j]);                                               \
        STORE(last, all);                                                                               \
        memcpy(&r, last, sizeof r);                                                                     \
        return r;                                                                                       \
    }                                                                                                   \
    static uint64_t id(const void *from, size_t n) {                                                    \
        const unsigned char *p = from;                                                                  \
        V s[8];                                                                                         \
        PEAK_UNROLL for (int j = 0; j < 8; j++) s[j] = ZERO();                                          \
        for (size_t i = 0; i < n; i += 8 * sizeof(V))                                                   \
            PEAK_UNROLL for (int j = 0; j < 8; j++) s[j] = XOR(s[j], LOAD(p + i + (size_t)j * sizeof(V))); \
        return id##_end(s);                                                                             \
    }                                                                                                   \
    static uint64_t id##4(const void *from, size_t n) {                                                 \
        const unsigned char *p = from;                                                                  \
        const size_t quarter = n / 4;                                                                   \
        V s[8];                                                                                         \
        PEAK_UNROLL for (int j = 0; j < 8; j++) s[j] = ZERO();                                          \
        for (size_t i = 0; i < quarter; i += 2 * sizeof(V))                                             \
            PEAK_UNROLL for (int j = 0; j < 8; j++)                                                     \
                s[j] = XOR(s[j], LOAD(p + i + (size_t)(j / 2) * quarter + (size_t)(j % 2) * sizeof(V))); \
        return id##_end(s);                                                                             \
    }
