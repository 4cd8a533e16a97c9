/* v16_math.h: elementary functions on sixteen floats, and what the templates written on them share. The ISA's v16
 * header (the list of operations is in x86/v16_avx512.h) comes first. */
#ifndef MOTE_KERNEL_V16_MATH_H
#define MOTE_KERNEL_V16_MATH_H

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* e^x to 2 ulp; below -87.3 exactly 0, above 88.3 its value there. NaN stays NaN.
 * x = n ln 2 + r, |r| <= ln 2 / 2; a polynomial of degree 6 for e^r (minimax, found by Remez' method). */
INLINE v16 v_exp(v16 x) {
    const v16 low = v_set1(-87.3f);
    v16 clamped = v_min(v_set1(88.3f), v_max(low, x));
    v16 n = v_round(v_mul(clamped, v_set1(1.44269504f)));
    v16 r = v_fma(n, v_set1(-0.693359375f), clamped);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    v16 p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    p = v_fma(v_mul(r, r), p, v_add(r, v_set1(1.0f)));
    return v_zero_below(v_mul(p, v_pow2(n)), x, low);
}

INLINE v16 v_sigmoid(v16 x) { return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_neg(x)))); }

/* tanh x = 1 - 2 / (e^2x + 1); near 0, where that cancels, an odd polynomial. */
INLINE v16 v_tanh(v16 x) {
    v16 far = v_sub(v_set1(1.0f), v_div(v_set1(2.0f), v_add(v_exp(v_add(x, x)), v_set1(1.0f))));
    v16 z = v_mul(x, x), p = v_set1(-5.70498872745e-3f);
    p = v_fma(p, z, v_set1(2.06390887954e-2f));
    p = v_fma(p, z, v_set1(-5.37397155531e-2f));
    p = v_fma(p, z, v_set1(1.33314422036e-1f));
    p = v_fma(p, z, v_set1(-3.33332819422e-1f));
    return v_select_below(v_abs(x), v_set1(0.625f), v_fma(v_mul(p, z), x, x), far);
}

/* erf x to 1.5e-7. Source: Abramowitz & Stegun 7.1.26. */
INLINE v16 v_erf(v16 x) {
    v16 a = v_abs(x), t = v_div(v_set1(1.0f), v_fma(a, v_set1(0.3275911f), v_set1(1.0f)));
    v16 p = v_set1(1.061405429f);
    p = v_fma(p, t, v_set1(-1.453152027f));
    p = v_fma(p, t, v_set1(1.421413741f));
    p = v_fma(p, t, v_set1(-0.284496736f));
    p = v_fma(p, t, v_set1(0.254829592f));
    p = v_sub(v_set1(1.0f), v_mul(v_mul(p, t), v_exp(v_neg(v_mul(a, a)))));
    return v_copy_sign(p, x);
}

/* log(1 + e^x) = max(x, 0) + log(1 + y) with y = e^-|x| ≤ 1. log(1 + y) = 2 artanh z, z = y / (2 + y) ≤ 1/3: the odd
 * series up to z^15, whose remainder is below 1e-9 of it. */
INLINE v16 v_softplus(v16 x) {
    const v16 one = v_set1(1.0f);
    v16 y = v_exp(v_neg(v_abs(x))), z = v_div(y, v_add(v_set1(2.0f), y)), q = v_mul(z, z), p = v_set1(1.0f / 15);
    p = v_fma(p, q, v_set1(1.0f / 13));
    p = v_fma(p, q, v_set1(1.0f / 11));
    p = v_fma(p, q, v_set1(1.0f / 9));
    p = v_fma(p, q, v_set1(1.0f / 7));
    p = v_fma(p, q, v_set1(1.0f / 5));
    p = v_fma(p, q, v_set1(1.0f / 3));
    p = v_fma(p, q, one);
    return v_fma(v_add(z, z), p, v_max(v_set1(0.0f), x));
}

#endif
