/* fit.h: least squares for the encoders: which scale (and minimum) lets integer levels match x best.
 *
 * Sixteen groups of weights are fitted side by side, each by itself: one instruction does the same for all of them, and nothing is
 * ever summed across lanes, so that every instruction set gives the same bits (quant_int.h). A super-block's sub-blocks are such
 * groups too.
 *
 * Groups are brought to a largest magnitude in [1, 2): tiny and huge weights then behave like any others, and no sum over- or
 * underflows. Errors are Σ w (x - y)².
 *
 * How a scale is found: nearest levels for a number of trial scales; for each the best scale given the levels in closed form,
 * d = Σ w x q / Σ w q²; the best then alternates levels and scale until nothing improves. The error only ever counts levels nearest
 * to the weight under the scale as it is stored. */
#ifndef MOTE_QUANT_FIT_H
#define MOTE_QUANT_FIT_H

#include "quant/quant_int.h"

enum { FIT_GROUPS = 16, FIT_GROUP_MAX = 256 };

/* Number i of group g is x[16 i + g] and rows[n g + i]; w: its importance, or 1. Groups beyond `groups` are zeros. */
typedef struct fit_stack {
    int n, groups; /* n: weights per group, a multiple of 16 */
    int share;     /* so many neighbours share a unit: they are a super-block's */
    _Alignas(64) float x[FIT_GROUPS * FIT_GROUP_MAX];
    _Alignas(64) float w[FIT_GROUPS * FIT_GROUP_MAX];
    _Alignas(64) float rows[FIT_GROUPS * FIT_GROUP_MAX];
    float unit[FIT_GROUPS]; /* what x is counted in */
} fit_stack;

/* groups × n weights that lie back to back, in units of their own or of `share` groups each (which divides groups). What the functions
 * below say of groups beyond `groups` means nothing. */
#define fit_load QUANT_NAME(fit_load)
void fit_load(fit_stack *k, const float *src, const float *importance, int n, int groups, int share);
/* One group alone: x = src / unit with non-finite values made harmless (NaN 0, infinities the largest float), w = importance or 1,
 * relative to the largest. Returns unit, a power of two; a group of zeros is left so, with unit 1. n: a multiple of 16. */
#define fit_load_row QUANT_NAME(fit_load_row)
float fit_load_row(float *x, float *w, const float *src, const float *importance, int n);

/* The half nearest to d * unit, never infinite; and its value in the block's units. */
static inline uint16_t fit_half(float d, float unit) {
    float v = d * unit;
    v = v < 65504 ? v : 65504;
    v = v > -65504 ? v : -65504;
    return quant_to_half(v);
}
static inline float fit_half_value(uint16_t h, float unit) {
    return quant_half_value(h) / unit;
}
/* The half nearest to d, but where halves are coarse (below 2^-14) not nearer to zero than d: for scales of scales. */
#define fit_half_cover QUANT_NAME(fit_half_cover)
uint16_t fit_half_cover(float d, float unit);
/* 1 / d, or 0 where that is not a useful number. */
static inline float fit_inverse(float d) {
    return d > 1e-30f || d < -1e-30f ? 1.0f / d : 0.0f;
}

/* The levels: all integers lo..hi, lo < 0, or the 16 ascending ones of a table whose ends are lo and hi. In
 * the trial scales the largest |x| lies `least` to `most` times as far out as the longer of lo and hi. */
typedef struct fit_range {
    int lo, hi, tries;
    float least, most;
    const int8_t *table;
    bool odd; /* every other integer of lo..hi alone, both odd */
} fit_range;

/* d[g]: the scale that makes Σ w (x - d q)² small. */
#define fit_scales QUANT_NAME(fit_scales)
void fit_scales(const fit_stack *k, const fit_range *r, float d[FIT_GROUPS]);
/* The same as a half, of which the neighbours are tried too; d[g] is its value. */
#define fit_half_scales QUANT_NAME(fit_half_scales)
void fit_half_scales(const fit_stack *k, const fit_range *r, float d[FIT_GROUPS], uint16_t half[FIT_GROUPS]);
/* The errors of d with nearest levels. */
#define fit_errors QUANT_NAME(fit_errors)
void fit_errors(const fit_stack *k, const fit_range *r, const float d[FIT_GROUPS], float err[FIT_GROUPS]);
/* The sums of the levels nearest under d: a = Σ w x q, b = Σ w q². */
#define fit_sums QUANT_NAME(fit_sums)
void fit_sums(const fit_stack *k, const fit_range *r, const float d[FIT_GROUPS], float a[FIT_GROUPS], float b[FIT_GROUPS]);
/* q[i] = nearest level of x[i] / d for the n weights of group g: its distance from lo (in steps), or its place in the table. */
#define fit_nearest QUANT_NAME(fit_nearest)
void fit_nearest(const fit_stack *k, int g, float d, const fit_range *r, uint8_t *q);
/* All of it for up to 16 blocks of `size` weights of src[n]: t->groups of them, their scales, and their levels at q + g size. */
typedef struct fit_blocks {
    int groups;
    uint16_t d[FIT_GROUPS];
    uint8_t q[FIT_GROUPS * FIT_GROUP_MAX];
} fit_blocks;
#define fit_one_scale QUANT_NAME(fit_one_scale)
void fit_one_scale(fit_blocks *t, const float *src, size_t n, const float *importance, int size, const fit_range *r);
/* q[i] = nearest level of (x[i] + off) / d in 0..top. */
#define fit_levels QUANT_NAME(fit_levels)
void fit_levels(const fit_stack *k, int g, float off, float d, int top, uint8_t *q);

/* x ≈ scale q - off with q in 0..top. With `positive`, off is kept >= 0. scale >= 0. */
#define fit_affine QUANT_NAME(fit_affine)
void fit_affine(const fit_stack *k, int top, bool positive, float scale[FIT_GROUPS], float off[FIT_GROUPS]);
/* Their errors with nearest levels; shift: what to add to off to make the mean of the errors zero. */
#define fit_affine_errors QUANT_NAME(fit_affine_errors)
void fit_affine_errors(const fit_stack *k, int top, const float scale[FIT_GROUPS], const float off[FIT_GROUPS], float err[FIT_GROUPS],
                       float shift[FIT_GROUPS]);
/* Both of them as halves (m: the minimum, -off); and their values. */
#define fit_affine_halves QUANT_NAME(fit_affine_halves)
void fit_affine_halves(const fit_stack *k, int top, uint16_t d[FIT_GROUPS], uint16_t m[FIT_GROUPS], float scale[FIT_GROUPS],
                       float off[FIT_GROUPS]);
/* Of levels nearest to (x + off) / scale: l = Σ w q, l2 = Σ w q², xl = Σ w x q. */
typedef struct fit_moments {
    float l[FIT_GROUPS], l2[FIT_GROUPS], xl[FIT_GROUPS];
} fit_moments;
#define fit_level_moments QUANT_NAME(fit_level_moments)
void fit_level_moments(const fit_stack *k, int top, const float scale[FIT_GROUPS], const float off[FIT_GROUPS], fit_moments *m);

/* Super-blocks (`share` groups each) x ≈ d sc[g] q, sc in -bound..bound - 1. d: one per super-block. */
#define fit_super QUANT_NAME(fit_super)
void fit_super(const fit_stack *k, const fit_range *r, int bound, int sc[FIT_GROUPS], uint16_t d[FIT_GROUPS]);
/* Super-blocks x ≈ d sc[g] q - dmin m[g], q in 0..top, sc and m in 0..bound. */
#define fit_super_affine QUANT_NAME(fit_super_affine)
void fit_super_affine(const fit_stack *k, int top, int bound, uint8_t sc[FIT_GROUPS], uint8_t m[FIT_GROUPS], uint16_t d[FIT_GROUPS],
                      uint16_t dmin[FIT_GROUPS]);
/* ---- whole encoders: n weights of src in blocks of `bytes`, each put together by `pack` ---- */

/* Blocks of `size` weights under one scale. q: [size] */
typedef void fit_pack(void *block, uint16_t d, const uint8_t *q);
#define fit_encode QUANT_NAME(fit_encode)
void fit_encode(void *dst, const float *src, size_t n, const float *importance, int size, size_t bytes, const fit_range *r, fit_pack *pack);
/* Of 32 weights under one scale and a minimum. */
typedef void fit_pack_affine(void *block, uint16_t d, uint16_t m, const uint8_t *q);
#define fit_encode_affine QUANT_NAME(fit_encode_affine)
void fit_encode_affine(void *dst, const float *src, size_t n, const float *importance, size_t bytes, int top, fit_pack_affine *pack);
/* Super-blocks, sub-block by sub-block of `size` weights, in order; the block is zeros before the first. */
typedef void fit_pack_super(void *block, uint16_t d, int s, int sc, const uint8_t *q);
#define fit_encode_super QUANT_NAME(fit_encode_super)
void fit_encode_super(void *dst, const float *src, size_t n, const float *importance, int size, size_t bytes, const fit_range *r, int bound,
                      fit_pack_super *pack);
/* d: the scale of scales and that of minima; sc, m: of all sub-blocks. */
typedef void fit_pack_super_affine(void *block, const uint16_t d[2], int s, const uint8_t *sc, const uint8_t *m, const uint8_t *q);
#define fit_encode_super_affine QUANT_NAME(fit_encode_super_affine)
void fit_encode_super_affine(void *dst, const float *src, size_t n, const float *importance, int size, size_t bytes, int top, int bound,
                             fit_pack_super_affine *pack);
/* The reverse of quant_k4_scale for all eight. */
#define fit_pack_k4 QUANT_NAME(fit_pack_k4)
void fit_pack_k4(uint8_t packed[12], const uint8_t sc[8], const uint8_t m[8]);

#endif
