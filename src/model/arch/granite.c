/* granite.c: Granite 3 and 4, MiniCPM: Llama's form with constant multipliers on embeddings, residuals and logits;
 * Granite 4 hybrid: the same with Mamba-2 in most layers. */
#include "model/ssm.h"

#include <math.h>

static mote_status granite_setup(model *m, mote_error *err) {
    bool rope;
    TRY(hp_logit_scale(m, true, 1, err));
    TRY(hp_bool(m, "rope.scaling.finetuned", &rope, true, err)); /* false in models without positions */
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].rope = rope;
    return MOTE_OK;
}

#define GRANITE_LIKE .norm = NORM_RMS, .rope = ROPE_NORM, .act = ACT_SILU, .expert_norm = true
const arch arch_granite = {.name = "granite", GRANITE_LIKE, .setup = granite_setup};
const arch arch_granitemoe = {.name = "granitemoe", GRANITE_LIKE, .setup = granite_setup};

static mote_status granitehybrid_setup(model *m, mote_error *err) {
    ssm_plan(m, &block_mamba2);
    return granite_setup(m, err);
}
const arch arch_granitehybrid = {.name = "granitehybrid", GRANITE_LIKE, .setup = granitehybrid_setup};

/* MiniCPM-1/2: the same multipliers, with its published defaults where the file has none. */
static mote_status minicpm_setup(model *m, mote_error *err) {
    if (!hp_has(m, "embedding_scale")) m->hp.embd_scale = 12;
    if (!hp_has(m, "residual_scale")) m->hp.residual_scale = 1.4f / sqrtf((float)m->hp.n_layer);
    return hp_logit_scale(m, true, 256.0f / (float)m->hp.n_embd, err);
}
const arch arch_minicpm = {.name = "minicpm", GRANITE_LIKE, .setup = minicpm_setup};

/* MiniCPM3: latent attention; its multipliers are constants of the family. */
static mote_status minicpm3_setup(model *m, mote_error *err) {
    (void)err;
    m->hp.embd_scale = 12;
    m->hp.residual_scale = 1.4f / sqrtf((float)m->hp.n_layer);
    m->hp.logit_scale = 256.0f / (float)m->hp.n_embd;
    return MOTE_OK;
}
const arch arch_minicpm3 = {.name = "minicpm3", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .mixer = &block_mla, .setup = minicpm3_setup};
