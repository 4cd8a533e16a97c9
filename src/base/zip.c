/* zip.c: zstd behind two functions. */
#include "base/zip.h"

#include "base/mem.h"

#include <zstd.h>

mote_status zip_pack(const void *p, size_t n, unsigned char **out, size_t *n_out, mote_error *err) {
    size_t room = ZSTD_compressBound(n);
    mote_status s = MOTE_OK;
    ZSTD_CCtx *c = ZSTD_createCCtx();
    *out = MEM_NEW_N(unsigned char, room);
    if (!*out || !c) FAILG(s, err, MOTE_E_MEMORY, "out of memory for compressing %zu bytes", n);
    (void)ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, ZSTD_maxCLevel());
    (void)ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    *n_out = ZSTD_compress2(c, *out, room, p, n);
    if (ZSTD_isError(*n_out)) FAILG(s, err, MOTE_E_MEMORY, "compressing %zu bytes: %s", n, ZSTD_getErrorName(*n_out));
out:
    (void)ZSTD_freeCCtx(c);
    if (s != MOTE_OK) {
        mem_free(*out);
        *out = NULL;
    }
    return s;
}

mote_status zip_unpack(const void *p, size_t n, size_t max, unsigned char **out, size_t *n_out, mote_error *err) {
    unsigned long long size = ZSTD_getFrameContentSize(p, n);
    *out = NULL;
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN) FAIL(err, MOTE_E_FORMAT, "%zu bytes that should be compressed are not", n);
    if (size > max) FAIL(err, MOTE_E_LIMIT, "%zu compressed bytes would become %llu, at most %zu are allowed", n, size, max);
    unsigned char *q = MEM_NEW_N(unsigned char, (size_t)size + 1);
    if (!q) FAIL(err, MOTE_E_MEMORY, "out of memory for %llu bytes", size);
    *n_out = ZSTD_decompress(q, (size_t)size, p, n);
    if (!ZSTD_isError(*n_out) && *n_out == size) {
        *out = q;
        return MOTE_OK;
    }
    mem_free(q);
    FAIL(err, MOTE_E_FORMAT, "compressed bytes are damaged: %s", ZSTD_isError(*n_out) ? ZSTD_getErrorName(*n_out) : "another length");
}
