/* rope.h: rotary position embedding, inside src/model. */
#ifndef MOTE_MODEL_ROPE_H
#define MOTE_MODEL_ROPE_H

#include "model/arch.h"

/* cs[n_rot/2][2] = cosine and sine for one position (which may be negative: turning back). long_context chooses
 * the long factors of models that have two sets. Thread: any. */
void rope_table_row(const rope_conf *c, bool long_context, double pos, float *cs);
/* Rotates the first n_rot floats of v in place. */
void rope_rotate(const kern_table *kern, rope_kind kind, size_t n_rot, const float *cs, float *v);

#endif
