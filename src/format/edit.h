/* edit.h: a model file with changes, written as a new GGUF file.
 *
 * Whatever is not changed is copied from the source, which is not touched and must outlive the edit. The output is
 * written beside its place, synced and renamed: it is there whole or not at all. The path may be the source's own. */
#ifndef MOTE_FORMAT_EDIT_H
#define MOTE_FORMAT_EDIT_H

#include "format/format.h"

typedef struct model_edit model_edit;
mote_status edit_open(model_edit **out, const model_file *src, mote_error *err);
void edit_close(model_edit **e);
/* Metadata: set (copied; replaces) or drop. */
mote_status edit_set_kv(model_edit *e, const kv *k, mote_error *err);
mote_status edit_set_u32(model_edit *e, const char *key, uint32_t v, mote_error *err);
mote_status edit_set_f32(model_edit *e, const char *key, float v, mote_error *err);
mote_status edit_set_bool(model_edit *e, const char *key, bool v, mote_error *err);
mote_status edit_set_str(model_edit *e, const char *key, str v, mote_error *err);
mote_status edit_drop_kv(model_edit *e, const char *key, mote_error *err);
/* Tensors. put replaces the tensor of that name or adds one at the end. x: all elements, row-major, valid until edit_write; they are
 * encoded into `type` when written, with importance [ne0] per row (or per expert: [ne2, ne0]) or NULL. */
mote_status edit_put(model_edit *e, str name, quant_type type, int n_dims, const uint64_t *ne, const float *x,
                     const float *importance, mote_error *err);
/* The same with ready bytes. */
mote_status edit_put_bytes(model_edit *e, str name, quant_type type, int n_dims, const uint64_t *ne, const void *bytes, mote_error *err);
mote_status edit_drop(model_edit *e, str name, mote_error *err);
mote_status edit_rename(model_edit *e, str from, str to, mote_error *err);
mote_status edit_write(model_edit *e, const char *path, mote_error *err);

#endif
