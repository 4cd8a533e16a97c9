/* lfm2.c: LFM2: gated short convolutions with attention in between; LFM2-MoE: the same with experts. */
#include "model/ssm.h"

static mote_status lfm2_setup(model *m, mote_error *err) {
    (void)err;
    ssm_plan(m, &block_shortconv);
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].swa = m->hp.n_swa > 0 && m->layers[il].n_head_kv > 0;
    return MOTE_OK;
}

static mote_status lfm2moe_setup(model *m, mote_error *err) {
    (void)err;
    m->hp.n_swa = 0;
    ssm_plan(m, &block_shortconv);
    return MOTE_OK;
}

/* The file calls the final norm token_embd_norm. */
static void lfm2_bound(model *m) {
    if (m->slots[R_OUTPUT_NORM].info) return;
    m->slots[R_OUTPUT_NORM] = m->slots[R_TOKEN_EMBD_NORM];
    m->slots[R_TOKEN_EMBD_NORM] = (slot){0};
}

#define LFM2_LIKE .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD, .bound = lfm2_bound
const arch arch_lfm2 = {.name = "lfm2", LFM2_LIKE, .setup = lfm2_setup};
const arch arch_lfm2moe = {.name = "lfm2moe", LFM2_LIKE, .gating = GATE_SIGMOID, .expert_norm = true, .setup = lfm2moe_setup};
