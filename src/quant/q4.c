/* q4.c: Q4_0 and Q4_1: 32 weights, 4 bits each, one scale (and one minimum). */
#include "quant/quant_int.h"

static void decode_q4_0(float *y, const void *x, size_t n) {
    const q4_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)((b->qs[j] & 15) - 8) * d;
            y[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

static void decode_q4_1(float *y, const void *x, size_t n) {
    const q4_1_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d), m = quant_f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)(b->qs[j] & 15) * d + m;
            y[j + 16] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

QUANT_FORMAT(Q4_0, "q4_0", decode_q4_0, NULL);
QUANT_FORMAT(Q4_1, "q4_1", decode_q4_1, NULL);
