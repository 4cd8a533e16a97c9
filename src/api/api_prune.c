/* api_prune.c: bodies of mote/prune.h. */
#include "api/api_int.h"
#include "compress/pruning.h"

void mote_prune_opts_fill(mote_prune_opts *o, size_t size) {
    const mote_prune_opts d = {.size = sizeof d, .linear_window = 64, .linear_steps = 200, .block_top = 4};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_prune(const char *in, const char *out, const mote_prune_opts *opts, mote_prune_report *report, mote_error *err) {
    mote_prune_opts o = {.size = sizeof o};
    mote_prune_report r = {.size = sizeof r};
    API_NEED(in, err);
    API_NEED(out, err);
    TRY(api_merge(&o, sizeof o, opts, err));
    TRY(compress_prune(in, out, &o, &r, err));
    if (report) api_result(report, &r, sizeof r);
    else compress_prune_report_free(&r);
    return MOTE_OK;
}

void mote_prune_report_free(mote_prune_report *r) {
    if (r) compress_prune_report_free(r);
}
