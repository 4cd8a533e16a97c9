/* nemotron_h.c: Nemotron-H: every layer is one thing only: Mamba-2, attention without positions, or a feed-forward
 * (relu², no gate), each behind the layer's one norm. */
#include "model/arch.h"

static mote_status nemotron_h_setup(model *m, mote_error *err) {
    if (!hp_has(m, "attention.layer_norm_rms_epsilon")) TRY(hp_f32(m, "attention.layer_norm_epsilon", &m->hp.eps, m->hp.eps, err));
    TRY(hp_bool(m, "expert_weights_norm", &m->hp.expert_norm, false, err));
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        layer *l = &m->layers[il];
        if (l->n_ff == 0) l->mixer[0] = l->n_head_kv == 0 ? &block_mamba2 : &block_attn;
    }
    return MOTE_OK;
}

#define NEMOTRON_H_LIKE                                                                                          \
    .norm = NORM_RMS, .rope = ROPE_NONE, .act = ACT_RELU2, .ffn_scaled = true, .moe_scaled = true, .setup = nemotron_h_setup
const arch arch_nemotron_h = {.name = "nemotron_h", NEMOTRON_H_LIKE};
/* Nemotron 3: experts in place of the feed-forwards. */
const arch arch_nemotron_h_moe = {.name = "nemotron_h_moe", NEMOTRON_H_LIKE, .gating = GATE_SIGMOID};
