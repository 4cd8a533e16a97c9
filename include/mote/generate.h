/* generate.h: text out of a model: completion, fill-in-the-middle, chat; and embeddings. */
#ifndef MOTE_GENERATE_H
#define MOTE_GENERATE_H

#include "mote/sampling.h"
#include "mote/session.h"
#include "mote/speculate.h"
#include "mote/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- generation ---- */

/* A token's worth of news. Text comes in whole characters and lags behind the tokens while it might become a
 * stop string, so either part may be empty. */
typedef struct mote_piece {
    const char *text; /* n bytes, NUL-terminated; valid during the callback */
    size_t n;
    int32_t id;       /* the token just drawn; -1: text that was held back, at the end */
    bool reasoning;   /* chat: the text is part of the model's thinking, not of its answer */
    float logprob;    /* with sample.logprobs */
    const mote_logprob *top;
    size_t n_top;
    const char *tool_name;      /* chat: the model calls a tool; NULL: it does not. Then text is empty */
    const char *tool_arguments; /* the text of a JSON object */
    const char *tool_id;        /* as the model gave it, or "" */
} mote_piece;

#define MOTE_STOPS_MAX 64         /* stop strings … */
#define MOTE_STOP_BYTES_MAX 1024  /* … and the length of each */

typedef struct mote_gen_opts {
    size_t size;
    size_t n_predict;         /* most tokens; 0: until the model ends or the context is full */
    mote_sampler *sampler;    /* NULL: the likeliest token each time. Its history begins anew with each prompt */
    const char *const *stops; /* the answer ends before the first of these texts */
    size_t n_stops;
    bool show_special;        /* control tokens appear in the text */
    bool ignore_end;          /* without a sampler: never choose a token that ends the answer */
    int (*on_piece)(void *ctx, const mote_piece *p); /* non-zero ends the generation; may be NULL */
    void *ctx;
    int (*on_prompt)(void *ctx, size_t done, size_t total); /* progress; non-zero cancels; may be NULL */
    mote_speculator *speculator; /* of the same session: several tokens per pass where that pays, the same
                                    tokens; NULL: one by one. During on_piece the session may hold guesses */
} mote_gen_opts;
MOTE_API void mote_gen_opts_fill(mote_gen_opts *o, size_t size);
static inline mote_gen_opts mote_gen_opts_default(void) {
    mote_gen_opts o;
    mote_gen_opts_fill(&o, sizeof o);
    return o;
}

typedef enum mote_finish {
    MOTE_FINISH_END,       /* the model ended its answer */
    MOTE_FINISH_STOP,      /* a stop string */
    MOTE_FINISH_LENGTH,    /* n_predict */
    MOTE_FINISH_CONTEXT,   /* the context is full, and shifting it is off */
    MOTE_FINISH_CALLBACK,  /* on_piece asked for it */
    MOTE_FINISH_CANCELLED, /* mote_session_cancel, on_prompt */
    MOTE_FINISH_ERROR
} mote_finish;
MOTE_API const char *mote_finish_name(mote_finish f);

typedef struct mote_gen_result {
    size_t size; /* set by the caller */
    mote_finish finish;
    size_t n_prompt, n_reused;  /* tokens of the prompt, and how many of them a cache held */
    size_t n_generated;         /* tokens drawn, the ending one not counted */
    size_t n_shifted;           /* tokens that context shifts have dropped */
    size_t n_dropped_messages;  /* chat: oldest messages that did not fit */
    double prompt_ms, generate_ms;
    size_t n_tool_calls;        /* chat: tools that the answer calls */
    size_t n_drafted, n_accepted; /* tokens that the speculator guessed and computed; those that came true */
} mote_gen_result;

/* Continues ids. The sequence afterwards holds the prompt and the answer (all but its last token's state).
 * A cancelled or full generation is MOTE_OK with `finish` telling; result may be NULL. */
MOTE_API mote_status mote_complete_ids(mote_session *s, size_t seq, const int32_t *ids, size_t n,
                                       const mote_gen_opts *o, mote_gen_result *result, mote_error *err);
/* Continues a text: tokenized with what the model wants before it (BOS), control tokens in it parsed: the
 * text is the caller's own. */
MOTE_API mote_status mote_complete(mote_session *s, size_t seq, const char *text, size_t n_bytes,
                                   const mote_gen_opts *o, mote_gen_result *result, mote_error *err);

/* Ids of a fill-in-the-middle prompt; MOTE_E_UNSUPPORTED when the model's tokenizer has no tokens for it. */
MOTE_API mote_status mote_infill_prompt(const mote_model *m, const char *prefix, size_t n_prefix,
                                        const char *suffix, size_t n_suffix, int32_t *ids, size_t cap,
                                        size_t *n, mote_error *err);
/* What belongs between prefix and suffix. */
MOTE_API mote_status mote_infill(mote_session *s, size_t seq, const char *prefix, size_t n_prefix,
                                 const char *suffix, size_t n_suffix, const mote_gen_opts *o,
                                 mote_gen_result *result, mote_error *err);

/* ---- chat ---- */

/* A conversation on one sequence of a session. What a message says never becomes a control token. */
typedef struct mote_chat mote_chat;

typedef struct mote_chat_opts {
    size_t size;
    const char *system;        /* first message, or NULL */
    const char *template_text; /* a Jinja template in place of the model's, or NULL */
    const char *tools_json;    /* an array of tools (OpenAI's form), or NULL */
    const char *kwargs_json;   /* further variables for the template, an object, or NULL */
    int thinking;              /* -1: as the template does by itself, 0: off, 1: on */
    bool drop_oldest;          /* when the conversation no longer fits, leave out its oldest turns (never the
                                  system message); false: MOTE_E_CONTEXT */
    size_t n_answer_reserve;   /* tokens kept free for the answer; 0: an eighth of the context */
} mote_chat_opts;
MOTE_API void mote_chat_opts_fill(mote_chat_opts *o, size_t size);
static inline mote_chat_opts mote_chat_opts_default(void) {
    mote_chat_opts o;
    mote_chat_opts_fill(&o, sizeof o);
    return o;
}

/* Keeps the session in use; several chats may share one, each on its sequence. */
MOTE_API mote_status mote_chat_open(mote_chat **out, mote_session *s, size_t seq, const mote_chat_opts *o,
                                    mote_error *err);
MOTE_API void mote_chat_close(mote_chat **c);
/* One sentence when the template is not the model's own, else NULL. Static storage. */
MOTE_API const char *mote_chat_note(const mote_chat *c);

/* Adds a message without answering. role: "system", "user", "assistant", "tool" (the result of a call). */
MOTE_API mote_status mote_chat_add(mote_chat *c, const char *role, const char *text, size_t n_bytes,
                                   mote_error *err);
/* Answers the conversation as it stands, and adds the answer (also a cancelled one) to it. */
MOTE_API mote_status mote_chat_answer(mote_chat *c, const mote_gen_opts *o, mote_gen_result *result,
                                      mote_error *err);
/* Adds a user's message and answers it. On an error the message is taken back. */
MOTE_API mote_status mote_chat_say(mote_chat *c, const char *text, size_t n_bytes, const mote_gen_opts *o,
                                   mote_gen_result *result, mote_error *err);
/* Takes back the last answer and answers again. MOTE_E_USAGE when there is none. */
MOTE_API mote_status mote_chat_regenerate(mote_chat *c, const mote_gen_opts *o, mote_gen_result *result,
                                          mote_error *err);
/* Replaces the system message; NULL removes it. */
MOTE_API mote_status mote_chat_set_system(mote_chat *c, const char *text, mote_error *err);
/* Forgets all but the system message. */
MOTE_API void mote_chat_clear(mote_chat *c);
MOTE_API size_t mote_chat_n_messages(const mote_chat *c);
/* The conversation as a JSON array of messages, to save it; and back. */
MOTE_API mote_status mote_chat_messages(const mote_chat *c, char *dst, size_t cap, size_t *needed,
                                        mote_error *err);
MOTE_API mote_status mote_chat_set_messages(mote_chat *c, const char *json, size_t n_bytes, mote_error *err);
/* The prompt that mote_chat_answer would feed, as text and as ids; either dst may be NULL with cap 0. */
MOTE_API mote_status mote_chat_prompt(mote_chat *c, char *dst, size_t cap, size_t *needed, int32_t *ids,
                                      size_t ids_cap, size_t *n_ids, mote_error *err);

/* ---- embeddings ---- */
enum { MOTE_POOL_MODEL = -1, MOTE_POOL_MEAN = 1, MOTE_POOL_CLS = 2, MOTE_POOL_LAST = 3 };

typedef struct mote_embed_opts {
    size_t size;
    int pooling;         /* MOTE_POOL_MODEL: what the model says, else mean for encoders, last for decoders */
    bool normalize;      /* to length 1 */
    bool no_truncate;    /* a text that is too long is MOTE_E_CONTEXT instead of being cut */
    size_t max_tokens;   /* 0: what the model's makers used, else what it was trained with */
} mote_embed_opts;
MOTE_API void mote_embed_opts_fill(mote_embed_opts *o, size_t size);
static inline mote_embed_opts mote_embed_opts_default(void) {
    mote_embed_opts o;
    mote_embed_opts_fill(&o, sizeof o);
    return o;
}

/* A session fit for embeddings: whole texts in one pass, several at once. */
MOTE_API mote_status mote_embed_session_open(mote_session **out, mote_model *m, mote_error *err);
/* dst [n_texts, n_embd]. Uses all sequences of the session and clears them. Texts are batched by length.
 * n_tokens [n_texts] (may be NULL): tokens used of each. */
MOTE_API mote_status mote_embed(mote_session *s, const char *const *texts, const size_t *n_bytes,
                                size_t n_texts, const mote_embed_opts *o, float *dst, size_t *n_tokens,
                                mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
