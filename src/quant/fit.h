/* fit.h: least squares for the encoders: which scale (and minimum) lets integer levels match x best.
 *
 * Everything works on a block that fit_load has brought to amax in [1, 2): tiny and huge weights then behave
 * like any others, and no sum over- or underflows. Errors are Σ w (x - y)². n is a multiple of 4, at most
 * 256.
 *
 * How a scale is found: nearest levels for a number of trial scales; for each the best scale given the levels
 * in closed form, d = Σ w x q / Σ w q²; the best then alternates levels and scale until nothing improves.
 * The error only ever counts levels nearest to the weight under the scale as it is stored. */
#ifndef MOTE_QUANT_FIT_H
#define MOTE_QUANT_FIT_H

#include "quant/quant_int.h"

#define FIT_ALIGNED _Alignas(16)

/* x = src / unit with non-finite values made harmless (NaN 0, infinities the largest float), w = importance
 * or 1. Returns unit, a power of two; a block of zeros is left so, with unit 1. */
float fit_load(float *x, float *w, const float *src, const float *importance, int n);

/* The half nearest to d * unit, never infinite; and its value in the block's units. */
uint16_t fit_half(float d, float unit);
/* The same, but where halves are coarse (below 2^-14) not nearer to zero than d: for scales of scales. */
uint16_t fit_half_cover(float d, float unit);
static inline float fit_half_value(uint16_t h, float unit) {
    return quant_f16_to_f32(h) / unit;
}
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
    const uint8_t *places; /* by fit_use_table */
    bool odd;              /* every other integer of lo..hi alone, both odd */
} fit_range;
/* Makes r->table usable; places live as long as r. Levels lie within -127..127. */
#define FIT_PLACES 512
void fit_use_table(fit_range *r, uint8_t places[FIT_PLACES]);
/* The d that makes Σ w (x - d q)² small. */
float fit_scale(const float *x, const float *w, int n, const fit_range *r);
/* The error of d with nearest levels. */
float fit_error(const float *x, const float *w, int n, float d, const fit_range *r);
/* The half (in *d its value) whose levels err least, of those around d. */
uint16_t fit_best_half(const float *x, const float *w, int n, float *d, float unit, const fit_range *r);
/* q[i] = nearest level of (x[i] + off) / d, minus lo: 0..hi - lo. */
void fit_levels(uint8_t *q, const float *x, int n, float off, float d, int lo, int hi);

/* q[i] = nearest level of x[i] / d: its distance from lo, or its place in the table. */
void fit_nearest(uint8_t *q, const float *x, int n, float d, const fit_range *r);

/* x ≈ scale q - off with q in 0..top. With `positive`, off is kept >= 0. scale >= 0. */
void fit_affine(const float *x, const float *w, int n, int top, bool positive, float *scale, float *off);
/* Its error with nearest levels; *shift: what to add to off to make the mean of the errors zero. */
float fit_affine_error(const float *x, const float *w, int n, float scale, float off, int top, float *shift);

/* Both of them as halves (m: the minimum, -off), and the levels. */
void fit_affine_halves(const float *x, const float *w, int n, int top, float unit, uint16_t *d, uint16_t *m,
                       uint8_t *q);

/* A super-block x ≈ d sc[s] q, 256 weights in sub-blocks of n, sc in -bound..bound - 1. Returns d. */
uint16_t fit_super(const float *x, const float *w, float unit, int n, const fit_range *r, int bound,
                   int *sc);
/* A super-block x ≈ d sc[s] q - dmin m[s], q in 0..top, sc and m in 0..bound. */
void fit_super_affine(const float *x, const float *w, float unit, int n, int top, int bound, uint8_t *sc,
                      uint8_t *m, uint16_t *d, uint16_t *dmin);
/* The reverse of quant_k4_scale for all eight. */
void fit_pack_k4(uint8_t packed[12], const uint8_t sc[8], const uint8_t m[8]);

#endif
