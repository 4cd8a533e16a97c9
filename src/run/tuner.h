/* tuner.h: how many threads a kind of pass runs on, found by measuring the first ones. Results never depend on it. */
#ifndef MOTE_RUN_TUNER_H
#define MOTE_RUN_TUNER_H

#include <stdbool.h>

/* All zeros but n_max: nothing is measured yet. Begins with n_max threads and goes down while that is clearly faster. */
typedef struct run_tuner {
    int n_max, best, trial, n_samples;
    double best_ns, trial_ns;
    bool settled;
} run_tuner;
int run_tuner_threads(run_tuner *t); /* for the next pass */
/* That pass took ns a token. True when it settled the matter. */
bool run_tuner_took(run_tuner *t, double ns);

#endif
