/* optim.h: AdamW and Muon over a list of parameters.
 *
 * AdamW is PyTorch's, operation by operation (decoupled decay before the step, bias correction in double): five steps of it
 * give PyTorch's losses. Muon takes the matrices it is told to, AdamW the rest. Nothing depends on the number of threads. */
#ifndef MOTE_TRAIN_OPTIM_H
#define MOTE_TRAIN_OPTIM_H

#include "format/format.h"
#include "train/ckpt.h"
#include "train/tape.h"

typedef struct train_param {
    str name;         /* in messages and checkpoints, at most 150 bytes; lives as long as the trainer, as v does */
    var *v;           /* v->wants must be set; v->x is written */
    float lr;         /* times the learning rate; 0 means 1 */
    bool decay;       /* weight decay acts on it */
    bool muon;        /* a matrix that Muon may take */
    bool formatted;   /* belongs to a number format, and means nothing in another one (trainer_begin) */
    size_t n_mats;    /* stacked one below the other (experts); 0 means 1 */
    value_form form;  /* how v->x comes from the source's number s: decay and steps act on s (format.h) */
} train_param;

typedef enum optim_kind { OPTIM_ADAMW, OPTIM_MUON } optim_kind;

/* Zero means the default in brackets; what may be 0 itself says so. */
typedef struct optim_opts {
    optim_kind kind;
    double lr;           /* [1e-3] */
    double beta1, beta2; /* [0.9, 0.95] */
    double eps;          /* [1e-8] */
    double decay;        /* may be 0 */
    double momentum;     /* Muon's [0.95] */
    double muon_lr;      /* Muon's own rate, with updates scaled by sqrt(max(1, rows / cols)); 0: lr, with updates of AdamW's size
                            (0.2 sqrt(max(rows, cols)): Liu et al. 2025, "Muon is scalable", eq. 4) */
    gemm_prec prec;      /* of Muon's products; bf16 is enough for what only has to be nearly orthogonal */
    int state_bits;      /* 32 or 8 [32]: AdamW's two averages, in blocks of 256 (Dettmers et al. 2022) */
    bool keep_zeros;     /* what is exactly 0 in a matrix that decays (weights do, scales of QAT do not) gets no gradient and stays 0 */
} optim_opts;

typedef struct optim optim;
struct kern_table;

/* params are copied, names and vars are not. Errors: E_USAGE, E_MEMORY. */
mote_status optim_open(optim **out, const optim_opts *o, const train_param *params, size_t n, pool *p, const struct kern_table *k,
                       mote_error *err);
void optim_close(optim **o);
/* Turns gradients with regard to x into those with regard to what is trained (value_form), and drops those of zeros that stay
 * (keep_zeros): once a step, before what follows. */
void optim_grads_ready(optim *o);
/* sqrt(Σ g²) over all parameters, in double, in fixed order; not finite when some gradient is not. */
double optim_grad_norm(optim *o);
/* The first parameter whose gradient (or values) has a number that is not finite; NULL: none. */
const train_param *optim_bad_grad(optim *o);
const train_param *optim_bad_value(optim *o);
/* One update with gradients v->g times grad_scale. t: updates made before this one; rate: the schedule's factor. A
 * parameter without gradient (v->g NULL) is left as it is. */
void optim_step(optim *o, uint64_t t, double rate, float grad_scale);
/* The state, for checkpoints: sections "m:NAME", "v:NAME", "s:NAME" over live memory. Fills at most cap, returns how many there are. */
size_t optim_sections(optim *o, ckpt_section *dst, size_t cap);
/* To be called when values v->x were set from outside (a checkpoint). */
void optim_values_changed(optim *o);
/* AdamW's second moments of parameter i (in the order they were given in), in little: of a matrix the means of its rows and columns, whose
 * product over the mean of all stands for them (Shazeer and Stern 2018, "Adafactor", algorithm 1); else codes of 8 bits. The first moments,
 * which a dozen steps make anew, are not in it. dst NULL: only the size. 0: there is nothing to be kept (Muon). */
size_t optim_condensed(const optim *o, size_t i, unsigned char *dst);
/* Back; the first moments become 0, and count from update t on. False: n is not the size. Numbers that are not finite or below 0 count as 0. */
bool optim_expand(optim *o, size_t i, uint64_t t, const unsigned char *src, size_t n);
double optim_rate(const optim *o); /* the peak learning rate */
size_t optim_state_bytes(const optim *o);

#endif
