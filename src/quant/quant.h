/* quant.h: the number formats. One file per family holds the block layout and the scalar decode and encode:
 * together they are the definition of the format. formats.def is the table of all of them.
 *
 * A row of n weights is n / block blocks of `bytes` bytes each, back to back. Type numbers are GGUF's.
 * Thread: any; nothing here allocates unless said. */
#ifndef MOTE_QUANT_QUANT_H
#define MOTE_QUANT_QUANT_H

#include "base/err.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>

typedef enum quant_type {
#define FORMAT(NAME, number, block, bytes, family) QUANT_##NAME = (number),
#include "quant/formats.def"
#undef FORMAT
    QUANT_TYPE_MAX = 64 /* every number lies below */
} quant_type;

typedef struct quant_format {
    const char *name;      /* as llama.cpp prints it: "q4_K", "iq4_nl", "f16" */
    quant_type type;
    uint32_t block, bytes; /* weights per block, bytes per block */
    /* y[n] f32 = decoded x; n % block == 0. Bit-exact with GGUF's definition. NULL for integer types. */
    void (*decode)(float *y, const void *x, size_t n);
    /* dst = encoded x[n]; importance: n non-negative weights of the squared error, or NULL. n % block == 0.
     * NULL where no encoder exists. Never reads or writes beyond; non-finite input gives a valid block. */
    void (*encode)(void *dst, const float *x, size_t n, const float *importance);
} quant_format;

const quant_format *quant_get(int type);            /* NULL when unknown or retired */
const quant_format *quant_get_for(int type, uint32_t flags); /* as compiled for a machine with these flags (base/cpu.h): the same bits */
const quant_format *quant_by_name(const char *name); /* any letter case; NULL when unknown */
/* Bytes of a row of n weights; error when n is no multiple of the block or the size overflows. */
mote_status quant_row_bytes(const quant_format *f, uint64_t n, size_t *bytes, mote_error *err);

/* What an error of each of x[n] costs an encoder, into w[n]: the importance that is there already, or none, times sqrt(σ² + x²), σ² the
 * mean square of the 256 weights around. Large weights were made large by training; an encoder that minimises the plain error
 * pulls them towards zero. SmolLM2 on 60 windows of WikiText-2: perplexity 22.55 with Q4_0 and 24.84 with Q2_K, where
 * llama.cpp's files have 22.67 and 25.67. */
void quant_weigh(float *w, const float *x, size_t n, bool importance);
/* err = Σ (x - y)², sum = Σ x². */
void quant_miss(const float *x, const float *y, size_t n, double *err, double *sum);

/* IEEE half and bfloat16; conversions to 16 bits round to nearest even. */
float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f);
static inline float quant_bf16_to_f32(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)h << 16};
    return v.f;
}
uint16_t quant_f32_to_bf16(float f);

#endif
