/* panel_row.c: one row back out of its panel, so that nobody needs the file's copy once weights are packed. */
#include "kernel/generic/ref.h"
#include "quant/layout.h"

#include <string.h>

/* Where in a panel's planes the levels of one row are: word i of plane j. */
static uint32_t plane(const unsigned char *row, size_t j) {
    uint32_t w;
    memcpy(&w, row + 4 * KERN_PANEL * j, sizeof w);
    return w;
}

/* The same of a 2:4 block, with `zero` where nothing is kept. */
static void levels_24_of(uint32_t u[8], const unsigned char *row, bool wide) {
    uint8_t level[KERN_BLOCK];
    memset(level, wide ? 0x80 : 8, sizeof level);
    const uint32_t at = plane(row, wide ? 4 : 2);
    for (size_t k = 0; k < KERN_BLOCK / 2; k++) {
        const size_t h = k / 4, bit = 8 * (k % 4);
        const uint32_t word = wide ? plane(row, h) : plane(row, h % 2) >> h / 2 * 4 & 0x0f0f0f0f;
        level[k / 2 * 4 + (at >> (bit + 2 * h) & 3)] = (uint8_t)(word >> bit);
    }
    memcpy(u, level, sizeof level);
}

/* u[g]: the four levels of k-group g. row: a block's planes, at this row's lane. */
static void levels_of(uint32_t u[8], const unsigned char *row, unsigned bits) {
    if (kern_bits_24(bits)) {
        levels_24_of(u, row, bits == BITS_8_24);
        return;
    }
    const uint32_t low = 0x0f0f0f0f, pair = 0x03030303, bit = 0x01010101;
    for (size_t g = 0; g < 8; g++) {
        switch (bits) {
        case BITS_8: u[g] = plane(row, g); break;
        case BITS_1: u[g] = (plane(row, 0) >> g & bit) << 1; break;
        case BITS_2X: u[g] = (plane(row, g / 4) >> 2 * (g % 4) & pair) << 1; break;
        case BITS_2:
        case BITS_3: u[g] = plane(row, g / 4) >> 2 * (g % 4) & pair; break;
        default: u[g] = plane(row, g % 4) >> g / 4 * 4 & low; break;
        }
        if (bits == BITS_3) u[g] |= (plane(row, 2) >> g & bit) << 2;
        if (bits == BITS_5) u[g] |= (plane(row, 4) >> g & bit) << 4;
        if (bits == BITS_6) u[g] |= (plane(row, 4 + g / 4) >> 2 * (g % 4) & pair) << 4;
    }
}

void kern_panel_row(const kern_packing *p, const void *panel, size_t r, size_t k, float *dst) {
    const int offset = p->offset;
    const bool has_min = kern_scales_min(p->scales);
    const size_t per_group = kern_group_blocks(p->scales, p->span);
    for (size_t b = 0; b < k / KERN_BLOCK; b++, dst += KERN_BLOCK) {
        uint32_t words[8];
        uint8_t u[KERN_BLOCK];
        float scale[2], min[2];
        levels_of(words, (const unsigned char *)panel + kern_levels_at(p, b) + 4 * r, p->bits);
        memcpy(u, words, sizeof u);
        kern_panel_scales_ref(p, panel, b, r, scale, min);
        if (p->scales == SCALES_E8M0) /* products take the smallest exponent for 0, the format does not */
            scale[0] = scale[1] = quant_e8m0_half(((const unsigned char *)panel)[kern_group_at(p, b) + b % per_group * KERN_PANEL + r]);
        for (size_t c = 0; c < KERN_BLOCK; c++) {
            int level = p->bits == BITS_4T ? p->levels[u[c]] : u[c] - offset;
            float v = (float)level * scale[c / 16];
            dst[c] = has_min ? v + min[c / 16] : v;
        }
    }
}
