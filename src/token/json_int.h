/* json_int.h: what the files that read tokenizer.json share. */
#ifndef MOTE_TOKEN_JSON_INT_H
#define MOTE_TOKEN_JSON_INT_H

#include "token/token_int.h"

/* json_norm.c. Text goes through the steps by way of two buffers; *out lies in one of them, or is text itself. */
mote_status tok_norm_read(tok_vocab *v, const json_t *normalizer, mote_error *err);
mote_status tok_norm_apply(const tok_norm *n, str text, buf *a, buf *b, str *out, mote_error *err);

bool tok_bert_chinese(uint32_t cp); /* wordpiece.c: characters that stand alone */

/* json_pre.c: the pre-tokenizer: passes, then at most one change of the text of each piece, then more passes. */
mote_status tok_json_pre_read(tok_vocab *v, const json_t *pre_tokenizer, mote_error *err);

#endif
