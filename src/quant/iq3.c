/* iq3.c: IQ3_XXS and IQ3_S: groups of four weights are an entry of a codebook of magnitudes (4..62, or odd
 * numbers to 15); each eight share a byte of signs, in IQ3_XXS of even parity. */
#include "quant/book.h"
#include "quant/fit.h"

#include <string.h>

static void group(float *y, uint32_t low, uint32_t high, uint8_t signs, float scale) {
    uint64_t grid = (uint64_t)high << 32 | low;
    for (int j = 0; j < 8; j++) {
        float v = scale * (float)(grid >> 8 * j & 255);
        y[j] = signs >> j & 1 ? -v : v;
    }
}

/* Per 32 weights: eight 8-bit indices, and a word of four 7-bit signs under the scale. */
static void decode_iq3_xxs(float *y, const void *x, size_t n) {
    const iq3_xxs_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int s = 0; s < 8; s++) {
            uint32_t w;
            memcpy(&w, b->scales_signs + 4 * s, 4);
            float scale = d * (0.5f + (float)(w >> 28)) * 0.5f;
            for (int l = 0; l < 4; l++, y += 8) {
                const uint8_t *q = b->qs + 8 * s + 2 * l;
                group(y, quant_iq3_xxs_grid[q[0]], quant_iq3_xxs_grid[q[1]], quant_signs8(w >> 7 * l), scale);
            }
        }
    }
}

/* Per 32 weights: eight 9-bit indices (the top bits in a byte of qh), four bytes of signs, a 4-bit scale. */
static void decode_iq3_s(float *y, const void *x, size_t n) {
    const iq3_s_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int s = 0; s < 8; s++) {
            int nibble = b->scales[s / 2] >> s % 2 * 4 & 15;
            float scale = d * (float)(1 + 2 * nibble);
            for (int l = 0; l < 4; l++, y += 8) {
                const uint8_t *q = b->qs + 8 * s + 2 * l;
                int high = b->qh[s] >> 2 * l;
                uint32_t first = quant_iq3_s_grid[q[0] | (high & 1) << 8];
                uint32_t second = quant_iq3_s_grid[q[1] | (high & 2) << 7];
                group(y, first, second, b->signs[4 * s + l], scale);
            }
        }
    }
}

/* ---- encoding ---- */

static void pack_iq3_xxs(iq3_xxs_block *b, const book_block *in) {
    b->d = in->d;
    for (int l = 0; l < 64; l++) b->qs[l] = (uint8_t)in->index[l];
    for (int s = 0; s < 8; s++) {
        uint32_t w = (uint32_t)in->scale[s] << 28;
        for (int l = 0; l < 4; l++) w |= (uint32_t)(in->signs[4 * s + l] & 127) << 7 * l;
        memcpy(b->scales_signs + 4 * s, &w, 4);
    }
}

static void pack_iq3_s(iq3_s_block *b, const book_block *in) {
    *b = (iq3_s_block){.d = in->d};
    for (int l = 0; l < 64; l++) {
        b->qs[l] = (uint8_t)in->index[l];
        b->qh[l / 8] |= (uint8_t)(in->index[l] >> 8 << l % 8);
    }
    memcpy(b->signs, in->signs, sizeof b->signs);
    for (int s = 0; s < 4; s++) b->scales[s] = (uint8_t)(in->scale[2 * s] | in->scale[2 * s + 1] << 4);
}

BOOK_ENCODE(iq3_xxs, quant_iq3_xxs_grid, 256, 4, .per_scale = 32, .even = true, .top = 15, .add = 0.25f, .mul = 0.5f, .typical = 24)
BOOK_ENCODE(iq3_s, quant_iq3_s_grid, 512, 4, .per_scale = 32, .even = false, .top = 15, .add = 1, .mul = 2, .typical = 6)

QUANT_FORMAT(IQ3_XXS, "iq3_xxs", decode_iq3_xxs, encode_iq3_xxs);
QUANT_FORMAT(IQ3_S, "iq3_s", decode_iq3_s, encode_iq3_s);
