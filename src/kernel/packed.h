/* packed.h: how quantized weights lie in memory for the kernels.
 *
 * A panel is 16 rows. It begins with the levels, block of 32 columns by block: the block's columns form eight
 * k-groups of four; a *plane* is 64 bytes, the four columns of one k-group for row 0, then row 1, … row 15,
 * so that one 64-byte vector times one broadcast word of activations serves 16 rows. Levels u are unsigned;
 * the weight is (u - offset) · scale (+ min). Sub-byte levels share planes, in byte lanes:
 *     8 bit   8 planes                                                            512 bytes a block
 *     4 bit   4 planes: k-group g in the low nibbles of plane g, g + 4 in the high   256
 *     5 bit   the same, then 1 plane: bit g is the fifth bit of k-group g            320
 *     6 bit   the same, then 2 planes: bits 2j, 2j+1 of plane h belong to k-group 4h + j   384
 *     2 bit   2 planes: bits 2j, 2j+1 of plane h belong to k-group 4h + j            128
 *     2x bit  the same; the level is twice the two bits                              128
 *     3 bit   as 2 bit, then 1 plane of third bits                                   192
 *     1 bit   1 plane; the level is 0 or 2                                            64
 * 2:4 formats keep two of each four columns: the kept levels of k-groups 2 h and 2 h + 1 are the four bytes of a word, as if
 * they were k-group h of only four; then one plane of where they stood:
 *     4 bit   2 planes: kept word h in the low nibbles of plane h, h + 2 in the high; 1 plane: bits 2h, 2h+1 of byte i are the place
 *             in its k-group of byte i of word h                                  192 bytes a block
 *     8 bit   4 planes, 1 plane                                                   320
 * Where a k-group names one place twice, the first of the two levels is packed as zero: the second counts, as in the file.
 * "4t" is 4 bit through a table of 16 signed levels (offset 128 once 128 is added to them).
 * Scales stand in front of the levels they belong to: a panel is a sequence of *groups* of some blocks, each
 * its scales (for 16 rows side by side, padded to 64 bytes), then its blocks' levels, so that reading a panel is one
 * ascending stream. Sizes are those of the file's format, but for 6-bit scales, which are widened to 8. */
#ifndef MOTE_KERNEL_PACKED_H
#define MOTE_KERNEL_PACKED_H

#include "kernel/kernel.h"

typedef enum kern_bits { BITS_1, BITS_2, BITS_2X, BITS_3, BITS_4, BITS_4T, BITS_5, BITS_6, BITS_8, BITS_4_24, BITS_8_24 } kern_bits;

typedef enum kern_scales {
    SCALES_F16,     /* 2 span blocks: f16[16] for each span of blocks */
    SCALES_F16_MIN, /* 1 block: f16[16] scales, f16[16] mins */
    SCALES_F16_16,  /* 1 block: f16[16] for columns 0..15, f16[16] for 16..31 */
    SCALES_E8M0,    /* 4 blocks: u8[16] exponents e each: 2^(e - 128) */
    SCALES_K,       /* 8 blocks: f16[16] d, then for each s8[16]; scale = d s */
    SCALES_K_MIN,   /* 8 blocks: f16[16] d, f16[16] dmin, then for each u8[16] s, u8[16] m; min = -dmin m */
    SCALES_K_16,    /* 8 blocks: f16[16] d, then for each s8[16] for columns 0..15, s8[16] for 16..31 */
    SCALES_K_MIN16, /* 8 blocks: f16[16] d, dmin, then for each 2 × u8[16], s in the low nibble, m in the high */
} kern_scales;

/* One block of 32 columns of the 16 rows of a panel, taken from the file's form. */
typedef struct kern_block {
    uint32_t u[8][KERN_PANEL];         /* levels of k-group g, 4 to a word, little-endian; 2:4: 4 words of kept ones, then their places, 2 bits each */
    uint16_t d[KERN_PANEL], m[KERN_PANEL]; /* f16 bits (E8M0: d the exponent; F16_16: m the second scale) */
    uint8_t s[2][KERN_PANEL], ms[2][KERN_PANEL]; /* small scales and mins of the block's one or two halves */
} kern_block;

typedef struct kern_packing {
    uint8_t bits, scales;
    uint8_t offset;       /* of the levels: 0, 3 or a power of two */
    uint8_t span;         /* SCALES_F16: blocks that a scale serves, 1 to 8 */
    float d_mul;          /* the f16 d is multiplied by this power of two */
    const int8_t *levels; /* BITS_4T: 16 of them */
    void (*unpack)(const unsigned char *const rows[KERN_PANEL], size_t block, kern_block *out);
    void (*pack)(unsigned char *panel, const unsigned char *const *rows, size_t k); /* a faster way, or NULL */
} kern_packing;

/* NULL when the type has no packed form. */
const kern_packing *kern_packing_of(quant_type t);
size_t kern_panel_bytes(const kern_packing *p, size_t k);
/* The most that a block of 32 columns takes in any panel, its part of the scales included. */
enum { KERN_PANEL_BLOCK_MAX = 576 };
/* dst (kern_panel_bytes) from rows[16] of k columns in file form. Padding is left as it is: nobody reads it. */
void kern_pack_panel(const kern_packing *p, void *dst, const unsigned char *const rows[16], size_t k);
/* Its definition, block by block: the same bytes. */
void kern_pack_panel_ref(const kern_packing *p, void *dst, const unsigned char *const rows[16], size_t k);
/* The way back: dst[k] = row r of a panel, with the very values the file's format decodes to. */
void kern_panel_row(const kern_packing *p, const void *panel, size_t r, size_t k, float *dst);

static inline size_t kern_level_bytes(unsigned bits) {
    static const uint16_t n[] = {64, 128, 128, 192, 256, 256, 320, 384, 512, 192, 320};
    return n[bits];
}
/* Blocks of a group, and bytes of its scales. The last group of a panel may have fewer blocks. */
static inline size_t kern_group_blocks(unsigned scales, unsigned span) {
    switch (scales) {
    case SCALES_F16: return (size_t)2 * span;
    case SCALES_F16_MIN:
    case SCALES_F16_16: return 1;
    case SCALES_E8M0: return 4;
    default: return 8;
    }
}
static inline size_t kern_group_scale_bytes(unsigned scales) {
    switch (scales) {
    case SCALES_K: return 192;
    case SCALES_K_MIN:
    case SCALES_K_16:
    case SCALES_K_MIN16: return 320;
    default: return 64;
    }
}
/* Where in a panel block b has its levels; its scales are at the beginning of its group. */
static inline size_t kern_group_at(const kern_packing *p, size_t b) {
    size_t n = kern_group_blocks(p->scales, p->span);
    return b / n * (kern_group_scale_bytes(p->scales) + n * kern_level_bytes(p->bits));
}
static inline size_t kern_levels_at(const kern_packing *p, size_t b) {
    size_t in_group = b % kern_group_blocks(p->scales, p->span);
    return kern_group_at(p, b) + kern_group_scale_bytes(p->scales) + in_group * kern_level_bytes(p->bits);
}
static inline bool kern_bits_24(unsigned bits) { return bits == BITS_4_24 || bits == BITS_8_24; }
static inline bool kern_scales_16(unsigned s) {
    return s == SCALES_F16_16 || s == SCALES_K_16 || s == SCALES_K_MIN16;
}
static inline bool kern_scales_min(unsigned s) {
    return s == SCALES_F16_MIN || s == SCALES_K_MIN || s == SCALES_K_MIN16;
}

#endif
