/* pack_fast.c: packing at the speed of memory, for the formats whose bits only have to change places.
 *
 * Four rows at a time: their words are transposed in vectors of four lanes, so that lane i is row i and one operation
 * serves four words. What a format needs beyond that is moving bits inside a word or between words, which is done by
 * exchanging halves (Warren, Hacker's Delight, 2nd ed., §7-3). Vectors are the compiler's own: the baseline of
 * every target is enough, the loads are the limit. The definition is kern_pack_panel_ref: same bytes, any format. */
#include "kernel/unpack.h"

#include <string.h>

typedef uint32_t v4 __attribute__((vector_size(16)));
typedef uint8_t v4_bytes __attribute__((vector_size(16)));
typedef const unsigned char *const *row_ptrs;

#define INLINE static inline __attribute__((always_inline))
enum { QUADS = KERN_PANEL / 4, PLANE = 4 * KERN_PANEL, HALVES = 2 * KERN_PANEL };
#define LOW 0x0f0f0f0fu
#define HIGH 0xf0f0f0f0u
#define PAIR 0x03030303u

INLINE v4 load(const unsigned char *p) {
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(unsigned char *p, v4 v) { memcpy(p, &v, sizeof v); }

/* w[i]: word i of the 16 bytes at `at` of four rows. */
INLINE void words4(v4 w[4], row_ptrs rows, size_t at) {
    v4 a = load(rows[0] + at), b = load(rows[1] + at), c = load(rows[2] + at), d = load(rows[3] + at);
    v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    w[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    w[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    w[2] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    w[3] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}
INLINE void words8(v4 w[8], row_ptrs rows, size_t at) {
    words4(w, rows, at);
    words4(w + 4, rows, at + 16);
}
INLINE v4 word1(row_ptrs rows, size_t at) {
    uint32_t w[4];
    for (int i = 0; i < 4; i++) memcpy(&w[i], rows[i] + at, 4);
    return (v4){w[0], w[1], w[2], w[3]};
}
/* The half at `at` of four rows, side by side. */
INLINE void copy_halves(unsigned char *dst, row_ptrs rows, size_t at) {
    for (int i = 0; i < 4; i++) memcpy(dst + 2 * i, rows[i] + at, 2);
}

/* Bits of x whose place has bit `hi` clear and bit `lo` set (mask) change with those `delta` = 2^hi - 2^lo higher:
 * the two digits of a bit's place in the word are exchanged. */
INLINE v4 swap_digits(v4 x, unsigned delta, uint32_t mask) {
    v4 t = (x >> delta ^ x) & mask;
    return x ^ t ^ t << delta;
}
/* Bit 4 g + j to bit g of byte j. */
INLINE v4 bits_to_bytes(v4 x) {
    x = swap_digits(x, 14, 0x0000cccc);
    x = swap_digits(x, 7, 0x00aa00aa);
    x = swap_digits(x, 2, 0x0c0c0c0c);
    return swap_digits(x, 1, 0x22222222);
}
/* Pair of bits c of byte j to pair j of byte c. */
INLINE v4 pairs_to_bytes(v4 x) { return swap_digits(swap_digits(x, 12, 0x0000f0f0), 6, 0x00cc00cc); }

INLINE void swap_words(v4 *a, v4 *b, unsigned shift, uint32_t mask) {
    v4 t = (*a >> shift ^ *b) & mask;
    *b ^= t;
    *a ^= t << shift;
}
/* In each byte, pair s of word j to pair j of word s. */
INLINE void transpose_pairs(v4 x[4]) {
    for (int i = 0; i < 2; i++) swap_words(&x[i], &x[i + 2], 4, LOW);
    for (int i = 0; i < 4; i += 2) swap_words(&x[i], &x[i + 1], 2, 0x33333333);
}
/* In each byte, bit s of word g to bit g of word s. */
INLINE void transpose_bits(v4 x[8]) {
    for (int i = 0; i < 4; i++) swap_words(&x[i], &x[i + 4], 4, LOW);
    for (int i = 0; i < 8; i += i % 2 ? 3 : 1) swap_words(&x[i], &x[i + 2], 2, 0x33333333);
    for (int i = 0; i < 8; i += 2) swap_words(&x[i], &x[i + 1], 1, 0x55555555);
}

/* Two blocks' planes of nibbles from the words whose low nibbles are one block, the high ones another. */
INLINE void store_nibbles(unsigned char *low, unsigned char *high, const v4 w[8]) {
    for (int g = 0; g < 4; g++) {
        store(low + PLANE * g, (w[g] & LOW) | (w[g + 4] & LOW) << 4);
        store(high + PLANE * g, (w[g] >> 4 & LOW) | (w[g + 4] & HIGH));
    }
}
/* Byte i of each word to dst + i · step, the four rows side by side. */
INLINE void store_bytes(unsigned char *dst, size_t step, v4 w) {
    v4_bytes b = __builtin_shufflevector((v4_bytes)w, (v4_bytes)w, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (size_t i = 0; i < 4; i++) memcpy(dst + i * step, (unsigned char *)&b + 4 * i, 4);
}
/* ---- blocks with f16 scales of their own ---- */
/* What differs between them; all else is constant folding. qs: where the levels are, qh: fifth bits, 0 if none. */
typedef struct simple {
    size_t bytes, columns, qs, qh;
    unsigned bits, scales, span;
    uint32_t flip;
} simple;

INLINE void simple_levels(const simple f, unsigned char *out, row_ptrs rows, size_t at, size_t part) {
    v4 w[8];
    if (f.bits == BITS_1) store(out, bits_to_bytes(word1(rows, at + f.qs + 4 * part)));
    else if (f.bits == BITS_2 || f.bits == BITS_3) {
        for (size_t h = 0; h < 2; h++) store(out + PLANE * h, pairs_to_bytes(word1(rows, at + f.qs + 8 * part + 4 * h)));
        if (f.bits == BITS_3) store(out + PLANE * 2, bits_to_bytes(word1(rows, at + f.qh + 4 * part)));
    }
    else if (f.bits == BITS_8) {
        words8(w, rows, at + f.qs);
        for (int g = 0; g < 8; g++) store(out + PLANE * g, w[g] ^ f.flip);
    } else { /* nibbles lie in the file as they do in the planes */
        words4(w, rows, at + f.qs + 16 * part);
        for (int g = 0; g < 4; g++) store(out + PLANE * g, w[g]);
        if (f.qh) store(out + 4 * PLANE, bits_to_bytes(word1(rows, at + f.qh)));
    }
}

INLINE void simple_panel(const simple f, unsigned char *out, row_ptrs rows, size_t k) {
    const size_t parts = f.columns / KERN_BLOCK, per_group = kern_group_blocks(f.scales, f.span);
    unsigned char *s = out;
    for (size_t b = 0; b < k / KERN_BLOCK; b++, out += kern_level_bytes(f.bits)) {
        size_t at = b / parts * f.bytes, in_group = b % per_group;
        if (in_group == 0) { /* a group begins with its scales */
            s = out;
            out += kern_group_scale_bytes(f.scales);
        }
        for (size_t q = 0; q < QUADS; q++) {
            row_ptrs four = rows + 4 * q;
            simple_levels(f, out + 16 * q, four, at, b % parts);
            if (f.scales == SCALES_E8M0) {
                for (size_t i = 0; i < 4; i++) s[in_group * KERN_PANEL + 4 * q + i] = four[i][at];
            } else if (f.scales == SCALES_F16_MIN) {
                copy_halves(s + 8 * q, four, at);
                copy_halves(s + HALVES + 8 * q, four, at + 2);
            } else if (b % parts == 0)
                copy_halves(s + in_group / parts * HALVES + 8 * q, four, at);
        }
    }
}

#define SIMPLE(name, ...)                                                                                     \
    void pack_##name(unsigned char *panel, row_ptrs rows, size_t k) {                                        \
        simple_panel((simple){__VA_ARGS__}, panel, rows, k);                                                  \
    }
SIMPLE(q4_0, 18, 32, 2, 0, BITS_4, SCALES_F16, 1, 0)
SIMPLE(q4_1, 20, 32, 4, 0, BITS_4, SCALES_F16_MIN, 1, 0)
SIMPLE(q5_0, 22, 32, 6, 2, BITS_5, SCALES_F16, 1, 0)
SIMPLE(q5_1, 24, 32, 8, 4, BITS_5, SCALES_F16_MIN, 1, 0)
SIMPLE(q8_0, 34, 32, 2, 0, BITS_8, SCALES_F16, 1, 0x80808080)
SIMPLE(mxfp4, 17, 32, 1, 0, BITS_4T, SCALES_E8M0, 1, 0)
SIMPLE(q1_0, 18, 128, 2, 0, BITS_1, SCALES_F16, 4, 0)
SIMPLE(q2_0, 18, 64, 2, 0, BITS_2, SCALES_F16, 2, 0)
SIMPLE(q4_96, 50, 96, 2, 0, BITS_4, SCALES_F16, 3, 0)
SIMPLE(q3_96, 38, 96, 14, 2, BITS_3, SCALES_F16, 3, 0)
SIMPLE(q2_96, 26, 96, 2, 0, BITS_2, SCALES_F16, 3, 0)

/* ---- super-blocks of 256 ---- */
/* SUPER(name, bytes, bits, scales) { … } defines pack_name; the body packs four rows of one super-block: `at` in the
 * rows, scales to s, levels of its eight blocks to out (step `n` bytes), `q`: which four rows. */
#define SUPER(name, block_bytes, bits_, scales_)                                                              \
    INLINE void super_##name(unsigned char *s, unsigned char *out, row_ptrs rows, size_t at, size_t q);       \
    void pack_##name(unsigned char *panel, row_ptrs rows, size_t k) {                                         \
        const size_t head = kern_group_scale_bytes(scales_), all = head + 8 * kern_level_bytes(bits_);        \
        for (size_t i = 0; i < k / QUANT_K; i++, panel += all)                                                \
            for (size_t q = 0; q < QUADS; q++)                                                                \
                super_##name(panel, panel + head + 16 * q, rows + 4 * q, i * (block_bytes), q);               \
    }                                                                                                         \
    INLINE void super_##name(unsigned char *s, unsigned char *out, row_ptrs rows, size_t at, size_t q)
enum { N2 = 128, N3 = 192, N4 = 256, N5 = 320, N6 = 384 }; /* level bytes of a block */

/* The header that Q4_K and Q5_K share: d, dmin, scales (quant_k4_scale). */
INLINE void k4_header(unsigned char *s, row_ptrs rows, size_t at, size_t q) {
    v4 w[4];
    words4(w, rows, at);
    copy_halves(s + 8 * q, rows, at);
    copy_halves(s + HALVES + 8 * q, rows, at + 2);
    s += 2 * HALVES + 4 * q;
    v4 scale47 = (w[3] & LOW) | (w[1] >> 6 & PAIR) << 4, min47 = (w[3] >> 4 & LOW) | (w[2] >> 6 & PAIR) << 4;
    store_bytes(s, HALVES, w[1] & 0x3f3f3f3f);
    store_bytes(s + KERN_PANEL, HALVES, w[2] & 0x3f3f3f3f);
    store_bytes(s + 4 * HALVES, HALVES, scale47);
    store_bytes(s + 4 * HALVES + KERN_PANEL, HALVES, min47);
}

SUPER(q4_k, 144, BITS_4, SCALES_K_MIN) {
    k4_header(s, rows, at, q);
    for (size_t p = 0; p < 4; p++, out += 2 * N4) {
        v4 w[8];
        words8(w, rows, at + 16 + 32 * p);
        store_nibbles(out, out + N4, w);
    }
}

SUPER(q5_k, 176, BITS_5, SCALES_K_MIN) {
    v4 w[8], fifth[8];
    k4_header(s, rows, at, q);
    words8(fifth, rows, at + 16);
    transpose_bits(fifth);
    for (size_t p = 0; p < 4; p++, out += 2 * N5) {
        words8(w, rows, at + 48 + 32 * p);
        store_nibbles(out, out + N5, w);
        store(out + 4 * PLANE, fifth[2 * p]);
        store(out + N5 + 4 * PLANE, fifth[2 * p + 1]);
    }
}

SUPER(q6_k, 210, BITS_6, SCALES_K_16) {
    v4 w[8], high[4];
    copy_halves(s + 8 * q, rows, at + 208);
    words4(w, rows, at + 192);
    for (size_t i = 0; i < 4; i++) store_bytes(s + HALVES + 4 * KERN_PANEL * i + 4 * q, KERN_PANEL, w[i]);
    for (size_t half = 0; half < 2; half++, out += 4 * N6) {
        for (size_t i = 0; i < 2; i++) { /* blocks i and i + 2 */
            words8(w, rows, at + 64 * half + 32 * i);
            store_nibbles(out + i * N6, out + (i + 2) * N6, w);
        }
        for (size_t h = 0; h < 2; h++) {
            words4(high, rows, at + 128 + 32 * half + 16 * h);
            transpose_pairs(high);
            for (size_t b = 0; b < 4; b++) store(out + b * N6 + (4 + h) * PLANE, high[b]);
        }
    }
}

/* The two bits of a block's levels that Q2_K, Q3_K and TQ2_0 keep alike. */
INLINE void pair_planes(unsigned char *out, size_t n, row_ptrs rows, size_t at) {
    for (size_t half = 0; half < 2; half++)
        for (size_t h = 0; h < 2; h++) {
            v4 w[4];
            words4(w, rows, at + 32 * half + 16 * h);
            transpose_pairs(w);
            for (size_t b = 0; b < 4; b++) store(out + (4 * half + b) * n + h * PLANE, w[b]);
        }
}

SUPER(q2_k, 84, BITS_2, SCALES_K_MIN16) {
    v4 w[4];
    copy_halves(s + 8 * q, rows, at + 80);
    copy_halves(s + HALVES + 8 * q, rows, at + 82);
    words4(w, rows, at);
    for (size_t i = 0; i < 4; i++) store_bytes(s + 2 * HALVES + 4 * KERN_PANEL * i + 4 * q, KERN_PANEL, w[i]);
    pair_planes(out, N2, rows, at + 16);
}

SUPER(q3_k, 110, BITS_3, SCALES_K_16) {
    v4 w[4], third[8];
    copy_halves(s + 8 * q, rows, at + 108);
    words4(w, rows, at + 92); /* w[1..3] are the scales (quant_k3_scale) */
    s += HALVES + 4 * q;
    for (size_t i = 0; i < 4; i++) {
        v4 scale = (w[1 + i % 2] >> (i / 2 * 4) & LOW) | (w[3] >> 2 * i & PAIR) << 4;
        store_bytes(s + 4 * KERN_PANEL * i, KERN_PANEL, ((scale | 0x80808080) - 0x20202020) ^ 0x80808080);
    }
    pair_planes(out, N3, rows, at + 32);
    words8(third, rows, at);
    transpose_bits(third);
    for (size_t b = 0; b < 8; b++) store(out + b * N3 + 2 * PLANE, third[b]);
}

SUPER(iq4_xs, 136, BITS_4T, SCALES_K) {
    for (size_t i = 0; i < 4; i++) {
        const iq4_xs_block *b = (const iq4_xs_block *)(rows[i] + at);
        memcpy(s + 8 * q + 2 * i, rows[i] + at, 2);
        for (size_t j = 0; j < 8; j++) {
            int scale = (b->scales_l[j / 2] >> j % 2 * 4 & 15) | (b->scales_h >> 2 * j & 3) << 4;
            s[HALVES + KERN_PANEL * j + 4 * q + i] = (unsigned char)(scale - 32);
        }
    }
    for (size_t b = 0; b < 8; b++) {
        v4 w[4];
        words4(w, rows, at + 8 + 16 * b);
        for (size_t g = 0; g < 4; g++) store(out + b * N4 + g * PLANE, w[g]);
    }
}

/* One scale for eight blocks, sixteen blocks to a group. */
void pack_tq2_0(unsigned char *panel, row_ptrs rows, size_t k) {
    for (size_t i = 0; i < k / QUANT_K; i++) {
        unsigned char *s = panel;
        if (i % 2 == 0) panel += 64;
        else s -= 8 * N2 + 64 - HALVES;
        for (size_t q = 0; q < QUADS; q++) {
            copy_halves(s + 8 * q, rows + 4 * q, i * 66 + 64);
            pair_planes(panel + 16 * q, N2, rows + 4 * q, i * 66);
        }
        panel += 8 * N2;
    }
}
