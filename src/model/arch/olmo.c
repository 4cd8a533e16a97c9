/* olmo.c: OLMo 1–3 and OLMoE, OpenELM. */
#include "model/arch.h"

const arch arch_olmo = {.name = "olmo", .norm = NORM_LAYER, .rope = ROPE_NORM, .act = ACT_SILU, .norm_bare = true};

/* Norms after the blocks instead of before; OLMo 3 has windowed layers without YaRN. */
static mote_status olmo2_setup(model *m, mote_error *err) {
    m->hp.rope_swa.freq_scale = m->hp.rope_swa.attn_factor = 1;
    m->hp.rope_swa.ext_factor = 0;
    return hp_window(m, 0, 4, false, 0, err);
}
const arch arch_olmo2 = {.name = "olmo2", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_ALL, .setup = olmo2_setup};
const arch arch_olmoe = {.name = "olmoe", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_ALL};
/* head counts and widths differ from layer to layer */
const arch arch_openelm = {.name = "openelm", .attn_unscaled = true, .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD};
