/* gpt_oss.c: gpt-oss: attention sinks, alternating windows, experts with clamped SwiGLU and biases. */
#include "model/arch.h"

#include <math.h>

static mote_status gpt_oss_setup(model *m, mote_error *err) {
    if (m->hp.rope_all.n_rot) m->hp.attn_scale = 1 / sqrtf((float)m->hp.rope_all.n_rot);
    return hp_window(m, 0, 2, false, 0, err);
}
const arch arch_gpt_oss = {.name = "gpt-oss", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SWIGLU_OAI, .gating = GATE_SOFTMAX_TOPK,
                           .post_norm_is_ffn_norm = true, .setup = gpt_oss_setup};
