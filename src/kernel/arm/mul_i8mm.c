/* mul_i8mm.c: int8 products with usdot, which comes with the int8 matrix extension. */
#include "kernel/arm/vec_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_i8mm
#include "kernel/mul_tmpl.h"
