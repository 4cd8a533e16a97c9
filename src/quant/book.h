/* book.h: encoding by codebook (IQ2, IQ3): a group of 8 (or 4) weights becomes the entry of a codebook of magnitudes that
 * errs least, and their signs; sub-blocks share a scale d (add + mul n), n in 0..top.
 *
 * The error of entry g under scale s is Σ w x² - s (2 Σ w |x| g - s Σ w g²). The two sums do not depend on s: they are computed
 * once for all entries (moments); then every trial of a scale is two operations and a minimum per entry. So the search is
 * exhaustive: no entry is left out, as lists of neighbours do. All of it is element by element: the same bits on every ISA. */
#ifndef MOTE_QUANT_BOOK_H
#define MOTE_QUANT_BOOK_H

#include "quant/fit.h"

enum { BOOK_ENTRIES_MAX = 1024, BOOK_TRIALS = 4 };

/* A codebook as planes: level[j * n + e] is the magnitude of weight j of entry e. */
typedef struct book {
    int n, dim, n_magnitudes;
    float magnitude[8]; /* that occur, ascending */
    _Alignas(64) float level[8 * BOOK_ENTRIES_MAX];
    _Alignas(64) float square[8 * BOOK_ENTRIES_MAX];
} book;

/* The inner loops (book_scan.c). n is a multiple of 16; arrays are aligned to 64 bytes.
 * a2[e] = 2 Σ_j wx[j] level[j][e], b[e] = Σ_j w[j] level[j][e]². */
#define book_moments QUANT_NAME(book_moments)
void book_moments(const book *g, const float *wx, const float *w, float *a2, float *b);
/* least[t] = min over e of s[t] b[e] - a2[e]. */
#define book_least QUANT_NAME(book_least)
void book_least(const float *a2, const float *b, int n, const float s[BOOK_TRIALS], float least[BOOK_TRIALS]);
/* The first e where s b[e] - a2[e] is least. */
#define book_best QUANT_NAME(book_best)
int book_best(const float *a2, const float *b, int n, float s);
/* Fills g from n entries whose weight j is byte j. */
#define book_open QUANT_NAME(book_open)
void book_open(book *g, const void *entries, int n, int dim);

/* How a format uses its codebook. */
typedef struct book_format {
    int per_scale;       /* weights that share a scale: 16 or 32 */
    bool even;           /* each eight weights have an even number of minus signs */
    int top;             /* a sub-block's scale is d (add + mul n), n in 0..top */
    float add, mul;
    float typical;       /* the root mean square of Gaussian weights, in units of their best scale */
} book_format;
static inline float book_factor(const book_format *f, int n) { return f->add + f->mul * (float)n; }

/* The search for d: each sub-block's error under BOOK_COARSE scales around the likely one, measured before d is known. */
enum { BOOK_COARSE = 12, BOOK_SUBS_MAX = 16 };
typedef struct book_scales {
    const book_format *f;
    int n_subs;
    float energy[BOOK_SUBS_MAX]; /* Σ w x² of each sub-block */
    float centre[BOOK_SUBS_MAX]; /* the likely scale; 0: nothing but zeros */
    float ideal[BOOK_SUBS_MAX];  /* the best of the coarse ones: by book_choose_d */
    float err[BOOK_SUBS_MAX][BOOK_COARSE]; /* Σ w (x - y)², less the same constant for all, at centre book_step(t) */
} book_scales;
#define book_step QUANT_NAME(book_step)
float book_step(int t);
#define book_centres QUANT_NAME(book_centres)
void book_centres(book_scales *k, const float *x, const float *w);
/* The d that promises the least error; 0: all is zero. */
#define book_choose_d QUANT_NAME(book_choose_d)
float book_choose_d(book_scales *k);
/* The n whose scale under d is nearest to s. */
#define book_nearest QUANT_NAME(book_nearest)
int book_nearest(const book_format *f, float d, float s);

typedef struct book_block {
    uint16_t d;
    uint8_t scale[16];   /* [256 / per_scale] */
    uint16_t index[64];  /* [256 / dim] */
    uint8_t signs[32];   /* of each eight weights, bit j set: minus */
} book_block;
/* 256 weights x (as fit_load gives them, with unit) of importance w. */
#define book_fit QUANT_NAME(book_fit)
void book_fit(const book *g, const book_format *f, const float *x, const float *w, float unit, book_block *out);

/* encode_NAME: super-blocks by the codebook `grid` of n entries of dim weights, put together by pack_NAME; then the format's fields. */
#define BOOK_ENCODE(name, grid, entries, dim, ...)                                                     \
    static void encode_##name(void *dst, const float *src, size_t n, const float *importance) {        \
        static const book_format f = {__VA_ARGS__};                                                    \
        name##_block *b = dst;                                                                         \
        _Alignas(64) book g;                                                                           \
        book_open(&g, (grid), (entries), (dim));                                                       \
        for (size_t i = 0; i < n; i += QUANT_K, b++) {                                                 \
            _Alignas(64) float x[QUANT_K], w[QUANT_K];                                                 \
            book_block out;                                                                            \
            float unit = fit_load_row(x, w, src + i, importance ? importance + i : NULL, QUANT_K);     \
            book_fit(&g, &f, x, w, unit, &out);                                                        \
            pack_##name(b, &out);                                                                      \
        }                                                                                              \
    }

#endif
