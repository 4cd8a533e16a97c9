/* phi.c: Phi 2, 3, 3.5-MoE, 4-mini. */
#include "model/arch.h"

const arch arch_phi2 = {.name = "phi2", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_GELU_TANH, .parallel = true};
/* The files' sliding_window is that of the 4k models, whose windows cover their whole context: all layers see all. */
const arch arch_phi3 = {.name = "phi3", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .expert_norm = true};
const arch arch_phimoe = {.name = "phimoe", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .expert_norm = true};
