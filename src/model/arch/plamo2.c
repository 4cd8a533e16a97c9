/* plamo2.c: PLaMo 2: its own state space layers and attention, norms before and after each. */
#include "model/ssm.h"

static mote_status plamo2_setup(model *m, mote_error *err) {
    (void)err;
    ssm_plan(m, &block_plamo2);
    return MOTE_OK;
}

const arch arch_plamo2 = {.name = "plamo2", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU, .qk_norm = QKN_HEAD, .setup = plamo2_setup};
