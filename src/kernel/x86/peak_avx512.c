/* peak_avx512.c: the limits with AVX-512 F and BW. */
#include "kernel/x86/init_x86.h"

#include <immintrin.h>

#define PEAK_REG "v"
#include "kernel/peak_tmpl.h"

static inline __m512i load(const void *p) { return _mm512_loadu_si512(p); }
static inline void store(void *p, __m512i v) { _mm512_storeu_si512(p, v); }
static inline __m512 loadf(const void *p) { return _mm512_loadu_ps(p); }
static inline void storef(void *p, __m512 v) { _mm512_storeu_ps(p, v); }
#define MADD(acc, a, b) _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)))
#define FMA(acc, a, b) _mm512_fmadd_ps(a, b, acc)

PEAK(int8_peak, "vpmaddubsw, vpmaddwd, vpaddd zmm", KERN_INT8, 16, 128, 8, 12, 20, __m512i, load, store, MADD)
PEAK(f32_peak, "vfmadd zmm", KERN_F32, 16, 32, 8, 12, 24, __m512, loadf, storef, FMA)
PEAK_READ(read, __m512i, load, store, _mm512_setzero_si512, _mm512_xor_si512)

void kern_peaks_avx512(kern_peaks *p) {
    kern_peaks_add(p, &int8_peak);
    kern_peaks_add(p, &f32_peak);
    p->read = read;
    p->read4 = read4;
}
