/* hunyuan.c: Hunyuan dense: heads are normalised after the rotation. */
#include "model/arch.h"

#include <math.h>

/* Dynamic NTK: the base grows by alpha^(d/(d-2)). */
static mote_status hunyuan_setup(model *m, mote_error *err) {
    float alpha, d = (float)m->layers[0].dim_k;
    TRY(hp_f32(m, "rope.scaling.alpha", &alpha, 0, err));
    if (alpha > 0 && d > 2) m->hp.rope_all.freq_base *= powf(alpha, d / (d - 2));
    return MOTE_OK;
}
const arch arch_hunyuan_dense = {.name = "hunyuan-dense", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD,
                                 .qk_norm_after_rope = true, .setup = hunyuan_setup};
