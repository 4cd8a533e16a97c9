/* imatrix.h: importance matrices: which columns of each weight matter, measured on a calibration text. mote_quantize uses
 * them (mote_quantize_options.imatrix). The files are llama-imatrix's, both ways. */
#ifndef MOTE_IMATRIX_H
#define MOTE_IMATRIX_H

#include "mote/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero but `size` is a good default (mote_imatrix_opts_default). */
typedef struct mote_imatrix_opts {
    size_t size;
    const char *out;         /* the file to write; not NULL */
    bool legacy;             /* in the older .dat format */
    size_t n_ctx;            /* tokens of a window; the session must have as much. Default 512 */
    size_t n_chunks;         /* windows; 0: all there are */
    size_t first_chunk;      /* windows to skip */
    bool process_output;     /* also the output matrix (of tied models: the embedding) */
    bool parse_special;      /* control tokens in the text are parsed */
    bool no_ppl;             /* no perplexity: saves the head's work */
    const char *const *in;   /* matrices to add to */
    size_t n_in;
    const char *dataset;     /* what the text is called in the file, or NULL */
    size_t save_every;       /* also write OUT.at_N every so many windows; 0: not */
    size_t output_every;     /* write OUT itself every so many windows, so that little is lost; 0: at the end. Default 10 */
    int (*on_chunk)(void *ctx, size_t done, size_t total, double ppl); /* non-zero cancels; may be NULL */
    void *ctx;
} mote_imatrix_opts;
MOTE_API void mote_imatrix_opts_fill(mote_imatrix_opts *o, size_t size);
static inline mote_imatrix_opts mote_imatrix_opts_default(void) {
    mote_imatrix_opts o;
    mote_imatrix_opts_fill(&o, sizeof o);
    return o;
}

typedef struct mote_imatrix_result {
    size_t size;            /* set by the caller */
    size_t n_entries, n_chunks, n_tokens; /* chunks in all, files added to included; tokens of the text */
    size_t n_partial;       /* entries some of whose experts were never met */
    double ppl, ppl_error;  /* of the second halves of the windows; 0 with no_ppl */
} mote_imatrix_result;

/* Measures. The session (sequence 0 is used) should be opened with exact activations. Errors: E_USAGE (a text of less than two windows),
 * E_MISMATCH (a matrix to add to is of another model), E_OUTPUT (activations that are not finite), E_CANCELLED, E_IO. */
MOTE_API mote_status mote_imatrix(mote_session *s, const char *text, size_t n_bytes, const mote_imatrix_opts *o,
                                  mote_imatrix_result *result, mote_error *err);
/* Without a text: adds o->in up, and writes o->out (also to change the format). */
MOTE_API mote_status mote_imatrix_merge(const mote_imatrix_opts *o, mote_imatrix_result *result, mote_error *err);

/* What a file says of a weight: its columns' mean squares a_j, over all matrices that were met. */
typedef struct mote_imatrix_row {
    const char *name, *tensor; /* "blk.3.ffn_down.weight", "ffn_down" */
    int layer;                 /* -1: of none */
    size_t n;                  /* values */
    double total, mean, min, max, stddev;
    double active;             /* share above 1e-5 */
    double entropy;            /* of a / total, bits */
    double zd;                 /* share more than one standard deviation above the mean */
    double cossim;             /* cosine of its sums and those of the same tensor one layer before; 0: none */
} mote_imatrix_row;
typedef struct mote_imatrix_stats {
    mote_imatrix_row *rows;    /* by tensor, then by falling total */
    size_t n_rows, n_chunks, chunk_size;
    void *owned;
} mote_imatrix_stats;
MOTE_API mote_status mote_imatrix_statistics(const char *path, mote_imatrix_stats *out, mote_error *err);
MOTE_API void mote_imatrix_stats_free(mote_imatrix_stats *s);

#ifdef __cplusplus
}
#endif
#endif
