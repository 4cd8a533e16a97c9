/* mul_ref.c: products of packed panels and int8 activations, by the definition in kernel.h and packed.h. */
#include "kernel/generic/ref.h"

#include <math.h>
#include <string.h>

/* The same of a 2:4 block: columns that are not kept have the level of zero. */
static unsigned level_24_at(const unsigned char *p, bool wide, size_t r, size_t c) {
    const size_t h = c / 8, first = c / 4 % 2 * 2, lane = 4 * r + first;
    const unsigned char *at = p + (wide ? 256 : 128) + lane;
    for (size_t i = 2; i-- > 0;) { /* of two in one place, the second counts */
        if ((at[i] >> 2 * h & 3) != c % 4) continue;
        return wide ? p[64 * h + lane + i] : (unsigned)p[64 * (h % 2) + lane + i] >> h / 2 * 4 & 15;
    }
    return wide ? 128 : 8;
}

/* Level of (row r, column c) of a block whose planes begin at p. */
static unsigned level_at(const unsigned char *p, unsigned bits, size_t r, size_t c) {
    size_t g = c / 4, lane = 4 * r + c % 4;
    switch (bits) {
        case BITS_8: return p[64 * g + lane];
        case BITS_1: return (unsigned)(p[lane] >> g & 1) << 1;
        case BITS_2: return p[64 * (g / 4) + lane] >> 2 * (g % 4) & 3;
        case BITS_2X: return (unsigned)(p[64 * (g / 4) + lane] >> 2 * (g % 4) & 3) << 1;
        case BITS_3: return (p[64 * (g / 4) + lane] >> 2 * (g % 4) & 3) | (p[128 + lane] >> g & 1) << 2;
        case BITS_4_24:
        case BITS_8_24: return level_24_at(p, bits == BITS_8_24, r, c);
        default: break;
    }
    unsigned low = p[64 * (g % 4) + lane] >> g / 4 * 4 & 15;
    if (bits == BITS_5) low |= (unsigned)(p[256 + lane] >> g & 1) << 4;
    if (bits == BITS_6) low |= (unsigned)(p[256 + 64 * (g / 4) + lane] >> 2 * (g % 4) & 3) << 4;
    return low;
}

void kern_panel_block_ref(const kern_packing *p, const unsigned char *panel, size_t b, size_t r, uint8_t u[32],
                          float scale[2], float min[2]) {
    const unsigned char *levels = panel + kern_levels_at(p, b);
    for (size_t c = 0; c < 32; c++) {
        unsigned v = level_at(levels, p->bits, r, c);
        u[c] = (uint8_t)(p->bits == BITS_4T ? (unsigned)(p->levels[v] + 128) : v);
    }
    kern_panel_scales_ref(p, panel, b, r, scale, min);
}

void kern_panel_scales_ref(const kern_packing *p, const unsigned char *panel, size_t b, size_t r, float scale[2],
                           float min[2]) {
    const unsigned char *s = panel + kern_group_at(p, b);
    const uint16_t *half = (const uint16_t *)(const void *)s;
    b %= kern_group_blocks(p->scales, p->span);
    min[0] = min[1] = 0;
    switch (p->scales) {
        case SCALES_F16: scale[0] = scale[1] = quant_f16_to_f32(half[b / p->span * 16 + r]); return;
        case SCALES_F16_MIN:
            scale[0] = scale[1] = quant_f16_to_f32(half[r]);
            min[0] = min[1] = quant_f16_to_f32(half[16 + r]);
            return;
        case SCALES_F16_16:
            scale[0] = quant_f16_to_f32(half[r]);
            scale[1] = quant_f16_to_f32(half[16 + r]);
            return;
        case SCALES_E8M0: scale[0] = scale[1] = s[b * 16 + r] ? ldexpf(1, s[b * 16 + r] - 128) : 0; return;
        default: break;
    }
    bool dmin = kern_scales_min(p->scales);
    float d = quant_f16_to_f32(half[r]) * p->d_mul, m = dmin ? -quant_f16_to_f32(half[16 + r]) : 0;
    s += (dmin ? 64 : 32) + b * (p->scales == SCALES_K ? 16 : 32);
    for (int i = 0; i < 2; i++) {
        if (p->scales == SCALES_K_MIN16) {
            scale[i] = d * (float)(s[16 * i + r] & 15);
            min[i] = m * (float)(s[16 * i + r] >> 4);
        } else {
            scale[i] = d * (float)(int8_t)s[p->scales == SCALES_K_16 ? 16 * i + r : r];
            if (dmin) min[i] = m * (float)s[16 + r];
        }
    }
}

/* y after block b of row r; the block's activations are block xb of x. */
static float block_product(const kern_packing *p, const unsigned char *panel, size_t b, size_t r,
                           const kern_acts *x, size_t xb, float y) {
    uint8_t u[32];
    float scale[2], min[2];
    kern_panel_block_ref(p, panel, b, r, u, scale, min);
    int offset = p->offset;
    int sum[2] = {0, 0};
    for (size_t c = 0; c < 32; c++) sum[c / 16] += (u[c] - offset) * x->q[32 * xb + c];
    if (!kern_scales_16(p->scales)) {
        y = fmaf((float)(sum[0] + sum[1]), scale[0] * x->d[xb], y);
        return kern_scales_min(p->scales) ? fmaf(min[0], x->ds[xb], y) : y;
    }
    y = fmaf(fmaf((float)sum[1], scale[1], (float)sum[0] * scale[0]), x->d[xb], y);
    for (size_t i = 0; i < 2 && kern_scales_min(p->scales); i++) y = fmaf(min[i], x->ds16[2 * xb + i], y);
    return y;
}

/* What a panel would begin with if the group of its block b stood where it does and the others next to it. */
static const unsigned char *panel_for(const kern_mul *a, const unsigned char *panel, size_t b) {
    return a->group_bytes ? panel + b / kern_group_blocks(a->pk->scales, a->pk->span) * (a->group_bytes - a->panel_bytes) : panel;
}

static float product(const kern_mul *a, const unsigned char *panel, size_t r, const kern_acts *x) {
    size_t nb = kern_acts_blocks(a->k);
    float y = 0;
    for (size_t b = 0; b < nb; b++) y = block_product(a->pk, panel_for(a, panel, b), b, r, x, b, y);
    return y;
}

void kern_put_ref(const kern_out *o, size_t row, size_t r, float v) {
    float *y = o->y + row * o->ld + r;
    v *= o->scale;
    if (o->bias) v += o->bias[r];
    *y = o->add ? *y + v : v;
}

/* The same from the interleaved form. */
static float product_of_tile(const kern_mul *a, const unsigned char *panel, size_t r, size_t t) {
    size_t nb = kern_acts_blocks(a->k);
    const kern_acts_block *tile = a->tiles + t / KERN_TILE * nb;
    t %= KERN_TILE;
    float y = 0;
    for (size_t b = 0; b < nb; b++, tile++) {
        int32_t q[8], n16[2] = {tile->n16[0][t], tile->n16[1][t]};
        float d = tile->d[t], ds = tile->ds[t], ds16[2] = {tile->ds16[0][t], tile->ds16[1][t]};
        for (size_t g = 0; g < 8; g++) q[g] = tile->q[g][t];
        kern_acts x = {(int8_t *)(void *)q, &d, &ds, ds16, NULL, n16};
        y = block_product(a->pk, panel_for(a, panel, b), b, r, &x, 0, y);
    }
    return y;
}

void kern_mul_ref(const kern_mul *a) {
    for (size_t t = 0; t < a->n_x; t++) {
        if (a->tiles) {
            for (size_t r = 0; r < a->n_rows; r++) {
                const unsigned char *panel = a->panels + r / KERN_PANEL * a->panel_bytes;
                kern_put_ref(&a->out, kern_y_row(&a->index, t), r, product_of_tile(a, panel, r % KERN_PANEL, t));
            }
            continue;
        }
        kern_acts x = kern_acts_at_const(a->x + kern_x_row(&a->index, t) * a->x_bytes, a->k);
        for (size_t r = 0; r < a->n_rows; r++) {
            const unsigned char *panel = a->panels + r / KERN_PANEL * a->panel_bytes;
            kern_put_ref(&a->out, kern_y_row(&a->index, t), r, product(a, panel, r % KERN_PANEL, &x));
        }
    }
}

size_t kern_mul_scratch(size_t k) {
    /* two panels as bytes, each with at most two scales and two mins a block and row */
    return kern_acts_blocks(k) * 2 * (512 + 4 * 64);
}

/* Sixteen partial sums on every rung, added pairwise from the outside in. */
static float tree16(float s[16]) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

static void float_product(const kern_fmul *a, size_t size, void (*widen)(float *, const void *, size_t)) {
    for (size_t r = 0; r < a->n_rows; r++)
        for (size_t t = 0; t < a->n_x; t++) {
            const float *x = a->x + kern_x_row(&a->index, t) * a->ldx;
            const unsigned char *w = a->w + r * a->row_bytes;
            float s[16] = {0}, v[16];
            for (size_t i = 0; i < a->k; i += 16) {
                size_t n = MIN(16, a->k - i);
                widen(v, w + i * size, n);
                for (size_t j = 0; j < n; j++) s[j] = fmaf(v[j], x[i + j], s[j]);
            }
            kern_put_ref(&a->out, kern_y_row(&a->index, t), r, tree16(s));
        }
}

void kern_bmul_ref(const kern_fmul *a) {
    for (size_t r = 0; r < a->n_rows; r++)
        for (size_t t = 0; t < a->n_x; t++) {
            const uint16_t *x = a->xb + kern_x_row(&a->index, t) * a->ldx;
            float s[16] = {0};
            for (size_t i = 0; i < a->k; i += 2)
                for (size_t j = MIN(i + 2, a->k); j-- > i;) {
                    float w;
                    kern_widen_bf16_ref(&w, a->w + r * a->row_bytes + 2 * j, 1);
                    s[i / 2 % 16] += w * quant_bf16_to_f32(x[j]); /* a product of two bf16 is exact */
                }
            kern_put_ref(&a->out, kern_y_row(&a->index, t), r, tree16(s));
        }
}

void kern_widen_f32_ref(float *dst, const void *src, size_t n) { memcpy(dst, src, n * sizeof *dst); }
void kern_widen_f16_ref(float *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * i, 2);
        dst[i] = quant_f16_to_f32(h);
    }
}
void kern_widen_bf16_ref(float *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * i, 2);
        dst[i] = quant_bf16_to_f32(h);
    }
}

void kern_narrow_f32_ref(void *dst, const float *src, size_t n) { memcpy(dst, src, n * sizeof *src); }
void kern_narrow_f16_ref(void *dst, const float *src, size_t n) {
    uint16_t *h = dst;
    for (size_t i = 0; i < n; i++) h[i] = quant_f32_to_f16(src[i]);
}
void kern_narrow_bf16_ref(void *dst, const float *src, size_t n) {
    uint16_t *h = dst;
    for (size_t i = 0; i < n; i++) h[i] = quant_f32_to_bf16(src[i]);
}

void kern_fmul_f32_ref(const kern_fmul *a) { float_product(a, 4, kern_widen_f32_ref); }
void kern_fmul_f16_ref(const kern_fmul *a) { float_product(a, 2, kern_widen_f16_ref); }
void kern_fmul_bf16_ref(const kern_fmul *a) { float_product(a, 2, kern_widen_bf16_ref); }
