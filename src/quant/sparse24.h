/* sparse24.h: the 2:4 formats and their dense twins, which have the same scales and levels. */
#ifndef MOTE_QUANT_SPARSE24_H
#define MOTE_QUANT_SPARSE24_H

#include "quant/quant.h"

#include <stdbool.h>

enum { QUANT_24_KEPT = 16 /* of a block of 32 */ };

/* Whether t is one of them; *dense: its twin (Q4_0, Q8_0). */
bool quant_24_dense(quant_type t, quant_type *dense);
/* n weights (a multiple of 32) of the twin become blocks of t with the same values; false when more than two of four are not 0. */
bool quant_24_pack(quant_type t, void *dst, const void *dense, size_t n);
/* And back. */
void quant_24_expand(quant_type t, void *dense, const void *src, size_t n);

#endif
