/* gemma.c: Gemma 1–3: scaled embeddings, GELU gates, soft caps (2), alternating windows (2, 3). The converter has
 * already added 1 to the norms' weights. */
#include "model/arch.h"

#include <math.h>

#define GEMMA_LIKE .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_GELU_TANH

static void gemma_scales(model *m, bool per_width) {
    m->hp.embd_scale = sqrtf((float)m->hp.n_embd);
    const layer *l = &m->layers[0];
    if (per_width && l->n_head) m->hp.attn_scale = 1 / sqrtf((float)m->hp.n_embd / (float)l->n_head);
    else m->hp.attn_scale = 0;
}

static mote_status gemma_setup(model *m, mote_error *err) {
    (void)err;
    gemma_scales(m, false);
    return MOTE_OK;
}
const arch arch_gemma = {.name = "gemma", GEMMA_LIKE, .setup = gemma_setup};

static mote_status gemma2_setup(model *m, mote_error *err) {
    gemma_scales(m, m->hp.n_layer == 46); /* the 27B model scales by width over heads */
    TRY(hp_f32(m, "attn_logit_softcapping", &m->hp.attn_softcap, 50, err));
    TRY(hp_f32(m, "final_logit_softcapping", &m->hp.final_softcap, 30, err));
    return hp_window(m, 4096, 2, false, 0, err);
}
const arch arch_gemma2 = {.name = "gemma2", GEMMA_LIKE, .setup = gemma2_setup};

static mote_status gemma3_setup(model *m, mote_error *err) {
    gemma_scales(m, m->hp.n_layer == 62); /* 27B again */
    TRY(hp_f32(m, "final_logit_softcapping", &m->hp.final_softcap, 0, err));
    m->hp.rope_swa.freq_scale = 1; /* long contexts stretch only the global layers */
    return hp_window(m, 0, 6, false, 10000, err);
}
const arch arch_gemma3 = {.name = "gemma3", GEMMA_LIKE, .qk_norm = QKN_HEAD, .setup = gemma3_setup};
