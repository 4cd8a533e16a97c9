/* distill_run.h: the body of mote_distill. */
#ifndef MOTE_COMPRESS_DISTILL_RUN_H
#define MOTE_COMPRESS_DISTILL_RUN_H

#include "mote/distill.h"

mote_status compress_distill(const mote_distill_options *o, mote_distill_report *r, mote_error *err);

#endif
