/* smoke.c: the smoke test after a compression. */
#include "smoke.h"

#include "mote/tasks.h"

json_t *smoke_result(const char *out, const char *source, int n_threads, bool skip, bool quiet) {
    mote_smoke_check c = {.size = sizeof c};
    mote_error err;
    if (skip) return NULL;
    if (mote_smoke_files(out, source, n_threads, &c, &err) != MOTE_OK) (void)snprintf(c.why, sizeof c.why, "%.255s", err.message);
    if (!c.ran) {
        if (!quiet) (void)printf("smoke test: skipped: %s\n", c.why);
        return json_pack("{s:b, s:s}", "ran", 0, "why", c.why);
    }
    const mote_smoke_result *r = &c.model;
    if (!quiet)
        (void)printf("smoke test: %s: %zu answers, %zu end by themselves, %zu loop, %zu empty, %zu not numbers (%.1f s)\n", c.broken ? "broken" : c.source_ran ? "as its source" : "fine",
                     r->n_answers, r->n_ended, r->n_loops, r->n_empty, r->n_broken, c.seconds);
    if (c.broken)
        cli_say("smoke test: the result is broken: of %zu answers %zu loop, %zu are empty, %zu stop at logits that are not numbers; see mote eval -m %s --smoke", r->n_answers, r->n_loops,
                r->n_empty, r->n_broken, out);
    return json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:f}", "ran", 1, "broken", (int)c.broken, "answers", (json_int_t)r->n_answers, "ended", (json_int_t)r->n_ended, "loops",
                     (json_int_t)r->n_loops, "empty", (json_int_t)r->n_empty, "not_numbers", (json_int_t)r->n_broken, "seconds", c.seconds);
}
