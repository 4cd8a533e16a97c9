/* hash.h: SHA-256 (OpenSSL) of bytes and files. */
#ifndef MOTE_BASE_HASH_H
#define MOTE_BASE_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct sha256 sha256; /* opaque running hash */
#define SHA256_HEX 65         /* 64 digits and NUL */

sha256 *sha256_new(void); /* NULL when out of memory */
void sha256_update(sha256 *h, const void *p, size_t n);
void sha256_final(sha256 *h, char hex[SHA256_HEX]); /* also resets h for another round */
void sha256_free(sha256 *h);
mote_status sha256_file(const char *path, char hex[SHA256_HEX], mote_error *err);

#endif
