/* convert.h: other checkpoints into GGUF.
 *
 * mote_convert reads a Hugging Face folder (config.json, safetensors, tokenizer.json and its companions) or a
 * GGUF, split ones too, and writes one GGUF with the names, metadata and layouts that llama.cpp's own converter
 * gives, so that mote and llama.cpp both run it. Python pickles (.bin, .pt) are never loaded. */
#ifndef MOTE_CONVERT_H
#define MOTE_CONVERT_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All zero is a good default. */
typedef struct mote_convert_options {
    /* Number format of the matrices: "f32", "f16", "bf16", "q8_0" or any other that can be written; NULL or
     * "auto": each stays as it is. Vectors, norms and routers are float32 in every case; a matrix whose rows do not
     * divide into the format's blocks becomes f16. Smaller formats, with rules per tensor: mote_quantize. */
    const char *type;
    /* Called after each tensor; false cancels (MOTE_E_CANCELLED, no file is written). May be NULL. */
    bool (*progress)(void *ctx, size_t done, size_t n_tensors, const char *tensor);
    void *progress_ctx;
} mote_convert_options;

/* Converts `in` into the file `out`, which appears only when it is complete. options may be NULL.
 * Errors: E_USAGE (type), E_NOT_FOUND, E_UNSUPPORTED (an architecture, a dtype, a quantized checkpoint or a pickle),
 * E_FORMAT (damaged input), E_MISMATCH (config and tensors disagree), E_IO, E_MEMORY, E_CANCELLED. Thread: any. */
MOTE_API mote_status mote_convert(const char *in, const char *out, const mote_convert_options *options,
                                  mote_error *err);

#ifdef __cplusplus
}
#endif

#endif
