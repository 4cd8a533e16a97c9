/* model_file.h: what is in a model file, without loading the model: metadata and tensors.
 *
 * GGUF 2 and 3 (one file, or any part of a split one) and Hugging Face folders look the same here: a folder is
 * shown with GGUF's names and keys. Nothing in the file is trusted: opening checks every count, offset and size.
 * An open file is immutable. Thread: any. Strings and elements live as long as the file is open; they are
 * (pointer, length), may contain any byte, and are not NUL-terminated. */
#ifndef MOTE_MODEL_FILE_H
#define MOTE_MODEL_FILE_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mote_file mote_file;

typedef struct mote_text {
    const char *p;
    size_t n;
} mote_text;

typedef enum mote_kind { MOTE_KIND_INT, MOTE_KIND_UINT64, MOTE_KIND_FLOAT, MOTE_KIND_BOOL, MOTE_KIND_TEXT, MOTE_KIND_ARRAY } mote_kind;

/* One metadata entry, or one element of an array (then key is empty). */
typedef struct mote_meta {
    mote_text key;
    mote_kind kind;
    const char *type; /* GGUF's name: "u32", "str", "arr[f32]" */
    int64_t i;        /* INT, BOOL; UINT64: the bits */
    double f;         /* FLOAT */
    mote_text text;   /* TEXT */
    uint64_t count;   /* ARRAY: number of elements */
} mote_meta;

typedef struct mote_tensor {
    mote_text name;
    mote_text origin; /* its name in a Hugging Face folder; else equal to name */
    const char *type; /* "f32", "q4_K" */
    int n_dims;
    uint64_t ne[4]; /* ne[0] is the row length; unused dimensions are 1 */
    uint64_t n_weights, size_bytes;
} mote_tensor;

/* *out is owned by the caller, NULL on failure. Errors: NOT_FOUND, IO, FORMAT, UNSUPPORTED, LIMIT, MEMORY. */
MOTE_API mote_status mote_file_open(mote_file **out, const char *path, mote_error *err);
MOTE_API void mote_file_close(mote_file **f); /* takes NULL, sets NULL */
MOTE_API uint64_t mote_file_bytes(const mote_file *f); /* on disk, all parts */

MOTE_API size_t mote_file_n_meta(const mote_file *f);
/* i must be below mote_file_n_meta. */
MOTE_API mote_meta mote_file_meta(const mote_file *f, size_t i);
/* Element `at` of the array entry i; NOT_FOUND when i is no array or `at` is out of range. */
MOTE_API mote_status mote_file_meta_at(const mote_file *f, size_t i, uint64_t at, mote_meta *out);
/* The index of a key, or SIZE_MAX. */
MOTE_API size_t mote_file_find_meta(const mote_file *f, const char *key);

MOTE_API size_t mote_file_n_tensors(const mote_file *f);
/* i must be below mote_file_n_tensors. */
MOTE_API mote_tensor mote_file_tensor(const mote_file *f, size_t i);

/* `mote make` notes in the metadata entry "mote.make" how a model was made: a JSON text with recipe, source, stages and figures
 * (docs/formats/gguf.md). *same: whether the file's weights are still those it speaks of. Errors: NOT_FOUND (nothing is noted, or no file), IO,
 * FORMAT, MEMORY. */
MOTE_API mote_status mote_file_check_made(const char *path, bool *same, mote_error *err);

#define MOTE_SHA256_HEX 65 /* 64 digits and NUL */
/* The SHA-256 of a file's content, in hexadecimal. Errors: NOT_FOUND, IO, MEMORY. */
MOTE_API mote_status mote_file_sha256(const char *path, char hex[MOTE_SHA256_HEX], mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
