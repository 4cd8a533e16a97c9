/* calibration.h: what the commands that make models smaller share: options of the calibrated methods, overrides, reports. */
#ifndef MOTE_CLI_CALIBRATION_H
#define MOTE_CLI_CALIBRATION_H

#include "cli.h"
#include "mote/calibrate.h"
#include "smoke.h"

typedef struct calibration_flags {
    cli_list text, ignore, targets;
    int64_t seqs, ctx, steps, seed;
    double damp, alpha, lr;
    bool no_act_order;
} calibration_flags;

#define CALIBRATION_OPTIONS(S, F)                                                                                              \
    OPT_LIST(S, F.text, "calibration", NULL, "FILE", "text that the method learns from: plain, or chats (.jsonl); may be given again (default: a short one that is built in)"),            \
    OPT_INT(S, F.seqs, "calibration-seqs", NULL, "N", 0, 65536, "windows of the text (0: 32), spread evenly over it"),         \
    OPT_INT(S, F.ctx, "calibration-ctx", NULL, "N", 0, 32768, "tokens of a window (0: 512)"),                                  \
    OPT_LIST(S, F.ignore, "ignore", NULL, "REGEX", "tensors that the method leaves alone"),                                   \
    OPT_LIST(S, F.targets, "target", NULL, "REGEX", "only tensors whose name matches"),                                       \
    OPT_NUM(S, F.damp, "damp", NULL, "X", 0, 100, "gptq, sparsegpt: damping, share of the mean diagonal (0: 0.01)"),           \
    OPT_FLAG(S, F.no_act_order, "no-act-order", NULL, "gptq: columns in their order, not those of the largest activations first"), \
    OPT_INT(S, F.seed, "seed", "s", "N", 0, 9e15, "seed of what is drawn by chance")

/* What the learned and the scaling methods take. */
#define CALIBRATION_STEPS(S, F)                                                                                                \
    OPT_NUM(S, F.alpha, "alpha", NULL, "X", 0, 1, "smoothquant: how much of the activations' size moves (0: 0.5)"),            \
    OPT_INT(S, F.steps, "steps", NULL, "N", 0, 1000000, "autoround, block-qat: steps for each layer (0: 100)"),                \
    OPT_NUM(S, F.lr, "lr", NULL, "X", 0, 100, "autoround, block-qat: step size at the start (0: the method's)")

/* "awq+gptq" into scale and round; false after a message. */
bool calibration_method(const cli_command *self, const char *method, mote_calibrate_options *o);
/* mote_calibrate_options.layer_done; ctx: a cli_progress. */
bool calibration_layer(void *ctx, size_t done, size_t n);
/* Fills o from the flags. */
void calibration_fill(const calibration_flags *f, mote_calibrate_options *o);
/* What is said of the result: totals and fallbacks only; as JSON; the smoke test left out. */
typedef struct calibration_say {
    bool quiet, json, no_smoke;
} calibration_say;
/* Runs it, or the recipe when there is one, with progress on a terminal, prints the report; returns an exit code. */
int calibration_run(const char *in, const char *out, const char *recipe, const mote_calibrate_options *o, calibration_say say);

/* mote sparsify and mote compress: IN OUT [TYPE], and what both take. */
typedef struct shrink_flags {
    const char *output_type, *embedding_type;
    cli_list tensor_types;
    calibration_flags cal;
    int64_t threads;
    bool allow_requantize;
    calibration_say say;
} shrink_flags;

#define SHRINK_OPTIONS(S, F)                                                                                                   \
    CALIBRATION_OPTIONS(S, F.cal),                                                                                             \
    OPT_LIST(S, F.tensor_types, "tensor-type", NULL, "REGEX=TYPE", "number format of the tensors whose name matches; the first that matches counts"), \
    OPT_STR(S, F.output_type, "output-tensor-type", NULL, "TYPE", "number format of output.weight"),                           \
    OPT_STR(S, F.embedding_type, "token-embedding-type", NULL, "TYPE", "number format of the token embeddings"),               \
    OPT_FLAG(S, F.allow_requantize, "allow-requantize", NULL, "also from formats that are quantized already, which costs quality"), \
    OPT_INT(S, F.threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),                                           \
    SMOKE_OPTION(S, F.say.no_smoke),                                                                                           \
    OPT_FLAG(S, F.say.quiet, "quiet", "q", "print the totals and the fallbacks only"),                                         \
    OPT_FLAG(S, F.say.json, "json", NULL, "print the report as JSON")
/* c: what the command itself has set. Returns an exit code. */
int shrink_run(const cli_command *self, const cli_args *args, const char *recipe, const shrink_flags *f, mote_calibrate_options *c);

/* "REGEX=TYPE" for each of l into out[CLI_LIST_MAX]: the last equals sign divides. Returns an exit code; the patterns are freed by
 * overrides_free in any case. */
int overrides_split(const cli_command *self, const cli_list *l, mote_tensor_type *out);
void overrides_free(mote_tensor_type *out, size_t n);

json_t *quantize_report_json(const mote_quantize_report *r);
/* The tables and totals of mote quantize. */
void quantize_report_print(const mote_quantize_report *r, bool quiet, bool dry_run, const char *out);

#endif
