/* tokens.h: text to token ids and back. Thread: any, but a mote_detok belongs to one at a time.
 * All calls need a model with a tokenizer, else they fail with MOTE_E_NOT_FOUND (or return what "none" is).
 */
#ifndef MOTE_TOKENS_H
#define MOTE_TOKENS_H

#include "mote/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MOTE_TOK_SPECIAL = 1, /* to ids: control tokens written in the text are parsed (never do so with a
                             stranger's text); to text: they are shown */
    MOTE_TOK_BOS = 2,     /* to ids: with what the model wants around a text (BOS, EOS, [CLS] … [SEP]) */
    MOTE_TOK_TRIM = 4     /* to text: without the space that some tokenizers put before a text */
};

/* *n is the number of ids needed, of which min(*n, cap) were written. Error: MOTE_E_LIMIT beyond 1 GiB of
 * text. */
MOTE_API mote_status mote_tokenize(const mote_model *m, const char *text, size_t n_bytes, int flags,
                                   int32_t *ids, size_t cap, size_t *n, mote_error *err);
/* Error: MOTE_E_RANGE for an id outside the vocabulary. */
MOTE_API mote_status mote_detokenize(const mote_model *m, const int32_t *ids, size_t n, int flags, char *dst,
                                     size_t cap, size_t *needed, mote_error *err);

/* One token's bytes, which may be a part of a character. Returns the number needed. */
MOTE_API size_t mote_token_piece(const mote_model *m, int32_t id, int flags, char *dst, size_t cap);
/* By role: "bos", "eos", "eot", "eom", "unk", "sep", "pad", "mask", "fim_pre", "fim_suf", "fim_mid",
 * "fim_pad", "fim_rep", "fim_sep". -1 when the model has none. */
MOTE_API int32_t mote_token_by_role(const mote_model *m, const char *role);
/* The token that is spelled like this in the vocabulary ("<|im_end|>"); -1 when there is none. */
MOTE_API int32_t mote_token_by_text(const mote_model *m, const char *text, size_t n_bytes);
MOTE_API bool mote_token_is_end(const mote_model *m, int32_t id);     /* ends an answer */
MOTE_API bool mote_token_is_control(const mote_model *m, int32_t id); /* steers the model, is no text */
MOTE_API bool mote_tokenizer_adds_bos(const mote_model *m);

/* Text of tokens as they come, in whole characters only. */
typedef struct mote_detok mote_detok;
MOTE_API mote_status mote_detok_open(mote_detok **out, const mote_model *m, int flags, mote_error *err);
MOTE_API void mote_detok_close(mote_detok **d);
/* The text that has become whole, valid until the next call. */
MOTE_API mote_status mote_detok_put(mote_detok *d, int32_t id, const char **text, size_t *n, mote_error *err);
/* What is left of an unfinished character (as U+FFFD); then the object can be used for another text. */
MOTE_API mote_status mote_detok_end(mote_detok *d, const char **text, size_t *n, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
