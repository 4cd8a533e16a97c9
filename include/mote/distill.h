/* distill.h: a small model learns what a large one knows, and a model learns to live with the number format it will be packed in (QAT). */
#ifndef MOTE_DISTILL_H
#define MOTE_DISTILL_H

#include "mote/compress.h"
#include "mote/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Quantization-aware training: the student is trained with its weights rounded as they will be packed, and written so. */
typedef struct mote_qat_options {
    const char *type;                  /* as mote_quantize's: "Q4_0", "Q4_K_M", "Q2_0" …; NULL: none */
    const mote_tensor_type *overrides; /* as mote_quantize_options */
    size_t n_overrides;
    const char *output_format;
    const char *token_embedding_format; /* also in up to four parts: "8192=Q4_96,16384=Q3_96,Q2_96" are the first 8192 tokens, the next 16384, and the rest */
    bool pure;
    bool only_scales;                  /* the packed integers stay; scales and norms learn. From a packed student: its very integers */
    bool fixed_scales;                 /* scales stay as the encoder chose them */
    double scale_lr;                   /* the scales' learning rate, as a multiple of the weights' [10] */
    bool activations;                  /* also round activations to int8, as the engine does */
    const char *type_k, *type_v;       /* also round keys and values as a cache of this type does: "q8_0", "q4_0" … [not] */
    /* Slots: a run in many short parts that keeps nothing between them but the packed file (`out`) and this file, of about `state_bits` bits a
     * weight: the weights' places between the levels they are rounded to, and condensed second moments. Where it exists, the student
     * is `out` and goes on; `student` is then the teacher's default alone. No checkpoints are written. Not exact: see docs/howto/distil.md. */
    const char *state;                 /* [none: checkpoints, which go on to the bit] */
    int state_bits;                    /* 4 to 8 [6] */
    uint64_t slot_steps;               /* end a slot after so many steps … [0: not] */
    double slot_seconds;               /* … or so many seconds, both files written [0: not] */
} mote_qat_options;

/* Zero means the default in brackets. Strings are borrowed for the call. */
typedef struct mote_distill_options {
    mote_train_settings settings;      /* lr [2e-4; with QAT 1e-4] */
    mote_train_callbacks callbacks;
    const char *student;               /* the model that learns: a GGUF file or a Hugging Face folder; it is not changed */
    const char *teacher;               /* the model it learns from; with QAT [the student itself, before rounding] */
    const char *out;                   /* the GGUF file to write */
    const char *out_type;              /* number format of the matrices, without QAT [floats stay as they are; of others: "bf16"] */
    const mote_train_source *data;     /* chats teach what the assistant says … */
    size_t n_data;
    bool whole_chats;                  /* … or all that is said in them, and the template's own tokens */
    double held_out;                   /* share of the data's items that is kept to look at [0.01]; below 0: none */
    /* what is compared: NAME=WEIGHT@FROM-UNTIL, separated by commas; FROM and UNTIL are shares of the run. ce: the text's own next
     * token; kl, rkl, jsd: the teacher's distribution (forward and reverse KL, Jensen-Shannon), uld: both sorted; gold: with align, tokens of both vocabularies one by one, the others sorted, and spans; span: with align, the text between two common borders as a whole; hidden, cosine: the states between
     * layers; attn, ffn: what goes into attention's output matrix and out of the feed-forward's activation; relation: queries', keys' and values' relations between tokens (MiniLM) ["kl"] */
    const char *loss;
    double temperature;                /* of the distributions compared [1] */
    double beta;                       /* of jsd [0.5] */
    int relation_layer;                /* counted from 1 [five sixths of the way up] */
    const char *layer_map;             /* "1:2,2:4": student's layers and those of the teacher they are compared with [those in the same place] */
    bool align;                        /* the vocabularies differ: compare where both have a border at the same byte of the text */
    /* what is read */
    double on_policy;                  /* share of the steps whose rows the student itself goes on with (GKD's λ) [0] */
    size_t on_policy_ahead;            /* such steps that are written at once, from the same weights [4] */
    double generate;                   /* tokens that the teacher makes up, to learn from in place of the data (which give the beginnings) [0] */
    double sample_temperature;         /* of what both make up [1] */
    size_t prompt_tokens;              /* of a text, to go on from [a quarter of the row] */
    const char *cache;                 /* learn from this file of a teacher's likeliest tokens; then no teacher and no data are needed */
    const char *write_cache;           /* make such a file of the data (or of what the teacher makes up), and train nothing */
    size_t top_k;                      /* of it [64] */
    /* fewer examples: "loss", "diverse", "both", "active", "random" [all are used] */
    const char *select;
    double keep;                       /* share of them that is kept [0.3] */
    size_t select_pool;                /* items that are looked at [2000] */
    uint64_t select_every;             /* active: steps after which the choice is made anew [50] */
    mote_qat_options qat;
    const char *after;                 /* a model that such a run has made: begin with its unrounded weights, which the run's folder (its path with ".run") still holds; with QAT where it ended, in whatever formats that was [the student's] */
} mote_distill_options;

typedef struct mote_distill_report {
    uint64_t steps_in_all;             /* of the run; more than `steps` where a slot ended before */
    uint64_t state_bytes;              /* of the state file */
    uint64_t steps, tokens, rows, resumed_at, skipped;
    double loss;                       /* mean of the last tenth of the steps */
    double divergence, ce, agree;      /* on held-out data at the end: mean forward KL from the teacher, cross-entropy, share of equal likeliest tokens; NaN */
    double divergence_before;          /* the same before the first step (of a run that went on: NaN) */
    double seconds, tokens_per_s, machine_share;
    uint64_t bytes;                    /* of the file written */
    double shared_vocab;               /* align: share of the teacher's tokens that the student has too; else 1 */
    uint64_t selected, looked_at, look_tokens; /* items kept, and what choosing cost */
    uint64_t cached_tokens;            /* of write_cache */
    bool finished;                     /* false in processes but the first */
    char curve[512];                   /* path of the loss curve (SVG), or "" */
} mote_distill_report;

/* Trains and writes options->out, which appears only when it is complete. A run that was killed goes on from its last checkpoint when it is
 * called again with the same options. *report may be NULL.
 * Errors: those of mote_train; E_MISMATCH also: vocabularies that differ, without `align`, with both sizes. Thread: any. */
MOTE_API mote_status mote_distill(const mote_distill_options *options, mote_distill_report *report, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
