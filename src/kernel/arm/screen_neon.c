/* screen_neon.c: the screen of split matrices with plain NEON. */
#include "kernel/arm/vec_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_neon
#include "kernel/screen_tmpl.h"
