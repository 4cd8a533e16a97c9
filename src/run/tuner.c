/* tuner.c: the number of threads by trial. */
#include "run/tuner.h"

/* A trial is the fastest of SAMPLES passes; fewer threads have to be better by more than the noise. */
enum { SAMPLES = 3 };
#define CLEARLY 0.97

int run_tuner_threads(run_tuner *t) {
    if (t->trial == 0) t->trial = t->n_max;
    if (t->n_max <= 1 && !t->settled) {
        t->best = t->n_max;
        t->settled = true;
    }
    return t->settled ? t->best : t->trial;
}

bool run_tuner_took(run_tuner *t, double ns) {
    if (t->settled) return false;
    if (t->n_samples++ == 0 || ns < t->trial_ns) t->trial_ns = ns;
    if (t->n_samples < SAMPLES) return false;
    bool better = t->best == 0 || t->trial_ns < CLEARLY * t->best_ns;
    if (better) {
        t->best = t->trial;
        t->best_ns = t->trial_ns;
    }
    t->settled = !better || t->trial == 1;
    t->trial -= t->trial > 8 ? t->trial / 4 : 1;
    t->n_samples = 0;
    return t->settled;
}
