/* quant_int.h: what the files of src/quant share.
 *
 * The files of the formats and of the fits are compiled once for every instruction set: QUANT_ISA is its name there, and their
 * symbols end in it. All give the same bits. */
#ifndef MOTE_QUANT_QUANT_INT_H
#define MOTE_QUANT_QUANT_INT_H

#include "quant/layout.h"
#include "quant/quant.h"

#ifdef QUANT_ISA
#define QUANT_JOIN2(name, isa) name##_##isa
#define QUANT_JOIN(name, isa) QUANT_JOIN2(name, isa)
#define QUANT_NAME(name) QUANT_JOIN(name, QUANT_ISA)
#else
#define QUANT_NAME(name) name
#endif

enum {
#define FORMAT(NAME, number, block, bytes, family) \
    QUANT_BLOCK_##NAME = (block), QUANT_BYTES_##NAME = (bytes),
#include "quant/formats.def"
#undef FORMAT
};

/* One per row of formats.def, defined by its family's file with QUANT_FORMAT. */
#define FORMAT(NAME, number, block, bytes, family) extern const quant_format QUANT_NAME(quant_format_##NAME);
#include "quant/formats.def"
#undef FORMAT

#define QUANT_FORMAT(NAME, text, decode_fn, encode_fn)                                             \
    const quant_format QUANT_NAME(quant_format_##NAME) = {                                         \
        text, QUANT_##NAME, QUANT_BLOCK_##NAME, QUANT_BYTES_##NAME, decode_fn, encode_fn}

/* What one instruction set has: rung.c. */
typedef struct quant_rung {
    const quant_format *formats[QUANT_TYPE_MAX];
    void (*weigh)(float *w, const float *x, size_t n, bool importance);
    void (*miss)(const float *x, const float *y, size_t n, double *err, double *sum);
} quant_rung;
extern const quant_rung quant_rung_generic, quant_rung_avx2, quant_rung_avx512;

/* Halves and floats, without branches: loops over them become vectors. */
typedef union quant_bits {
    uint32_t u;
    float f;
} quant_bits;

static inline float quant_half_value(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, a = h & 0x7FFF, mant = h & 0x3FF;
    quant_bits tiny = {.f = (float)(int32_t)mant * 0x1p-24f}, v;
    uint32_t huge = 0x7F800000 | mant << 13 | (mant ? 0x400000u : 0); /* a NaN comes out quiet */
    v.u = sign | (a < 0x400 ? tiny.u : a < 0x7C00 ? (a << 13) + (112u << 23) : huge);
    return v.f;
}

static inline uint16_t quant_to_half(float f) {
    quant_bits v = {.f = f};
    uint32_t sign = v.u >> 16 & 0x8000, a = v.u & 0x7FFFFFFF;
    quant_bits small = {.u = a}; /* below 2^-14 halves are multiples of 2^-24; adding 0.5 makes that the last bit, rounded to even */
    small.f += 0.5f;
    uint32_t normal = (a + 0xFFF + (a >> 13 & 1) - 0x38000000) >> 13, nan = 0x7E00 | (a >> 13 & 0x1FF);
    uint32_t h = a < 0x38800000 ? small.u - 0x3F000000 : normal;
    h = a >= 0x477FF000 ? 0x7C00 : h; /* from 65520 on, infinity */
    h = a > 0x7F800000 ? nan : h;
    return (uint16_t)(sign | h);
}

static inline uint16_t quant_to_bf16(float f) {
    quant_bits v = {.f = f};
    return (uint16_t)((v.u & 0x7FFFFFFF) > 0x7F800000 ? v.u >> 16 | 0x40 : (v.u + 0x7FFF + (v.u >> 16 & 1)) >> 16);
}

#endif
