/* q8.c: Q8_0: 32 weights, 8 bits each, one scale. */
#include "quant/quant_int.h"

static void decode_q8_0(float *y, const void *x, size_t n) {
    const q8_0_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 32; j++) y[j] = (float)b->qs[j] * d;
    }
}

QUANT_FORMAT(Q8_0, "q8_0", decode_q8_0, NULL);
