/* distil_cache.h: what a teacher thinks of a text, kept in a file: of each token's successor the k likeliest tokens and the mass of
 * all others. A student can then be trained without the teacher, as often as one likes: some 260 bytes a token at k = 64.
 *
 * Little-endian, nothing aligned:
 *   "moteKD01", u32 n_vocab, u32 k, f32 temperature, u32 0, the teacher's and the data's SHA-256 (64 digits each)
 *   sequences:  u32 n ≥ 1, u32 m, n × u32 token (the top bit set: what follows it counts), m × record, one for each that counts
 *   a record:   k × id (u16 where n_vocab ≤ 65536, else u32), best first, k × f16 natural logarithm of the probability, f32 the others' mass
 *   the end:    u32 0, u32 0, u64 sequences, u64 tokens, u64 records, "moteKDok"
 * A file that does not end so is cut off and refused. The reader trusts nothing: lengths when it opens, records as they are read. */
#ifndef MOTE_TRAIN_DISTIL_CACHE_H
#define MOTE_TRAIN_DISTIL_CACHE_H

#include "base/base.h"

enum { DISTIL_CACHE_K_MAX = 1024, DISTIL_CACHE_SEQ_MAX = 1 << 24 /* tokens of a sequence */ };

typedef struct distil_cache_info {
    size_t n_vocab, k;
    float temperature; /* that the probabilities were taken at */
    char teacher[SHA256_HEX], data[SHA256_HEX];
    uint64_t n_seqs, n_tokens, n_records;
} distil_cache_info;

/* ---- writing: a sequence after the other; the file appears when it is complete ---- */
typedef struct distil_cache_writer distil_cache_writer;
mote_status distil_cache_create(distil_cache_writer **out, const char *path, const distil_cache_info *i, mote_error *err);
/* tokens[n], counts[n]; ids, logp [m, k] and rest[m] for the m tokens that count, in order. */
mote_status distil_cache_add(distil_cache_writer *w, const int32_t *tokens, const bool *counts, size_t n, const uint32_t *ids,
                             const float *logp, const float *rest, mote_error *err);
mote_status distil_cache_commit(distil_cache_writer *w, distil_cache_info *info, mote_error *err); /* info may be NULL */
void distil_cache_discard(distil_cache_writer **w); /* also after commit; frees */

/* ---- reading ---- */
typedef struct distil_cache distil_cache;
mote_status distil_cache_open(distil_cache **out, const char *path, mote_error *err);
/* From memory that outlives *out. This is what is fuzzed. */
mote_status distil_cache_parse(distil_cache **out, const unsigned char *data, size_t n, mote_error *err);
void distil_cache_close(distil_cache **c);
const distil_cache_info *distil_cache_about(const distil_cache *c);
/* Sizes of sequence i. */
void distil_cache_size(const distil_cache *c, size_t i, size_t *n_tokens, size_t *n_records);
/* Its tokens, and which count; records (rows of k) with probabilities that add up to 1. E_FORMAT: a token or a probability that cannot
 * be. Thread: any. */
mote_status distil_cache_read(const distil_cache *c, size_t i, int32_t *tokens, bool *counts, uint32_t *ids, float *logp, float *rest,
                              mote_error *err);

#endif
