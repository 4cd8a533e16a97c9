/* q3_k.c: Q3_K: super-blocks of 256 weights of 3 bits; 16 sub-blocks with 6-bit scales. */
#include "quant/fit.h"

static void decode_q3_k(float *y, const void *x, size_t n) {
    const q3_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + s / 8 * 32 + s % 2 * 16, *h = b->hmask + s % 2 * 16;
            int shift = s % 8 / 2 * 2, bit = s / 2;
            float scale = d * (float)quant_k3_scale(b->scales, s);
            for (int l = 0; l < 16; l++) {
                int level = (q[l] >> shift & 3) - (h[l] >> bit & 1 ? 0 : 4);
                y[16 * s + l] = scale * (float)level;
            }
        }
    }
}

static void encode_q3_k(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -4, .hi = 3, .tries = 12, .least = 0.45f, .most = 1.2f};
    q3_k_block *b = dst;
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        FIT_ALIGNED float x[QUANT_K], w[QUANT_K];
        uint8_t q[16];
        int sc[16];
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        uint16_t d = fit_super(x, w, unit, 16, &range, 32, sc);
        float vd = fit_half_value(d, unit);
        *b = (q3_k_block){.d = d};
        for (int s = 0; s < 16; s++) {
            int six = sc[s] + 32, at = s / 8 * 32 + s % 2 * 16;
            b->scales[s % 8] |= (uint8_t)((six & 15) << s / 8 * 4);
            b->scales[8 + s % 4] |= (uint8_t)(six >> 4 << s / 4 * 2);
            fit_nearest(q, x + 16 * s, 16, vd * (float)sc[s], &range);
            for (int l = 0; l < 16; l++) {
                b->qs[at + l] |= (uint8_t)((q[l] & 3) << s % 8 / 2 * 2);
                b->hmask[s % 2 * 16 + l] |= (uint8_t)((q[l] >> 2) << s / 2);
            }
        }
    }
}

QUANT_FORMAT(Q3_K, "q3_K", decode_q3_k, encode_q3_k);
