/* jamba.c: Jamba: Mamba layers with attention (without positions) in between, dense or expert feed-forwards. */
#include "model/ssm.h"

static mote_status jamba_setup(model *m, mote_error *err) {
    (void)err;
    ssm_plan(m, &block_mamba);
    return MOTE_OK;
}

const arch arch_jamba = {.name = "jamba", .norm = NORM_RMS, .rope = ROPE_NONE, .act = ACT_SILU, .setup = jamba_setup};
