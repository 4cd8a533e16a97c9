/* unpack.c: blocks of 32 columns out of the formats with plain levels. Four bytes are handled as one word:
 * word g of `u` is k-group g, columns 4g … 4g + 3. */
#include "kernel/unpack.h"

#include <string.h>

static const uint32_t low4 = 0x0f0f0f0fu, low2 = 0x03030303u, low1 = 0x01010101u;

static uint32_t word(const uint8_t *p, int i) {
    uint32_t w;
    memcpy(&w, p + 4 * i, 4);
    return w;
}

/* Bit j of a nibble to byte j. */
static uint32_t spread(uint32_t nibble) { return (nibble & 15) * 0x00204081u & low1; }

/* 16 bytes of nibbles: columns 0..15 low, 16..31 high. */
static void nibbles(uint32_t u[8], const uint8_t *qs) {
    for (int g = 0; g < 4; g++) {
        u[g] = word(qs, g) & low4;
        u[g + 4] = word(qs, g) >> 4 & low4;
    }
}

static void fifth_bits(uint32_t u[8], const uint8_t *qh) {
    for (int g = 0; g < 8; g++) u[g] |= spread(word(qh, 0) >> 4 * g) << 4;
}

UNPACK(q4_0) {
    const q4_0_block *b = (const q4_0_block *)row + block;
    nibbles(out->u, b->qs);
    out->d = b->d;
}

/* Kept weights of a 2:4 block, and their places. Of two in one place the second counts: the first becomes `zero`. */
static void kept(uint32_t u[8], const uint8_t at[4], uint8_t level[16], uint8_t zero) {
    for (int k = 0; k < 16; k += 2) {
        uint8_t places = (uint8_t)(at[k / 4] >> k % 4 * 2);
        if ((places & 3) == (places >> 2 & 3)) level[k] = zero;
    }
    memcpy(u, level, 16);
    memcpy(u + 4, at, 4);
}

UNPACK(q4_0_24) {
    const q4_0_24_block *b = (const q4_0_24_block *)row + block;
    uint8_t level[16];
    for (int k = 0; k < 16; k++) level[k] = b->qs[k % 8] >> k / 8 * 4 & 15;
    kept(out->u, b->at, level, 8);
    out->d = b->d;
}

UNPACK(q8_0_24) {
    const q8_0_24_block *b = (const q8_0_24_block *)row + block;
    uint8_t level[16];
    for (int k = 0; k < 16; k++) level[k] = (uint8_t)b->qs[k] ^ 0x80;
    kept(out->u, b->at, level, 0x80);
    out->d = b->d;
}

UNPACK(q4_1) {
    const q4_1_block *b = (const q4_1_block *)row + block;
    nibbles(out->u, b->qs);
    out->d = b->d;
    out->m = b->m;
}

UNPACK(q5_0) {
    const q5_0_block *b = (const q5_0_block *)row + block;
    nibbles(out->u, b->qs);
    fifth_bits(out->u, b->qh);
    out->d = b->d;
}

UNPACK(q5_1) {
    const q5_1_block *b = (const q5_1_block *)row + block;
    nibbles(out->u, b->qs);
    fifth_bits(out->u, b->qh);
    out->d = b->d;
    out->m = b->m;
}

UNPACK(q8_0) {
    const q8_0_block *b = (const q8_0_block *)row + block;
    for (int g = 0; g < 8; g++) out->u[g] = word((const uint8_t *)b->qs, g) ^ 0x80808080u;
    out->d = b->d;
}

UNPACK(q2_k) {
    const q2_k_block *b = (const q2_k_block *)row + block / 8;
    size_t s = block % 8;
    for (int g = 0; g < 8; g++) out->u[g] = word(b->qs + s / 4 * 32, g) >> s % 4 * 2 & low2;
    for (int i = 0; i < 2; i++) {
        out->s[i] = b->scales[2 * s + i] & 15;
        out->ms[i] = b->scales[2 * s + i] >> 4;
    }
    out->d = b->d;
    out->m = b->dmin;
}

UNPACK(q3_k) {
    const q3_k_block *b = (const q3_k_block *)row + block / 8;
    size_t s = block % 8;
    for (int g = 0; g < 8; g++)
        out->u[g] = (word(b->qs + s / 4 * 32, g) >> s % 4 * 2 & low2) | (word(b->hmask, g) >> s & low1) << 2;
    for (int i = 0; i < 2; i++) out->s[i] = (uint8_t)quant_k3_scale(b->scales, (int)(2 * s) + i);
    out->d = b->d;
}

UNPACK(q4_k) {
    const q4_k_block *b = (const q4_k_block *)row + block / 8;
    size_t s = block % 8;
    for (int g = 0; g < 8; g++) out->u[g] = word(b->qs + s / 2 * 32, g) >> s % 2 * 4 & low4;
    quant_k4_scale(b->scales, (int)s, &out->s[0], &out->ms[0]);
    out->d = b->d;
    out->m = b->dmin;
}

UNPACK(q5_k) {
    const q5_k_block *b = (const q5_k_block *)row + block / 8;
    size_t s = block % 8;
    for (int g = 0; g < 8; g++)
        out->u[g] = (word(b->qs + s / 2 * 32, g) >> s % 2 * 4 & low4) | (word(b->qh, g) >> s & low1) << 4;
    quant_k4_scale(b->scales, (int)s, &out->s[0], &out->ms[0]);
    out->d = b->d;
    out->m = b->dmin;
}

UNPACK(q6_k) {
    const q6_k_block *b = (const q6_k_block *)row + block / 8;
    size_t s = block % 4, half = block % 8 / 4;
    const uint8_t *ql = b->ql + half * 64 + s % 2 * 32, *qh = b->qh + half * 32;
    for (int g = 0; g < 8; g++)
        out->u[g] = (word(ql, g) >> s / 2 * 4 & low4) | (word(qh, g) >> 2 * s & low2) << 4;
    for (int i = 0; i < 2; i++) out->s[i] = (uint8_t)b->scales[2 * (block % 8) + i];
    out->d = b->d;
}

UNPACK(iq4_nl) {
    const iq4_nl_block *b = (const iq4_nl_block *)row + block;
    nibbles(out->u, b->qs);
    out->d = b->d;
}

UNPACK(iq4_xs) {
    const iq4_xs_block *b = (const iq4_xs_block *)row + block / 8;
    size_t s = block % 8;
    nibbles(out->u, b->qs + 16 * s);
    out->s[0] = (uint8_t)(((b->scales_l[s / 2] >> s % 2 * 4 & 15) | (b->scales_h >> 2 * s & 3) << 4) - 32);
    out->d = b->d;
}

UNPACK(mxfp4) {
    const mxfp4_block *b = (const mxfp4_block *)row + block;
    nibbles(out->u, b->qs);
    out->d = b->e;
}

UNPACK(nvfp4) {
    const nvfp4_block *b = (const nvfp4_block *)row + block / 2;
    size_t half = block % 2 * 2;
    for (int i = 0; i < 2; i++) /* 8 bytes hold 16 columns: the first eight low, the rest high */
        for (int g = 0; g < 2; g++) {
            out->u[4 * i + g] = word(b->qs + 8 * (half + i), g) & low4;
            out->u[4 * i + g + 2] = word(b->qs + 8 * (half + i), g) >> 4 & low4;
        }
    out->d = quant_f32_to_f16(quant_ue4m3_half(b->d[half]));
    out->m = quant_f32_to_f16(quant_ue4m3_half(b->d[half + 1]));
}

UNPACK(tq1_0) {
    const tq1_0_block *b = (const tq1_0_block *)row + block / 8;
    uint8_t t[32];
    for (size_t i = 0; i < 32; i++) {
        size_t j = block % 8 * 32 + i; /* 160 trits in qs[0..31], 80 in qs[32..47], 16 in qh */
        if (j < 160) t[i] = (uint8_t)quant_trit(b->qs[j % 32], j / 32);
        else if (j < 240) t[i] = (uint8_t)quant_trit(b->qs[32 + j % 16], (j - 160) / 16);
        else t[i] = (uint8_t)quant_trit(b->qh[j % 4], (j - 240) / 4);
    }
    for (int g = 0; g < 8; g++) out->u[g] = word(t, g);
    out->d = b->d;
}

UNPACK(tq1_192) {
    const tq1_192_block *b = (const tq1_192_block *)row + block / 6;
    uint8_t t[32];
    for (size_t i = 0; i < 32; i++) t[i] = (uint8_t)quant_trit(b->qs[(block % 6 * 32 + i) % 39], (block % 6 * 32 + i) / 39);
    for (int g = 0; g < 8; g++) out->u[g] = word(t, g);
    out->d = b->d;
}

UNPACK(tq2_0) {
    const tq2_0_block *b = (const tq2_0_block *)row + block / 8;
    size_t s = block % 8;
    for (int g = 0; g < 8; g++) out->u[g] = word(b->qs + s / 4 * 32, g) >> s % 4 * 2 & low2;
    out->d = b->d;
}

UNPACK(q1_0) {
    const q1_0_block *b = (const q1_0_block *)row + block / 4;
    uint32_t bits = word(b->qs, (int)(block % 4));
    for (int g = 0; g < 8; g++) out->u[g] = spread(bits >> 4 * g) << 1;
    out->d = b->d;
}

/* Pairs of bits: a byte holds the four columns of a k-group. */
static void pairs(uint32_t u[8], const uint8_t *qs) {
    for (int g = 0; g < 8; g++) {
        uint32_t q = qs[g];
        u[g] = (q & 3) | (q >> 2 & 3) << 8 | (q >> 4 & 3) << 16 | q >> 6 << 24;
    }
}

UNPACK(q2_0) {
    const q2_0_block *b = (const q2_0_block *)row + block / 2;
    pairs(out->u, b->qs + block % 2 * 8);
    out->d = b->d;
}

/* Groups of 96: three blocks each. */
UNPACK(q4_96) {
    const q4_96_block *b = (const q4_96_block *)row + block / 3;
    nibbles(out->u, b->qs + block % 3 * 16);
    out->d = b->d;
}

UNPACK(q3_96) {
    const q3_96_block *b = (const q3_96_block *)row + block / 3;
    pairs(out->u, b->qs + block % 3 * 8);
    for (int g = 0; g < 8; g++) out->u[g] |= spread(word(b->qh + block % 3 * 4, 0) >> 4 * g) << 2;
    out->d = b->d;
}

UNPACK(q2_96) {
    const q2_96_block *b = (const q2_96_block *)row + block / 3;
    pairs(out->u, b->qs + block % 3 * 8);
    out->d = b->d;
}
