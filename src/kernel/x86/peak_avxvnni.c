/* peak_avxvnni.c: the limit of 256-bit VNNI. */
#include "kernel/x86/init_x86.h"

#include <immintrin.h>

#define PEAK_REG "x"
#include "kernel/peak_tmpl.h"

static inline __m256i load(const void *p) { return _mm256_loadu_si256(p); }
static inline void store(void *p, __m256i v) { _mm256_storeu_si256(p, v); }

PEAK(int8_peak, "vpdpbusd ymm", KERN_INT8, 8, 64, 8, 10, 13, __m256i, load, store, _mm256_dpbusd_avx_epi32)

void kern_peaks_avxvnni(kern_peaks *p) { kern_peaks_add(p, &int8_peak); }
