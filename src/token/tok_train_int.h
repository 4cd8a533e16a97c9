/* tok_train_int.h: a vocabulary in the making, for its two files. */
#ifndef MOTE_TOKEN_TOK_TRAIN_INT_H
#define MOTE_TOKEN_TOK_TRAIN_INT_H

#include "token/tok_train.h"
#include "token/token_int.h"

struct tok_train {
    tok_train_opts o;
    arena mem; /* tokens, words, special tokens */
    tok_pre *pre;
    tok_cut *cut;

    struct train_word {
        str text;
        uint64_t count;
        uint32_t from, n; /* its symbols */
    } *words;
    size_t n_words, cap_words;
    uint32_t *word_slot; /* word + 1, by hash */
    uint32_t word_mask;

    str *token; /* bytes, or the name of a special token */
    size_t n_tokens;
    struct train_merge {
        int32_t left, right, made;
    } *merges;
    size_t n_merges;
};

#endif
