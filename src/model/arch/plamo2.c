/* plamo2.c: PLaMo 2: its own state space layers and attention, norms before and after each. */
#include "model/ssm.h"

static mote_status plamo2_setup(model *m, mote_error *err) {
    (void)err;
    ssm_plan(m, &block_plamo2);
    return MOTE_OK;
}

/* Scales of these projections do not count. */
static void plamo2_bound(model *m) {
    static const role unscaled[] = {R_ATTN_QKV, R_SSM_IN, R_SSM_OUT};
    for (size_t il = 0; il < m->hp.n_layer; il++)
        for (size_t i = 0; i < COUNT_OF(unscaled); i++) m->layers[il].slots[unscaled[i]].scale = NULL;
}

const arch arch_plamo2 = {.name = "plamo2", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD, 
                          .setup = plamo2_setup, .bound = plamo2_bound};
