/* presets.h: what `mote run --task` knows: tasks that a small model does well, asked in the words it was taught them with. */
#ifndef MOTE_CLI_PRESETS_H
#define MOTE_CLI_PRESETS_H

#include "repl.h"

/* Fits the options to o->task: checks what goes with it, sets the system prompt, sampling and length where the user left them, and whether it is one of
 * those that choose (presets_choose). Returns an exit code after a message. */
int presets_apply(const cli_command *self, struct run_options *o);
/* The prompt as the task asks it; caller frees, NULL after a message. */
char *presets_prompt(const struct run_options *o, const char *text, size_t n, size_t *n_out);
/* classify and extract: a label or words of the text, by their probabilities. */
bool presets_chooses(const struct run_options *o);
int presets_choose(loaded *l, const struct run_options *o, const char *text, size_t n);

#endif
