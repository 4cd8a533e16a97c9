/* op_fake.h: numbers as the engine will round them, for training with the rounding in place (op_fake.c).
 * Going back, rounding counts as the identity (the straight-through estimate: Bengio et al. 2013, §3). */
#ifndef MOTE_TRAIN_OP_FAKE_H
#define MOTE_TRAIN_OP_FAKE_H

#include "train/tape.h"
#include "quant/quant.h"

/* y[n, k] = x as the products with quantized weights read it: int8 with a scale per 32 columns (kernel.h, kern_acts). */
var *ad_fake_acts(tape *t, var *x);
/* y[n, n_head · dim] = x as a cache of keys or values of that type gives it back, head by head. type: f32, f16, bf16, q8_0, q4_0
 * (dim a multiple of 32 for the last two). */
var *ad_fake_kv(tape *t, var *x, size_t n_head, quant_type type);

#endif
