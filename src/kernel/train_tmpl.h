/* train_tmpl.h: rows of training's element-wise ops, for any ISA; included as float_tmpl.h is. */
#include "kernel/generic/ref.h"

#include "kernel/v16_math.h"

/* ---- attention ---- */
static float NAME(exp_scaled)(float *x, float by, float shift, size_t n) {
    const v16 b = v_set1(by), s = v_set1(-shift);
    v16 sum = v_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        v16 e = v_exp(v_fma(v_load_n(x + i, n - i), b, s));
        if (n - i < 16) e = v_first(e, n - i);
        v_store_n(x + i, n - i, e);
        sum = v_add(sum, e);
    }
    return v_sum(sum);
}

static void NAME(soft_back)(const kern_soft_back *a) {
    const v16 by = v_set1(a->by), shift = v_set1(-a->lse), own = v_set1(a->own), scale = v_set1(a->scale);
    for (size_t i = 0; i < a->n; i += 16) {
        const size_t left = a->n - i;
        const v16 q = v_exp(v_fma(v_load_n(a->p + i, left), by, shift));
        v_store_n(a->p + i, left, q);
        v_store_n(a->dp + i, left, v_mul(v_mul(q, v_sub(v_load_n(a->dp + i, left), own)), scale));
    }
}

void NAME(kern_init_train)(kern_table *t) {
    t->train.exp_scaled = NAME(exp_scaled);
    t->train.soft_back = NAME(soft_back);
}
