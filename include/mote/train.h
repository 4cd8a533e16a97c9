/* train.h: training a language model, from random weights or from a model, and what all commands that train have in common. */
#ifndef MOTE_TRAIN_H
#define MOTE_TRAIN_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How is trained. Zero means the default in brackets. Strings are borrowed for the call. */
typedef struct mote_train_settings {
    /* how much */
    uint64_t steps;         /* updates [by tokens or epochs] */
    double tokens;          /* of the whole run, in place of steps */
    double epochs;          /* over the data, in place of steps [1] */
    double max_seconds;     /* of training, all sittings together: a run that would take longer gets fewer steps, and its decay earlier [none] */
    size_t n_ctx;           /* tokens of a row [512, at most what the model knows] */
    size_t batch;           /* rows of a step [8] */
    size_t micro_batch;     /* rows at once, the rest adds up [as many as about 2048 tokens] */
    /* how fast */
    double lr;              /* peak learning rate [by the command] */
    const char *lr_steps;   /* "1000=1e-4,3000=5e-5": in place of lr once so many steps are done [none] */
    const char *schedule;   /* "wsd", "cosine", "linear", "constant" ["wsd"] */
    double warmup;          /* share of the steps, or from 1 on steps [0.02]; below 0: none */
    double decay;           /* wsd: share of the steps at the end, or from 1 on steps [0.2] */
    const char *decay_shape; /* wsd: "linear" or "sqrt" (1 - sqrt(x)) ["linear"] */
    double floor;           /* what is left of lr at the end, as a share [0] */
    /* by what */
    const char *optimizer;  /* "adamw" or "muon": matrices by Muon, the rest by AdamW ["adamw"; mote_train's new models: "muon"] */
    double muon_lr;         /* Muon's own rate [lr, with updates of AdamW's size] */
    double beta1, beta2;    /* [0.9, 0.95] */
    double eps;             /* [1e-8] */
    double weight_decay;    /* [by the command]; below 0: none */
    bool decay_all;         /* also norms and biases */
    bool keep_zeros;        /* what is exactly 0 in a matrix stays 0: sparse models keep their pattern */
    double clip;            /* the gradient's norm is cut to it [1]; below 0: not */
    double ema;             /* of the weights, 0.999 say; the averages are what is written [none] */
    int state_bits;         /* 32, or 8: AdamW's averages in a quarter of the memory [32] */
    const char *freeze;     /* regular expression: tensors whose names it matches keep their weights [none] */
    /* on what */
    const char *precision;  /* of matrix products: "f32" or "bf16" ["bf16" where the machine has its instructions, else "f32"] */
    bool recompute;         /* activation checkpointing: layers are computed again on the way back, for less memory */
    int n_threads;          /* [one per usable core] */
    const char *isa;        /* highest instruction set to use, as in mote_engine_opts */
    const char *mpi_module; /* file of the MPI module, when this process is one of several [NULL: alone] */
    uint64_t seed;          /* of everything that is drawn [1] */
    /* what is kept */
    const char *dir;        /* folder of checkpoints, log and loss curve [the output's path with ".run"]; "": none */
    uint64_t save_every;    /* steps [a tenth of the run] */
    size_t keep;            /* so many newest checkpoints [2] */
    uint64_t eval_every;    /* steps between looks at held-out data [a twentieth of the run] */
    const char *on_nan;     /* "stop", "skip" or "back": what is done when a loss is not a number ["stop"] */
} mote_train_settings;

/* One step's figures. */
typedef struct mote_train_progress {
    uint64_t step, steps;
    double loss, grad_norm, lr;
    double eval_loss;       /* on held-out data; NaN: not looked at in this step */
    uint64_t tokens;        /* of the run so far */
    double tokens_per_s;    /* of all processes */
    double flop_s;          /* arithmetic that reached the model (6 per weight and token, and attention) per second */
    double machine_share;   /* of what the machine can do at most in this precision, 0 to 1; 0: not measured */
    double seconds, seconds_left;
    uint64_t skipped;       /* steps left out because something was not a number */
    size_t peak_bytes;      /* of activations */
    const char *sample;     /* text that the model has just made up, or NULL */
} mote_train_progress;

typedef struct mote_train_callbacks {
    void *ctx; /* all may be NULL */
    void (*progress)(void *ctx, const mote_train_progress *p); /* after each step; of the first process alone */
    void (*line)(void *ctx, const char *text);                 /* a warning or a fact, without newline */
    bool (*stop)(void *ctx);                                   /* true: checkpoint and end with E_CANCELLED */
} mote_train_callbacks;

/* ---- mote train ---- */

/* The shape of a new model. Zero: from depth. */
typedef struct mote_model_shape {
    const char *arch;      /* "llama" or "qwen3" (keys and queries normed) ["llama"] */
    size_t depth;          /* layers: the one dial; the rest follows from it */
    size_t width;          /* [64 per layer] */
    size_t n_head;         /* [width / 64] */
    size_t n_head_kv;      /* [n_head / 2 from 4 heads on, where it divides] */
    size_t n_ff;           /* [8/3 of the width, rounded up to 64] */
    size_t n_ctx;          /* tokens it knows positions for [the rows' length] */
    size_t n_vocab;        /* of a tokenizer that is trained on the data [4096] */
    bool untied;           /* a head of its own; else the embeddings are the head */
    double rope_base;      /* [10000] */
} mote_model_shape;

typedef struct mote_train_source {
    const char *path;      /* text, or JSONL with "text" or chats */
    double weight;         /* share of the tokens; 0 in all: everything once an epoch */
    double from, until;    /* in use while the run's progress is in [from, until); until 0: to the end */
} mote_train_source;

typedef struct mote_train_options {
    mote_train_settings settings;
    mote_model_shape shape;
    const char *recipe;    /* a YAML file whose values stand where the fields here are zero, or NULL */
    const char *model;     /* goes on from these weights; NULL: from random ones */
    const char *tokenizer; /* a new model's: taken from this model, or from a tokenizer's GGUF; NULL: trained on the data */
    const char *out;       /* the GGUF file */
    const char *out_type;  /* number format of the matrices: "f32", "f16", "bf16", "q8_0"… ["bf16"; a model's own floats stay as they are] */
    const mote_train_source *data;
    size_t n_data;
    const char *order;     /* of the data: "shuffled", "as-is" or "easy-first" (as it is, in the first epoch) ["shuffled"] */
    const char *eval_data; /* held-out text [1 % of the data's items] */
    double held_out;       /* another share; below 0: none */
    double layer_dropout;  /* LayerSkip: chance that the last layer is left out of a part of a step; less for those before it [0: none] */
    double early_exit;     /* … and how much the model's head behind inner layers counts, 0 to 1 [0: not at all] */
    size_t sample_tokens;  /* text made up at each look at held-out data [0: none] */
    const char *sample_prompt;
    mote_train_callbacks callbacks;
} mote_train_options;

typedef struct mote_train_report {
    uint64_t steps, tokens, n_params, data_items;
    double loss, eval_loss, best_eval_loss; /* of the last step (the mean of the last tenth's steps); NaN: not measured */
    double seconds, tokens_per_s, machine_share;
    uint64_t resumed_at;   /* 0: began anew */
    uint64_t skipped;
    bool finished;         /* false in processes but the first */
    char output[512];      /* the file written */
    char curve[512];       /* path of the loss curve (SVG), or "" */
} mote_train_report;

/* Trains and writes options->out, which appears only when it is complete. A run that was killed goes on from its last
 * checkpoint when it is called again with the same options. *report may be NULL.
 * Errors: E_USAGE, E_NOT_FOUND, E_FORMAT (data, recipe), E_MISMATCH (the checkpoint is of another run, by name), E_OUTPUT (NaN),
 * E_UNSUPPORTED (a family that cannot be trained), E_IO (also: a checkpoint could not be written, though the run went on and the
 * output is there), E_MEMORY, E_CANCELLED. Thread: any. */
MOTE_API mote_status mote_train(const mote_train_options *options, mote_train_report *report, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
