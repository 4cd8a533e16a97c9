/* vec_avx512.h: the vector operations of mul_tmpl.h and float_tmpl.h in 512 bits. Every ISA's header defines
 * the same names:
 *   VL            32-bit lanes of a vector            vi, vf        integer and float vectors
 *   VI_SIGNED     1: levels over 127 are taken minus 128, by vi_dot_signed; 0: as they are, by vi_dot
 *   TILE_STRIPS   strips that meet TILE_TOKENS tokens at once (straight from panels: DIRECT_TOKENS; formats with a
 *                 scale per 16: TILE_TOKENS_16 either way)
 *   vi_load, vi_store(p, v), vi_zero, vi_set1_8, vi_set1_32, vi_and, vi_or, vi_xor, vi_add, vi_sll, vi_srl (32-bit
 *                 lanes, by a constant), vi_sll_by (by a variable)
 *   vi_sub (32-bit lanes), vi_eq8 (bytes: all ones where equal), vi_bcast16(p) the 16 bytes at p in every 16 bytes; vi_lut is then
 *                 a choice among them
 *   vi_bcast(p)   the four bytes at p in every lane   vi_table, vi_lut  16 signed levels + 128, by nibbles
 *   vi_u8, vi_s8  VL bytes as 32-bit integers
 *   vi_dot(acc, u, p), vi_dot7, vi_dot_signed: acc + the products of four bytes of u (≤ 255, ≤ 127, signed) with the
 *                 four signed ones at p, lane by lane; vi_dot_v, …: at all lanes of a vector
 *   vf_zero, vf_load, vf_store, vf_bcast, vf_mul, vf_add, vf_fma(a, b, c) = a b + c, vf_neg, vf_abs,
 *   vf_any_reach(a, f): whether a lane of a is not below that of f
 *   vf_i32 (converts), vf_f16 (VL halves), vf_e8m0 (VL exponents e: 2^(e - 128)) */
#ifndef MOTE_KERNEL_X86_VEC_AVX512_H
#define MOTE_KERNEL_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VL 16
#define TILE_STRIPS 2
#define TILE_TOKENS 6
#define DIRECT_TOKENS 4
#define TILE_TOKENS_16 4
typedef __m512i vi;
typedef __m512 vf;

static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(void *p, vi v) { _mm512_storeu_si512(p, v); }
static inline vi vi_zero(void) { return _mm512_setzero_si512(); }
static inline vi vi_set1_8(char x) { return _mm512_set1_epi8(x); }
static inline vi vi_set1_32(int x) { return _mm512_set1_epi32(x); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_eq8(vi a, vi b) { return _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(a, b)); }
static inline vi vi_bcast16(const void *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(p)); }
#define vi_sll(a, n) _mm512_slli_epi32(a, n)
#define vi_srl(a, n) _mm512_srli_epi32(a, n)
static inline vi vi_sll_by(vi a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_bcast(const void *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}
static inline vi vi_table(const int8_t *levels) {
    __m128i t = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)levels), _mm_set1_epi8((char)0x80));
    return _mm512_broadcast_i32x4(t);
}
static inline vi vi_lut(vi table, vi nibbles) { return _mm512_shuffle_epi8(table, nibbles); }
static inline vi vi_u8(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(p)); }
static inline vi vi_s8(const void *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(p)); }

#if defined(__AVX512VNNI__)
#define VI_SIGNED 0
/* In assembly because gcc 12 does not use the embedded broadcast: a register and an instruction less. */
static inline vi vi_dot(vi acc, vi u, const void *x) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(u), "m"(*(const int32_t *)x));
    return acc;
}
static inline vi vi_dot7(vi acc, vi u, const void *x) { return vi_dot(acc, u, x); }
static inline vi vi_dot_signed(vi acc, vi w, const void *x) { return (void)w, (void)x, acc; }
static inline vi vi_dot_v(vi acc, vi u, vi x) { return _mm512_dpbusd_epi32(acc, u, x); }
static inline vi vi_dot7_v(vi acc, vi u, vi x) { return vi_dot_v(acc, u, x); }
static inline vi vi_dot_signed_v(vi acc, vi w, vi x) { return (void)w, (void)x, acc; }
#else
#define VI_SIGNED 1
static inline vi sum_pairs(vi acc, vi products) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(products, _mm512_set1_epi16(1)));
}
static inline vi vi_dot_v(vi acc, vi u, vi x) { return (void)u, (void)x, acc; }
/* two products of at most 127 · 127 fit in 16 bits */
static inline vi vi_dot7_v(vi acc, vi u, vi x) { return sum_pairs(acc, _mm512_maddubs_epi16(u, x)); }
/* |w| times x with w's sign: at most 2 · 128 · 127 */
static inline vi vi_dot_signed_v(vi acc, vi w, vi x) {
    vi signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    return sum_pairs(acc, _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x));
}
static inline vi vi_dot(vi acc, vi u, const void *x) { return (void)u, (void)x, acc; }
static inline vi vi_dot7(vi acc, vi u, const void *x) { return vi_dot7_v(acc, u, vi_bcast(x)); }
static inline vi vi_dot_signed(vi acc, vi w, const void *x) { return vi_dot_signed_v(acc, w, vi_bcast(x)); }
#endif

static inline vf vf_zero(void) { return _mm512_setzero_ps(); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf vf_bcast(const float *p) { return _mm512_set1_ps(*p); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_neg(vf a) { return _mm512_sub_ps(_mm512_set1_ps(-0.0f), a); }
static inline vf vf_abs(vf a) { return _mm512_abs_ps(a); }
static inline int vf_any_reach(vf a, vf floor) { return _mm512_cmp_ps_mask(a, floor, _CMP_NLT_UQ) != 0; }
static inline vf vf_i32(vi v) { return _mm512_cvtepi32_ps(v); }
static inline vf vf_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline vf vf_e8m0(const void *p) {
    vf doubled = _mm512_castsi512_ps(_mm512_slli_epi32(vi_u8(p), 23));
    return _mm512_mul_ps(doubled, _mm512_set1_ps(0.5f));
}

#endif
