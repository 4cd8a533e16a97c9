/* hf_vocab.h: the vocabulary of a tokenizer.json as GGUF keys. */
#ifndef MOTE_FORMAT_HF_VOCAB_H
#define MOTE_FORMAT_HF_VOCAB_H

#include "format/hf_int.h"

/* tokenizer.ggml.model, pre, tokens, token_type, scores, merges and what belongs to them. tokenizer and config
 * are the parsed tokenizer.json and tokenizer_config.json (the latter may be NULL). */
mote_status hf_put_vocab(hf *h, const json_t *tokenizer, const json_t *config, mote_error *err);
/* llama.cpp's name for the way a byte-level BPE cuts text into words, from the pre_tokenizer's own description.
 * (llama.cpp finds it by the hash of a tokenized text; names with equal rules are interchangeable.) */
const char *hf_pre_name(const json_t *tokenizer, buf *scratch);

#endif
