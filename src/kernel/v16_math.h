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

#endif
