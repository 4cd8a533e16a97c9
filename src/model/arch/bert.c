/* bert.c: encoders for embeddings: BERT (MiniLM, BGE, E5, …) with learned positions, Nomic's with rotation and gates.
 * Norms stand behind each residual sum; every token sees every other. Source: Devlin et al. 2019; Nussbaum et al. 2024. */
#include "model/arch.h"

const arch arch_bert = {.name = "bert", .norm = NORM_LAYER, .rope = ROPE_NONE, .act = ACT_GELU, .encoder = true};
const arch arch_nomic_bert = {.name = "nomic-bert", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_SILU, .encoder = true};
