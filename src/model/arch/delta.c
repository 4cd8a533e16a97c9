/* delta.c: hybrids of delta-rule layers and full attention: Qwen3-Next, Qwen 3.5 (dense and experts), Kimi Linear. */
#include "model/ssm.h"

/* attention.recurrent_layers says which; without it every full_attention_interval-th layer is full attention. */
static mote_status qwen_setup(model *m, mote_error *err) {
    size_t interval, recurrent;
    TRY(hp_u32(m, "full_attention_interval", &interval, 4, err));
    if (interval == 0) FAIL(err, MOTE_E_RANGE, "key '%s.full_attention_interval' is 0", m->arch->name);
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        TRY(hp_layer_u32(m, "attention.recurrent_layers", il, &recurrent, (il + 1) % interval != 0, err));
        if (recurrent) m->layers[il].mixer[0] = &block_gdn;
    }
    return MOTE_OK;
}

#define QWEN_NEXT .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD, .attn_gate = true, \
                  .post_norm_is_ffn_norm = true, .expert_norm = true, .moe_scaled = true, .setup = qwen_setup
const arch arch_qwen3next = {.name = "qwen3next", QWEN_NEXT};
/* multi-axis rotation, plain with text alone */
const arch arch_qwen35 = {.name = "qwen35", QWEN_NEXT, .ffn_scaled = true};
const arch arch_qwen35moe = {.name = "qwen35moe", QWEN_NEXT};

/* Delta attention where there are no key/value heads, latent attention without rotation elsewhere. */
static mote_status kimi_setup(model *m, mote_error *err) {
    (void)err;
    ssm_plan(m, &block_kda);
    return MOTE_OK;
}
const arch arch_kimi_linear = {.name = "kimi-linear", .norm = NORM_RMS, .rope = ROPE_NONE, .act = ACT_SILU, .expert_norm = true,
                               .mixer = &block_mla, .setup = kimi_setup};
