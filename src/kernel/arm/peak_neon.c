/* peak_neon.c: the limits of AArch64's baseline. */
#include "kernel/arm/init_arm.h"

#include <arm_neon.h>

#define PEAK_REG "w"
#include "kernel/peak_tmpl.h"

static inline int8x16_t load(const void *p) { return vld1q_s8(p); }
static inline void store(void *p, int8x16_t v) { vst1q_s8(p, v); }
static inline float32x4_t loadf(const void *p) { return vld1q_f32(p); }
static inline void storef(void *p, float32x4_t v) { vst1q_f32(p, v); }
static inline int8x16_t zero(void) { return vdupq_n_s8(0); }
/* Eight products of bytes, then pairs of them into 32 bits. */
static inline int8x16_t madd(int8x16_t acc, int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s32(vpadalq_s16(vreinterpretq_s32_s8(acc), vmull_s8(vget_low_s8(a), vget_low_s8(b))));
}
static inline float32x4_t fma4(float32x4_t acc, float32x4_t a, float32x4_t b) { return vfmaq_f32(acc, a, b); }

PEAK(int8_peak, "smull, sadalp", KERN_INT8, 4, 16, 8, 16, 24, int8x16_t, load, store, madd)
PEAK(f32_peak, "fmla", KERN_F32, 4, 8, 8, 16, 24, float32x4_t, loadf, storef, fma4)
PEAK_READ(read, int8x16_t, load, store, zero, veorq_s8)

void kern_peaks_neon(kern_peaks *p) {
    kern_peaks_add(p, &int8_peak);
    kern_peaks_add(p, &f32_peak);
    p->read = read;
    p->read4 = read4;
}
