/* split.c: from panels to split panels, and what activations contribute to a screen. */
#include "kernel/split.h"

#include "kernel/generic/ref.h"

#include <math.h>
#include <string.h>

static const kern_split splits[] = {
    {QUANT_Q8_0, {.bits = BITS_4, .scales = SCALES_F16, .span = 1, .d_mul = 1}, 128, 4},
    {QUANT_Q6_K, {.bits = BITS_4, .scales = SCALES_K_16, .span = 1, .d_mul = 1}, 32, 2},
};

const kern_split *kern_split_of(quant_type t) {
    for (size_t i = 0; i < COUNT_OF(splits); i++)
        if (splits[i].type == t) return &splits[i];
    return NULL;
}

/* Two bits of each of the four k-groups of u[4][16], from bit `from` of its bytes, as one plane. */
static void put_pair(unsigned char *plane, uint32_t (*u)[KERN_PANEL], int from) {
    uint32_t p[KERN_PANEL];
    for (int r = 0; r < KERN_PANEL; r++) {
        uint32_t v = 0;
        for (int j = 0; j < 4; j++) v |= (u[j][r] >> from & 0x03030303u) << 2 * j;
        p[r] = v;
    }
    memcpy(plane, p, sizeof p);
}

/* The levels of a block of a panel of 6 or 8 bits, as k-groups. */
static void take_levels(uint32_t (*u)[KERN_PANEL], const unsigned char *planes, unsigned bits) {
    uint32_t p[6][KERN_PANEL];
    if (bits == BITS_8) {
        memcpy(u, planes, 8 * sizeof *u);
        return;
    }
    memcpy(p, planes, sizeof p);
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < KERN_PANEL; r++)
            u[g][r] = (p[g % 4][r] >> (g / 4 * 4) & 0x0f0f0f0fu) | (p[4 + g / 4][r] >> (2 * (g % 4)) & 0x03030303u) << 4;
}

void kern_split_panel(const kern_split *s, unsigned char *high, unsigned char *rest, const unsigned char *panel,
                      size_t k) {
    const kern_packing *full = kern_packing_of(s->type);
    size_t nb = kern_acts_blocks(k), in_group = kern_group_blocks(full->scales, full->span);
    for (size_t b = 0; b < nb; b++) {
        uint32_t u[8][KERN_PANEL], h[4][KERN_PANEL];
        if (b % in_group == 0)
            memcpy(high + kern_group_at(&s->high, b), panel + kern_group_at(full, b), kern_group_scale_bytes(full->scales));
        take_levels(u, panel + kern_levels_at(full, b), full->bits);
        for (int g = 0; g < 4; g++)
            for (int r = 0; r < KERN_PANEL; r++)
                h[g][r] = (u[g][r] >> s->n_low & 0x0f0f0f0fu) | (u[g + 4][r] >> s->n_low & 0x0f0f0f0fu) << 4;
        memcpy(high + kern_levels_at(&s->high, b), h, sizeof h);
        for (int from = s->n_low - 2, at = 0; from >= 0; from -= 2, at++)
            for (size_t half = 0; half < 2; half++)
                put_pair(rest + (size_t)at * kern_split_pair_bytes(k) + b * 128 + half * 64, u + 4 * half, from);
    }
}

void kern_split_row(const kern_split *s, const unsigned char *high, const unsigned char *rest, size_t r, size_t k,
                    float *dst) {
    for (size_t b = 0; b < kern_acts_blocks(k); b++) {
        const unsigned char *h = high + kern_levels_at(&s->high, b) + 4 * r, *pair = rest + 128 * b + 4 * r;
        float scale[2], min[2];
        kern_panel_scales_ref(&s->high, high, b, r, scale, min);
        for (size_t c = 0; c < KERN_BLOCK; c++) {
            int u = h[64 * (c / 4 % 4) + c % 4] >> c / 16 * 4 & 15;
            for (int i = 0; i < s->n_low / 2; i++)
                u = u << 2 | (pair[(size_t)i * kern_split_pair_bytes(k) + 64 * (c / 16) + c % 4] >> c / 4 % 4 * 2 & 3);
            *dst++ = (float)(u - s->offset) * scale[c / 16];
        }
    }
}

bool kern_screen_x(const kern_split *s, const kern_acts *x, size_t k, kern_screen_col *cols) {
    const float e = 0x1p-24f, offset = (float)s->offset;
    size_t n = kern_screen_cols(s, k), width = kern_acts_blocks(k) * KERN_BLOCK / n;
    float slack = 4 * (float)(2 * n + 8) * e, total = 0;
    for (size_t i = 0; i < n; i++) {
        int sum = 0, size = 0;
        for (size_t c = 0; c < width; c++) {
            int q = x->q[i * width + c];
            sum += q;
            size += q < 0 ? -q : q;
        }
        float d = x->d[i * width / KERN_BLOCK];
        for (int level = 0; level < 2; level++) { /* the high part; then the pair below it */
            int n_low = s->n_low - 2 * level;
            float unit = (float)(1 << n_low), middle = (unit - 1) / 2;
            cols[(size_t)level * n + i] = (kern_screen_col){
                .step = d * unit,
                .center = (level ? -1.5f : (middle - offset) / unit) * (float)sum,
                .bound = fabsf(d) * (float)size * (middle + slack * offset) * (1 + slack),
            };
        }
        total += fabsf(d) * (float)size;
    }
    return total <= 1e24f; /* false for NaN: times |D| ≤ 65504 · 128 and 128 this stays a number */
}
