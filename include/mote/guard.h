/* guard.h: the means to end with a message when a mapped model file is truncated under the running program.
 *
 * Touching a page that the file no longer has raises SIGBUS. The library installs no signal handlers; a program
 * that wants a message instead of a crash installs one for SIGBUS, and asks there whether the fault lies in a
 * file that mote has mapped:
 *
 *     static void on_sigbus(int sig, siginfo_t *info, void *context) {
 *         if (mote_guard_contains(info->si_addr)) { write(2, …); _exit(4); }
 *         signal(sig, SIG_DFL); raise(sig);
 *     } */
#ifndef MOTE_GUARD_H
#define MOTE_GUARD_H

#include "mote/status.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* True when addr lies in a file that mote has mapped. Async-signal-safe. Thread: any. */
MOTE_API bool mote_guard_contains(const void *addr);

#ifdef __cplusplus
}
#endif
#endif
