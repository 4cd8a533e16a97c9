/* gradients.h: one training pass of a model, looked at from outside: its loss and the gradient of every tensor.
 * For finding faults and for comparing with other programs; training itself is in train.h. */
#ifndef MOTE_GRADIENTS_H
#define MOTE_GRADIENTS_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All zero is a good default. */
typedef struct mote_gradients_options {
    int n_threads;      /* 0: one per usable core */
    bool bf16;          /* products of matrices in bf16 with sums in float32, where the processor can */
    bool checkpoint;    /* keep only what enters each layer, compute the rest again going back: less memory */
    const char *logits; /* a safetensors file for the logits ("logits", f32 [sequences, tokens, vocabulary]) and the loss; NULL: none */
} mote_gradients_options;

typedef struct mote_gradients_result {
    double loss;        /* mean over all tokens that have a next one, in nats */
    size_t n_sequences, n_tokens, n_tensors;
    size_t peak_bytes;  /* of the pass, without weights and gradients */
    double seconds;     /* of the pass, forward and back */
} mote_gradients_result;

/* model: a GGUF file or a Hugging Face folder. batch: a safetensors file whose tensor "input_ids" (I32 or I64, [tokens] or
 * [sequences, tokens]) holds the tokens. out: a safetensors file of f32 gradients of the mean next-token loss, under the model file's own
 * tensor names and shapes; it appears only when it is complete. options, result and err may be NULL.
 * Errors: E_NOT_FOUND, E_FORMAT (batch, model), E_RANGE (ids, shape), E_UNSUPPORTED (a layer that can be run but not trained, by name),
 * E_OUTPUT (the loss is not a number), E_MEMORY, E_IO. Thread: any. */
MOTE_API mote_status mote_gradients(const char *model, const char *batch, const char *out, const mote_gradients_options *options,
                                    mote_gradients_result *result, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
