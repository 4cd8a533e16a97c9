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

/* ---- activations ---- */
/* f(x), and its slope in *d. */
INLINE v16 v_act_slope(const act_fn f, v16 x, v16 *d) {
    const v16 one = v_set1(1.0f), zero = v_set1(0.0f);
    v16 s, u;
    switch (f) {
    case ACT_SILU: /* σ (1 + x (1 - σ)) */
        s = v_sigmoid(x);
        *d = v_mul(s, v_fma(x, v_sub(one, s), one));
        return v_mul(x, s);
    case ACT_GELU: /* Φ + x φ */
        s = v_mul(v_set1(0.5f), v_add(one, v_erf(v_mul(x, v_set1(0.70710678f)))));
        u = v_mul(v_set1(0.39894228f), v_exp(v_mul(v_set1(-0.5f), v_mul(x, x))));
        *d = v_fma(x, u, s);
        return v_mul(x, s);
    case ACT_GELU_TANH: /* f = x σ(2 u), u = sqrt(2/π) (x + 0.044715 x³);  f' = σ + 2 x σ (1 - σ) u' */
        u = v_mul(v_set1(0.044715f), v_mul(x, x));
        s = v_sigmoid(v_mul(v_mul(v_set1(2 * 0.79788456f), x), v_add(u, one)));
        u = v_mul(v_set1(2 * 0.79788456f), v_fma(v_set1(3.0f), u, one));
        *d = v_fma(v_mul(x, s), v_mul(v_sub(one, s), u), s);
        return v_mul(x, s);
    case ACT_RELU:
        *d = v_select_below(zero, x, one, zero);
        return v_max(zero, x);
    case ACT_RELU2:
        u = v_max(zero, x);
        *d = v_add(u, u);
        return v_mul(u, u);
    case ACT_SIGMOID:
        s = v_sigmoid(x);
        *d = v_mul(s, v_sub(one, s));
        return s;
    case ACT_SOFTPLUS:
        *d = v_sigmoid(x);
        return v_softplus(x);
    case ACT_TANH:
        s = v_tanh(x);
        *d = v_sub(one, v_mul(s, s));
        return s;
    case ACT_GELU_QUICK:
        u = v_mul(v_set1(1.702f), x);
        s = v_sigmoid(u);
        *d = v_mul(s, v_fma(u, v_sub(one, s), one));
        return v_mul(x, s);
    default:
        *d = one;
        return x;
    }
}

/* *g (+)= v, of which n lanes exist */
INLINE void v_put(float *g, size_t n, v16 v, bool add) { v_store_n(g, n, add ? v_add(v_load_n(g, n), v) : v); }

INLINE void act_back_row(const act_fn f, const kern_act_back *a) {
    for (size_t i = 0; i < a->n; i += 16) {
        const size_t left = a->n - i;
        const v16 dy = v_load_n(a->dy + i, left);
        v16 d, y = v_act_slope(f, v_load_n(a->x + i, left), &d);
        if (a->gx) v_put(a->gx + i, left, v_mul(a->up ? v_mul(d, v_load_n(a->up + i, left)) : d, dy), a->add_x);
        if (a->gup) v_put(a->gup + i, left, v_mul(y, dy), a->add_up);
    }
}
static void NAME(act_back)(const kern_act_back *a) {
    switch (a->f) {
#define CASE(f) \
    case f: act_back_row(f, a); return;
        CASE(ACT_SILU)
        CASE(ACT_GELU)
        CASE(ACT_GELU_TANH)
        CASE(ACT_RELU)
        CASE(ACT_RELU2)
        CASE(ACT_SIGMOID)
        CASE(ACT_SOFTPLUS)
        CASE(ACT_TANH)
        CASE(ACT_GELU_QUICK)
#undef CASE
    default: act_back_row(ACT_NONE, a);
    }
}

/* ---- norms ---- */
static void NAME(norm)(kern_norm *a, float *y, const float *b, float eps) {
    v16 sum = v_set1(0.0f), squares = v_set1(0.0f);
    a->mean = 0;
    for (size_t i = 0; a->centred && i < a->n; i += 16) sum = v_add(sum, v_load_n(a->x + i, a->n - i));
    if (a->centred) a->mean = v_sum(sum) / (float)a->n;
    const v16 mean = v_set1(a->mean);
    for (size_t i = 0; i < a->n; i += 16) {
        v16 d = v_sub(v_load_n(a->x + i, a->n - i), mean);
        if (a->n - i < 16) d = v_first(d, a->n - i);
        squares = v_fma(d, d, squares);
    }
    a->r = 1 / sqrtf(v_sum(squares) / (float)a->n + eps);
    const v16 r = v_set1(a->r);
    for (size_t i = 0; i < a->n; i += 16) {
        const size_t left = a->n - i;
        v16 v = v_mul(v_sub(v_load_n(a->x + i, left), mean), r);
        if (a->w) v = v_mul(v, v_load_n(a->w + i, left));
        if (b) v = v_add(v, v_load_n(b + i, left));
        v_store_n(y + i, left, v);
    }
}

/* dy w and x̂ of 16 numbers; past the end: dy w = 0. */
INLINE v16 norm_parts(const kern_norm *a, const float *dy, size_t i, v16 *hat) {
    const size_t left = a->n - i;
    const v16 d = v_load_n(dy + i, left);
    *hat = v_mul(v_sub(v_load_n(a->x + i, left), v_set1(a->mean)), v_set1(a->r));
    return a->w ? v_mul(d, v_load_n(a->w + i, left)) : d;
}
static void NAME(norm_back)(const kern_norm *a, float *g, const float *dy, bool add) {
    v16 dot = v_set1(0.0f), sum = v_set1(0.0f), hat;
    for (size_t i = 0; i < a->n; i += 16) {
        const v16 d = norm_parts(a, dy, i, &hat);
        dot = v_fma(d, hat, dot);
        sum = v_add(sum, d);
    }
    const v16 by = v_set1(v_sum(dot) / (float)a->n), off = v_set1(a->centred ? v_sum(sum) / (float)a->n : 0.0f), r = v_set1(a->r);
    for (size_t i = 0; i < a->n; i += 16) {
        const v16 d = v_sub(norm_parts(a, dy, i, &hat), off);
        v_put(g + i, a->n - i, v_mul(r, v_sub(d, v_mul(hat, by))), add);
    }
}
static void NAME(norm_sums)(const kern_norm *a, float *gw, float *gb, const float *dy) {
    const v16 mean = v_set1(a->mean), r = v_set1(a->r);
    for (size_t i = 0; i < a->n; i += 16) {
        const size_t left = a->n - i;
        const v16 d = v_load_n(dy + i, left);
        if (gw) v_put(gw + i, left, v_mul(d, v_mul(v_sub(v_load_n(a->x + i, left), mean), r)), true);
        if (gb) v_put(gb + i, left, d, true);
    }
}

/* ---- sums, updates ---- */
static void NAME(sum)(float *y, const float *a, const float *b, float by, size_t n) {
    const v16 s = v_set1(by);
    for (size_t i = 0; i < n; i += 16) v_store_n(y + i, n - i, v_add(v_load_n(a + i, n - i), v_mul(s, v_load_n(b + i, n - i))));
}

static void NAME(adamw)(const kern_adamw *a) {
    const v16 by = v_set1(a->by), keep = v_set1(a->keep), rest1 = v_set1(a->rest1), beta2 = v_set1(a->beta2), rest2 = v_set1(a->rest2);
    const v16 bias = v_set1(a->bias), eps = v_set1(a->eps), size = v_set1(a->size);
    for (size_t i = 0; i < a->n; i += 16) {
        const size_t left = a->n - i;
        const v16 g = v_mul(v_load_n(a->g + i, left), by);
        v16 m = v_load_n(a->m + i, left), v = v_load_n(a->v + i, left);
        m = v_add(m, v_mul(rest1, v_sub(g, m)));
        v = v_add(v_mul(v, beta2), v_mul(v_mul(rest2, g), g));
        const v16 step = v_div(v_mul(size, m), v_add(v_div(v_sqrt(v), bias), eps));
        v_store_n(a->m + i, left, m);
        v_store_n(a->v + i, left, v);
        v_store_n(a->x + i, left, v_sub(v_mul(v_load_n(a->x + i, left), keep), step));
    }
}

void NAME(kern_init_train)(kern_table *t) {
    t->train = (kern_train){NAME(exp_scaled), NAME(soft_back), NAME(act_back),  NAME(norm),
                            NAME(norm_back),  NAME(norm_sums), NAME(sum), NAME(adamw)};
}
