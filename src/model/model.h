/* model.h: an opened model, its state (caches) and the forward pass.
 *
 * A `model` is immutable and shared, but for its weights' packing, which nobody can see: passes over one model (and
 * model_warm) are made one at a time. A `state` belongs to one engine and holds the caches of n_seq sequences
 * and every buffer a pass needs, sized once in state_open: model_forward allocates nothing.
 * The logits of a token depend on the sequence's tokens alone: not on threads, batch composition or on what
 * was computed in which call (bit for bit, on one rung of the ISA ladder). */
#ifndef MOTE_MODEL_MODEL_H
#define MOTE_MODEL_MODEL_H

#include "base/base.h"
#include "format/format.h"

struct kern_table;
struct prof;

typedef enum pooling { POOL_NONE = 0, POOL_MEAN = 1, POOL_CLS = 2, POOL_LAST = 3, POOL_RANK = 4 } pooling;

/* Overrides; zero means "as the file says". */
/* A LoRA adapter (format/adapter.h) that is applied while the model runs, times scale. */
typedef struct model_adapter {
    const char *path;
    float scale;
} model_adapter;

typedef struct model_opts {
    const model_adapter *adapters; /* [n_adapters]; needed until model_open returns */
    size_t n_adapters;
    const char *heads;             /* a heads file (format/heads.h), or NULL; its path, until model_open returns */
    bool no_mmap, mlock;
    bool stacked;                  /* an embedding in parts of rows stays in them (format/stack.c): for running, not for changing */
    uint32_t cpu_mask;             /* 0 means CPU_ALL; CPU_SCALAR_ONLY for the scalar rung */
    float rope_freq_base, rope_freq_scale;
    float dynamic;                 /* share of feed-forward neurons that are left out by what the gate says (dynamic.h): 0 as the file says,
                                      below 0 none, else so many */
    int rope_scaling;              /* 0 as the file says, 1 none, 2 linear, 3 yarn */
    const log_sink *log;
} model_opts;
#define CPU_SCALAR_ONLY (1u << 30) /* as a mask: no feature at all */

typedef struct model model;
/* path: a GGUF file (any part of a split one) or a Hugging Face folder. */
mote_status model_open(model **out, const char *path, const model_opts *o, pool *p, mote_error *err);
void model_close(model **m);
/* Packs all weights now; what tensors of coded files were decoded into is given back, so that from here on a weight is read by
 * weight_row alone. Else passes pack panel by panel as they go, for themselves, until a second token is to be
 * generated or the prompt turns out to be long: a model opens in the time its tables take, and who asks for one answer
 * never pays for more. */
void model_warm(const model *m, pool *p);
bool model_is_warm(const model *m);

typedef struct model_info {
    const char *arch;       /* general.architecture */
    const char *name;       /* general.name or "" */
    const char *rung;       /* the ISA rung the kernels run on */
    size_t n_layer, n_embd, n_vocab, n_ctx_train;
    uint64_t n_params, weight_bytes, packed_bytes, file_bytes;
    uint64_t resident_bytes; /* of weights once packed: panels, and the file's form of the others */
    bool causal;            /* false: encoder; logits are not defined, use hidden states */
    bool recurrent;         /* some layer keeps a recurrent state: truncation needs a checkpoint */
    bool windowed;          /* some layer keeps only a window of its keys and values */
    bool can_shift;         /* cached keys can be moved to other positions (context shift) */
    pooling pooling;
    size_t n_embd_out;      /* length of a hidden row from model_forward */
} model_info;
/* dst[n_embd]: what a Medusa head sees of a token: its row of the embedding, with a mean square of 1. */
void model_token_row(const model *m, int32_t id, float *dst);
/* Extra heads (model_opts.heads): early exits, by ascending layers, and Medusa heads for tokens 1, 2, … ahead. */
typedef struct model_head {
    size_t layer, offset; /* what it reads, how far ahead it tells: format/heads.h */
    float accuracy;       /* as the file says, 0 … 1; negative: it does not */
} model_head;
size_t model_n_exits(const model *m);
size_t model_n_ahead(const model *m);
model_head model_get_exit(const model *m, size_t i);
/* Whether tokens can leave at an exit. E_USAGE: there is none. */
mote_status model_check_exits(const model *m, mote_error *err);
/* Whether they can be drafted there: no layer keeps a recurrent state. Error: E_UNSUPPORTED names the layer. */
mote_status model_check_drafts(const model *m, mote_error *err);
const model_info *model_get_info(const model *m);
const model_file *model_get_file(const model *m);

typedef struct state_opts {
    size_t n_ctx;           /* positions per sequence */
    size_t n_seq;           /* sequences, numbered 0 … n_seq-1 */
    size_t n_batch;         /* most tokens of one model_forward call */
    quant_type k_type, v_type; /* of the KV cache: f32, f16, bf16, q8_0, q4_0 */
    bool exact;             /* --activations f32: no int8 activations */
    /* Exits, which change results: a token whose logits are wanted leaves at the first exit that is sure of it by
     * exit_threshold: then its logits are the exit's. Its way through the layers behind is made later, with the next token of its
     * sequence that goes on (exits.c): the caches, and so all other tokens, are those of the model without exits. Tokens whose
     * logits nobody wants (a prompt's) go through all layers.
     * How sure: the probability of the likeliest among the 16 likeliest tokens, or what the exit's gate makes of it (format/heads.h), and the
     * same among the first eighth of the vocabulary, where that is too small the rest is not looked at. 0: they leave at the first exit; above 1: never. */
    bool exits;
    float exit_threshold;
} state_opts;

typedef struct state state;
/* o->n_ctx etc. must be > 0. Uses the pool for every pass; both must outlive the state. */
mote_status state_open(state **out, const model *m, const state_opts *o, pool *p, mote_error *err);
void state_close(state **s);
typedef struct state_sizes {
    size_t kv_bytes, recurrent_bytes, compute_bytes, total_bytes;
} state_sizes;
state_sizes state_get_sizes(const state *s);

/* One run of consecutive tokens of one sequence within a batch. pos0 must equal state_seq_len(seq). Each
 * sequence occurs at most once in a batch. */
typedef struct model_seg {
    size_t seq, pos0, n;
} model_seg;
typedef struct model_batch {
    const int32_t *ids;      /* [n], the segments' tokens one after the other; checked against the vocabulary */
    size_t n;
    const model_seg *segs;
    size_t n_segs;
    const int32_t *want;     /* ascending indices of rows whose result is wanted */
    size_t n_want;
    float *logits;           /* [n_want, n_vocab] or NULL */
    float *hidden;           /* [n_want, n_embd_out]: after the final norm; or NULL */
    /* With n_want 1: only these of the logits are needed, and found (of which nothing is read) may hold them instead
     * of `logits`: found->ok says where they are. In found, y are the logits themselves, k, gap and ids as the model
     * gives them. See tensor.h. */
    const struct head_query *query;
    struct head_found *found;
} model_batch;
mote_status model_forward(state *s, const model_batch *b, mote_error *err);
/* The logits [n, n_vocab] that model_forward would have given with these hidden rows: the very same bits. */
void model_logits(state *s, const float *hidden, size_t n, float *logits);
/* What exits did since the state was opened: tokens whose logits were wanted, layers they went through, and how many left
 * at each exit (exits: [model_n_exits]). */
typedef struct model_exit_stats {
    uint64_t n_tokens, n_layers;
    const uint64_t *exits;
} model_exit_stats;
model_exit_stats state_exit_stats(const state *s);

/* ---- guesses, for speculation: they change nothing that later passes compute ---- */
enum { MODEL_GUESS_MAX = 40, MODEL_STREAM_ROWS = 80 };
typedef struct model_guessed {
    int32_t id; /* the likeliest among the tokens that the heads' file names, else among the first eighth of the vocabulary (tokenizers
                   number by frequency; Zhao et al. 2025, FR-Spec): reading the rest costs more than it gives */
    float sure; /* its probability there among the 16 likeliest */
} model_guessed;
/* What Medusa head k guesses behind token id: k 0: which was drawn from wanted row `row` of the last pass; k > 0: which stands behind the one that
 * head k - 1 was asked about last. False: the row is none of the last pass, or there is no such head. */
bool model_guess_ahead(state *s, size_t row, size_t k, int32_t id, model_guessed *out);
/* Runs token id of sequence seq through the layers before exit i, behind those that were drafted since the last pass, and
 * guesses what follows. The next model_forward of this sequence alone takes over what drafts of the same tokens have computed;
 * its results are the same as without. Error: E_RANGE: no room, E_USAGE: no such exit. model_check_drafts must hold. */
mote_status model_draft(state *s, size_t seq, size_t i, int32_t id, model_guessed *out, mote_error *err);
/* Passes from now on are profiled into p (tensor/prof.h), which has a slot for each thread of the pool; NULL: not. */
void state_set_prof(state *s, struct prof *p);
/* Passes from now on call fn(ctx, …) for every product of a weight: all layers' linear maps, experts by expert, routers,
 * and the head where logits are wanted (tensor/tensor.h, linear_seen); fn NULL: no more. Costs nothing while off. For inputs as
 * the float model has them, open the state with `exact`. Error: E_MEMORY, for the room to keep rows in. */
struct linear_seen;
mote_status state_set_observer(state *s, void (*fn)(void *ctx, const struct linear_seen *seen), void *ctx, mote_error *err);
/* Passes from now on call fn(ctx, …) with the residual stream x[n, n_embd] before each of the layers and, with il the
 * number of layers, after the last (before the final norm); fn NULL: no more. Thread: the pool's first, during the pass. */
typedef void state_stream_fn(void *ctx, size_t il, const float *x, size_t n);
void state_set_stream(state *s, state_stream_fn *fn, void *ctx);

/* What a pass has to read and to compute at least: every weight once (of experts those that are likely to be met), the
 * cached keys and values that are seen, recurrent states; multiplications and additions of matrix products and
 * attention. Nothing else is counted. */
typedef struct model_work {
    double weight_bytes, cache_bytes;
    double int8_ops, float_ops;
} model_work;
/* A pass that gives each of n_seq sequences n tokens from position pos0 on, with the logits of the last. */
void model_pass_work(const state *s, size_t n_seq, size_t n, size_t pos0, model_work *out);

/* Tokens of the sequence that left early, and whose way through the layers behind is still to be made, make it: to be called before
 * its caches are saved (state_seq_save, state_checkpoint_save) or shifted. At once when there are none. */
void model_settle(state *s, size_t seq);

/* ---- what a sequence's caches hold ---- */
size_t state_seq_len(const state *s, size_t seq); /* positions 0 … len-1 are cached */
void state_seq_clear(state *s, size_t seq);
/* Forgets positions ≥ n. False when that is impossible (recurrent state, or a window that has moved on):
 * then restore a checkpoint at or before n, or clear. n == len always succeeds. */
bool state_seq_truncate(state *s, size_t seq, size_t n);
/* dst becomes a copy of src. */
void state_seq_copy(state *s, size_t dst, size_t src);
/* Context shift: forgets positions [from, from+n) and moves the later ones down by n (keys are rotated back).
 * MOTE_E_UNSUPPORTED when info.can_shift is false. */
mote_status state_seq_shift(state *s, size_t seq, size_t from, size_t n, mote_error *err);

/* A checkpoint holds what truncation cannot bring back: recurrent states and windowed caches of one sequence,
 * as they are at its present length. 0 bytes for models that need none. */
size_t state_checkpoint_bytes(const state *s);
void state_checkpoint_save(const state *s, size_t seq, void *dst);
/* Restores a checkpoint taken at length n of this very sequence (its other caches must still hold 0 … n-1). */
void state_checkpoint_load(state *s, size_t seq, const void *src, size_t n);

/* The whole of a sequence's caches as bytes (for files); format depends on model, cache types and n_batch. */
size_t state_seq_bytes(const state *s, size_t seq);
void state_seq_save(const state *s, size_t seq, void *dst);
mote_status state_seq_load(state *s, size_t seq, const void *src, size_t n_bytes, size_t len, mote_error *err);

#endif
