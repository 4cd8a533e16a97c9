/* train_model.h: the body of mote_train. */
#ifndef MOTE_TRAIN_TRAIN_MODEL_H
#define MOTE_TRAIN_TRAIN_MODEL_H

#include "mote/train.h"
#include "train/net.h"

mote_status train_model(const mote_train_options *o, mote_train_report *r, mote_error *err);
/* Writes a net's parameters as a GGUF file: what is not trained is copied from `file`, the rest becomes `type` where it is a matrix (a
 * quant_type, or below 0: floats keep their format, all else becomes bf16) and stays f32 where it is a vector. no_chat: without the chat template, so that the file is known to continue texts. */
mote_status train_write_net(net *n, const model_file *file, int type, bool no_chat, const char *path, mote_error *err);

#endif
