/* qat.h: training with the weights as they will be packed and run (quantization-aware training).
 *
 * Every chosen tensor has, beside its float weights, blocks of its format: their scales, and with them the levels nearest to the weights.
 * A pass computes with the values that those blocks decode to; going back, rounding counts as the identity for weights
 * inside the range (straight-through estimate), and the blocks' outer scales (and minimums) learn too (LSQ: Esser et al. 2020, eq. 3). What
 * is written in the end are those blocks, so a file holds exactly the weights that were trained with, element by element.
 *
 *   QAT_WEIGHTS  weights and scales learn
 *   QAT_SCALES   levels stay as they are, scales, minimums and unquantized tensors learn (EfficientQAT's second stage, Chen et al. 2024, §3.3):
 *                nothing but the packed file and a few numbers a block need to be kept between runs
 *
 * Formats without a grid (codebooks) are encoded anew in each step; their scales do not learn. The inner scales of super-blocks stay
 * as the encoder chose them. A tensor that has the wanted format already begins with its own blocks, not with new ones;
 * where in its cell each of its weights stands is told by the model before rounding, or by chance (qat_seat.c). */
#ifndef MOTE_TRAIN_QAT_H
#define MOTE_TRAIN_QAT_H

#include "train/net.h"
#include "train/optim.h"

typedef enum qat_kind { QAT_WEIGHTS, QAT_SCALES } qat_kind;

typedef struct qat_opts {
    qat_kind kind;
    embedding_parts parts; /* of the token embedding, in place of one format (format/stack.c) */
    /* For tensor i of the model file: its format; a float type or a negative number leaves it alone. */
    int (*format)(void *ctx, size_t i);
    void *ctx;
    bool fixed_scales;          /* QAT_WEIGHTS: scales stay as the encoder chose them */
    bool acts;                  /* activations int8 per 32, as the engine has them */
    quant_type k_type, v_type;  /* of the caches; QUANT_F32: not rounded */
    bool keep_zeros;            /* weights of packed tensors that are 0 begin as 0, so that they can stay it (optim.h) */
    const model_file *before;   /* the model before rounding: packed weights begin where its numbers are in their cells; NULL: at places drawn by chance */
    float scale_lr;             /* of scales, times the learning rate [10: they are relative, and begin at 1] */
} qat_opts;

typedef struct qat qat;
/* Works on n, which outlives it. E_UNSUPPORTED: a format that cannot be written, by name; QAT_SCALES: one without a grid. */
mote_status qat_open(qat **out, net *n, pool *p, const qat_opts *o, mote_error *err);
void qat_close(qat **q);
/* What is to be trained: of `all` (trainer_net_params) what still learns, and the scales. Returns how many; fills at most cap. */
size_t qat_params(qat *q, const train_param *all, size_t n, train_param *dst, size_t cap);
/* The weights were set to those of another run, whose model is `from` (opened with MODEL_FILE_STACKED): takes its scales, those in other formats as far as
 * they tell (qat_take.c). E_MEMORY. */
mote_status qat_take_scales(qat *q, const model_file *from, mote_error *err);

/* From qat_begin to qat_end the net's parameters are the rounded ones. In between: forward, tape_back. Nests not. */
void qat_begin(qat *q);
void qat_end(qat *q);
/* When all gradients by the rounded weights are there: makes those by weights and scales of them. */
void qat_grads(qat *q);
/* Weights or scales have changed (an update, a checkpoint): the next qat_begin rounds anew. */
void qat_changed(qat *q);
/* The final norm's output as the head reads it. */
var *qat_head_input(const qat *q, tape *t, var *hidden);

size_t qat_n(const qat *q);
/* Tensor i: its parameter or a part of its rows, the values a pass uses, and its blocks, up to date (row-major, size bytes). */
typedef struct qat_tensor {
    const param *p;
    const char *name;  /* in the file: the parameter's, or that of a part */
    size_t rows;
    quant_type type;
    const float *values;
    const unsigned char *bytes;
    size_t size;
} qat_tensor;
qat_tensor qat_get(qat *q, size_t i);
size_t qat_find(const qat *q, const param *p); /* which tensor it is, or the first of its parts, which the others follow; SIZE_MAX: none */

#endif
