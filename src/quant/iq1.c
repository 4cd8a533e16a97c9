/* iq1.c: IQ1_S and IQ1_M: groups of eight weights are one of 2048 vectors of trits, moved by an eighth up or
 * down: y = scale (trit ± 1/8). */
#include "quant/quant_int.h"

#include <string.h>

static void group(float *y, uint64_t grid, float delta, float scale) {
    for (int j = 0; j < 8; j++) y[j] = scale * ((float)(int8_t)(grid >> 8 * j & 255) + delta);
}

/* Per 32 weights: four indices, their top three bits in a word of qh with a 3-bit scale and the shift. */
static void decode_iq1_s(float *y, const void *x, size_t n) {
    const iq1_s_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_f16_to_f32(b->d);
        for (int s = 0; s < 8; s++) {
            int h = b->qh[s];
            float scale = d * (float)(2 * (h >> 12 & 7) + 1), delta = h & 0x8000 ? -0.125f : 0.125f;
            for (int l = 0; l < 4; l++, y += 8) {
                group(y, quant_iq1_grid[b->qs[4 * s + l] | (h >> 3 * l & 7) << 8], delta, scale);
            }
        }
    }
}

/* Per 8 weights: an index, its top three bits and the shift in a nibble of qh; per 16 a 3-bit scale. The four
 * words of scales hold four scales each in their low 12 bits and a nibble of d at the top. */
static void decode_iq1_m(float *y, const void *x, size_t n) {
    const iq1_m_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        uint16_t sc[4];
        memcpy(sc, b->scales, 8);
        unsigned half = sc[0] >> 12 | (sc[1] >> 12) << 4 | (sc[2] >> 12) << 8 | (unsigned)(sc[3] >> 12) << 12;
        float d = quant_f16_to_f32((uint16_t)half);
        for (int l = 0; l < 32; l++, y += 8) {
            int h = b->qh[l / 2] >> l % 2 * 4, nibble = sc[l / 8] >> l % 8 / 2 * 3 & 7;
            float scale = d * (float)(2 * nibble + 1), delta = h & 8 ? -0.125f : 0.125f;
            group(y, quant_iq1_grid[b->qs[l] | (h & 7) << 8], delta, scale);
        }
    }
}

QUANT_FORMAT(IQ1_S, "iq1_s", decode_iq1_s, NULL);
QUANT_FORMAT(IQ1_M, "iq1_m", decode_iq1_m, NULL);
