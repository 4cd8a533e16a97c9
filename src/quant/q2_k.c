/* q2_k.c: Q2_K: super-blocks of 256 weights of 2 bits; 16 sub-blocks with 4-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q2_k(float *y, const void *x, size_t n) {
    const q2_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d), dmin = quant_half_value(b->dmin);
        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b->qs + s / 8 * 32 + s % 2 * 16;
            int shift = s % 8 / 2 * 2;
            float scale = d * (float)(b->scales[s] & 15), min = dmin * (float)(b->scales[s] >> 4);
            for (int l = 0; l < 16; l++) y[16 * s + l] = scale * (float)(q[l] >> shift & 3) - min;
        }
    }
}

static void encode_q2_k(void *dst, const float *src, size_t n, const float *importance) {
    enum { SUBS = QUANT_K / 16, BLOCKS = FIT_GROUPS / SUBS };
    q2_k_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += BLOCKS * QUANT_K) {
        int groups = (int)MIN((n - i) / QUANT_K, (size_t)BLOCKS) * SUBS;
        uint8_t sc[FIT_GROUPS], m[FIT_GROUPS], q[16];
        uint16_t d[FIT_GROUPS], dmin[FIT_GROUPS];
        fit_load(&k, src + i, importance ? importance + i : NULL, 16, groups, SUBS);
        fit_super_affine(&k, 3, 15, sc, m, d, dmin);
        for (int g = 0; g < groups; g++) {
            const int s = g % SUBS;
            if (s == 0) {
                *b = (q2_k_block){.d = d[g / SUBS], .dmin = dmin[g / SUBS]};
            }
            float vd = fit_half_value(b->d, k.unit[g]), vm = fit_half_value(b->dmin, k.unit[g]);
            fit_levels(&k, g, vm * (float)m[g], vd * (float)sc[g], 3, q);
            b->scales[s] = (uint8_t)(m[g] << 4 | sc[g]);
            uint8_t *qs = b->qs + s / 8 * 32 + s % 2 * 16;
            for (int l = 0; l < 16; l++) qs[l] |= (uint8_t)(q[l] << s % 8 / 2 * 2);
            b += s == SUBS - 1;
        }
    }
}

QUANT_FORMAT(Q2_K, "q2_K", decode_q2_k, encode_q2_k);
