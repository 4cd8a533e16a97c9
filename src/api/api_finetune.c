/* api_finetune.c: bodies of mote/finetune.h. */
#include "mote/finetune.h"

#include "api/api_int.h"
#include "train/finetune_run.h"

void mote_finetune_opts_fill(mote_finetune_opts *o, size_t size) {
    const mote_finetune_opts d = {.size = sizeof d};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_finetune(const mote_finetune_opts *o, mote_finetune_result *r, mote_error *err) {
    mote_finetune_opts own = mote_finetune_opts_default();
    mote_finetune_result result = {.size = sizeof result};
    API_NEED(o, err);
    TRY(api_merge(&own, sizeof own, o, err));
    mote_status s = finetune_run(&own, &result, err);
    api_result(r, &result, sizeof result);
    return s;
}
