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

const kern_train kern_train_ref = {.exp_scaled = exp_scaled, .soft_back = soft_back};
