/* api_heads.c: bodies of mote/train_heads.h. */
#include "mote/train_heads.h"

#include "api/api_int.h"
#include "train/heads_run.h"

_Static_assert(MOTE_TRAIN_HEADS_MAX == HEADS_MAX, "as many heads as a file holds");

void mote_train_heads_opts_fill(mote_train_heads_opts *o, size_t size) {
    const mote_train_heads_opts d = {.size = sizeof d};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_train_heads(const mote_train_heads_opts *o, mote_train_heads_report *r, mote_error *err) {
    mote_train_heads_opts own = mote_train_heads_opts_default();
    mote_train_heads_report *report = MEM_NEW(mote_train_heads_report); /* with all heads it is large for a stack */
    API_NEED(o, err);
    if (!report) FAIL(err, MOTE_E_MEMORY, "out of memory");
    report->size = sizeof *report;
    mote_status s = api_merge(&own, sizeof own, o, err);
    if (s == MOTE_OK) s = heads_run(&own, report, err);
    api_result(r, report, sizeof *report);
    mem_free(report);
    return s;
}
