/* pack.c: from the file's rows to panels (packed.h). One unpacker per format gives a block of 32 columns as
 * levels and scales; everything else is common to all. */
#include "kernel/packed.h"
#include "kernel/unpack.h"

#include <string.h>

static const kern_packing packings[QUANT_TYPE_MAX] = {
    [QUANT_Q4_0] = {BITS_4, SCALES_F16, 3, 0, 1, NULL, unpack_q4_0},
    [QUANT_Q4_1] = {BITS_4, SCALES_F16_MIN, KERN_NO_OFFSET, 0, 1, NULL, unpack_q4_1},
    [QUANT_Q5_0] = {BITS_5, SCALES_F16, 4, 0, 1, NULL, unpack_q5_0},
    [QUANT_Q5_1] = {BITS_5, SCALES_F16_MIN, KERN_NO_OFFSET, 0, 1, NULL, unpack_q5_1},
    [QUANT_Q8_0] = {BITS_8, SCALES_F16, 7, 0, 1, NULL, unpack_q8_0},
    [QUANT_Q2_K] = {BITS_2, SCALES_K_MIN16, KERN_NO_OFFSET, 0, 1, NULL, unpack_q2_k},
    [QUANT_Q3_K] = {BITS_3, SCALES_K_16, 2, 0, 1, NULL, unpack_q3_k},
    [QUANT_Q4_K] = {BITS_4, SCALES_K_MIN, KERN_NO_OFFSET, 0, 1, NULL, unpack_q4_k},
    [QUANT_Q5_K] = {BITS_5, SCALES_K_MIN, KERN_NO_OFFSET, 0, 1, NULL, unpack_q5_k},
    [QUANT_Q6_K] = {BITS_6, SCALES_K_16, 5, 0, 1, NULL, unpack_q6_k},
    [QUANT_IQ4_NL] = {BITS_4T, SCALES_F16, 7, 0, 1, quant_iq4_values, unpack_iq4_nl},
    [QUANT_IQ4_XS] = {BITS_4T, SCALES_K, 7, 0, 1, quant_iq4_values, unpack_iq4_xs},
    [QUANT_MXFP4] = {BITS_4T, SCALES_E8M0, 7, 0, 1, quant_e2m1_values, unpack_mxfp4},
    [QUANT_NVFP4] = {BITS_4T, SCALES_F16_16, 7, 0, 1, quant_e2m1_values, unpack_nvfp4},
    [QUANT_IQ2_XXS] = {BITS_4T, SCALES_K, 7, 0, 0.125f, unpack_iq2_levels, unpack_iq2_xxs},
    [QUANT_IQ2_XS] = {BITS_4T, SCALES_K_16, 7, 0, 0.125f, unpack_iq2_levels, unpack_iq2_xs},
    [QUANT_IQ2_S] = {BITS_4T, SCALES_K_16, 7, 0, 0.125f, unpack_iq2_levels, unpack_iq2_s},
    [QUANT_IQ3_XXS] = {BITS_4T, SCALES_K, 7, 0, 0.25f, unpack_iq3_xxs_levels, unpack_iq3_xxs},
    [QUANT_IQ3_S] = {BITS_4T, SCALES_K, 7, 0, 1, unpack_iq3_s_levels, unpack_iq3_s},
    [QUANT_IQ1_S] = {BITS_4T, SCALES_K, 7, 0, 0.125f, unpack_iq1_levels, unpack_iq1_s},
    [QUANT_IQ1_M] = {BITS_4T, SCALES_K_16, 7, 0, 0.125f, unpack_iq1_levels, unpack_iq1_m},
    [QUANT_TQ1_0] = {BITS_2, SCALES_F16, 0, 3, 1, NULL, unpack_tq1_0},
    [QUANT_TQ2_0] = {BITS_2, SCALES_F16, 0, 3, 1, NULL, unpack_tq2_0},
    [QUANT_Q1_0] = {BITS_1, SCALES_F16, 0, 2, 1, NULL, unpack_q1_0},
    [QUANT_Q2_0] = {BITS_2, SCALES_F16, 0, 1, 1, NULL, unpack_q2_0},
};

const kern_packing *kern_packing_of(quant_type t) {
    return (unsigned)t < QUANT_TYPE_MAX && packings[t].unpack ? &packings[t] : NULL;
}

size_t kern_panel_bytes(const kern_packing *p, size_t k) {
    return kern_levels_at(p, kern_acts_blocks(k) - 1) + kern_level_bytes(p->bits);
}

/* The planes of one block of row r: levels 4 to a word, word w of plane i at planes[16 i]. */
static void put_levels(uint32_t *planes, unsigned bits, const uint32_t u[8]) {
    uint32_t low = 0x0f0f0f0fu, bit = 0x01010101u, pair = 0x03030303u, high = 0;
    switch (bits) {
        case BITS_8:
            for (int g = 0; g < 8; g++) planes[16 * g] = u[g];
            return;
        case BITS_1:
            for (int g = 0; g < 8; g++) high |= (u[g] >> 1 & bit) << g;
            planes[0] = high;
            return;
        case BITS_2:
        case BITS_3:
            for (int h = 0; h < 2; h++) {
                const uint32_t *v = u + 4 * h;
                planes[16 * h] = (v[0] & pair) | (v[1] & pair) << 2 | (v[2] & pair) << 4 | (v[3] & pair) << 6;
            }
            if (bits == BITS_2) return;
            for (int g = 0; g < 8; g++) high |= (u[g] >> 2 & bit) << g;
            planes[32] = high;
            return;
        default: break;
    }
    for (int g = 0; g < 4; g++) planes[16 * g] = (u[g] & low) | (u[g + 4] & low) << 4;
    if (bits == BITS_5) {
        for (int g = 0; g < 8; g++) high |= (u[g] >> 4 & bit) << g;
        planes[64] = high;
    } else if (bits == BITS_6) {
        for (int h = 0; h < 2; h++) {
            high = 0;
            for (int j = 0; j < 4; j++) high |= (u[4 * h + j] >> 4 & pair) << 2 * j;
            planes[64 + 16 * h] = high;
        }
    }
}

/* The scales of block b of row r; s: the beginning of its group. */
static void put_scales(unsigned char *s, const kern_packing *p, size_t b, size_t r, const kern_block *k) {
    uint16_t *half = (uint16_t *)(void *)s;
    b %= kern_group_blocks(p->scales, p->shift);
    switch (p->scales) {
    case SCALES_F16:
        if (b % ((size_t)1 << p->shift) == 0) half[(b >> p->shift) * 16 + r] = k->d;
        return;
    case SCALES_F16_MIN:
    case SCALES_F16_16:
        half[r] = k->d;
        half[16 + r] = k->m;
        return;
    case SCALES_E8M0: s[b * 16 + r] = (unsigned char)k->d; return;
    default: break;
    }
    bool dmin = p->scales == SCALES_K_MIN || p->scales == SCALES_K_MIN16;
    if (b == 0) half[r] = k->d;
    if (b == 0 && dmin) half[16 + r] = k->m;
    s += (dmin ? 64 : 32) + b * (p->scales == SCALES_K ? 16 : 32);
    if (p->scales == SCALES_K_MIN16) {
        s[r] = (unsigned char)(k->s[0] | k->ms[0] << 4);
        s[16 + r] = (unsigned char)(k->s[1] | k->ms[1] << 4);
    } else {
        s[r] = k->s[0];
        if (p->scales == SCALES_K_MIN) s[16 + r] = k->ms[0];
        if (p->scales == SCALES_K_16) s[16 + r] = k->s[1];
    }
}

void kern_pack_panel(const kern_packing *p, void *dst, const unsigned char *const rows[16], size_t k) {
    unsigned char *panel = dst;
    for (size_t b = 0; b < k / KERN_BLOCK; b++)
        for (size_t r = 0; r < KERN_PANEL; r++) {
            kern_block block = {0};
            if (rows[r]) p->unpack(rows[r], b, &block);
            put_levels((uint32_t *)(void *)(panel + kern_levels_at(p, b)) + r, p->bits, block.u);
            put_scales(panel + kern_group_at(p, b), p, b, r, &block);
        }
}
