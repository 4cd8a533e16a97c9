/* api_quantize.c: bodies of mote/compress.h. */
#include "compress/budget.h"
#include "compress/importance.h"
#include "compress/rules.h"

mote_status mote_quantize(const char *in, const char *out, const mote_quantize_options *options,
                          mote_quantize_report *report, mote_error *err) {
    if (!options) FAIL(err, MOTE_E_USAGE, "no options: at least a type is needed");
    const mote_quantize_options *o = options;
    bool budget = o->target_bytes > 0 || o->target_bpw != 0;
    if (budget && o->target_bytes && o->target_bpw != 0) FAIL(err, MOTE_E_USAGE, "a budget is a size or bits per weight, not both");
    if (!o->imatrix) return (budget ? budget_quantize : compress_quantize)(in, out, o, NULL, report, err);
    imatrix_source source;
    mote_status s = imatrix_source_open(&source, o->imatrix, o->include_weights, o->n_include_weights, o->exclude_weights, o->n_exclude_weights, err);
    if (s == MOTE_OK) s = (budget ? budget_quantize : compress_quantize)(in, out, o, &source.importance, report, err);
    imatrix_source_free(&source);
    return s;
}

void mote_quantize_report_free(mote_quantize_report *report) {
    compress_report_free(report);
}

const char *mote_quantize_type(size_t i, const char **about) {
    if (i >= FTYPE_COUNT) return NULL;
    if (about) *about = ftypes[i].about;
    return ftypes[i].name;
}
