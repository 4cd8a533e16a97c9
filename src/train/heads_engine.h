/* heads_engine.h: residual streams of a base model that the engine makes, at the speed of reading a prompt: what extra heads learn from. */
#ifndef MOTE_TRAIN_HEADS_ENGINE_H
#define MOTE_TRAIN_HEADS_ENGINE_H

#include "model/model.h"
#include "train/data.h"

enum { HEADS_ENGINE_SEQS = 16 }; /* sequences of a pass */

typedef struct heads_engine {
    model *m;
    state *s;
    size_t d, n_layer, n_batch;
    float **streams; /* [n_layer + 1] of the last pass: [n_batch, d] after so many layers, or NULL: not asked for */
    float *hidden;   /* [n_batch, d] of the last pass: what the model's output matrix multiplies */
    int32_t *want;   /* [n_batch] 0, 1, … */
    float *values;   /* of streams and hidden */
} heads_engine;

/* path: of the base, which is opened anew: a net of the same model is not touched. For passes of at most n_batch tokens in sequences of at most n_ctx.
 * layers[n]: those whose streams are wanted. */
mote_status heads_engine_open(heads_engine **out, const char *path, pool *p, uint32_t cpu_mask, size_t n_ctx, size_t n_batch, const size_t *layers, size_t n,
                              mote_error *err);
void heads_engine_close(heads_engine **e); /* NULL-safe */
/* The next pass: sequences from `first` on, HEADS_ENGINE_SEQS at most; *last: the first that is not in it. Their rows lie one after the other, from
 * those of `first` on. */
mote_status heads_engine_pass(heads_engine *e, const data_batch *b, size_t first, size_t *last, mote_error *err);

#endif
