/* train_look.h: looks at a net between steps: its loss on held-out rows, and a text it makes up. Nothing is recorded. */
#ifndef MOTE_TRAIN_TRAIN_LOOK_H
#define MOTE_TRAIN_TRAIN_LOOK_H

#include "train/trainer.h"

/* Mean next-token loss over the first n_rows rows of a set, the same ones each time; every process takes its part. rows_per_part at once.
 * E_FORMAT: nothing in them is to be predicted. */
mote_status train_look_loss(double *loss, net *n, tape *t, data *d, size_t n_rows, size_t rows_per_part, ranks *r, mote_error *err);
/* Appends n_tokens of text drawn at temperature 0.8 after the prompt (which comes first), up to the end of a text. Every token costs a pass
 * over all before it. */
mote_status train_look_sample(buf *out, net *n, tape *t, const tok_vocab *v, str prompt, size_t n_tokens, uint64_t seed, mote_error *err);

#endif
