/* api_int.h: how the bodies of include/mote read options and write results, whose structs may be shorter or
 * longer than ours when the program was built against another version. */
#ifndef MOTE_API_API_INT_H
#define MOTE_API_API_INT_H

#include "base/base.h"

/* Writes our defaults into a struct of `size` bytes of which we know `own`; what we do not know is zeroed. */
static inline void api_fill(void *dst, size_t size, const void *defaults, size_t own) {
    if (size > own) memset(dst, 0, size);
    memcpy(dst, defaults, MIN(size, own));
    memcpy(dst, &size, MIN(size, sizeof size)); /* the first member */
}

/* Puts the caller's options (NULL: none) over the defaults that are in dst. */
static inline mote_status api_merge(void *dst, size_t own, const void *src, mote_error *err) {
    if (!src) return MOTE_OK;
    size_t size;
    memcpy(&size, src, sizeof size);
    if (size < sizeof size || size > 65536)
        FAIL(err, MOTE_E_USAGE, "the options' size is %zu; make them with mote_…_opts_default()", size);
    memcpy(dst, src, MIN(size, own));
    memcpy(dst, &own, sizeof own);
    return MOTE_OK;
}

/* Hands a result to a caller who has said in its first member how large his struct is; NULL: he does not want
 * it. */
static inline void api_result(void *dst, const void *src, size_t own) {
    if (!dst) return;
    size_t size;
    memcpy(&size, dst, sizeof size);
    if (size < sizeof size || size > 65536) return;
    if (size > own) memset(dst, 0, size);
    memcpy(dst, src, MIN(size, own));
    memcpy(dst, &size, sizeof size);
}

/* (dst, cap) -> needed, for text: NUL-terminated where there is room. */
static inline size_t api_text(char *dst, size_t cap, str s) {
    if (cap) {
        size_t n = MIN(s.n, cap - 1);
        if (n) memcpy(dst, s.p, n);
        dst[n] = 0;
    }
    return s.n;
}

#define API_NEED(p, err)                                                                           \
    do {                                                                                           \
        if (!(p)) FAIL(err, MOTE_E_USAGE, "%s: " #p " is NULL", __func__);                        \
    } while (0)

#endif
