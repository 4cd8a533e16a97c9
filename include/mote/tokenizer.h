/* tokenizer.h: a vocabulary learnt from text: byte-level BPE, as Hugging Face's BpeTrainer makes it. */
#ifndef MOTE_TOKENIZER_H
#define MOTE_TOKENIZER_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All zero is a good default, but for vocab_size. */
typedef struct mote_tokenizer_options {
    size_t vocab_size;  /* tokens, with the special ones and the 256 bytes */
    uint64_t min_count; /* pairs that occur less often are not merged; 0: 2 */
    const char *pre;    /* how text is cut into words: "smollm" (the default), "gpt-2", "qwen2" */
    const char *const *special; /* NULL: <|endoftext|>, <|im_start|>, <|im_end|>; the first ends texts */
    size_t n_special;
    bool strict;                /* a broken line of the data is an error; else it is counted */
    /* Called now and then with the share of the work that is done; false cancels (MOTE_E_CANCELLED). May be NULL. */
    bool (*progress)(void *ctx, double share, const char *what);
    void *progress_ctx;
} mote_tokenizer_options;

typedef struct mote_tokenizer_report {
    size_t n_tokens, n_merges, n_words; /* n_words: different ones */
    uint64_t bytes;                     /* of text */
    size_t n_skipped;                   /* lines and parts that could not be read */
    double bytes_per_token;             /* on the first megabyte of the text, encoded with the new vocabulary */
    double seconds;
} mote_tokenizer_report;

/* Learns a vocabulary from files: plain text, or JSONL with "text" or conversations. out: NAME.gguf (a vocabulary without
 * tensors, for mote and llama.cpp), NAME.json (tokenizer.json, for Hugging Face and mote), or a folder that gets tokenizer.json and
 * tokenizer_config.json. report may be NULL. The same files give the same vocabulary, whatever the machine.
 * Errors: E_USAGE, E_NOT_FOUND, E_FORMAT (no text; strict and a broken line), E_LIMIT, E_MEMORY, E_IO, E_CANCELLED. Thread: any. */
MOTE_API mote_status mote_tokenizer_train(const char *const *paths, size_t n_paths, const char *out, const mote_tokenizer_options *options,
                                          mote_tokenizer_report *report, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
