/* err.h: how an internal function fails.
 *
 *   TRY(call)                 forwards a failure
 *   TRYG(s, call)             stores it in s and jumps to `out`
 *   FAIL(err, CODE, fmt, …)   creates one and returns it
 *   FAILG(s, err, CODE, …)    creates one and jumps to `out`
 *
 * A message says what, where, what was expected and what to do next. It never quotes secrets. */
#ifndef MOTE_BASE_ERR_H
#define MOTE_BASE_ERR_H

#include "mote/status.h"

/* Fills *err (when not NULL) and returns code. Thread: any. */
mote_status err_set(mote_error *err, mote_status code, const char *file, int line, const char *fmt,
                    ...) MOTE_PRINTF(5, 6);
/* Puts "prefix: " before the message of an error that is being forwarded; returns its code. */
mote_status err_prefix(mote_error *err, mote_status code, const char *fmt, ...) MOTE_PRINTF(3, 4);

#define TRY(call)                                                                                  \
    do {                                                                                           \
        mote_status try_ = (call);                                                                 \
        if (try_ != MOTE_OK) return try_;                                                          \
    } while (0)
#define TRYG(s, call)                                                                              \
    do {                                                                                           \
        (s) = (call);                                                                              \
        if ((s) != MOTE_OK) goto out;                                                              \
    } while (0)
#define ERR(err, code, ...) err_set((err), (code), __FILE__, __LINE__, __VA_ARGS__)
#define FAIL(err, code, ...) return ERR(err, code, __VA_ARGS__)
#define FAILG(s, err, code, ...)                                                                   \
    do {                                                                                           \
        (s) = ERR(err, code, __VA_ARGS__);                                                         \
        goto out;                                                                                  \
    } while (0)

#endif
