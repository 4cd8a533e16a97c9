#include "base/str.h"
#include "base/mem.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

size_t str_find(str s, str needle, size_t from) {
    if (from > s.n) return SIZE_MAX;
    if (needle.n == 0) return from;
    const char *hit = memmem(s.p + from, s.n - from, needle.p, needle.n);
    return hit ? (size_t)(hit - s.p) : SIZE_MAX;
}

uint64_t str_hash(str s) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ s.n;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t w;
        memcpy(&w, s.p + i, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    for (; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    h ^= h >> 29;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 32);
}

void buf_init(buf *b, size_t max) { *b = (buf){.max = max}; }

void buf_free(buf *b) {
    mem_free(b->p);
    *b = (buf){.max = b->max};
}

void buf_clear(buf *b) {
    b->n = 0;
    b->failed = b->no_memory = false;
    if (b->p) b->p[0] = 0;
}

static bool reserve(buf *b, size_t more) {
    if (b->failed) return false;
    if (more > b->max || b->n > b->max - more) {
        b->failed = true;
        return false;
    }
    size_t need = b->n + more + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need) cap *= 2;
    char *p = mem_resize(b->p, cap, 1);
    if (!p) {
        b->failed = b->no_memory = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void buf_put(buf *b, const void *p, size_t n) {
    if (n == 0 || !reserve(b, n)) return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

void buf_puts(buf *b, const char *s) { buf_put(b, s, strlen(s)); }
void buf_putc(buf *b, char c) { buf_put(b, &c, 1); }

void buf_printf(buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(b, (size_t)n)) return;
    va_start(ap, fmt);
    (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

mote_status buf_check(const buf *b, const char *what, mote_error *err) {
    if (!b->failed) return MOTE_OK;
    if (b->no_memory) FAIL(err, MOTE_E_MEMORY, "%s: out of memory at %zu bytes", what, b->n);
    FAIL(err, MOTE_E_LIMIT, "%s: larger than %zu bytes", what, b->max);
}

/* Copies the view so that strto* sees its end; numbers longer than this are junk anyway. */
static bool copy_number(str s, char tmp[64]) {
    if (s.n == 0 || s.n >= 64) return false;
    memcpy(tmp, s.p, s.n);
    tmp[s.n] = 0;
    char c = tmp[0];
    return c == '-' || c == '+' || c == '.' || (c >= '0' && c <= '9');
}

bool str_to_i64(str s, int64_t *out) {
    char tmp[64], *end;
    if (!copy_number(s, tmp)) return false;
    errno = 0;
    long long v = strtoll(tmp, &end, 10);
    if (errno || end != tmp + s.n) return false;
    *out = v;
    return true;
}

bool str_to_u64(str s, uint64_t *out) {
    char tmp[64], *end;
    if (!copy_number(s, tmp) || tmp[0] == '-') return false;
    errno = 0;
    unsigned long long v = strtoull(tmp, &end, 10);
    if (errno || end != tmp + s.n) return false;
    *out = v;
    return true;
}

bool str_to_double(str s, double *out) {
    char tmp[64], *end;
    if (!copy_number(s, tmp)) return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return false;
    double v = strtod_l(tmp, &end, c);
    freelocale(c);
    if (end != tmp + s.n || !isfinite(v)) return false;
    *out = v;
    return true;
}
