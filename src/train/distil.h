/* distil.h: teaching a student what a teacher knows: what the loss is made of, where the rows come from, and the run around it.
 *
 * A loss is a sum of terms (op_distill.h), each with a weight and a part of the run in which it counts, so that a run may go
 * through stages: first hidden states, then logits, say. Rows are text that is given, text that the teacher makes up, what the student itself
 * says (rolled out every few steps by the engine, from the weights as they then are), or a file with a teacher's likeliest tokens. */
#ifndef MOTE_TRAIN_DISTIL_H
#define MOTE_TRAIN_DISTIL_H

#include "train/distil_cache.h"
#include "train/op_distill.h"
#include "train/qat.h"
#include "train/trainer.h"

/* ---- terms ---- */
typedef enum distil_kind {
    DISTIL_CE,       /* the text's own next token */
    DISTIL_KL,       /* the teacher's distribution: forward, */
    DISTIL_RKL,      /* reverse, */
    DISTIL_JSD,      /* in between, */
    DISTIL_ULD,      /* sorted */
    DISTIL_GOLD,     /* of other vocabularies: tokens of both one by one, the others sorted, and spans */
    DISTIL_SPAN,     /* of other vocabularies: the text between two common borders as a whole */
    DISTIL_HIDDEN,   /* the streams between layers, normed: squared difference, */
    DISTIL_COSINE,   /* direction */
    DISTIL_ATTN,     /* feature maps: what attention gives before its output matrix, normed: squared difference, */
    DISTIL_FFN,      /* … and the feed-forward's activations before the matrix that leads down */
    DISTIL_RELATION  /* queries', keys' and values' relations between tokens in one layer */
} distil_kind;
typedef struct distil_term {
    distil_kind kind;
    float weight;
    double from, until; /* shares of the run: counts in [from, until) */
} distil_term;
enum { DISTIL_TERMS_MAX = 16 };
/* "kl=1,ce=0.1,hidden=0.5@0-0.4": name, weight (1), stage (all of the run). E_USAGE names what is not understood, and two different
 * divergences that count at once. */
mote_status distil_terms(distil_term *dst, size_t *n, const char *text, mote_error *err);

/* ---- vocabularies (distil_align.c) ----
 * Texts are cut differently by both, so predictions are compared where both have a border at the same byte; there both say what
 * comes next, each in its own tokens. PROJECT: each of the teacher's tokens counts for the student's longest token that it begins with (its own
 * bytes, where the student has them too). */
typedef struct distil_align distil_align;
/* Whether ids mean the same in both, as far as both go; what one has more are tokens that are not used. */
bool distil_same_vocab(const tok_vocab *a, const tok_vocab *b);
mote_status distil_align_open(distil_align **out, const tok_vocab *student, const tok_vocab *teacher, mote_error *err);
void distil_align_close(distil_align **a);
const int32_t *distil_align_map(const distil_align *a); /* [teacher's vocabulary], as distill_opts.map */
const int32_t *distil_align_same(const distil_align *a); /* the same, but only tokens whose text is the same in both, and what ends a text */
double distil_align_shared(const distil_align *a);      /* share of the teacher's tokens whose bytes the student has as one token */
/* The text between two common borders where one or both have several tokens: rows [ours, ours + n_ours) predict it, token by token, and
 * [theirs, theirs + n_theirs). */
typedef struct distil_span {
    uint32_t ours, n_ours, theirs, n_theirs;
} distil_span;
enum { DISTIL_SPAN_TOKENS = 16 /* of either, at most */ };
/* A batch in the teacher's tokens, the pairs of rows (ours, theirs) with a common border, and the spans between them. Memory is the align's, until
 * the next call. */
typedef struct distil_aligned {
    data_batch theirs; /* seqs and ids alone */
    const int32_t *ours_at, *theirs_at; /* [n] rows */
    size_t n;
    const distil_span *spans;
    size_t n_spans;
} distil_aligned;
mote_status distil_align_batch(distil_align *a, const data_batch *b, distil_aligned *out, mote_error *err);

/* ---- the loss ---- */
typedef struct distil_opts {
    net *student, *teacher;    /* teacher NULL: rows bring likeliest tokens, or there is cross-entropy alone */
    const distil_term *terms;
    size_t n_terms;
    float temperature, beta;   /* 0: 1; 0.5 */
    bool relation_set;         /* the layer below counts; else five sixths of the way up */
    size_t relation_layer;     /* of the student */
    /* [student's layers] the teacher's layer that each is compared with, or -1: not; NULL: those in the same place. Borrowed for distil_open. */
    const int32_t *layer_map;
    distil_align *align;       /* NULL: the vocabulary is the same */
    qat *qat;                  /* NULL: floats */
    uint64_t seed;             /* of the learned projection, where widths differ */
} distil_opts;

/* "1:2,2:4,…": student's layers to teacher's, counted from 1; dst[n_student]: as distil_opts.layer_map. */
mote_status distil_layers(int32_t *dst, size_t n_student, size_t n_teacher, const char *text, mote_error *err);

typedef struct distil_figures { /* means since the last distil_take_figures */
    double divergence, ce, agree, inside;
    uint64_t rows;
} distil_figures;

typedef struct distil distil;
/* E_MISMATCH: vocabularies or shapes that the terms cannot bridge, with both sizes. */
mote_status distil_open(distil **out, const distil_opts *o, mote_error *err);
void distil_close(distil **d);
/* What is trained: the student's parameters or their scales, and the projection. Returns how many; fills at most cap. */
size_t distil_params(distil *d, train_param *dst, size_t cap);
/* A train_loss_fn; ctx: the distil. */
train_loss_fn distil_loss;
/* To be called from the trainer's hooks. */
void distil_part_done(distil *d);
void distil_grads_done(distil *d);
void distil_updated(distil *d);
/* The share of the run that is done, for stages. */
void distil_at(distil *d, double progress);
/* The likeliest tokens of the rows that count, in order, for the next distil_loss; NULL: none. */
void distil_set_top(distil *d, const distill_top *top);
distil_figures distil_take_figures(distil *d);
/* Mean forward KL of a batch from the teacher at temperature 1 and mean cross-entropy, nothing trained. With an align: the latter alone. */
mote_status distil_measure(distil *d, tape *t, const data_batch *b, distill_seen *out, mote_error *err);
/* Adds a batch's sequences to a cache of the teacher's k likeliest tokens. */
mote_status distil_keep(net *teacher, tape *t, const data_batch *b, float temperature, distil_cache_writer *w, size_t k, mote_error *err);

/* ---- sequences of tokens that are no file's text: made up by a model, or of a cache (distil_rows.c) ---- */
typedef struct distil_rows {
    int32_t *ids;     /* of all sequences */
    bool *counts;     /* … whether what follows the token is to be learned; false at the end of a sequence */
    size_t *start;    /* [n + 1] */
    size_t n, cap_ids, cap_counts, cap_start;
} distil_rows;
mote_status distil_rows_add(distil_rows *r, const int32_t *ids, const bool *counts, size_t n, mote_error *err);
void distil_rows_free(distil_rows *r);
/* All of a file; the tokens alone. */
mote_status distil_rows_read(distil_rows *r, const distil_cache *c, mote_error *err);

/* ---- where the rows of a step come from ---- */
typedef struct distil_source_opts {
    distil *d;                  /* is told of progress and of the rows' likeliest tokens; NULL: nobody is */
    data *data;                 /* text; NULL: `rows` alone */
    size_t rows_per_step, rows_per_part, n_ctx;
    const distil_rows *rows;    /* made up, or of a cache: shuffled anew in each epoch */
    const distil_cache *cache;  /* brings the likeliest tokens of rows; or NULL */
    uint64_t seed;
    /* What the student says: in a share `on_policy` of the steps the rows are continuations by the student of the beginnings of the data's rows, made
     * `ahead` steps at a time. roll: continues `prompts` (tokens that do not count), filling `out`. */
    double on_policy;
    size_t ahead, prompt;       /* [4]; tokens of a prompt at most [n_ctx / 4] */
    mote_status (*roll)(void *ctx, const distil_rows *prompts, distil_rows *out, mote_error *err);
    void *roll_ctx;
    /* Called before a step is drawn, with its number: for choosing anew what the data consist of. */
    mote_status (*before)(void *ctx, uint64_t step, mote_error *err);
    void *before_ctx;
} distil_source_opts;
typedef struct distil_source distil_source;
mote_status distil_source_open(distil_source **out, const distil_source_opts *o, mote_error *err);
void distil_source_close(distil_source **s);
train_source distil_source_rows(distil_source *s);
/* From the next step on the data consist of these items alone (data_select). They go into the cursor. */
mote_status distil_source_select(distil_source *s, const uint32_t *items, size_t n, mote_error *err);
/* The beginnings of a batch's sequences, as prompts: a chat up to where the assistant speaks, of a text at most `most` tokens and half of it. */
mote_status distil_prompts(distil_rows *out, const data_batch *b, size_t most, mote_error *err);

/* ---- a model that talks (distil_roll.c) ---- */
typedef struct distil_roll {
    const char *path;      /* of the model's file */
    size_t n_ctx, n_new;   /* positions of a sequence; tokens to make up at most, 0: until the context is full */
    size_t at_once;        /* sequences [8] */
    float temperature;     /* 0: the likeliest */
    uint64_t seed;
    int n_threads;
    bool (*stop)(void *ctx, size_t done, size_t total); /* progress; true: E_CANCELLED. NULL: none */
    void *ctx;
} distil_roll;
/* Continues every prompt; what is made up counts. Sequences that end themselves are shorter. */
mote_status distil_roll_out(const distil_roll *o, const distil_rows *prompts, distil_rows *out, mote_error *err);
/* ---- text that a model makes up (distil_made.c) ---- */
typedef struct distil_made {
    data *from;            /* gives the beginnings; its cursor moves */
    const char *model;     /* path of its file */
    double tokens;         /* about so many in all */
    size_t n_ctx, prompt;  /* of a sequence; of its beginning at most [n_ctx / 4] */
    float temperature;     /* [1] */
    uint64_t seed;
    int n_threads;
    bool (*stop)(void *ctx, size_t done, size_t total);
    void *ctx;
    const log_sink *log;
} distil_made;
/* What the file `keep` holds when it is there: what an earlier run made up. Else it is made up, and kept there. */
mote_status distil_make_rows(distil_rows *out, const distil_made *o, const char *keep, mote_error *err);

/* ---- fewer examples (distil_select.c) ---- */
typedef enum distil_select_kind {
    DISTIL_SELECT_NONE,
    DISTIL_SELECT_RANDOM,
    DISTIL_SELECT_LOSS,    /* where the student is furthest from the teacher */
    DISTIL_SELECT_DIVERSE, /* from every cluster of the teacher's mean final state, those nearest to its centre first */
    DISTIL_SELECT_BOTH,    /* from every cluster, where the student is furthest */
    DISTIL_SELECT_ACTIVE   /* as LOSS, chosen anew as the student learns */
} distil_select_kind;
bool distil_select_find(const char *name, distil_select_kind *out); /* random, loss, diverse, both, active */
typedef struct distil_select {
    distil_select_kind kind;
    double keep;           /* share of the items */
    size_t clusters;       /* [sqrt(items)], at most 256 */
    size_t pool;           /* items that are looked at, at most [all]: drawn by seed */
    size_t tokens;         /* of an item that are looked at, at most [96] */
    uint64_t seed;
    bool (*stop)(void *ctx, size_t done, size_t total);
    void *ctx;
} distil_select;
/* The items to keep, best first: MAX(1, keep · items looked at) of them. *items: owned by the caller. tokens_read: what looking cost. */
mote_status distil_choose(distil *d, tape *t, data *from, const distil_select *o, uint32_t **items, size_t *n, uint64_t *tokens_read, mote_error *err);

#endif
