/* status.h: what every mote call returns, and the error it can fill in.
 *
 * A fallible call returns a mote_status and takes, last, a nullable mote_error owned by the caller.
 * MOTE_OK is 0. Codes are stable: new ones are added, none is renumbered. Thread: any. */
#ifndef MOTE_STATUS_H
#define MOTE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOTE_API __attribute__((visibility("default")))
#define MOTE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MOTE_API
#define MOTE_PRINTF(fmt, args)
#endif

/* X(CODE, value, "name", "what it means") */
#define MOTE_STATUS_MAP(X)                                                                         \
    X(OK, 0, "ok", "no error")                                                                     \
    X(E_USAGE, 10, "usage", "an argument or option is wrong")                                      \
    X(E_FORMAT, 20, "format", "the data does not follow its format")                               \
    X(E_UNSUPPORTED, 21, "unsupported", "the data is valid but this is not supported")             \
    X(E_LIMIT, 22, "limit", "a limit on size, depth or steps was reached")                         \
    X(E_RANGE, 23, "range", "a value lies outside its range")                                      \
    X(E_NOT_FOUND, 24, "not_found", "a named thing does not exist")                                \
    X(E_MISMATCH, 25, "mismatch", "two things that must agree do not")                             \
    X(E_CONTEXT, 26, "context_length", "the context is full")                                      \
    X(E_TEMPLATE, 27, "template", "the chat template raised an error")                             \
    X(E_GATE, 28, "gate", "a required quality was not reached")                                    \
    X(E_OUTPUT, 29, "model_output_invalid", "the model computed NaN or infinite logits")           \
    X(E_IO, 40, "io", "reading or writing failed")                                                 \
    X(E_HASH, 41, "hash", "the content does not match its hash or signature")                      \
    X(E_NETWORK, 42, "network", "a download or connection failed")                                 \
    X(E_MEMORY, 50, "memory", "out of memory")                                                     \
    X(E_CANCELLED, 51, "cancelled", "cancelled by the caller")                                     \
    X(E_INTERNAL, 60, "internal", "a bug in mote")

typedef enum mote_status {
#define MOTE_STATUS_ENUM(code, value, name, text) MOTE_##code = (value),
    MOTE_STATUS_MAP(MOTE_STATUS_ENUM)
#undef MOTE_STATUS_ENUM
} mote_status;

/* The caller owns it; a call that fails fills it once, at the place where the fault was seen. */
typedef struct mote_error {
    mote_status code;
    int line;         /* source line, for reports about mote itself */
    const char *file; /* source file, static storage, never NULL after a failure */
    char message[400];
} mote_error;

/* The short stable name of a status ("format"), or "unknown". */
MOTE_API const char *mote_status_name(mote_status s);
/* One sentence on what a status means. */
MOTE_API const char *mote_status_text(mote_status s);

#ifdef __cplusplus
}
#endif
#endif
