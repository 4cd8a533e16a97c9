/* api_convert.c: body of mote/convert.h. */
#include "mote/convert.h"

#include "format/format_convert.h"

#include <strings.h>

mote_status mote_convert(const char *in, const char *out, const mote_convert_options *options, mote_error *err) {
    convert_opts o = {.type = -1};
    if (!in || !out) FAIL(err, MOTE_E_USAGE, "convert needs an input and an output");
    if (options) {
        o.progress = options->progress;
        o.ctx = options->progress_ctx;
        if (options->type && strcasecmp(options->type, "auto") != 0) {
            const quant_format *q = quant_by_name(options->type);
            if (!q || !q->encode)
                FAIL(err, MOTE_E_USAGE, "'%.40s' is no number format that can be written: try f32, f16, bf16 or q8_0",
                     options->type);
            o.type = (int)q->type;
        }
    }
    return format_convert(in, out, &o, err);
}
