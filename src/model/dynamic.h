/* dynamic.h: groups of feed-forward neurons that a token does not need, by what its gate says.
 *
 * The gate is computed first. A neuron j whose act(gate)_j is small gives little, whatever its up_j: what a group of neighbours is
 * likely to give is sum (scale_j act(gate)_j)², where scale_j is the size of up_j over a calibration text times that of the column of
 * down that reads it. A group below the layer's threshold is left out: its rows of up and its columns of down are not read. The
 * rest is as if up were 0 there. A token's choice depends on that token alone, and passes over many tokens make the same
 * choice (they compute all and set what is left out to 0), so the bits do not depend on how tokens arrive.
 * Sources: Liu et al. 2023 (Deja Vu); Lee et al. 2024 (CATS), §4: thresholds on act(gate); groups: Zhang et al. 2022
 * (MoEfication). In the file: keys only (docs/formats/gguf.md); written by `mote prune --dynamic`. */
#ifndef MOTE_MODEL_DYNAMIC_H
#define MOTE_MODEL_DYNAMIC_H

#include "model/arch.h"

#define DYNAMIC_KEY_GROUP "mote.dynamic.group"   /* u32: neurons of a group, DYNAMIC_GROUP */
#define DYNAMIC_KEY_SHARE "mote.dynamic.share"   /* f32: what is left out by default, 0 … 0.9 */
#define DYNAMIC_KEY_SCALES "mote.dynamic.scales" /* f32[sum of n_ff] one for each neuron of layer 0, then 1, … */
#define DYNAMIC_KEY_LEVELS "mote.dynamic.levels" /* f32[n_layer, DYNAMIC_LEVELS] thresholds of shares 0, 1/16, … 1; 0: a layer without */
enum { DYNAMIC_GROUP = 32, DYNAMIC_LEVELS = 17 };

typedef struct ffn_dynamic {
    const float *scales; /* [n_ff] */
    size_t n_groups;
    float threshold;
    act_fn act;
} ffn_dynamic;

/* *out: NULL when nothing is to be left out of l. The keys are checked whether or not they are used. */
mote_status dynamic_read(model *m, const layer *l, const ffn_dynamic **out, mote_error *err);
/* A layer's threshold for a share, between its levels. */
float dynamic_threshold(const float *levels, double share);
/* What the neurons of group g are likely to give; gate: a token's gates before the activation. */
float dynamic_score(const struct kern_table *k, act_fn act, const float *scales, const float *gate, size_t g);
/* Whether group g is left out; ctx: an ffn_dynamic. */
bool dynamic_skips(const void *ctx, const struct kern_table *k, const float *gate, size_t g);
/* skip[n_groups]: 1 where the group is left out. Returns how many are. */
size_t dynamic_choose(const ffn_dynamic *d, const struct kern_table *k, const float *gate, uint8_t *skip);

#endif
