/* provenance.h: how a model was made, noted in its own metadata.
 *
 *   mote.make           a JSON text: recipe, source, stages, figures (docs/formats/gguf.md)
 *   mote.make.weights   the SHA-256 of the tensors it speaks of: names, shapes, types and bytes as they lie in the file
 *
 * The digest tells a copy from a model that was changed later and carries the entry along. */
#ifndef MOTE_FORMAT_PROVENANCE_H
#define MOTE_FORMAT_PROVENANCE_H

#include "format/format.h"

/* The GGUF file `in` with the entry `made` and those of `more` [n_more], as `out`; all else stays as it lies there, coded and shared tensors too. */
mote_status provenance_write(const char *in, const char *out, str made, const kv *more, size_t n_more, mote_error *err);
/* Whether the file's weights are those that its entry speaks of. E_NOT_FOUND: it has none. */
mote_status provenance_check(const char *path, bool *same, mote_error *err);

#endif
