/* yaml.h: YAML through libyaml, into the same tree as JSON (base/json.h), so that one validator reads both.
 *
 * Scalars follow the core schema of YAML 1.2: `null`, `~` and nothing; `true`, `false`; integers, also 0o17 and 0xF; floats, also 1e-5;
 * all else, and all that is quoted, is a string (`no`, `on`, `12:30` too). Keys are strings as they are written. One document.
 * Refused by name and line: a key given twice, merge keys (`<<`), tags but the core ones, infinity and NaN (JSON has none), integers
 * beyond 64 bits, an alias within its own anchor.
 * Aliases are copies. Their size counts, so that a few lines cannot grow to gigabytes. */
#ifndef MOTE_BASE_YAML_H
#define MOTE_BASE_YAML_H

#include "base/json.h"

#define YAML_BYTES_MAX ((size_t)4 << 20)
#define YAML_DEPTH_MAX 64
#define YAML_NODES_MAX ((size_t)200000) /* scalars, lists and maps, aliases written out */
#define YAML_ANCHORS_MAX 256

/* Parses text. *out is owned by the caller: json_decref; null for an empty document. "what" names it in errors.
 * Errors: E_FORMAT, E_LIMIT, E_MEMORY. Thread: any. */
mote_status yaml_parse(json_t **out, str text, const char *what, mote_error *err);
/* The same from a file. */
mote_status yaml_read(json_t **out, const char *path, mote_error *err);

#endif
