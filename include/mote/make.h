/* make.h: a model made by a recipe: stages one after the other, each kept by the hash of what went into it.
 *
 * A recipe is YAML (docs/howto/make-a-recipe.md):
 *
 *     model: smollm2-135m-instruct      # read, never written
 *     out: small.gguf                   # appears when every stage is done and the gate is passed
 *     target: 40MB                      # what the file may weigh:   quantize: {type: auto} is planned from it
 *     time: 2h                          # what training may take:    steps of stages without steps are planned from it
 *     eval: {text: held-out.txt, chunks: 16}
 *     gate: {perplexity-ratio: 1.3, kld: 0.3, top: 0.7}
 *     smoke: true                       # the default: a few questions at the end; what loops, says nothing or breaks, and did not before, fails
 *     stages:
 *       - imatrix
 *       - distill: {data: text.jsonl, lr: 1e-4}
 *       - quantize: {type: auto}
 *
 * A stage is a command of mote; its keys are that command's options. Its key is the SHA-256 over the version, the command, its
 * options, and the content of every file that goes in; a stage whose key is there already is not run again, one that was
 * killed goes on where its command left off. */
#ifndef MOTE_MAKE_H
#define MOTE_MAKE_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mote_make_stage {
    char name[48];       /* of the command */
    char key[65];
    char folder[80];     /* where it is kept, in the work folder */
    bool makes_model;    /* else what it makes lies beside the model (imatrix), or it only says something (eval) */
    bool cached;         /* it was there already */
    double seconds;      /* of the run that made it */
    uint64_t bytes;      /* of its model */
    double ppl, kld, top; /* of its model, on the recipe's eval text; 0: not measured */
} mote_make_stage;

enum { MOTE_MAKE_STAGES_MAX = 64 };
typedef struct mote_make_report {
    mote_make_stage stages[MOTE_MAKE_STAGES_MAX];
    size_t n_stages;
    uint64_t bytes_from, bytes_to, target_bytes;
    double ppl_from, ppl_to, kld, top;
    double seconds; /* of this call */
    bool gate_passed;
    bool smoke_broken; /* the smoke test (mote/tasks.h: mote_smoke_files) failed, and the gate with it */
    char smoke[256];   /* what it found; "": not asked for */
    char out[4096], report[4096]; /* the model, the page of Markdown */
} mote_make_report;

typedef struct mote_make_options {
    const char *work; /* where stages are kept; NULL: the output's path with ".make" */
    const char *out;  /* in place of the recipe's */
    bool dry_run;     /* say what would be run; run nothing */
    bool no_eval;     /* measure nothing: only for recipes without a gate */
    int n_threads;
    /* The path of a model by its name (malloc; the library frees), or NULL. May be NULL: names are paths. */
    char *(*find_model)(void *ctx, const char *name);
    /* Runs a command of mote: argv[0] is its name. What it prints goes to the file `log`. Returns the exit code of mote (0: done). */
    int (*run)(void *ctx, const char *const *argv, size_t argc, const char *log);
    /* Before each stage and measurement; false cancels. May be NULL. */
    bool (*progress)(void *ctx, size_t stage, size_t n_stages, const char *what);
    void *ctx;
} mote_make_options;

/* Errors: E_USAGE, E_FORMAT (the recipe, by key), E_NOT_FOUND, E_LIMIT (a budget that cannot be met; what could be is said), E_GATE (the result is
 * worse than the recipe allows: `out` is as it was, *report says by how much), E_MISMATCH (a file changed meanwhile), E_IO, E_MEMORY,
 * E_CANCELLED; a stage that fails: its command's error, and where its log lies. *report is filled as far as things went. Thread: any. */
MOTE_API mote_status mote_make(const char *recipe, const mote_make_options *options, mote_make_report *report, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
