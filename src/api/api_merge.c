/* api_merge.c: bodies of mote/merge.h. */
#include "mote/merge.h"

#include "api/api_int.h"
#include "compress/merging.h"

void mote_merge_opts_fill(mote_merge_opts *o, size_t size) {
    const mote_merge_opts d = {.size = sizeof d};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_merge(const mote_merge_opts *o, mote_merge_result *r, mote_error *err) {
    mote_merge_opts own = mote_merge_opts_default();
    mote_merge_result result = {.size = sizeof result};
    API_NEED(o, err);
    TRY(api_merge(&own, sizeof own, o, err));
    mote_status s = merge_run(&own, &result, err);
    api_result(r, &result, sizeof result);
    return s;
}
