/* zip.h: bytes made small (zstd). */
#ifndef MOTE_BASE_ZIP_H
#define MOTE_BASE_ZIP_H

#include "base/err.h"

#include <stddef.h>

/* *out (to be freed with mem_free) = p[n] compressed as far as zstd goes. Errors: E_MEMORY. */
mote_status zip_pack(const void *p, size_t n, unsigned char **out, size_t *n_out, mote_error *err);
/* The way back. Bytes that would become more than `max`, or are damaged: E_FORMAT; nothing is allocated before that is known. */
mote_status zip_unpack(const void *p, size_t n, size_t max, unsigned char **out, size_t *n_out, mote_error *err);

#endif
