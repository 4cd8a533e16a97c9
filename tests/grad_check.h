/* grad_check.h: gradients of tape ops against finite differences. */
#ifndef MOTE_TESTS_GRAD_CHECK_H
#define MOTE_TESTS_GRAD_CHECK_H

#include "train/tape.h"

enum { GRAD_INPUTS = 8 };
/* A function of some matrices: builds y from xs[n] on the tape. */
typedef var *grad_fn(tape *t, var *const *xs, const void *arg);
typedef struct grad_case {
    const char *name;
    grad_fn *fn;
    const void *arg;
    size_t n;
    struct {
        size_t rows, cols;
        float scale, offset; /* values are offset + scale · normal; scale 0 means 1 */
    } in[GRAD_INPUTS];
    float step;              /* of the difference; 0: 1/128 */
    double bar;              /* relative error of each directional derivative; 0: 1e-3 */
} grad_case;

/* The worst relative error over the inputs, for the loss Σ r · y with random r: |<g, d> - (f(x + h d) - f(x - h d)) / 2h|
 * over the size that such a derivative has. Also run with one thread: the gradients must be the same bits. Prints and
 * returns HUGE_VAL when the op fails. */
double grad_check(const grad_case *c, int n_threads);

#endif
