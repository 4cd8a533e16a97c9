/* smoke.h: the smoke test after a compression, for all commands that make a model smaller. */
#ifndef MOTE_CLI_SMOKE_H
#define MOTE_CLI_SMOKE_H

#include "cli.h"

#define SMOKE_OPTION(S, F) OPT_FLAG(S, F, "no-smoke", NULL, "do not try the result on a few prompts")

/* Asks the model at `out` a few questions (mote_smoke_files); `source`: what it was made from. Says so on stderr where it is broken, and on stdout, but
 * for quiet, what came out. Never an error: a model that cannot be asked is left out by name. The result for a JSON report (new
 * reference), NULL when skip. */
json_t *smoke_result(const char *out, const char *source, int n_threads, bool skip, bool quiet);

#endif
