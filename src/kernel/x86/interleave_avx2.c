/* interleave_avx2.c: rows of quantized activations to tiles, eight words of twelve tokens at a time. */
#include "kernel/x86/init_x86.h"

#include "kernel/generic/ref.h"

#include <immintrin.h>

enum { WORDS = 8 };

static inline __m256 load_words(const void *p) { return _mm256_loadu_ps(p); }

/* to[j][0 … 12) = word j of each of twelve rows. */
static inline void spread(const unsigned char *const rows[KERN_TILE], size_t at, void *const to[WORDS]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        __m256 a = load_words(rows[2 * i] + at), b = load_words(rows[2 * i + 1] + at);
        t[2 * i] = _mm256_unpacklo_ps(a, b);
        t[2 * i + 1] = _mm256_unpackhi_ps(a, b);
    }
    for (int i = 0; i < 2; i++) { /* four tokens: words 0, 1, 2, 3 in the low half, 4 … 7 in the high one */
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int j = 0; j < 4; j++) {
        _mm256_storeu_ps(to[j], _mm256_permute2f128_ps(u[j], u[4 + j], 0x20));
        _mm256_storeu_ps(to[4 + j], _mm256_permute2f128_ps(u[j], u[4 + j], 0x31));
    }
    for (int i = 0; i < 2; i++) {
        __m256 a = load_words(rows[8 + 2 * i] + at), b = load_words(rows[9 + 2 * i] + at);
        t[2 * i] = _mm256_unpacklo_ps(a, b);
        t[2 * i + 1] = _mm256_unpackhi_ps(a, b);
    }
    for (int j = 0; j < 4; j++) {
        __m256 low = t[j / 2], high = t[2 + j / 2];
        __m256 v = j % 2 ? _mm256_shuffle_ps(low, high, 0xee) : _mm256_shuffle_ps(low, high, 0x44);
        _mm_storeu_ps((float *)to[j] + 8, _mm256_castps256_ps128(v));
        _mm_storeu_ps((float *)to[4 + j] + 8, _mm256_extractf128_ps(v, 1));
    }
}

static void kern_interleave_avx2(kern_acts_block *dst, const unsigned char *x, size_t x_bytes, size_t n, size_t k) {
    const size_t nb = kern_acts_blocks(k);
    if (n < KERN_TILE) {
        kern_interleave_ref(dst, x, x_bytes, n, k);
        return;
    }
    const unsigned char *rows[KERN_TILE];
    for (size_t t = 0; t < KERN_TILE; t++) rows[t] = x + t * x_bytes;
    const kern_acts a = kern_acts_at_const(x, k);
#define AT(field) (size_t)((const unsigned char *)a.field - x)
    const size_t d = AT(d), ds = AT(ds), ds16 = AT(ds16), sums = AT(n), n16 = AT(n16);
#undef AT
    void *to[WORDS];
    for (size_t b = 0; b < nb; b++) {
        for (size_t g = 0; g < WORDS; g++) to[g] = dst[b].q[g];
        spread(rows, b * KERN_BLOCK, to);
    }
    size_t b = 0;
    for (; b + WORDS <= nb; b += WORDS) { /* one number for each of eight blocks */
#define EACH(field, from)                                                                                     \
    for (size_t j = 0; j < WORDS; j++) to[j] = dst[b + j].field;                                              \
    spread(rows, (from) + 4 * b, to);
        EACH(d, d)
        EACH(ds, ds)
        EACH(n, sums)
#undef EACH
        for (size_t h = 0; h < 2; h++) { /* two for each of four */
#define EACH(field, from)                                                                                     \
    for (size_t j = 0; j < WORDS; j++) to[j] = dst[b + 4 * h + j / 2].field[j % 2];                           \
    spread(rows, (from) + 8 * (b + 4 * h), to);
            EACH(n16, n16)
            EACH(ds16, ds16)
#undef EACH
        }
    }
    for (size_t t = 0; t < KERN_TILE; t++) {
        const kern_acts row = kern_acts_at_const(rows[t], k);
        for (size_t i = b; i < nb; i++) {
            dst[i].d[t] = row.d[i];
            dst[i].ds[t] = row.ds[i];
            dst[i].n[t] = row.n[i];
            for (size_t j = 0; j < 2; j++) {
                dst[i].n16[j][t] = row.n16[2 * i + j];
                dst[i].ds16[j][t] = row.ds16[2 * i + j];
            }
        }
    }
}

void kern_init_interleave_avx2(kern_table *t) { t->interleave = kern_interleave_avx2; }
