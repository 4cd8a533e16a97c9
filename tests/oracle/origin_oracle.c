/* origin_oracle.c: $MOTE_SHARED/oracle/train: other numbers, opened in GGUF's shapes, go back to a folder's own tensors,
 * bit for bit where the rules only move them; and gradients reach every one.
 *
 *   origin_oracle [--report] [FOLDER…]
 *
 * A pass: what is not equal to the bit (1 + w and log(-A) lose their last bits) is within 1e-6 of the tensor's largest. */
#include "oracle_util.h"
#include "origin_props.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>

#define BAR 1e-6

static char scratch[] = "/tmp/mote_origin_XXXXXX";

static bool test_one(const char *name, bool report) {
    char dir[4096], said[64];
    origin_props_result r;
    mote_error err = {0};
    mote_status s = origin_props(oracle_path(dir, "train/%s", name), scratch, &r, &err);
    bool ok = s == MOTE_OK && r.worst <= BAR && !r.unused[0];
    if (s != MOTE_OK) printf("FAIL %-16s %s\n", name, err.message);
    else
        printf("%s %-16s %zu of %zu to the bit, the others within %.1e%s%s\n", ok ? "ok  " : "FAIL", name, r.n_exact,
               r.n_tensors, r.worst, r.unused[0] ? ", no gradient: " : "", r.unused);
    (void)snprintf(said, sizeof said, "%zu/%zu to the bit, %.1e", r.n_exact, r.n_tensors, r.worst);
    if (report) report_row("origin", name, said, "1e-6", ok ? "ok" : "FAIL", "-", "hf rules traced");
    return ok;
}

int main(int argc, char **argv) { return oracle_train_folders_in(scratch, argc, argv, test_one); }
