/* smallthinker.c: SmallThinker: the router reads the layer's input before attention; ReLU gates. */
#include "model/arch.h"

static mote_status smallthinker_setup(model *m, mote_error *err) {
    enum { WINDOW = 4096, NO_ROPE_STEP = 4 };
    TRY(hp_window(m, 0, 4, true, 0, err));
    if (m->hp.n_swa == 0) return MOTE_OK;
    m->hp.n_swa = WINDOW;
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].rope = m->hp.n_layer == NO_ROPE_STEP || il % NO_ROPE_STEP != 0;
    return MOTE_OK;
}
const arch arch_smallthinker = {.name = "smallthinker", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_RELU, .expert_norm = true,
                                .moe_input_raw = true, .setup = smallthinker_setup};
