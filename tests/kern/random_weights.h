/* random_weights.h: rows of every format with random levels and sane scales, for tests and benches. */
#ifndef MOTE_TESTS_RANDOM_WEIGHTS_H
#define MOTE_TESTS_RANDOM_WEIGHTS_H

#include "base/rng.h"
#include "quant/layout.h"
#include "quant/quant.h"

#include <string.h>

static inline float random_float(rng *r) { return (float)rng_double(r) * 2.0f - 1.0f; }

static inline uint16_t random_half(rng *r) { return quant_f32_to_f16(0.002f + 0.01f * (float)rng_double(r)); }

/* Where a block keeps its one or two halves, -1 for none. */
static inline void half_offsets(quant_type t, int at[2]) {
    at[0] = 0, at[1] = -1;
    switch (t) {
        case QUANT_Q4_1: case QUANT_Q5_1: case QUANT_Q4_K: case QUANT_Q5_K: at[1] = 2; break;
        case QUANT_Q2_K: at[0] = 80, at[1] = 82; break;
        case QUANT_Q3_K: at[0] = 108; break;
        case QUANT_Q6_K: at[0] = 208; break;
        case QUANT_TQ1_0: at[0] = 52; break;
        case QUANT_TQ2_0: at[0] = 64; break;
        case QUANT_IQ1_M: case QUANT_MXFP4: case QUANT_NVFP4: at[0] = -1; break;
        default: break;
    }
}

static inline void random_row(quant_type t, void *dst, size_t n, rng *r) {
    const quant_format *f = quant_get((int)t);
    unsigned char *p = dst;
    for (size_t b = 0; b < n / f->block; b++, p += f->bytes) {
        if (t == QUANT_F32 || t == QUANT_F16 || t == QUANT_BF16) {
            float v = random_float(r);
            f->encode(p, &v, 1, NULL);
            continue;
        }
        if (t == QUANT_F64) {
            double v = (double)random_float(r);
            memcpy(p, &v, sizeof v);
            continue;
        }
        for (size_t i = 0; i < f->bytes; i++) p[i] = (unsigned char)rng_u32(r);
        int at[2];
        half_offsets(t, at);
        for (int i = 0; i < 2; i++) {
            uint16_t h = random_half(r);
            if (at[i] >= 0) memcpy(p + at[i], &h, 2);
        }
        if (t == QUANT_MXFP4) p[0] = (unsigned char)(118 + rng_below(r, 6));
        if (t == QUANT_NVFP4)
            for (int i = 0; i < 4; i++) p[i] = (unsigned char)(0x10 + rng_below(r, 0x20));
        if (t == QUANT_IQ1_M) { /* 0x2000: the scale's nibbles lie at the tops of four words */
            for (int i = 0; i < 4; i++) p[49 + 2 * i] = (unsigned char)((p[49 + 2 * i] & 15) | (i == 3 ? 0x20 : 0));
        }
        if (t == QUANT_TQ1_0)
            for (int i = 0; i < 52; i++) p[i] = (unsigned char)((rng_below(r, 243) * 256 + 242) / 243);
    }
}

#endif
