/* hf_quantized.h: checkpoints that others have quantized (GPTQ, AWQ, compressed-tensors, FP8). */
#ifndef MOTE_FORMAT_HF_QUANTIZED_H
#define MOTE_FORMAT_HF_QUANTIZED_H

#include "format/hf_int.h"

/* config.json is read: a method that is not read is refused by name. */
mote_status hf_check_quantized(hf *h, mote_error *err);
/* The folder's tensors are collected and indexed: packed matrices are replaced by tensors that GGUF knows (F32, Q4_0, Q8_0),
 * owned by the model file; nothing happens where nothing is quantized. */
mote_status hf_unpack(hf *h, mote_error *err);

#endif
