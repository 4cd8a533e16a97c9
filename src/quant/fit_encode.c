/* fit_encode.c: from weights to blocks, sixteen groups at a time. */
#include "quant/fit.h"

#include <string.h>

enum { SMALL = 32 };

static const float *from(const float *importance, size_t i) {
    return importance ? importance + i : NULL;
}

void fit_encode(void *dst, const float *src, size_t n, const float *importance, int size, size_t bytes, const fit_range *r, fit_pack *pack) {
    unsigned char *b = dst;
    fit_blocks t;
    for (size_t i = 0; i < n; i += (size_t)(FIT_GROUPS * size)) {
        fit_one_scale(&t, src + i, n - i, from(importance, i), size, r);
        for (int g = 0; g < t.groups; g++, b += bytes) {
            memset(b, 0, bytes);
            pack(b, t.d[g], t.q + g * size);
        }
    }
}

void fit_encode_affine(void *dst, const float *src, size_t n, const float *importance, size_t bytes, int top, fit_pack_affine *pack) {
    unsigned char *b = dst;
    fit_stack k;
    for (size_t i = 0; i < n; i += FIT_GROUPS * SMALL) {
        int groups = (int)MIN((n - i) / SMALL, (size_t)FIT_GROUPS);
        float scale[FIT_GROUPS], off[FIT_GROUPS];
        uint16_t d[FIT_GROUPS], m[FIT_GROUPS];
        uint8_t q[SMALL];
        fit_load(&k, src + i, from(importance, i), SMALL, groups, 1);
        fit_affine_halves(&k, top, d, m, scale, off);
        for (int g = 0; g < groups; g++, b += bytes) {
            fit_levels(&k, g, off[g], scale[g], top, q);
            pack(b, d[g], m[g], q);
        }
    }
}

/* The next super-blocks, as many as fit. Returns how many. */
static int load_super(fit_stack *k, const float *src, size_t n, const float *importance, int size) {
    int subs = QUANT_K / size, blocks = (int)MIN(n / QUANT_K, (size_t)(FIT_GROUPS / subs));
    fit_load(k, src, importance, size, blocks * subs, subs);
    return blocks;
}

void fit_encode_super(void *dst, const float *src, size_t n, const float *importance, int size, size_t bytes, const fit_range *r, int bound,
                      fit_pack_super *pack) {
    unsigned char *b = dst;
    fit_stack k;
    int sc[FIT_GROUPS];
    uint16_t d[FIT_GROUPS];
    uint8_t q[SMALL];
    for (size_t i = 0, blocks; i < n; i += blocks * QUANT_K) {
        blocks = (size_t)load_super(&k, src + i, n - i, from(importance, i), size);
        fit_super(&k, r, bound, sc, d);
        memset(b, 0, blocks * bytes);
        for (int g = 0; g < k.groups; g++) {
            int at = g / k.share;
            fit_nearest(&k, g, fit_half_value(d[at], k.unit[g]) * (float)sc[g], r, q);
            pack(b + (size_t)at * bytes, d[at], g % k.share, sc[g], q);
        }
        b += blocks * bytes;
    }
}

void fit_encode_super_affine(void *dst, const float *src, size_t n, const float *importance, int size, size_t bytes, int top, int bound,
                             fit_pack_super_affine *pack) {
    unsigned char *b = dst;
    fit_stack k;
    uint8_t sc[FIT_GROUPS], m[FIT_GROUPS], q[SMALL];
    uint16_t d[FIT_GROUPS], dmin[FIT_GROUPS];
    for (size_t i = 0, blocks; i < n; i += blocks * QUANT_K) {
        blocks = (size_t)load_super(&k, src + i, n - i, from(importance, i), size);
        fit_super_affine(&k, top, bound, sc, m, d, dmin);
        memset(b, 0, blocks * bytes);
        for (int g = 0; g < k.groups; g++) {
            int at = g / k.share, first = at * k.share;
            uint16_t both[2] = {d[at], dmin[at]};
            float vd = fit_half_value(both[0], k.unit[g]), vm = fit_half_value(both[1], k.unit[g]);
            fit_levels(&k, g, vm * (float)m[g], vd * (float)sc[g], top, q);
            pack(b + (size_t)at * bytes, both, g - first, sc + first, m + first, q);
        }
        b += blocks * bytes;
    }
}
