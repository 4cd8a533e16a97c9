/* api_quantize.c: bodies of mote/compress.h. */
#include "compress/quantize.h"
#include "compress/rules.h"

mote_status mote_quantize(const char *in, const char *out, const mote_quantize_options *options,
                          mote_quantize_report *report, mote_error *err) {
    if (!options) FAIL(err, MOTE_E_USAGE, "no options: at least a type is needed");
    return compress_quantize(in, out, options, NULL, report, err);
}

void mote_quantize_report_free(mote_quantize_report *report) {
    compress_report_free(report);
}

const char *mote_quantize_type(size_t i, const char **about) {
    if (i >= FTYPE_COUNT) return NULL;
    if (about) *about = ftypes[i].about;
    return ftypes[i].name;
}
