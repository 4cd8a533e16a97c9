/* pruning.h: the inside of pruning (see mote/prune.h). Each step reads one model file and writes another; prune.c chains them.
 *
 * Invariants
 *   - A step refuses what it cannot do before it writes.
 *   - Choices depend on the text, the options and the seed alone, not on the number of threads. */
#ifndef MOTE_COMPRESS_PRUNING_H
#define MOTE_COMPRESS_PRUNING_H

#include "format/edit.h"
#include "model/arch.h"
#include "mote/prune.h"
#include "token/token.h"

/* One step at work. */
typedef struct prune {
    const mote_prune_opts *o;
    const char *in;      /* path */
    pool *pool;
    model *m;            /* of `in` */
    const model_file *f;
    tok_vocab *vocab;    /* opened by prune_tokens */
    tok_ids ids;         /* the calibration text; filled by prune_tokens */
    state *st;           /* prune_window's */
    arena mem;           /* small things of this step */
    void **blocks;       /* large ones: prune_alloc */
    size_t n_blocks, cap_blocks;
    model_edit *edit;
    size_t n_retyped;    /* tensors that could not keep their format */
    buf *text;           /* of the report; owned by the driver */
    json_t *json;        /* an object for this step; the same */
} prune;

enum { PRUNE_WINDOW = 512 };

/* ---- prune.c ---- */
mote_status compress_prune(const char *in, const char *out, const mote_prune_opts *o, mote_prune_report *report,
                           mote_error *err);
void compress_prune_report_free(mote_prune_report *r);
/* Memory that lives until the step's end. */
mote_status prune_alloc(prune *p, size_t n, size_t size, void *out, mote_error *err);
mote_status prune_progress(prune *p, const char *step, size_t done, size_t total, mote_error *err);
/* ARCH.key */
const char *prune_key(const prune *p, const char *key, char out[160]);
/* A line of the report. */
MOTE_PRINTF(2, 3) void prune_say(prune *p, const char *fmt, ...);

/* ---- prune_calib.c ---- */
/* The ids of the calibration text, at most the number that is asked for. E_USAGE without a text. */
mote_status prune_tokens(prune *p, size_t otherwise, mote_error *err);
size_t prune_n_windows(const prune *p);
/* Opens p->st, once. */
mote_status prune_state(prune *p, mote_error *err);
/* Runs window w of the ids from an empty state. hidden: [tokens, n_embd] after the final norm, or NULL. *n: its tokens. */
mote_status prune_window(prune *p, size_t w, float *hidden, size_t *n, mote_error *err);
/* Mean negative log-likelihood of the text under p->m as it is now (layers may have been taken out of its table). */
mote_status prune_nll(prune *p, double *nll, mote_error *err);

/* What the rows that meet a weight look like. */
typedef struct seen_stats {
    const weight *w;
    size_t cols, n_mat;
    double *n;      /* [n_mat] rows */
    double *sum, *abs, *sq; /* [n_mat, cols] sums of x, |x| and x² */
    float *gram;    /* [cols, cols] sums of x xᵀ where asked for, else NULL */
} seen_stats;
/* wants_gram(role) may be NULL. Stats of every product's weight; those that share rows share them. */
typedef struct calib {
    prune *p;
    seen_stats *all;
    size_t n;
    double *hidden_sq, n_hidden; /* [n_embd] of the final norm's output */
} calib;
mote_status prune_calibrate(prune *p, const role *gram, size_t n_gram, calib *out, mote_error *err);
const seen_stats *prune_seen(const calib *c, const weight *w); /* NULL: never met */

/* ---- prune_slice.c ---- */
typedef enum prune_axis {
    AXIS_NONE, AXIS_EMBD, AXIS_FF, AXIS_Q, AXIS_K, AXIS_V, AXIS_O, AXIS_QKV, AXIS_VOCAB, AXIS_HEAD, AXIS_EXPERT,
    AXIS_UNKNOWN /* nobody may change what it depends on */
} prune_axis;
/* The axes of a tensor of layer l (NULL: of the model): of its rows and of its columns. */
void prune_axes(const prune *p, role r, prune_axis *rows, prune_axis *cols);
typedef struct prune_keep { /* indices of what stays, in their new order; NULL: all of it */
    uint32_t *ff, *heads, *groups;
    size_t n_ff, n_heads, n_groups;
} prune_keep;
typedef struct prune_plan {
    uint32_t *embd, *vocab;
    size_t n_embd, n_vocab;
    prune_keep *layers; /* [n_layer] or NULL */
} prune_plan;
/* Weights that read a thinned input, in place of a plain cut: may fill w[rows, kept columns] from whole[rows, columns]. */
typedef mote_status prune_fit_fn(void *ctx, prune *p, size_t il, role r, const float *whole, size_t rows, float *w, bool *fitted,
                                 mote_error *err);
/* Puts every tensor that the plan changes into p->edit. */
mote_status prune_slice(prune *p, const prune_plan *plan, prune_fit_fn *fit, void *ctx, mote_error *err);
/* Parameters of the whole model with other sizes (SIZE_MAX-free: give what it has for what stays). */
typedef struct prune_sizes {
    size_t n_layer, n_embd, n_ff, n_head, n_head_kv;
} prune_sizes;
prune_sizes prune_sizes_of(const prune *p);
uint64_t prune_count(const prune *p, const prune_sizes *s);
/* x[rows, cols] (n_mat of them) into the edit under t's name, in t's format or, where that cannot be, the nearest that can. */
mote_status prune_put(prune *p, const tensor_info *t, const float *x, int n_dims, const uint64_t *ne, mote_error *err);
/* All elements of a tensor: the caller's, freed with mem_free_aligned. */
mote_status prune_floats(const tensor_info *t, float **x, mote_error *err);

/* ---- prune_fit.c ---- */
/* w[rows, n_keep] such that w x[keep] is nearest to whole[rows, n] x for inputs x with the Gram matrix gram[n, n]
 * (sums of x xᵀ): w = W_K + W_R G_RK (G_KK + λ)⁻¹, the least squares of removing columns at once. keep: ascending. */
mote_status prune_least_squares(prune *p, const float *gram, size_t n, const uint32_t *keep, size_t n_keep, const float *whole,
                                size_t rows, float *w, mote_error *err);
/* The budget of the options: the largest sizes that meet it. */
mote_status prune_budget(prune *p, prune_sizes *s, mote_error *err);

/* ---- the steps: each fills p->edit ---- */
mote_status prune_depth(prune *p, mote_error *err);   /* prune_depth.c */
mote_status prune_width(prune *p, mote_error *err);   /* prune_width.c */
mote_status prune_merge_kv(prune *p, mote_error *err); /* prune_merge.c */
mote_status prune_vocab(prune *p, mote_error *err);   /* prune_vocab.c */
mote_status prune_share(prune *p, mote_error *err);   /* prune_share.c */
mote_status prune_window_layers(prune *p, mote_error *err); /* prune_swap.c */
mote_status prune_linear(prune *p, mote_error *err);  /* prune_linear.c */
mote_status prune_blocks(prune *p, mote_error *err);  /* prune_swap.c */
mote_status prune_experts(prune *p, mote_error *err); /* prune_experts.c */
mote_status prune_upcycle(prune *p, mote_error *err); /* prune_upcycle.c */
mote_status prune_split(prune *p, mote_error *err);   /* prune_split.c */
/* Marks the k layers that miss keys behind `window` least; with depth_by random, any. */
mote_status prune_choose_windows(prune *p, size_t window, size_t k, uint32_t *marked, mote_error *err);
/* Marked layers are of this kind, the others what they were: metadata and the tensor that goes with them. */
mote_status prune_put_kinds(prune *p, const uint32_t *marked, attn_kind kind, mote_error *err);
/* "3, 7, 8"; lives as long as the step. */
const char *prune_layer_names(prune *p, const uint32_t *marked);
mote_status prune_dynamic(prune *p, mote_error *err); /* prune_dynamic.c */
/* "20,21" or "4-7,9" into marked[n]: 1 for the first range, 2 for the second, …. */
mote_status prune_parse_layers(const char *text, uint32_t *marked, size_t n, size_t *count, mote_error *err);

/* Per-layer arrays of the metadata get the elements of the layers that stay: keep[n], ascending. */
mote_status prune_layer_arrays(prune *p, const uint32_t *keep, size_t n, mote_error *err);
/* Ascending indices of the k largest of score[n] (ties: the lower index). keep: room for k. */
mote_status prune_largest(const double *score, size_t n, size_t k, uint32_t *keep, mote_error *err);

#endif
