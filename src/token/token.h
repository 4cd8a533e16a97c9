/* token.h: text to token ids and back.
 *
 * A tok_vocab is opened from a model file's metadata (GGUF) or from a tokenizer.json, and is immutable from then
 * on. Thread: any, once open. Text is bytes, meant to be UTF-8; invalid bytes are kept where the tokenizer can
 * express them (byte-level BPE, byte fallback) and become U+FFFD or the unknown token where it cannot.
 *
 * Tokens have types. CONTROL tokens (<|im_end|>, <s>, …) steer the model: they come out of text only when
 * TOK_SPECIAL is given, or in spans marked as template, and never by merging smaller pieces, whatever the text
 * says. USER_DEFINED tokens are recognised in any text before the tokenizer proper runs. */
#ifndef MOTE_TOKEN_TOKEN_H
#define MOTE_TOKEN_TOKEN_H

#include "base/base.h"
#include "format/format.h"

#define TOK_NONE (-1)                       /* "no such token" wherever an id is returned */
#define TOK_TEXT_BYTES_MAX ((size_t)1 << 30) /* longest text encoded in one call */

typedef struct tok_vocab tok_vocab;

typedef enum tok_kind { /* how text is cut */
    TOK_KIND_BPE,       /* merges by rank, byte-level or on raw UTF-8 */
    TOK_KIND_SPM,       /* SentencePiece BPE: merges by the score of the result */
    TOK_KIND_UNIGRAM,   /* best path by the sum of scores */
    TOK_KIND_WORDPIECE, /* longest match within words */
    TOK_KIND_TRIE,      /* longest match anywhere (RWKV) */
    TOK_KIND_PLAMO2     /* best path from the back, whole characters (PLaMo 2) */
} tok_kind;

typedef enum tok_type { /* numbers are GGUF's tokenizer.ggml.token_type */
    TOK_NORMAL = 1, TOK_UNKNOWN = 2, TOK_CONTROL = 3, TOK_USER_DEFINED = 4, TOK_UNUSED = 5, TOK_BYTE = 6
} tok_type;

/* What a token is for. X(NAME, GGUF key after "tokenizer.ggml.") */
#define TOK_ROLE_MAP(X)                                                                                       \
    X(BOS, "bos_token_id") X(EOS, "eos_token_id") X(EOT, "eot_token_id") X(EOM, "eom_token_id")               \
    X(UNK, "unknown_token_id") X(SEP, "seperator_token_id") X(PAD, "padding_token_id")                        \
    X(MASK, "mask_token_id") X(FIM_PRE, "fim_pre_token_id") X(FIM_SUF, "fim_suf_token_id")                    \
    X(FIM_MID, "fim_mid_token_id") X(FIM_PAD, "fim_pad_token_id") X(FIM_REP, "fim_rep_token_id")              \
    X(FIM_SEP, "fim_sep_token_id")
typedef enum tok_role {
#define TOK_ROLE_ENUM(name, key) TOK_ROLE_##name,
    TOK_ROLE_MAP(TOK_ROLE_ENUM)
#undef TOK_ROLE_ENUM
    TOK_ROLES
} tok_role;

/* Opens the tokenizer that a model file carries: GGUF metadata, or a folder's tokenizer.json. f must outlive *out
 * (token texts are views into it). MOTE_E_NOT_FOUND when the file has none (or only a dummy one). Lines worth
 * telling the user (defaults taken, entries ignored) go to log, which may be NULL. */
mote_status tok_open(tok_vocab **out, const model_file *f, const log_sink *log, mote_error *err);
/* From the text of a tokenizer.json and, when there is one, tokenizer_config.json ({NULL, 0} otherwise). Both
 * are copied. */
mote_status tok_open_json(tok_vocab **out, str json, str config_json, const log_sink *log, mote_error *err);
void tok_close(tok_vocab **v);

size_t tok_count(const tok_vocab *v);
tok_kind tok_vocab_kind(const tok_vocab *v);
const char *tok_kind_name(tok_kind k);
int32_t tok_id(const tok_vocab *v, tok_role role); /* TOK_NONE when the model has none */
tok_type tok_type_of(const tok_vocab *v, int32_t id);
bool tok_is_eog(const tok_vocab *v, int32_t id);     /* ends the model's answer */
bool tok_is_control(const tok_vocab *v, int32_t id); /* CONTROL or UNKNOWN */
/* The token whose text, as the vocabulary spells it, is s; TOK_NONE when there is none. */
int32_t tok_find(const tok_vocab *v, str s);
str tok_text(const tok_vocab *v, int32_t id); /* as the vocabulary spells it; empty when out of range */
bool tok_adds_bos(const tok_vocab *v);        /* whether TOK_BOS puts something before the text */
bool tok_adds_eos(const tok_vocab *v);        /* … after it */

enum {
    TOK_SPECIAL = 1, /* encode: control tokens in the text are parsed. piece, detokenize: they are shown */
    TOK_BOS = 2,     /* encode: with what the model wants around a text (BOS, EOS, [CLS] … [SEP]) */
    TOK_TRIM = 4     /* detokenize: without the space that the tokenizer puts before a text */
};

/* Growable ids; owner: the caller, who starts with {0} and frees with tok_ids_free. */
typedef struct tok_ids {
    int32_t *p;
    size_t n, cap;
} tok_ids;
void tok_ids_free(tok_ids *ids);

/* Appends the ids of text. Time O(n log n) for any text, memory about 40 bytes per byte of the longest run without
 * a cut. On failure nothing is appended. */
mote_status tok_encode(const tok_vocab *v, str text, int flags, tok_ids *out, mote_error *err);
/* The same into dst[cap]; *n is the number needed, of which min(*n, cap) were written. */
mote_status tok_encode_into(const tok_vocab *v, str text, int flags, int32_t *dst, size_t cap, size_t *n,
                            mote_error *err);

/* A prompt made of trusted and untrusted parts. The ids equal those of the joined text with TOK_SPECIAL, except
 * that no control token, and no token that the chat template uses as a delimiter, is formed by even one byte of a
 * part that is not trusted. flags: TOK_BOS. */
typedef struct tok_span {
    str text;
    bool trusted; /* written by the template's author */
} tok_span;
mote_status tok_encode_spans(const tok_vocab *v, const tok_span *spans, size_t n, int flags, tok_ids *out,
                             mote_error *err);

/* The bytes a token stands for: a view that lives as long as v; empty for control tokens without TOK_SPECIAL and
 * for ids out of range. It may be part of a character. */
str tok_piece(const tok_vocab *v, int32_t id, int flags);
/* Appends the text of ids to out. flags: TOK_SPECIAL, TOK_TRIM. */
mote_status tok_detokenize(const tok_vocab *v, const int32_t *ids, size_t n, int flags, buf *out, mote_error *err);

/* Text as it is generated: bytes come out only as whole characters. A value type without memory of its own. */
typedef struct tok_stream {
    const tok_vocab *v;
    int flags;
    bool begun;
    unsigned n_held;
    char held[4]; /* the beginning of a character */
} tok_stream;
void tok_stream_init(tok_stream *s, const tok_vocab *v, int flags);
void tok_stream_put(tok_stream *s, int32_t id, buf *out); /* appends what has become whole */
void tok_stream_end(tok_stream *s, buf *out);             /* bytes still held become one U+FFFD */

#endif
