/* format_convert.h: a model_file (a Hugging Face folder, or a GGUF) written as one GGUF. */
#ifndef MOTE_FORMAT_CONVERT_H
#define MOTE_FORMAT_CONVERT_H

#include "format/format.h"

typedef struct convert_opts {
    int type;  /* quant_type of the matrices, or -1: each keeps its own */
    int flags; /* of model_file_open */
    /* Called after each tensor; false cancels. NULL: not called. */
    bool (*progress)(void *ctx, size_t done, size_t total, const char *tensor);
    void *ctx;
} convert_opts;

/* Reads the folder (or GGUF file) `in` and writes `out`: names, keys and layouts as llama.cpp's. Vectors, norms
 * and routers stay float32; a matrix whose rows are no multiple of the type's block is written as F16.
 * Nothing is left behind on failure. */
mote_status format_convert(const char *in, const char *out, const convert_opts *opts, mote_error *err);

#endif
