/* gemm_tmpl.h: packing into panels and products of panels, for any ISA; with GEMM_BF16 defined, in pair words of bf16.
 *
 * Written on the vector of 16 floats of float_tmpl.h, whose ISA's header comes first, with, from the including file:
 *   GEMM_ROWS, GEMM_VECTORS   the register tile: rows of A by vectors of B
 *   v_transpose(v)            16 vectors, turned over in place: lane j of vector i is lane i of vector j
 * and for GEMM_BF16: v_dot_bf16(u, v, s) as in fmul_tmpl.h, v_pairs(a, b): 32 floats as pair words, v_zip(a, b): word i of
 * a[i], b[i]. */
#include "kernel/generic/ref.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

enum { GEMM_COLS = 16 * GEMM_VECTORS };

#ifdef GEMM_BF16
enum { GEMM_STEP = 2 };
#define MULTIPLY_ADD(u, v, s) v_dot_bf16(u, v, s)
#else
enum { GEMM_STEP = 1 };
#define MULTIPLY_ADD(u, v, s) v_fma(u, v, s)
#endif

/* Words travel as floats: loads, stores, broadcasts and transpositions do not look into them. */
INLINE const float *as_floats(const uint32_t *p) { return (const float *)(const void *)p; }
INLINE float *to_floats(uint32_t *p) { return (float *)(void *)p; }

/* ---- products ---- */
static void NAME(gemm_tile)(const kern_gemm_tile *t) {
    const float *a = as_floats(t->a), *b = as_floats(t->b);
    const bool whole = t->m == GEMM_ROWS && t->n == GEMM_COLS;
    v16 c[GEMM_ROWS][GEMM_VECTORS];
    UNROLL for (size_t r = 0; r < GEMM_ROWS; r++) UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) c[r][v] = v_set1(0.0f);
    if (t->add && whole) {
        UNROLL for (size_t r = 0; r < GEMM_ROWS; r++) UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++)
            c[r][v] = v_load(t->c + r * t->ldc + 16 * v);
    } else if (t->add) {
        UNROLL for (size_t r = 0; r < GEMM_ROWS; r++) UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++)
            if (r < t->m && 16 * v < t->n) c[r][v] = v_load_n(t->c + r * t->ldc + 16 * v, t->n - 16 * v);
    }
    for (size_t r = 0; t->ahead && r < t->m; r++)
        for (size_t v = 0; v < GEMM_VECTORS; v++) __builtin_prefetch(t->ahead + r * t->ldc + 16 * v, 1);
    for (size_t l = 0; l < t->k; l++, a += GEMM_ROWS, b += GEMM_COLS) {
        v16 w[GEMM_VECTORS];
        UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) w[v] = v_load(b + 16 * v);
        UNROLL for (size_t r = 0; r < GEMM_ROWS; r++) {
            const v16 s = v_set1(a[r]);
            UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) c[r][v] = MULTIPLY_ADD(s, w[v], c[r][v]);
        }
    }
    if (whole) {
        UNROLL for (size_t r = 0; r < GEMM_ROWS; r++) UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++)
            v_store(t->c + r * t->ldc + 16 * v, c[r][v]);
    } else {
        UNROLL for (size_t r = 0; r < GEMM_ROWS; r++) UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++)
            if (r < t->m && 16 * v < t->n) v_store_n(t->c + r * t->ldc + 16 * v, t->n - 16 * v, c[r][v]);
    }
}

/* ---- packing ---- */
/* 16 words of a line from element l on, of which `left` floats exist. */
INLINE v16 line_words(const float *src, size_t left) {
#ifdef GEMM_BF16
    return v_pairs(v_load_n(src, left), left > 16 ? v_load_n(src + 16, left - 16) : v_set1(0.0f));
#else
    return v_load_n(src, left);
#endif
}

/* 16 lines of a panel, from line i on; fetches the lines of the next panel where there are some. */
INLINE void pack_lines(uint32_t *dst, const size_t width, const float *src, size_t ld, size_t n, size_t k, size_t i) {
    const size_t words = (k + GEMM_STEP - 1) / GEMM_STEP, lanes = MIN(width - i, 16), lines = n > i ? MIN(n - i, lanes) : 0;
    const size_t ahead = n > width + i ? MIN(n - width - i, lanes) : 0;
    src += i * ld;
    for (size_t l = 0; l < words; l += 16) {
        const size_t left = k - l * GEMM_STEP;
        const float *from = src + l * GEMM_STEP;
        float *to = to_floats(dst) + l * width + i;
        v16 t[16];
        for (size_t j = 0; j < ahead; j++)
            for (size_t e = 0; e < GEMM_STEP; e++) __builtin_prefetch(from + (width + j) * ld + 16 * e);
        if (lines == lanes && left >= 16 * GEMM_STEP)
            UNROLL for (size_t j = 0; j < 16; j++) t[j] = j < lanes ? line_words(from + j * ld, 16 * GEMM_STEP) : v_set1(0.0f);
        else
            UNROLL for (size_t j = 0; j < 16; j++) t[j] = j < lines ? line_words(from + j * ld, left) : v_set1(0.0f);
        v_transpose(t);
        if (l + 16 <= words) UNROLL for (size_t j = 0; j < 16; j++) v_store_n(to + j * width, lanes, t[j]);
        else UNROLL for (size_t j = 0; j < 16; j++)
            if (l + j < words) v_store_n(to + j * width, lanes, t[j]);
    }
}
INLINE void pack_all(uint32_t *dst, const size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k) {
    for (size_t p = 0; p < n; p += width, dst += next)
        for (size_t i = 0; i < width; i += 16) pack_lines(dst, width, src + p * ld, ld, n - p, k, i);
}
static void NAME(gemm_pack)(uint32_t *dst, size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k) {
    if (width == GEMM_ROWS) pack_all(dst, GEMM_ROWS, next, src, ld, n, k);
    else pack_all(dst, GEMM_COLS, next, src, ld, n, k);
}

/* Words i … i + 16 of one step. */
INLINE v16 step_words(const float *src, size_t ld, size_t n, size_t left) {
#ifdef GEMM_BF16
    return v_zip(v_load_n(src, n), left > 1 ? v_load_n(src + ld, n) : v_set1(0.0f));
#else
    return (void)ld, (void)left, v_load_n(src, n);
#endif
}
/* Some steps of all panels, and the next: so that the source is read in a few streams of whole lines. */
enum { ACROSS_STEPS = 8 * GEMM_STEP };
INLINE void across_all(uint32_t *dst, const size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k) {
    for (size_t first = 0; first < k; first += ACROSS_STEPS)
        for (size_t p = 0; p * width < n; p++) {
            const size_t lines = MIN(width, n - p * width);
            float *to = to_floats(dst) + p * next + first / GEMM_STEP * width;
            for (size_t l = first; l < MIN(first + ACROSS_STEPS, k); l += GEMM_STEP, to += width)
                UNROLL for (size_t i = 0; i < width; i += 16) {
                    const float *from = src + l * ld + p * width + i;
                    if (lines == width) v_store_n(to + i, MIN(width - i, 16), step_words(from, ld, MIN(width - i, 16), k - l));
                    else v_store_n(to + i, width - i, i < lines ? step_words(from, ld, lines - i, k - l) : v_set1(0.0f));
                }
        }
}
static void NAME(gemm_pack_across)(uint32_t *dst, size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k) {
    if (width == GEMM_ROWS) across_all(dst, GEMM_ROWS, next, src, ld, n, k);
    else across_all(dst, GEMM_COLS, next, src, ld, n, k);
}

void NAME(kern_init_gemm)(kern_table *t) {
    const kern_gemm g = {GEMM_ROWS, GEMM_COLS, GEMM_STEP, NAME(gemm_tile), NAME(gemm_pack), NAME(gemm_pack_across)};
#ifdef GEMM_BF16
    t->gemm_bf16 = g;
#else
    t->gemm = g;
#endif
}
