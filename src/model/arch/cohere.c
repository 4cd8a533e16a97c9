/* cohere.c: Command R and R7B: attention and feed-forward in parallel behind one layer norm, scaled logits. */
#include "model/arch.h"

static mote_status command_r_setup(model *m, mote_error *err) { return hp_logit_scale(m, false, 1, err); }
const arch arch_command_r = {.name = "command-r", .norm = NORM_LAYER, .rope = ROPE_NORM, .act = ACT_SILU, .parallel = true,
                             .qk_norm = QKN_HEAD, .setup = command_r_setup};

/* Rotation only in windowed layers; every fourth layer sees everything and has no positions. */
static mote_status cohere2_setup(model *m, mote_error *err) {
    TRY(hp_logit_scale(m, false, 1, err));
    TRY(hp_window(m, 0, 4, false, 0, err));
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].rope = m->layers[il].swa;
    return MOTE_OK;
}
const arch arch_cohere2 = {.name = "cohere2", .norm = NORM_LAYER, .rope = ROPE_NORM, .act = ACT_SILU, .parallel = true,
                           .ffn_scaled = true, .setup = cohere2_setup};
