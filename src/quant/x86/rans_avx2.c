/* rans_avx2.c: rans.h's turns, four vectors of eight lanes. */
#include "quant/rans.h"

#include <immintrin.h>

/* spread[mask]: for each lane of the mask the number of those below it, a nibble each: where its word lies. */
#define COUNT(m, l) ((uint32_t)__builtin_popcount((m) & ((1u << (l)) - 1)) << 4 * (l))
#define ROW(m) (COUNT(m, 1) | COUNT(m, 2) | COUNT(m, 3) | COUNT(m, 4) | COUNT(m, 5) | COUNT(m, 6) | COUNT(m, 7))
#define ROWS4(m) ROW(m), ROW((m) + 1), ROW((m) + 2), ROW((m) + 3)
#define ROWS16(m) ROWS4(m), ROWS4((m) + 4), ROWS4((m) + 8), ROWS4((m) + 12)
#define ROWS64(m) ROWS16(m), ROWS16((m) + 16), ROWS16((m) + 32), ROWS16((m) + 48)
static const uint32_t spread[256] = {ROWS64(0u), ROWS64(64u), ROWS64(128u), ROWS64(192u)};

static inline __m256i turn(const rans_table *t, __m256i x, const uint8_t **p, uint8_t *out) {
    const __m256i slots = _mm256_set1_epi32(RANS_SCALE - 1);
    __m256i e = _mm256_i32gather_epi32((const int *)t->slot, _mm256_and_si256(x, slots), 4);
    __m256i freq = _mm256_add_epi32(_mm256_srli_epi32(e, 20), _mm256_set1_epi32(1));
    x = _mm256_mullo_epi32(freq, _mm256_srli_epi32(x, RANS_BITS));
    x = _mm256_add_epi32(x, _mm256_and_si256(_mm256_srli_epi32(e, 8), slots));
    const __m256i first = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                           -1, -1, -1);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(e, first), _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
    _mm_storel_epi64((__m128i *)(void *)out, _mm256_castsi256_si128(bytes));
    __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)*p));
    __m256i from = _mm256_srlv_epi32(_mm256_set1_epi32((int)spread[mask]), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    words = _mm256_permutevar8x32_epi32(words, from); /* takes the low three bits of each */
    *p += 2 * (size_t)__builtin_popcount(mask);
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), low);
}

size_t rans_turns_avx2(const rans_table *t, uint32_t state[RANS_LANES], const uint8_t **at, const uint8_t *end, uint8_t *symbols, size_t n) {
    enum { VECTORS = RANS_LANES / 8 };
    const uint8_t *p = *at;
    __m256i x[VECTORS];
    size_t i = 0;
    for (int v = 0; v < VECTORS; v++) x[v] = _mm256_loadu_si256((const __m256i *)(const void *)(state + 8 * v));
    for (; i < n && (size_t)(end - p) >= 2 * RANS_LANES; i += RANS_LANES)
        for (int v = 0; v < VECTORS; v++) x[v] = turn(t, x[v], &p, symbols + i + 8 * v);
    for (int v = 0; v < VECTORS; v++) _mm256_storeu_si256((__m256i *)(void *)(state + 8 * v), x[v]);
    *at = p;
    return i;
}
