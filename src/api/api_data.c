/* api_data.c: bodies of mote/prepare.h. */
#include "api/api_int.h"
#include "mote/prepare.h"
#include "train/calib_text.h"
#include "train/curate.h"

mote_status mote_data_prepare(const char *const *paths, size_t n_paths, const char *out, const mote_data_options *options,
                              mote_data_report *report, mote_error *err) {
    static const mote_data_options defaults = {0};
    API_NEED(paths, err);
    API_NEED(out, err);
    return curate_prepare(paths, n_paths, out, options ? options : &defaults, report, err);
}

const char *mote_calibration_text(size_t *n_bytes) {
    str text = calibration_text();
    *n_bytes = text.n;
    return text.p;
}

const char *mote_data_reason_text(int reason) {
    static const char *const texts[] = {
#define MOTE_DATA_REASON_TEXT(name, text) text,
        MOTE_DATA_REASON_MAP(MOTE_DATA_REASON_TEXT)
#undef MOTE_DATA_REASON_TEXT
    };
    return reason >= 0 && (size_t)reason < COUNT_OF(texts) ? texts[reason] : NULL;
}
