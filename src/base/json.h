/* json.h: JSON through jansson, with limits on size and depth checked before it is parsed.
 * Integers beyond 64 bits are refused. Objects keep the order of their keys. */
#ifndef MOTE_BASE_JSON_H
#define MOTE_BASE_JSON_H

#include "base/str.h"

#include <jansson.h>

#define JSON_DEPTH_MAX 256
#define JSON_BYTES_MAX ((size_t)512 << 20)

/* Parses text (any top-level value). *out is owned by the caller: json_decref. "what" names it in errors. */
mote_status json_parse(json_t **out, str text, const char *what, mote_error *err);
/* Members of an object, or the default when absent or of another type. */
str json_get_str(const json_t *obj, const char *key); /* {NULL, 0} when absent; lives as long as obj */
int64_t json_get_int(const json_t *obj, const char *key, int64_t otherwise);
double json_get_num(const json_t *obj, const char *key, double otherwise);
bool json_get_bool(const json_t *obj, const char *key, bool otherwise);

#endif
