/* layout.h: the blocks of every format, byte for byte as they lie in a GGUF file.
 *
 * All are packed: mapped tensors may start at any address, and no padding may creep in. `d` (and `dmin`) are
 * IEEE halves unless said. Where a block is split in sub-blocks of its own scale, the comment says how.
 * Little-endian machines only, as everywhere in mote. */
#ifndef MOTE_QUANT_LAYOUT_H
#define MOTE_QUANT_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define QUANT_K 256 /* weights in a super-block */

#define BLOCK(name, bytes, ...)                                                                    \
    typedef struct __attribute__((packed)) name##_block {                                          \
        __VA_ARGS__                                                                                \
    } name##_block;                                                                                \
    _Static_assert(sizeof(name##_block) == (bytes), #name " block size")

/* 32 weights. Nibbles: weight j in the low half of qs[j], weight j + 16 in its high half. */
BLOCK(q4_0, 18, uint16_t d; uint8_t qs[16];);             /* d (q - 8) */
BLOCK(q4_1, 20, uint16_t d; uint16_t m; uint8_t qs[16];); /* d q + m */
/* Bit j of the 32-bit qh is the fifth bit of weight j. */
BLOCK(q5_0, 22, uint16_t d; uint8_t qh[4]; uint8_t qs[16];); /* d (q - 16) */
BLOCK(q5_1, 24, uint16_t d; uint16_t m; uint8_t qh[4]; uint8_t qs[16];);
BLOCK(q8_0, 34, uint16_t d; int8_t qs[32];); /* d q */

/* 16 sub-blocks of 16: scales[i] = min << 4 | scale. Of each 128 weights, weight 32 s + l lies in bits 2s and
 * 2s + 1 of qs[l]. */
BLOCK(q2_k, 84, uint8_t scales[16]; uint8_t qs[64]; uint16_t d; uint16_t dmin;);
/* As q2_k for the low two bits; bit b of hmask[l] is the third bit of weight 32 b + l (clear means -4).
 * Sixteen 6-bit scales (+32): low nibbles in bytes 0..7, high pairs of bits in bytes 8..11. */
BLOCK(q3_k, 110, uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; uint16_t d;);
/* 8 sub-blocks of 32, 6-bit scale and min each (quant_k4_scale); of each 64 weights the first 32 are the
 * low nibbles of 32 bytes, the rest the high ones. */
BLOCK(q4_k, 144, uint16_t d; uint16_t dmin; uint8_t scales[12]; uint8_t qs[128];);
/* As q4_k; bit s of qh[l] is the fifth bit of weight 32 s + l. */
BLOCK(q5_k, 176, uint16_t d; uint16_t dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128];);
/* 16 sub-blocks of 16. Of each 128 weights, weight 32 s + l has its low nibble in ql[l + 32 (s & 1)] (in the
 * low half for s < 2) and its two high bits at bits 2s of qh[l]. */
BLOCK(q6_k, 210, uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d;);

/* Codebook formats: groups of 8 (IQ3: 4) weights are an index into a grid of magnitudes, plus signs;
 * sub-blocks of 32 or 16 have 3- or 4-bit scales. iq2.c, iq3.c and iq1.c tell where the bits lie. */
BLOCK(iq2_xxs, 66, uint16_t d; uint16_t qs[32];);
BLOCK(iq2_xs, 74, uint16_t d; uint16_t qs[32]; uint8_t scales[8];);
BLOCK(iq2_s, 82, uint16_t d; uint8_t qs[32]; uint8_t signs[32]; uint8_t qh[8]; uint8_t scales[8];);
BLOCK(iq3_xxs, 98, uint16_t d; uint8_t qs[64]; uint8_t scales_signs[32];);
BLOCK(iq3_s, 110, uint16_t d; uint8_t qs[64]; uint8_t qh[8]; uint8_t signs[32]; uint8_t scales[4];);
BLOCK(iq1_s, 50, uint16_t d; uint8_t qs[32]; uint16_t qh[8];);
BLOCK(iq1_m, 56, uint8_t qs[32]; uint8_t qh[16]; uint8_t scales[8];); /* d: the top nibbles of scales */

/* Nibbles are indices into quant_iq4_values. */
BLOCK(iq4_nl, 18, uint16_t d; uint8_t qs[16];);
/* 8 sub-blocks of 32 with 6-bit scales (+32). */
BLOCK(iq4_xs, 136, uint16_t d; uint16_t scales_h; uint8_t scales_l[4]; uint8_t qs[128];);

/* Trits {-1, 0, 1}: five to a byte as a fraction of 3^5 in qs, four in qh. */
BLOCK(tq1_0, 54, uint8_t qs[48]; uint8_t qh[4]; uint16_t d;);
BLOCK(tq2_0, 66, uint8_t qs[64]; uint16_t d;);

/* Nibbles are E2M1; the scale is E8M0 for 32 weights, UE4M3 for each 16. */
BLOCK(mxfp4, 17, uint8_t e; uint8_t qs[16];);
BLOCK(nvfp4, 36, uint8_t d[4]; uint8_t qs[32];);

BLOCK(q1_0, 18, uint16_t d; uint8_t qs[16];); /* 128 weights: bit set d, clear -d */
BLOCK(q2_0, 18, uint16_t d; uint8_t qs[16];); /* 64 weights: d (q - 1) */

/* 2:4: of each four neighbours two are 0. Of 32 weights the 16 others, two for each four, in order; bits 2k and 2k + 1 of the 32-bit `at`
 * say which of its four weight k is. Nibbles: weight k in the low half of qs[k], weight k + 8 in its high half. mote's own. */
BLOCK(q4_0_24, 14, uint16_t d; uint8_t at[4]; uint8_t qs[8];); /* d (q - 8) */
BLOCK(q8_0_24, 22, uint16_t d; uint8_t at[4]; int8_t qs[16];); /* d q */

/* For rows that 256 does not divide, such as 576: groups of 96, three times 32 weights. Nibbles and pairs of 32 weights lie as in q4_0
 * and q2_0; weight j has its third bit at bit j % 8 of qh[j / 8]. Trits: five to a byte as in tq1_0, weight 39 k + m in digit k
 * of qs[m]. mote's own. */
BLOCK(q4_96, 50, uint16_t d; uint8_t qs[48];);                 /* d (q - 8) */
BLOCK(q3_96, 38, uint16_t d; uint8_t qh[12]; uint8_t qs[24];); /* d (q - 4) */
BLOCK(q2_96, 26, uint16_t d; uint8_t qs[24];);                 /* d (2 q - 3) */
BLOCK(tq1_192, 41, uint16_t d; uint8_t qs[39];);               /* d (q - 1) */

#undef BLOCK

/* Five trits (0, 1, 2) in a byte, as the fraction of 3^5 scaled to 256 and rounded up: times 3^k (mod 256) and then 3, trit k comes out
 * at the top. Packed are q[0], q[stride], … of the first `count`; the others are 0. */
static inline int quant_trit(uint8_t packed, size_t k) {
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    return (uint8_t)(packed * pow3[k]) * 3 >> 8;
}
static inline uint8_t quant_trits(const uint8_t *q, int count, int stride) {
    int v = 0;
    for (int k = 0; k < 5; k++) v = 3 * v + (k < count ? q[k * stride] : 0);
    return (uint8_t)((v * 256 + 242) / 243);
}
/* The byte m of tq1_192's 39: the last three have four trits. */
static inline uint8_t quant_trits_192(const uint8_t q[192], int m) { return quant_trits(q + m, m < 192 - 4 * 39 ? 5 : 4, 39); }

/* Scale and min of sub-block j (0..7) of q4_k and q5_k: 4 + 4 whole six-bit values in the low bits of bytes
 * 0..7; the other 4 + 4 have their low nibbles in bytes 8..11 and their top pairs above the first ones. */
static inline void quant_k4_scale(const uint8_t s[12], int j, uint8_t *scale, uint8_t *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *min = (uint8_t)(s[j + 4] >> 4 | (s[j] >> 6) << 4);
    }
}

/* Scale of sub-block j (0..15) of q3_k, -32..31. */
static inline int quant_k3_scale(const uint8_t s[12], int j) {
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    return (low | (s[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32;
}

/* The 16 levels of IQ4_NL and IQ4_XS, ascending, and those of E2M1 times two (sign in bit 3). */
extern const int8_t quant_iq4_values[16];
extern const int8_t quant_e2m1_values[16];

/* Codebooks: entry i is eight (IQ3: four) bytes, the first weight in the lowest; IQ1's are trits -1, 0, 1. */
extern const uint64_t quant_iq2_xxs_grid[256], quant_iq2_xs_grid[512], quant_iq2_s_grid[1024];
extern const uint32_t quant_iq3_xxs_grid[256], quant_iq3_s_grid[512];
extern const uint64_t quant_iq1_grid[2048];

/* E8M0 (OCP MX) over two, as E2M1 levels are kept times two: 2^(e - 128). */
static inline float quant_e8m0_half(uint8_t e) {
    union {
        uint32_t u;
        float f;
    } v = {e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23};
    return v.f;
}

/* UE4M3 over two; 0x7F (NaN) counts as zero. */
float quant_ue4m3_half(uint8_t x);

/* Signs of eight weights from a 7-bit index: bit 7 makes the number of minus signs even. */
static inline uint8_t quant_signs8(unsigned index) {
    return (uint8_t)(index & 127) | (uint8_t)((unsigned)__builtin_parity(index & 127) << 7);
}

#endif
