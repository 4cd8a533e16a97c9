/* tq.c: TQ1_0 and TQ2_0: 256 trits {-1, 0, 1} and one scale, for ternary models.
 *
 * TQ1_0 keeps five trits in a byte as the fraction t/243 scaled to 256 and rounded up, so that multiplying by
 * 3^k (mod 256) and then by 3 shifts trit k out at the top. */
#include "quant/quant_int.h"

static const uint8_t pow3[5] = {1, 3, 9, 27, 81};

static float trit(uint8_t packed, int k) {
    uint8_t q = (uint8_t)(packed * pow3[k]);
    return (float)((q * 3 >> 8) - 1);
}

static void decode_tq1_0(float *y, const void *x, size_t n) {
    const tq1_0_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_f16_to_f32(b->d);
        for (int k = 0; k < 5; k++) {
            for (int m = 0; m < 32; m++) *y++ = trit(b->qs[m], k) * d;
        }
        for (int k = 0; k < 5; k++) {
            for (int m = 0; m < 16; m++) *y++ = trit(b->qs[32 + m], k) * d;
        }
        for (int k = 0; k < 4; k++) {
            for (int m = 0; m < 4; m++) *y++ = trit(b->qh[m], k) * d;
        }
    }
}

static void decode_tq2_0(float *y, const void *x, size_t n) {
    const tq2_0_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < QUANT_K; j++) {
            int q = b->qs[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
            y[j] = (float)(q - 1) * d;
        }
    }
}

QUANT_FORMAT(TQ1_0, "tq1_0", decode_tq1_0, NULL);
QUANT_FORMAT(TQ2_0, "tq2_0", decode_tq2_0, NULL);
