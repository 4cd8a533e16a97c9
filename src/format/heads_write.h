/* heads_write.h: writing a heads file (heads.h; docs/formats/heads.md). */
#ifndef MOTE_FORMAT_HEADS_WRITE_H
#define MOTE_FORMAT_HEADS_WRITE_H

#include "format/heads.h"

typedef struct heads_value {
    size_t layer, offset;
    const float *norm; /* [n_embd]; of Medusa heads behind the first NULL */
    const float *w;    /* [n_embd, n_embd] */
    const float *v;    /* [n_embd, n_embd] for the drawn token, of Medusa heads; else NULL */
    const float *b;    /* [n_embd], or NULL: none */
    const float *gate; /* [n_embd + 2] of an exit, or NULL: none */
    float accuracy;    /* share of held-out places where the head's likeliest token is the model's own; negative: not measured */
} heads_value;

/* v: exits with ascending layers, Medusa heads with offsets 1, 2, … type: of the W and V; the vectors are F32. tokens[n_tokens]: those that guesses are
 * among, ascending; none: not said. The file is there whole or not at all.
 * E_RANGE: a head that cannot be; E_USAGE: a type that cannot be written or whose blocks do not divide n_embd; E_OUTPUT: a number that is
 * not finite, by the tensor's name. */
mote_status heads_write(const char *path, const heads_base *base, const heads_value *v, size_t n, const int32_t *tokens, size_t n_tokens, quant_type type,
                        mote_error *err);

#endif
