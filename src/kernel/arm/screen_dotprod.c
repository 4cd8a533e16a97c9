/* screen_dotprod.c: the screen of split matrices with sdot. */
#include "kernel/arm/vec_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_dotprod
#include "kernel/screen_tmpl.h"
