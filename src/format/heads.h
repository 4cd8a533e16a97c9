/* heads.h: extra heads of a frozen model, in a file of their own beside it (as a LoRA adapter is): early exits, which read
 * the residual stream after some of the layers and tell the next token, and Medusa heads, which read it after the last
 * and tell a later one. docs/formats/heads.md is the format.
 *
 * An exit: h = norm(x) with the head's weight (the model's kind of norm and eps) on the residual stream x after `layer`
 * layers; z = h + W h + b; logits = the model's own output matrix (its scale, bias, cap) times z. With W = 0 and
 * the model's final norm, a head at the last layer is the model's own. What an inner layer lacks is mostly a linear map, which
 * needs no training by gradients: least squares give it.
 * Medusa heads follow each other: head 1 reads the last layer's stream in the same way and the token that was drawn there, head k the z of head k - 1
 * (h = z, no norm) and the token that was drawn or guessed behind it: z = h + W h + V u + b, u = that token's row of the embedding
 * divided by the root of its mean square.
 * How sure an exit is: with p the probability of its likeliest token, logit p' = gate · (z, 1, logit p): p' is the chance that the model's
 * likeliest token is the same. Without a gate p' = p.
 *
 * Sources: Belrose et al. 2023 (tuned lens: affine maps to the last layer's stream), Cai et al. 2024 (Medusa, §2.1: heads that tell later
 * tokens, under the model's output matrix), Ankner et al. 2024 (Hydra: heads that see the tokens before), Li et al. 2024 (EAGLE: the next row from
 * this one and the token), Zhao et al. 2025 (FR-Spec: guesses among frequent tokens), Elhoushi et al. 2024 (LayerSkip: exits share that matrix), Schuster et al. 2022 (CALM). */
#ifndef MOTE_FORMAT_HEADS_H
#define MOTE_FORMAT_HEADS_H

#include "format/format.h"

#define HEADS_MAX 64u /* heads in a file */
#define HEADS_AHEAD_MAX 16u /* the furthest token that a head tells: offset */

#define HEADS_KEY_LAYER "mote.heads.layer"       /* i32 [n]: after so many layers */
#define HEADS_KEY_OFFSET "mote.heads.offset"     /* i32 [n]: 0 the next token, k: k tokens further on */
#define HEADS_KEY_N_EMBD "mote.heads.n_embd"     /* u32 of the base, as the next two */
#define HEADS_KEY_N_LAYER "mote.heads.n_layer"
#define HEADS_KEY_N_VOCAB "mote.heads.n_vocab"
#define HEADS_KEY_FORM "mote.heads.form"         /* string: what the heads compute */
#define HEADS_FORM "affine"                      /* exits alone */
#define HEADS_FORM_CHAIN "hydra"                 /* with Medusa heads that follow each other */
#define HEADS_KEY_TOKENS "mote.heads.tokens"     /* i32, optional, ascending: guesses are among these tokens */
#define HEADS_KEY_ACCURACY "mote.heads.accuracy" /* f32 [n], optional: share of held-out tokens that were told right */

/* What the heads were trained for, or are to be used with. */
typedef struct heads_base {
    str arch;                         /* general.architecture */
    size_t n_layer, n_embd, n_vocab;  /* layers that are run; rows of the output matrix */
} heads_base;

typedef struct heads_one {
    size_t layer, offset;      /* an exit: layer < n_layer, offset 0; Medusa: layer == n_layer, offset ≥ 1 */
    float accuracy;            /* 0 … 1; negative: not said */
    const tensor_info *norm;   /* [n_embd] f32, all finite; of Medusa heads behind the first NULL */
    const tensor_info *weight; /* [n_embd, n_embd], any format; row r is the r-th output */
    const tensor_info *token;  /* V, the same, of Medusa heads; else NULL */
    const tensor_info *bias;   /* [n_embd] f32, or NULL */
    const tensor_info *gate;   /* [n_embd + 2] f32, of exits alone, or NULL; the last is above 0 */
} heads_one;

typedef struct heads {
    model_file *file; /* whose tensors these are; owned */
    size_t n;
    heads_one one[HEADS_MAX]; /* as in the file: of exits, layers ascend; of Medusa heads, offsets are 1, 2, … */
    const kv *tokens;         /* whole numbers below n_vocab, ascending; NULL: the file names none */
} heads;

/* Reads a heads file for this base. Every count, shape and number is checked: E_MISMATCH says what differs from the base,
 * E_FORMAT what is missing or broken. base->arch empty, or a size of 0: not compared. */
mote_status heads_open(heads **out, const char *path, const heads_base *base, mote_error *err);
/* The same from memory, which must outlive *out. */
mote_status heads_parse(heads **out, const unsigned char *data, size_t n, const heads_base *base, mote_error *err);
void heads_close(heads **h); /* NULL-safe */
/* Decodes a tensor of such a file into dst[n]; the reader has checked type and size. */
void heads_floats(const tensor_info *t, float *dst);

#endif
