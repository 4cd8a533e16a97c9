/* q5_k.c: Q5_K: super-blocks of 256 weights of 5 bits; 8 sub-blocks with 6-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q5_k(float *y, const void *x, size_t n) {
    const q5_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d), dmin = quant_f16_to_f32(b->dmin);
        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b->qs + s / 2 * 32;
            int shift = s % 2 * 4;
            uint8_t sc, m;
            quant_k4_scale(b->scales, s, &sc, &m);
            float scale = d * (float)sc, min = dmin * (float)m;
            for (int l = 0; l < 32; l++) {
                int level = (q[l] >> shift & 15) | (b->qh[l] >> s & 1) << 4;
                y[32 * s + l] = scale * (float)level - min;
            }
        }
    }
}

static void encode_q5_k(void *dst, const float *src, size_t n, const float *importance) {
    q5_k_block *b = dst;
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        FIT_ALIGNED float x[QUANT_K], w[QUANT_K];
        uint8_t sc[8], m[8], q[32];
        uint16_t d, dmin;
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        fit_super_affine(x, w, unit, 32, 31, 63, sc, m, &d, &dmin);
        float vd = fit_half_value(d, unit), vm = fit_half_value(dmin, unit);
        *b = (q5_k_block){.d = d, .dmin = dmin};
        fit_pack_k4(b->scales, sc, m);
        for (int s = 0; s < 8; s++) {
            fit_levels(q, x + 32 * s, 32, vm * (float)m[s], vd * (float)sc[s], 0, 31);
            for (int l = 0; l < 32; l++) {
                b->qs[s / 2 * 32 + l] |= (uint8_t)((q[l] & 15) << s % 2 * 4);
                b->qh[l] |= (uint8_t)(q[l] >> 4 << s);
            }
        }
    }
}

QUANT_FORMAT(Q5_K, "q5_K", decode_q5_k, encode_q5_k);
