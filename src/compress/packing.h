/* packing.h: the engines of `mote pack` and `mote export`. Options and results: mote/pack.h. */
#ifndef MOTE_COMPRESS_PACKING_H
#define MOTE_COMPRESS_PACKING_H

#include "base/base.h"
#include "mote/pack.h"

mote_status pack_run(const char *in, const char *out, mote_pack_result *r, mote_error *err);
mote_status export_run(const char *in, const char *out, mote_pack_result *r, mote_error *err);

#endif
