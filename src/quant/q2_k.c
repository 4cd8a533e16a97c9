/* q2_k.c: Q2_K: super-blocks of 256 weights of 2 bits; 16 sub-blocks with 4-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q2_k(float *y, const void *x, size_t n) {
    const q2_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d), dmin = quant_f16_to_f32(b->dmin);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + s / 8 * 32 + s % 2 * 16;
            int shift = s % 8 / 2 * 2;
            float scale = d * (float)(b->scales[s] & 15), min = dmin * (float)(b->scales[s] >> 4);
            for (int l = 0; l < 16; l++) y[16 * s + l] = scale * (float)(q[l] >> shift & 3) - min;
        }
    }
}

static void encode_q2_k(void *dst, const float *src, size_t n, const float *importance) {
    q2_k_block *b = dst;
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        FIT_ALIGNED float x[QUANT_K], w[QUANT_K];
        uint8_t sc[16], m[16], q[16];
        uint16_t d, dmin;
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        fit_super_affine(x, w, unit, 16, 3, 15, sc, m, &d, &dmin);
        float vd = fit_half_value(d, unit), vm = fit_half_value(dmin, unit);
        *b = (q2_k_block){.d = d, .dmin = dmin};
        for (int s = 0; s < 16; s++) {
            fit_levels(q, x + 16 * s, 16, vm * (float)m[s], vd * (float)sc[s], 0, 3);
            b->scales[s] = (uint8_t)(m[s] << 4 | sc[s]);
            uint8_t *qs = b->qs + s / 8 * 32 + s % 2 * 16;
            for (int l = 0; l < 16; l++) qs[l] |= (uint8_t)(q[l] << s % 8 / 2 * 2);
        }
    }
}

QUANT_FORMAT(Q2_K, "q2_K", decode_q2_k, encode_q2_k);
