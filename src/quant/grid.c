/* grid.c: scales and levels of blocks, apart. */
#include "quant/grid.h"

#include <math.h>
#include <string.h>

static const int8_t e2m1[16] = {-12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12};
static const uint8_t e2m1_code[16] = {15, 14, 13, 12, 11, 10, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7};

/*                                 block group   lo   hi step table              zero   outer  minimum */
static const quant_grid grids[] = {
    {QUANT_Q4_0,   32,  32,   -8,   7, 1, NULL, true, true, false},
    {QUANT_Q4_1,   32,  32,    0,  15, 1, NULL, false, true, true},
    {QUANT_Q5_0,   32,  32,  -16,  15, 1, NULL, true, true, false},
    {QUANT_Q5_1,   32,  32,    0,  31, 1, NULL, false, true, true},
    {QUANT_Q8_0,   32,  32, -127, 127, 1, NULL, true, true, false},
    {QUANT_Q2_K,  256,  16,    0,   3, 1, NULL, false, true, true},
    {QUANT_Q3_K,  256,  16,   -4,   3, 1, NULL, true, true, false},
    {QUANT_Q4_K,  256,  32,    0,  15, 1, NULL, false, true, true},
    {QUANT_Q5_K,  256,  32,    0,  31, 1, NULL, false, true, true},
    {QUANT_Q6_K,  256,  16,  -32,  31, 1, NULL, true, true, false},
    {QUANT_IQ4_NL, 32,  32, -127, 113, 1, quant_iq4_values, false, true, false},
    {QUANT_IQ4_XS, 256, 32, -127, 113, 1, quant_iq4_values, false, true, false},
    {QUANT_TQ2_0, 256, 256,   -1,   1, 1, NULL, true, true, false},
    {QUANT_Q2_0,   64,  64,   -1,   2, 1, NULL, true, true, false},
    {QUANT_Q4_96,  96,  96,   -8,   7, 1, NULL, true, true, false},
    {QUANT_Q3_96,  96,  96,   -4,   3, 1, NULL, true, true, false},
    {QUANT_Q2_96,  96,  96,   -3,   3, 2, NULL, false, true, false},
    {QUANT_TQ1_192, 192, 192, -1,   1, 1, NULL, true, true, false},
    {QUANT_MXFP4,  32,  32,  -12,  12, 1, e2m1, true, false, false},
    {QUANT_NVFP4,  64,  16,  -12,  12, 1, e2m1, true, false, false},
};

const quant_grid *quant_grid_of(int type) {
    for (size_t i = 0; i < COUNT_OF(grids); i++) {
        if (grids[i].type == (quant_type)type) return &grids[i];
    }
    return NULL;
}

int quant_grid_place(const quant_grid *g, float t) {
    if (!(t == t)) t = 0;
    if (!g->table) {
        t = t > (float)g->lo ? t : (float)g->lo;
        t = t < (float)g->hi ? t : (float)g->hi;
        return g->step == 1 ? (int)lrintf(t) - g->lo : (int)lrintf((t - (float)g->lo) / (float)g->step);
    }
    int p = 0;
    while (p < 15 && 2 * t > (float)(g->table[p] + g->table[p + 1])) p++;
    return p;
}

/* Where a format keeps d, and m: bytes from the block's start. */
static void outer_at(quant_type t, size_t *d, size_t *m) {
    *d = *m = 0;
    switch ((int)t) {
    case QUANT_Q4_1:
    case QUANT_Q5_1: *m = 2; break;
    case QUANT_Q2_K: *d = 80, *m = 82; break;
    case QUANT_Q3_K: *d = 108; break;
    case QUANT_Q4_K:
    case QUANT_Q5_K: *m = 2; break;
    case QUANT_Q6_K: *d = 208; break;
    case QUANT_TQ2_0: *d = 64; break;
    default: break;
    }
}

static float half_at(const void *block, size_t at) {
    uint16_t h;
    memcpy(&h, (const uint8_t *)block + at, sizeof h);
    return quant_f16_to_f32(h);
}

static void set_half(void *block, size_t at, float *v) {
    float x = *v == *v ? *v : 0;
    x = x > 65504 ? 65504 : x < -65504 ? -65504 : x;
    uint16_t h = quant_f32_to_f16(x);
    memcpy((uint8_t *)block + at, &h, sizeof h);
    *v = quant_f16_to_f32(h);
}

void quant_grid_read(const quant_grid *g, const void *block, quant_grid_scales *out) {
    size_t at_d, at_m;
    outer_at(g->type, &at_d, &at_m);
    out->d = g->outer ? half_at(block, at_d) : 1;
    out->m = g->minimum ? half_at(block, at_m) : 0;
    for (int s = 0; s < g->block / g->group; s++) {
        uint8_t sc, m;
        out->a[s] = out->b[s] = 1;
        switch ((int)g->type) {
        case QUANT_Q2_K:
            out->a[s] = (float)(((const q2_k_block *)block)->scales[s] & 15);
            out->b[s] = -(float)(((const q2_k_block *)block)->scales[s] >> 4);
            break;
        case QUANT_Q3_K: out->a[s] = (float)quant_k3_scale(((const q3_k_block *)block)->scales, s); break;
        case QUANT_Q4_K:
        case QUANT_Q5_K:
            quant_k4_scale((const uint8_t *)block + 4, s, &sc, &m);
            out->a[s] = (float)sc;
            out->b[s] = -(float)m;
            break;
        case QUANT_Q6_K: out->a[s] = (float)((const q6_k_block *)block)->scales[s]; break;
        case QUANT_IQ4_XS: {
            const iq4_xs_block *x = block;
            out->a[s] = (float)(((x->scales_l[s / 2] >> s % 2 * 4 & 15) | (x->scales_h >> 2 * s & 3) << 4) - 32);
            break;
        }
        case QUANT_MXFP4: out->a[s] = quant_e8m0_half(((const mxfp4_block *)block)->e); break;
        case QUANT_NVFP4: out->a[s] = quant_ue4m3_half(((const nvfp4_block *)block)->d[s]); break;
        default: break;
        }
    }
}

void quant_grid_set(const quant_grid *g, void *block, float *d, float *m) {
    size_t at_d, at_m;
    outer_at(g->type, &at_d, &at_m);
    set_half(block, at_d, d);
    if (g->minimum) set_half(block, at_m, m);
}

/* Where the bits of weight j lie: the low ones, and those above them (high_bits 0: none). */
typedef struct spot {
    uint8_t low, low_shift, low_bits, high, high_shift, high_bits;
} spot;

static spot spot_of(quant_type t, int j) {
    uint8_t half = (uint8_t)(j % 16), l = (uint8_t)(j % 32), nibble = (uint8_t)(j % 32 / 16 * 4);
    uint8_t pair = (uint8_t)(j % 128 / 32 * 2), wide = (uint8_t)(j / 128 * 32 + l), k4 = (uint8_t)(j / 64 * 32 + l);
    uint8_t k4_shift = (uint8_t)(j % 64 / 32 * 4), s = (uint8_t)(j % 128 / 32);
    switch ((int)t) {
    case QUANT_Q4_1: return (spot){(uint8_t)(4 + half), nibble, 4, 0, 0, 0};
    case QUANT_Q5_0: return (spot){(uint8_t)(6 + half), nibble, 4, (uint8_t)(2 + j / 8), (uint8_t)(j % 8), 1};
    case QUANT_Q5_1: return (spot){(uint8_t)(8 + half), nibble, 4, (uint8_t)(4 + j / 8), (uint8_t)(j % 8), 1};
    case QUANT_Q8_0: return (spot){(uint8_t)(2 + j), 0, 8, 0, 0, 0};
    case QUANT_Q2_K: return (spot){(uint8_t)(16 + wide), pair, 2, 0, 0, 0};
    case QUANT_Q3_K: return (spot){(uint8_t)(32 + wide), pair, 2, l, (uint8_t)(j / 32), 1};
    case QUANT_Q4_K: return (spot){(uint8_t)(16 + k4), k4_shift, 4, 0, 0, 0};
    case QUANT_Q5_K: return (spot){(uint8_t)(48 + k4), k4_shift, 4, (uint8_t)(16 + l), (uint8_t)(j / 32), 1};
    case QUANT_Q6_K:
        return (spot){(uint8_t)(j / 128 * 64 + l + 32 * (s & 1)), (uint8_t)(s / 2 * 4), 4, (uint8_t)(128 + wide),
                      (uint8_t)(2 * s), 2};
    case QUANT_IQ4_XS: return (spot){(uint8_t)(8 + j / 32 * 16 + half), nibble, 4, 0, 0, 0};
    case QUANT_TQ2_0: return (spot){wide, pair, 2, 0, 0, 0};
    case QUANT_Q4_96: return (spot){(uint8_t)(2 + j / 32 * 16 + half), nibble, 4, 0, 0, 0};
    case QUANT_Q3_96:
        return (spot){(uint8_t)(14 + j / 4), (uint8_t)(j % 4 * 2), 2, (uint8_t)(2 + j / 8), (uint8_t)(j % 8), 1};
    case QUANT_Q2_0:
    case QUANT_Q2_96: return (spot){(uint8_t)(2 + j / 4), (uint8_t)(j % 4 * 2), 2, 0, 0, 0};
    case QUANT_MXFP4: return (spot){(uint8_t)(1 + half), nibble, 4, 0, 0, 0};
    case QUANT_NVFP4: return (spot){(uint8_t)(4 + j / 16 * 8 + j % 8), (uint8_t)(j % 16 / 8 * 4), 4, 0, 0, 0};
    default: return (spot){(uint8_t)(2 + half), nibble, 4, 0, 0, 0}; /* Q4_0, IQ4_NL */
    }
}

static void put_bits(uint8_t *p, int shift, int bits, int v) {
    int mask = ((1 << bits) - 1) << shift;
    *p = (uint8_t)((*p & ~mask) | (v << shift & mask));
}

void quant_grid_put(const quant_grid *g, void *block, const uint8_t *places) {
    uint8_t *p = block;
    if (g->type == QUANT_TQ1_192) {
        for (int m = 0; m < 39; m++) ((tq1_192_block *)block)->qs[m] = quant_trits_192(places, m);
        return;
    }
    for (int j = 0; j < g->block; j++) {
        spot s = spot_of(g->type, j);
        int code = g->table == e2m1 ? e2m1_code[places[j]] : places[j];
        if (g->type == QUANT_Q8_0) code = (code + g->lo) & 255; /* two's complement, not distance from the lowest */
        put_bits(p + s.low, s.low_shift, s.low_bits, code);
        if (s.high_bits) put_bits(p + s.high, s.high_shift, s.high_bits, code >> s.low_bits);
    }
}
