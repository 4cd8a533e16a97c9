/* session_props.h: what must hold for the sessions of every model, whatever its layers remember. */
#ifndef MOTE_TESTS_SESSION_PROPS_H
#define MOTE_TESTS_SESSION_PROPS_H

#include "mote/mote.h"

typedef struct props_opts {
    const char *cache_type; /* "f16" */
    bool exact;
    size_t n_ids;           /* length of the text */
    size_t n_ctx;
    uint64_t seed;
    bool quick;             /* fewer rounds: large models */
} props_opts;

/* Feeds random tokens to sessions of the model at path in many ways: random cuts, other numbers of threads,
 * other batch sizes, several sequences at once, truncation, prefix reuse, checkpoints, copies, files. Every
 * logit must be the same bit for bit. On failure *err tells which way differed. */
mote_status session_props(const char *path, const props_opts *o, mote_error *err);

#endif
