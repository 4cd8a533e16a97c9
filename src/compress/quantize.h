/* quantize.h: the engine of `mote quantize`. Options, report and errors: mote/compress.h. */
#ifndef MOTE_COMPRESS_QUANTIZE_H
#define MOTE_COMPRESS_QUANTIZE_H

#include "base/base.h"
#include "format/format.h"
#include "mote/compress.h"

/* Where the importance of columns comes from (an importance matrix): find returns ne[0] * ne[2] values for a
 * tensor (one row of values per expert) and sets *n, or returns NULL. They stay valid during the call. */
typedef struct quantize_importance {
    const float *(*find)(void *ctx, str tensor, size_t *n);
    void *ctx;
    /* What the output says about it (quantize.imatrix.*); file NULL: nothing. */
    const char *file, *dataset, *hash;
    size_t n_entries, n_chunks;
} quantize_importance;

/* importance may be NULL. */
mote_status compress_quantize(const char *in, const char *out, const mote_quantize_options *o,
                              const quantize_importance *importance, mote_quantize_report *report,
                              mote_error *err);

/* Numbers that are not the file's: calibrated methods have chosen them already. What find returns stays valid during the call. */
typedef struct quantize_source {
    /* *values: what the tensor's numbers are, f32, or NULL: the file's. *bytes: how they are written in `to`, the type that the
     * rules choose, or NULL: they are encoded. */
    void (*find)(void *ctx, str tensor, quant_type to, const float **values, const void **bytes);
    void *ctx;
    mote_status (*declare)(void *ctx, gguf_writer *w, mote_error *err); /* adds metadata; or NULL */
} quantize_source;
mote_status compress_quantize_from(const char *in, const char *out, const mote_quantize_options *o,
                                   const quantize_importance *importance, const quantize_source *source,
                                   mote_quantize_report *report, mote_error *err);
void compress_report_free(mote_quantize_report *report);

#endif
