/* train_avx2.c: rows of training with AVX2, FMA and F16C. */
#include "kernel/x86/v16_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx2
#include "kernel/train_tmpl.h"
