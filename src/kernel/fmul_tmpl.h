/* fmul_tmpl.h: products of row-major F32, F16 and BF16 weights and f32 activations, for any ISA.
 *
 * Written on the vector of 16 floats of float_tmpl.h, included in the same way. An element has 16 partial sums on
 * every ISA, column i in partial sum i mod 16, added pairwise from the outside in. */
#include "kernel/generic/ref.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* Sixteen weights of a row of 2^size_log2 bytes each. */
INLINE v16 weights_at(const unsigned char *w, const quant_type type, size_t i) {
    if (type == QUANT_F32) return v_load((const float *)(const void *)(w + 4 * i));
    return type == QUANT_F16 ? v_f16(w + 2 * i) : v_bf16(w + 2 * i);
}

/* rows [r, r + m) of w times n tokens from t on */
INLINE void fmul_part(const kern_fmul *a, const quant_type type, size_t r, const int m, size_t t, const int n) {
    const unsigned char *w = a->w + r * a->row_bytes;
    const float *x[4];
    v16 s[8][4];
    UNROLL for (int j = 0; j < n; j++) x[j] = a->x + kern_x_row(&a->index, t + (size_t)j) * a->ldx;
    UNROLL for (int i = 0; i < m; i++) UNROLL for (int j = 0; j < n; j++) s[i][j] = v_set1(0.0f);
    size_t k = 0;
    for (; k + 16 <= a->k; k += 16) {
        v16 v[4];
        UNROLL for (int j = 0; j < n; j++) v[j] = v_load(x[j] + k);
        UNROLL for (int i = 0; i < m; i++) {
            const v16 u = weights_at(w + (size_t)i * a->row_bytes, type, k);
            UNROLL for (int j = 0; j < n; j++) s[i][j] = v_fma(u, v[j], s[i][j]);
        }
    }
    if (k < a->k) {
        const size_t left = a->k - k, size = type == QUANT_F32 ? 4 : 2;
        for (int i = 0; i < m; i++) {
            unsigned char end[64] = {0};
            memcpy(end, w + (size_t)i * a->row_bytes + k * size, left * size);
            const v16 u = weights_at(end, type, 0);
            UNROLL for (int j = 0; j < n; j++) s[i][j] = v_fma(u, v_load_n(x[j] + k, left), s[i][j]);
        }
    }
    UNROLL for (int j = 0; j < n; j++) UNROLL for (int i = 0; i < m; i++)
        kern_put_ref(&a->out, kern_y_row(&a->index, t + (size_t)j), r + (size_t)i, v_sum(s[i][j]));
}

INLINE void fmul_rows(const kern_fmul *a, const quant_type type, size_t r, const int m, const int m1) {
    size_t t = 0;
    for (; t + FMUL_TOKENS <= a->n_x; t += FMUL_TOKENS)
        UNROLL for (int i = 0; i < m; i += FMUL_ROWS)
            fmul_part(a, type, r + (size_t)i, m < FMUL_ROWS ? m : FMUL_ROWS, t, FMUL_TOKENS);
    for (; t < a->n_x; t++)
        UNROLL for (int i = 0; i < m; i += m1) fmul_part(a, type, r + (size_t)i, m1, t, 1);
}

INLINE void float_product(const kern_fmul *a, const quant_type type) {
    size_t r = 0;
    for (; r + 2 * FMUL_ROWS <= a->n_rows; r += 2 * FMUL_ROWS) fmul_rows(a, type, r, 2 * FMUL_ROWS, 2 * FMUL_ROWS);
    for (; r < a->n_rows; r++) fmul_rows(a, type, r, 1, 1);
}
static void NAME(kern_fmul_f32)(const kern_fmul *a) { float_product(a, QUANT_F32); }
static void NAME(kern_fmul_f16)(const kern_fmul *a) { float_product(a, QUANT_F16); }
static void NAME(kern_fmul_bf16)(const kern_fmul *a) { float_product(a, QUANT_BF16); }

void NAME(kern_init_fmul)(kern_table *t) {
    t->fmul[QUANT_F32] = NAME(kern_fmul_f32);
    t->fmul[QUANT_F16] = NAME(kern_fmul_f16);
    t->fmul[QUANT_BF16] = NAME(kern_fmul_bf16);
}
