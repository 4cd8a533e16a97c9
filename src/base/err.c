#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

mote_status err_set(mote_error *err, mote_status code, const char *file, int line, const char *fmt,
                    ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        err->file = file;
        err->line = line;
        (void)vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
    }
    return code;
}

mote_status err_prefix(mote_error *err, mote_status code, const char *fmt, ...) {
    if (err) {
        char old[sizeof err->message];
        memcpy(old, err->message, sizeof old);
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
        size_t used = n < 0 ? 0 : (size_t)n, room = used + 3 < sizeof old ? sizeof old - used - 3 : 0;
        if (room) { /* a long message loses its end */
            memcpy(err->message + used, ": ", 2);
            memcpy(err->message + used + 2, old, room);
            err->message[sizeof err->message - 1] = 0;
        }
        err->code = code;
    }
    return code;
}

const char *mote_status_name(mote_status s) {
    switch (s) {
#define NAME(code, value, name, text)                                                              \
    case MOTE_##code: return name;
        MOTE_STATUS_MAP(NAME)
#undef NAME
    }
    return "unknown";
}

const char *mote_status_text(mote_status s) {
    switch (s) {
#define TEXT(code, value, name, text)                                                              \
    case MOTE_##code: return text;
        MOTE_STATUS_MAP(TEXT)
#undef TEXT
    }
    return "unknown status";
}
