/* merge.h: adapters merged into a model's weights, and models merged with each other. */
#ifndef MOTE_MERGE_H
#define MOTE_MERGE_H

#include "mote/calibrate.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero means the default in brackets. Strings are borrowed for the call. */
typedef struct mote_merge_opts {
    size_t size;               /* mote_merge_opts_default sets it */
    const char *model, *out;   /* a model (GGUF, folder); the GGUF file to write */
    const mote_adapter *adapters; /* merged into the weights they were trained on, dequantized, one after the other */
    size_t n_adapters;
    /* … or another model of the same architecture and shapes: */
    const char *with;
    const char *method;        /* "linear", "slerp", "ties", "dare" ["slerp"] */
    double weight;             /* how much of `with` [0.5] */
    const char *base;          /* ties, dare: the model that both come from */
    double density;            /* ties: share of the changes that is kept, the largest; dare: … drawn by chance [0.5] */
    uint64_t seed;             /* dare */
    /* Number format of the matrices that change: "q8_0", "f16"; "same": each one's own. [With adapters and without `calibrate`: the own one where 0.9 of
     * the change survives in it, else Q8_0, else F16; otherwise the own one.] */
    const char *type;
    const char *imatrix;       /* importance of columns when they are quantized again */
    /* With adapters: how the changed matrices are rounded again, with the help of text (scale, round, text, …; its quantize, but for
     * n_threads, and its adapters are not heeded) [NULL: to the nearest levels, weight by weight] */
    const mote_calibrate_options *calibrate;
} mote_merge_opts;
MOTE_API void mote_merge_opts_fill(mote_merge_opts *o, size_t size);
static inline mote_merge_opts mote_merge_opts_default(void) {
    mote_merge_opts o;
    mote_merge_opts_fill(&o, sizeof o);
    return o;
}

/* How much of the change is in the file. Quantizing again rounds it away where it is small against the steps of the grid:
 * with D the change that was wanted and R the one that is written, survived = <D, R> / <D, D> and error = |R - D| / |D|: 1 and 0 when all of it
 * is there. D and R are of the weights; with `calibrate` of what they give for the text (and NaN where columns were scaled, too). */
typedef struct mote_merge_result {
    size_t size;
    size_t n_changed, n_tensors;
    double survived, error;
    double worst;              /* largest error of a tensor … */
    char worst_name[128];      /* … and which */
    char formats[128];         /* of the changed matrices, as written */
    size_t n_widened;          /* matrices in a wider format than before, so that the change stays */
} mote_merge_result;
/* r may be NULL. E_MISMATCH: shapes or architectures differ; E_UNSUPPORTED: a format without encoder. Whole models are held in f32. */
MOTE_API mote_status mote_merge(const mote_merge_opts *o, mote_merge_result *r, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
