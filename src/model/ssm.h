/* ssm.h: what the recurrent blocks share, inside src/model: the causal convolution over a sequence's past and the
 * state space recurrences. All of it works on a range of channels, so that threads divide channels or heads among
 * themselves and no sum ever crosses a thread; tokens are taken in order, so a prompt may be cut anywhere. */
#ifndef MOTE_MODEL_SSM_H
#define MOTE_MODEL_SSM_H

#include "model/arch.h"

/* ---- causal depthwise convolution ---- */
/* y[t][c] = act(sum_j w[j][c] x[t - (k-1) + j][c] + bias[c]); inputs before the sequence are zero. */
enum { SSM_CONV_MAX = 64 };
typedef struct ssm_conv {
    size_t k, n;       /* kernel width (at most SSM_CONV_MAX), channels */
    const float *w;    /* [k, n]: the file's [n, k] transposed */
    const float *bias; /* [n] or NULL */
    act_fn act;
} ssm_conv;

/* From slot r, which must be a [n, k] vector tensor with an optional bias of n. */
mote_status ssm_conv_bind(model *m, layer *l, role r, size_t k, size_t n, ssm_conv *c, mote_error *err);
/* Its state: the last k-1 inputs, [k-1, n]; whole cache lines, so that what follows is aligned. */
static inline size_t ssm_conv_floats(const ssm_conv *c) { return ((c->k - 1) * c->n + 15) / 16 * 16; }
/* Channels [from, to) of n_rows consecutive tokens of one sequence; brings the state up to date. x and y point to
 * channel 0 and may not overlap. Thread: any, no barrier. */
void ssm_conv_run(const team *t, const ssm_conv *c, float *st, const float *x, size_t ldx, float *y, size_t ldy,
                  size_t n_rows, size_t from, size_t to);
/* The same for an encoder: the window lies around its token and the rows are the whole sequence; no state. */
void ssm_conv_run_centered(const team *t, const ssm_conv *c, const float *x, size_t ldx, float *y, size_t ldy,
                           size_t n_rows, size_t from, size_t to);

/* ---- recurrences ---- */
/* Channels of the token-by-token kernels come in tiles of SSM_TILE; a tile's state is [d_state][w], w channels wide, so
 * that sums over the state run over whole vectors (kern_scan). A narrower tile stands only at a head's end. */
enum { SSM_TILE = KERN_SCAN_W, SSM_STEP = 16 /* channels that threads share out where nothing asks for more */ };

/* Heads with one decay per token each, as in Mamba-2 and the gated delta nets. Head h of dim channels has a state
 * S[n][dim] and reads key head K = h / (n_head / n_key), or h % n_key when `tiled`:
 *     S = decay S + in_K x';   y = out_K S + skip x;   then y = norm(y) · gate(z)
 * with x' = gain x, or by the delta rule x' = gain (x - in_K decay S).
 *
 * Computed in chunks of KERN_CHUNK tokens that begin at the multiples of it: with S_0 the state at the chunk's start, p_t the product
 * of its decays up to token t and w_tu that of the decays after u up to t,
 *     y_t = p_t (out_t S_0) + sum_{u <= t} w_tu (out_t · in_u) x'_u + skip x_t     (out and in changed: likewise x')
 * and only a chunk's end brings S up to date. The state therefore holds S_0 and what the present chunk has seen; a
 * token decoded alone takes exactly the operations it takes in a batch. Products over many tokens are matrix products,
 * and decoding reads the state without writing it. Source: Dao and Gu 2024 (Mamba-2), §6, for the chunks; Yang et al.
 * 2024 (Gated DeltaNet), eq. 10, for the rule. Here forward substitution takes the place of their triangular inverse. */
typedef struct ssm_scan {
    size_t n_head, dim, n_key, n;
    bool tiled, delta;
    const float *x;             /* [rows, n_head·dim] at stride ld */
    size_t ld;
    const float *in, *out;      /* [rows, n_key·n] at stride ld_key; out < in when both lie in one row */
    size_t ld_key;
    const float *decay, *gain;  /* [rows, n_head] at strides */
    size_t ld_decay, ld_gain;
    const float *skip;          /* [n_head] or NULL */
    float *y;                   /* [rows, n_head·dim] at stride ld_y */
    size_t ld_y;
    norm norm;                  /* of each head's y */
    act_fn gate;
    const float *z;             /* NULL: no gate. Head h's gates lie at h · z_head of a row of stride ld_z */
    size_t ld_z, z_head;
} ssm_scan;
/* Floats of its state but for n + KERN_CHUNK per channel. */
static inline size_t ssm_scan_floats(size_t n_head, size_t n_key, size_t n) { return KERN_CHUNK * (n_head + n_key * n); }
/* All rows of the batch; a sequence's state begins `at` floats into the block's. Ends with a barrier; x, in and decay
 * may not be changed before the next one. */
void ssm_scan_run(fwd *f, const layer *l, int which, size_t at, const ssm_scan *a);

/* Mamba-2's gains and decays of one row: dt = softplus(dt + bias), decay = exp(dt · a), each [n_head]. */
void ssm_steps(const team *t, float *dt, float *decay, const float *bias, const float *a, size_t n_head);

/* Gives every layer without key/value heads the mixer `block`: how hybrid files mark recurrent layers. */
void ssm_plan(model *m, const block_ops *block);
/* y[n] = act(x) (· up). May be in place. This thread only. */
void ssm_act(const team *t, act_fn f, float *y, const float *x, const float *up, size_t n);
/* Sets state_bytes[which]: `floats`, and d_state for each of the channels; checks the sizes. */
mote_status ssm_set_state(layer *l, int which, size_t floats, size_t channels, size_t d_state, mote_error *err);

#endif
