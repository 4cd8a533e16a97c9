/* screen_avxvnni.c: the screen of split matrices with AVX-VNNI. */
#include "kernel/x86/vec_avx2.h"

#include "kernel/x86/init_x86.h"

#define NAME(x) x##_avxvnni
#include "kernel/screen_tmpl.h"
