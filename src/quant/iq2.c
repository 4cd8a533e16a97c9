/* iq2.c: IQ2_XXS, IQ2_XS and IQ2_S: groups of eight weights are an entry of a codebook of magnitudes
 * {8, 25, 43} and eight signs. They differ in the codebook's size, in how finely scales follow the weights
 * (per 32, or per 16), and in whether the signs are free or have even parity. */
#include "quant/book.h"
#include "quant/fit.h"

#include <string.h>

static void group(float *y, uint64_t grid, uint8_t signs, float scale) {
    for (int j = 0; j < 8; j++) {
        float v = scale * (float)(grid >> 8 * j & 255);
        y[j] = signs >> j & 1 ? -v : v;
    }
}

static float scale_of(float d, int nibble) {
    return d * (0.5f + (float)nibble) * 0.25f;
}

/* Per 32 weights: four 8-bit indices, then a word of four 7-bit signs under the scale. */
static void decode_iq2_xxs(float *y, const void *x, size_t n) {
    const iq2_xxs_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int s = 0; s < 8; s++) {
            uint8_t index[4];
            uint32_t w;
            memcpy(index, (const char *)b + 2 + 8 * s, 4);
            memcpy(&w, (const char *)b + 6 + 8 * s, 4);
            float scale = scale_of(d, (int)(w >> 28));
            for (int l = 0; l < 4; l++, y += 8) {
                group(y, quant_iq2_xxs_grid[index[l]], quant_signs8(w >> 7 * l), scale);
            }
        }
    }
}

/* Per 8 weights: a 9-bit index under 7 bits of sign; per 32 a byte of two scales. */
static void decode_iq2_xs(float *y, const void *x, size_t n) {
    const iq2_xs_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int l = 0; l < 32; l++, y += 8) {
            int nibble = b->scales[l / 4] >> l % 4 / 2 * 4 & 15;
            group(y, quant_iq2_xs_grid[b->qs[l] & 511], quant_signs8(b->qs[l] >> 9u), scale_of(d, nibble));
        }
    }
}

/* Per 8 weights: a 10-bit index, its top two bits in qh, and a byte of signs; per 32 a byte of two scales. */
static void decode_iq2_s(float *y, const void *x, size_t n) {
    const iq2_s_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++) {
        float d = quant_half_value(b->d);
        for (int l = 0; l < 32; l++, y += 8) {
            int nibble = b->scales[l / 4] >> l % 4 / 2 * 4 & 15;
            int index = b->qs[l] | (b->qh[l / 4] >> l % 4 * 2 & 3) << 8;
            group(y, quant_iq2_s_grid[index], b->signs[l], scale_of(d, nibble));
        }
    }
}

/* ---- encoding ---- */

static void pack_iq2_xxs(iq2_xxs_block *b, const book_block *in) {
    b->d = in->d;
    for (int s = 0; s < 8; s++) {
        uint8_t index[4];
        uint32_t w = (uint32_t)in->scale[s] << 28;
        for (int l = 0; l < 4; l++) {
            index[l] = (uint8_t)in->index[4 * s + l];
            w |= (uint32_t)(in->signs[4 * s + l] & 127) << 7 * l;
        }
        memcpy((char *)b + 2 + 8 * s, index, 4);
        memcpy((char *)b + 6 + 8 * s, &w, 4);
    }
}

static void pack_iq2_xs(iq2_xs_block *b, const book_block *in) {
    b->d = in->d;
    for (int l = 0; l < 32; l++) b->qs[l] = (uint16_t)(in->index[l] | (in->signs[l] & 127) << 9);
    for (int s = 0; s < 8; s++) b->scales[s] = (uint8_t)(in->scale[2 * s] | in->scale[2 * s + 1] << 4);
}

static void pack_iq2_s(iq2_s_block *b, const book_block *in) {
    *b = (iq2_s_block){.d = in->d};
    for (int l = 0; l < 32; l++) {
        b->qs[l] = (uint8_t)in->index[l];
        b->qh[l / 4] |= (uint8_t)(in->index[l] >> 8 << l % 4 * 2);
        b->signs[l] = in->signs[l];
    }
    for (int s = 0; s < 8; s++) b->scales[s] = (uint8_t)(in->scale[2 * s] | in->scale[2 * s + 1] << 4);
}

BOOK_ENCODE(iq2_xxs, quant_iq2_xxs_grid, 256, 8, .per_scale = 32, .even = true, .top = 15, .add = 0.125f, .mul = 0.25f, .typical = 23)
BOOK_ENCODE(iq2_xs, quant_iq2_xs_grid, 512, 8, .per_scale = 16, .even = true, .top = 15, .add = 0.125f, .mul = 0.25f, .typical = 23)
BOOK_ENCODE(iq2_s, quant_iq2_s_grid, 1024, 8, .per_scale = 16, .even = false, .top = 15, .add = 0.125f, .mul = 0.25f, .typical = 23)

QUANT_FORMAT(IQ2_XXS, "iq2_xxs", decode_iq2_xxs, encode_iq2_xxs);
QUANT_FORMAT(IQ2_XS, "iq2_xs", decode_iq2_xs, encode_iq2_xs);
QUANT_FORMAT(IQ2_S, "iq2_s", decode_iq2_s, encode_iq2_s);
