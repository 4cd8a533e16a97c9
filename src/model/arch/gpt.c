/* gpt.c: the families with layer norms and plain feed-forwards: GPT-2, StarCoder, GPT-NeoX, BLOOM, MPT, Falcon,
 * StarCoder 2, Nemotron, StableLM. */
#include "model/arch.h"

/* learned positions */
const arch arch_gpt2 = {.name = "gpt2", .norm = NORM_LAYER, .rope = ROPE_NONE, .act = ACT_GELU_TANH};
const arch arch_starcoder = {.name = "starcoder", .norm = NORM_LAYER, .rope = ROPE_NONE, .act = ACT_GELU_TANH};
/* rotated */
const arch arch_starcoder2 = {.name = "starcoder2", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_GELU_TANH};
const arch arch_nemotron = {.name = "nemotron", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_RELU2};
const arch arch_falcon = {.name = "falcon", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_GELU_TANH, .parallel = true};
/* biased by distance (ALiBi); MPT may normalise whole rows of queries and keys */
const arch arch_mpt = {.name = "mpt", .norm = NORM_LAYER, .rope = ROPE_NONE, .act = ACT_GELU_TANH, .qk_norm = QKN_ALL};

static mote_status bloom_setup(model *m, mote_error *err) {
    (void)err;
    m->hp.alibi_max = 8;
    return MOTE_OK;
}
const arch arch_bloom = {.name = "bloom", .norm = NORM_LAYER, .rope = ROPE_NONE, .act = ACT_GELU_TANH, .setup = bloom_setup};

static mote_status gptneox_setup(model *m, mote_error *err) { return hp_bool(m, "use_parallel_residual", &m->hp.parallel, true, err); }
const arch arch_gptneox = {.name = "gptneox", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_GELU_TANH, .setup = gptneox_setup};

/* StableLM 2 12B has one norm for both blocks, which then are parallel. */
static mote_status stablelm_setup(model *m, mote_error *err) {
    (void)err;
    m->hp.parallel = model_file_find_tensor(m->file, "blk.0.ffn_norm.weight") == NULL;
    return MOTE_OK;
}
const arch arch_stablelm = {.name = "stablelm", .norm = NORM_LAYER, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD, .setup = stablelm_setup};
