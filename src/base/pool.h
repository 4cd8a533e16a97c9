/* pool.h: the thread pool. One program, many threads (SPMD): pool_run makes every thread execute the same
 * function; inside it they divide rows among themselves and meet at pool_barrier. Waiting threads spin
 * briefly, then park in the kernel, so an idle pool uses no CPU.
 * What a thread computes must depend on the row alone, never on the thread count: that keeps results equal. */
#ifndef MOTE_BASE_POOL_H
#define MOTE_BASE_POOL_H

#include "base/err.h"

#include <stddef.h>

#define POOL_THREADS_MAX 256

typedef struct pool pool;

/* n_threads ≤ 0 means cpu_threads_default. Thread 0 is the caller of pool_run. */
mote_status pool_open(pool **out, int n_threads, mote_error *err);
void pool_close(pool **p);
int pool_size(const pool *p);
/* From now on jobs run on the first n_active threads (1 to pool_size) alone. Not during a job. */
void pool_limit(pool *p, int n_active);
/* Runs fn(arg, ith, nth) on every active thread and returns when all are done. Not reentrant; one caller at a time. */
void pool_run(pool *p, void (*fn)(void *arg, int ith, int nth), void *arg);
/* Inside pool_run, called by every thread: nobody goes on before all have come. */
void pool_barrier(pool *p);

/* This thread's share of n rows in steps of `step`: [*from, *to). Shares are contiguous and cover 0..n. */
static inline void pool_share(size_t n, size_t step, int ith, int nth, size_t *from, size_t *to) {
    size_t units = (n + step - 1) / step;
    *from = units * (size_t)ith / (size_t)nth * step;
    *to = units * ((size_t)ith + 1) / (size_t)nth * step;
    if (*from > n) *from = n;
    if (*to > n) *to = n;
}

#endif
