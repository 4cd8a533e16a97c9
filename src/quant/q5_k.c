/* q5_k.c: Q5_K: super-blocks of 256 weights of 5 bits; 8 sub-blocks with 6-bit scale and minimum. */
#include "quant/fit.h"

static void decode_q5_k(float *y, const void *x, size_t n) {
    const q5_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d), dmin = quant_half_value(b->dmin);
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
    enum { SUBS = QUANT_K / 32, BLOCKS = FIT_GROUPS / SUBS };
    q5_k_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += BLOCKS * QUANT_K) {
        int groups = (int)MIN((n - i) / QUANT_K, (size_t)BLOCKS) * SUBS;
        uint8_t sc[FIT_GROUPS], m[FIT_GROUPS], q[32];
        uint16_t d[FIT_GROUPS], dmin[FIT_GROUPS];
        fit_load(&k, src + i, importance ? importance + i : NULL, 32, groups, SUBS);
        fit_super_affine(&k, 31, 63, sc, m, d, dmin);
        for (int g = 0; g < groups; g++) {
            const int s = g % SUBS;
            if (s == 0) {
                *b = (q5_k_block){.d = d[g / SUBS], .dmin = dmin[g / SUBS]};
                fit_pack_k4(b->scales, sc + g, m + g);
            }
            float vd = fit_half_value(b->d, k.unit[g]), vm = fit_half_value(b->dmin, k.unit[g]);
            fit_levels(&k, g, vm * (float)m[g], vd * (float)sc[g], 31, q);
            for (int l = 0; l < 32; l++) {
                b->qs[s / 2 * 32 + l] |= (uint8_t)((q[l] & 15) << s % 2 * 4);
                b->qh[l] |= (uint8_t)(q[l] >> 4 << s);
            }
            b += s == SUBS - 1;
        }
    }
}

QUANT_FORMAT(Q5_K, "q5_K", decode_q5_k, encode_q5_k);
