/* float_tmpl.h: norms, activation functions, softmax, small products, for any ISA.
 *
 * Written on a vector of 16 floats, whatever registers it takes. A file of src/kernel/<isa>/ defines it and its
 * operations (the list is in x86/v16_avx512.h) and NAME(x), which appends the ISA's suffix, and includes this. Sums
 * have 16 partial sums on every ISA, element i in partial sum i mod 16, added pairwise from the outside in. */
#include "kernel/generic/ref.h"

#include "kernel/v16_math.h"

/* ---- activation functions ---- */
INLINE v16 v_act(act_fn f, v16 x) {
    const v16 one = v_set1(1.0f), zero = v_set1(0.0f);
    switch (f) {
    case ACT_SILU: return v_mul(x, v_sigmoid(x));
    case ACT_GELU: return v_mul(v_mul(v_set1(0.5f), x), v_add(one, v_erf(v_mul(x, v_set1(0.70710678f)))));
    case ACT_GELU_TANH: {
        v16 inner = v_fma(v_mul(v_set1(0.044715f), x), x, one);
        inner = v_mul(v_mul(v_set1(0.79788456f), x), inner);
        /* (1 + tanh z) / 2 = sigmoid 2z */
        return v_mul(x, v_sigmoid(v_add(inner, inner)));
    }
    case ACT_RELU: return v_max(zero, x);
    case ACT_RELU2: return v_mul(v_max(zero, x), v_max(zero, x));
    case ACT_SIGMOID: return v_sigmoid(x);
    case ACT_SOFTPLUS: return v_softplus(x);
    case ACT_TANH: return v_tanh(x);
    case ACT_GELU_QUICK: return v_mul(x, v_sigmoid(v_mul(v_set1(1.702f), x)));
    case ACT_SWIGLU_OAI: x = v_min(v_set1(7.0f), x); return v_mul(x, v_sigmoid(v_mul(v_set1(1.702f), x)));
    default: return x;
    }
}

INLINE void act_row(const act_fn f, float *y, const float *x, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        size_t left = n - i;
        v16 v = v_act(f, v_load_n(x + i, left));
        if (up) {
            v16 u = v_load_n(up + i, left);
            if (f == ACT_SWIGLU_OAI)
                u = v_add(v_max(v_set1(-7.0f), v_min(v_set1(7.0f), u)), v_set1(1.0f));
            v = v_mul(v, u);
        }
        v_store_n(y + i, left, v);
    }
}

static void NAME(kern_act)(act_fn f, float *y, const float *x, const float *up, size_t n) {
    switch (f) {
#define CASE(f) \
    case f: act_row(f, y, x, up, n); return;
        CASE(ACT_SILU)
        CASE(ACT_GELU)
        CASE(ACT_GELU_TANH)
        CASE(ACT_RELU)
        CASE(ACT_RELU2)
        CASE(ACT_SIGMOID)
        CASE(ACT_SOFTPLUS)
        CASE(ACT_TANH)
        CASE(ACT_GELU_QUICK)
        CASE(ACT_SWIGLU_OAI)
        CASE(ACT_NONE)
#undef CASE
    default: kern_act_row_ref(f, y, x, up, n);
    }
}

/* ---- norms ---- */
INLINE void scale_row(float *y, const float *x, float mean, float scale, const float *w, const float *b, size_t n) {
    const v16 s = v_set1(scale), m = v_set1(mean);
    for (size_t i = 0; i < n; i += 16) {
        size_t left = n - i;
        v16 v = v_mul(v_sub(v_load_n(x + i, left), m), s);
        if (w) v = v_mul(v, v_load_n(w + i, left));
        if (b) v = v_add(v, v_load_n(b + i, left));
        v_store_n(y + i, left, v);
    }
}

static float NAME(kern_dot)(const float *x, const float *y, size_t n) {
    v16 s = v_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) s = v_fma(v_load_n(x + i, n - i), v_load_n(y + i, n - i), s);
    return v_sum(s);
}

static void NAME(kern_rms_norm)(float *y, const float *x, const float *w, const float *b, float eps, size_t n) {
    float square = NAME(kern_dot)(x, x, n) / (float)n;
    scale_row(y, x, 0.0f, 1.0f / sqrtf(square + eps), w, b, n);
}

static void NAME(kern_layer_norm)(float *y, const float *x, const float *w, const float *b, float eps, size_t n) {
    v16 s = v_set1(0.0f), q = v_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) s = v_add(s, v_load_n(x + i, n - i));
    const float mean = v_sum(s) / (float)n;
    for (size_t i = 0; i < n; i += 16) {
        v16 d = v_sub(v_load_n(x + i, n - i), v_set1(mean));
        if (n - i < 16) d = v_first(d, n - i);
        q = v_fma(d, d, q);
    }
    scale_row(y, x, mean, 1.0f / sqrtf(v_sum(q) / (float)n + eps), w, b, n);
}

/* ---- rows ---- */
static void NAME(kern_axpy)(float *y, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i += 16)
        v_store_n(y + i, n - i, v_fma(v_set1(scale), v_load_n(x + i, n - i), v_load_n(y + i, n - i)));
}

static float NAME(kern_max)(const float *x, size_t n) {
    const v16 lowest = v_set1(-INFINITY);
    v16 m = lowest;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) m = v_max(v_load(x + i), m); /* gives the second where the first is NaN */
    float r = v_largest(m);
    for (; i < n; i++)
        if (x[i] > r) r = x[i];
    return r;
}

static float NAME(kern_exp_sum)(float *x, float shift, size_t n) {
    const v16 s = v_set1(shift);
    v16 sum = v_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        v16 e = v_exp(v_sub(v_load_n(x + i, n - i), s));
        if (n - i < 16) e = v_first(e, n - i);
        v_store_n(x + i, n - i, e);
        sum = v_add(sum, e);
    }
    return v_sum(sum);
}

static void NAME(kern_rotate)(float *v, const float *cs, size_t n, bool halves) {
    size_t i = 0;
    if (halves) {
        for (; i + 16 <= n; i += 16) {
            v16 s, c = v_unzip(cs + 2 * i, &s), x = v_load(v + i), y = v_load(v + n + i);
            v_store(v + i, v_sub(v_mul(x, c), v_mul(y, s)));
            v_store(v + n + i, v_add(v_mul(x, s), v_mul(y, c)));
        }
        for (; i < n; i++) {
            const float x = v[i], y = v[i + n], c = cs[2 * i], s = cs[2 * i + 1];
            v[i] = x * c - y * s;
            v[i + n] = x * s + y * c;
        }
        return;
    }
    for (; i + 8 <= n; i += 8) {
        const v16 both = v_load(cs + 2 * i), x = v_load(v + 2 * i);
        v_store(v + 2 * i, v_sub_add(v_mul(x, v_even(both)), v_mul(v_swap(x), v_odd(both))));
    }
    if (i < n) kern_rotate_ref(v + 2 * i, cs + 2 * i, n - i, false);
}

static void NAME(kern_scale)(float *y, const float *x, float by, size_t n) {
    const v16 s = v_set1(by);
    for (size_t i = 0; i < n; i += 16) v_store_n(y + i, n - i, v_mul(v_load_n(x + i, n - i), s));
}

static void NAME(kern_mix)(float *y, float a, const float *x, float b, size_t n) {
    const v16 va = v_set1(a), vb = v_set1(b);
    for (size_t i = 0; i < n; i += 16)
        v_store_n(y + i, n - i, v_add(v_mul(v_load_n(y + i, n - i), va), v_mul(v_load_n(x + i, n - i), vb)));
}

static float NAME(kern_soften)(float *s, size_t n, float *max, float *sum) {
    const float m = fmaxf(*max, NAME(kern_max)(s, n));
    if (m == -INFINITY) {
        memset(s, 0, n * sizeof *s);
        return 1.0f;
    }
    const float keep = *max == m ? 1.0f : expf(*max - m);
    *sum = *sum * keep + NAME(kern_exp_sum)(s, m, n);
    *max = m;
    return keep;
}

/* ---- quantization of activations: QUANT_BATCH blocks at once, one lane for each block's numbers ---- */
enum { QUANT_BATCH = 8 };

/* Blocks b … b + m of a row, as lo and hi halves; zeros for the rest, and for blocks with infinities or NaN. Returns the
 * largest |x| of each. */
INLINE v16 load_blocks(const float *x, size_t k, size_t b, size_t m, v16 *lo, v16 *hi) {
    v16 most[QUANT_BATCH], two[QUANT_BATCH / 2];
    UNROLL for (size_t i = 0; i < QUANT_BATCH; i++) {
        lo[i] = hi[i] = v_set1(0.0f);
        if (i < m) {
            const size_t at = (b + i) * KERN_BLOCK, left = k - at;
            lo[i] = v_load_n(x + at, left);
            if (left > 16) hi[i] = v_load_n(x + at + 16, left - 16);
            /* x - x is NaN for infinities and NaN */
            if (v_any_nan(v_add(v_sub(lo[i], lo[i]), v_sub(hi[i], hi[i])))) lo[i] = hi[i] = v_set1(0.0f);
        }
        most[i] = v_max(v_abs(lo[i]), v_abs(hi[i]));
        if (i % 2) two[i / 2] = v_largest_two(most[i - 1], most[i]);
    }
    return v_largest_rest(two);
}

/* Scales and sums of blocks b … b + m: the sums of the blocks' halves are s0 and s1. */
INLINE void put_sums(const kern_acts *a, size_t b, size_t m, v16 d, v16 s0, v16 s1) {
    const v16 both = v_add(s0, s1), halves = v_zip_8(s0, s1);
    v_store_n(a->d + b, m, d);
    v_store_n(a->ds + b, m, v_mul(d, both));
    v_store_n(a->ds16 + 2 * b, 2 * m, v_mul(v_zip_8(d, d), halves));
    v_put_i32_n(a->n + b, m, v_neg(both));
    v_put_i32_n(a->n16 + 2 * b, 2 * m, v_neg(halves));
}

INLINE void quantize_blocks(const kern_acts *a, const float *x, size_t k, size_t b, size_t m) {
    v16 lo[QUANT_BATCH], hi[QUANT_BATCH];
    const v16 zero = v_set1(0.0f), amax = load_blocks(x, k, b, m, lo, hi);
    v16 inverse = v_div(v_set1(1.0f), amax);
    /* zeros, and what is too small to divide by */
    inverse = v_select_below(v_set1(3.4028234e38f), v_mul(inverse, v_set1(kern_steps[0])), zero, inverse);
    v16 best = zero, best_sum = zero, best_qq = zero, best_by = zero, best_unit = zero;
    float by[16];
    UNROLL for (size_t s = 0; s < KERN_STEPS; s++) {
        const v16 steps = v_mul(v_set1(kern_steps[s]), inverse), unit = v_set1(kern_steps_inverse[s]);
        v16 yq[QUANT_BATCH / 2], qq[QUANT_BATCH / 2];
        v_store(by, steps);
        UNROLL for (size_t i = 0; i < QUANT_BATCH; i += 2) { /* two blocks at a time: that fits the registers */
            v16 yq2[2], qq2[2];
            UNROLL for (size_t j = 0; j < 2; j++) {
                const v16 each = v_set1(by[i + j]), y_lo = v_mul(lo[i + j], each), y_hi = v_mul(hi[i + j], each);
                const v16 q_lo = v_round(y_lo), q_hi = v_round(y_hi);
                yq2[j] = v_fma(y_hi, q_hi, v_mul(y_lo, q_lo));
                qq2[j] = v_fma(q_hi, q_hi, v_mul(q_lo, q_lo)); /* exact */
            }
            yq[i / 2] = v_sum_two(yq2[0], yq2[1]);
            qq[i / 2] = v_sum_two(qq2[0], qq2[1]);
        }
        const v16 sum = v_sum_rest(yq), squares = v_sum_rest(qq), e = v_mul(sum, unit), fits = v_mul(e, e);
        const v16 mine = v_mul(fits, best_qq), other = v_mul(best, squares);
        if (s == 0) {
            best = fits, best_sum = sum, best_qq = squares, best_by = steps, best_unit = unit;
        } else {
            best = v_select_below(other, mine, fits, best);
            best_sum = v_select_below(other, mine, sum, best_sum);
            best_qq = v_select_below(other, mine, squares, best_qq);
            best_by = v_select_below(other, mine, steps, best_by);
            best_unit = v_select_below(other, mine, unit, best_unit);
        }
    }
    v16 d = v_mul(v_mul(amax, best_unit), v_div(best_sum, best_qq));
    d = v_select_below(zero, best_by, d, zero); /* 0 / 0 where the block is 0 */
    v_store(by, best_by);
    v16 s0[QUANT_BATCH / 2], s1[QUANT_BATCH / 2];
    UNROLL for (size_t i = 0; i < QUANT_BATCH; i++) {
        lo[i] = v_round(v_mul(lo[i], v_set1(by[i])));
        hi[i] = v_round(v_mul(hi[i], v_set1(by[i])));
        if (i < m) v_put_i8(a->q + (b + i) * KERN_BLOCK, lo[i], hi[i]);
        if (i % 2) s0[i / 2] = v_sum_two(lo[i - 1], lo[i]), s1[i / 2] = v_sum_two(hi[i - 1], hi[i]);
    }
    put_sums(a, b, m, d, v_sum_rest(s0), v_sum_rest(s1));
}

static void NAME(kern_quantize)(void *dst, const float *x, size_t k) {
    const kern_acts a = kern_acts_at(dst, k);
    const size_t nb = kern_acts_blocks(k);
    size_t b = 0;
    for (; b + QUANT_BATCH <= nb; b += QUANT_BATCH) quantize_blocks(&a, x, k, b, QUANT_BATCH);
    if (b < nb) quantize_blocks(&a, x, k, b, nb - b);
}

/* ---- 16-bit floats, and what caches of keys and values are made of ---- */
INLINE uint16_t load_half(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static void NAME(kern_widen_f16)(float *dst, const void *src, size_t n) {
    const uint16_t *h = src;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(dst + i, v_f16(h + i));
    if (i < n) kern_widen_f16_ref(dst + i, h + i, n - i);
}
static void NAME(kern_widen_bf16)(float *dst, const void *src, size_t n) {
    const uint16_t *h = src;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(dst + i, v_bf16(h + i));
    if (i < n) kern_widen_bf16_ref(dst + i, h + i, n - i);
}
static void NAME(kern_widen_q8_0)(float *dst, const void *src, size_t n) {
    const unsigned char *b = src; /* f16, i8[32] */
    for (; n; n -= 32, b += 34, dst += 32) {
        const v16 d = v_set1(quant_f16_to_f32(load_half(b)));
        v_store(dst, v_mul(v_i8(b + 2), d));
        v_store(dst + 16, v_mul(v_i8(b + 18), d));
    }
}
static void NAME(kern_widen_q4_0)(float *dst, const void *src, size_t n) {
    const unsigned char *b = src; /* f16, u8[16] */
    for (; n; n -= 32, b += 18, dst += 32) {
        const v16 d = v_set1(quant_f16_to_f32(load_half(b))), eight = v_set1(8.0f);
        v_store(dst, v_mul(v_sub(v_nibbles(b + 2, 0), eight), d));
        v_store(dst + 16, v_mul(v_sub(v_nibbles(b + 2, 1), eight), d));
    }
}
static void NAME(kern_widen_columns_q8_0)(float *dst, size_t ld, const void *src) {
    const unsigned char *q = src;
    const v16 d = v_f16(q + 512);
    for (size_t j = 0; j < 32; j++) v_store(dst + j * ld, v_mul(v_i8(q + 16 * j), d));
}
static void NAME(kern_widen_columns_q4_0)(float *dst, size_t ld, const void *src) {
    const unsigned char *q = src;
    const v16 d = v_f16(q + 256), eight = v_set1(8.0f);
    for (size_t j = 0; j < 16; j++) {
        v_store(dst + j * ld, v_mul(v_sub(v_nibbles(q + 16 * j, 0), eight), d));
        v_store(dst + (j + 16) * ld, v_mul(v_sub(v_nibbles(q + 16 * j, 1), eight), d));
    }
}
static void NAME(kern_unzip_f16)(float *even, float *odd, const void *words, size_t n) {
    const uint16_t *h = words;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 o, e = v_f16_pairs(h + 2 * i, &o);
        v_store(even + i, e);
        v_store(odd + i, o);
    }
    if (i < n) kern_unzip_f16_ref(even + i, odd + i, h + 2 * i, n - i);
}
static void NAME(kern_unzip_bf16)(float *even, float *odd, const void *words, size_t n) {
    const uint16_t *h = words;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 o, e = v_bf16_pairs(h + 2 * i, &o);
        v_store(even + i, e);
        v_store(odd + i, o);
    }
    if (i < n) kern_unzip_bf16_ref(even + i, odd + i, h + 2 * i, n - i);
}
static void NAME(kern_narrow_f16)(void *dst, const float *src, size_t n) {
    uint16_t *h = dst;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v_put_f16(h + i, v_load(src + i));
    if (i < n) kern_narrow_f16_ref(h + i, src + i, n - i);
}

/* ---- products ---- */
/* rows [i, i + m), columns [j, j + 16 nv), of which the last vector has `tail` */
INLINE void tile_part(const kern_tile *t, size_t i, const int m, size_t j, const int nv, size_t tail) {
    v16 c[6][TILE_VECTORS];
    const float *a = t->a + i * t->lda, *b = t->b + j;
    UNROLL for (int r = 0; r < m; r++) UNROLL for (int v = 0; v < nv; v++) {
        const float *p = t->c + (i + (size_t)r) * t->ldc + j + 16 * (size_t)v;
        c[r][v] = !t->add ? v_set1(0.0f) : v == nv - 1 ? v_load_n(p, tail) : v_load(p);
    }
    for (size_t l = 0; l < t->k; l++, b += t->ldb) {
        v16 w[TILE_VECTORS];
        UNROLL for (int v = 0; v < nv; v++) w[v] = v == nv - 1 ? v_load_n(b + 16 * v, tail) : v_load(b + 16 * v);
        UNROLL for (int r = 0; r < m; r++) {
            const v16 s = v_set1(a[(size_t)r * t->lda + l]);
            UNROLL for (int v = 0; v < nv; v++) c[r][v] = v_fma(s, w[v], c[r][v]);
        }
    }
    UNROLL for (int r = 0; r < m; r++) UNROLL for (int v = 0; v < nv; v++)
        v_store_n(t->c + (i + (size_t)r) * t->ldc + j + 16 * (size_t)v, v == nv - 1 ? tail : 16, c[r][v]);
}

INLINE void tile_columns(const kern_tile *t, size_t j, const int nv, size_t tail) {
    size_t i = 0;
    for (; i + TILE_ROWS <= t->m; i += TILE_ROWS) tile_part(t, i, TILE_ROWS, j, nv, tail);
    for (; i + 2 <= t->m; i += 2) tile_part(t, i, 2, j, nv, tail);
    for (; i < t->m; i++) tile_part(t, i, 1, j, nv, tail);
}

static void NAME(kern_tile)(const kern_tile *t) {
    size_t j = 0;
    for (; j + 16 * TILE_VECTORS <= t->n; j += 16 * TILE_VECTORS) tile_columns(t, j, TILE_VECTORS, 16);
    for (; TILE_VECTORS > 2 && j + 32 <= t->n; j += 32) tile_columns(t, j, MIN(2, TILE_VECTORS), 16);
    for (; j + 16 <= t->n; j += 16) tile_columns(t, j, 1, 16);
    if (j < t->n) tile_columns(t, j, 1, t->n - j);
}

#include "kernel/scan_tmpl.h"

void NAME(kern_init_float)(kern_table *t) {
    t->quantize = NAME(kern_quantize);
    t->rms_norm = NAME(kern_rms_norm);
    t->layer_norm = NAME(kern_layer_norm);
    t->act = NAME(kern_act);
    t->axpy = NAME(kern_axpy);
    t->dot = NAME(kern_dot);
    t->max = NAME(kern_max);
    t->exp_sum = NAME(kern_exp_sum);
    t->rotate = NAME(kern_rotate);
    t->scale = NAME(kern_scale);
    t->mix = NAME(kern_mix);
    t->soften = NAME(kern_soften);
    t->tile = NAME(kern_tile);
    t->recall = NAME(kern_recall);
    t->absorb = NAME(kern_absorb);
    t->conv = NAME(kern_conv);
    t->scan_each = NAME(kern_scan_each);
    t->scan_delta = NAME(kern_scan_delta);
    t->scan_back = NAME(kern_scan_back);
    t->widen[QUANT_F16] = NAME(kern_widen_f16);
    t->widen[QUANT_BF16] = NAME(kern_widen_bf16);
    t->widen[QUANT_Q8_0] = NAME(kern_widen_q8_0);
    t->widen[QUANT_Q4_0] = NAME(kern_widen_q4_0);
    t->widen_columns[QUANT_Q8_0] = NAME(kern_widen_columns_q8_0);
    t->widen_columns[QUANT_Q4_0] = NAME(kern_widen_columns_q4_0);
    t->unzip[QUANT_F16] = NAME(kern_unzip_f16);
    t->unzip[QUANT_BF16] = NAME(kern_unzip_bf16);
    t->narrow[QUANT_F16] = NAME(kern_narrow_f16);
}
