/* v16_neon.h: sixteen floats in four registers; x86/v16_avx512.h tells what each operation means. */
#ifndef MOTE_KERNEL_ARM_V16_NEON_H
#define MOTE_KERNEL_ARM_V16_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TILE_ROWS 4
#define TILE_VECTORS 1
#define FMUL_ROWS 2
#define FMUL_TOKENS 2
typedef struct v16 {
    float32x4_t q[4]; /* lanes 4 i … 4 i + 3 */
} v16;

#define EACH(expression) \
    v16 r;               \
    for (int i = 0; i < 4; i++) r.q[i] = (expression); \
    return r
static inline v16 v_load(const float *p) { EACH(vld1q_f32(p + 4 * i)); }
static inline void v_store(float *p, v16 v) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.q[i]);
}
static inline v16 v_load_n(const float *p, size_t n) {
    if (n >= 16) return v_load(p);
    float part[16] = {0};
    memcpy(part, p, n * sizeof *p);
    return v_load(part);
}
static inline void v_store_n(float *p, size_t n, v16 v) {
    if (n >= 16) {
        v_store(p, v);
        return;
    }
    float part[16];
    v_store(part, v);
    memcpy(p, part, n * sizeof *p);
}
static inline v16 v_first(v16 v, size_t n) {
    float part[16];
    v_store(part, v);
    return v_load_n(part, n);
}
static inline v16 v_set1(float x) { EACH(vdupq_n_f32(x)); }
static inline v16 v_add(v16 x, v16 y) { EACH(vaddq_f32(x.q[i], y.q[i])); }
static inline v16 v_sub(v16 x, v16 y) { EACH(vsubq_f32(x.q[i], y.q[i])); }
static inline v16 v_mul(v16 x, v16 y) { EACH(vmulq_f32(x.q[i], y.q[i])); }
static inline v16 v_div(v16 x, v16 y) { EACH(vdivq_f32(x.q[i], y.q[i])); }
static inline v16 v_fma(v16 x, v16 y, v16 z) { EACH(vfmaq_f32(z.q[i], x.q[i], y.q[i])); }
/* the second where the first is not less (greater), so also where either is NaN */
static inline v16 v_min(v16 x, v16 y) { EACH(vbslq_f32(vcltq_f32(x.q[i], y.q[i]), x.q[i], y.q[i])); }
static inline v16 v_max(v16 x, v16 y) { EACH(vbslq_f32(vcgtq_f32(x.q[i], y.q[i]), x.q[i], y.q[i])); }
static inline v16 v_sqrt(v16 x) { EACH(vsqrtq_f32(x.q[i])); }
static inline v16 v_neg(v16 x) { EACH(vnegq_f32(x.q[i])); }
static inline v16 v_abs(v16 x) { EACH(vabsq_f32(x.q[i])); }
static inline v16 v_round(v16 x) { EACH(vrndnq_f32(x.q[i])); }
static inline v16 v_pow2(v16 n) {
    EACH(vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.q[i]), vdupq_n_s32(127)), 23)));
}
static inline v16 v_zero_below(v16 v, v16 x, v16 c) {
    EACH(vbslq_f32(vcltq_f32(x.q[i], c.q[i]), vdupq_n_f32(0), v.q[i]));
}
static inline v16 v_select_below(v16 x, v16 c, v16 y, v16 z) {
    EACH(vbslq_f32(vcltq_f32(x.q[i], c.q[i]), y.q[i], z.q[i]));
}
static inline v16 v_copy_sign(v16 x, v16 y) { EACH(vbslq_f32(vdupq_n_u32(0x80000000u), y.q[i], x.q[i])); }
static inline int v_any_nan(v16 x) {
    uint32x4_t same = vdupq_n_u32(UINT32_MAX);
    for (int i = 0; i < 4; i++) same = vandq_u32(same, vceqq_f32(x.q[i], x.q[i]));
    return vminvq_u32(same) == 0;
}
static inline float v_sum(v16 v) {
    float32x4_t s = vaddq_f32(vaddq_f32(v.q[0], v.q[2]), vaddq_f32(v.q[1], v.q[3]));
    float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(t, 0) + vget_lane_f32(t, 1);
}
static inline void v_sum4(float *y, const v16 *v) {
    for (int i = 0; i < 4; i++) y[i] = v_sum(v[i]);
}
static inline float v_largest(v16 v) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(v.q[0], v.q[2]), vmaxq_f32(v.q[1], v.q[3])));
}
static inline v16 v_f16(const void *p) {
    const uint16_t *h = p;
    EACH(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + 4 * i))));
}
static inline v16 v_bf16(const void *p) {
    const uint16_t *h = p;
    EACH(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(h + 4 * i), 16)));
}
static inline v16 v_f16_pairs(const void *p, v16 *odd) {
    const uint16_t *h = p;
    v16 even;
    for (int i = 0; i < 4; i++) {
        uint16x4x2_t w = vld2_u16(h + 8 * i);
        even.q[i] = vcvt_f32_f16(vreinterpret_f16_u16(w.val[0]));
        odd->q[i] = vcvt_f32_f16(vreinterpret_f16_u16(w.val[1]));
    }
    return even;
}
static inline v16 v_bf16_pairs(const void *p, v16 *odd) {
    const uint16_t *h = p;
    v16 even;
    for (int i = 0; i < 4; i++) {
        uint16x4x2_t w = vld2_u16(h + 8 * i);
        even.q[i] = vreinterpretq_f32_u32(vshll_n_u16(w.val[0], 16));
        odd->q[i] = vreinterpretq_f32_u32(vshll_n_u16(w.val[1], 16));
    }
    return even;
}
static inline void v_put_f16(void *p, v16 v) {
    uint16_t *h = p;
    for (int i = 0; i < 4; i++) vst1_u16(h + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v.q[i])));
}
static inline v16 floats_of(int8x16_t b) {
    int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_s8(vget_high_s8(b));
    return (v16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
static inline v16 v_i8(const void *p) { return floats_of(vld1q_s8(p)); }
static inline v16 v_nibbles(const void *p, int high) {
    uint8x16_t b = vld1q_u8(p);
    return floats_of(vreinterpretq_s8_u8(high ? vshrq_n_u8(b, 4) : vandq_u8(b, vdupq_n_u8(15))));
}
static inline int8x16_t i8_of(v16 v) {
    int32x4_t q[4];
    for (int i = 0; i < 4; i++) q[i] = vcvtnq_s32_f32(v.q[i]);
    int16x8_t low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1])), high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}
static inline void v_put_i8(int8_t *p, v16 lo, v16 hi) {
    vst1q_s8(p, i8_of(lo));
    vst1q_s8(p + 16, i8_of(hi));
}
static inline void v_put_i32_n(int32_t *p, size_t n, v16 v) {
    int32_t all[16];
    for (int i = 0; i < 4; i++) vst1q_s32(all + 4 * i, vcvtnq_s32_f32(v.q[i]));
    memcpy(p, all, n * sizeof *p);
}
static inline v16 v_unzip(const float *p, v16 *odd) {
    v16 even;
    for (int i = 0; i < 4; i++) {
        float32x4x2_t w = vld2q_f32(p + 8 * i);
        even.q[i] = w.val[0];
        odd->q[i] = w.val[1];
    }
    return even;
}
static inline v16 v_even(v16 v) { EACH(vtrn1q_f32(v.q[i], v.q[i])); }
static inline v16 v_odd(v16 v) { EACH(vtrn2q_f32(v.q[i], v.q[i])); }
static inline v16 v_swap(v16 v) { EACH(vrev64q_f32(v.q[i])); }
static inline v16 v_sub_add(v16 x, v16 y) {
    const uint32_t mask[4] = {UINT32_MAX, 0, UINT32_MAX, 0};
    EACH(vbslq_f32(vld1q_u32(mask), vsubq_f32(x.q[i], y.q[i]), vaddq_f32(x.q[i], y.q[i])));
}
static inline v16 v_zip_8(v16 a, v16 b) {
    return (v16){{vzip1q_f32(a.q[0], b.q[0]), vzip2q_f32(a.q[0], b.q[0]), vzip1q_f32(a.q[1], b.q[1]), vzip2q_f32(a.q[1], b.q[1])}};
}
/* lanes j and j + 2 of quarter 0, of a and of b: partial sums as v_sum makes them */
#define REDUCE_8(name, op)                                                                                    \
    static inline v16 name##_two(v16 a, v16 b) {                                                              \
        float32x4_t x = op(op(a.q[0], a.q[2]), op(a.q[1], a.q[3])), y = op(op(b.q[0], b.q[2]), op(b.q[1], b.q[3])); \
        float32x4_t s = op(vcombine_f32(vget_low_f32(x), vget_low_f32(y)), vcombine_f32(vget_high_f32(x), vget_high_f32(y))); \
        return (v16){{op(vuzp1q_f32(s, s), vuzp2q_f32(s, s))}};                                               \
    }                                                                                                         \
    static inline v16 name##_rest(const v16 t[4]) {                                                           \
        return (v16){{vcombine_f32(vget_low_f32(t[0].q[0]), vget_low_f32(t[1].q[0])),                         \
                      vcombine_f32(vget_low_f32(t[2].q[0]), vget_low_f32(t[3].q[0]))}};                       \
    }
REDUCE_8(v_sum, vaddq_f32)
REDUCE_8(v_largest, vmaxq_f32)
#undef REDUCE_8
#undef EACH

#endif
