/* eval_tasks.h: the inside of mote/tasks.h: from a file's documents to items, from items to scores.
 *
 *   eval_docs.c    files to documents (JSON objects)
 *   eval_tasks.c   the table of tasks: documents to prompts, choices and right answers
 *   eval_python.c  what lm-evaluation-harness leaves to Python: its random draw, letters' case, white space
 *   eval_choice.c  log-likelihoods of choices
 *   eval_rolling.c likelihoods of whole documents
 *   eval_answer.c  generated answers and how they are judged
 *   eval_text.c    chrF, ROUGE, F1 over words and over fields
 *   eval_needle.c  a sentence hidden in a long text
 *   eval_smoke.c   loops, empty answers, answers without end
 *   eval_run.c     the loop, means and standard errors */
#ifndef MOTE_RUN_EVAL_TASKS_H
#define MOTE_RUN_EVAL_TASKS_H

#include "mote/tasks.h"
#include "run/run.h"

enum { EVAL_CHOICES_MAX = 32 };

/* ---- documents ---- */
/* All documents of a file, an array of objects (new reference). limit 0: all. */
mote_status eval_read_docs(json_t **out, const char *path, mote_error *err);

/* ---- tasks ---- */
/* An item: `n` pairs of prompt and continuation, of which `gold` is right. Texts live in the item's arena. */
typedef struct eval_item {
    const json_t *doc;
    size_t n, gold;
    str prompts[EVAL_CHOICES_MAX]; /* the same text n times but for tasks that put the choice into the prompt */
    str choices[EVAL_CHOICES_MAX]; /* as the data set has them; what is scored is a space and this */
    str answer;                    /* tasks that generate: the right one */
} eval_item;

/* ROLLING: prompts[0] is a document, the original of which choices[0] is; WINDOWS: the file is a text, judged as llama-perplexity does. */
typedef enum eval_kind { EVAL_CHOICE, EVAL_ANSWER, EVAL_ROLLING, EVAL_WINDOWS } eval_kind;
/* How good an answer is: fills values[] for the task's metrics. */
typedef mote_status eval_judge_fn(const eval_item *it, str answer, double *values, json_t *details, mote_error *err);
typedef struct eval_task {
    const char *name, *about;
    eval_kind kind;
    bool many_prompts;        /* the choice stands in the prompt (winogrande) */
    bool first_fewshot;       /* examples are the first of their file, not drawn */
    size_t n_fewshot;
    const char *metrics[MOTE_TASK_METRICS_MAX]; /* choices: "acc", "acc_norm"; NULL ends */
    mote_status (*item)(const json_t *doc, arena *a, eval_item *it, mote_error *err);
    eval_judge_fn *judge;
    const char *const *stops; /* of answers; NULL ends */
    size_t max_tokens;
    /* Makes items of the file where it is not (only) one of items; NULL: eval_read_docs. */
    mote_status (*docs)(json_t **out, const mote_session *s, const char *path, size_t n_ctx, mote_error *err);
} eval_task;
const eval_task *eval_find_task(const char *name); /* NULL when unknown */
const eval_task *eval_task_at(size_t i);

/* ---- Python ---- */
/* random.Random(seed).sample(range(n), k), call after call (CPython's: Mersenne Twister, getrandbits). */
typedef struct py_random {
    uint32_t mt[624];
    size_t at;
} py_random;
void py_seed(py_random *r, uint64_t seed);
/* k ≤ n distinct indices into out. False: out of memory. */
bool py_sample(py_random *r, size_t n, size_t k, size_t *out);
str py_strip(str s);
str py_rstrip(str s);
bool py_is_space(uint32_t cp);
/* str.capitalize, lower, upper, letter by letter. Appended. */
void py_capitalize(buf *out, str s);
void py_lower(buf *out, str s);
void py_upper(buf *out, str s);

/* ---- scoring ---- */
typedef struct eval_likelihood {
    double sum;  /* log p of the continuation, nats */
    bool greedy; /* each of its tokens is the likeliest */
    size_t n;    /* tokens */
} eval_likelihood;
/* The likelihoods of continuations[i] after prompts[i], n of them. Too long a prompt loses its beginning, as in lm-evaluation-harness.
 * *n_tokens grows by what was computed. */
mote_status eval_likelihoods(mote_session *s, const str *prompts, const str *continuations, size_t n, eval_likelihood *out,
                             size_t *n_tokens, mote_error *err);
/* That of next[i] after row i of [n, n_vocab] logits, together. */
void eval_score_rows(const float *rows, size_t n_vocab, const int32_t *next, size_t n, eval_likelihood *out);
/* eval_rolling.c: *sum = log p of a whole text, nats. Uses sequence 0. */
mote_status eval_rolling(mote_session *s, str text, double *sum, size_t *n_tokens, mote_error *err);
/* A plain text file as one document of "text" and "page", or a file of items. */
mote_status eval_text_docs(json_t **out, const mote_session *s, const char *path, size_t n_ctx, mote_error *err);
/* len(re.split(r"\s+", text)). */
size_t eval_words(str text);
/* Appends a page of WikiText as it was before it was cut into words. */
mote_status eval_wikitext(str page, buf *text, mote_error *err);
/* Greedy continuation of a prompt up to the first of `stops` (which is cut off) or the end of the answer. Appended. */
mote_status eval_generate(mote_session *s, str prompt, const char *const *stops, size_t max_tokens, buf *out, size_t *n_tokens,
                          mote_error *err);

eval_judge_fn eval_judge_ifeval, eval_judge_gsm8k, eval_judge_text, eval_judge_extract, eval_judge_needle;

/* eval_text.c: how near a text is to a reference, each from 0 to 1. */
typedef struct eval_scores {
    double chrf, rouge1, rouge2, rougeL, f1;
} eval_scores;
mote_status eval_text_scores(str got, str want, eval_scores *out, mote_error *err);
/* eval_needle.c: documents for the task "needle" out of a plain text: a sentence with a number, hidden at five depths of contexts of growing
 * length up to n_ctx tokens, and the question for it (new reference). */
mote_status eval_needle_docs(json_t **out, const mote_session *s, const char *path, size_t n_ctx, mote_error *err);

/* eval_smoke.c */
/* The first n_questions of the dozen. */
mote_status eval_smoke(mote_session *s, size_t n_questions, size_t max_tokens, mote_smoke_result *r, mote_error *err);
/* mote_smoke_files of mote/tasks.h. */
mote_status eval_smoke_check(const char *path, const char *source, int n_threads, mote_smoke_check *c, mote_error *err);
/* The end of ids is the same few tokens again and again: at most 24, three times or more, 36 tokens at least. */
bool eval_is_loop(const int32_t *ids, size_t n);

mote_status eval_run(mote_session *s, const mote_task_opts *o, mote_task_result *r, mote_error *err);

#endif
