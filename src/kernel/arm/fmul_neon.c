/* fmul_neon.c: float products with NEON. */
#include "kernel/arm/v16_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_neon
#include "kernel/fmul_tmpl.h"
