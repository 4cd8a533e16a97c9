/* api_distill.c: the body of mote/distill.h. */
#include "mote/distill.h"

#include "api/api_int.h"
#include "compress/distill_run.h"

mote_status mote_distill(const mote_distill_options *options, mote_distill_report *report, mote_error *err) {
    API_NEED(options, err);
    return compress_distill(options, report, err);
}
