/* machine.h: measures what this machine can do at most (include/mote/eval.h says what). */
#ifndef MOTE_TENSOR_MACHINE_H
#define MOTE_TENSOR_MACHINE_H

#include "base/base.h"
#include "mote/eval.h"

/* Up to n_threads threads, with the instruction sets that cpu_mask allows. Fills all but out->size. */
mote_status machine_measure(mote_machine *out, uint32_t cpu_mask, int n_threads, bool only_limits, mote_error *err);
double machine_read_limit(const mote_machine *m, double bytes);
double machine_peak_limit(const mote_machine *m, const char *unit);

#endif
