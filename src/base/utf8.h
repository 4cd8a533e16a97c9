/* utf8.h: decoding and encoding UTF-8, strictly (no overlong forms, no surrogates, at most U+10FFFF). */
#ifndef MOTE_BASE_UTF8_H
#define MOTE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BAD UINT32_MAX

/* Decodes the character at p (n bytes left, n ≥ 1). Returns its length and sets *cp; at an invalid or
 * cut-off sequence returns 1 and sets *cp to UTF8_BAD. */
size_t utf8_decode(const char *p, size_t n, uint32_t *cp);
/* Writes cp as 1–4 bytes, returns their number; cp must be a valid scalar value (else U+FFFD is written). */
size_t utf8_encode(uint32_t cp, char out[4]);
/* True when all n bytes are valid UTF-8. */
bool utf8_valid(const char *p, size_t n);
/* How many of the n bytes form whole characters: the rest (at most 3) is the beginning of one that may
 * still be completed by bytes to come. Invalid bytes count as whole. */
size_t utf8_whole(const char *p, size_t n);
/* Number of characters; each invalid byte counts as one. */
size_t utf8_count(const char *p, size_t n);

#endif
