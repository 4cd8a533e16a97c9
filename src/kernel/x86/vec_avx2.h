/* vec_avx2.h: the vector operations of mul_tmpl.h in 256 bits, with AVX-VNNI where the compiler has it on.
 * vec_avx512.h tells what each means. */
#ifndef MOTE_KERNEL_X86_VEC_AVX2_H
#define MOTE_KERNEL_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VL 8
#define TILE_STRIPS 2
#define TILE_TOKENS 3
#define DIRECT_TOKENS 3
#define TILE_TOKENS_16 2
typedef __m256i vi;
typedef __m256 vf;

static inline vi vi_load(const void *p) { return _mm256_loadu_si256(p); }
static inline void vi_store(void *p, vi v) { _mm256_storeu_si256(p, v); }
static inline vi vi_zero(void) { return _mm256_setzero_si256(); }
static inline vi vi_set1_8(char x) { return _mm256_set1_epi8(x); }
static inline vi vi_set1_32(int x) { return _mm256_set1_epi32(x); }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_eq8(vi a, vi b) { return _mm256_cmpeq_epi8(a, b); }
static inline vi vi_bcast16(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(p)); }
#define vi_sll(a, n) _mm256_slli_epi32(a, n)
#define vi_srl(a, n) _mm256_srli_epi32(a, n)
static inline vi vi_sll_by(vi a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_bcast(const void *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}
static inline vi vi_table(const int8_t *levels) {
    __m128i t = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)levels), _mm_set1_epi8((char)0x80));
    return _mm256_broadcastsi128_si256(t);
}
static inline vi vi_lut(vi table, vi nibbles) { return _mm256_shuffle_epi8(table, nibbles); }
static inline vi vi_u8(const void *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); }
static inline vi vi_s8(const void *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p)); }

#if defined(__AVXVNNI__)
#define VI_SIGNED 0
static inline vi vi_dot_v(vi acc, vi u, vi x) { return _mm256_dpbusd_avx_epi32(acc, u, x); }
static inline vi vi_dot7_v(vi acc, vi u, vi x) { return vi_dot_v(acc, u, x); }
static inline vi vi_dot_signed_v(vi acc, vi w, vi x) { return (void)w, (void)x, acc; }
#else
#define VI_SIGNED 1
static inline vi sum_pairs(vi acc, vi products) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}
static inline vi vi_dot_v(vi acc, vi u, vi x) { return (void)u, (void)x, acc; }
/* two products of at most 127 · 127 fit in 16 bits */
static inline vi vi_dot7_v(vi acc, vi u, vi x) { return sum_pairs(acc, _mm256_maddubs_epi16(u, x)); }
/* |w| times x with w's sign: at most 2 · 128 · 127 */
static inline vi vi_dot_signed_v(vi acc, vi w, vi x) {
    return sum_pairs(acc, _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)));
}
#endif
static inline vi vi_dot(vi acc, vi u, const void *x) { return vi_dot_v(acc, u, vi_bcast(x)); }
static inline vi vi_dot7(vi acc, vi u, const void *x) { return vi_dot7_v(acc, u, vi_bcast(x)); }
static inline vi vi_dot_signed(vi acc, vi w, const void *x) { return vi_dot_signed_v(acc, w, vi_bcast(x)); }

static inline vf vf_zero(void) { return _mm256_setzero_ps(); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vf vf_bcast(const float *p) { return _mm256_set1_ps(*p); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
static inline vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline int vf_any_reach(vf a, vf floor) { return _mm256_movemask_ps(_mm256_cmp_ps(a, floor, _CMP_NLT_UQ)) != 0; }
static inline vf vf_i32(vi v) { return _mm256_cvtepi32_ps(v); }
static inline vf vf_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
static inline vf vf_e8m0(const void *p) {
    vf doubled = _mm256_castsi256_ps(_mm256_slli_epi32(vi_u8(p), 23));
    return _mm256_mul_ps(doubled, _mm256_set1_ps(0.5f));
}

#endif
