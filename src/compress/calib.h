/* calib.h: a model shown calibration text layer by layer, with weights that change as it goes.
 *
 * The residual stream before a layer is kept for all tokens: once as the original model has it, once as the compressed
 * layers so far leave it. A layer is run as often as a method needs it; then the streams move on. Nothing but the two
 * streams and one layer's second moments is kept. */
#ifndef MOTE_COMPRESS_CALIB_H
#define MOTE_COMPRESS_CALIB_H

#include "compress/hessian.h"
#include "model/model.h"
#include "train/net.h"

typedef struct calib_opts {
    const char *const *files; /* plain text, or JSON lines of chats (NAME.jsonl); none: the text that is built in */
    size_t n_files;
    size_t n_seq, n_ctx;      /* windows of so many tokens, the same share of each file, spread evenly over it; 0: 32 of 512 */
    int n_threads;            /* 0: one per core */
    bool both;                /* the original's stream is wanted too */
} calib_opts;

/* A matrix that the layer at hand uses, and what goes into it. */
typedef struct calib_use {
    param *w;
    size_t mat;      /* which expert's */
    hessian *h;      /* shared by all matrices that read the same rows */
    bool owner;      /* the first of them */
} calib_use;

typedef struct calib {
    pool *pool;
    model *m;
    net *net;
    tape *tape;
    gemm *gemm;
    const struct kern_table *kern;
    size_t n_seq, n_ctx, n_embd, n_layer, n_tokens;
    int32_t *ids;             /* [n_seq, n_ctx] */
    float *x, *x_float;       /* [n_tokens, n_embd]: the streams before layer `at`; x_float NULL unless both */
    size_t at;
    size_t per_pass;          /* sequences */
    uint32_t *start;          /* of a pass */
    int32_t *pos;
    ad_seqs seqs;             /* of a pass: its notes refer to it until they have gone back */
    net_inside inside;
    var **stream;             /* [n_layer + 1] of a pass */
    calib_use *uses;          /* of the last calib_watch */
    size_t n_uses, cap_uses;
    /* while a pass is watched */
    bool watching, known;
    const var *last_x;
    hessian *last_h;
    mote_error seen_err;
    mote_status seen_status;
} calib;

/* Opens the model and its graph in f32, and reads the text. Errors: the text is too short, is no text, cannot be tokenized; the
 * model has a block that has no graph; E_MEMORY. */
mote_status calib_open(calib **out, const char *model_path, const calib_opts *o, mote_error *err);
void calib_close(calib **c);
/* Runs layer c->at on the compressed stream and collects what goes into each matrix: c->uses, until the next call. */
mote_status calib_watch(calib *c, mote_error *err);
/* One pass over sequences [seq, seq + n) of a stream; gives the stream behind the layer as a var of c->tape, which the caller
 * resets. With notes for going back unless the caller pauses the tape. */
mote_status calib_pass(calib *c, const float *x, size_t seq, size_t n, var **out, mote_error *err);
/* y[n_tokens, n_embd] = layer c->at of a stream, with the weights as they are. y may be x. */
mote_status calib_run(calib *c, const float *x, float *y, mote_error *err);

#endif
