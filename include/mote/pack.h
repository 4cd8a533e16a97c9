/* pack.h: a model file made smaller on disk without any loss, and files that other engines read. */
#ifndef MOTE_PACK_H
#define MOTE_PACK_H

#include "mote/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mote_pack_result {
    size_t size;                    /* sizeof(mote_pack_result) */
    size_t n_tensors, n_changed;
    uint64_t n_weights;             /* of the changed tensors */
    uint64_t bytes_from, bytes_to;  /* of the changed tensors */
    uint64_t file_from, file_to;    /* of the files */
} mote_pack_result;

/* Writes the model at `in` to the GGUF file `out` with its tensors of Q4_96, Q3_96, Q2_96 and TQ1_192 entropy-coded: the same
 * weights in fewer bytes, decoded when the file is opened. Only mote reads such files. *r may be NULL.
 * Errors: E_UNSUPPORTED (no tensor of these formats), E_IO, E_FORMAT, E_MEMORY. */
MOTE_API mote_status mote_pack(const char *in, const char *out, mote_pack_result *r, mote_error *err);

/* Writes the model at `in` with every tensor in a format of GGUF's: entropy-coded ones decoded, those in mote's own formats in Q4_0, or
 * Q8_0 for Q8_0_24, which hold the very same weights. What llama.cpp runs. Errors: E_IO, E_FORMAT, E_MEMORY. */
MOTE_API mote_status mote_export(const char *in, const char *out, mote_pack_result *r, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
