/* ranks.h: processes that train one model together, each on its part of a step's rows.
 *
 * With one process nothing is sent. More come through MPI (Message Passing Interface), where the program was built with it and was started by
 * mpirun; docs/adr/0009-mpi-is-a-module.md says why it is a module that is opened at run time. */
#ifndef MOTE_TRAIN_RANKS_H
#define MOTE_TRAIN_RANKS_H

#include "base/base.h"

typedef struct ranks ranks;
/* module: the file of the MPI module, or NULL: this process alone. Errors: E_NOT_FOUND, E_UNSUPPORTED (the module is of another version, or MPI
 * does not start). */
mote_status ranks_open(ranks **out, const char *module, mote_error *err);
void ranks_close(ranks **r);
/* This process failed: ranks_close will not wait for the others, and mpirun ends them when this one exits. */
void ranks_leave(ranks *r);
int ranks_rank(const ranks *r); /* 0 … size - 1; NULL r: 0 */
int ranks_size(const ranks *r); /* NULL r: 1 */
/* x becomes the sum over all processes, the same bits in each. */
mote_status ranks_sum(ranks *r, float *x, size_t n, mote_error *err);
mote_status ranks_sum_f64(ranks *r, double *x, size_t n, mote_error *err);
/* p of rank 0 in all. */
mote_status ranks_share(ranks *r, void *p, size_t n, mote_error *err);

#endif
