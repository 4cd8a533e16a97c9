/* fp4.c: MXFP4 (OCP Microscaling 1.0) and NVFP4: E2M1 weights with a float scale per 32 or 16. */
#include "quant/quant_int.h"

const int8_t quant_e2m1_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float quant_ue4m3_half(uint8_t x) {
    if (x == 0 || x == 0x7F) return 0.0f;
    int exp = x >> 3 & 15, mant = x & 7;
    union {
        uint32_t u;
        float f;
    } pow2 = {(uint32_t)(exp ? exp + 127 - 11 : 127 - 10) << 23};
    return (float)(exp ? 8 + mant : mant) * pow2.f;
}

static void decode_mxfp4(float *y, const void *x, size_t n) {
    const mxfp4_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_e8m0_half(b->e);
        for (int j = 0; j < 16; j++) {
            y[j] = (float)quant_e2m1_values[b->qs[j] & 15] * d;
            y[j + 16] = (float)quant_e2m1_values[b->qs[j] >> 4] * d;
        }
    }
}

static void decode_nvfp4(float *y, const void *x, size_t n) {
    const nvfp4_block *b = x;
    for (size_t i = 0; i < n / 64; i++, b++) {
        for (int s = 0; s < 4; s++, y += 16) {
            float d = quant_ue4m3_half(b->d[s]);
            const uint8_t *q = b->qs + 8 * s;
            for (int j = 0; j < 8; j++) {
                y[j] = (float)quant_e2m1_values[q[j] & 15] * d;
                y[j + 8] = (float)quant_e2m1_values[q[j] >> 4] * d;
            }
        }
    }
}

QUANT_FORMAT(MXFP4, "mxfp4", decode_mxfp4, NULL);
QUANT_FORMAT(NVFP4, "nvfp4", decode_nvfp4, NULL);
