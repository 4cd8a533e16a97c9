/* iq4.c: IQ4_NL and IQ4_XS: 4-bit indices into 16 uneven levels, denser around zero. */
#include "quant/quant_int.h"

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

static void decode_iq4_nl(float *y, const void *x, size_t n) {
    const iq4_nl_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        float d = quant_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)quant_iq4_values[b->qs[j] & 15];
            y[j + 16] = d * (float)quant_iq4_values[b->qs[j] >> 4];
        }
    }
}

static void decode_iq4_xs(float *y, const void *x, size_t n) {
    const iq4_xs_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_f16_to_f32(b->d);
        for (int s = 0; s < 8; s++, y += 32) {
            int scale = (b->scales_l[s / 2] >> s % 2 * 4 & 15) | (b->scales_h >> 2 * s & 3) << 4;
            float ds = d * (float)(scale - 32);
            const uint8_t *q = b->qs + 16 * s;
            for (int j = 0; j < 16; j++) {
                y[j] = ds * (float)quant_iq4_values[q[j] & 15];
                y[j + 16] = ds * (float)quant_iq4_values[q[j] >> 4];
            }
        }
    }
}

QUANT_FORMAT(IQ4_NL, "iq4_nl", decode_iq4_nl, NULL);
QUANT_FORMAT(IQ4_XS, "iq4_xs", decode_iq4_xs, NULL);
