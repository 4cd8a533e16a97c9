/* init_x86.h: what each file of this folder puts into the table; called by init_x86.c only. */
#ifndef MOTE_KERNEL_X86_INIT_X86_H
#define MOTE_KERNEL_X86_INIT_X86_H

#include "kernel/peak.h"
#include "kernel/rungs.h"

void kern_init_mul_avx2(kern_table *t);
void kern_init_mul_avxvnni(kern_table *t);
void kern_init_mul_avx512(kern_table *t);
void kern_init_mul_avx512vnni(kern_table *t);
void kern_init_float_avx2(kern_table *t);
void kern_init_float_avx512(kern_table *t);
void kern_init_fmul_avx2(kern_table *t);
void kern_init_train_avx2(kern_table *t);
void kern_init_gemm_avx2(kern_table *t);
void kern_init_fmul_avx512(kern_table *t);
void kern_init_train_avx512(kern_table *t);
void kern_init_gemm_avx512(kern_table *t);
void kern_init_interleave_avx2(kern_table *t);
void kern_init_fmul_avx512bf16(kern_table *t);
void kern_init_gemm_avx512bf16(kern_table *t);
void kern_init_attn_avx512bf16(kern_table *t);
void kern_peaks_avx2(kern_peaks *p);
void kern_peaks_avxvnni(kern_peaks *p);
void kern_peaks_avx512(kern_peaks *p);
void kern_peaks_avx512vnni(kern_peaks *p);
void kern_peaks_avx512bf16(kern_peaks *p);
void kern_init_screen_avx2(kern_table *t);
void kern_init_screen_avxvnni(kern_table *t);
void kern_init_screen_avx512(kern_table *t);
void kern_init_screen_avx512vnni(kern_table *t);

#endif
