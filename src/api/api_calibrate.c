/* api_calibrate.c: bodies of mote/calibrate.h. */
#include "compress/calibrated.h"

mote_status mote_calibrate(const char *in, const char *out, const mote_calibrate_options *options, mote_calibrate_report *report,
                           mote_error *err) {
    if (!options) FAIL(err, MOTE_E_USAGE, "no options: at least a text and a method are needed");
    return compress_calibrated(in, out, options, report, err);
}

void mote_calibrate_report_free(mote_calibrate_report *report) {
    compress_calibrated_free(report);
}
