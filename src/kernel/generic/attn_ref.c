/* attn_ref.c: what attention needs: rotation, 16-bit pair words, its softmax, element by element. */
#include "kernel/generic/ref.h"

#include <math.h>
#include <string.h>

static float half_of(uint32_t word, int high) {
    uint32_t bits = high ? word & 0xffff0000u : word << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

void kern_widen_q8_0_ref(float *dst, const void *src, size_t n) { quant_get(QUANT_Q8_0)->decode(dst, src, n); }
void kern_widen_q4_0_ref(float *dst, const void *src, size_t n) { quant_get(QUANT_Q4_0)->decode(dst, src, n); }

void kern_widen_columns_q8_0_ref(float *dst, size_t ld, const void *src) {
    const int8_t *q = src;
    float d[16];
    kern_widen_f16_ref(d, q + 32 * 16, 16);
    for (size_t j = 0; j < 32; j++)
        for (size_t i = 0; i < 16; i++) dst[j * ld + i] = d[i] * (float)q[16 * j + i];
}

void kern_widen_columns_q4_0_ref(float *dst, size_t ld, const void *src) {
    const uint8_t *q = src;
    float d[16];
    kern_widen_f16_ref(d, q + 16 * 16, 16);
    for (size_t j = 0; j < 32; j++)
        for (size_t i = 0; i < 16; i++) {
            uint8_t both = q[j % 16 * 16 + i];
            dst[j * ld + i] = d[i] * (float)((j < 16 ? both & 15 : both >> 4) - 8);
        }
}

void kern_unzip_f16_ref(float *even, float *odd, const void *words, size_t n) {
    const uint16_t *h = words;
    for (size_t i = 0; i < n; i++) {
        kern_widen_f16_ref(even + i, h + 2 * i, 1);
        kern_widen_f16_ref(odd + i, h + 2 * i + 1, 1);
    }
}

void kern_unzip_bf16_ref(float *even, float *odd, const void *words, size_t n) {
    const uint32_t *w = words;
    for (size_t i = 0; i < n; i++) {
        even[i] = half_of(w[i], 0);
        odd[i] = half_of(w[i], 1);
    }
}

void kern_rotate_ref(float *v, const float *cs, size_t n, bool halves) {
    for (size_t i = 0; i < n; i++) {
        float *a = halves ? v + i : v + 2 * i, *b = halves ? v + i + n : v + 2 * i + 1;
        float x = *a, y = *b, c = cs[2 * i], s = cs[2 * i + 1];
        *a = x * c - y * s;
        *b = x * s + y * c;
    }
}

void kern_scale_ref(float *y, const float *x, float by, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] * by;
}

void kern_mix_ref(float *y, float a, const float *x, float b, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = y[i] * a + x[i] * b;
}

float kern_soften_ref(float *s, size_t n, float *max, float *sum) {
    float m = fmaxf(*max, kern_max_ref(s, n));
    if (m == -INFINITY) {
        memset(s, 0, n * sizeof *s);
        return 1;
    }
    float keep = expf(*max - m);
    *sum = *sum * keep + kern_exp_sum_ref(s, m, n);
    *max = m;
    return keep;
}

float kern_soften_bf16_ref(void *p, float *s, size_t n, float *max, float *sum) {
    float keep = kern_soften_ref(s, n, max, sum);
    kern_narrow_bf16_ref(p, s, n);
    return keep;
}

void kern_bf16_of_f32_ref(void *dst, const float *src, float by, size_t n) {
    uint16_t *h = dst;
    for (size_t i = 0; i < n; i++) {
        float x = src[i] * by;
        kern_narrow_bf16_ref(h + i, &x, 1);
    }
}

void kern_bf16_of_f16_ref(void *dst, const void *src, size_t n) {
    uint16_t *to = dst;
    const uint16_t *from = src;
    for (size_t i = 0; i < n; i++) {
        float x;
        kern_widen_f16_ref(&x, from + i, 1);
        kern_narrow_bf16_ref(to + i, &x, 1);
    }
}

void kern_bf16_zip_ref(void *dst, const float *a, const float *b, size_t n) {
    uint16_t *h = dst;
    for (size_t i = 0; i < n; i++) {
        kern_narrow_bf16_ref(h + 2 * i, a + i, 1);
        kern_narrow_bf16_ref(h + 2 * i + 1, b + i, 1);
    }
}

void kern_pairs_ref(const kern_pairs *t) {
    for (size_t i = 0; i < t->m; i++)
        for (size_t j = 0; j < t->n; j++) {
            float s = t->add ? t->c[i * t->ldc + j] : 0;
            for (size_t l = 0; l < t->k; l++) {
                uint32_t a = t->a[i * t->lda + l], b = t->b[l * t->ldb + j / 16 * t->ldv + j % 16];
                if (t->f16) kern_bf16_of_f16_ref(&b, &b, 2);
                s += half_of(a, 1) * half_of(b, 1); /* a product of two bf16 is exact */
                s += half_of(a, 0) * half_of(b, 0);
            }
            t->c[i * t->ldc + j] = s;
        }
}
