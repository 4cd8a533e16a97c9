/* spec.h: speculative decoding inside mote_speculator (include/mote/speculate.h).
 *
 * A proposer is asked for tokens that may come next. speculate.c computes them in one pass behind the token
 * that was drawn last, hands out one row of logits after the other as long as the draws agree, and rolls the
 * sequence back to where they parted. spec_cost.c says how many tokens are worth computing.
 *
 * Why draws decide, and not rejection sampling (Leviathan et al. 2023, Chen et al. 2023): a guess counts when
 * the target's sampler, with its own random numbers, draws the same token. That is unbiased trivially, gives
 * the very tokens of plain decoding for a seed, and works with every filter, penalty and grammar, none of
 * which needs to know. A guess without randomness is accepted with the same probability either way. A draft
 * model draws with a copy of the target's sampler in the same state: the common random number makes equal
 * distributions draw equal tokens (a coupling; Daliri et al. 2024, Coupling without Communication and
 * Drafter-Invariant Speculative Decoding), so that little of rejection sampling's acceptance is left to gain.
 *
 * One more proposer: a file that fills a `proposer`, a row in speculate.c's open.
 *
 * Invariants
 *   - `len` tokens of the sequence are settled. Its caches hold q->n of them and more (a pass under way) or
 *     fewer (a recurrent state that was set back: q->ids[q->n … len) are owed and go into the next pass).
 *   - Between spec_begin and spec_end only the speculator feeds the sequence; after spec_end q->n == len.
 *   - Nothing is allocated between spec_begin and spec_end. */
#ifndef MOTE_RUN_SPEC_H
#define MOTE_RUN_SPEC_H

#include "mote/speculate.h"
#include "run/run.h"

/* ---- spec_cost.c: what pays ---- */

#define SPEC_LEVELS 20                    /* kinds of guesses by their chances */
#define SPEC_ROWS (2 * MOTE_SPEC_MAX + 2) /* most rows of a pass: owed, drawn, guessed */

/* Guessed tokens, each with what its proposer knows about its chances. */
typedef struct proposal {
    int32_t ids[MOTE_SPEC_MAX];
    unsigned char level[MOTE_SPEC_MAX]; /* < SPEC_LEVELS: which of the odds is the token's */
    size_t n;
} proposal;

/* How often guesses of a level come true, given that those before them did: running means. */
typedef struct spec_odds {
    float p[SPEC_LEVELS];
    uint32_t n[SPEC_LEVELS];
    uint32_t memory; /* guesses that a mean looks back on */
} spec_odds;
void spec_odds_hear(spec_odds *o, unsigned level, bool hit);

/* What passes take, by their number of rows, and the ledger. Times are nanoseconds. */
typedef struct spec_cost {
    double t1;                   /* a pass of one row; 0: not known yet */
    uint32_t n_t1;
    double ratio[SPEC_ROWS + 1]; /* of a pass with so many rows to t1 */
    uint32_t n[SPEC_ROWS + 1];   /* measurements */
    uint64_t at[SPEC_ROWS + 1];  /* pass number of the last one */
    uint64_t passes, plain_at;   /* number of passes; of the last with one row */
    double balance;              /* time won, at most a few passes' worth is remembered; below 0: lost */
    double spent, saved, wasted; /* since it was opened */
} spec_cost;
void spec_cost_pass(spec_cost *c, size_t rows, double ns);
/* Books a pass that was longer than plain decoding's and gave so many tokens; time that gave none. */
void spec_cost_book(spec_cost *c, size_t tokens, double ns);
void spec_cost_waste(spec_cost *c, double ns);
/* Expected time of a pass. */
double spec_cost_of(const spec_cost *c, size_t rows);
/* Whether something that may lose so much time may be tried. */
bool spec_cost_allows(const spec_cost *c, double ns);
/* How many of the proposal's tokens should be computed, behind `rows` rows that are computed anyway, with `extra`
 * ns for having guesses at all; 0 when none pay. *speed: tokens per t1 expected, 1 when 0. */
size_t spec_cost_choose(const spec_cost *c, const spec_odds *o, const proposal *p, size_t rows, double extra,
                        double *speed);

/* ---- proposers ---- */

typedef struct spec_ask {
    const int32_t *ids; /* the sequence, the token that was drawn last included */
    size_t n;
    size_t max;         /* most tokens wanted, 1 … MOTE_SPEC_MAX */
    size_t rows;        /* that the next pass computes anyway */
    const mote_speculator *sp;
} spec_ask;

typedef enum spec_kind { SPEC_NGRAM, SPEC_DRAFT, SPEC_EXIT, SPEC_MEDUSA, SPEC_KINDS } spec_kind;

typedef struct proposer {
    const char *name;
    spec_kind kind;
    void *self;
    size_t n_most;     /* guesses that it can make at once; 0: as many as are wanted */
    bool free;         /* guessing costs nothing: asked for every token, so that its odds are always fresh */
    double token_ns;   /* else what a guess takes, kept by the proposer */
    double average;    /* and how often its guesses come true, kept by speculate.c */
    bool by_promise;   /* it is cheap, and knows how sure it is: asked as long as its guesses promise more than asking costs … */
    double promise;    /* … by what they promised of late, in t1, nothing where they were not worth computing: kept by speculate.c */
    uint64_t probe_at, probe_every; /* when it does not pay: the next try, in passes */
    bool broken;       /* has failed, and is not asked again */
    spec_odds odds;
    size_t n_drafted, n_accepted;
    /* A generation begins, or a context shift has changed what went before. sampler: the target's, or NULL. */
    mote_status (*begin)(struct proposer *p, const int32_t *ids, size_t n, const mote_sampler *sampler,
                         mote_error *err);
    /* Up to max tokens that may come after ids[0 … n); out->n 0 when it has no idea. */
    mote_status (*propose)(struct proposer *p, const spec_ask *ask, proposal *out, mote_error *err);
    /* The time a proposal will take before its first token: catching up with n tokens. NULL: none. */
    double (*lag_ns)(const struct proposer *p, size_t n);
    void (*end)(struct proposer *p); /* of a generation; may be NULL */
    void (*close)(struct proposer *p);
    size_t (*memory)(const struct proposer *p);
} proposer;
/* For proposers whose tokens cost something: whether another one is expected to pay. */
bool spec_goes_on(const mote_speculator *sp, const proposer *p, const proposal *so_far, size_t rows);

/* ngram.c: prompt lookup. */
#define NGRAM_ORDERS 3     /* the longest key, tokens */
#define NGRAM_MATCH_MAX 16 /* how far back a match is followed to see how long it is */
#define NGRAM_TRIES 16     /* occurrences that are compared */
typedef struct ngram ngram;
/* window: how many of the last tokens can be found again, at least. */
mote_status ngram_open(ngram **out, size_t window, mote_error *err);
void ngram_close(ngram **g);
void ngram_clear(ngram *g);
/* Learns the tokens up to ids[n); those before were given in earlier calls since ngram_clear. */
void ngram_sync(ngram *g, const int32_t *ids, size_t n);
/* Where the sequence goes on as it did before: the place after the longest match of the last tokens, the latest
 * among equals, found among the last NGRAM_TRIES occurrences of the longest key of NGRAM_ORDERS … 1 tokens
 * that occurs. *match: its length, up to NGRAM_MATCH_MAX. 0: none. */
size_t ngram_find(const ngram *g, const int32_t *ids, size_t n, size_t *match);
size_t ngram_bytes(const ngram *g);
mote_status ngram_proposer(proposer *p, const mote_session *s, mote_error *err);

/* draft.c: a smaller model. */
mote_status draft_proposer(proposer *p, const mote_session *target, const mote_spec_opts *o, mote_error *err);

/* medusa.c, exit_draft.c: extra heads of the model itself. E_USAGE: it has none. */
mote_status medusa_proposer(proposer *p, const mote_session *s, mote_error *err);
mote_status exit_proposer(proposer *p, const mote_session *s, mote_error *err);

/* ---- speculate.c ---- */

/* A snapshot of what truncation cannot bring back. */
typedef struct spec_mark {
    unsigned char *mem; /* NULL: not needed */
    size_t bytes, at;   /* at SIZE_MAX: none taken */
} spec_mark;
mote_status spec_mark_open(spec_mark *m, const mote_session *s, mote_error *err);
void spec_mark_take(spec_mark *m, const mote_session *s, size_t seq);
/* Makes the sequence at most n tokens long, as little shorter as possible. */
void spec_mark_rewind(spec_mark *m, mote_session *s, size_t seq, size_t n);

struct mote_speculator {
    mote_session *s;
    mote_spec_opts o;
    proposer by[SPEC_KINDS];
    size_t n_by;
    spec_cost cost;
    float *rows; /* [n_max + 1, n_vocab]: the logits of the last pass that had guesses */
    spec_mark mark;
    double mark_ns; /* what taking it takes */
    const mote_sampler *sampler;
    const head_query *query; /* of the pass under way */
    size_t seq, len, n_shifted;
    proposer *who;   /* made `p`; NULL: there is none */
    proposal p;
    size_t n_run;    /* of p's tokens were computed … */
    size_t at;       /* … and so many, computed or not, came true */
    bool p_open;     /* the next token can still be p's */
    size_t last_row; /* of the last pass: from which the last token was drawn */
    size_t rows_run, rows_before; /* rows of the last pass, 0: booked already; of that before it, 0: none */
    double pass_ns, save_ns;      /* time of the last pass with the draws from it; of the snapshot before it */
    size_t n_tokens, n_speculative;
};

mote_status spec_open(mote_speculator **out, mote_session *s, const mote_spec_opts *o, mote_error *err);
void spec_close(mote_speculator *sp); /* NULL-safe */
void spec_stats(const mote_speculator *sp, mote_spec_stats *out);
/* A generation on seq, whose prompt has been fed, begins. sampler may be NULL. */
mote_status spec_begin(mote_speculator *sp, mote_session *s, size_t seq, const mote_sampler *sampler,
                       mote_error *err);
/* Moves on by the token that was drawn; the sequence's logits are then those after it. left: tokens that may
 * still be wanted after it. query: see run_feed; answered when the pass guesses nothing. Errors as run_append. */
mote_status spec_advance(mote_speculator *sp, int32_t id, size_t left, const head_query *query, mote_error *err);
/* A draw from the sequence's logits took so long: what a token takes is a pass and a draw. */
static inline void spec_drew(mote_speculator *sp, double ns) { sp->pass_ns += ns; }
/* Leaves in the caches what was generated, nothing else. */
void spec_end(mote_speculator *sp);

#endif
