/* gradient_pass.h: one pass and its gradients, for looking at them (`mote gradients`) and for comparing with other programs. */
#ifndef MOTE_TRAIN_GRADIENT_PASS_H
#define MOTE_TRAIN_GRADIENT_PASS_H

#include "train/net.h"

/* Sequences of the same length, each predicting its next tokens. ids: [n_seq, len], checked against the vocabulary. len ≥ 2. */
typedef struct gradients_in {
    const int32_t *ids;
    size_t n_seq, len;
} gradients_in;
/* The mean next-token loss over all sequences, its gradients in the net's parameters (param.v.g; those that had some before are
 * replaced). logits: [n_seq · len, vocab] out, or NULL. */
mote_status gradients_make(net *n, tape *t, const gradients_in *in, double *loss, float *logits, mote_error *err);
/* The parameters' gradients as a safetensors file under the source's own tensor names: those of a Hugging Face folder, or GGUF's. A parameter
 * that got none is written as zeros. */
mote_status gradients_write(net *n, const char *path, mote_error *err);

#endif
