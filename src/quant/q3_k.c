/* q3_k.c: Q3_K: super-blocks of 256 weights of 3 bits; 16 sub-blocks with 6-bit scales. */
#include "quant/fit.h"

static void decode_q3_k(float *y, const void *x, size_t n) {
    const q3_k_block *b = x;
    for (size_t i = 0; i < n / QUANT_K; i++, b++, y += QUANT_K) {
        float d = quant_half_value(b->d);
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
    enum { SUBS = QUANT_K / 16, BLOCKS = FIT_GROUPS / SUBS };
    static const fit_range range = {.lo = -4, .hi = 3, .tries = 12, .least = 0.45f, .most = 1.2f};
    q3_k_block *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += BLOCKS * QUANT_K) {
        int groups = (int)MIN((n - i) / QUANT_K, (size_t)BLOCKS) * SUBS, sc[FIT_GROUPS];
        uint16_t d[FIT_GROUPS];
        uint8_t q[16];
        fit_load(&k, src + i, importance ? importance + i : NULL, 16, groups, SUBS);
        fit_super(&k, &range, 32, sc, d);
        for (int g = 0; g < groups; g++) {
            const int s = g % SUBS;
            if (s == 0) *b = (q3_k_block){.d = d[g / SUBS]};
            fit_nearest(&k, g, fit_half_value(b->d, k.unit[g]) * (float)sc[g], &range, q);
            int six = sc[g] + 32, at = s / 8 * 32 + s % 2 * 16;
            b->scales[s % 8] |= (uint8_t)((six & 15) << s / 8 * 4);
            b->scales[8 + s % 4] |= (uint8_t)(six >> 4 << s / 4 * 2);
            for (int l = 0; l < 16; l++) {
                b->qs[at + l] |= (uint8_t)((q[l] & 3) << s % 8 / 2 * 2);
                b->hmask[s % 2 * 16 + l] |= (uint8_t)((q[l] >> 2) << s / 2);
            }
            b += s == SUBS - 1;
        }
    }
}

QUANT_FORMAT(Q3_K, "q3_K", decode_q3_k, encode_q3_k);
