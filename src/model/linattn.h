/* linattn.h: linear attention, a kernel feature in place of the softmax behind a short exact window, inside src/model.
 *
 * Head h has a learned map of m exponents, e(x) = W_h x + b_h, and from them 2m features φ(x) = [exp(e), exp(-e)] (Zhang et al. 2024,
 * "The Hedgehog & the Porcupine", eq. 6; queries and keys have maps of their own, keys one for each key/value head). With w the window,
 *     N_i = Σ_{j ≤ i - w} φ(q_i)·φ(k_j) v_j,   Z_i = Σ_{j ≤ i - w} φ(q_i)·φ(k_j)
 *     y_i = (Σ_{i - w < j ≤ i} exp(s_ij) v_j + g_h N_i) / (Σ exp(s_ij) + g_h Z_i)
 * as in Zhang et al. 2025 (LoLCATs), eq. 6; log g_h is a tensor. Both sums over j are one state [2m, dim_v + 1] per key/value head, so memory
 * does not grow with the context; a key enters the state when it leaves the window. Window 0: all keys are in the state, the own one too.
 *
 * Tokens are taken one by one: what one yields does not depend on how a prompt is cut. */
#ifndef MOTE_MODEL_LINATTN_H
#define MOTE_MODEL_LINATTN_H

#include "model/arch.h"

enum { LINATTN_MAPS_MAX = 1024 };
/* Keys' exponents are kept within ± this: sums of their exponentials stay far from the ends of f32. */
#define LINATTN_CLAMP 30.0f

/* Checks the maps, sets the state's size and priv[which]. */
mote_status linattn_bind(model *m, layer *l, int which, mote_error *err);
/* Floats of fwd.mem for n rows. */
size_t linattn_mem(const layer *l, size_t n);

/* What it reads and writes. With a window: out holds the softmax's part and lse[n, n_head] its denominators' logarithms; keys come from
 * the cache. Without: k and v are read, out is written. Barrier at the end. */
typedef struct linattn_in {
    const float *q, *k, *v; /* rows of heads, turned already */
    size_t ld_q, ld_k, ld_v;
    const float *lse;
    float *out;
} linattn_in;
void linattn_forward(fwd *f, const layer *l, int which, const linattn_in *in);

#endif
