/* quant_int.h: what the files of src/quant share. */
#ifndef MOTE_QUANT_QUANT_INT_H
#define MOTE_QUANT_QUANT_INT_H

#include "quant/layout.h"
#include "quant/quant.h"

enum {
#define FORMAT(NAME, number, block, bytes, family) \
    QUANT_BLOCK_##NAME = (block), QUANT_BYTES_##NAME = (bytes),
#include "quant/formats.def"
#undef FORMAT
};

/* One per row of formats.def, defined by its family's file with QUANT_FORMAT. */
#define FORMAT(NAME, number, block, bytes, family) extern const quant_format quant_format_##NAME;
#include "quant/formats.def"
#undef FORMAT

#define QUANT_FORMAT(NAME, text, decode_fn, encode_fn)                                             \
    const quant_format quant_format_##NAME = {                                                     \
        text, QUANT_##NAME, QUANT_BLOCK_##NAME, QUANT_BYTES_##NAME, decode_fn, encode_fn}

#endif
