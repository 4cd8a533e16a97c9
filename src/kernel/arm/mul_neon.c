/* mul_neon.c: int8 products with plain NEON. */
#include "kernel/arm/vec_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_neon
#include "kernel/mul_tmpl.h"
