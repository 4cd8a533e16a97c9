/* train_heads.h: further heads for a model that stays as it is: early exits and Medusa heads, trained beside it and written into a file
 * of their own, which goes with the model's file. Heads are fitted by least squares, and trained by gradients where that is wanted. */
#ifndef MOTE_TRAIN_HEADS_H
#define MOTE_TRAIN_HEADS_H

#include "mote/train.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOTE_TRAIN_HEADS_MAX 64

/* Zero means the default in brackets. Strings are borrowed for the call. */
typedef struct mote_train_heads_opts {
    size_t size; /* sizeof; set by mote_train_heads_opts_fill */
    mote_train_settings train; /* lr [1e-3], n_ctx [256], batch [4]; steps, tokens or epochs of training by gradients behind the fit [none] */
    mote_train_callbacks on;
    const char *model;         /* the base: a GGUF file or a Hugging Face folder, quantized or not; it is not changed */
    const char *out;           /* the heads file to write */
    const char *out_type;      /* number format of their matrices: "f16", "q8_0", "f32" … ["f16"] */
    const char *const *data;   /* text, or JSONL with "text" or chats (of which the assistant's words count) */
    size_t n_data;
    double fit;                /* tokens that the heads are fitted on in closed form [6e4, or the data once]; below 0: they begin as the model's own head */
    double held_out;           /* share of the data's items that is kept to look at [0.01]; below 0: none */
    const char *exits;         /* early exits behind so many layers, "10,20"; "auto": five sixths and nine tenths of the way; "": none [auto, without medusa] */
    size_t medusa;             /* heads that guess the 1st, 2nd, … token behind the one that was drawn [3, without exits] */
    double text;               /* share of the text's own token in what Medusa heads learn, the rest being what the model says there [0]; 1: the text alone */
    bool untrained;            /* write the heads as they begin: the model's final norm and its own head on each stream (logit lens) */
    double generate;           /* tokens that the model itself makes up, to learn from in place of the data (which give the beginnings) [0] */
    double sample_temperature; /* of those [1] */
    size_t likely;             /* Medusa heads guess among so many tokens, the most frequent of the data [4096]; SIZE_MAX: the first eighth of the vocabulary */
} mote_train_heads_opts;
MOTE_API void mote_train_heads_opts_fill(mote_train_heads_opts *o, size_t size);
static inline mote_train_heads_opts mote_train_heads_opts_default(void) {
    mote_train_heads_opts o;
    mote_train_heads_opts_fill(&o, sizeof o);
    return o;
}

typedef struct mote_head_figures { /* on held-out data; NaN: not measured */
    size_t layer, offset;             /* behind so many layers; 0: the next token, k: k tokens further on */
    double agree_before, agree;       /* share of places where its likeliest token is the model's own likeliest there */
    double divergence_before, divergence; /* mean KL from the model's own distribution */
} mote_head_figures;
typedef struct mote_train_heads_report {
    size_t size;
    uint64_t steps, tokens, resumed_at, skipped;
    size_t n_trained;                  /* numbers that were trained */
    double loss;                       /* of the last tenth of the steps; NaN */
    double seconds, tokens_per_s;
    uint64_t bytes;                    /* of the file written */
    size_t n;
    mote_head_figures heads[MOTE_TRAIN_HEADS_MAX];
    bool finished;                     /* false in processes but the first */
} mote_train_heads_report;

/* Trains and writes o->out, which appears only when it is complete. A run that was killed goes on from its last checkpoint when it is called
 * again with the same options. r may be NULL.
 * Errors: those of mote_train; E_USAGE and E_RANGE also: an exit that the model has no layer for. Thread: any. */
MOTE_API mote_status mote_train_heads(const mote_train_heads_opts *o, mote_train_heads_report *r, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
