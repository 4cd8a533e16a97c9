/* v16_avx512.h: sixteen floats in one register. Every ISA's header defines for float_tmpl.h and fmul_tmpl.h:
 *   TILE_ROWS, TILE_VECTORS   register tile of kern_tile: rows (at most 6) × vectors
 *   FMUL_ROWS, FMUL_TOKENS    register tile of the float products
 *   v_load, v_store, v_set1, v_add, v_sub, v_mul, v_div, v_fma(a, b, c) = a b + c, v_sqrt, v_neg, v_abs, v_round (to even)
 *   v_load_n(p, n), v_store_n(p, n, v)  the first n lanes only, when n < 16; the rest of a loaded vector is 0
 *   v_first(v, n)             v with 0 from lane n on
 *   v_min, v_max              the second operand where either is NaN
 *   v_sum                     pairwise from the outside in; v_sum4(y, v): those of four vectors; v_largest: the largest lane
 *   v_pow2(n)                 2^n for whole -126 ≤ n ≤ 127
 *   v_zero_below(v, x, c)     0 in the lanes where x < c, else v
 *   v_select_below(x, c, a, b) a where x < c, else b; v_copy_sign(a, b): a ≥ 0 with the sign of b
 *   v_any_nan                 whether a lane is NaN
 *   v_unzip(p, &odd)          the even and odd ones of 32 floats
 *   v_even, v_odd, v_swap     each lane of a pair 2i, 2i + 1: the even one, the odd one, the other one
 *   v_sub_add(a, b)           a - b in the even lanes, a + b in the odd ones
 *   v_f16_pairs(p, &odd), v_bf16_pairs(p, &odd)  the even and odd ones of 32 halves widened
 *   v_f16(p), v_bf16(p)       16 halves widened; v_put_f16(p, v): narrowed, to even
 *   v_i8(p), v_nibbles(p, h)  16 signed bytes; the low (h 0) or high nibbles of 16 bytes
 *   v_put_i8(p, lo, hi)       32 values |v| ≤ 127.5 as int8, rounded to even
 *   v_put_i32_n(p, n, v)      the first n ≤ 16 lanes as integers
 *   v_zip_8(a, b)             a0 b0 a1 b1 … a7 b7
 *   v_sum_rest(t)             t[i] = v_sum_two(v[2i], v[2i + 1]), i < 4: lane j < 8 is v_sum of v[j]; the other lanes may
 *                             be anything. v_largest_two, v_largest_rest: likewise v_largest (no NaN) */
#ifndef MOTE_KERNEL_X86_V16_AVX512_H
#define MOTE_KERNEL_X86_V16_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TILE_ROWS 6
#define TILE_VECTORS 4
#define FMUL_ROWS 4
#define FMUL_TOKENS 6
typedef __m512 v16;

static inline __mmask16 first_lanes(size_t n) { return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1u); }
static inline v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
static inline v16 v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static inline void v_store_n(float *p, size_t n, v16 v) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
static inline v16 v_first(v16 v, size_t n) { return _mm512_maskz_mov_ps(first_lanes(n), v); }
static inline v16 v_set1(float x) { return _mm512_set1_ps(x); }
static inline v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
static inline v16 v_neg(v16 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
static inline v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
static inline v16 v_round(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline v16 v_pow2(v16 n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
static inline v16 v_zero_below(v16 v, v16 x, v16 c) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, c, _CMP_NLT_UQ), v);
}
static inline v16 v_select_below(v16 x, v16 c, v16 a, v16 b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, c, _CMP_LT_OQ), a);
}
static inline v16 v_copy_sign(v16 a, v16 b) {
    return _mm512_or_ps(a, _mm512_and_ps(b, _mm512_set1_ps(-0.0f)));
}
static inline int v_any_nan(v16 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0; }
static inline float v_sum(v16 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline void v_sum4(float *y, const v16 *v) {
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    __m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(y, _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s)));
}
static inline float v_largest(v16 v) { return _mm512_reduce_max_ps(v); }
static inline v16 v_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline v16 v_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
static inline v16 v_f16_pairs(const void *p, v16 *odd) {
    const __m512i w = _mm512_loadu_si512(p);
    *odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(w, 16)));
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w));
}
static inline v16 v_bf16_pairs(const void *p, v16 *odd) {
    const __m512i w = _mm512_loadu_si512(p);
    *odd = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000u)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
static inline void v_put_f16(void *p, v16 v) {
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline v16 v_i8(const void *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline v16 v_nibbles(const void *p, int high) {
    __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_cvtepi32_ps(high ? _mm512_srli_epi32(b, 4) : _mm512_and_si512(b, _mm512_set1_epi32(15)));
}
static inline void v_put_i8(int8_t *p, v16 lo, v16 hi) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(lo)));
    _mm_storeu_si128((__m128i *)(void *)(p + 16), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(hi)));
}
static inline void v_put_i32_n(int32_t *p, size_t n, v16 v) {
    _mm512_mask_storeu_epi32(p, first_lanes(n), _mm512_cvtps_epi32(v));
}
static inline v16 v_unzip(const float *p, v16 *odd) {
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const v16 a = v_load(p), b = v_load(p + 16);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(order, _mm512_set1_epi32(1)), b);
    return _mm512_permutex2var_ps(a, order, b);
}
static inline v16 v_even(v16 v) { return _mm512_moveldup_ps(v); }
static inline v16 v_odd(v16 v) { return _mm512_movehdup_ps(v); }
static inline v16 v_swap(v16 v) { return _mm512_permute_ps(v, 0xb1); }
static inline v16 v_sub_add(v16 a, v16 b) { return _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0x5555, a, b); }
static inline v16 v_zip_8(v16 a, v16 b) {
    const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, order, b);
}
#define REDUCE_8(name, op)                                                                                    \
    static inline v16 name##_two(v16 a, v16 b) {                                                              \
        return op(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));                        \
    }                                                                                                         \
    static inline v16 name##_rest(const v16 t[4]) {                                                           \
        v16 u = op(_mm512_shuffle_f32x4(t[0], t[1], 0x88), _mm512_shuffle_f32x4(t[0], t[1], 0xdd));           \
        v16 v = op(_mm512_shuffle_f32x4(t[2], t[3], 0x88), _mm512_shuffle_f32x4(t[2], t[3], 0xdd));           \
        v16 w = op(_mm512_shuffle_ps(u, v, 0x44), _mm512_shuffle_ps(u, v, 0xee));                             \
        w = op(_mm512_shuffle_ps(w, w, 0x88), _mm512_shuffle_ps(w, w, 0xdd)); /* j and j + 4 in quarter j */  \
        return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0), w); \
    }
REDUCE_8(v_sum, _mm512_add_ps)
REDUCE_8(v_largest, _mm512_max_ps)
#undef REDUCE_8

#endif
