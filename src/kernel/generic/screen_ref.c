/* screen_ref.c: the screen of split matrices, by the definition in split.h. */
#include "kernel/generic/ref.h"
#include "kernel/split.h"

#include <math.h>
#include <string.h>

/* Sum of levels times activations over columns [from, to) of a block, in row r of its planes. */
static int high_sum(const unsigned char *planes, size_t r, const int8_t *q, size_t from, size_t to) {
    int sum = 0;
    for (size_t c = from; c < to; c++) sum += (planes[64 * (c / 4 % 4) + 4 * r + c % 4] >> c / 16 * 4 & 15) * q[c];
    return sum;
}
static int pair_sum(const unsigned char *planes, size_t r, const int8_t *q, size_t from, size_t to) {
    int sum = 0;
    for (size_t c = from; c < to; c++) sum += (planes[64 * (c / 16) + 4 * r + c % 4] >> c / 4 % 4 * 2 & 3) * q[c];
    return sum;
}

static void screen(const kern_screen *a, bool refine) {
    const kern_split *sp = a->split;
    size_t nb = kern_acts_blocks(a->k), parts = kern_screen_cols(sp, a->k) / nb, width = KERN_BLOCK / parts;
    for (size_t i = 0; i < a->n_panels * KERN_PANEL; i++) {
        const unsigned char *high = a->high + i / KERN_PANEL * kern_split_high_bytes(sp, a->k), *rest = NULL;
        if (refine) rest = a->rest + i / KERN_PANEL * kern_split_rest_bytes(sp, a->k);
        size_t r = i % KERN_PANEL;
        float s = refine ? a->s[i] : 0, e = 0;
        for (size_t b = 0; b < nb; b++) {
            uint8_t u[32];
            float scale[2], min[2];
            kern_panel_block_ref(&sp->high, high, b, r, u, scale, min);
            for (size_t p = 0; p < parts; p++) {
                const kern_screen_col *c = &a->cols[b * parts + p];
                int sum = refine ? pair_sum(rest + 128 * b, r, a->q + 32 * b, p * width, (p + 1) * width)
                                 : high_sum(high + kern_levels_at(&sp->high, b), r, a->q + 32 * b, p * width, (p + 1) * width);
                s = fmaf((float)sum + c->center, scale[p] * c->step, s);
                e = fmaf(fabsf(scale[p]), c->bound, e);
            }
        }
        a->s[i] = s;
        a->u[i] = s + (e + 1e-30f);
        bool reach = !(a->u[i] * a->scale < a->floor);
        a->reach[i / KERN_PANEL] = reach || (r > 0 && a->reach[i / KERN_PANEL]);
    }
}
void kern_screen_ref(const kern_screen *a) { screen(a, false); }
void kern_refine_ref(const kern_screen *a) { screen(a, true); }

static unsigned level_of(const kern_split *s, const unsigned char *high, const unsigned char *rest, size_t k, size_t b,
                         size_t r, size_t c) {
    unsigned u = high[kern_levels_at(&s->high, b) + 64 * (c / 4 % 4) + 4 * r + c % 4] >> c / 16 * 4 & 15;
    for (unsigned pair = 0; pair < s->n_low / 2u; pair++)
        u = u << 2 | (rest[pair * kern_split_pair_bytes(k) + 128 * b + 64 * (c / 16) + 4 * r + c % 4] >> c / 4 % 4 * 2 & 3);
    return u;
}

void kern_merge_ref(const kern_split *s, unsigned char *panel, const unsigned char *high, const unsigned char *rest,
                    size_t k) {
    const kern_packing *full = kern_packing_of(s->type);
    for (size_t b = 0; b < kern_acts_blocks(k); b++) {
        unsigned char *planes = panel + kern_levels_at(full, b);
        memcpy(panel + kern_group_at(full, b), high + kern_group_at(&s->high, b), kern_group_scale_bytes(full->scales));
        memset(planes, 0, kern_level_bytes(full->bits));
        for (size_t r = 0; r < KERN_PANEL; r++)
            for (size_t c = 0; c < KERN_BLOCK; c++) {
                unsigned u = level_of(s, high, rest, k, b, r, c), g = (unsigned)c / 4;
                size_t lane = 4 * r + c % 4;
                if (full->bits == BITS_8) {
                    planes[64 * g + lane] = (unsigned char)u;
                    continue;
                }
                planes[64 * (g % 4) + lane] |= (unsigned char)((u & 15) << g / 4 * 4);
                planes[256 + 64 * (g / 4) + lane] |= (unsigned char)(u >> 4 << 2 * (g % 4));
            }
    }
}

void kern_split_mul_ref(const kern_split_mul *a) {
    const kern_split *sp = a->split;
    const kern_acts x = kern_acts_at_const(a->x, a->k);
    for (size_t i = 0; i < a->n_rows; i++) {
        const unsigned char *high = a->high + i / KERN_PANEL * kern_split_high_bytes(sp, a->k);
        const unsigned char *rest = a->rest + i / KERN_PANEL * kern_split_rest_bytes(sp, a->k);
        size_t r = i % KERN_PANEL;
        bool by_16 = kern_scales_16(sp->high.scales);
        float y = 0;
        for (size_t b = 0; b < kern_acts_blocks(a->k); b++) {
            float scale[2], min[2];
            int sum[2] = {0, 0};
            kern_panel_scales_ref(&sp->high, high, b, r, scale, min);
            for (size_t c = 0; c < KERN_BLOCK; c++)
                sum[c / 16] += ((int)level_of(sp, high, rest, a->k, b, r, c) - sp->offset) * x.q[32 * b + c];
            if (by_16) y = fmaf(fmaf((float)sum[1], scale[1], (float)sum[0] * scale[0]), x.d[b], y);
            else y = fmaf((float)(sum[0] + sum[1]), scale[0] * x.d[b], y);
        }
        a->y[i] = y * a->scale;
    }
}
