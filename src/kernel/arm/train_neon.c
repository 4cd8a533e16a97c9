/* train_neon.c: rows of training with NEON. */
#include "kernel/arm/v16_neon.h"

#include "kernel/arm/init_arm.h"

#define NAME(x) x##_neon
#include "kernel/train_tmpl.h"
