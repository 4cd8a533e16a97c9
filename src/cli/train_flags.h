/* train_flags.h: options that all commands which train share, and what they show meanwhile. */
#ifndef MOTE_CLI_TRAIN_FLAGS_H
#define MOTE_CLI_TRAIN_FLAGS_H

#include "cli.h"
#include "mote/train.h"

typedef struct train_flags {
    int64_t steps, ctx, batch, micro_batch, state_bits, threads, seed, save_every, keep, eval_every;
    double tokens, epochs, max_seconds, lr, warmup, decay, floor, muon_lr, beta1, beta2, eps, weight_decay, clip, ema;
    const char *lr_steps, *schedule, *decay_shape, *optimizer, *precision, *dir, *on_nan, *cpu_mask, *freeze;
    bool decay_all, keep_zeros, recompute, quiet, json;
} train_flags;

#define TRAIN_OPTIONS(S, F)                                                                                      \
    OPT_INT(S, F.steps, "steps", NULL, "N", 0, 1000000000, "updates of the weights (0: by --tokens or --epochs)"), \
    OPT_NUM(S, F.tokens, "tokens", NULL, "N", 0, 1e15, "tokens of the whole run, in place of --steps"),           \
    OPT_NUM(S, F.epochs, "epochs", NULL, "X", 0, 1e6, "times over the data, in place of --steps"),                \
    OPT_NUM(S, F.max_seconds, "max-seconds", NULL, "X", 0, 1e9, "of training, all sittings together: a run that would take longer gets fewer steps"), \
    OPT_INT(S, F.ctx, "ctx-size", "c", "N", 0, 1 << 20, "tokens of a row (0: 512, or what the model knows)"),     \
    OPT_INT(S, F.batch, "batch", "b", "N", 0, 1 << 20, "rows of a step (0: by the command)"),                     \
    OPT_INT(S, F.micro_batch, "micro-batch", "ub", "N", 0, 1 << 20, "rows at once, the rest adds up (0: about 2048 tokens)"), \
    OPT_NUM(S, F.lr, "lr", NULL, "X", 0, 10, "peak learning rate (0: by the command)"),                           \
    OPT_STR(S, F.lr_steps, "lr-steps", NULL, "N=X,…", "learning rate X in place of --lr once N steps are done"),  \
    OPT_CHOICE(S, F.schedule, "schedule", NULL, "wsd|cosine|linear|constant", "how the learning rate goes (default wsd: warm-up, stable, decay)"), \
    OPT_NUM(S, F.warmup, "warmup", NULL, "X", -1, 1e9, "share of the steps, or from 1 on steps, in which it rises (0: 0.02; below 0: none)"), \
    OPT_NUM(S, F.decay, "decay", NULL, "X", -1, 1e9, "wsd: share of the steps, or from 1 on steps, in which it falls (0: 0.2)"), \
    OPT_CHOICE(S, F.decay_shape, "decay-shape", NULL, "linear|sqrt", "wsd: how it falls (default linear)"),        \
    OPT_NUM(S, F.floor, "lr-floor", NULL, "X", 0, 1, "share of the learning rate that is left at the end"),       \
    OPT_CHOICE(S, F.optimizer, "optimizer", NULL, "adamw|muon", "adamw, or muon for matrices and adamw for the rest (default adamw; for a new model muon)"), \
    OPT_NUM(S, F.muon_lr, "muon-lr", NULL, "X", 0, 10, "muon's own learning rate (0: --lr, with updates of adamw's size)"), \
    OPT_NUM(S, F.beta1, "beta1", NULL, "X", 0, 1, "adamw's first beta (0: 0.9)"),                                 \
    OPT_NUM(S, F.beta2, "beta2", NULL, "X", 0, 1, "adamw's second beta (0: 0.95)"),                               \
    OPT_NUM(S, F.eps, "eps", NULL, "X", 0, 1, "adamw's epsilon (0: 1e-8)"),                                       \
    OPT_NUM(S, F.weight_decay, "weight-decay", NULL, "X", -1, 10, "decoupled weight decay (0: by the command; below 0: none)"), \
    OPT_FLAG(S, F.decay_all, "decay-all", NULL, "decay norms and biases too"),                                    \
    OPT_FLAG(S, F.keep_zeros, "keep-zeros", NULL, "zeros in matrices stay zeros: a sparse model keeps its pattern"), \
    OPT_NUM(S, F.clip, "clip", NULL, "X", -1, 1e9, "cut the gradient's norm to X (0: 1; below 0: not)"),          \
    OPT_NUM(S, F.ema, "ema", NULL, "X", 0, 1, "write moving averages of the weights, 0.999 say (0: the weights themselves)"), \
    OPT_INT(S, F.state_bits, "state-bits", NULL, "N", 0, 32, "bits of adamw's averages: 32 or 8"),                \
    OPT_CHOICE(S, F.precision, "precision", NULL, "f32|bf16", "of matrix products (default bf16 where the machine has its instructions)"), \
    OPT_STR(S, F.freeze, "freeze", NULL, "REGEX", "tensors whose names match keep their weights (ffn_gate_inp: routers; token_embd)"), \
    OPT_FLAG(S, F.recompute, "recompute", NULL, "compute layers again on the way back, for less memory"),         \
    OPT_INT(S, F.threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),                              \
    OPT_STR(S, F.cpu_mask, "cpu-mask", NULL, "RUNG", "highest instruction set to use (also MOTE_CPU_MASK)"),      \
    OPT_INT(S, F.seed, "seed", "s", "N", 0, 9e15, "seed of everything that is drawn (0: 1)"),                     \
    OPT_STR(S, F.dir, "dir", NULL, "DIR", "folder of checkpoints, log and loss curve (default: the output's name with .run)"), \
    OPT_INT(S, F.save_every, "save-every", NULL, "N", 0, 1e15, "steps between checkpoints (0: a tenth of the run)"), \
    OPT_INT(S, F.keep, "keep", NULL, "N", 0, 1000, "so many newest checkpoints stay (0: 2)"),                     \
    OPT_INT(S, F.eval_every, "eval-every", NULL, "N", 0, 1e15, "steps between looks at held-out data (0: a twentieth of the run)"), \
    OPT_CHOICE(S, F.on_nan, "on-nan", NULL, "stop|skip|back", "when a loss is no number: stop, leave the step out, or back to the last checkpoint"), \
    OPT_FLAG(S, F.quiet, "quiet", "q", "no progress"),                                                            \
    OPT_FLAG(S, F.json, "json", NULL, "print the result as JSON")

/* --data FILE[:WEIGHT], as CLI_LIST_MAX sources that train_sources_free frees. Returns an exit code after a message. */
int train_sources_split(const cli_list *given, mote_train_source *out);
void train_sources_free(mote_train_source *sources, size_t n);

/* Into the library's settings, with the MPI module where the program was started by mpirun. Returns an exit code after a message. */
int train_settings_of(mote_train_settings *out, const train_flags *f);

/* Progress on stderr: one line that changes on a terminal, else a line per look at held-out data. Ctrl-C asks for a checkpoint and
 * an end; a second one ends at once. */
typedef struct train_view {
    bool quiet, terminal;
    uint64_t shown_ms;
    double eval_loss;
} train_view;
mote_train_callbacks train_view_start(train_view *v, const train_flags *f);
void train_view_end(train_view *v);
/* "1:02:03" */
const char *train_duration(char out[32], double seconds);

#endif
