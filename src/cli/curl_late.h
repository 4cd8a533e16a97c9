/* curl_late.h: libcurl, opened when something is downloaded. Linked, its thirty libraries would cost every start of the program time and memory
 * (docs/adr/0011-curl-is-opened-late.md). */
#ifndef MOTE_CLI_CURL_LATE_H
#define MOTE_CLI_CURL_LATE_H

#include <curl/curl.h>

#define CURL_LATE(X)                                                                                                                                       \
    X(global_init) X(global_cleanup) X(free) X(url) X(url_set) X(url_get) X(url_cleanup) X(slist_append) X(slist_free_all) X(easy_init) X(easy_setopt)     \
        X(easy_getinfo) X(easy_perform) X(easy_strerror) X(easy_cleanup)

/* Its functions, without "curl_" before their names. */
typedef struct curl_late {
#define CURL_LATE_FIELD(name) __typeof__(curl_##name) *name;
    CURL_LATE(CURL_LATE_FIELD)
#undef CURL_LATE_FIELD
} curl_late;

/* Thread: the first one. NULL when there is no libcurl, or one that lacks a function: the reason was said. It stays open until the program ends. */
const curl_late *curl_late_open(void);

#endif
