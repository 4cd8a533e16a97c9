/* str.h: string views (not NUL-terminated) and the growable byte buffer, which is born with a maximum. */
#ifndef MOTE_BASE_STR_H
#define MOTE_BASE_STR_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct str {
    const char *p;
    size_t n;
} str;

#define STR(lit) ((str){(lit), sizeof(lit) - 1})
#define STR_ARG(s) (int)((s).n > 200 ? 200 : (s).n), (s).p /* for "%.*s"; clipped, for messages */

static inline str str_of(const char *s) { return (str){s, s ? strlen(s) : 0}; }
static inline bool str_eq(str a, str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
static inline bool str_is(str a, const char *b) { return str_eq(a, str_of(b)); }
static inline bool str_starts(str s, str prefix) { return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0); }
static inline bool str_ends(str s, str suffix) { return s.n >= suffix.n && (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0); }
static inline str str_sub(str s, size_t from, size_t n) { return (str){s.p + from, n}; }
/* Offset of needle in s at or after `from`, or SIZE_MAX. */
size_t str_find(str s, str needle, size_t from);
uint64_t str_hash(str s); /* 64-bit, for hash tables; not stable between versions */

/* Growable bytes. Append freely and check `failed` once: after a failure appends do nothing.
 * The data is always NUL-terminated (not counted in n). Owner: whoever called buf_init; free with buf_free. */
typedef struct buf {
    char *p;
    size_t n, cap, max;
    bool failed;    /* over max, or … */
    bool no_memory; /* … out of memory */
} buf;

void buf_init(buf *b, size_t max);
void buf_free(buf *b);
void buf_clear(buf *b); /* keeps the memory */
void buf_put(buf *b, const void *p, size_t n);
void buf_puts(buf *b, const char *s);
void buf_putc(buf *b, char c);
void buf_printf(buf *b, const char *fmt, ...) MOTE_PRINTF(2, 3);
static inline void buf_put_str(buf *b, str s) { buf_put(b, s.p, s.n); }
static inline str buf_str(const buf *b) { return (str){b->p ? b->p : "", b->n}; }
/* MOTE_OK, or the reason why appends failed ("what": name of the thing being built). */
mote_status buf_check(const buf *b, const char *what, mote_error *err);

/* Locale-free number parsing of a whole view; false on any junk, overflow or (double) non-finite result. */
bool str_to_i64(str s, int64_t *out);
bool str_to_u64(str s, uint64_t *out);
bool str_to_double(str s, double *out);

#endif
