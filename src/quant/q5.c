/* q5.c: Q5_0 and Q5_1: 32 weights, 5 bits each, one scale (and one minimum). */
#include "quant/quant_int.h"

#include <string.h>

/* Weight j of a block from its nibbles and fifth bits, 0..31. */
static int level(const uint8_t *qs, const uint8_t *qh, int j) {
    uint32_t high;
    memcpy(&high, qh, 4);
    int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
    return low | (int)(high >> j & 1) << 4;
}

static void decode_q5_0(float *y, const void *x, size_t n) {
    const q5_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 32; j++) y[j] = (float)(level(b->qs, b->qh, j) - 16) * d;
    }
}

static void decode_q5_1(float *y, const void *x, size_t n) {
    const q5_1_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d), m = quant_f16_to_f32(b->m);
        for (int j = 0; j < 32; j++) y[j] = (float)level(b->qs, b->qh, j) * d + m;
    }
}

QUANT_FORMAT(Q5_0, "q5_0", decode_q5_0, NULL);
QUANT_FORMAT(Q5_1, "q5_1", decode_q5_1, NULL);
