/* prepare.h: texts made fit for training: filtered, without duplicates and without what is tested on later, in an order.
 *
 * mote_data_prepare reads text and JSONL files (as `mote train` does) document by document and writes those that pass, a
 * JSON line each; a report says what was left out and why, and under which licences the rest stands. */
#ifndef MOTE_PREPARE_H
#define MOTE_PREPARE_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a document is left out. X(NAME, "what the report calls it") */
#define MOTE_DATA_REASON_MAP(X)                                                                                     \
    X(BROKEN, "broken line, or not UTF-8") X(SHORT, "too short") X(LONG, "too long") X(REPEATS, "repeats itself")       \
    X(QUALITY, "unlike a text") X(SCRIPT, "other script") X(LANGUAGE, "other language") X(PRIVATE, "personal data")     \
    X(DUPLICATE, "duplicate") X(NEAR, "near duplicate") X(EVALUATION, "holds evaluation text") X(LOSS, "loss too high")
typedef enum mote_data_reason {
#define MOTE_DATA_REASON_ENUM(name, text) MOTE_DATA_##name,
    MOTE_DATA_REASON_MAP(MOTE_DATA_REASON_ENUM)
#undef MOTE_DATA_REASON_ENUM
    MOTE_DATA_REASONS
} mote_data_reason;

typedef enum mote_data_quality {
    MOTE_DATA_GENTLE, /* what no text or code is: hardly any letters, endless words, half of it said before */
    MOTE_DATA_GOPHER, /* for prose: the rules of Rae et al. 2021, table A1 */
    MOTE_DATA_ANY     /* no rules */
} mote_data_quality;
typedef enum mote_data_private { MOTE_DATA_PRIVATE_KEEP, MOTE_DATA_PRIVATE_REDACT, MOTE_DATA_PRIVATE_DROP } mote_data_private;
typedef enum mote_data_order { MOTE_DATA_AS_IS, MOTE_DATA_BY_LENGTH, MOTE_DATA_BY_LOSS, MOTE_DATA_BY_CHANCE } mote_data_order;

/* All zero is a good default; numbers that are 0 stand for the value in brackets. */
typedef struct mote_data_options {
    size_t min_words, max_words; /* [8], [no limit] */
    double max_repetition;       /* share of the letters that stand in five words said before [0.3; Gopher: 0.15] */
    mote_data_quality quality;
    const char *script;   /* "latin", "cyrillic", "han", …: at least 80 % of the letters; NULL: any */
    const char *language; /* "en", "de", "fr", "es", "it", "pt", "nl" by its commonest words; NULL: any */
    mote_data_private personal; /* e-mail and IP addresses, telephone and card numbers */
    bool keep_duplicates; /* exact ones: equal but for letter case and white space */
    double near;          /* documents this similar (Jaccard of five-word sequences) to an earlier one go [0.8]; 1: only exact ones */
    const char *const *evaluation; /* files whose text must not be learnt: any format, every line or JSON string of it */
    size_t n_evaluation;
    size_t evaluation_words; /* so many words in a row that stand in an evaluation file make a document one [13] */
    mote_data_order order;
    const char *model;    /* counts tokens, and measures the loss for BY_LOSS and max_loss; NULL: neither */
    double max_loss;      /* mean nats per token under the model [no limit] */
    int n_threads;
    uint64_t seed;        /* of BY_CHANCE */
    bool strict;          /* a broken line is an error */
    const char *rejected; /* a file for what is left out, with "reason"; NULL: none */
    /* Called now and then; false cancels (MOTE_E_CANCELLED, nothing is written). May be NULL. */
    bool (*progress)(void *ctx, double share, const char *what);
    void *progress_ctx;
} mote_data_options;

typedef struct mote_data_licence {
    char name[80]; /* of the documents' "licence" or "license"; "not stated" */
    size_t documents;
    uint64_t bytes;
} mote_data_licence;

typedef struct mote_data_report {
    size_t n_in, n_out;          /* documents */
    uint64_t bytes_in, bytes_out, words_out, tokens_out; /* of text; tokens 0 without a model */
    size_t left_out[MOTE_DATA_REASONS];
    uint64_t left_out_bytes[MOTE_DATA_REASONS];
    size_t n_redacted;           /* places with personal data */
    mote_data_licence licences[16]; /* most bytes first; the last may sum up the rest */
    size_t n_licences;
    double loss;                 /* mean nats per token of what stays; 0: not measured */
    char first_broken[256];      /* "FILE:LINE: why", or "" */
    char sha256[65];             /* of the output */
    double seconds;
} mote_data_report;

/* Writes the documents of `paths` that pass to `out` (JSONL; appears only when it is complete). report may be NULL.
 * Errors: E_USAGE, E_NOT_FOUND, E_FORMAT (strict; nothing left), E_LIMIT, E_MEMORY, E_IO, E_CANCELLED. Thread: any. */
MOTE_API mote_status mote_data_prepare(const char *const *paths, size_t n_paths, const char *out, const mote_data_options *options,
                                       mote_data_report *report, mote_error *err);
/* The default calibration text: *n_bytes of UTF-8, not NUL-terminated; static storage. A mixture of answers, continuations and code that a small
 * model wrote (Apache-2.0); commands that calibrate take it when they are given no text. */
MOTE_API const char *mote_calibration_text(size_t *n_bytes);
/* What the report calls a reason; NULL beyond the last. */
MOTE_API const char *mote_data_reason_text(int reason);

#ifdef __cplusplus
}
#endif
#endif
