/* share_tie.h: training layers that share their tensors in the file (format/share.c), so that they still do afterwards.
 *
 * An opened model has such tensors once for each layer. Their gradients are added up before each update, and each gets the sum: layers that
 * began alike stay alike, and where a layer adds something of low rank, that stays what it was. Only one of them is written. */
#ifndef MOTE_COMPRESS_SHARE_TIE_H
#define MOTE_COMPRESS_SHARE_TIE_H

#include "format/edit.h"
#include "train/net.h"

typedef struct share_tie share_tie;
/* *out stays NULL where the file at path shares nothing. n outlives it. */
mote_status share_tie_open(share_tie **out, const char *path, net *n, mote_error *err);
void share_tie_close(share_tie **t);
/* Between the gradients and the update. */
void share_tie_grads(share_tie *t);
/* The file as it lies on disk: what is written is an edit of it. */
const model_file *share_tie_file(const share_tie *t);
/* What stands for parameter i of the net there: its tensor (NULL: another layer's) and its numbers: the parameter's own, or, less
 * what the layer adds, room that lives until the next call of share_tie_grads or until t is closed. */
mote_status share_tie_stored(share_tie *t, size_t i, const tensor_info **info, const float **x, mote_error *err);

#endif
