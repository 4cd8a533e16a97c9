/* vec_ref.c: norms, activation functions, softmax and small products, element by element. */
#include "kernel/generic/ref.h"

#include <math.h>
#include <string.h>

/* Sum of 16 lanes, pairwise from the outside in: v_sum's order. */
static float sum16(float v[16]) {
    for (size_t w = 8; w > 0; w /= 2)
        for (size_t i = 0; i < w; i++) v[i] += v[i + w];
    return v[0];
}

/* One block of which the largest is amax, rounded to levels of amax / steps: sum y q and sum q². */
static void fit(const float v[KERN_BLOCK], float by, float q[KERN_BLOCK], float *sum_yq, float *sum_qq) {
    float yq[16], qq[16];
    for (size_t i = 0; i < 16; i++) {
        float lo = v[i] * by, hi = v[i + 16] * by;
        q[i] = rintf(lo);
        q[i + 16] = rintf(hi);
        yq[i] = fmaf(hi, q[i + 16], lo * q[i]);
        qq[i] = fmaf(q[i + 16], q[i + 16], q[i] * q[i]);
    }
    *sum_yq = sum16(yq);
    *sum_qq = sum16(qq);
}

void kern_quantize_ref(void *dst, const float *x, size_t k) {
    kern_acts a = kern_acts_at(dst, k);
    size_t nb = kern_acts_blocks(k);
    for (size_t b = 0; b < nb; b++) {
        size_t n = MIN(KERN_BLOCK, k - b * KERN_BLOCK);
        float v[KERN_BLOCK] = {0}, q[KERN_BLOCK] = {0}, other[KERN_BLOCK], amax = 0, d = 0;
        bool finite = true;
        for (size_t i = 0; i < n; i++) {
            v[i] = x[b * KERN_BLOCK + i];
            amax = fmaxf(amax, fabsf(v[i]));
            if (!(fabsf(v[i]) <= 3.4028234e38f)) finite = false;
        }
        float inverse = 1 / amax, best = 0, best_qq = 0;
        for (size_t i = 0; i < KERN_STEPS && finite && inverse * kern_steps[0] <= 3.4028234e38f; i++) {
            float yq, qq;
            fit(v, kern_steps[i] * inverse, other, &yq, &qq);
            float e = yq * kern_steps_inverse[i];
            if (i > 0 && !(e * e * best_qq > best * qq)) continue;
            best = e * e;
            best_qq = qq;
            memcpy(q, other, sizeof q);
            d = amax * kern_steps_inverse[i] * (yq / qq);
        }
        int32_t s[2] = {0, 0};
        for (size_t i = 0; i < KERN_BLOCK; i++) {
            a.q[b * KERN_BLOCK + i] = (int8_t)q[i];
            s[i / 16] += (int32_t)q[i];
        }
        a.d[b] = d;
        for (size_t i = 0; i < 2; i++) {
            a.n16[2 * b + i] = -s[i];
            a.ds16[2 * b + i] = d * (float)s[i];
        }
        a.n[b] = -(s[0] + s[1]);
        a.ds[b] = d * (float)(s[0] + s[1]);
    }
}

void kern_interleave_ref(kern_acts_block *dst, const unsigned char *x, size_t x_bytes, size_t n, size_t k) {
    size_t nb = kern_acts_blocks(k);
    for (size_t t = 0; t < KERN_TILE; t++) {
        if (t >= n) {
            for (size_t b = 0; b < nb; b++) {
                for (size_t g = 0; g < 8; g++) dst[b].q[g][t] = 0;
                dst[b].d[t] = dst[b].ds[t] = dst[b].ds16[0][t] = dst[b].ds16[1][t] = 0;
                dst[b].n[t] = dst[b].n16[0][t] = dst[b].n16[1][t] = 0;
            }
            continue;
        }
        kern_acts a = kern_acts_at_const(x + t * x_bytes, k);
        const int32_t *words = (const int32_t *)(const void *)a.q;
        for (size_t b = 0; b < nb; b++) {
            for (size_t g = 0; g < 8; g++) dst[b].q[g][t] = words[8 * b + g];
            dst[b].d[t] = a.d[b];
            dst[b].ds[t] = a.ds[b];
            dst[b].n[t] = a.n[b];
            for (size_t i = 0; i < 2; i++) {
                dst[b].n16[i][t] = a.n16[2 * b + i];
                dst[b].ds16[i][t] = a.ds16[2 * b + i];
            }
        }
    }
}

void kern_rms_norm_ref(float *y, const float *x, const float *w, const float *b, float eps, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    float scale = 1.0f / sqrtf((float)(sum / (double)n) + eps);
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * scale;
        if (w) v *= w[i];
        y[i] = b ? v + b[i] : v;
    }
}

void kern_layer_norm_ref(float *y, const float *x, const float *w, const float *b, float eps, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    float mean = (float)(sum / (double)n);
    for (size_t i = 0; i < n; i++) squares += (double)(x[i] - mean) * (double)(x[i] - mean);
    float scale = 1.0f / sqrtf((float)(squares / (double)n) + eps);
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * scale;
        if (w) v *= w[i];
        y[i] = b ? v + b[i] : v;
    }
}

float kern_act_ref(act_fn f, float x) {
    switch (f) {
        case ACT_SILU: return x / (1.0f + expf(-x));
        case ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * x * (1.0f + 0.044715f * x * x)));
        case ACT_RELU: return x > 0 ? x : 0;
        case ACT_RELU2: return x > 0 ? x * x : 0;
        case ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
        case ACT_SOFTPLUS: return x > 20 ? x : log1pf(expf(x));
        case ACT_TANH: return tanhf(x);
        case ACT_GELU_QUICK: return x / (1.0f + expf(-1.702f * x));
        case ACT_SWIGLU_OAI: x = fminf(x, 7.0f); return x / (1.0f + expf(-1.702f * x));
        default: return x;
    }
}

void kern_act_row_ref(act_fn f, float *y, const float *x, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float v = kern_act_ref(f, x[i]);
        if (up) v *= f == ACT_SWIGLU_OAI ? fmaxf(-7.0f, fminf(up[i], 7.0f)) + 1.0f : up[i];
        y[i] = v;
    }
}

void kern_axpy_ref(float *y, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = fmaf(scale, x[i], y[i]);
}

float kern_dot_ref(const float *x, const float *y, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * (double)y[i];
    return (float)s;
}

float kern_max_ref(const float *x, size_t n) {
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (x[i] > m) m = x[i];
    return m;
}

float kern_exp_sum_ref(float *x, float shift, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - shift);
        s += (double)x[i];
    }
    return (float)s;
}

void kern_tile_ref(const kern_tile *t) {
    for (size_t i = 0; i < t->m; i++)
        for (size_t j = 0; j < t->n; j++) {
            float s = t->add ? t->c[i * t->ldc + j] : 0;
            for (size_t l = 0; l < t->k; l++) s = fmaf(t->a[i * t->lda + l], t->b[l * t->ldb + j], s);
            t->c[i * t->ldc + j] = s;
        }
}
