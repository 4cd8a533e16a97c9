/* split.h: matrices whose levels lie in two parts, so that their leading bits can be read alone.
 *
 * The head of a compact model is a large part of its bytes, and most of its rows are far from being the answer.
 * In the split form the leading four bits of each level and the scales come first, panel after panel:
 *     high   a panel as packed.h lays out 4-bit levels with the format's scales
 *     rest   a panel's remaining bits: for each block of 32 columns two planes of two bits (bits 2j, 2j+1 of plane h
 *            belong to k-group 4h + j); when four bits remain, the upper two of all blocks, then the lower two
 * It is a re-ordering: nothing is stored twice, and `merge` gives back the panel that the products read.
 *
 * The bound. For one row, levels u = 2^n h + lo with n low bits, offset o; a block b with scale D, activations dx q.
 * The product sums I = sum (u - o) q. With c = (2^n - 1)/2, S = sum |q| and H = sum h q + (c - o)/2^n sum q
 *     |I - 2^n H| = |sum (lo - c) q| ≤ c S                                                    (since 0 ≤ lo ≤ 2c)
 * so sum D dx I ≤ sum D dx 2^n H + sum |D| dx c S, and the right side needs the high part alone. Rounding: H is a
 * multiple of 1/32 below 2^17, exact in f32. |I| and |2^n H| are at most o S. A chain of B fused multiply-adds of
 * terms that were rounded up to twice errs by at most (B + 4) e sum |D| dx o S, e = 2^-24 (Higham 2002, Accuracy
 * and Stability of Numerical Algorithms, §3.1, with 1 % to spare), both in the product and in the left sum here; the
 * sum of bounds by the same factor of itself; adding the two sums by e of their size. `bound` holds
 * dx S (c + 4 (2 B + 8) e o) (1 + 4 (2 B + 8) e), twice what that needs; 1e-30 is added for terms that underflow. Where the
 * upper two of four remaining bits are known as well, lo = 4 m + l: sum D dx 4 (sum m q - 3/2 sum q) joins the left
 * sum, and c becomes 3/2. A scale that is infinite or no number makes the bound such, and such a row must be
 * computed; activations so large that a sum could overflow are refused by kern_screen_x.
 * Formats with a scale per 16 columns count half blocks. */
#ifndef MOTE_KERNEL_SPLIT_H
#define MOTE_KERNEL_SPLIT_H

#include "kernel/packed.h"

typedef struct kern_split {
    quant_type type;
    kern_packing high; /* how the high part lies, for the functions of packed.h alone */
    int offset;        /* o */
    uint8_t n_low;     /* bits in the rest: 2 or 4 */
} kern_split;

/* NULL when there is no split form of the type. */
const kern_split *kern_split_of(quant_type t);
static inline size_t kern_split_high_bytes(const kern_split *s, size_t k) { return kern_panel_bytes(&s->high, k); }
/* Of one pair of bits, and of all that remain, of a panel. */
static inline size_t kern_split_pair_bytes(size_t k) { return kern_acts_blocks(k) * 128; }
static inline size_t kern_split_rest_bytes(const kern_split *s, size_t k) {
    return kern_split_pair_bytes(k) * (s->n_low / 2u);
}
/* Both parts of a panel, from the panel. */
void kern_split_panel(const kern_split *s, unsigned char *high, unsigned char *rest, const unsigned char *panel,
                      size_t k);

/* dst[k] = row r of a panel, with the very values the file's format decodes to. */
void kern_split_row(const kern_split *s, const unsigned char *high, const unsigned char *rest, size_t r, size_t k,
                    float *dst);

/* What the activations contribute to a block, or to half of one, at one level of the screen. */
typedef struct kern_screen_col {
    float step;   /* dx times the weight of the levels that are read */
    float center; /* what is added to their integer sum so that the unread bits lie at their middle */
    float bound;  /* |D| times it: how far the unread bits can move the sum */
} kern_screen_col;
/* Columns of a row of k; twice as many are made: for the high part, and for the pair after it (n_low 4). */
static inline size_t kern_screen_cols(const kern_split *s, size_t k) {
    return kern_acts_blocks(k) * (kern_scales_16(s->high.scales) ? 2 : 1);
}
/* False: these activations cannot be screened. cols: [2 · kern_screen_cols]. */
bool kern_screen_x(const kern_split *s, const kern_acts *x, size_t k, kern_screen_col *cols);

void kern_screen_ref(const kern_screen *a);
void kern_refine_ref(const kern_screen *a);
void kern_split_mul_ref(const kern_split_mul *a);
void kern_merge_ref(const kern_split *s, unsigned char *panel, const unsigned char *high, const unsigned char *rest,
                    size_t k);

#endif
