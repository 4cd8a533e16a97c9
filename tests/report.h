/* report.h: the rows of `./test --report`.
 *
 * A test program that sees MOTE_REPORT in its environment, or is given --report by hand, prints one row per thing
 * it measured, beside doing its test as ever. A row is one line:
 *
 *   report TAB kind TAB item TAB measured TAB bar TAB verdict TAB speed TAB path
 *
 * kind      what it belongs to: kern, quant, vocab, templates, arch, train, embed, model, sampling, …
 * item      one oracle item ("llama-dense"), one format × rung ("q4_k gemv avx512vnni"), one technique
 * measured  the error with its unit ("NMSE 3.1e-15", "600/600 equal")
 * bar       what it must not exceed ("1e-7", "all")
 * verdict   ok, FAIL or SKIP (then measured says why)
 * speed     against the peer or the naive baseline ("5.2x scalar", "31 GB/s"); "-" where speed means nothing
 * path      what really ran ("avx512vnni", "scalar", "pcre2+bpe"), so that a silent fall-back is seen */
#ifndef MOTE_TESTS_REPORT_H
#define MOTE_TESTS_REPORT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline bool report_wanted(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--report") == 0) return true;
    return getenv("MOTE_REPORT") != NULL;
}

static inline void report_row(const char *kind, const char *item, const char *measured, const char *bar,
                              const char *verdict, const char *speed, const char *path) {
    printf("report\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", kind, item, measured, bar, verdict, speed, path);
}

#endif
