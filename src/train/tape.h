/* tape.h: reverse-mode differentiation over matrices of floats.
 *
 * An op computes its result at once and, while the tape records, notes how gradients go back through it; tape_back
 * then walks the notes from the last to the first. A gradient is a sum: every op adds to what is there.
 * Everything between two tape_resets (values, gradients, notes) lies in one growing block of memory and dies together.
 *
 * Running out of memory: an op whose operand is NULL gives NULL, so that a chain of ops needs one check at its end;
 * tape_status says why.
 *
 * Determinism: what an op computes does not depend on the number of threads: work is split by rows, columns or fixed
 * chunks, and sums over rows are made in a fixed order.
 * Source: Griewank and Walther 2008, "Evaluating Derivatives", ch. 3 (reverse mode) and ch. 12 (checkpointing). */
#ifndef MOTE_TRAIN_TAPE_H
#define MOTE_TRAIN_TAPE_H

#include "base/base.h"
#include "tensor/gemm.h"

typedef struct tape tape;

/* A matrix in a computation: [rows, cols] f32, row-major, rows side by side. Vectors have one row. */
typedef struct var {
    size_t rows, cols;
    float *x;       /* values */
    float *g;       /* gradient of the same shape; NULL: nothing has been added to it yet */
    float *room;    /* where g is to lie; NULL: in the tape. Parameters have their own, which outlives it */
    struct var *of; /* a part of that var, `at` floats on: its gradient is part of that var's */
    size_t at;
    bool wants;     /* a gradient is wanted */
} var;

typedef struct tape_opts {
    pool *pool;
    const struct kern_table *kern;
    gemm_prec prec;       /* of matrix products */
    size_t max_bytes;     /* 0: no limit but the machine's */
} tape_opts;

mote_status tape_open(tape **out, const tape_opts *o, mote_error *err);
void tape_close(tape **t);
/* Forgets all vars and notes; keeps the memory for the next pass. */
void tape_reset(tape *t);
/* MOTE_OK, or E_MEMORY when an op had to give up. */
mote_status tape_status(const tape *t, mote_error *err);
size_t tape_peak_bytes(const tape *t);

/* ---- for ops ---- */
/* A new var with undefined values. wants: some operand wants its gradient. NULL: out of memory. */
var *tape_var(tape *t, size_t rows, size_t cols, bool wants);
/* A var over the caller's values, without gradient. */
var *tape_const(tape *t, size_t rows, size_t cols, const float *x);
/* Other shape, or a part: `rows` × `cols` floats that begin `at` floats into v, side by side. Values and gradients are v's own. */
var *tape_view(tape *t, var *v, size_t at, size_t rows, size_t cols);
/* n bytes, 64-byte aligned, that live until tape_reset (or tape_release). */
void *tape_mem(tape *t, size_t bytes);
/* Temporaries: what was allocated since the mark is given back. Only for memory that no note refers to. */
typedef struct tape_spot {
    size_t block, used, before;
} tape_spot;
tape_spot tape_mark(const tape *t);
void tape_release(tape *t, tape_spot s);
/* Notes that `back(t, ctx)` belongs to what was just computed; returns ctx_bytes of zeroed memory for it. NULL when the
 * tape does not record (then nothing needs to be kept), or out of memory: tape_records tells them apart, but an op need not. */
typedef void tape_back_fn(tape *t, void *ctx);
void *tape_note(tape *t, tape_back_fn *back, size_t ctx_bytes);
bool tape_records(const tape *t);
/* v's gradient for adding to: *fresh says that it holds nothing yet and must be written in full (else: add). NULL when v
 * wants none. Call it once per op and operand, in a back function. */
float *tape_grad(tape *t, var *v, bool *fresh);
/* The same, zeroed when fresh: for ops that scatter. */
float *tape_grad_zeroed(tape *t, var *v);
/* fn(ctx, from, to, ith) for shares of n items in steps of `step`, on all threads. */
typedef void tape_part_fn(void *ctx, size_t from, size_t to, int ith);
void tape_for(tape *t, size_t n, size_t step, tape_part_fn *fn, void *ctx);
int tape_threads(const tape *t);
const struct kern_table *tape_kern(const tape *t);
pool *tape_pool(const tape *t);
/* c = op(a) op(b) (+ c when add), as gemm.h, in the tape's precision. */
void tape_gemm(tape *t, const gemm_args *g);
/* The panels and tiles that products in the tape's precision are made of, for ops that multiply inside of one thread. */
const struct kern_gemm *tape_panels(const tape *t);

/* ---- passes ---- */
/* Gradients of by · loss over all vars that want one; loss is 1 × 1. */
void tape_back(tape *t, var *loss, float by);
/* For ops whose way back found something that must not be: tape_status says it from now on. */
void tape_fault(tape *t, const char *what);
/* No notes between the two: for teachers, evaluation, frozen parts. Nests. */
void tape_pause(tape *t);
void tape_resume(tape *t);
/* Activation checkpointing (Chen et al. 2016): y = fn(t, arg, x), of which nothing but x and y is kept; going back, fn is run again.
 * fn must be a pure function of arg (arg_bytes of it are copied) and x. The only other vars it may use are parameters (var.room);
 * their gradients are added as usual. */
typedef var *tape_segment_fn(tape *t, const void *arg, var *x);
var *tape_checkpoint(tape *t, tape_segment_fn *fn, const void *arg, size_t arg_bytes, var *x);

#endif
