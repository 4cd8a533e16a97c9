/* engine.h: threads (engine) and weights (model). */
#ifndef MOTE_ENGINE_H
#define MOTE_ENGINE_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- engine: the thread pool that does the arithmetic ---- */
typedef struct mote_engine mote_engine;

enum { MOTE_LOG_DEBUG, MOTE_LOG_INFO, MOTE_LOG_WARN };

typedef struct mote_engine_opts {
    size_t size;
    int n_threads;    /* 0: by measurement, at most one per fast core that this process may use */
    const char *isa;  /* highest rung of the ISA ladder to use: "scalar", "avx2", …; NULL: the best */
    void (*log)(void *ctx, int level, const char *line); /* lines worth knowing, no newline; may be NULL */
    void *log_ctx;
} mote_engine_opts;
MOTE_API void mote_engine_opts_fill(mote_engine_opts *o, size_t size);
static inline mote_engine_opts mote_engine_opts_default(void) {
    mote_engine_opts o;
    mote_engine_opts_fill(&o, sizeof o);
    return o;
}

MOTE_API mote_status mote_engine_open(mote_engine **out, const mote_engine_opts *o, mote_error *err);
MOTE_API void mote_engine_close(mote_engine **e);
MOTE_API int mote_engine_threads(const mote_engine *e);

/* ---- model: immutable weights, tokenizer and chat template ---- */
typedef struct mote_model mote_model;

enum { MOTE_ROPE_SCALING_FILE, MOTE_ROPE_SCALING_NONE, MOTE_ROPE_SCALING_LINEAR, MOTE_ROPE_SCALING_YARN };

/* A LoRA adapter: a GGUF file as llama.cpp's, or a folder in PEFT's form. Its addition to the weights is multiplied by
 * scale: 1 as trained, 0 nothing. */
typedef struct mote_adapter {
    const char *path;
    float scale;
} mote_adapter;

typedef struct mote_model_opts {
    size_t size;
    bool no_weights;        /* metadata, tokenizer and template alone: any architecture, even a file without
                               tensors, and a tokenizer.json as path */
    bool no_mmap;           /* read the file into memory instead of mapping it */
    bool mlock;             /* keep the weights from being swapped out */
    int rope_scaling;       /* MOTE_ROPE_SCALING_*; FILE: as the file says */
    float rope_freq_base;   /* 0: as the file says */
    float rope_freq_scale;  /* 0: as the file says */
    const mote_adapter *adapters; /* [n_adapters] applied together while the model runs; needed until it is open */
    size_t n_adapters;
    const char *heads;      /* a file of extra heads (early exits, Medusa; docs/formats/heads.md) for mote_session_opts.exit_threshold
                               and mote_spec_opts, or NULL; needed until it is open */
    float dynamic;          /* share of the feed-forward neurons that are left out for each token by what its gate says, up to 0.9;
                               0: as the file says (`mote prune --dynamic`), below 0: none */
} mote_model_opts;
MOTE_API void mote_model_opts_fill(mote_model_opts *o, size_t size);
static inline mote_model_opts mote_model_opts_default(void) {
    mote_model_opts o;
    mote_model_opts_fill(&o, sizeof o);
    return o;
}

/* path: a GGUF file (any part of a split one) or a Hugging Face folder. */
MOTE_API mote_status mote_model_open(mote_model **out, mote_engine *e, const char *path,
                                     const mote_model_opts *o, mote_error *err);
MOTE_API void mote_model_close(mote_model **m);

/* What a program most often asks; static for the life of the model. */
MOTE_API const char *mote_model_arch(const mote_model *m); /* "llama"; "" when unknown */
MOTE_API const char *mote_model_name(const mote_model *m); /* general.name or "" */
MOTE_API size_t mote_model_n_vocab(const mote_model *m);   /* length of a row of logits; 0 without weights */
MOTE_API size_t mote_model_n_ctx_train(const mote_model *m);
MOTE_API size_t mote_model_n_embd(const mote_model *m);    /* length of an embedding */
/* How many extra heads it was opened with: early exits, Medusa heads; exits that guesses can be drafted by (0 where a layer
 * keeps state that they cannot bring up to date: recurrent ones). */
enum { MOTE_HEADS_EXITS, MOTE_HEADS_AHEAD, MOTE_HEADS_DRAFTS };
MOTE_API size_t mote_model_n_heads(const mote_model *m, int which);
MOTE_API bool mote_model_is_encoder(const mote_model *m);  /* makes embeddings, not text */
MOTE_API bool mote_model_has_tokenizer(const mote_model *m);
MOTE_API bool mote_model_has_template(const mote_model *m); /* a chat template of its own */

/* Everything `mote show` prints, as one JSON object:
 *   path, architecture, name, license, file_bytes, n_params, n_tensors,
 *   types: [{type, tensors, params, bytes, bits_per_weight}] by bytes,
 *   sizes: {n_layer, n_embd, n_vocab, n_ctx_train, …} (without weights: what the metadata says),
 *   runtime: {isa, weight_bytes, packed_bytes, encoder, recurrent, windowed, can_shift, pooling}, or null,
 *   tokenizer: {kind, n_tokens, special: {bos: {id, text}, …}, adds_bos, adds_eos, fim} or null,
 *   template: {source: "model" | "chatml" | "plain", bytes, note, tools, thinking},
 *   metadata: {key: value, arrays as {"array": type, "count": n, "first": […]}},
 *   tensors: [{name, type, shape, bytes}] when flags has MOTE_INFO_TENSORS,
 *   template_text: when flags has MOTE_INFO_TEMPLATE. */
enum { MOTE_INFO_TENSORS = 1, MOTE_INFO_TEMPLATE = 2 };
MOTE_API mote_status mote_model_info(const mote_model *m, int flags, char *dst, size_t cap, size_t *needed,
                                     mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
