/* peak_avx2.c: the limits with AVX2. */
#include "kernel/x86/init_x86.h"

#include <immintrin.h>

#define PEAK_REG "x"
#include "kernel/peak_tmpl.h"

static inline __m256i load(const void *p) { return _mm256_loadu_si256(p); }
static inline void store(void *p, __m256i v) { _mm256_storeu_si256(p, v); }
static inline __m256 loadf(const void *p) { return _mm256_loadu_ps(p); }
static inline void storef(void *p, __m256 v) { _mm256_storeu_ps(p, v); }
#define MADD(acc, a, b) _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
#define FMA(acc, a, b) _mm256_fmadd_ps(a, b, acc)

PEAK(int8_peak, "vpmaddubsw, vpmaddwd, vpaddd ymm", KERN_INT8, 8, 64, 4, 8, 12, __m256i, load, store, MADD)
PEAK(f32_peak, "vfmadd ymm", KERN_F32, 8, 16, 8, 10, 13, __m256, loadf, storef, FMA)
PEAK_READ(read, __m256i, load, store, _mm256_setzero_si256, _mm256_xor_si256)

void kern_peaks_avx2(kern_peaks *p) {
    kern_peaks_add(p, &int8_peak);
    kern_peaks_add(p, &f32_peak);
    p->read = read;
    p->read4 = read4;
}
