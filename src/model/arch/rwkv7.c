/* rwkv7.c: RWKV-7 "Goose": time mixing and channel mixing, no attention at all. */
#include "model/arch.h"

static mote_status rwkv7_setup(model *m, mote_error *err) {
    (void)err;
    m->hp.n_carry = m->hp.n_embd; /* the first layer's values */
    for (size_t il = 0; il < m->hp.n_layer; il++) m->layers[il].ffn = &block_rwkv7_channel;
    return MOTE_OK;
}

/* The file calls the second norm attn_norm_2. */
static void rwkv7_bound(model *m) {
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        slot *s = m->layers[il].slots;
        if (s[R_FFN_NORM].info) continue;
        s[R_FFN_NORM] = s[R_ATTN_NORM_2];
        s[R_ATTN_NORM_2] = (slot){0};
    }
}

const arch arch_rwkv7 = {.name = "rwkv7", .norm = NORM_LAYER, .rope = ROPE_NONE, .mixer = &block_rwkv7_time, .setup = rwkv7_setup,
                         .bound = rwkv7_bound};
