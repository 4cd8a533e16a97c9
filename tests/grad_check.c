#include "grad_check.h"

#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    pool *p;
    const struct kern_table *kern;
    tape *t;
    var xs[GRAD_INPUTS];
    float *r; /* [elements of y] */
};

static float normal(rng *r) {
    double u = 1 - rng_double(r), v = rng_double(r);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static bool open_run(struct run *a, const grad_case *c, int n_threads) {
    mote_error err = {0};
    rng r;
    rng_seed(&r, 7, 1);
    memset(a, 0, sizeof *a);
    a->kern = tensor_kernels_open(CPU_ALL);
    if (pool_open(&a->p, n_threads, &err) != MOTE_OK || !a->kern || tape_open(&a->t, &(tape_opts){.pool = a->p, .kern = a->kern}, &err) != MOTE_OK) return false;
    for (size_t i = 0; i < c->n; i++) {
        size_t n = c->in[i].rows * c->in[i].cols;
        float *x = mem_calloc(2 * n, sizeof *x);
        if (!x) return false;
        for (size_t k = 0; k < n; k++) x[k] = c->in[i].offset + (c->in[i].scale == 0 ? 1 : c->in[i].scale) * normal(&r);
        a->xs[i] = (var){.rows = c->in[i].rows, .cols = c->in[i].cols, .x = x, .room = x + n, .wants = true};
    }
    return true;
}

static void close_run(struct run *a) {
    for (size_t i = 0; i < GRAD_INPUTS; i++) mem_free(a->xs[i].x);
    mem_free(a->r);
    tape_close(&a->t);
    pool_close(&a->p);
    tensor_kernels_close(&a->kern);
}

static var *build(struct run *a, const grad_case *c) {
    var *xs[GRAD_INPUTS];
    for (size_t i = 0; i < c->n; i++) {
        a->xs[i].g = NULL;
        xs[i] = &a->xs[i];
    }
    return c->fn(a->t, xs, c->arg);
}

static double value(struct run *a, const grad_case *c) {
    double sum = 0;
    tape_reset(a->t);
    tape_pause(a->t); /* so that no gradient is made on the way */
    var *y = build(a, c);
    for (size_t i = 0; y && i < y->rows * y->cols; i++) sum += (double)a->r[i] * (double)y->x[i];
    return y ? sum : HUGE_VAL;
}

/* All gradients, in the inputs' room. */
static bool gradients(struct run *a, const grad_case *c) {
    rng r;
    rng_seed(&r, 8, 1);
    tape_reset(a->t);
    var *y = build(a, c);
    if (!y) return false;
    size_t n = y->rows * y->cols;
    if (!a->r) a->r = mem_calloc(n, sizeof *a->r);
    if (!a->r) return false;
    for (size_t i = 0; i < n; i++) a->r[i] = n == 1 ? 1 : normal(&r);
    /* Σ r y as an op: y's gradient is r */
    var *loss = tape_var(a->t, 1, 1, true);
    bool fresh;
    float *g = loss ? tape_grad(a->t, y, &fresh) : NULL;
    if (!g) return false;
    memcpy(g, a->r, n * sizeof *g);
    tape_back(a->t, loss, 1);
    for (size_t i = 0; i < c->n; i++)
        if (!a->xs[i].g) memset(a->xs[i].room, 0, a->xs[i].rows * a->xs[i].cols * sizeof(float));
    return tape_status(a->t, NULL) == MOTE_OK;
}

static double check_input(struct run *a, const grad_case *c, size_t which) {
    var *x = &a->xs[which];
    size_t n = x->rows * x->cols;
    double want = 0, h = c->step > 0 ? (double)c->step : 1.0 / 128, size = 0;
    rng r;
    rng_seed(&r, 9, which);
    float *d = mem_calloc(2 * n, sizeof *d), *at = d + n;
    if (!d) return HUGE_VAL;
    for (size_t i = 0; i < n; i++) {
        d[i] = normal(&r);
        at[i] = x->x[i];
        want += (double)x->room[i] * (double)d[i];
        size += (double)x->room[i] * (double)x->room[i];
    }
    for (size_t i = 0; i < n; i++) x->x[i] = at[i] + (float)h * d[i];
    double up = value(a, c);
    for (size_t i = 0; i < n; i++) x->x[i] = at[i] - (float)h * d[i];
    double down = value(a, c);
    memcpy(x->x, at, n * sizeof *at);
    mem_free(d);
    double found = (up - down) / (2 * h);
    return fabs(found - want) / fmax(sqrt(size), 1e-6);
}

double grad_check(const grad_case *c, int n_threads) {
    struct run many, one;
    double worst = 0;
    bool ok = open_run(&many, c, n_threads) && open_run(&one, c, 1) && gradients(&many, c) && gradients(&one, c);
    for (size_t i = 0; ok && i < c->n; i++) {
        if (memcmp(many.xs[i].room, one.xs[i].room, many.xs[i].rows * many.xs[i].cols * sizeof(float)) != 0) {
            printf("%s: input %zu: the gradient depends on the number of threads\n", c->name, i);
            ok = false;
            break;
        }
        double e = check_input(&many, c, i);
        if (e > (c->bar > 0 ? c->bar : 1e-3)) printf("%s: input %zu: gradient off by %.2e of its size\n", c->name, i, e);
        worst = fmax(worst, e);
    }
    close_run(&many);
    close_run(&one);
    return ok ? worst : HUGE_VAL;
}
