/* log.h: the library never prints; it hands lines to a callback the caller gave, or to nobody. */
#ifndef MOTE_BASE_LOG_H
#define MOTE_BASE_LOG_H

#include "mote/status.h"

#include <stdarg.h>
#include <stdio.h>

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN } log_level;
typedef struct log_sink {
    void (*line)(void *ctx, int level, const char *text); /* text without newline; NULL = drop */
    void *ctx;
} log_sink;

MOTE_PRINTF(3, 4) static inline void log_line(const log_sink *s, log_level level, const char *fmt, ...) {
    if (!s || !s->line) return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->line(s->ctx, (int)level, text);
}

#endif
