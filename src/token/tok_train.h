/* tok_train.h: a byte-level BPE vocabulary learnt from text.
 *
 * Tokens are, in this order: the special tokens, the 256 bytes (so that any text has an encoding), then one token per
 * merge, most frequent pair first; of equally frequent ones that with the smaller ids. Those are the rules of Hugging Face's
 * BpeTrainer, and the result is the same, token by token.
 * Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1. */
#ifndef MOTE_TOKEN_TOK_TRAIN_H
#define MOTE_TOKEN_TOK_TRAIN_H

#include "token/token.h"

typedef struct tok_train_opts { /* zero: the default in brackets */
    size_t vocab_size;  /* with special tokens and bytes; at least their number */
    uint64_t min_count; /* a pair that is rarer is not merged [2] */
    const char *pre;    /* how text is cut into words: "smollm", "gpt-2" or "qwen2" [smollm: GPT-2's cut, digits one by one] */
    const char *const *special; /* [<|endoftext|>, <|im_start|>, <|im_end|>]; the first ends texts, <|im_end|> answers */
    size_t n_special;
    bool (*progress)(void *ctx, size_t done, size_t total); /* tokens; false cancels */
    void *progress_ctx;
} tok_train_opts;

typedef struct tok_train tok_train;
/* E_USAGE: an unknown cut, no room for the bytes, an empty or doubled special token. o is copied, its strings too. */
mote_status tok_train_open(tok_train **out, const tok_train_opts *o, mote_error *err);
void tok_train_close(tok_train **t);
/* Counts the words of a text. Time: linear. Memory: the different words. */
mote_status tok_train_feed(tok_train *t, str text, mote_error *err);
/* Makes the merges. Time: about linear in the letters of the different words (a heap of pairs, lists of where each stands). */
mote_status tok_train_finish(tok_train *t, mote_error *err);
size_t tok_train_count(const tok_train *t);
size_t tok_train_n_merges(const tok_train *t);
size_t tok_train_n_words(const tok_train *t); /* different ones */
str tok_train_token(const tok_train *t, size_t id); /* its bytes */
void tok_train_merge(const tok_train *t, size_t i, int32_t *left, int32_t *right, int32_t *made);
/* Writes OUT.gguf (tokenizer.ggml.*, no tensors), OUT.json (Hugging Face's tokenizer.json), or into the folder OUT tokenizer.json and
 * tokenizer_config.json. Each file is there whole or not at all. */
mote_status tok_train_write(const tok_train *t, const char *path, mote_error *err);

#endif
