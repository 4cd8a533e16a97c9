/* coded.h: tensors whose weights are entropy-coded in the file (docs/formats/coded.md). A tensor NAME of Q4_96, Q3_96, Q2_96,
 * TQ1_192, Q4_0, Q4_1 or Q8_0 may stand as NAME.coded instead, bytes that hold it: levels and the two halves of each scale (and
 * minimum) through rANS (quant/rans.h), a distribution of its own for each of these, cut into chunks of rows that decode side by side. */
#ifndef MOTE_FORMAT_CODED_H
#define MOTE_FORMAT_CODED_H

#include "format/format.h"

#define CODED_SUFFIX ".coded"

/* Whether tensors of this type can be coded. */
bool coded_can(quant_type t);
/* *out (to be freed with mem_free) = t coded. */
mote_status coded_write(const tensor_info *t, unsigned char **out, size_t *n, mote_error *err);
/* What it holds: type and shape, from n bytes that are not trusted; t->size is set, t->data is not. */
mote_status coded_read_head(const unsigned char *p, size_t n, tensor_info *t, mote_error *err);
/* Decodes chunk `chunk` of coded_chunks into dst, which has t->size bytes; chunks touch nothing of each other's. Any bytes are safe. */
size_t coded_chunks(const unsigned char *p);
mote_status coded_read_chunk(const unsigned char *p, size_t n, const tensor_info *t, size_t chunk, unsigned char *dst, mote_error *err);

/* small_vocabulary.c: the value of the key vocabulary_keys[0], *out (to be freed with mem_free), which holds the lists of the keys after it;
 * *out NULL: they are not such that it could. */
mote_status vocabulary_pack(const model_file *f, unsigned char **out, size_t *n, mote_error *err);
extern const char *const vocabulary_keys[];

#endif
