/* api_pack.c: bodies of mote/pack.h. */
#include "mote/pack.h"

#include "api/api_int.h"
#include "compress/packing.h"

typedef mote_status pack_fn(const char *in, const char *out, mote_pack_result *r, mote_error *err);

static mote_status call(pack_fn *fn, const char *in, const char *out, mote_pack_result *r, mote_error *err) {
    mote_pack_result result = {.size = sizeof result};
    API_NEED(in, err);
    API_NEED(out, err);
    mote_status s = fn(in, out, &result, err);
    api_result(r, &result, sizeof result);
    return s;
}

mote_status mote_pack(const char *in, const char *out, mote_pack_result *r, mote_error *err) { return call(pack_run, in, out, r, err); }
mote_status mote_export(const char *in, const char *out, mote_pack_result *r, mote_error *err) { return call(export_run, in, out, r, err); }
