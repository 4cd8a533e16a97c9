/* importance.h: importance matrices: for each weight the sums of the squares of what it is multiplied with, column by
 * column (of experts for each alone), over a calibration text.
 *
 * The error that a rounded weight makes in its output is Σ_j E[x_j²] Δw_j² when inputs are uncorrelated: so these means are
 * the weights of the squared error in encoders (Σ / count: imatrix_means).
 *
 * Files are llama-imatrix's: GGUF (NAME.in_sum2 [columns, matrices] and NAME.counts [1, matrices], both F32, imatrix.datasets,
 * .chunk_count, .chunk_size), or the older .dat, which holds means times the number of chunks. */
#ifndef MOTE_COMPRESS_IMPORTANCE_H
#define MOTE_COMPRESS_IMPORTANCE_H

#include "compress/quantize.h"
#include "mote/imatrix.h"

typedef struct imatrix_entry {
    char *name;               /* of the weight: "blk.0.attn_q.weight" */
    size_t n_values, n_counts; /* all matrices' columns; counts: one per matrix, or one for all */
    double *sums;             /* [n_values] */
    double *counts;           /* [n_counts] rows that were seen */
} imatrix_entry;

typedef struct imatrix {
    imatrix_entry *entries;   /* sorted by name */
    size_t n, cap;
    char **datasets;
    size_t n_datasets, cap_datasets;
    size_t n_chunks, chunk_size;
} imatrix;

#define IMATRIX_CHUNK_DEFAULT 512
#define IMATRIX_VALUES_MAX ((size_t)1 << 28) /* of one weight */

void imatrix_free(imatrix *m); /* m itself is the caller's; all zero is an empty one */
/* NULL when absent. */
const imatrix_entry *imatrix_find(const imatrix *m, str name);
/* Adds sums and counts to the entry of this name, which is made when it is new. Error: E_MISMATCH for other sizes. */
mote_status imatrix_add(imatrix *m, str name, const double *sums, size_t n_values, const double *counts, size_t n_counts, mote_error *err);
mote_status imatrix_add_dataset(imatrix *m, str name, mote_error *err);
/* Adds what the file holds. chunk_size (0: the default): the rows of a chunk, for .dat files, which do not say. */
mote_status imatrix_read(imatrix *m, const char *path, size_t chunk_size, mote_error *err);
/* The same from memory. This is what is fuzzed. */
mote_status imatrix_parse(imatrix *m, const unsigned char *p, size_t n, const char *path, size_t chunk_size, mote_error *err);
mote_status imatrix_write(const imatrix *m, const char *path, bool legacy, mote_error *err);
/* dst[n_values] = mean square of each column; 1 for matrices that were never met. */
void imatrix_means(const imatrix_entry *e, float *dst);

/* As the source of a quantization: means of all entries whose names pass, made once. */
typedef struct imatrix_source {
    imatrix m;
    float **means; /* [m.n] NULL: left out */
    quantize_importance importance;
    size_t n_used;
    char path[1024], hash[65]; /* of the file's bytes */
} imatrix_source;
/* include, exclude: parts of names, or none. s is to be freed with imatrix_source_free, whatever comes back. */
mote_status imatrix_source_open(imatrix_source *s, const char *path, const char *const *include, size_t n_include,
                                const char *const *exclude, size_t n_exclude, mote_error *err);
void imatrix_source_free(imatrix_source *s);

/* collect.c: reads `text` in windows through the session and writes the matrix; mote/imatrix.h. */
struct mote_session;
mote_status imatrix_collect(struct mote_session *s, str text, const mote_imatrix_opts *o, mote_imatrix_result *r, mote_error *err);
/* imatrix_stats.c */
mote_status imatrix_statistics(const imatrix *m, mote_imatrix_stats *out, mote_error *err);

#endif
