/* gemm_neon.c: f32 products of panels with NEON. */
#include "kernel/arm/v16_neon.h"

#include "kernel/arm/init_arm.h"

/* By blocks of 4 × 4 words. */
static inline void v_transpose(v16 v[16]) {
    v16 out[16];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) { /* lines 4 i …, words 4 j … */
            const float32x4_t a = v[4 * i].q[j], b = v[4 * i + 1].q[j], c = v[4 * i + 2].q[j], d = v[4 * i + 3].q[j];
            const float64x2_t ac = vreinterpretq_f64_f32(vtrn1q_f32(a, b)), ac2 = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
            const float64x2_t bd = vreinterpretq_f64_f32(vtrn1q_f32(c, d)), bd2 = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
            out[4 * j].q[i] = vreinterpretq_f32_f64(vtrn1q_f64(ac, bd));
            out[4 * j + 1].q[i] = vreinterpretq_f32_f64(vtrn1q_f64(ac2, bd2));
            out[4 * j + 2].q[i] = vreinterpretq_f32_f64(vtrn2q_f64(ac, bd));
            out[4 * j + 3].q[i] = vreinterpretq_f32_f64(vtrn2q_f64(ac2, bd2));
        }
    for (int i = 0; i < 16; i++) v[i] = out[i];
}

#define NAME(x) x##_neon
#define GEMM_ROWS 6
#define GEMM_VECTORS 1
#include "kernel/gemm_tmpl.h"
