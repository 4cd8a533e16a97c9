/* peak_dotprod.c: the limit of sdot. */
#include "kernel/arm/init_arm.h"

#include <arm_neon.h>

#define PEAK_REG "w"
#include "kernel/peak_tmpl.h"

static inline int8x16_t load(const void *p) { return vld1q_s8(p); }
static inline void store(void *p, int8x16_t v) { vst1q_s8(p, v); }
static inline int8x16_t step(int8x16_t acc, int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(acc), a, b));
}

PEAK(int8_peak, "sdot", KERN_INT8, 4, 32, 8, 16, 24, int8x16_t, load, store, step)

void kern_peaks_dotprod(kern_peaks *p) { kern_peaks_add(p, &int8_peak); }
