/* falcon_h1.c: Falcon-H1: attention and Mamba-2 side by side in every layer. Its many multipliers are folded into
 * the weights when a file is made. */
#include "model/arch.h"

static mote_status falcon_h1_setup(model *m, mote_error *err) {
    (void)err;
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        m->layers[il].mixer[0] = &block_attn;
        m->layers[il].mixer[1] = &block_mamba2;
    }
    return MOTE_OK;
}

/* The file may hold divisors of the rotation and a bias of attention's output: neither counts. */
static void falcon_h1_bound(model *m) {
    m->slots[R_ROPE_FREQS] = (slot){0};
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].slots[R_ATTN_OUT].bias = NULL;
}

const arch arch_falcon_h1 = {.name = "falcon-h1", .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU,
                             .setup = falcon_h1_setup, .bound = falcon_h1_bound};
