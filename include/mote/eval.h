/* eval.h: how good and how fast a model is. */
#ifndef MOTE_EVAL_H
#define MOTE_EVAL_H

#include "mote/engine.h"
#include "mote/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- perplexity, as llama-perplexity defines it ----
 * The text is cut into windows of n_ctx tokens without overlap; the first token of each is replaced by BOS
 * when the model adds one; the second half of each window is scored. */
typedef struct mote_ppl_opts {
    size_t size;
    size_t n_ctx;    /* of a window; the session must have as much */
    size_t n_chunks; /* windows; 0: all there are */
    int (*on_chunk)(void *ctx, size_t done, size_t total, double ppl); /* non-zero cancels; may be NULL */
    void *ctx;
    const char *save_logits;    /* write log-probabilities here, as the base of later comparisons, or NULL */
    const char *compare_logits; /* such a file of the same text: fills the divergence part; or NULL */
    bool special;               /* control tokens written in the text, as in conversations that a template rendered, are those tokens */
} mote_ppl_opts;
MOTE_API void mote_ppl_opts_fill(mote_ppl_opts *o, size_t size);
static inline mote_ppl_opts mote_ppl_opts_default(void) {
    mote_ppl_opts o;
    mote_ppl_opts_fill(&o, sizeof o);
    return o;
}

typedef struct mote_ppl_result {
    size_t size; /* set by the caller */
    double ppl, ppl_error; /* PPL = ppl +/- ppl_error */
    double nll;            /* mean negative log-likelihood of a scored token, nats */
    size_t n_chunks, n_scored, n_tokens; /* n_tokens: of the whole text */
    /* compare_logits: Kullback-Leibler divergence from the base, nats, over the scored tokens */
    double kld_mean, kld_error, kld_max, kld_median, kld_p99;
    double base_ppl;
    double same_top;       /* fraction of positions where both have the same likeliest token */
    double rms_dp;         /* root mean square of the difference in the right token's probability */
    size_t n_bytes;        /* of text that the scored tokens stand for */
    double bits_per_byte;  /* of them: comparable between vocabularies, which perplexity is not */
} mote_ppl_result;

/* Uses sequence 0. MOTE_E_USAGE when the text has fewer than two windows. */
MOTE_API mote_status mote_perplexity(mote_session *s, const char *text, size_t n_bytes,
                                     const mote_ppl_opts *o, mote_ppl_result *result, mote_error *err);

/* ---- speed, as llama-bench and llama-batched-bench measure it ---- */
typedef struct mote_bench_opts {
    size_t size;
    size_t n_prompt;   /* tokens to prefill, and … */
    size_t n_gen;      /* … to decode after that; either may be 0 */
    size_t n_depth;    /* tokens already in the context, not timed */
    size_t n_parallel; /* sequences at once (0 means 1): each gets its prompt and its decoded tokens */
    size_t n_reps;
    bool no_warmup;
    int (*on_rep)(void *ctx, size_t done, size_t total); /* non-zero cancels; may be NULL */
    void *ctx;
    bool shared_prompt; /* depth and prompt are computed once and copied to the other sequences, untimed */
    bool full_logits;   /* decode with all logits of every token; false: one sequence is decoded greedily, and where
                           bounds show which token is the likeliest, the others' logits are not computed in full */
} mote_bench_opts;
MOTE_API void mote_bench_opts_fill(mote_bench_opts *o, size_t size);
static inline mote_bench_opts mote_bench_opts_default(void) {
    mote_bench_opts o;
    mote_bench_opts_fill(&o, sizeof o);
    return o;
}

/* One repetition. Tokens per second: n_parallel · (n_prompt + n_gen) / ns · 1e9; with shared_prompt, prompt_ns is the
 * time of one prompt. */
typedef struct mote_bench_sample {
    uint64_t prompt_ns, gen_ns;
} mote_bench_sample;

/* samples [n_reps]. The session must have n_depth + n_prompt + n_gen positions and n_parallel sequences. */
MOTE_API mote_status mote_bench(mote_session *s, const mote_bench_opts *o, mote_bench_sample *samples,
                                mote_error *err);

/* ---- training, timed ----
 * Steps of pseudo-random tokens: to the next-token loss, back to the gradients of all weights, AdamW's update in f32 (by a rate so
 * small that nothing changes). Nothing is written to the model. */
typedef struct mote_train_bench_opts {
    size_t size;
    size_t n_sequences, n_tokens; /* of a step: sequences, and tokens of each (default 2 of 256) */
    size_t n_reps;                /* after one that is not counted (default 5) */
    bool bf16;                    /* products of matrices in bf16 with sums in f32; false: all in f32 */
    bool checkpoint;              /* compute each layer again on the way back: less memory */
    int (*on_rep)(void *ctx, size_t done, size_t total); /* non-zero cancels; may be NULL */
    void *ctx;
} mote_train_bench_opts;
MOTE_API void mote_train_bench_opts_fill(mote_train_bench_opts *o, size_t size);
static inline mote_train_bench_opts mote_train_bench_opts_default(void) {
    mote_train_bench_opts o;
    mote_train_bench_opts_fill(&o, sizeof o);
    return o;
}
typedef struct mote_train_bench_sample {
    uint64_t forward_ns, back_ns, update_ns;
    double loss;
} mote_train_bench_sample;
typedef struct mote_train_bench_result {
    size_t size;               /* set by the caller */
    size_t n_params, n_trained;
    size_t peak_bytes;         /* of activations */
    double ops;                /* multiplications and additions that a step cannot do without: of matrices and attention */
} mote_train_bench_result;
/* samples [n_reps]. result may be NULL. E_UNSUPPORTED: a model that cannot be trained; E_CANCELLED. Thread: one at a time per engine. */
MOTE_API mote_status mote_train_bench(mote_model *m, const mote_train_bench_opts *o, mote_train_bench_sample *samples,
                                      mote_train_bench_result *result, mote_error *err);

/* ---- what the machine can do at most ---- */
enum { MOTE_MACHINE_MEMORY_MAX = 160, MOTE_MACHINE_LATENCY_MAX = 16, MOTE_MACHINE_PEAK_MAX = 96, MOTE_MACHINE_BARRIER_MAX = 16 };

/* Bandwidth, the best of several runs. bytes: the working set of all threads together; copies count what is read and what
 * is written. */
typedef struct mote_machine_memory {
    const char *access; /* "read", "read 4 streams", "copy", "write" */
    size_t bytes;
    int n_threads;
    bool huge_pages;
    double gb_s;
} mote_machine_memory;
/* One thread follows a chain of pointers. */
typedef struct mote_machine_latency {
    const char *access; /* "random lines" of 64 bytes, "random pages": one line of each page of 4 KB, which
                           is mostly the translation of addresses */
    size_t bytes;
    bool huge_pages;
    double ns;
} mote_machine_latency;
typedef struct mote_machine_peak {
    const char *unit;        /* "int8", "bf16", "f32" */
    const char *instruction; /* "vpdpbusd zmm" */
    int n_threads;
    double gop_s;            /* multiplications and additions */
} mote_machine_peak;
typedef struct mote_machine_barrier {
    int n_threads;
    double ns; /* from one meeting of all threads to the next */
} mote_machine_barrier;

typedef struct mote_machine {
    size_t size; /* set by the caller */
    char cpu[128];
    const char *isa; /* the rung in use */
    int n_threads;   /* the most that were measured */
    double seconds;  /* what measuring took */
    size_t n_memory, n_latencies, n_peaks, n_barriers;
    mote_machine_memory memory[MOTE_MACHINE_MEMORY_MAX];
    mote_machine_latency latencies[MOTE_MACHINE_LATENCY_MAX];
    mote_machine_peak peaks[MOTE_MACHINE_PEAK_MAX];
    mote_machine_barrier barriers[MOTE_MACHINE_BARRIER_MAX];
} mote_machine;

/* Measures with 1, 2, 4, … threads up to the engine's, on its instruction sets; takes up to 512 MB
 * meanwhile, and some 5 seconds. only_limits: only
 * what mote_machine_read_limit and mote_machine_peak_limit look up, with all threads (about a second). */
MOTE_API mote_status mote_machine_measure(mote_engine *e, bool only_limits, mote_machine *out, mote_error *err);
/* The fastest way to read a working set of so many bytes with all threads, GB/s: between two measured sizes on a straight
 * line over the logarithm of the size. 0 when nothing was measured. */
MOTE_API double mote_machine_read_limit(const mote_machine *m, double bytes);
/* The fastest instruction of a unit with all threads, GOP/s; 0: this machine has none. */
MOTE_API double mote_machine_peak_limit(const mote_machine *m, const char *unit);

/* What the machine allows a benchmark: every pass takes as long as reading its weights and cache, or as its arithmetic,
 * whichever is longer. Matrix products of quantized weights count as int8, the rest (attention) as bf16 or f32, whichever
 * is faster; norms, sampling, synchronization count nothing. */
typedef struct mote_bench_limit {
    size_t size;              /* set by the caller */
    double prompt_ns, gen_ns; /* of one repetition at least; 0 where nothing was asked for */
    double prompt_ops, gen_ops, prompt_bytes, gen_bytes; /* in all */
    double gen_read_gb_s;     /* the bandwidth that was taken for decoding's working set */
    bool prompt_by_reading, gen_by_reading; /* reading is what limits, in most passes */
} mote_bench_limit;
MOTE_API mote_status mote_bench_limits(const mote_session *s, const mote_bench_opts *o, const mote_machine *m, mote_bench_limit *out,
                                       mote_error *err);

/* ---- where the time of passes goes ---- */
enum { MOTE_PROFILE_PREFILL = 0, MOTE_PROFILE_DECODE = 1, MOTE_PROFILE_PHASES = 2 };
#define MOTE_PROFILE_ROWS_MAX 128

/* What one operation took of a phase. Texts are static. */
typedef struct mote_profile_row {
    const char *op;     /* "linear", "attention", "barriers, waiting", … */
    const char *tensor; /* role of the weights ("ffn_down"), what is fused ("norm, quantize"), or "" */
    const char *format; /* of the weights ("Q4_K"), or "" */
    const char *unit;   /* what multiplies: "int8", "bf16", "f32", or "" */
    uint64_t calls;
    uint64_t ns;        /* mean over the threads */
    uint64_t bytes;     /* of weights and cache that have to be read */
    uint64_t ops;       /* multiplications and additions */
} mote_profile_row;
typedef struct mote_profile_phase {
    uint64_t passes, tokens;
    uint64_t ns;       /* from the start of each pass to its end */
    size_t n_rows;
    mote_profile_row rows[MOTE_PROFILE_ROWS_MAX]; /* longest first; they add up to ns but for starting the threads */
} mote_profile_phase;

/* From now on passes of this session are profiled (a pass that gives every sequence one token counts as decode, others
 * as prefill); a second call starts again from zero. Costs a clock reading per operation and thread. mote_bench then
 * profiles what it times, and nothing else. */
MOTE_API mote_status mote_profile_start(mote_session *s, mote_error *err);
MOTE_API void mote_profile_stop(mote_session *s);
/* phase: MOTE_PROFILE_…; MOTE_E_USAGE when the session is not profiled. */
MOTE_API mote_status mote_profile_read(const mote_session *s, int phase, mote_profile_phase *out, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
