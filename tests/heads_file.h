/* heads_file.h: heads files for tests that have no trained ones. */
#ifndef MOTE_TESTS_HEADS_FILE_H
#define MOTE_TESTS_HEADS_FILE_H

#include "format/heads.h"

typedef struct heads_plan {
    int32_t layer[HEADS_MAX], offset[HEADS_MAX];
    size_t n;
    float size;       /* of the random weights; 0: W is zero, and the norm the model's final one */
    quant_type type;  /* of the matrices; QUANT_F32 is 0 */
    bool bias;
    bool gate;        /* exits have one: about as sure as not, more or less by what they say */
    size_t n_likely;  /* tokens that guesses are among, every third; 0: none are named */
    uint64_t seed;
} heads_plan;
/* Heads for the model in base_path. */
mote_status heads_file_write(const char *path, const char *base_path, const heads_plan *p, mote_error *err);

#endif
