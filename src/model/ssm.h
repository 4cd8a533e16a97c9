/* ssm.h: what the recurrent blocks share, inside src/model: the causal convolution over a sequence's past and the
 * state space recurrences. All of it works on a range of channels, so that threads divide channels or heads among
 * themselves and no sum ever crosses a thread; tokens are taken in order, so a prompt may be cut anywhere. */
#ifndef MOTE_MODEL_SSM_H
#define MOTE_MODEL_SSM_H

#include "model/arch.h"

/* ---- causal depthwise convolution ---- */
/* y[t][c] = act(bias[c] + sum_j w[j][c] x[t - (k-1) + j][c]); inputs before the sequence are zero. */
typedef struct ssm_conv {
    size_t k, n;       /* kernel width, channels */
    const float *w;    /* [k, n]: the file's [n, k] transposed */
    const float *bias; /* [n] or NULL */
    act_fn act;
} ssm_conv;

/* From slot r, which must be a [n, k] vector tensor with an optional bias of n. */
mote_status ssm_conv_bind(model *m, layer *l, role r, size_t k, size_t n, ssm_conv *c, mote_error *err);
/* Its state: the last k-1 inputs, [k-1, n]. */
static inline size_t ssm_conv_floats(const ssm_conv *c) { return (c->k - 1) * c->n; }
/* Channels [from, to) of n_rows consecutive tokens of one sequence; brings the state up to date. x and y point to
 * channel 0 and may not overlap. Thread: any, no barrier. */
void ssm_conv_run(const team *t, const ssm_conv *c, float *st, const float *x, size_t ldx, float *y, size_t ldy,
                  size_t n_rows, size_t from, size_t to);
/* The same for an encoder: the window lies around its token and the rows are the whole sequence; no state. */
void ssm_conv_run_centered(const team *t, const ssm_conv *c, const float *x, size_t ldx, float *y, size_t ldy,
                           size_t n_rows, size_t from, size_t to);

/* ---- recurrences ---- */
/* Channels come in tiles of SSM_TILE; a tile's state is [d_state][w], w channels wide, so that sums over the state run
 * over whole vectors (kern_scan). A narrower tile stands only at a head's end. */
enum { SSM_TILE = KERN_SCAN_W };

/* Heads with one decay each, as in Mamba-2: what one layer's scan reads and writes, for a whole batch. Head h's
 * channels are x[h·dim, (h+1)·dim); its B and C are those of group h / (n_head / n_group). */
typedef struct ssm_heads {
    size_t n_head, dim, n_group, d_state;
    const float *x;          /* [rows, n_head·dim] at stride ld */
    size_t ld;
    const float *b, *c;      /* [rows, n_group·d_state] at stride ld_bc */
    size_t ld_bc;
    float *dt;               /* [rows, n_head] at stride ld_dt */
    size_t ld_dt;
    float *decay;            /* [rows, n_head] */
    const float *dt_bias, *a, *d; /* [n_head]; dt_bias may be NULL */
    float *y;                /* [rows, n_head·dim] at stride ld_y */
    size_t ld_y;
} ssm_heads;
/* One row, before any tile: dt = softplus(dt + bias), decay = exp(dt · a). */
void ssm_heads_prepare(const team *t, const ssm_heads *h, size_t row);
/* Tiles of all heads: the units that threads divide among themselves. */
size_t ssm_heads_tiles(const ssm_heads *h);
/* Tile `tile` over rows [row, row + n) of one sequence. st: all heads' state, n_head·dim·d_state floats. */
void ssm_heads_run(const team *t, const ssm_heads *h, float *st, size_t tile, size_t row, size_t n);
/* First channel and width of a tile (its head's channels lie together, tiles never cross heads). */
void ssm_heads_tile(const ssm_heads *h, size_t tile, size_t *head, size_t *first, size_t *w);

/* Gives every layer without key/value heads the mixer `block`: how hybrid files mark recurrent layers. */
void ssm_plan(model *m, const block_ops *block);
/* y[n] = act(x) (· up). May be in place. This thread only. */
void ssm_act(const team *t, act_fn f, float *y, const float *x, const float *up, size_t n);
/* log(1 + exp x) */
float ssm_softplus(float x);
/* Sets state_bytes[which]: conv_floats, and d_state floats for each of the channels; checks the sizes. */
mote_status ssm_set_state(layer *l, int which, size_t conv_floats, size_t channels, size_t d_state, mote_error *err);

#endif
