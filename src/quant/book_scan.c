/* book_scan.c: book.h's inner loops. */
#include "quant/book.h"
#include "quant/lanes.h"

void book_moments(const book *g, const float *wx, const float *w, float *a2, float *b) {
    for (int e = 0; e < g->n; e += LANES) {
        vec va = {0}, vb = {0};
        for (int j = 0; j < g->dim; j++) {
            va += wx[j] * V(g->level + j * g->n + e);
            vb += w[j] * V(g->square + j * g->n + e);
        }
        *(vec *)(void *)(a2 + e) = va + va;
        *(vec *)(void *)(b + e) = vb;
    }
}

static inline float least_lane(vec m) {
#ifdef __AVX512F__
    return _mm512_reduce_min_ps((__m512)m);
#else
    float f = m[0];
    for (int i = 1; i < LANES; i++) f = m[i] < f ? m[i] : f;
    return f;
#endif
}

void book_least(const float *a2, const float *b, int n, const float s[BOOK_TRIALS], float out[BOOK_TRIALS]) {
    vec m0 = s[0] * V(b) - V(a2), m1 = s[1] * V(b) - V(a2), m2 = s[2] * V(b) - V(a2), m3 = s[3] * V(b) - V(a2);
    for (int e = LANES; e < n; e += LANES) {
        vec va = V(a2 + e), vb = V(b + e);
        m0 = lesser(s[0] * vb - va, m0);
        m1 = lesser(s[1] * vb - va, m1);
        m2 = lesser(s[2] * vb - va, m2);
        m3 = lesser(s[3] * vb - va, m3);
    }
    out[0] = least_lane(m0);
    out[1] = least_lane(m1);
    out[2] = least_lane(m2);
    out[3] = least_lane(m3);
}

/* The first entry of the LANES from e on whose value is not above `value`; LANES: none. */
static inline int first_of(vec v, float value) {
#ifdef __AVX512F__
    unsigned m = _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(value), _CMP_LE_OQ);
    return m ? __builtin_ctz(m) : LANES;
#elif defined(__AVX2__)
    unsigned m = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_set1_ps(value), _CMP_LE_OQ));
    return m ? __builtin_ctz(m) : LANES;
#else
    int i = 0;
    while (i < LANES && !(v[i] <= value)) i++;
    return i;
#endif
}

int book_best(const float *a2, const float *b, int n, float s) {
    vec m = s * V(b) - V(a2);
    for (int e = LANES; e < n; e += LANES) m = lesser(s * V(b + e) - V(a2 + e), m);
    float value = least_lane(m);
    for (int e = 0; e < n; e += LANES) {
        int i = first_of(s * V(b + e) - V(a2 + e), value);
        if (i < LANES) return e + i;
    }
    return 0; /* nothing is a number */
}
