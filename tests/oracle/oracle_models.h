/* oracle_models.h: the real models of $MOTE_SHARED/models.sh, in $MOTE_MODELS or ~/.cache/mote/models. */
#ifndef MOTE_TESTS_ORACLE_MODELS_H
#define MOTE_TESTS_ORACLE_MODELS_H

#include <stdbool.h>

/* out = the path of a model. One that is missing is fetched with models.sh where the shared folder exists
 * (exit 1 when that fails), else the test is skipped (exit 77). Returns out. */
const char *oracle_model(char out[4096], const char *file);
struct mote_model;
/* The rung of the ISA ladder that a model's kernels run on. */
const char *oracle_rung(const struct mote_model *m);

#endif
