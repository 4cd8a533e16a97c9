/* fmul_tmpl.h: products of row-major F32, F16 and BF16 weights and f32 activations, for any ISA; where FMUL_BF16 is
 * defined, of BF16 weights and bf16 activations instead.
 *
 * Written on the vector of 16 floats of float_tmpl.h, included in the same way. An element has 16 partial sums on
 * every ISA, column i in partial sum i mod 16 (pairs of columns: pair i mod 16), added pairwise from the outside in. */
#include "kernel/generic/ref.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* Rows that all tokens meet before the next: they stay in the second cache. */
enum { FMUL_NEAR_BYTES = 256 << 10 };

/* A vector of a row of weights from column i on, and of activations. */
#ifdef FMUL_BF16
enum { FMUL_STEP = 32 };
typedef uint16_t fmul_x;
INLINE v16 weights_at(const unsigned char *w, const quant_type type, size_t i) {
    return (void)type, v_load((const float *)(const void *)(w + 2 * i));
}
INLINE const fmul_x *fmul_row_at(const kern_fmul *a, size_t row) { return a->xb + row * a->ldx; }
INLINE v16 fmul_x_at(const fmul_x *x) { return v_load((const float *)(const void *)x); }
#define MULTIPLY_ADD(u, v, s) v_dot_bf16(u, v, s)
#else
enum { FMUL_STEP = 16 };
typedef float fmul_x;
INLINE v16 weights_at(const unsigned char *w, const quant_type type, size_t i) {
    if (type == QUANT_F32) return v_load((const float *)(const void *)(w + 4 * i));
    return type == QUANT_F16 ? v_f16(w + 2 * i) : v_bf16(w + 2 * i);
}
INLINE const fmul_x *fmul_row_at(const kern_fmul *a, size_t row) { return a->x + row * a->ldx; }
INLINE v16 fmul_x_at(const fmul_x *x) { return v_load(x); }
#define MULTIPLY_ADD(u, v, s) v_fma(u, v, s)
#endif

/* rows [r, r + m) of w times n tokens from t on */
INLINE void fmul_part(const kern_fmul *a, const quant_type type, size_t r, const int m, size_t t, const int n) {
    const unsigned char *w = a->w + r * a->row_bytes;
    const fmul_x *x[FMUL_TOKENS];
    v16 s[FMUL_TOKENS][2 * FMUL_ROWS];
    UNROLL for (int j = 0; j < n; j++) x[j] = fmul_row_at(a, kern_x_row(&a->index, t + (size_t)j));
    UNROLL for (int j = 0; j < n; j++) UNROLL for (int i = 0; i < m; i++) s[j][i] = v_set1(0.0f);
    size_t k = 0;
    for (; k + FMUL_STEP <= a->k; k += FMUL_STEP) {
        v16 v[FMUL_TOKENS];
        UNROLL for (int j = 0; j < n; j++) v[j] = fmul_x_at(x[j] + k);
        UNROLL for (int i = 0; i < m; i++) {
            const v16 u = weights_at(w + (size_t)i * a->row_bytes, type, k);
            UNROLL for (int j = 0; j < n; j++) s[j][i] = MULTIPLY_ADD(u, v[j], s[j][i]);
        }
    }
    if (k < a->k) {
        const size_t left = a->k - k, size = type == QUANT_F32 ? 4 : 2;
        UNROLL for (int j = 0; j < n; j++) {
            fmul_x end_x[FMUL_STEP] = {0};
            memcpy(end_x, x[j] + k, left * sizeof *end_x);
            UNROLL for (int i = 0; i < m; i++) {
                unsigned char end[64] = {0};
                memcpy(end, w + (size_t)i * a->row_bytes + k * size, left * size);
                s[j][i] = MULTIPLY_ADD(weights_at(end, type, 0), fmul_x_at(end_x), s[j][i]);
            }
        }
    }
    const kern_out *o = &a->out;
    UNROLL for (int j = 0; j < n; j++) {
        float sums[2 * FMUL_ROWS], *y = o->y + kern_y_row(&a->index, t + (size_t)j) * o->ld + r;
        if (m % 4 == 0) UNROLL for (int i = 0; i < m; i += 4) v_sum4(sums + i, s[j] + i);
        else UNROLL for (int i = 0; i < m; i++) sums[i] = v_sum(s[j][i]);
        UNROLL for (int i = 0; i < m; i++) {
            float e = sums[i] * o->scale;
            if (o->bias) e += o->bias[r + (size_t)i];
            y[i] = o->add ? y[i] + e : e;
        }
    }
}

/* Rows [from, to) times all tokens. With one token more rows at a time, so that there are sums enough. */
INLINE void fmul_rows(const kern_fmul *a, const quant_type type, size_t from, size_t to) {
    size_t t = 0;
#define EACH_ROW(m, n)                                                                                        \
    do {                                                                                                      \
        size_t r_ = from;                                                                                     \
        for (; r_ + (m) <= to; r_ += (m)) fmul_part(a, type, r_, m, t, n);                                    \
        for (; r_ < to; r_++) fmul_part(a, type, r_, 1, t, n);                                                \
    } while (0)
    for (; t + FMUL_TOKENS <= a->n_x; t += FMUL_TOKENS) EACH_ROW(FMUL_ROWS, FMUL_TOKENS);
    if (FMUL_TOKENS > 2)
        for (; t + 2 <= a->n_x; t += 2) EACH_ROW(FMUL_ROWS, 2);
    for (; t < a->n_x; t++) EACH_ROW(2 * FMUL_ROWS, 1);
#undef EACH_ROW
}

INLINE void float_product(const kern_fmul *a, const quant_type type) {
    const size_t unit = 2 * FMUL_ROWS, near = MAX(unit, FMUL_NEAR_BYTES / (a->row_bytes + 1) / unit * unit);
    for (size_t r = 0; r < a->n_rows; r += near) fmul_rows(a, type, r, MIN(r + near, a->n_rows));
}

#ifdef FMUL_BF16
static void NAME(kern_bmul)(const kern_fmul *a) { float_product(a, QUANT_BF16); }

void NAME(kern_init_fmul)(kern_table *t) { t->bmul = NAME(kern_bmul); }
#else
static void NAME(kern_fmul_f32)(const kern_fmul *a) { float_product(a, QUANT_F32); }
static void NAME(kern_fmul_f16)(const kern_fmul *a) { float_product(a, QUANT_F16); }
static void NAME(kern_fmul_bf16)(const kern_fmul *a) { float_product(a, QUANT_BF16); }

void NAME(kern_init_fmul)(kern_table *t) {
    t->fmul[QUANT_F32] = NAME(kern_fmul_f32);
    t->fmul[QUANT_F16] = NAME(kern_fmul_f16);
    t->fmul[QUANT_BF16] = NAME(kern_fmul_bf16);
}
#endif
