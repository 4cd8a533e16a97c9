/* compress.h: making a model smaller.
 *
 * mote_quantize reads a model (GGUF file, split files, or a Hugging Face folder) and writes a GGUF file whose
 * tensors lie in smaller number formats. Which tensor gets which format follows llama-quantize's rules for
 * the same type name; every departure from what was wanted is in the report. */
#ifndef MOTE_COMPRESS_H
#define MOTE_COMPRESS_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What became of one tensor. Strings live as long as the report. */
typedef struct mote_quantized_tensor {
    const char *name;
    int n_dims;
    uint64_t ne[4];     /* ne[0]: columns, the length of a row */
    const char *from;   /* number formats as "q4_K", "f16" */
    const char *wanted; /* what the type's rules ask for */
    const char *to;     /* what it got */
    const char *why;    /* why `to` is not `wanted`; NULL when it is */
    uint64_t bytes_from, bytes_to;
    double nmse; /* Σ (x - y)² / Σ x² of this conversion; 0 when copied, below 0 in a dry run */
} mote_quantized_tensor;

typedef struct mote_quantize_report {
    mote_quantized_tensor *tensors; /* in the order of the file */
    size_t n_tensors;
    size_t n_fallbacks; /* tensors with a `why` */
    size_t n_copied;    /* tensors whose bytes did not change */
    uint64_t n_weights, bytes_from, bytes_to; /* all tensors; without metadata and padding */
    double bpw_from, bpw_to;                  /* bits per weight, really: 8 bytes / weights */
    double nmse;                              /* over all converted tensors; below 0 in a dry run */
    double seconds;
    char type[24]; /* the type's full name: "Q4_K_M" */
    void *owned;   /* memory of the strings */
} mote_quantize_report;

/* A tensor whose name the regular expression matches (anywhere; letters of any case) gets this format. */
typedef struct mote_tensor_type {
    const char *pattern, *format;
} mote_tensor_type;

/* All zero is a good default, but for `type`. */
typedef struct mote_quantize_options {
    const char *type;                  /* "Q4_K_M", "q8_0", "15", "COPY"… (mote_quantize_type) */
    const mote_tensor_type *overrides; /* --tensor-type; the first that matches counts */
    size_t n_overrides;
    const char *output_format;          /* --output-tensor-type, or NULL: by the rules */
    const char *token_embedding_format; /* --token-embedding-type, or NULL */
    bool pure;                          /* --pure: one format for all, no mixture */
    bool dry_run;                       /* decide and report; write nothing (the output path may be NULL) */
    bool leave_output;                  /* --leave-output-tensor: output.weight stays as it is */
    bool allow_requantize;              /* --allow-requantize: from formats that are quantized already */
    int n_threads;                      /* 0: one per usable core */
    /* Called after each tensor; false cancels (MOTE_E_CANCELLED, no file is written). May be NULL. */
    bool (*progress)(void *ctx, const mote_quantized_tensor *t, size_t done, size_t n_tensors);
    void *progress_ctx;
    const char *imatrix;                /* --imatrix: an importance matrix (mote/imatrix.h), or NULL */
    const char *const *include_weights; /* only entries whose names contain one of these; or */
    const char *const *exclude_weights; /* … none of these */
    size_t n_include_weights, n_exclude_weights;
    /* Mixed precision under a budget, in place of `type`: the size of the whole file, or bits per weight over all tensors. Each tensor's
     * sensitivity is measured on a text, then formats are chosen among all that fit its columns. */
    uint64_t target_bytes;
    double target_bpw;
    const char *calibration;            /* the text's file; NULL: the one that is built in */
    const char *sensitivity;            /* a file for what is measured, so that a second budget for the same model costs little: read when it is
                                           of the same weights, matrix and text, else made; NULL: none */
} mote_quantize_options;

/* Quantizes the model at `in` into the file `out`, which appears only when it is complete (out may be in).
 * *report (may be NULL) is filled on success and freed with mote_quantize_report_free.
 * Errors: E_USAGE (type, format or pattern; a type that needs an importance matrix), E_MISMATCH (the matrix is of another model), E_UNSUPPORTED (a format without encoder, or requantizing without
 * leave), E_RANGE (a budget that cannot be met: says the least that can), E_FORMAT (damaged input, weights that are not finite), E_IO, E_MEMORY, E_CANCELLED. Thread: any. */
MOTE_API mote_status mote_quantize(const char *in, const char *out, const mote_quantize_options *options,
                                   mote_quantize_report *report, mote_error *err);
MOTE_API void mote_quantize_report_free(mote_quantize_report *report);

/* The i-th type that mote_quantize knows, and in *about one line on it; NULL beyond the last. */
MOTE_API const char *mote_quantize_type(size_t i, const char **about);

#ifdef __cplusplus
}
#endif
#endif
