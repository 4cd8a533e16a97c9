/* adapter.h: low-rank adapters (LoRA): W' = W + scale · B A for some of a model's matrices.
 *
 * In memory they have GGUF's names and layouts, whatever file they came from:
 *   - GGUF as llama.cpp has it: general.type "adapter", adapter.type "lora", adapter.lora.alpha, and for a tensor T the
 *     tensors T.lora_a [rank, cols] and T.lora_b [rows, rank]; scale = alpha / rank. DoRA's magnitudes are T.lora_m here.
 *   - PEFT: a folder with adapter_config.json and adapter_model.safetensors under transformers' module names.
 *
 * Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA: scale = alpha / sqrt(rank)), Liu et al. 2024 (DoRA:
 * W' = m · V / ‖V‖ row by row, V = W + scale · B A, eq. 5; a row is an output). */
#ifndef MOTE_FORMAT_ADAPTER_H
#define MOTE_FORMAT_ADAPTER_H

#include "format/format.h"

#define ADAPTER_RANK_MAX 65536u

typedef struct adapter_pair {
    str name;               /* of the base tensor, in GGUF: "blk.0.attn_q.weight" */
    size_t rows, cols, rank;
    float *a, *b;           /* [rank, cols], [rows, rank] */
    float *m;               /* [rows] DoRA's magnitudes, or NULL */
    float scale;
} adapter_pair;

typedef struct adapter {
    str arch;               /* of the base: general.architecture */
    adapter_pair *pairs;
    size_t n, cap;
    arena mem;
    float **owned;
    size_t n_owned, cap_owned;
} adapter;

/* An empty one for this base. */
mote_status adapter_new(adapter **out, const model_file *base, mote_error *err);
/* path: a GGUF file, or a folder in PEFT's form. Every name, shape, rank and number is checked against `base`:
 * E_MISMATCH names the tensor and both shapes. */
mote_status adapter_open(adapter **out, const char *path, const model_file *base, mote_error *err);
void adapter_close(adapter **ad);
/* Adds a pair of zeros for the tensor t (with magnitudes when `dora`); *out until the next one is added. */
mote_status adapter_add(adapter *ad, const tensor_info *t, size_t rank, bool dora, adapter_pair **out, mote_error *err);
const adapter_pair *adapter_find(const adapter *ad, str name);

/* One alpha stands in the file: pairs whose scale is another than alpha / rank have it in their b. */
mote_status adapter_write_gguf(const adapter *ad, const char *path, mote_error *err);
/* dir is made when it is not there. Names are those of base's folder, or the usual ones of its family. */
mote_status adapter_write_peft(const adapter *ad, const model_file *base, const char *dir, mote_error *err);

/* w[rows, cols] of the pair's tensor += by · scale · B A (by 1: as trained); with magnitudes, DoRA's product. */
mote_status adapter_merge(const adapter_pair *p, float by, float *w, mote_error *err);

/* adapter_peft.c: the folder's reader, for adapter_open. */
mote_status adapter_read_peft(adapter *ad, const char *dir, const model_file *base, mote_error *err);

#endif
