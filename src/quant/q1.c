/* q1.c: Q1_0 (128 signs and one scale) and Q2_0 (64 weights of {-1, 0, 1, 2} times one scale). */
#include "quant/quant_int.h"

static void decode_q1_0(float *y, const void *x, size_t n) {
    const q1_0_block *b = x;
    for (size_t i = 0; i < n / 128; i++, b++, y += 128) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 128; j++) y[j] = b->qs[j / 8] >> j % 8 & 1 ? d : -d;
    }
}

static void decode_q2_0(float *y, const void *x, size_t n) {
    const q2_0_block *b = x;
    for (size_t i = 0; i < n / 64; i++, b++, y += 64) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 64; j++) y[j] = (float)((b->qs[j / 4] >> j % 4 * 2 & 3) - 1) * d;
    }
}

QUANT_FORMAT(Q1_0, "q1_0", decode_q1_0, NULL);
QUANT_FORMAT(Q2_0, "q2_0", decode_q2_0, NULL);
