/* vec_neon.h: the vector operations of mul_tmpl.h in 128 bits, with sdot or usdot where the compiler has them
 * on. x86/vec_avx512.h tells what each means. */
#ifndef MOTE_KERNEL_ARM_VEC_NEON_H
#define MOTE_KERNEL_ARM_VEC_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define VL 4
#define TILE_STRIPS 2
#define TILE_TOKENS 6
#define DIRECT_TOKENS 4
#define TILE_TOKENS_16 4
typedef uint8x16_t vi;
typedef float32x4_t vf;

static inline vi vi_of(int32x4_t v) { return vreinterpretq_u8_s32(v); }
static inline int32x4_t vi_words(vi v) { return vreinterpretq_s32_u8(v); }

static inline vi vi_load(const void *p) { return vld1q_u8(p); }
static inline void vi_store(void *p, vi v) { vst1q_u8(p, v); }
static inline vi vi_zero(void) { return vdupq_n_u8(0); }
static inline vi vi_set1_8(int x) { return vdupq_n_u8((uint8_t)x); }
static inline vi vi_set1_32(int x) { return vi_of(vdupq_n_s32(x)); }
static inline vi vi_and(vi a, vi b) { return vandq_u8(a, b); }
static inline vi vi_or(vi a, vi b) { return vorrq_u8(a, b); }
static inline vi vi_xor(vi a, vi b) { return veorq_u8(a, b); }
static inline vi vi_add(vi a, vi b) { return vi_of(vaddq_s32(vi_words(a), vi_words(b))); }
static inline vi vi_sub(vi a, vi b) { return vi_of(vsubq_s32(vi_words(a), vi_words(b))); }
static inline vi vi_eq8(vi a, vi b) { return vceqq_u8(a, b); }
static inline vi vi_bcast16(const void *p) { return vld1q_u8(p); }
static inline vi vi_sll_by(vi a, int n) { return vi_of(vshlq_s32(vi_words(a), vdupq_n_s32(n))); }
static inline vi vi_sll(vi a, int n) { return vi_sll_by(a, n); }
static inline vi vi_srl(vi a, int n) {
    return vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(a), vdupq_n_s32(-n)));
}
static inline vi vi_bcast(const void *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return vi_of(vdupq_n_s32(x));
}
static inline vi vi_table(const int8_t *levels) {
    return veorq_u8(vreinterpretq_u8_s8(vld1q_s8(levels)), vdupq_n_u8(0x80));
}
static inline vi vi_lut(vi table, vi nibbles) { return vqtbl1q_u8(table, nibbles); }
static inline uint8x8_t four_bytes(const void *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return vreinterpret_u8_u32(vdup_n_u32(x));
}
static inline vi vi_u8(const void *p) {
    return vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p)))));
}
static inline vi vi_s8(const void *p) {
    return vi_of(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four_bytes(p))))));
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define VI_SIGNED 0
static inline vi vi_dot_v(vi acc, vi u, vi x) {
    return vi_of(vusdotq_s32(vi_words(acc), u, vreinterpretq_s8_u8(x)));
}
static inline vi vi_dot7_v(vi acc, vi u, vi x) { return vi_dot_v(acc, u, x); }
static inline vi vi_dot_signed_v(vi acc, vi w, vi x) { return (void)w, (void)x, acc; }
#else
#define VI_SIGNED 1
static inline vi vi_dot_v(vi acc, vi u, vi x) { return (void)u, (void)x, acc; }
static inline vi vi_dot_signed_v(vi acc, vi w, vi x) {
    int8x16_t a = vreinterpretq_s8_u8(w), b = vreinterpretq_s8_u8(x);
#if defined(__ARM_FEATURE_DOTPROD)
    return vi_of(vdotq_s32(vi_words(acc), a, b));
#else
    int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vi_of(vaddq_s32(vi_words(acc), vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))));
#endif
}
static inline vi vi_dot7_v(vi acc, vi u, vi x) { return vi_dot_signed_v(acc, u, x); }
#endif
static inline vi vi_dot(vi acc, vi u, const void *x) { return vi_dot_v(acc, u, vi_bcast(x)); }
static inline vi vi_dot7(vi acc, vi u, const void *x) { return vi_dot7_v(acc, u, vi_bcast(x)); }
static inline vi vi_dot_signed(vi acc, vi w, const void *x) { return vi_dot_signed_v(acc, w, vi_bcast(x)); }

static inline vf vf_zero(void) { return vdupq_n_f32(0); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf v) { vst1q_f32(p, v); }
static inline vf vf_bcast(const float *p) { return vld1q_dup_f32(p); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_neg(vf a) { return vnegq_f32(a); }
static inline vf vf_abs(vf a) { return vabsq_f32(a); }
static inline int vf_any_reach(vf a, vf floor) { return vminvq_u32(vcltq_f32(a, floor)) == 0; }
static inline vf vf_i32(vi v) { return vcvtq_f32_s32(vi_words(v)); }
static inline vf vf_f16(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline vf vf_e8m0(const void *p) {
    uint32x4_t e = vshlq_n_u32(vreinterpretq_u32_u8(vi_u8(p)), 23);
    return vmulq_n_f32(vreinterpretq_f32_u32(e), 0.5f);
}

#endif
