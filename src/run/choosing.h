/* choosing.h: the engines of mote_classify and mote_extract (mote/choose.h). */
#ifndef MOTE_RUN_CHOOSING_H
#define MOTE_RUN_CHOOSING_H

#include "mote/choose.h"
#include "run/run.h"

mote_status choose_label(mote_session *s, size_t seq, str text, const char *const *labels, size_t n, double *probability, mote_error *err);
mote_status choose_spans(mote_session *s, size_t seq, str text, const char *const *fields, size_t n, mote_span *out, mote_error *err);

#endif
