/* q6_k.c: Q6_K: super-blocks of 256 weights of 6 bits; 16 sub-blocks with 8-bit scales. */
#include "quant/fit.h"

static void decode_q6_k(float *y, const void *x, size_t n) {
    const q6_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_f16_to_f32(b->d);
        for (int s = 0; s < 16; s++) {
            int quarter = s % 8 / 2, at = s % 2 * 16;
            const uint8_t *ql = b->ql + s / 8 * 64 + quarter % 2 * 32 + at, *qh = b->qh + s / 8 * 32 + at;
            float scale = d * (float)b->scales[s];
            for (int l = 0; l < 16; l++) {
                int level = (ql[l] >> quarter / 2 * 4 & 15) | (qh[l] >> 2 * quarter & 3) << 4;
                y[16 * s + l] = scale * (float)(level - 32);
            }
        }
    }
}

static void encode_q6_k(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -32, .hi = 31, .tries = 8, .least = 0.85f, .most = 1.04f};
    q6_k_block *b = dst;
    for (size_t i = 0; i < n; i += QUANT_K, b++) {
        FIT_ALIGNED float x[QUANT_K], w[QUANT_K];
        uint8_t q[16];
        int sc[16];
        float unit = fit_load(x, w, src + i, importance ? importance + i : NULL, QUANT_K);
        uint16_t d = fit_super(x, w, unit, 16, &range, 128, sc);
        float vd = fit_half_value(d, unit);
        *b = (q6_k_block){.d = d};
        for (int s = 0; s < 16; s++) {
            int quarter = s % 8 / 2, at = s % 2 * 16;
            uint8_t *ql = b->ql + s / 8 * 64 + quarter % 2 * 32 + at, *qh = b->qh + s / 8 * 32 + at;
            fit_nearest(q, x + 16 * s, 16, vd * (float)sc[s], &range);
            b->scales[s] = (int8_t)sc[s];
            for (int l = 0; l < 16; l++) {
                ql[l] |= (uint8_t)((q[l] & 15) << quarter / 2 * 4);
                qh[l] |= (uint8_t)(q[l] >> 4 << 2 * quarter);
            }
        }
    }
}

QUANT_FORMAT(Q6_K, "q6_K", decode_q6_k, encode_q6_k);
