/* attn_avx512bf16.c: attention's products in pair words of bf16, with vdpbf16ps. */
#include "kernel/x86/v16_avx512.h"

#include "kernel/x86/init_x86.h"

#include "kernel/generic/ref.h"
#include "kernel/v16_math.h"

enum { VECTORS = 4 }; /* of a register tile, by KERN_PAIRS_ROWS rows */

INLINE __m512i narrow_two(v16 low, v16 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

INLINE __m512i load_words(const uint32_t *p, size_t n, const bool f16) {
    const __m512i w = _mm512_maskz_loadu_epi32(first_lanes(n), p);
    if (!f16) return w;
    return narrow_two(_mm512_cvtph_ps(_mm512_castsi512_si256(w)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(w, 1)));
}
INLINE __m512 dot_pairs(__m512 acc, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

/* rows [i, i + m), vectors [v0, v0 + nv), of whose last `tail` lanes count */
INLINE void pairs_part(const kern_pairs *t, size_t i, const int m, size_t v0, const int nv, size_t tail, const bool f16) {
    __m512 c[KERN_PAIRS_ROWS][VECTORS];
    const uint32_t *a = t->a + i * t->lda, *b = t->b + v0 * t->ldv;
    float *to = t->c + i * t->ldc + 16 * v0;
    UNROLL for (int r = 0; r < m; r++) UNROLL for (int v = 0; v < nv; v++)
        c[r][v] = t->add ? v_load_n(to + (size_t)r * t->ldc + 16 * v, v == nv - 1 ? tail : 16) : v_set1(0.0f);
    for (size_t l = 0; l < t->k; l++, b += t->ldb) {
        __m512i w[VECTORS];
        UNROLL for (int v = 0; v < nv; v++) {
            const uint32_t *p = b + (size_t)v * t->ldv;
            w[v] = load_words(p, v == nv - 1 ? tail : 16, f16);
            if (t->ahead) __builtin_prefetch(p + t->ahead);
        }
        UNROLL for (int r = 0; r < m; r++) {
            const __m512i x = _mm512_set1_epi32((int)a[(size_t)r * t->lda + l]);
            UNROLL for (int v = 0; v < nv; v++) c[r][v] = dot_pairs(c[r][v], x, w[v]);
        }
    }
    UNROLL for (int r = 0; r < m; r++) UNROLL for (int v = 0; v < nv; v++)
        v_store_n(to + (size_t)r * t->ldc + 16 * v, v == nv - 1 ? tail : 16, c[r][v]);
}

INLINE void pairs_rows(const kern_pairs *t, size_t v0, const int nv, size_t tail, const bool f16) {
    size_t i = 0;
    for (; i + KERN_PAIRS_ROWS <= t->m; i += KERN_PAIRS_ROWS) pairs_part(t, i, KERN_PAIRS_ROWS, v0, nv, tail, f16);
    if (i + 4 <= t->m) pairs_part(t, i, 4, v0, nv, tail, f16), i += 4;
    if (i + 3 <= t->m) pairs_part(t, i, 3, v0, nv, tail, f16), i += 3;
    for (; i < t->m; i++) pairs_part(t, i, 1, v0, nv, tail, f16);
}

INLINE void pairs_all(const kern_pairs *t, const bool f16) {
    size_t v = 0, whole = t->n / 16;
    for (; v + VECTORS <= whole; v += VECTORS) pairs_rows(t, v, VECTORS, 16, f16);
    for (; v + 2 <= whole; v += 2) pairs_rows(t, v, 2, 16, f16);
    for (; v < whole; v++) pairs_rows(t, v, 1, 16, f16);
    if (t->n % 16) pairs_rows(t, v, 1, t->n % 16, f16);
}

static void kern_pairs_avx512bf16(const kern_pairs *t) {
    if (t->f16) pairs_all(t, true);
    else pairs_all(t, false);
}

static void kern_bf16_of_f32_avx512bf16(void *dst, const float *src, float by, size_t n) {
    uint16_t *h = dst;
    const v16 s = v_set1(by);
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(h + i, narrow_two(v_mul(v_load(src + i), s), v_mul(v_load(src + i + 16), s)));
    if (i < n) kern_bf16_of_f32_ref(h + i, src + i, by, n - i);
}

static void kern_bf16_of_f16_avx512bf16(void *dst, const void *src, size_t n) {
    uint16_t *to = dst;
    const uint16_t *from = src;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) _mm512_storeu_si512(to + i, narrow_two(v_f16(from + i), v_f16(from + i + 16)));
    if (i < n) kern_bf16_of_f16_ref(to + i, from + i, n - i);
}

static void kern_bf16_zip_avx512bf16(void *dst, const float *a, const float *b, size_t n) {
    uint16_t *h = dst;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v_load(a + i)));
        __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v_load(b + i)));
        _mm512_storeu_si512(h + 2 * i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
    if (i < n) kern_bf16_zip_ref(h + 2 * i, a + i, b + i, n - i);
}

/* 2^x to 8e-5, a twentieth of a bf16's rounding; 0 below -126. 2^r by a cubic, |r| <= 1/2 (minimax, found by Remez'
 * method). */
INLINE v16 exp2_rough(v16 x) {
    const v16 n = v_round(x), r = v_sub(x, n);
    v16 p = v_fma(r, v_set1(5.5171669e-2f), v_set1(2.4261113e-1f));
    p = v_fma(p, r, v_set1(6.9326097e-1f));
    p = v_fma(p, r, v_set1(9.9992806e-1f));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, v_set1(-126.0f), _CMP_GE_OQ), p, n);
}

static float kern_soften_bf16_avx512bf16(void *p, float *s, size_t n, float *max, float *sum) {
    uint16_t *h = p;
    const float log2_e = 1.44269504f;
    float m = *max, keep = 1.0f;
    v16 most = v_set1(m), added = v_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) most = v_max(v_load(s + i), most); /* the second where the first is NaN */
    if (_mm512_cmp_ps_mask(most, v_set1(m), _CMP_GT_OQ)) { /* seldom, once some tiles have been seen */
        m = v_largest(most);
        keep = expf(*max - m);
        *max = m;
    } else if (m == -INFINITY) {
        memset(h, 0, n * sizeof *h);
        return 1.0f;
    }
    const v16 by = v_set1(log2_e), shift = v_set1(-m * log2_e);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const v16 a = exp2_rough(v_fma(v_load(s + i), by, shift)), b = exp2_rough(v_fma(v_load(s + i + 16), by, shift));
        _mm512_storeu_si512(h + i, narrow_two(a, b));
        added = v_add(v_add(added, a), b); /* in order: tiles of a window may begin with blocks that are not seen */
    }
    if (i < n) {
        const v16 a = exp2_rough(v_fma(v_load(s + i), by, shift));
        _mm256_storeu_si256((__m256i *)(void *)(h + i), (__m256i)_mm512_cvtneps_pbh(a));
        added = v_add(added, a);
    }
    *sum = *sum * keep + v_sum(added);
    return keep;
}

void kern_init_attn_avx512bf16(kern_table *t) {
    t->bf16 = true;
    t->pairs = kern_pairs_avx512bf16;
    t->bf16_of_f32 = kern_bf16_of_f32_avx512bf16;
    t->bf16_of_f16 = kern_bf16_of_f16_avx512bf16;
    t->bf16_zip = kern_bf16_zip_avx512bf16;
    t->soften_bf16 = kern_soften_bf16_avx512bf16;
}
