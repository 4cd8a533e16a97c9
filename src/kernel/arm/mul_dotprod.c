/* mul_dotprod.c: int8 products with sdot. */
#include "kernel/arm/vec_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_dotprod
#include "kernel/mul_tmpl.h"
