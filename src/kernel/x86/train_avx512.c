/* train_avx512.c: rows of training with AVX-512. */
#include "kernel/x86/v16_avx512.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx512
#include "kernel/train_tmpl.h"
