/* init_arm.h: what each file of this folder puts into the table; called by init_arm.c only. */
#ifndef MOTE_KERNEL_ARM_INIT_ARM_H
#define MOTE_KERNEL_ARM_INIT_ARM_H

#include "kernel/peak.h"
#include "kernel/rungs.h"

void kern_init_float_neon(kern_table *t);
void kern_init_fmul_neon(kern_table *t);
void kern_init_train_neon(kern_table *t);
void kern_init_gemm_neon(kern_table *t);
void kern_init_mul_neon(kern_table *t);
void kern_init_mul_dotprod(kern_table *t);
void kern_init_mul_i8mm(kern_table *t);
void kern_peaks_neon(kern_peaks *p);
void kern_peaks_dotprod(kern_peaks *p);
void kern_peaks_i8mm(kern_peaks *p);
void kern_init_screen_neon(kern_table *t);
void kern_init_screen_dotprod(kern_table *t);

#endif
