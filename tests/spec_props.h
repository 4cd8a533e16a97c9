/* spec_props.h: what must hold of speculation for any model: the tokens, the caches and the logits afterwards are
 * those of plain decoding, whatever is guessed, however much of it is wrong. */
#ifndef MOTE_TESTS_SPEC_PROPS_H
#define MOTE_TESTS_SPEC_PROPS_H

#include "mote/mote.h"

typedef struct spec_props_opts {
    const char *cache_type;
    bool exact, quick;
    uint64_t seed;
} spec_props_opts;

typedef struct spec_props_result {
    size_t n_tokens, n_guessed, n_accepted; /* over all generations that were compared */
    size_t n_by_heads; /* of n_guessed */
} spec_props_result;

mote_status spec_props(const char *path, const spec_props_opts *o, spec_props_result *r, mote_error *err);

#endif
