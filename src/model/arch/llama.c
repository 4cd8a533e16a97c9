/* llama.c: Llama 1–3, Mistral, Mixtral, SmolLM2 and the many that share their form. */
#include "model/arch.h"

const arch arch_llama = {.name = "llama", .norm = NORM_RMS, .rope = ROPE_NORM, .act = ACT_SILU, .expert_norm = true};
