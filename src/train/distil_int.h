/* distil_int.h: what distil*.c share. */
#ifndef MOTE_TRAIN_DISTIL_INT_H
#define MOTE_TRAIN_DISTIL_INT_H

#include "tensor/tensor.h"
#include "train/distil.h"

/* Width of the teacher's final states (the student's, when there is no teacher). */
size_t distil_state_width(const distil *d);
/* A look at the first `most` tokens of a batch of one sequence: the mean divergence of the student from the teacher (its cross-entropy, without one),
 * and the mean final state, or NULL. */
mote_status distil_look(distil *d, tape *t, const data_batch *b, size_t most, double *loss, float *mean, uint64_t *tokens, mote_error *err);

#endif
