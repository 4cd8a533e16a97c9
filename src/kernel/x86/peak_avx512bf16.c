/* peak_avx512bf16.c: the limit of bf16 dot products. */
#include "kernel/x86/init_x86.h"

#include <immintrin.h>

#define PEAK_REG "v"
#include "kernel/peak_tmpl.h"

static inline __m512 load(const void *p) { return _mm512_loadu_ps(p); }
static inline void store(void *p, __m512 v) { _mm512_storeu_ps(p, v); }
static inline __m512 step(__m512 acc, __m512 a, __m512 b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }

PEAK(bf16_peak, "vdpbf16ps zmm", KERN_BF16, 16, 64, 8, 12, 24, __m512, load, store, step)

void kern_peaks_avx512bf16(kern_peaks *p) { kern_peaks_add(p, &bf16_peak); }
