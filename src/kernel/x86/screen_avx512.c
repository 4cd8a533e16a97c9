/* screen_avx512.c: the screen of split matrices with AVX-512. */
#include "kernel/x86/vec_avx512.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx512
#include "kernel/screen_tmpl.h"
