/* prof.h: where the time of passes goes, per operation, per thread, per phase.
 *
 * A thread is always inside of exactly one operation: entering the next one ends the last, so the times of a pass
 * add up to the whole of it. Ops enter by team_enter (tensor.h), barriers are operations of their own. With no
 * profile (team.prof NULL) that is one branch an op. Nothing is allocated after prof_open; every thread writes to
 * its own slots, which are read when no pass runs. */
#ifndef MOTE_TENSOR_PROF_H
#define MOTE_TENSOR_PROF_H

#include "base/base.h"

/* PROF(id, what users read). Of weights (LINEAR, EXPERTS) each role and format is counted by itself. */
#define PROF_TABLE(PROF)                                                                                         \
    PROF(OTHER, "between operations")                                                                            \
    PROF(WAIT, "barriers, waiting")                                                                              \
    PROF(EMBED, "embedding, rotation tables")                                                                    \
    PROF(NORM, "norm")                                                                                           \
    PROF(INPUT, "input")       /* what is done to a linear layer's input: its label says norm, activation */      \
    PROF(LINEAR, "linear")                                                                                       \
    PROF(EXPERTS, "experts")                                                                                     \
    PROF(ROUTE, "routing, combining")                                                                            \
    PROF(CACHE, "rotate, write cache")                                                                           \
    PROF(ATTENTION, "attention")                                                                                 \
    PROF(ACT, "activation, gates")                                                                               \
    PROF(ADD, "add")                                                                                             \
    PROF(CONV, "convolution")                                                                                    \
    PROF(SCAN, "scan")                                                                                           \
    PROF(HEAD, "head")                                                                                           \
    PROF(SAMPLE, "sampling")

typedef enum prof_op {
#define PROF(id, name) PROF_##id,
    PROF_TABLE(PROF)
#undef PROF
    PROF_OPS
} prof_op;
typedef enum prof_phase { PROF_PREFILL, PROF_DECODE, PROF_PHASES } prof_phase;
typedef enum prof_unit { PROF_NO_UNIT, PROF_INT8, PROF_BF16, PROF_F32 } prof_unit; /* what multiplies: whose peak is the limit */

typedef struct prof_slot {
    prof_op op;
    const char *label; /* static text: role of the weights, what is fused; NULL */
    int format;        /* quant_type of the weights, or -1 */
    prof_unit unit;
    uint64_t calls, ns, bytes, ops;
} prof_slot;

enum { PROF_SLOTS = 96 }; /* a phase: those of PROF_TABLE, then labelled ones as they come */
typedef struct prof_thread {
    _Alignas(64) uint64_t last;
    prof_phase phase;
    unsigned current, n[PROF_PHASES];
    prof_slot slots[PROF_PHASES][PROF_SLOTS];
} prof_thread;

typedef struct prof {
    int n_threads;
    uint64_t passes[PROF_PHASES], tokens[PROF_PHASES], pass_ns[PROF_PHASES]; /* by the caller of the pool */
    prof_thread *threads;
} prof;

/* NULL when out of memory. */
prof *prof_open(int n_threads);
void prof_close(prof **p);
void prof_clear(prof *p);
/* A thread's pass begins (in OTHER) and ends. */
prof_thread *prof_begin(prof *p, int ith, prof_phase phase);
void prof_end(prof_thread *t);
/* Ends the present operation and begins another. label: static text or NULL; format: -1 for none. */
void prof_enter(prof_thread *t, prof_op op, const char *label, int format);
/* The present operation reads `bytes` and computes `ops` multiplications and additions. */
void prof_count(prof_thread *t, prof_unit unit, uint64_t bytes, uint64_t ops);
const char *prof_op_name(prof_op op);
/* What all threads did in a phase, longest first, into rows[cap]: ns is their mean, calls the most of any, bytes and ops
 * the sums. Returns how many there are. */
size_t prof_rows(const prof *p, prof_phase phase, prof_slot *rows, size_t cap);

#endif
