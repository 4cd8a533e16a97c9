/* unpack_iq.c: blocks of 32 columns out of the codebook formats. Their weights take few values (a magnitude
 * of the grid and a sign, or a trit and a shift), so they become 4-bit indices into a table of those: bit 3
 * the sign or shift, the rest the magnitude. */
#include "kernel/unpack.h"

#include <string.h>

const int8_t unpack_iq2_levels[16] = {8, 25, 43, 0, 0, 0, 0, 0, -8, -25, -43};
const int8_t unpack_iq3_xxs_levels[16] = {4,  12,  20,  28,  36,  44,  52,  62,
                                          -4, -12, -20, -28, -36, -44, -52, -62};
const int8_t unpack_iq3_s_levels[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
const int8_t unpack_iq1_levels[16] = {-7, 1, 9, 0, 0, 0, 0, 0, -9, -1, 7}; /* 8 · trit ± 1 */

static uint32_t spread(uint32_t nibble) { return (nibble & 15) * 0x00204081u & 0x01010101u; }

static uint64_t signs_of(uint8_t signs) {
    return (uint64_t)spread(signs >> 4u) << 35 | (uint64_t)spread(signs) << 3;
}

static void put8(row_block *out, int l, uint64_t index) {
    out->u[2 * l] = (uint32_t)index;
    out->u[2 * l + 1] = (uint32_t)(index >> 32);
}

/* Magnitudes 8, 25, 43 to 0, 1, 2. */
static uint64_t iq2_index(uint64_t grid) { return (grid - 0x0808080808080808u) >> 4 & 0x0303030303030303u; }

UNPACK(iq2_xxs) {
    const iq2_xxs_block *b = (const iq2_xxs_block *)row + block / 8;
    const unsigned char *p = (const unsigned char *)b + 2 + 8 * (block % 8);
    uint32_t w;
    memcpy(&w, p + 4, 4);
    for (int l = 0; l < 4; l++)
        put8(out, l, iq2_index(quant_iq2_xxs_grid[p[l]]) | signs_of(quant_signs8(w >> 7 * l)));
    out->s[0] = (uint8_t)(2 * (w >> 28) + 1);
    out->d = b->d;
}

static void scales_of_nibbles(row_block *out, uint8_t scales) {
    out->s[0] = (uint8_t)(2 * (scales & 15) + 1);
    out->s[1] = (uint8_t)(2 * (scales >> 4) + 1);
}

UNPACK(iq2_xs) {
    const iq2_xs_block *b = (const iq2_xs_block *)row + block / 8;
    for (int l = 0; l < 4; l++) {
        uint16_t q = b->qs[block % 8 * 4 + l];
        put8(out, l, iq2_index(quant_iq2_xs_grid[q & 511]) | signs_of(quant_signs8(q >> 9u)));
    }
    scales_of_nibbles(out, b->scales[block % 8]);
    out->d = b->d;
}

UNPACK(iq2_s) {
    const iq2_s_block *b = (const iq2_s_block *)row + block / 8;
    for (int l = 0; l < 4; l++) {
        size_t i = block % 8 * 4 + (size_t)l;
        int index = b->qs[i] | (b->qh[i / 4] >> 2 * l & 3) << 8;
        put8(out, l, iq2_index(quant_iq2_s_grid[index]) | signs_of(b->signs[i]));
    }
    scales_of_nibbles(out, b->scales[block % 8]);
    out->d = b->d;
}

UNPACK(iq3_xxs) {
    const iq3_xxs_block *b = (const iq3_xxs_block *)row + block / 8;
    size_t s = block % 8;
    uint32_t w;
    memcpy(&w, b->scales_signs + 4 * s, 4);
    for (int l = 0; l < 4; l++) {
        const uint8_t *q = b->qs + 8 * s + 2 * l;
        uint64_t grid = (uint64_t)quant_iq3_xxs_grid[q[1]] << 32 | quant_iq3_xxs_grid[q[0]];
        put8(out, l, (grid >> 3 & 0x0707070707070707u) | signs_of(quant_signs8(w >> 7 * l)));
    }
    out->s[0] = (uint8_t)(2 * (w >> 28) + 1);
    out->d = b->d;
}

UNPACK(iq3_s) {
    const iq3_s_block *b = (const iq3_s_block *)row + block / 8;
    size_t s = block % 8;
    for (int l = 0; l < 4; l++) {
        const uint8_t *q = b->qs + 8 * s + 2 * l;
        int high = b->qh[s] >> 2 * l;
        uint64_t grid = (uint64_t)quant_iq3_s_grid[q[1] | (high & 2) << 7] << 32 |
                        quant_iq3_s_grid[q[0] | (high & 1) << 8];
        put8(out, l, (grid >> 1 & 0x0707070707070707u) | signs_of(b->signs[4 * s + (size_t)l]));
    }
    out->s[0] = (uint8_t)(2 * (b->scales[s / 2] >> s % 2 * 4 & 15) + 1);
    out->d = b->d;
}

/* Trits -1, 0, 1 to 0, 1, 2; bit 3 set where the shift is down. */
static uint64_t iq1_index(uint64_t grid, bool down) {
    uint64_t trits = ((grid & 0x0303030303030303u) + 0x0101010101010101u) & 0x0303030303030303u;
    return trits | (down ? 0x0808080808080808u : 0);
}

UNPACK(iq1_s) {
    const iq1_s_block *b = (const iq1_s_block *)row + block / 8;
    size_t s = block % 8;
    int h = b->qh[s];
    for (int l = 0; l < 4; l++)
        put8(out, l, iq1_index(quant_iq1_grid[b->qs[4 * s + (size_t)l] | (h >> 3 * l & 7) << 8], h & 0x8000));
    out->s[0] = (uint8_t)(2 * (h >> 12 & 7) + 1);
    out->d = b->d;
}

UNPACK(iq1_m) {
    const iq1_m_block *b = (const iq1_m_block *)row + block / 8;
    uint16_t sc[4];
    memcpy(sc, b->scales, 8);
    size_t s = block % 8;
    for (int l = 0; l < 4; l++) {
        int h = b->qh[2 * s + (size_t)l / 2] >> l % 2 * 4;
        put8(out, l, iq1_index(quant_iq1_grid[b->qs[4 * s + (size_t)l] | (h & 7) << 8], h & 8));
    }
    for (int i = 0; i < 2; i++) { /* 3-bit scales, four in the low 12 bits of a word */
        size_t sixteenth = 2 * s + (size_t)i;
        out->s[i] = (uint8_t)(2 * (sc[sixteenth / 4] >> sixteenth % 4 * 3 & 7) + 1);
    }
    out->d = (uint16_t)(sc[0] >> 12 | sc[1] >> 12 << 4 | sc[2] >> 12 << 8 | sc[3] >> 12 << 12);
}
