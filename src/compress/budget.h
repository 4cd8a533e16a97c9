/* budget.h: which format each tensor gets so that a file of a given size errs least. */
#ifndef MOTE_COMPRESS_BUDGET_H
#define MOTE_COMPRESS_BUDGET_H

#include "compress/quantize.h"

/* compress_quantize under o->target_bytes or o->target_bpw instead of o->type. Errors: also E_RANGE where the budget cannot be met (with the
 * least that can be), E_USAGE where the calibration text is too short. */
mote_status budget_quantize(const char *in, const char *out, const mote_quantize_options *o, const quantize_importance *importance,
                            mote_quantize_report *report, mote_error *err);

/* One way to store a tensor. */
typedef struct budget_point {
    uint64_t bytes;
    double cost;
    int type;
} budget_point;
/* Sorts n points by size and keeps those that err less than all smaller ones. Returns how many. */
size_t budget_front(budget_point *p, size_t n);
/* Chooses one point for each of n tensors (fronts side by side: tensor i has points [first[i], first[i + 1]), at most 255) within `bytes`, so
 * that the sum of costs is small: the least there is but for what rounding the sizes to a 2^14th of the room costs. chosen[i]: the
 * place of its point. *least: the bytes of the smallest points. Errors: E_RANGE (even these are too large), E_MEMORY. */
mote_status budget_choose(const budget_point *p, const size_t *first, size_t n, uint64_t bytes, size_t *chosen, uint64_t *least, mote_error *err);

#endif
