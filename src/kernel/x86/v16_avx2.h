/* v16_avx2.h: sixteen floats in two registers; v16_avx512.h tells what each operation means. */
#ifndef MOTE_KERNEL_X86_V16_AVX2_H
#define MOTE_KERNEL_X86_V16_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TILE_ROWS 4
#define TILE_VECTORS 1
#define FMUL_ROWS 2
#define FMUL_TOKENS 2
typedef struct v16 {
    __m256 a, b; /* lanes 0..7, 8..15 */
} v16;

static inline v16 v_of(__m256 a, __m256 b) { return (v16){a, b}; }
static inline v16 v_load(const float *p) { return v_of(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
static inline void v_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline __m256i lanes_below(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline v16 v_load_n(const float *p, size_t n) {
    if (n >= 16) return v_load(p);
    if (n <= 8) return v_of(_mm256_maskload_ps(p, lanes_below(n)), _mm256_setzero_ps());
    return v_of(_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, lanes_below(n - 8)));
}
static inline void v_store_n(float *p, size_t n, v16 v) {
    if (n >= 16) {
        v_store(p, v);
    } else if (n <= 8) {
        _mm256_maskstore_ps(p, lanes_below(n), v.a);
    } else {
        _mm256_storeu_ps(p, v.a);
        _mm256_maskstore_ps(p + 8, lanes_below(n - 8), v.b);
    }
}
static inline v16 v_first(v16 v, size_t n) {
    __m256 a = _mm256_castsi256_ps(lanes_below(n > 8 ? 8 : n)), b = _mm256_castsi256_ps(lanes_below(n > 8 ? n - 8 : 0));
    return v_of(_mm256_and_ps(v.a, a), _mm256_and_ps(v.b, b));
}
static inline v16 v_set1(float x) { return v_of(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
#define EACH(name, op) \
    static inline v16 name(v16 x, v16 y) { return v_of(op(x.a, y.a), op(x.b, y.b)); }
EACH(v_add, _mm256_add_ps)
EACH(v_sub, _mm256_sub_ps)
EACH(v_mul, _mm256_mul_ps)
EACH(v_div, _mm256_div_ps)
EACH(v_min, _mm256_min_ps)
EACH(v_max, _mm256_max_ps)
#undef EACH
static inline v16 v_fma(v16 x, v16 y, v16 z) {
    return v_of(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
static inline v16 v_sqrt(v16 x) { return v_of(_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)); }
static inline v16 v_neg(v16 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v_of(_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign));
}
static inline v16 v_abs(v16 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v_of(_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
static inline v16 v_round(v16 x) {
    return v_of(_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline __m256 pow2_half(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline v16 v_pow2(v16 n) { return v_of(pow2_half(n.a), pow2_half(n.b)); }
static inline v16 v_zero_below(v16 v, v16 x, v16 c) {
    return v_of(_mm256_and_ps(v.a, _mm256_cmp_ps(x.a, c.a, _CMP_NLT_UQ)),
                _mm256_and_ps(v.b, _mm256_cmp_ps(x.b, c.b, _CMP_NLT_UQ)));
}
static inline v16 v_select_below(v16 x, v16 c, v16 y, v16 z) {
    return v_of(_mm256_blendv_ps(z.a, y.a, _mm256_cmp_ps(x.a, c.a, _CMP_LT_OQ)),
                _mm256_blendv_ps(z.b, y.b, _mm256_cmp_ps(x.b, c.b, _CMP_LT_OQ)));
}
static inline v16 v_copy_sign(v16 x, v16 y) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v_of(_mm256_or_ps(x.a, _mm256_and_ps(y.a, sign)), _mm256_or_ps(x.b, _mm256_and_ps(y.b, sign)));
}
static inline int v_any_nan(v16 x) {
    __m256 odd = _mm256_or_ps(_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q));
    return _mm256_movemask_ps(odd) != 0;
}
static inline float v_sum(v16 v) {
    __m256 a = _mm256_add_ps(v.a, v.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline void v_sum4(float *y, const v16 *v) {
    for (int i = 0; i < 4; i++) y[i] = v_sum(v[i]);
}
static inline float v_largest(v16 v) {
    __m256 a = _mm256_max_ps(v.a, v.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
static inline v16 v_f16(const void *p) {
    const __m128i *h = p;
    return v_of(_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)));
}
static inline v16 v_bf16(const void *p) {
    const __m128i *h = p;
    return v_of(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16)));
}
static inline __m256 f16_of_words(__m256i w) { /* the low halves */
    __m256i halves = _mm256_packus_epi32(_mm256_and_si256(w, _mm256_set1_epi32(0xffff)), _mm256_setzero_si256());
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08)));
}
static inline v16 v_f16_pairs(const void *p, v16 *odd) {
    const __m256i *w = p;
    __m256i a = _mm256_loadu_si256(w), b = _mm256_loadu_si256(w + 1);
    *odd = v_of(f16_of_words(_mm256_srli_epi32(a, 16)), f16_of_words(_mm256_srli_epi32(b, 16)));
    return v_of(f16_of_words(a), f16_of_words(b));
}
static inline v16 v_bf16_pairs(const void *p, v16 *odd) {
    const __m256i *w = p, high = _mm256_set1_epi32((int)0xffff0000u);
    __m256i a = _mm256_loadu_si256(w), b = _mm256_loadu_si256(w + 1);
    *odd = v_of(_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high)));
    return v_of(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)));
}
static inline void v_put_f16(void *p, v16 v) {
    __m128i *h = p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline v16 v_i8(const void *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return v_of(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))));
}
static inline v16 v_nibbles(const void *p, int high) {
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    b = _mm_and_si128(high ? _mm_srli_epi16(b, 4) : b, _mm_set1_epi8(15));
    return v_of(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))));
}
static inline void v_put_i8(int8_t *p, v16 lo, v16 hi) {
    __m256i a = _mm256_packs_epi32(_mm256_cvtps_epi32(lo.a), _mm256_cvtps_epi32(lo.b));
    __m256i b = _mm256_packs_epi32(_mm256_cvtps_epi32(hi.a), _mm256_cvtps_epi32(hi.b));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* both packs work in halves */
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order));
}
static inline void v_put_i32_n(int32_t *p, size_t n, v16 v) {
    _mm256_maskstore_epi32(p, lanes_below(n), _mm256_cvtps_epi32(v.a));
    if (n > 8) _mm256_maskstore_epi32(p + 8, lanes_below(n - 8), _mm256_cvtps_epi32(v.b));
}
static inline __m256 even_half(__m256 a, __m256 b, int odd) {
    __m256 mixed = odd ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
}
static inline v16 v_unzip(const float *p, v16 *odd) {
    const v16 a = v_load(p), b = v_load(p + 16);
    *odd = v_of(even_half(a.a, a.b, 1), even_half(b.a, b.b, 1));
    return v_of(even_half(a.a, a.b, 0), even_half(b.a, b.b, 0));
}
static inline v16 v_even(v16 v) { return v_of(_mm256_moveldup_ps(v.a), _mm256_moveldup_ps(v.b)); }
static inline v16 v_odd(v16 v) { return v_of(_mm256_movehdup_ps(v.a), _mm256_movehdup_ps(v.b)); }
static inline v16 v_swap(v16 v) { return v_of(_mm256_permute_ps(v.a, 0xb1), _mm256_permute_ps(v.b, 0xb1)); }
static inline v16 v_sub_add(v16 x, v16 y) { return v_of(_mm256_addsub_ps(x.a, y.a), _mm256_addsub_ps(x.b, y.b)); }
static inline v16 v_zip_8(v16 a, v16 b) {
    __m256 low = _mm256_unpacklo_ps(a.a, b.a), high = _mm256_unpackhi_ps(a.a, b.a);
    return v_of(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}
#define REDUCE_8(name, op)                                                                                    \
    static inline v16 name##_two(v16 a, v16 b) {                                                              \
        __m256 x = op(a.a, a.b), y = op(b.a, b.b);                                                            \
        return v_of(op(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31)), _mm256_setzero_ps()); \
    }                                                                                                         \
    static inline v16 name##_rest(const v16 t[4]) {                                                           \
        __m256 u = op(_mm256_shuffle_ps(t[0].a, t[1].a, 0x44), _mm256_shuffle_ps(t[0].a, t[1].a, 0xee));      \
        __m256 v = op(_mm256_shuffle_ps(t[2].a, t[3].a, 0x44), _mm256_shuffle_ps(t[2].a, t[3].a, 0xee));      \
        __m256 w = op(_mm256_shuffle_ps(u, v, 0x88), _mm256_shuffle_ps(u, v, 0xdd)); /* 0 2 4 6 | 1 3 5 7 */  \
        w = _mm256_permutevar8x32_ps(w, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));                           \
        return v_of(w, _mm256_setzero_ps());                                                                  \
    }
REDUCE_8(v_sum, _mm256_add_ps)
REDUCE_8(v_largest, _mm256_max_ps)
#undef REDUCE_8

#endif
