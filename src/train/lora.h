/* lora.h: low-rank adapters being trained on a frozen net: LoRA, rsLoRA, DoRA; on quantized weights (net_opts.packed) QLoRA.
 *
 *   y = W x + scale · B A x;  DoRA: y = m / ‖V‖ · V x, V = W + scale · B A, ‖V‖ row by row and taken as constant going back
 *   (Liu et al. 2024, section 4.3)
 *
 * A begins as PEFT's (uniform in ±1/sqrt(columns)), B with zeros, m with ‖W‖: at first nothing is changed. */
#ifndef MOTE_TRAIN_LORA_H
#define MOTE_TRAIN_LORA_H

#include "format/adapter.h"
#include "train/net.h"
#include "train/optim.h"

typedef struct lora_opts {
    size_t rank;         /* 0 means 16 */
    double alpha;        /* 0 means twice the rank */
    bool rslora, dora;
    /* Which matrices, separated by commas: GGUF's names ("attn_q"), transformers' ("q_proj"), or NULL or "all-linear" for all
     * of attention, feed-forward and mixers. The head, embeddings, routers and experts are never adapted. */
    const char *targets;
    uint64_t seed;
    const adapter *from; /* go on with this one: rank, scale and kind are its own; NULL: a new one */
} lora_opts;

typedef struct lora lora;
/* Puts itself into n's products (net_set_linear) until it is closed. n outlives it. E_NOT_FOUND: a target that no layer has. */
mote_status lora_open(lora **out, net *n, const lora_opts *o, mote_error *err);
void lora_close(lora **l);
/* The trained arrays; fills at most cap, returns how many there are. */
size_t lora_params(lora *l, train_param *dst, size_t cap);
/* To be called after every change of the values: DoRA's norms are computed anew. */
void lora_changed(lora *l);
/* Off: the net is the one without adapters (a reference). */
void lora_set_off(lora *l, bool off);
/* The adapter as it stands: its arrays are those that are trained. */
const adapter *lora_adapter(const lora *l);

#endif
