/* init_arm.c: the ladder of AArch64, weakest first. */
#include "kernel/arm/init_arm.h"

void kern_init_isa(kern_table *t, uint32_t flags) {
    if (!(flags & CPU_NEON)) return;
    kern_init_float_neon(t);
    kern_init_fmul_neon(t);
    kern_init_train_neon(t);
    kern_init_gemm_neon(t);
    kern_init_mul_neon(t);
    kern_init_screen_neon(t);
    if (flags & CPU_DOTPROD) {
        kern_init_mul_dotprod(t);
        kern_init_screen_dotprod(t);
    }
    if (flags & CPU_I8MM) kern_init_mul_i8mm(t);
}

void kern_peaks_isa(kern_peaks *p, uint32_t flags) {
    if (flags & CPU_NEON) kern_peaks_neon(p);
    if (flags & CPU_DOTPROD) kern_peaks_dotprod(p);
    if (flags & CPU_I8MM) kern_peaks_i8mm(p);
}
