/* pack.c: from the file's rows to panels (packed.h). One unpacker per format gives a block of 32 columns as
 * levels and scales; everything else is common to all. */
#include "kernel/packed.h"
#include "kernel/unpack.h"

#include <string.h>

static const kern_packing packings[QUANT_TYPE_MAX] = {
    [QUANT_Q4_0] = {BITS_4, SCALES_F16, 8, 1, 1, NULL, unpack_q4_0, pack_q4_0},
    [QUANT_Q4_1] = {BITS_4, SCALES_F16_MIN, 0, 1, 1, NULL, unpack_q4_1, pack_q4_1},
    [QUANT_Q5_0] = {BITS_5, SCALES_F16, 16, 1, 1, NULL, unpack_q5_0, pack_q5_0},
    [QUANT_Q5_1] = {BITS_5, SCALES_F16_MIN, 0, 1, 1, NULL, unpack_q5_1, pack_q5_1},
    [QUANT_Q8_0] = {BITS_8, SCALES_F16, 128, 1, 1, NULL, unpack_q8_0, pack_q8_0},
    [QUANT_Q2_K] = {BITS_2, SCALES_K_MIN16, 0, 1, 1, NULL, unpack_q2_k, pack_q2_k},
    [QUANT_Q3_K] = {BITS_3, SCALES_K_16, 4, 1, 1, NULL, unpack_q3_k, pack_q3_k},
    [QUANT_Q4_K] = {BITS_4, SCALES_K_MIN, 0, 1, 1, NULL, unpack_q4_k, pack_q4_k},
    [QUANT_Q5_K] = {BITS_5, SCALES_K_MIN, 0, 1, 1, NULL, unpack_q5_k, pack_q5_k},
    [QUANT_Q6_K] = {BITS_6, SCALES_K_16, 32, 1, 1, NULL, unpack_q6_k, pack_q6_k},
    [QUANT_IQ4_NL] = {BITS_4T, SCALES_F16, 128, 1, 1, quant_iq4_values, unpack_iq4_nl, pack_q4_0},
    [QUANT_IQ4_XS] = {BITS_4T, SCALES_K, 128, 1, 1, quant_iq4_values, unpack_iq4_xs, pack_iq4_xs},
    [QUANT_MXFP4] = {BITS_4T, SCALES_E8M0, 128, 1, 1, quant_e2m1_values, unpack_mxfp4, pack_mxfp4},
    [QUANT_NVFP4] = {BITS_4T, SCALES_F16_16, 128, 1, 1, quant_e2m1_values, unpack_nvfp4, NULL},
    [QUANT_IQ2_XXS] = {BITS_4T, SCALES_K, 128, 1, 0.125f, unpack_iq2_levels, unpack_iq2_xxs, NULL},
    [QUANT_IQ2_XS] = {BITS_4T, SCALES_K_16, 128, 1, 0.125f, unpack_iq2_levels, unpack_iq2_xs, NULL},
    [QUANT_IQ2_S] = {BITS_4T, SCALES_K_16, 128, 1, 0.125f, unpack_iq2_levels, unpack_iq2_s, NULL},
    [QUANT_IQ3_XXS] = {BITS_4T, SCALES_K, 128, 1, 0.25f, unpack_iq3_xxs_levels, unpack_iq3_xxs, NULL},
    [QUANT_IQ3_S] = {BITS_4T, SCALES_K, 128, 1, 1, unpack_iq3_s_levels, unpack_iq3_s, NULL},
    [QUANT_IQ1_S] = {BITS_4T, SCALES_K, 128, 1, 0.125f, unpack_iq1_levels, unpack_iq1_s, NULL},
    [QUANT_IQ1_M] = {BITS_4T, SCALES_K_16, 128, 1, 0.125f, unpack_iq1_levels, unpack_iq1_m, NULL},
    [QUANT_TQ1_0] = {BITS_2, SCALES_F16, 1, 8, 1, NULL, unpack_tq1_0, NULL},
    [QUANT_TQ2_0] = {BITS_2, SCALES_F16, 1, 8, 1, NULL, unpack_tq2_0, pack_tq2_0},
    [QUANT_Q1_0] = {BITS_1, SCALES_F16, 1, 4, 1, NULL, unpack_q1_0, pack_q1_0},
    [QUANT_Q2_0] = {BITS_2, SCALES_F16, 1, 2, 1, NULL, unpack_q2_0, pack_q2_0},
    [QUANT_Q4_96] = {BITS_4, SCALES_F16, 8, 3, 1, NULL, unpack_q4_96, pack_q4_96},
    [QUANT_Q3_96] = {BITS_3, SCALES_F16, 4, 3, 1, NULL, unpack_q3_96, pack_q3_96},
    [QUANT_Q2_96] = {BITS_2X, SCALES_F16, 3, 3, 1, NULL, unpack_q2_96, pack_q2_96},
    [QUANT_TQ1_192] = {BITS_2, SCALES_F16, 1, 6, 1, NULL, unpack_tq1_192, NULL},
    [QUANT_Q4_0_24] = {BITS_4_24, SCALES_F16, 8, 1, 1, NULL, unpack_q4_0_24, NULL},
    [QUANT_Q8_0_24] = {BITS_8_24, SCALES_F16, 128, 1, 1, NULL, unpack_q8_0_24, NULL},
};

const kern_packing *kern_packing_of(quant_type t) {
    return (unsigned)t < QUANT_TYPE_MAX && packings[t].unpack ? &packings[t] : NULL;
}

size_t kern_panel_bytes(const kern_packing *p, size_t k) {
    return kern_levels_at(p, kern_acts_blocks(k) - 1) + kern_level_bytes(p->bits);
}

enum { LOW = 0x0f0f0f0f, PAIR = 0x03030303, BIT = 0x01010101 };

/* dst[r] |= the bits of mask of each k-group, moved to their place: group g of n to bit `step` g */
static void put_bits(uint32_t dst[KERN_PANEL], const uint32_t (*u)[KERN_PANEL], int n, int from, uint32_t mask,
                     int step) {
    for (int r = 0; r < KERN_PANEL; r++) dst[r] = 0;
    for (int g = 0; g < n; g++)
        for (int r = 0; r < KERN_PANEL; r++) dst[r] |= (u[g][r] >> from & mask) << step * g;
}

/* A 2:4 block's plane of places: pair i of byte h of `at` to pair h of byte i. */
static void put_places(uint32_t dst[KERN_PANEL], const uint32_t at[KERN_PANEL]) {
    for (int r = 0; r < KERN_PANEL; r++) {
        dst[r] = 0;
        for (int h = 0; h < 4; h++)
            for (int i = 0; i < 4; i++) dst[r] |= (at[r] >> (8 * h + 2 * i) & 3) << (8 * i + 2 * h);
    }
}

/* The planes of one block, 16 words each. */
static void put_levels(uint32_t (*planes)[KERN_PANEL], unsigned bits, const uint32_t (*u)[KERN_PANEL]) {
    switch (bits) {
    case BITS_8: memcpy(planes, u, 8 * sizeof *u); return;
    case BITS_1: put_bits(planes[0], u, 8, 1, BIT, 1); return;
    case BITS_2:
    case BITS_2X:
    case BITS_3:
        for (int h = 0; h < 2; h++) put_bits(planes[h], u + 4 * h, 4, 0, PAIR, 2);
        if (bits == BITS_3) put_bits(planes[2], u, 8, 2, BIT, 1);
        return;
    case BITS_4_24:
        for (int h = 0; h < 2; h++)
            for (int r = 0; r < KERN_PANEL; r++) planes[h][r] = (u[h][r] & LOW) | (u[h + 2][r] & LOW) << 4;
        put_places(planes[2], u[4]);
        return;
    case BITS_8_24:
        memcpy(planes, u, 4 * sizeof *u);
        put_places(planes[4], u[4]);
        return;
    default: break;
    }
    for (int g = 0; g < 4; g++)
        for (int r = 0; r < KERN_PANEL; r++) planes[g][r] = (u[g][r] & LOW) | (u[g + 4][r] & LOW) << 4;
    if (bits == BITS_5) put_bits(planes[4], u, 8, 4, BIT, 1);
    if (bits == BITS_6)
        for (int h = 0; h < 2; h++) put_bits(planes[4 + h], u + 4 * h, 4, 4, PAIR, 2);
}

/* The scales of block b; s: the beginning of its group. */
static void put_scales(unsigned char *s, const kern_packing *p, size_t b, const kern_block *k) {
    enum { HALVES = 2 * KERN_PANEL };
    b %= kern_group_blocks(p->scales, p->span);
    switch (p->scales) {
    case SCALES_F16:
        if (b % p->span == 0) memcpy(s + b / p->span * HALVES, k->d, HALVES);
        return;
    case SCALES_F16_MIN:
    case SCALES_F16_16:
        memcpy(s, k->d, HALVES);
        memcpy(s + HALVES, k->m, HALVES);
        return;
    case SCALES_E8M0:
        for (int r = 0; r < KERN_PANEL; r++) s[b * KERN_PANEL + (size_t)r] = (unsigned char)k->d[r];
        return;
    default: break;
    }
    bool dmin = p->scales == SCALES_K_MIN || p->scales == SCALES_K_MIN16;
    if (b == 0) memcpy(s, k->d, HALVES);
    if (b == 0 && dmin) memcpy(s + HALVES, k->m, HALVES);
    s += (dmin ? 2 : 1) * HALVES + b * (p->scales == SCALES_K ? KERN_PANEL : HALVES);
    if (p->scales == SCALES_K_MIN16) {
        for (int i = 0; i < 2; i++)
            for (int r = 0; r < KERN_PANEL; r++) *s++ = (unsigned char)(k->s[i][r] | k->ms[i][r] << 4);
        return;
    }
    memcpy(s, k->s[0], KERN_PANEL);
    if (p->scales != SCALES_K) memcpy(s + KERN_PANEL, p->scales == SCALES_K_MIN ? k->ms[0] : k->s[1], KERN_PANEL);
}

void kern_pack_panel(const kern_packing *p, void *dst, const unsigned char *const rows[16], size_t k) {
    if (p->pack) p->pack(dst, rows, k);
    else kern_pack_panel_ref(p, dst, rows, k);
}

void kern_pack_panel_ref(const kern_packing *p, void *dst, const unsigned char *const rows[16], size_t k) {
    unsigned char *panel = dst;
    kern_block block;
    for (size_t b = 0; b < k / KERN_BLOCK; b++) {
        p->unpack(rows, b, &block);
        put_levels((uint32_t(*)[KERN_PANEL])(void *)(panel + kern_levels_at(p, b)), p->bits,
                   (const uint32_t(*)[KERN_PANEL])block.u);
        put_scales(panel + kern_group_at(p, b), p, b, &block);
    }
}
