/* op_distill_int.h: divergences of one row, inside op_distill*.c. */
#ifndef MOTE_TRAIN_OP_DISTILL_INT_H
#define MOTE_TRAIN_OP_DISTILL_INT_H

#include "tensor/tensor.h"
#include "train/op_distill.h"

/* One row: the student's logits z[n], which become the gradient of the row's loss by them (0 where nothing is wanted), and the teacher's.
 * work: three rows of this thread's own. */
typedef struct distill_row {
    const kern_table *kern;
    const distill_opts *o;
    size_t n, n_teacher;    /* vocabularies as far as they are compared; without a map n = n_teacher */
    float *z, *teacher;     /* [n], [n_teacher]; overwritten. teacher NULL: `top` */
    const distill_top *top;
    size_t at;              /* the row in top */
    int32_t target;         /* < 0: none */
    float *work[3];         /* [max(n, n_teacher)] each */
    double divergence, ce, counts; /* out; counts: by how much the row counts (1, or less with a map) */
    bool agree;             /* out */
} distill_row;

void distill_row_run(distill_row *r);

#endif
