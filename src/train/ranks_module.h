/* ranks_module.h: what a module of processes (ranks_mpi.c) offers to the library, which opens it at run time. Functions
 * return 0 when they are done. */
#ifndef MOTE_TRAIN_RANKS_MODULE_H
#define MOTE_TRAIN_RANKS_MODULE_H

#include <stddef.h>

#define RANKS_MODULE_VERSION 1
#define RANKS_MODULE_ENTRY "mote_ranks_module"

typedef struct ranks_module {
    int version;
    int (*start)(void);
    void (*end)(void);
    int (*rank)(void);
    int (*size)(void);
    int (*sum_f32)(float *x, size_t n);
    int (*sum_f64)(double *x, size_t n);
    int (*share)(void *p, size_t n);
} ranks_module;
typedef const ranks_module *ranks_module_fn(void);

#endif
