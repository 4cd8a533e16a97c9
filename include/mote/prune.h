/* prune.h: taking parts out of a model: layers, channels, neurons, heads, words.
 *
 * mote_prune reads a model (GGUF file, split files, or a Hugging Face folder) and writes a smaller one as GGUF. Steps that
 * are asked for together are done in the order of the options below, each on the result of the one before. The
 * source is not touched; the result appears only when it is complete. What is taken is chosen by running the model over a
 * calibration text; the `random`, `magnitude`, `last` and `first` choices are there to compare with. */
#ifndef MOTE_PRUNE_H
#define MOTE_PRUNE_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mote_prune_opts {
    size_t size;
    /* Depth. `layers` go: "20,21" or "4-7,9"; or n_layers of them, by depth_by:
     *   influence   the least 1 - cos(stream before, stream after): ShortGPT (Men et al. 2024), eq. 1
     *   perplexity  each time the one without which the text's perplexity rises least (the default)
     *   random, last */
    const char *layers, *depth_by;
    size_t n_layers;
    /* Width: how many are to be left of hidden channels, feed-forward neurons, query heads (as many in each group of
     * a key/value head), key/value heads (whole groups go, with their query heads); 0: all. width_by:
     *   minitron      the activations' mean size (the default): Muralidharan et al. 2024, §2.2
     *   contribution  that times the weights that read them
     *   magnitude, random
     * repair: the weights that read what is left are fitted by least squares to give what the whole gave on the text. */
    size_t n_embd, n_ff, n_head, n_head_kv;
    const char *width_by;
    bool repair;
    /* A budget: at most so many parameters, or a fraction of them (0.25) to be taken away; met by shrinking what `axes`
     * names ("ff", "embd", "heads", "layers": a list with commas; NULL: ff) alike, to multiples of divisor (0: 32). */
    uint64_t max_params;
    double ratio;
    const char *axes;
    size_t divisor;
    /* Groups of key/value heads become one: n_merge_kv are left. merge_by: aligned (the default: rotated to fit each
     * other before they are merged, Jin et al. 2024, with activations), mean (Ainslie et al. 2023) */
    size_t n_merge_kv;
    const char *merge_by;
    /* Words: n_vocab tokens are left, bytes and special ones always. vocab_by: frequency in the text (the default), first */
    size_t n_vocab;
    const char *vocab_by;
    /* Attention in layers `window_layers` ("3-20"; NULL: all but the first and the last), or in the n_window that miss the
     * rest least (by perplexity, or random with depth_by), sees `window` keys: metadata of llama-like models, which mote runs
     * with as small a cache for them. */
    size_t window, n_window;
    const char *window_layers;
    /* Attention in layers `linear_layers`, or in the n_linear that miss far keys least (or random with depth_by), becomes linear behind an
     * exact window of linear_window keys (the default 64; 0: all of it): memory that does not grow with the context. Each head gets
     * linear_features exponents (0: one for each of its dimensions), trained for linear_steps steps (the default 200; 0: as they begin)
     * to give what the softmax gave. Such files are mote's own. */
    const char *linear_layers;
    size_t n_linear, linear_window, linear_features, linear_steps;
    /* Attention in layers `block_layers`, or in the n_block that miss far keys least, reads blocks of block_size keys (0: 64; a multiple of
     * that): the first one, the last block_window (0: 1), and block_top (the default 4) that each query chooses by their mean keys.
     * Such files are mote's own. */
    const char *block_layers;
    size_t n_block, block_size, block_window, block_top;
    /* A dense feed-forward becomes this many experts, all alike, of which two are used:
     * a start for training (Komatsuzaki et al. 2023, sparse upcycling), the same logits until then. */
    size_t upcycle;
    double upcycle_drop; /* this part of each one's neurons begins at random (Nakamura et al. 2025, Drop-Upcycling): other logits, experts that differ */
    /* A dense feed-forward becomes split_experts of its own neurons (Zhang et al. 2022, MoEfication), of which experts_used are at work for each
     * token (0: three quarters): shared_experts for every token, the others chosen by a router that is fitted to the text. With all at work the
     * same logits. split_by: together (the default: neurons that the same tokens need make one expert), random */
    size_t split_experts, experts_used, shared_experts;
    const char *split_by;
    /* n_drop_experts of each layer's experts go. experts_by: saliency (the default: router weight times the length of what an expert says,
     * Lasby et al. 2025), frequency, random */
    size_t n_drop_experts;
    const char *experts_by;
    /* Layers of one range share their tensors ("10-11,14-16"): mote's own form of file. share_by: lora (the default: their mean,
     * and for each what is best of rank share_rank (0: 32) on top), first (the first one's alone) */
    const char *share, *share_by;
    size_t share_rank;
    /* Neurons that a token does not need are left out while the model runs: this share of them (0 … 0.9), in groups of 32 by what
     * each token's gates say. The file only gets its neurons in another order, and keys; who does not know these computes all.
     * dynamic_by: together (the default: groups of neurons that are needed together), neighbours (as they lie) */
    double dynamic;
    const char *dynamic_by;
    /* Calibration text (NULL: the one that is built in; a vocabulary needs one of its own), and how much of it is read: tokens (0: 4096). */
    const char *text;
    size_t n_text, n_tokens;
    uint64_t seed;
    int n_threads; /* 0: one per usable core */
    /* Called now and then; false cancels (MOTE_E_CANCELLED). May be NULL. */
    bool (*progress)(void *ctx, const char *step, size_t done, size_t total);
    void *progress_ctx;
} mote_prune_opts;
MOTE_API void mote_prune_opts_fill(mote_prune_opts *o, size_t size);
static inline mote_prune_opts mote_prune_opts_default(void) {
    mote_prune_opts o;
    mote_prune_opts_fill(&o, sizeof o);
    return o;
}

typedef struct mote_prune_report {
    size_t size; /* set by the caller */
    uint64_t params_from, params_to, bytes_from, bytes_to; /* of all tensors */
    double seconds;
    char *text, *json; /* what went, step by step, for people and for machines; one line each step */
} mote_prune_report;
MOTE_API void mote_prune_report_free(mote_prune_report *r);

/* Errors: E_USAGE (no step, a word that is none), E_RANGE (more than there is, a budget that cannot be met),
 * E_UNSUPPORTED (a part that this architecture cannot lose), E_FORMAT, E_IO, E_MEMORY, E_CANCELLED. Thread: any. */
MOTE_API mote_status mote_prune(const char *in, const char *out, const mote_prune_opts *opts, mote_prune_report *report,
                                mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
