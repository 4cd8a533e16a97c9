/* peak.h: what a core can do at most: loops of multiplications that stay in registers, and plain reads. They compute
 * nothing that anybody needs; `mote bench --machine` times them, and results are compared with these limits. */
#ifndef MOTE_KERNEL_PEAK_H
#define MOTE_KERNEL_PEAK_H

#include "kernel/kernel.h"

typedef enum kern_unit { KERN_INT8, KERN_BF16, KERN_F32, KERN_UNITS } kern_unit;

/* io: 64-byte aligned. Bytes 0 and 64: the two operands (kern_peak_fill); from byte 128 on, 64 bytes apart, the
 * accumulators, which are read, advanced by `times` products each and written back. */
enum { KERN_PEAK_FORMS = 3, KERN_PEAK_ACCS = 24, KERN_PEAK_IO = 128 + 64 * KERN_PEAK_ACCS };
typedef void kern_peak_fn(size_t times, void *io);

/* One instruction (or the shortest sequence of them) that multiplies and accumulates. How many accumulators hide its
 * latency differs from core to core: there are three forms, and the fastest counts. */
typedef struct kern_peak {
    const char *name; /* "vpdpbusd zmm" */
    kern_unit unit;
    unsigned lanes, ops; /* 32-bit lanes of an accumulator; multiplications and additions of one step of it */
    struct {
        kern_peak_fn *run;
        unsigned n; /* accumulators */
    } form[KERN_PEAK_FORMS];
} kern_peak;

enum { KERN_PEAKS_MAX = 12 };
typedef struct kern_peaks {
    const kern_peak *peak[KERN_PEAKS_MAX]; /* of all rungs that the mask allows */
    size_t n;
    /* Reads n bytes (a multiple of 2048) at p, in one ascending stream or in four a quarter apart. The result is of no
     * meaning. */
    uint64_t (*read)(const void *p, size_t n);
    uint64_t (*read4)(const void *p, size_t n);
} kern_peaks;
/* Thread: any. mask: as kern_table_init. */
void kern_peaks_init(kern_peaks *p, uint32_t mask);

/* Operands that are not trivial, zero accumulators. After `times` steps of any form every lane of its accumulators holds
 * times · kern_peak_step (int8: modulo 2^32). */
void kern_peak_fill(const kern_peak *p, void *io);
double kern_peak_step(const kern_peak *p);

/* What the folders of the ISAs add. */
void kern_peaks_isa(kern_peaks *p, uint32_t flags);
static inline void kern_peaks_add(kern_peaks *p, const kern_peak *k) {
    if (p->n < KERN_PEAKS_MAX) p->peak[p->n++] = k;
}

#endif
