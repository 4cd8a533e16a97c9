/* calibrate.h: making a model smaller with the help of text.
 *
 * The model is shown calibration text, layer by layer; each layer's weights are scaled, pruned and rounded so that what the layer gives
 * changes least, and the layers behind it see what the compressed ones before them really give. Three choices, which can be combined:
 *
 *   scale   "awq"          columns that meet large activations grow, what comes before them shrinks; the powers are searched
 *           "smoothquant"  size moves from activations into weights, for int8 activations
 *   prune   "magnitude"    the smallest weights become zero: the naive way
 *           "wanda"        the smallest |w| · |x|
 *           "sparsegpt"    … and the weights that stay make up for those that went; together with the rounding when `round` is "gptq"
 *   round   "nearest"      nearest levels, scales weighted by the activations
 *           "gptq"         column by column, the error of each taken up by those still open
 *           "autoround"    up or down is learned, with the scales, against the layer's output
 *           "block-qat"    weights and scales are trained through the rounding, layer by layer
 *
 * The result is an ordinary GGUF file. */
#ifndef MOTE_CALIBRATE_H
#define MOTE_CALIBRATE_H

#include "mote/compress.h"
#include "mote/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero is a good default, but for `quantize.type` and at least one of scale, prune and round. */
typedef struct mote_calibrate_options {
    mote_quantize_options quantize; /* the formats, as for mote_quantize; type NULL: "COPY" */
    const char *scale, *prune, *round; /* or NULL: none, none, nearest */
    /* Merged into the dequantized weights before anything else happens. Without a type only the matrices they change go through the
     * method, into the format each has already (which quantize.allow_requantize must permit where that is a coarse one): under the
     * scales of the base or under new ones, whichever is nearer. */
    const mote_adapter *adapters;
    size_t n_adapters;
    const char *const *text;        /* files of plain text, or of chats as JSON lines (NAME.jsonl); each has the same share of the windows;
                                       none: the text that is built in */
    size_t n_text;
    size_t n_seqs, n_ctx;           /* windows of the text, tokens of each; 0: 32 of 512 */
    uint64_t seed;
    double sparsity;                /* share of the weights to prune, 0..1; or … */
    int keep, of;                   /* … N of each M neighbours stay: 2 and 4 */
    double damp;                    /* error feedback: added to the diagonal, share of its mean; 0: 0.01 */
    size_t block;                   /* … columns between updates; 0: 128 */
    bool no_act_order;              /* … columns in their order, scales fitted as they are reached; else those of the largest
                                       activations first, under the scales of the untouched weights */
    double alpha;                   /* smoothquant; 0: 0.5 */
    size_t n_grid;                  /* awq: powers that are tried; 0: 20 */
    size_t steps;                   /* autoround, block-qat: steps for each layer; 0: 100 */
    double lr;                      /* … their first step; 0: as the method has it */
    const char *const *targets;     /* only tensors whose name one of these patterns matches; none: all matrices of layers */
    const char *const *ignore;      /* and none of these */
    size_t n_targets, n_ignore;
    /* Called after each layer; false cancels (MOTE_E_CANCELLED, no file is written). May be NULL. */
    bool (*layer_done)(void *ctx, size_t done, size_t n_layers);
    void *layer_ctx;
} mote_calibrate_options;

/* What is left of the adapters' changes, in what the matrices give for the calibration text: with D the change of the outputs that was
 * wanted and R the one that is written, survived = <D, R> / <D, D> and error = |R - D| / |D|: 1 and 0 when all of it is there. */
typedef struct mote_tune_report {
    size_t n_changed;          /* tensors; 0: no adapters */
    bool measured;             /* not where columns were scaled: base and result are no longer comparable one by one */
    double survived, error;
    double worst;              /* largest error of a tensor … */
    char worst_name[128];      /* … and which */
} mote_tune_report;

typedef struct mote_calibrate_report {
    mote_quantize_report quantize;
    size_t n_tokens;        /* of calibration */
    size_t n_matrices;      /* that went through the method */
    size_t n_groups_scaled; /* groups of matrices that were scaled */
    size_t n_layers_learned; /* layers whose learned rounding was better than the nearest */
    double sparsity;        /* share of zeros in the matrices that were pruned */
    mote_tune_report tune;
} mote_calibrate_report;

/* Writes the model at `in` as the file `out`, which appears only when it is complete.
 * Errors: those of mote_quantize; E_USAGE (method, sparsity), E_UNSUPPORTED (a format that the method cannot use; a model that
 * cannot be calibrated), E_MISMATCH (tokenizer and model do not fit), E_RANGE (activations that are not finite, by tensor). */
MOTE_API mote_status mote_calibrate(const char *in, const char *out, const mote_calibrate_options *options,
                                    mote_calibrate_report *report, mote_error *err);
/* The same by a recipe in llm-compressor's YAML: stages of GPTQModifier, AWQModifier, SmoothQuantModifier, QuantizationModifier,
 * AutoRoundModifier, SparseGPTModifier, WandaPruningModifier. What the recipe says comes before `options`, but for a type given there:
 * schemes become the GGUF format nearest to them (W4A16: Q4_0, W4A16_ASYM: Q4_1, W8A8: Q8_0, …). What it ignores keeps 16 bits.
 * E_UNSUPPORTED: a modifier, scheme or setting that cannot be followed, by name. */
MOTE_API mote_status mote_compress(const char *in, const char *out, const char *recipe, const mote_calibrate_options *options,
                                   mote_calibrate_report *report, mote_error *err);
MOTE_API void mote_calibrate_report_free(mote_calibrate_report *report);

#ifdef __cplusplus
}
#endif
#endif
