/* screen_avx2.c: the screen of split matrices with AVX2. */
#include "kernel/x86/vec_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avx2
#include "kernel/screen_tmpl.h"
