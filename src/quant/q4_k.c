/* q4_k.c: Q4_K: super-blocks of 256 weights of 4 bits; 8 sub-blocks with 6-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q4_k(float *y, const void *x, size_t n) {
    const q4_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d), dmin = quant_f16_to_f32(b->dmin);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + s / 2 * 32;
            int shift = s % 2 * 4;
            uint8_t sc, m;
            quant_k4_scale(b->scales, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (int l = 0; l < 32; l++) y[32 * s + l] = scale * (float)(q[l] >> shift & 15) - min;
        }
    }
}

static void encode_q4_k(void *dst, const float *src, size_t n, const float *importance) {
    q4_k_block *b = dst;
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        FIT_ALIGNED float x[QUANT_K], w[QUANT_K];
        uint8_t sc[8], m[8], q[32];
        uint16_t d, dmin;
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        fit_super_affine(x, w, unit, 32, 15, 63, sc, m, &d, &dmin);
        float vd = fit_half_value(d, unit), vm = fit_half_value(dmin, unit);
        *b = (q4_k_block){.d = d, .dmin = dmin};
        fit_pack_k4(b->scales, sc, m);
        for (int s = 0; s < 8; s++) {
            fit_levels(q, x + 32 * s, 32, vm * (float)m[s], vd * (float)sc[s], 0, 15);
            for (int l = 0; l < 32; l++) b->qs[s / 2 * 32 + l] |= (uint8_t)(q[l] << s % 2 * 4);
        }
    }
}

QUANT_FORMAT(Q4_K, "q4_K", decode_q4_k, encode_q4_k);
