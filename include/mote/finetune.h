/* finetune.h: teaching an existing model: supervised on texts and chats, or by preferences; all of its weights, or an adapter
 * beside them; with replay against forgetting, and with differential privacy. */
#ifndef MOTE_FINETUNE_H
#define MOTE_FINETUNE_H

#include "mote/status.h"
#include "mote/train.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Zero means the default in brackets. Strings are borrowed for the call. */
typedef struct mote_finetune_opts {
    size_t size;                /* of this struct: mote_finetune_opts_default sets it */
    mote_train_settings train;  /* [epochs 3, and at least 60 steps; lr by method: see docs/howto/finetune.md] */
    const char *model;          /* GGUF file or Hugging Face folder. It is not changed */
    /* Where the result goes. An adapter: NAME.gguf as llama.cpp's, else a folder in PEFT's form. Whole models: NAME.gguf, or, when `model`
     * is a folder, a folder under its own tensor names. NULL: nothing is written. */
    const char *out;
    const char *method;         /* "lora", "rslora", "dora", "qlora" (weights stay quantized in memory), "full" ["lora"] */
    const char *task;           /* "sft": texts and chats; "dpo": pairs of answers ["dpo" when the data are pairs] */
    /* what is learned: text, JSONL of texts, of chats (loss on answers alone), or of {prompt, chosen, rejected} */
    const char *const *data;
    size_t n_data;
    const char *template_text;  /* a chat template in place of the model's */
    /* the adapter */
    size_t rank;                /* [16] */
    double alpha;               /* [2 · rank] */
    const char *targets;        /* "q_proj,v_proj", "attn_q", … ["all-linear"] */
    const char *adapter;        /* go on with this one */
    /* against forgetting */
    const char *const *replay;  /* texts or chats of what the model should still be able to do; each step has some of them */
    size_t n_replay;
    double replay_share;        /* of a step's rows [0.25] */
    double kl;                  /* factor of the divergence from the model as it was, on replayed rows [1]; below 0: none */
    double replay_ce;           /* factor of the usual loss on them [0] */
    /* preferences */
    double beta;                /* of DPO: how far the model may go from its reference [0.1] */
    /* privacy: noise or epsilon switches it on. Every row is then one example, drawn with probability batch / examples */
    double dp_noise;            /* standard deviation of the noise, in clipping lengths */
    double dp_epsilon;          /* in place of dp_noise: as much noise as keeps the run within it */
    double dp_clip;             /* [1] */
    double dp_delta;            /* [1 / (10 · examples)] */
    /* judging: before and after */
    const char *forget;         /* text: perplexity on its first rows */
    double gate;                /* per cent by which it may grow; more: E_GATE, and nothing is written [none] */
    const char *probe;          /* chats whose answers the model should know afterwards [the data, up to 200 items] */
    mote_train_callbacks on;
} mote_finetune_opts;
MOTE_API void mote_finetune_opts_fill(mote_finetune_opts *o, size_t size);
static inline mote_finetune_opts mote_finetune_opts_default(void) {
    mote_finetune_opts o;
    mote_finetune_opts_fill(&o, sizeof o);
    return o;
}

typedef struct mote_finetune_result {
    size_t size;
    uint64_t steps, tokens;
    size_t n_trained, n_all;           /* numbers that were trained; parameters of the model */
    size_t n_items;                    /* of the data */
    double loss;                       /* of the last tenth of the steps */
    double ppl_before, ppl_after;      /* of `forget`; 0: none */
    size_t n_probe, known_before, known_after; /* answers of which every token is the likeliest one */
    double preferred_before, preferred_after;  /* DPO: share of pairs whose chosen answer gained on the other; before: that is likelier */
    double epsilon, delta, share_cut;  /* privacy: spent, over all runs of the checkpoint folder */
    double seconds;
} mote_finetune_result;
/* r may be NULL. E_CANCELLED: stopped, the same call goes on from there; E_GATE: see gate (*r is filled); E_MISMATCH: a checkpoint of another run. */
MOTE_API mote_status mote_finetune(const mote_finetune_opts *o, mote_finetune_result *r, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
