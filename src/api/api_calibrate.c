/* api_calibrate.c: bodies of mote/calibrate.h. */
#include "compress/calibrated.h"
#include "compress/recipe.h"

mote_status mote_calibrate(const char *in, const char *out, const mote_calibrate_options *options, mote_calibrate_report *report,
                           mote_error *err) {
    if (!options) FAIL(err, MOTE_E_USAGE, "no options: at least a text and a method are needed");
    return compress_calibrated(in, out, options, report, err);
}

mote_status mote_compress(const char *in, const char *out, const char *path, const mote_calibrate_options *options,
                          mote_calibrate_report *report, mote_error *err) {
    recipe r = {0};
    model_file *f = NULL;
    if (!in || !*in || !path || !*path || !options) FAIL(err, MOTE_E_USAGE, "a model, a recipe and options are needed");
    mote_status s = recipe_open(&r, path, options, err);
    if (s == MOTE_OK) s = model_file_open(&f, in, 0, err);
    if (s == MOTE_OK) s = recipe_bind(&r, f, err);
    if (s == MOTE_OK) s = compress_calibrated(in, out, &r.o, report, err);
    model_file_close(&f);
    recipe_free(&r);
    return s;
}

void mote_calibrate_report_free(mote_calibrate_report *report) {
    compress_calibrated_free(report);
}
