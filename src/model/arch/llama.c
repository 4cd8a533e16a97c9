/* llama.c: Llama 1–3, Mistral, Mixtral, SmolLM2 and the many that share their form. */
#include "model/arch.h"

#include <math.h>

#define LLAMA_LIKE .norm = NORM_RMS, .rope = ROPE_NORM, .act = ACT_SILU

/* Mistral 7B v0.1: all layers are windowed. */
static mote_status llama_setup(model *m, mote_error *err) { return hp_window(m, 0, 0, false, 0, err); }
const arch arch_llama = {.name = "llama", LLAMA_LIKE, .setup = llama_setup, .expert_norm = true, .ffn_scaled = true, .moe_scaled = true};
const arch arch_internlm2 = {.name = "internlm2", LLAMA_LIKE};
const arch arch_deepseek = {.name = "deepseek", LLAMA_LIKE};
const arch arch_ernie4_5 = {.name = "ernie4_5", LLAMA_LIKE, .attn_out_unbiased = true, .expert_norm = true};
const arch arch_ernie4_5_moe = {.name = "ernie4_5-moe", LLAMA_LIKE, .attn_out_unbiased = true, .expert_norm = true};
/* ReLU² without a gate */
const arch arch_arcee = {.name = "arcee", .norm = NORM_RMS, .rope = ROPE_NORM, .act = ACT_RELU2};
/* fused qkv and gate·up; half of each head is rotated (rope.dimension_count) */
const arch arch_chatglm = {.name = "chatglm", LLAMA_LIKE};

/* the same with norms on both sides; files for images too (with sections of rotation) pair halves */
static mote_status glm4_setup(model *m, mote_error *err) {
    size_t section;
    TRY(hp_layer_u32(m, "rope.dimension_sections", 0, &section, 0, err));
    if (section) m->hp.rope = ROPE_NEOX;
    return MOTE_OK;
}
const arch arch_glm4 = {.name = "glm4", LLAMA_LIKE, .setup = glm4_setup};
const arch arch_seed_oss = {.name = "seed_oss", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .post_norm_is_ffn_norm = true};

/* Queries grow with the logarithm of the position beyond the original context (Ministral 3). */
static mote_status mistral3_setup(model *m, mote_error *err) {
    TRY(hp_f32(m, "attention.temperature_scale", &m->hp.attn_temp_scale, 0, err));
    if (!isfinite(m->hp.attn_temp_scale)) FAIL(err, MOTE_E_RANGE, "key 'mistral3.attention.temperature_scale' is not a finite number");
    m->hp.attn_temp_length = m->hp.rope_all.n_ctx_orig;
    return MOTE_OK;
}
const arch arch_mistral3 = {.name = "mistral3", LLAMA_LIKE, .expert_norm = true, .ffn_scaled = true, .moe_scaled = true, .setup = mistral3_setup};

/* Every fourth layer has no rotation (SmolLM3, "NoPE"). */
static mote_status smollm3_setup(model *m, mote_error *err) {
    (void)err;
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].rope = (il + 1) % 4 != 0;
    return MOTE_OK;
}
const arch arch_smollm3 = {.name = "smollm3", LLAMA_LIKE, .setup = smollm3_setup};
