/* rope.c: rotary position embedding (Su et al. 2021, §3.4.2) with linear, YaRN (Peng et al. 2023) and per-dimension
 * factor scaling. Cosines and sines of a pass's positions are tabulated once, for all layers and heads. */
#include "model/rope.h"

#include <math.h>

/* YaRN, eq. 17 ff.: the dimension at which a wave makes `rotations` turns over the original context. */
static double corr_dim(const rope_conf *c, double rotations) {
    const double two_pi = 6.283185307179586;
    return (double)c->n_rot * log((double)c->n_ctx_orig / (rotations * two_pi)) / (2 * log((double)c->freq_base));
}

void rope_table_row(const rope_conf *c, bool long_context, double pos, float *cs) {
    const float *factors = long_context && c->factors_long ? c->factors_long : c->factors;
    double low = 0, high = 0, mscale = (double)c->attn_factor;
    if (c->ext_factor != 0) {
        low = fmax(0, floor(corr_dim(c, (double)c->beta_fast)));
        high = fmin((double)c->n_rot - 1, ceil(corr_dim(c, (double)c->beta_slow)));
        mscale *= 1 + 0.1 * log(1 / (double)c->freq_scale);
    }
    for (size_t i = 0; i < c->n_rot / 2; i++) {
        double extrapolated = pos * pow((double)c->freq_base, -2.0 * (double)i / (double)c->n_rot);
        if (factors) extrapolated /= (double)factors[i];
        double theta = extrapolated * (double)c->freq_scale;
        if (c->ext_factor != 0) {
            double y = ((double)i - low) / fmax(0.001, high - low);
            double mix = (1 - fmin(1, fmax(0, y))) * (double)c->ext_factor;
            theta = theta * (1 - mix) + extrapolated * mix;
        }
        cs[2 * i] = (float)(cos(theta) * mscale);
        cs[2 * i + 1] = (float)(sin(theta) * mscale);
    }
}

void rope_rotate(const kern_table *kern, rope_kind kind, size_t n_rot, const float *cs, float *v) {
    if (kind != ROPE_NONE) kern->rotate(v, cs, n_rot / 2, kind == ROPE_NEOX);
}
