/* parts.h: an embedding in parts of rows, as the command line says it. */
#ifndef MOTE_COMPRESS_PARTS_H
#define MOTE_COMPRESS_PARTS_H

#include "format/format.h"

/* "8192=Q4_96,16384=Q3_96,Q2_96": the first 8192 rows, the next 16384, the rest. n stays 0 where `list` is NULL or names one format alone.
 * E_USAGE: it is neither. */
mote_status embedding_parts_read(const char *list, embedding_parts *out, mote_error *err);

#endif
