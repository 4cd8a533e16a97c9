/* tiny_model.h: a model small enough for tests that have no golden data: family "llama", random weights, a
 * SentencePiece vocabulary of the 256 bytes, some pieces, and control tokens for chat and fill-in-the-middle.
 */
#ifndef MOTE_TESTS_TINY_MODEL_H
#define MOTE_TESTS_TINY_MODEL_H

#include "format/format.h"

enum {
    TINY_BOS = 1,
    TINY_EOS = 2,
    TINY_IM_START = 3,
    TINY_IM_END = 4,
    TINY_PRE = 5,
    TINY_SUF = 6,
    TINY_MID = 7
};
#define TINY_VOCAB 320
#define TINY_CTX 256
#define TINY_MORE_MAX 200

typedef struct tiny_opts {
    quant_type type;  /* of the matrices: QUANT_F32 (0), QUANT_Q8_0, QUANT_Q4_0 */
    bool nan_weight;  /* one weight of the output is NaN */
    bool no_tokenizer, no_fim;
    const char *template_text; /* NULL: ChatML */
    unsigned n_more_unused; /* so many more unused tokens at the end, up to TINY_MORE_MAX */
    unsigned times;         /* rows of 64 and 128 weights, so many times (0: once): 4 for super-blocks of 256, 3 for groups of 96 and 192 */
    unsigned n_layer;       /* 0: 2 */
    uint64_t seed;
} tiny_opts;
mote_status tiny_model_write(const char *path, const tiny_opts *o, mote_error *err);

/* A text of 120 lines of 12 words to train it on, each a text of its own. false: not written. */
bool tiny_text_write(const char *path);

#endif
