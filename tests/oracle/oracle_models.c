#include "oracle_models.h"

#include "oracle_util.h"
#include "run/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *oracle_model(char out[4096], const char *file) {
    const char *dir = getenv("MOTE_MODELS"), *home = getenv("HOME");
    if (dir) (void)snprintf(out, 4096, "%s/%s", dir, file);
    else (void)snprintf(out, 4096, "%s/.cache/mote/models/%s", home ? home : "", file);
    if (access(out, R_OK) == 0) return out;
    char below[4096], command[8192];
    (void)oracle_path(below, "../models.sh"); /* exits 77 where there is no shared folder */
    (void)snprintf(command, sizeof command, "sh '%s' >&2", below);
    if (system(command) != 0 || access(out, R_OK) != 0) {
        printf("%s is missing and models.sh did not fetch it\n", out);
        exit(1);
    }
    return out;
}

const char *oracle_rung(const struct mote_model *m) { return m->info ? m->info->rung : "-"; }
