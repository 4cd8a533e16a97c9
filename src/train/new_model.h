/* new_model.h: models of random weights. */
#ifndef MOTE_TRAIN_NEW_MODEL_H
#define MOTE_TRAIN_NEW_MODEL_H

#include "format/format.h"
#include "mote/train.h"

/* Fills in what is zero from the depth, the one dial: width 64 per layer, heads of 64, gated feed-forward of 8/3. n_ctx: the rows' length. E_USAGE:
 * numbers that do not go together, and which. */
mote_status new_model_shape(mote_model_shape *s, size_t n_ctx, mote_error *err);
/* Weights of a shape (its vocabulary filled in), and those that are in matrices. */
double new_model_params(const mote_model_shape *s);
/* Writes a model of that shape with random weights as GGUF, in f32, with the tokenizer (and chat template) of `tok`. shape->n_vocab becomes
 * the tokenizer's. Embeddings are normal with deviation 0.02, matrices with 1/sqrt(columns), those that write to the residual stream with
 * 1/sqrt(2 layers) of it (Radford et al. 2019). The same seed gives the same file. mark: a text that the file carries under "mote.train.new". */
mote_status new_model_write(const char *path, mote_model_shape *shape, const model_file *tok, uint64_t seed, str mark, mote_error *err);

#endif
