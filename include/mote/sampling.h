/* sampling.h: logits in, a token out. A chain of filters in an order of one's choice, ending in a draw.
 * Exactly repeatable: the same seed, logits and history give the same tokens; equal logits come by id. */
#ifndef MOTE_SAMPLING_H
#define MOTE_SAMPLING_H

#include "mote/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOTE_SAMPLE_ORDER_DEFAULT "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
#define MOTE_SAMPLE_ORDER_LETTERS "edskypmxt" /* the same */
#define MOTE_SAMPLE_LAST_N_MAX 1048576 /* bound of the *_last_n fields */
#define MOTE_SAMPLE_TOP_MAX 1000       /* bound of n_top */
#define MOTE_SEED_RANDOM UINT64_MAX    /* as seed: draw one from the operating system */

typedef struct mote_logit_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY forbids the token */
} mote_logit_bias;

/* The defaults are llama.cpp's: temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, the rest off.
 * A value that makes no sense (NaN, negative where it must not be) is MOTE_E_RANGE and named. */
typedef struct mote_sample_opts {
    size_t size;
    uint64_t seed;
    float temp;                 /* 0: the likeliest token, no draw */
    float dynatemp_range;       /* > 0: temperature between temp - range and temp + range by the entropy */
    float dynatemp_exponent;
    int32_t top_k;              /* ≤ 0: off */
    float top_p;                /* 1: off */
    float min_p;                /* 0: off */
    float typical_p;            /* 1: off */
    float top_n_sigma;          /* ≤ 0: off */
    int32_t min_keep;           /* the filters leave at least so many tokens */
    float xtc_probability;      /* 0: off */
    float xtc_threshold;        /* > 0.5: off */
    int32_t penalty_last_n;     /* tokens that the next three look at; -1: all the context, 0: off */
    float repeat_penalty;       /* 1: off */
    float frequency_penalty;    /* 0: off */
    float presence_penalty;     /* 0: off */
    float dry_multiplier;       /* 0: off */
    float dry_base;
    int32_t dry_allowed_length;
    int32_t dry_last_n;         /* -1: all the context, 0: off */
    const char *const *dry_breakers; /* texts over which no repetition is counted; NULL: newline : " * */
    size_t n_dry_breakers;
    int mirostat;               /* 0 off, 1, 2: in place of all filters between the penalties and the draw */
    float mirostat_tau, mirostat_eta;
    const mote_logit_bias *bias;
    size_t n_bias;
    bool ignore_end;            /* never draw a token that ends the answer */
    const char *order;          /* names separated by ';', or letters, as in MOTE_SAMPLE_ORDER_*; NULL: default */
    size_t n_top;               /* log-probabilities wanted beside the chosen token's */
    bool logprobs;              /* compute log-probabilities at all */
    bool penalty_prompt;        /* the three penalties look at the prompt's tokens as well, as llama.cpp's do, not only at what was said since */
} mote_sample_opts;
MOTE_API void mote_sample_opts_fill(mote_sample_opts *o, size_t size);
static inline mote_sample_opts mote_sample_opts_default(void) {
    mote_sample_opts o;
    mote_sample_opts_fill(&o, sizeof o);
    return o;
}

/* Sets those options of o for which the model's file recommends a value (general.sampling.temp, top_k, top_p, min_p, xtc_probability,
 * xtc_threshold, penalty_last_n, penalty_repeat, mirostat, mirostat_tau, mirostat_eta); the others stay. MOTE_E_FORMAT, MOTE_E_RANGE: a value that
 * cannot be, by its name; o is then as it was. */
MOTE_API mote_status mote_model_sampling(const mote_model *m, mote_sample_opts *o, mote_error *err);

typedef struct mote_sampler mote_sampler;
/* For logits of m's vocabulary. All memory is allocated here; o and what it points to are copied. */
MOTE_API mote_status mote_sampler_open(mote_sampler **out, const mote_model *m, const mote_sample_opts *o,
                                       mote_error *err);
MOTE_API void mote_sampler_close(mote_sampler **s);
/* As after opening: no history, the seed's first draw comes next. */
MOTE_API void mote_sampler_reset(mote_sampler *s);
/* The history is now this prompt: all that comes before the next draw, earlier answers included. DRY looks at it; the penalties do where
 * penalty_prompt says so: words of a question may stand in its answer, and what was said again and again in the answer is what they are against. */
MOTE_API void mote_sampler_prompt(mote_sampler *s, const int32_t *ids, size_t n);
/* Tells of a token that was said, and not drawn here. */
MOTE_API void mote_sampler_accept(mote_sampler *s, int32_t id);
/* Draws a token and remembers it. logits: n_vocab floats, left as they are. MOTE_E_OUTPUT when they hold NaN
 * or +Inf, or nothing above -Inf. */
MOTE_API mote_status mote_sampler_draw(mote_sampler *s, const float *logits, int32_t *id, mote_error *err);

typedef struct mote_logprob {
    int32_t id;
    float logprob; /* natural logarithm of the model's own probability: before penalties and filters */
} mote_logprob;
/* Of the last draw, when opts.logprobs: *chosen, and the n_top likeliest in descending order (valid until the
 * next draw). Returns their number. */
MOTE_API size_t mote_sampler_logprobs(const mote_sampler *s, mote_logprob *chosen, const mote_logprob **top);
/* The seed in use, to repeat what MOTE_SEED_RANDOM gave. */
MOTE_API uint64_t mote_sampler_seed(const mote_sampler *s);

#ifdef __cplusplus
}
#endif
#endif
