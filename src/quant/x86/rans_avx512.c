/* rans_avx512.c: rans.h's turns, two vectors of sixteen lanes. */
#include "quant/rans.h"

#include <immintrin.h>
#include <string.h>

/* Sixteen lanes: their symbols to out, their words from *p. */
static inline __m512i turn(const rans_table *t, __m512i x, const uint8_t **p, uint8_t *out) {
    const __m512i slots = _mm512_set1_epi32(RANS_SCALE - 1);
    __m512i e = _mm512_i32gather_epi32(_mm512_and_si512(x, slots), (const int *)t->slot, 4);
    __m512i freq = _mm512_add_epi32(_mm512_srli_epi32(e, 20), _mm512_set1_epi32(1));
    x = _mm512_mullo_epi32(freq, _mm512_srli_epi32(x, RANS_BITS));
    x = _mm512_add_epi32(x, _mm512_and_si512(_mm512_srli_epi32(e, 8), slots));
    _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8(e));
    __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(1 << 16));
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)*p));
    words = _mm512_maskz_expand_epi32(low, words);
    *p += 2 * (size_t)__builtin_popcount(low);
    return _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), words);
}

size_t rans_turns_avx512(const rans_table *t, uint32_t state[RANS_LANES], const uint8_t **at, const uint8_t *end, uint8_t *symbols, size_t n) {
    const uint8_t *p = *at;
    __m512i a = _mm512_loadu_si512(state), b = _mm512_loadu_si512(state + 16);
    size_t i = 0;
    for (; i < n && (size_t)(end - p) >= 2 * RANS_LANES; i += RANS_LANES) {
        a = turn(t, a, &p, symbols + i);
        b = turn(t, b, &p, symbols + i + 16);
    }
    _mm512_storeu_si512(state, a);
    _mm512_storeu_si512(state + 16, b);
    *at = p;
    return i;
}
