/* peak_i8mm.c: the limits of the int8 matrix extension. */
#include "kernel/arm/init_arm.h"

#include <arm_neon.h>

#define PEAK_REG "w"
#include "kernel/peak_tmpl.h"

static inline int8x16_t load(const void *p) { return vld1q_s8(p); }
static inline void store(void *p, int8x16_t v) { vst1q_s8(p, v); }
static inline int8x16_t dot(int8x16_t acc, int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s32(vusdotq_s32(vreinterpretq_s32_s8(acc), vreinterpretq_u8_s8(a), b));
}
static inline int8x16_t matrix(int8x16_t acc, int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s32(vmmlaq_s32(vreinterpretq_s32_s8(acc), a, b));
}

PEAK(dot_peak, "usdot", KERN_INT8, 4, 32, 8, 16, 24, int8x16_t, load, store, dot)
PEAK(matrix_peak, "smmla", KERN_INT8, 4, 64, 8, 16, 24, int8x16_t, load, store, matrix)

void kern_peaks_i8mm(kern_peaks *p) {
    kern_peaks_add(p, &dot_peak);
    kern_peaks_add(p, &matrix_peak);
}
