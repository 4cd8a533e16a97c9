/* mamba.c: Mamba, Falcon Mamba (norms on dt, B and C), Mamba-2: state space layers and nothing else. */
#include "model/arch.h"

const arch arch_mamba = {.name = "mamba", .norm = NORM_RMS, .rope = ROPE_NONE, .mixer = &block_mamba};
const arch arch_mamba2 = {.name = "mamba2", .norm = NORM_RMS, .rope = ROPE_NONE, .mixer = &block_mamba2};
