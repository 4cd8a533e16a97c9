/* exaone.c: EXAONE 4: norms after the blocks, normalised heads; windowed layers (in the 32B form) alone are rotated. */
#include "model/arch.h"

static mote_status exaone4_setup(model *m, mote_error *err) {
    size_t window = m->hp.n_layer == 64 ? 4096 : 0;
    if (window || hp_has(m, "attention.sliding_window_pattern")) {
        TRY(hp_window(m, window, 4, false, 0, err));
        for (size_t il = 0; m->hp.n_swa && il < m->hp.n_layer; il++) m->layers[il].rope = m->layers[il].swa;
    }
    return MOTE_OK;
}
const arch arch_exaone4 = {.name = "exaone4", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD, .setup = exaone4_setup};
