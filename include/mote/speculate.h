/* speculate.h: several tokens per pass over the weights, where that pays.
 *
 * A proposer guesses the next tokens; one pass computes the logits after all of them; the sampler draws from
 * each row in turn as it would have anyway, and as long as it draws what was guessed, the row after it is at
 * hand already. So the tokens are those of plain decoding, at every temperature and with every seed, penalty
 * and filter: a guess decides only what is computed, never what is drawn.
 *
 * The speculator measures what passes of each length cost and how often guesses of each kind come true, and
 * proposes just as many tokens as that makes worth their while: none, when nothing pays. A ledger of time won
 * and lost bounds what finding out may cost to about one percent. */
#ifndef MOTE_SPECULATE_H
#define MOTE_SPECULATE_H

#include "mote/session.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOTE_SPEC_MAX 32 /* bound of n_max */

typedef struct mote_spec_opts {
    size_t size;
    bool ngram;         /* guess what followed the last time that the latest tokens occurred: made for answers
                           that repeat the prompt (editing, summaries, code) */
    mote_model *draft;  /* a smaller model with the same tokenizer guesses; NULL: none */
    size_t n_max;       /* most tokens guessed at once, 1 to MOTE_SPEC_MAX */
    size_t n_min;       /* fewer are not worth a pass */
    float p_min;        /* the draft model stops where its best token has a lower probability */
    bool always;        /* guess as much as possible, whether it pays or not: for measuring */
    bool exit;          /* the model's first layers and an early exit guess (mote_model_opts.heads); the pass that judges
                           begins where they ended */
    bool medusa;        /* its Medusa heads guess */
} mote_spec_opts;
MOTE_API void mote_spec_opts_fill(mote_spec_opts *o, size_t size);
static inline mote_spec_opts mote_spec_opts_default(void) {
    mote_spec_opts o;
    mote_spec_opts_fill(&o, sizeof o);
    return o;
}

/* For generations on one sequence of s at a time, one after the other (mote_gen_opts.speculator). What it has
 * measured is kept across them. Keeps the session and the draft model in use. All memory is allocated here; a
 * draft model gets a session of its own with s's context size and cache types.
 * Error: MOTE_E_MISMATCH when the draft model's vocabulary is another one, MOTE_E_RANGE, MOTE_E_MEMORY. */
typedef struct mote_speculator mote_speculator;
MOTE_API mote_status mote_speculator_open(mote_speculator **out, mote_session *s, const mote_spec_opts *o,
                                          mote_error *err);
MOTE_API void mote_speculator_close(mote_speculator **sp);

/* Since it was opened. */
typedef struct mote_spec_stats {
    size_t size; /* set by the caller */
    size_t n_passes, n_speculative;    /* passes over the weights, and those with guesses in them */
    size_t n_tokens;                   /* drawn */
    size_t n_ngram, n_ngram_accepted;  /* guesses computed, and those that came true */
    size_t n_draft, n_draft_accepted;
    double plain_ms;                   /* a pass that computes one token */
    double spent_ms, saved_ms;         /* time of all passes and guesses; what more plain decoding would have
                                          taken, by plain_ms at the time: speed-up 1 + saved / spent */
    double guess_ms;                   /* of spent_ms: looking for guesses, drafting */
    size_t memory_bytes;               /* without the draft model's session */
    size_t n_exit, n_exit_accepted;    /* guesses of an early exit, of Medusa heads */
    size_t n_medusa, n_medusa_accepted;
} mote_spec_stats;
MOTE_API void mote_speculator_get_stats(const mote_speculator *sp, mote_spec_stats *out);

#ifdef __cplusplus
}
#endif
#endif
