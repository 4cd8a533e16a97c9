#include "train/optim_int.h"

#include <math.h>
#include <string.h>

enum { FIRST = (127 - 31) << 8 /* 2^-31 */ };

/* Which 256th of which power of two |y| ≤ 1 is in; very small ones share the first. */
static inline uint32_t key_of(float y) {
    uint32_t bits;
    memcpy(&bits, &y, sizeof bits);
    const uint32_t key = (bits & 0x7fffffffu) >> 15;
    return key < FIRST ? 0 : MIN(key - FIRST, (uint32_t)OPTIM_CODE_KEYS - 1);
}

/* The number of borders below y. */
static unsigned below(const optim_code *c, float y) {
    unsigned at = 0;
    for (unsigned step = 128; step; step >>= 1) at += at + step <= 255 && y > c->border[at + step - 1] ? step : 0;
    return at;
}

/* A border lies in the key of its own size, and between 0 and the first key's end there is at most the one beside 0. */
static void index_borders(optim_code *c) {
    for (uint32_t key = 0; key < OPTIM_CODE_KEYS; key++) {
        const uint32_t bits[2] = {key ? (key + FIRST) << 15 : 0, ((key + FIRST + 1) << 15) - 1};
        float edge[2];
        memcpy(edge, bits, sizeof edge);
        c->first[0][key] = (uint8_t)below(c, edge[0]);
        c->first[1][key] = (uint8_t)below(c, -edge[1]);
    }
}

void optim_code_init(optim_code *c, bool is_signed) {
    size_t n = 0, values = is_signed ? 127 : 254;
    float up[256];
    for (int e = 0; e < 7; e++) {
        int parts = is_signed ? 1 << e : 2 << e; /* 10^(e - 6) times the middles of so many parts of [0.1, 1] */
        for (int i = 0; i < parts; i++) up[n++] = (float)(pow(10, e - 6) * (0.1 + 0.9 * (i + 0.5) / parts));
    }
    size_t at = 0;
    if (is_signed)
        for (size_t i = values; i-- > 0;) c->value[at++] = -up[i];
    c->value[at++] = 0;
    for (size_t i = 0; i < values; i++) c->value[at++] = up[i];
    c->value[at++] = 1;
    for (size_t i = 0; i < 255; i++) c->border[i] = (c->value[i] + c->value[i + 1]) / 2;
    index_borders(c);
}

void optim_decode(const optim_code *c, float *x, const uint8_t *codes, float max, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = c->value[codes[i]] * max;
}

float optim_encode(const optim_code *c, uint8_t *codes, const float *x, size_t n, bool never_zero) {
    float max = 0;
    for (size_t i = 0; i < n; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    float by = max > 0 ? 1 / max : 0;
    if (!(by <= 3.4e38f)) by = 0; /* the reciprocal of a denormal */
    for (size_t i = 0; i < n; i++) {
        const float y = x[i] * by;
        unsigned at = c->first[y < 0][key_of(y)];
        at += at < 255 && y > c->border[at];
        if (never_zero && c->value[at] == 0 && x[i] > 0) at++;
        codes[i] = (uint8_t)at;
    }
    return max;
}
