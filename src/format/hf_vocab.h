/* hf_vocab.h: a folder's vocabulary as GGUF keys. */
#ifndef MOTE_FORMAT_HF_VOCAB_H
#define MOTE_FORMAT_HF_VOCAB_H

#include "format/hf_int.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE }; /* GGUF's */

/* A vocabulary being collected, by id. */
typedef struct hf_vocab {
    arena *mem;
    str *tokens;
    int32_t *types;
    float *scores;
    size_t n;
    name_index index;
} hf_vocab;

mote_status hf_vocab_init(hf_vocab *v, size_t n, mote_error *err); /* v->mem is set */
mote_status hf_vocab_set(hf_vocab *v, int64_t id, str text, int32_t type, float score, mote_error *err);
/* Ids without a token, up to the size of the embedding, become fillers; then tokens can be looked up. */
mote_status hf_vocab_finish(hf_vocab *v, mote_error *err);
/* The arrays tokens, token_type and (when asked for) scores. */
mote_status hf_vocab_put(hf *h, const hf_vocab *v, bool scores, mote_error *err);
/* <|…|> and the like, which some checkpoints forget to mark. */
bool hf_looks_special(str s);

/* tokenizer.ggml.model, pre, tokens, token_type, scores, merges and what belongs to them. tokenizer is
 * the parsed tokenizer.json. */
mote_status hf_put_vocab(hf *h, const json_t *tokenizer, mote_error *err);
/* llama.cpp's name for the way a byte-level BPE cuts text into words, from the pre_tokenizer's own description.
 * (llama.cpp finds it by the hash of a tokenized text; names with equal rules are interchangeable.) */
const char *hf_pre_name(const json_t *tokenizer, buf *scratch);

/* hf_spm.c: the same from SentencePiece's tokenizer.model, for folders without tokenizer.json. config is
 * tokenizer_config.json or NULL. */
mote_status hf_put_spm(hf *h, str model, const json_t *config, mote_error *err);

#endif
