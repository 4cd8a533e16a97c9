/* budget_known.h: what a search for a budget has measured, kept in a file, so that a second budget for the same model asks only for
 * what is new.
 *
 * A file is JSON: {"key": SHA-256 over what the figures hang on, "tensors": {NAME: {"errors": {FORMAT: e}, "probes": {FORMAT: [e, KLD]}}}}.
 * A figure does not hang on the budget it was measured for: the same file comes out whether it was there before or not. */
#ifndef MOTE_COMPRESS_BUDGET_KNOWN_H
#define MOTE_COMPRESS_BUDGET_KNOWN_H

#include "base/base.h"

typedef struct budget_known {
    const char *path;   /* NULL: kept in memory alone */
    json_t *root;
    uint64_t saved_ns;  /* when */
    bool changed;
} budget_known;

/* What lies at `path` if its key is this one, else nothing (a file that is broken or of something else is written over). */
mote_status budget_known_open(budget_known *k, const char *path, const char *key, mote_error *err);
void budget_known_close(budget_known *k);
/* The error of a format on a sample of the tensor's rows; and put it. */
bool budget_known_error(const budget_known *k, str tensor, const char *format, double *e);
mote_status budget_known_put_error(budget_known *k, str tensor, const char *format, double e, mote_error *err);
/* The error of the whole tensor in that format, and what it does to the model; and put them. */
bool budget_known_probe(const budget_known *k, str tensor, const char *format, double *e, double *kld);
mote_status budget_known_put_probe(budget_known *k, str tensor, const char *format, double e, double kld, mote_error *err);
/* Writes the file (atomically) when something is new; now: at once, else at most every few seconds. */
mote_status budget_known_save(budget_known *k, bool now, mote_error *err);

#endif
