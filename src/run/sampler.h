/* sampler.h: the sampling chain inside mote_sampler (include/mote/sampling.h).
 *
 * A draw begins *dense*: `work` holds one logit per token of the vocabulary, penalties and biases edit it in
 * place. The first step that throws tokens away makes it *sparse*: `c[0 … n)` holds the candidates that are
 * left. Every selection orders by logit, then by the lower id, so equal logits never make a result depend on
 * anything else. All memory is allocated when the sampler opens. */
#ifndef MOTE_RUN_SAMPLER_H
#define MOTE_RUN_SAMPLER_H

#include "base/base.h"
#include "mote/sampling.h"
#include "tensor/tensor.h"
#include "token/token.h"

/* X(STEP, "name", letter): the chain's steps, in the order that is the default. */
#define SAMPLE_STEP_MAP(X)                                                                         \
    X(PENALTIES, "penalties", 'e')                                                                 \
    X(DRY, "dry", 'd')                                                                             \
    X(TOP_N_SIGMA, "top_n_sigma", 's')                                                             \
    X(TOP_K, "top_k", 'k')                                                                         \
    X(TYPICAL, "typ_p", 'y')                                                                       \
    X(TOP_P, "top_p", 'p')                                                                         \
    X(MIN_P, "min_p", 'm')                                                                         \
    X(XTC, "xtc", 'x')                                                                             \
    X(TEMPERATURE, "temperature", 't')
typedef enum sample_step {
#define SAMPLE_STEP_ENUM(id, name, letter) STEP_##id,
    SAMPLE_STEP_MAP(SAMPLE_STEP_ENUM)
#undef SAMPLE_STEP_ENUM
    STEPS
} sample_step;

typedef struct cand {
    float logit;
    int32_t id;
    double p; /* after cand_softmax */
} cand;

#define DRY_TAIL_MAX 40 /* tokens of a breaker after its first */
/* A text over which DRY counts no repetition begins with token `head` and goes on with `tail`. */
typedef struct dry_breaker {
    int32_t head;
    uint32_t n_tail, tail; /* offset in dry_tails */
} dry_breaker;

struct mote_sampler {
    mote_sample_opts o; /* checked; its pointers are not used after opening */
    mote_model *owner; /* kept open by whoever set it, or NULL */
    size_t n_vocab;
    const tok_vocab *vocab; /* may be NULL */
    uint64_t seed;
    rng draw_rng, xtc_rng;
    sample_step steps[2 * STEPS];
    size_t n_steps;

    float *work; /* [n_vocab] */
    cand *c;     /* [n_vocab] */
    size_t n;
    bool dense, sorted;
    bool found;      /* this draw: c has what a dense draw's first cut can leave, by ascending id */
    int32_t *forced; /* [HEAD_FORCED_MAX] of sampler_query */

    mote_logit_bias *bias;
    size_t n_bias;
    int32_t *ends; /* tokens that end an answer, when they are forbidden */
    size_t n_ends;

    /* The last n_hist ≤ hist_cap tokens: hist[hist_begin … hist_begin + n_hist), in a buffer of twice the
     * size. */
    int32_t *hist;
    size_t hist_begin, n_hist, hist_cap;
    uint32_t *count;    /* [n_vocab] occurrences among the last n_counted; NULL when penalties are off */
    size_t n_counted;   /* ≤ n_hist and ≤ penalty_n: tokens that the penalties look at */
    size_t penalty_n, dry_n; /* penalty_last_n and dry_last_n, resolved */
    uint32_t *stamp;    /* [n_vocab] == stamp_now: seen in this draw */
    uint32_t stamp_now;
    uint32_t *dry_len;  /* [n_vocab] longest repetition that the token would extend; valid where stamped */
    uint32_t *dry_z;    /* [dry_n] */
    int32_t *dry_hit;   /* [dry_n] tokens that would extend a repetition */
    dry_breaker *breakers; /* sorted by head */
    size_t n_breakers;
    int32_t *dry_tails;
    size_t n_tails;

    double mu; /* mirostat: the largest surprise allowed, bits */

    mote_logprob *top; /* [n_top] */
    size_t n_top;
    mote_logprob chosen;
};

/* vocab may be NULL: then breakers are ignored. n_ctx: what "all the context" means for last_n -1. */
mote_status sampler_open(mote_sampler **out, size_t n_vocab, size_t n_ctx, const tok_vocab *vocab,
                         const mote_sample_opts *o, mote_error *err);
void sampler_free(mote_sampler *s);
void sampler_reset(mote_sampler *s);
void sampler_prompt(mote_sampler *s, const int32_t *ids, size_t n);
void sampler_accept(mote_sampler *s, int32_t id);
mote_status sampler_draw(mote_sampler *s, const float *logits, int32_t *id, mote_error *err);

/* sampler_twin.c: a sampler that draws what another would draw next, from other logits, without that one's
 * noticing. of must outlive it. */
mote_status sampler_twin_open(mote_sampler **out, const mote_sampler *of, mote_error *err);
void sampler_twin_sync(mote_sampler *twin, const mote_sampler *of); /* random numbers and history as of's now */
void sampler_twin_free(mote_sampler *twin); /* NULL-safe */

/* sampler_options.c. E_RANGE: an option that cannot have that value, by its name. */
mote_status sampler_check(const mote_sample_opts *o, mote_error *err);
/* Whether v may be recommended under the metadata key; an error calls it name. */
mote_status sampler_check_advice(const char *key, const char *name, double v, mote_error *err);
/* The options for which the file (NULL: nothing) recommends a value get it. E_FORMAT, E_RANGE: a value that cannot be. */
mote_status sampler_advice(const model_file *f, mote_sample_opts *o, mote_error *err);

/* sampler_found.c: what the next draw needs of the logits, when it does not need all of them: whatever they are, it
 * draws from the answer what it would draw from all. q->forced stays valid until the next call. */
bool sampler_query(mote_sampler *s, head_query *q);
mote_status sampler_draw_found(mote_sampler *s, const head_found *f, int32_t *id, mote_error *err);
/* The likeliest of what was found. */
mote_status sample_greatest(const head_found *f, int32_t *id, mote_error *err);

/* The likeliest token, the lower id at equal logits; MOTE_E_OUTPUT as sampler_draw. */
mote_status sample_argmax(const float *logits, size_t n, int32_t *id, mote_error *err);

/* Parts of a draw. */
bool sample_is_greedy(const mote_sampler *s);
void sample_look_back(mote_sampler *s); /* the steps that penalise what has been said */
int32_t sample_by_chain(mote_sampler *s);

/* sampler_filter.c: a step each; see there for sources. */
void cand_top(cand *c, size_t n, size_t k); /* the best k come first, in descending order */
void cand_softmax(mote_sampler *s);
void sample_make_sparse(mote_sampler *s);
void sample_top_k(mote_sampler *s);
void sample_top_p(mote_sampler *s);
void sample_min_p(mote_sampler *s);
void sample_typical(mote_sampler *s);
void sample_top_n_sigma(mote_sampler *s);
void sample_xtc(mote_sampler *s);
void sample_temperature(mote_sampler *s);
void sample_mirostat1_cut(mote_sampler *s);
void sample_mirostat2_cut(mote_sampler *s);

/* sampler_penalty.c */
void sample_penalties(mote_sampler *s);
void sample_dry(mote_sampler *s);
mote_status sample_dry_open(mote_sampler *s, mote_error *err);

#endif
