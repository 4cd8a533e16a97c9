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

/* 16 lines of a panel, from line i on. */
INLINE void pack_lines(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k, size_t i) {
    const size_t words = (k + GEMM_STEP - 1) / GEMM_STEP, lanes = MIN(width - i, 16), lines = n > i ? MIN(n - i, 16) : 0;
    src += i * ld;
    for (size_t l = 0; l < words; l += 16) {
        const size_t left = k - l * GEMM_STEP;
        float *to = to_floats(dst) + l * width + i;
        v16 t[16];
        if (lines == 16 && left >= 16 * GEMM_STEP)
            UNROLL for (size_t j = 0; j < 16; j++) t[j] = line_words(src + j * ld + l * GEMM_STEP, 16 * GEMM_STEP);
        else
            UNROLL for (size_t j = 0; j < 16; j++) t[j] = j < lines ? line_words(src + j * ld + l * GEMM_STEP, left) : v_set1(0.0f);
        v_transpose(t);
        UNROLL for (size_t j = 0; j < 16; j++)
            if (l + j < words) v_store_n(to + j * width, lanes, t[j]);
    }
}
static void NAME(gemm_pack)(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k) {
    for (size_t i = 0; i < width; i += 16) pack_lines(dst, width, src, ld, n, k, i);
}

/* Words i … i + 16 of one step. */
INLINE v16 step_words(const float *src, size_t ld, size_t n, size_t left) {
    if (n == 0) return v_set1(0.0f);
#ifdef GEMM_BF16
    return v_zip(v_load_n(src, n), left > 1 ? v_load_n(src + ld, n) : v_set1(0.0f));
#else
    return (void)ld, (void)left, v_load_n(src, n);
#endif
}
static void NAME(gemm_pack_across)(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k) {
    float *to = to_floats(dst);
    for (size_t l = 0; l < k; l += GEMM_STEP, to += width)
        for (size_t i = 0; i < width; i += 16)
            v_store_n(to + i, width - i, step_words(src + l * ld + i, ld, n > i ? n - i : 0, k - l));
}

void NAME(kern_init_gemm)(kern_table *t) {
    const kern_gemm g = {GEMM_ROWS, GEMM_COLS, GEMM_STEP, NAME(gemm_tile), NAME(gemm_pack), NAME(gemm_pack_across)};
#ifdef GEMM_BF16
    t->gemm_bf16 = g;
#else
    t->gemm = g;
#endif
}
