/* scale.h: moving size between a matrix and what comes before it, so that both are easier to quantize.
 *
 * y = W x = (W s) (x / s): columns of W grow by s, and the producer of x (a norm's weights, the rows of attn_v or ffn_up)
 * shrinks by it, so that the float model stays the same. Sources: Lin et al. 2024 (AWQ), §3.2 and eqs. 4–5; Xiao et al. 2023
 * (SmoothQuant), eq. 4. */
#ifndef MOTE_COMPRESS_SCALE_H
#define MOTE_COMPRESS_SCALE_H

#include "compress/calib.h"
#include "quant/quant.h"

typedef enum scale_method { SCALE_NONE, SCALE_AWQ, SCALE_SMOOTH } scale_method;

typedef struct scale_opts {
    scale_method method;
    float alpha;    /* SmoothQuant's; 0: 0.5 */
    int n_grid;     /* AWQ's trials of alpha; 0: 20 */
    /* The format a tensor will have, and whether the recipe wants it scaled at all. */
    quant_type (*type_of)(void *ctx, const param *w);
    bool (*wanted)(void *ctx, const param *w);
    void (*touched)(void *ctx, const param *w); /* its numbers are no longer the file's */
    void *ctx;
} scale_opts;

/* Scales the groups of the layer that was last watched (calib_watch); the uses' second moments follow. Every fold is checked: where
 * the float layer would no longer give the same, the group is left alone. *n_scaled counts groups. */
mote_status scale_layer(calib *c, const scale_opts *o, size_t *n_scaled, mote_error *err);

#endif
