/* oracle_util.h: finding golden data, comparing, reporting. Where the shared folder does not exist, the test is
 * skipped by name (exit 77); where it does, data that is missing is a failure. */
#ifndef MOTE_TESTS_ORACLE_UTIL_H
#define MOTE_TESTS_ORACLE_UTIL_H

#include "base/base.h"

/* buf = the path of a file below oracle/, printf-like. Returns buf. Exits 77 when there is no shared folder. */
const char *oracle_path(char out[4096], const char *fmt, ...) MOTE_PRINTF(2, 3);
/* Whether the command line names no item, or one with which `name` begins. Options do not count. */
bool oracle_wanted(const char *name, int argc, char **argv);
/* Runs `test` on every folder of oracle/train that the command line wants; prints how many pass. Returns main's exit code. */
int oracle_train_folders(int argc, char **argv, bool (*test)(const char *name, bool report));
/* The same with a folder for files: `scratch` is a name for mkdtemp, and what is in it goes afterwards. */
int oracle_train_folders_in(char *scratch, int argc, char **argv, bool (*test)(const char *name, bool report));
/* A JSON file below oracle/; exits 1 with a message when it cannot be read. Owner: caller. */
json_t *oracle_json(const char *name);
/* Sum of squared differences over sum of squares; infinity when not finite. */
double oracle_nmse(const float *x, const float *ref, size_t n);
/* One row of ./test --report (report.h): an error with its bar. */
void oracle_report(const char *kind, const char *item, bool ok, double nmse, double bar, const char *path);

#endif
