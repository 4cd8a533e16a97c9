/* train_ref.c: rows of training's element-wise ops, the scalar versions. */
#include "kernel/generic/ref.h"

#include <math.h>

static float exp_scaled(float *x, float by, float shift, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(by * x[i] - shift);
        sum += x[i];
    }
    return sum;
}

static void soft_back(const kern_soft_back *a) {
    for (size_t i = 0; i < a->n; i++) {
        const float q = expf(a->by * a->p[i] - a->lse);
        a->dp[i] = q * (a->dp[i] - a->own) * a->scale;
        a->p[i] = q;
    }
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* f'(x) */
static float slope(act_fn f, float x) {
    float s, u;
    switch (f) {
    case ACT_SILU: s = sigmoid(x); return s * (1 + x * (1 - s));
    case ACT_GELU: return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case ACT_GELU_TANH:
        u = 0.044715f * x * x;
        s = sigmoid(2 * 0.79788456f * x * (1 + u));
        return s + 2 * x * s * (1 - s) * 0.79788456f * (1 + 3 * u);
    case ACT_RELU: return x > 0 ? 1 : 0;
    case ACT_RELU2: return x > 0 ? 2 * x : 0;
    case ACT_SIGMOID: s = sigmoid(x); return s * (1 - s);
    case ACT_SOFTPLUS: return sigmoid(x);
    case ACT_TANH: s = tanhf(x); return 1 - s * s;
    case ACT_GELU_QUICK: s = sigmoid(1.702f * x); return s * (1 + 1.702f * x * (1 - s));
    default: return 1;
    }
}

static void put(float *g, float v, bool add) { *g = add ? *g + v : v; }

static void act_back(const kern_act_back *a) {
    for (size_t i = 0; i < a->n; i++) {
        if (a->gx) put(&a->gx[i], slope(a->f, a->x[i]) * (a->up ? a->up[i] : 1) * a->dy[i], a->add_x);
        if (a->gup) put(&a->gup[i], kern_act_ref(a->f, a->x[i]) * a->dy[i], a->add_up);
    }
}

static void norm(kern_norm *a, float *y, const float *b, float eps) {
    double sum = 0, squares = 0;
    for (size_t i = 0; a->centred && i < a->n; i++) sum += (double)a->x[i];
    a->mean = (float)(sum / (double)a->n);
    for (size_t i = 0; i < a->n; i++) squares += (double)((a->x[i] - a->mean) * (a->x[i] - a->mean));
    a->r = 1 / sqrtf((float)(squares / (double)a->n) + eps);
    for (size_t i = 0; i < a->n; i++) y[i] = (a->x[i] - a->mean) * a->r * (a->w ? a->w[i] : 1) + (b ? b[i] : 0);
}

static void norm_back(const kern_norm *a, float *g, const float *dy, bool add) {
    double dot = 0, sum = 0;
    for (size_t i = 0; i < a->n; i++) {
        const float d = a->w ? dy[i] * a->w[i] : dy[i];
        dot += (double)(d * (a->x[i] - a->mean) * a->r);
        sum += (double)d;
    }
    const float by = (float)(dot / (double)a->n), off = a->centred ? (float)(sum / (double)a->n) : 0;
    for (size_t i = 0; i < a->n; i++)
        put(&g[i], a->r * ((a->w ? dy[i] * a->w[i] : dy[i]) - off - (a->x[i] - a->mean) * a->r * by), add);
}

static void norm_sums(const kern_norm *a, float *gw, float *gb, const float *dy) {
    for (size_t i = 0; i < a->n; i++) {
        if (gw) gw[i] += dy[i] * ((a->x[i] - a->mean) * a->r);
        if (gb) gb[i] += dy[i];
    }
}

static void sum(float *y, const float *a, const float *b, float by, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] + by * b[i];
}

static void adamw(const kern_adamw *a) {
    for (size_t i = 0; i < a->n; i++) {
        const float g = a->g[i] * a->by;
        a->m[i] = a->m[i] + a->rest1 * (g - a->m[i]);
        a->v[i] = a->v[i] * a->beta2 + a->rest2 * g * g;
        a->x[i] = a->x[i] * a->keep - a->size * a->m[i] / (sqrtf(a->v[i]) / a->bias + a->eps);
    }
}

const kern_train kern_train_ref = {exp_scaled, soft_back, act_back, norm, norm_back, norm_sums, sum, adamw};
