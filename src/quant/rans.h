/* rans.h: entropy coding of small symbols by interleaved range asymmetric numeral systems (Duda 2013, arXiv:1311.2540, §3.1;
 * interleaving: Giesen 2014, arXiv:1402.3392).
 *
 * RANS_LANES coders take turns: symbol i belongs to lane i % RANS_LANES. A lane's state lies in [2^16, 2^32); a symbol of
 * frequency f out of 2^RANS_BITS takes it to f (x >> RANS_BITS) + (x mod 2^RANS_BITS) - start, and then one 16-bit word comes in
 * when it fell below 2^16. Lanes read in ascending order, so that a vector of lanes reads one run of words.
 *
 * A stream: RANS_LANES final states (u32), then the words (u16), all little-endian. It is whole when after the last symbol every
 * state is 2^16 and no word is left. That finds streams that are cut or made up, and most that are damaged; who must find all
 * keeps a hash beside them, as coding maps every sequence of symbols to a stream and a damaged one may be another's. */
#ifndef MOTE_QUANT_RANS_H
#define MOTE_QUANT_RANS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { RANS_LANES = 32, RANS_BITS = 12, RANS_SCALE = 1 << RANS_BITS, RANS_SYMBOLS = 256 };

/* Frequencies of symbols 0 … RANS_SYMBOLS - 1; they add up to RANS_SCALE. 0: does not occur. */
typedef struct rans_model {
    uint16_t freq[RANS_SYMBOLS];
} rans_model;
/* The frequencies nearest to counts (not all 0): what occurs gets at least 1. */
void rans_fit(rans_model *m, const uint64_t counts[RANS_SYMBOLS]);

/* Slot s of a decoder: (freq - 1) << 20 | (s - start) << 8 | symbol. */
typedef struct rans_table {
    _Alignas(64) uint32_t slot[RANS_SCALE];
} rans_table;
/* E_FORMAT: the frequencies do not add up. */
mote_status rans_open(rans_table *t, const rans_model *m, mote_error *err);

/* The most bytes that n symbols can take. */
size_t rans_bound(size_t n);
/* dst: rans_bound(n) bytes. Returns the bytes used, which are aligned to the end: the stream is dst + rans_bound(n) - it. Symbols of
 * frequency 0 must not occur. */
size_t rans_encode(const rans_model *m, const uint8_t *symbols, size_t n, uint8_t *dst);
/* symbols[n] from a stream of `bytes` bytes. E_FORMAT: it is not whole; what was written so far means nothing. Any bytes are safe. */
mote_status rans_decode(const rans_table *t, const uint8_t *stream, size_t bytes, uint8_t *symbols, size_t n, mote_error *err);

/* Its inner loop: n (a multiple of RANS_LANES) symbols; words from *at on; it stops when fewer than a turn may need are left:
 * returns how many symbols it did (whole turns). The same results on every ISA. */
typedef size_t rans_turns_fn(const rans_table *t, uint32_t state[RANS_LANES], const uint8_t **at, const uint8_t *end, uint8_t *symbols, size_t n);
rans_turns_fn rans_turns_generic, rans_turns_avx2, rans_turns_avx512;

#endif
