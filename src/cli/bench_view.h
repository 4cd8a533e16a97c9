/* bench_view.h: what the files of `mote bench` share. */
#ifndef MOTE_CLI_BENCH_VIEW_H
#define MOTE_CLI_BENCH_VIEW_H

#include "common.h"

#define BENCH_TESTS_MAX 64
#define BENCH_REPS_MAX 1000

struct bench_options {
    model_flags model;
    session_flags session;
    cli_list n_prompt, n_gen, n_depth, npl, npp, ntg;
    const char *format;
    int64_t reps, parallel;
    bool no_warmup, full_logits, shared_prompt, profile, machine, json, limits;
    const char *svg; /* picture of the profile */
    bool train, checkpoint;
    int64_t sequences, length; /* of a step of training */
    const char *precision;
};

typedef struct bench_numbers {
    int64_t v[BENCH_TESTS_MAX];
    size_t n;
} bench_numbers;

/* One row of a result: a prefill or a decode at one depth, or (batched) both of several sequences together. */
typedef struct bench_test {
    int64_t n_prompt, n_gen, depth, parallel;
    bool batched, shared; /* batched: the session has just the positions of the test */
    char when[32];
    size_t n;
    mote_bench_sample samples[BENCH_REPS_MAX];
    double ns[BENCH_REPS_MAX], ts[BENCH_REPS_MAX];
    double layers;   /* that a decoded token went through, on average, where it could leave early; else 0 */
    double limit_ts; /* with --limits */
    mote_bench_limit limit;
    mote_profile_phase profile[MOTE_PROFILE_PHASES]; /* with --profile */
} bench_test;

/* Opens a session of its own and measures; an exit code after a message. m: the machine's limits, or NULL. */
int bench_measure(loaded *l, const struct bench_options *o, const mote_machine *m, bench_test *t);

/* bench_batched.c: every prompt length × every decode length × every number of sequences, as llama-batched-bench. */
int bench_batched(loaded *l, const struct bench_options *o, const mote_machine *m, const bench_numbers *prompts, const bench_numbers *gens,
                  const bench_numbers *parallel);

/* bench_train.c: steps of training, measured and printed; m: the machine's limits, or NULL. An exit code. */
int bench_train(loaded *l, const struct bench_options *o, const mote_machine *m);

/* bench_machine.c: measures and prints; an exit code. */
int bench_machine(const struct bench_options *o);
json_t *machine_json(const mote_machine *m);

/* bench_profile.c: where the time of a test went. */
/* m: the machine's limits, or NULL. timed_ns: all that the test took; what passes did not take of it was outside: feeding,
 * drawing. */
json_t *profile_json(const mote_profile_phase phases[MOTE_PROFILE_PHASES], double timed_ns, const mote_machine *m);
void profile_print(const mote_profile_phase phases[MOTE_PROFILE_PHASES], double timed_ns, const mote_machine *m);
/* A picture: for each phase its operations, below them the tensors, as wide as the time they take. An exit code. */
int profile_svg(const char *path, const char *title, const mote_profile_phase phases[MOTE_PROFILE_PHASES]);

#endif
