/* init_x86.c: the ladder of x86-64, weakest first. */
#include "kernel/x86/init_x86.h"

void kern_init_isa(kern_table *t, uint32_t flags) {
    if (!(flags & CPU_AVX2)) return;
    kern_init_float_avx2(t);
    kern_init_interleave_avx2(t);
    kern_init_fmul_avx2(t);
    kern_init_train_avx2(t);
    kern_init_gemm_avx2(t);
    kern_init_mul_avx2(t);
    kern_init_screen_avx2(t);
    if (flags & CPU_AVXVNNI) {
        kern_init_mul_avxvnni(t);
        kern_init_screen_avxvnni(t);
    }
    if (!(flags & CPU_AVX512)) return;
    kern_init_float_avx512(t);
    kern_init_fmul_avx512(t);
    kern_init_train_avx512(t);
    kern_init_gemm_avx512(t);
    if (flags & CPU_AVX512BF16) {
        kern_init_attn_avx512bf16(t);
        kern_init_fmul_avx512bf16(t);
        kern_init_gemm_avx512bf16(t);
    }
    if (flags & CPU_AVX512VNNI) {
        kern_init_mul_avx512vnni(t);
        kern_init_screen_avx512vnni(t);
    } else if (!(flags & CPU_AVXVNNI)) { /* 256 bits of VNNI beat 512 without */
        kern_init_mul_avx512(t);
        kern_init_screen_avx512(t);
    }
}

void kern_peaks_isa(kern_peaks *p, uint32_t flags) {
    if (flags & CPU_AVX2) kern_peaks_avx2(p);
    if (flags & CPU_AVXVNNI) kern_peaks_avxvnni(p);
    if (flags & CPU_AVX512) kern_peaks_avx512(p);
    if (flags & CPU_AVX512VNNI) kern_peaks_avx512vnni(p);
    if (flags & CPU_AVX512BF16) kern_peaks_avx512bf16(p);
}
