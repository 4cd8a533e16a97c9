/* repl.h: the options of `mote run`, and its interactive chat. */
#ifndef MOTE_CLI_REPL_H
#define MOTE_CLI_REPL_H

#include "answer.h"

struct run_options {
    model_flags model;
    session_flags session;
    sample_flags sample;
    spec_flags spec;
    const char *prompt, *file, *system, *prefix, *suffix, *think, *template_file, *state, *task, *labels, *fields;
    int64_t n_predict, keep;
    cli_list stops;
    bool raw, no_shift, special, json, stats, no_history;
};

mote_gen_opts run_gen_opts(const struct run_options *o, const loaded *l, mote_sampler *sampler);
bool run_shows_thinking(const struct run_options *o);

/* A conversation as the options describe it. */
mote_status chat_open(mote_chat **out, loaded *l, const struct run_options *o, mote_error *err);
/* Reads from the terminal until the user leaves. *sampler is replaced when a parameter is changed. */
int chat_run(loaded *l, struct run_options *o, mote_sampler **sampler);
#endif
