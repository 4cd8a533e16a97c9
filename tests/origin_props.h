/* origin_props.h: what must hold of the way back to a Hugging Face folder (src/format/origin.h), for any family. */
#ifndef MOTE_TESTS_ORIGIN_PROPS_H
#define MOTE_TESTS_ORIGIN_PROPS_H

#include "format/origin.h"

typedef struct origin_props_result {
    size_t n_tensors, n_exact; /* of the folder; of them, written bit for bit */
    double worst;              /* greatest difference of the others, relative to the largest value of the tensor */
    const char *unused;        /* "" or one of the folder's tensors that gradients do not reach */
} origin_props_result;

/* dir: a folder with one model.safetensors; scratch: an empty folder to write to. A second folder is made whose numbers
 * are other ones; its opened tensors, sent back through the first folder's origins, must give the second folder's file.
 * And the gradient of the sum of all opened elements must be the derivative of each one's form. */
mote_status origin_props(const char *dir, const char *scratch, origin_props_result *r, mote_error *err);

#endif
