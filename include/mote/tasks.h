/* tasks.h: how well a model does at the usual tasks, with lm-evaluation-harness's prompts and metrics.
 *
 * A task reads items from a file of the caller's: JSON lines, or a JSON array, with the fields that the data sets have on
 * Hugging Face; MMLU's CSV and llama.cpp's HellaSwag text too. Choices are judged by their log-likelihood after the prompt, answers by
 * what the model generates greedily. */
#ifndef MOTE_TASKS_H
#define MOTE_TASKS_H

#include "mote/session.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOTE_TASK_DEFAULT SIZE_MAX
enum { MOTE_TASK_METRICS_MAX = 8 };

typedef struct mote_task_opts {
    size_t size;
    const char *task;         /* a name of mote_task_name */
    const char *file;         /* its items */
    const char *fewshot_file; /* where examples are drawn from; NULL: the same file, the item itself excepted */
    size_t n_fewshot;         /* examples before each item; MOTE_TASK_DEFAULT: the task's own number */
    uint64_t fewshot_seed;    /* of the draw, which is Python's random.sample [1234] */
    size_t limit;             /* the first so many items; 0: all */
    const char *reference;    /* task "perplexity": log-probabilities of the same text (mote_ppl_opts.save_logits), to be compared with; or NULL */
    size_t max_tokens;        /* of a generated answer; 0: the task's own number */
    bool chat;                /* the prompt is a user's message, put through the model's chat template */
    const char *system;       /* with chat: a system message, or NULL */
    /* One item's result as a JSON object; non-zero cancels. May be NULL. */
    int (*on_item)(void *ctx, size_t done, size_t total, const char *json);
    void *ctx;
} mote_task_opts;
MOTE_API void mote_task_opts_fill(mote_task_opts *o, size_t size);
static inline mote_task_opts mote_task_opts_default(void) {
    mote_task_opts o;
    mote_task_opts_fill(&o, sizeof o);
    return o;
}

typedef struct mote_task_metric {
    const char *name; /* "acc", "acc_norm", "exact_match,strict-match" … static text */
    double value, error; /* mean, and its standard error (sample standard deviation / sqrt n) */
} mote_task_metric;
typedef struct mote_task_result {
    size_t size; /* set by the caller */
    size_t n_items, n_skipped; /* skipped: items whose fields are missing, with a message in on_item */
    size_t n_metrics;
    mote_task_metric metrics[MOTE_TASK_METRICS_MAX];
    size_t n_tokens;  /* computed: what was shared between choices or items is counted once */
    double seconds;
} mote_task_result;

/* The i-th task's name and one line on it; NULL beyond the last. */
MOTE_API const char *mote_task_name(size_t i, const char **about);

/* Uses sequences 0 and 1 of the session; with one alone, what choices share is computed anew for each. Errors: E_USAGE (unknown task), E_NOT_FOUND,
 * E_FORMAT (the file; names the line), E_CONTEXT (an item longer than the context, where it cannot be cut), E_UNSUPPORTED (chat
 * without a template), E_CANCELLED. */
MOTE_API mote_status mote_task_run(mote_session *s, const mote_task_opts *o, mote_task_result *r, mote_error *err);

/* ---- does a model that was made smaller still behave? ---- */
typedef struct mote_smoke_result {
    size_t size;      /* set by the caller */
    size_t n_answers; /* to questions that come with mote, greedily */
    size_t n_broken;  /* stopped by logits that are not numbers */
    size_t n_empty, n_loops, n_ended; /* without a visible letter; turning in a circle; ended by the model itself */
    size_t n_tokens;
    bool chat;        /* asked through the model's chat template */
} mote_smoke_result;
/* Uses sequence 0. max_tokens: of an answer, at most 512; 0: 160. */
MOTE_API mote_status mote_smoke(mote_session *s, size_t max_tokens, mote_smoke_result *r, mote_error *err);

/* The quick form, after a compression: three questions, 48 tokens each. Where that looks broken, all
 * questions are asked, of the source as well, and what it does itself does not count. */
typedef struct mote_smoke_check {
    size_t size;              /* set by the caller */
    bool ran;                 /* false: it cannot be asked (no tokenizer, an encoder, …); `why` says it */
    bool broken;              /* logits that are no numbers, no letters, or most answers turning in a circle, and the source not so */
    bool source_ran;
    mote_smoke_result model, source;
    double seconds;
    char why[256];
} mote_smoke_check;
/* source: the file that the model was made from, or NULL. n_threads: 0: by measurement. Errors: E_MEMORY, those of opening an engine. */
MOTE_API mote_status mote_smoke_files(const char *model, const char *source, int n_threads, mote_smoke_check *c, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
