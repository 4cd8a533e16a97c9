/* peak_avx512vnni.c: the limit of 512-bit VNNI. */
#include "kernel/x86/init_x86.h"

#include <immintrin.h>

#define PEAK_REG "v"
#include "kernel/peak_tmpl.h"

static inline __m512i load(const void *p) { return _mm512_loadu_si512(p); }
static inline void store(void *p, __m512i v) { _mm512_storeu_si512(p, v); }

PEAK(int8_peak, "vpdpbusd zmm", KERN_INT8, 16, 128, 8, 12, 24, __m512i, load, store, _mm512_dpbusd_epi32)

void kern_peaks_avx512vnni(kern_peaks *p) { kern_peaks_add(p, &int8_peak); }
