/* session.h: sequences of tokens and what the model remembers of them (KV cache, recurrent state).
 *
 * All memory is allocated in mote_session_open and can be read off mote_session_get_info; feeding tokens
 * allocates nothing. The logits of a token depend on the tokens before it alone, bit for bit: not on the
 * number of threads, on how the tokens were cut into calls, on other sequences, or on what came out of a
 * cache. */
#ifndef MOTE_SESSION_H
#define MOTE_SESSION_H

#include "mote/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mote_session mote_session;

#define MOTE_CTX_DEFAULT 8192 /* most positions of a sequence when n_ctx is 0 */

typedef struct mote_session_opts {
    size_t size;
    size_t n_ctx;             /* positions per sequence; 0: as trained, at most MOTE_CTX_DEFAULT */
    size_t n_seq;             /* sequences, numbered 0 … n_seq-1 */
    size_t n_batch;           /* most tokens of one pass over the weights (llama.cpp's -ub) */
    const char *type_k;       /* of the KV cache: "f32", "f16", "bf16", "q8_0", "q4_0" */
    const char *type_v;
    bool exact;               /* float32 activations; false: int8 where the weights are quantized */
    size_t checkpoint_every;  /* tokens between checkpoints of recurrent and windowed state; 0: none */
    size_t checkpoint_bytes;  /* most memory for them, over all sequences */
    bool context_shift;       /* a full context drops its oldest half; false: it is MOTE_E_CONTEXT */
    size_t n_keep;            /* tokens at the start that a shift keeps; SIZE_MAX: the last prompt; at most
                                 half of n_ctx */
    float exit_threshold;     /* 0 to 1, with early exits (mote_model_opts.heads): a token that is computed for its logits leaves
                                 at the first exit that is so sure of what follows (how often its likeliest token is the model's; of a
                                 heads file without gates, that token's probability among the 16 likeliest), which is faster and changes results; tokens of a prompt but its last go through all
                                 layers. Above 1 (default 2): none leaves */
} mote_session_opts;
MOTE_API void mote_session_opts_fill(mote_session_opts *o, size_t size);
static inline mote_session_opts mote_session_opts_default(void) {
    mote_session_opts o;
    mote_session_opts_fill(&o, sizeof o);
    return o;
}

MOTE_API mote_status mote_session_open(mote_session **out, mote_model *m, const mote_session_opts *o,
                                       mote_error *err);
MOTE_API void mote_session_close(mote_session **s);

typedef struct mote_session_info {
    size_t size; /* set by the caller */
    size_t n_ctx, n_seq, n_batch, n_vocab;
    size_t kv_bytes, recurrent_bytes, compute_bytes; /* caches and buffers of the passes */
    size_t checkpoint_bytes;                         /* of which pages are touched as checkpoints are taken */
    size_t n_checkpoints, checkpoint_every;
    size_t output_bytes;                             /* logits, token history */
    size_t total_bytes;                              /* of the session; the weights come on top */
    size_t weight_bytes;                             /* of the model in memory: packed, or as in the file */
    int n_threads;
} mote_session_info;
MOTE_API void mote_session_get_info(const mote_session *s, mote_session_info *out);
/* The same for people, in a few lines. Returns the number of bytes needed. */
MOTE_API size_t mote_session_describe(const mote_session *s, char *dst, size_t cap);

/* What early exits did since the session was opened. */
#define MOTE_EXITS_MAX 64
typedef struct mote_exit_stats {
    size_t size; /* set by the caller */
    size_t n_tokens;         /* whose logits were computed while tokens could leave */
    double layers;           /* that they went through, on average; 0 without tokens */
    size_t n_layer, n_exits; /* of the model */
    size_t layer[MOTE_EXITS_MAX], n_left[MOTE_EXITS_MAX]; /* of each exit: behind so many layers; so many tokens left */
} mote_exit_stats;
MOTE_API void mote_session_get_exits(const mote_session *s, mote_exit_stats *out);

/* Makes what the session is doing end soon with MOTE_E_CANCELLED (between two passes). Async-signal-safe.
 * Thread: any. Forgotten when the next call begins. */
MOTE_API void mote_session_cancel(mote_session *s);

/* ---- feeding ---- */

/* Makes sequence seq hold exactly these tokens, and its logits those after the last one. What this or another
 * sequence has already computed of the beginning is reused: *n_reused (may be NULL) tokens.
 * Error: MOTE_E_USAGE without tokens, MOTE_E_RANGE for an id outside the vocabulary, MOTE_E_CONTEXT when they
 * are more than n_ctx, MOTE_E_OUTPUT, MOTE_E_CANCELLED (then the sequence holds the tokens done so far). */
MOTE_API mote_status mote_session_prompt(mote_session *s, size_t seq, const int32_t *ids, size_t n,
                                         size_t *n_reused, mote_error *err);
/* Appends tokens. Shifts the context when that is allowed and needed. */
MOTE_API mote_status mote_session_append(mote_session *s, size_t seq, const int32_t *ids, size_t n,
                                         mote_error *err);
/* Appends tokens and writes the logits after each of them to dst [n, n_vocab]. */
MOTE_API mote_status mote_session_append_logits(mote_session *s, size_t seq, const int32_t *ids, size_t n,
                                                float *dst, mote_error *err);
/* Appends one token to each of several sequences in one pass; a sequence occurs once. */
typedef struct mote_step {
    size_t seq;
    int32_t id;
} mote_step;
MOTE_API mote_status mote_session_step(mote_session *s, const mote_step *steps, size_t n, mote_error *err);
/* n_vocab floats after the sequence's last token, valid until the session's next call that feeds tokens to
 * any sequence; NULL when there are none. */
MOTE_API const float *mote_session_logits(const mote_session *s, size_t seq);

/* ---- sequences ---- */
MOTE_API size_t mote_session_length(const mote_session *s, size_t seq);
/* The tokens of a sequence, valid until it changes. */
MOTE_API const int32_t *mote_session_tokens(const mote_session *s, size_t seq);
MOTE_API mote_status mote_session_clear(mote_session *s, size_t seq, mote_error *err);
/* Forgets what follows the first n tokens. With recurrent or windowed state the nearest checkpoint is
 * restored and what lies between is computed again. */
MOTE_API mote_status mote_session_truncate(mote_session *s, size_t seq, size_t n, mote_error *err);
MOTE_API mote_status mote_session_copy(mote_session *s, size_t dst, size_t src, mote_error *err);

/* ---- files ---- */

/* A sequence with everything computed for it, checksummed. It can be read back by a session with the same
 * model, cache types, context and batch sizes. load: MOTE_E_HASH when the file is damaged, MOTE_E_MISMATCH
 * when it belongs to another model or kind of session, MOTE_E_CONTEXT when it does not fit; then the sequence
 * is empty. */
MOTE_API mote_status mote_session_save(mote_session *s, size_t seq, const char *path, mote_error *err);
MOTE_API mote_status mote_session_load(mote_session *s, size_t seq, const char *path, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
