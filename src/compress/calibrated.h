/* calibrated.h: whole models through the calibrated methods. Options and report: mote/calibrate.h. */
#ifndef MOTE_COMPRESS_CALIBRATED_H
#define MOTE_COMPRESS_CALIBRATED_H

#include "base/base.h"
#include "mote/calibrate.h"

mote_status compress_calibrated(const char *in, const char *out, const mote_calibrate_options *o, mote_calibrate_report *report,
                                mote_error *err);
void compress_calibrated_free(mote_calibrate_report *report);

#endif
