/* merging.h: the engine of `mote merge`. Options and results: mote/merge.h. */
#ifndef MOTE_COMPRESS_MERGING_H
#define MOTE_COMPRESS_MERGING_H

#include "base/base.h"
#include "mote/merge.h"

/* out[n] = a and b merged by `method` with the share t of b. base[n]: what both come from (ties, dare), else NULL. */
mote_status merge_arrays(float *out, const float *a, const float *b, const float *base, size_t n, const char *method, double t, double density,
                         uint64_t seed, mote_error *err);
mote_status merge_run(const mote_merge_opts *o, mote_merge_result *r, mote_error *err);

#endif
