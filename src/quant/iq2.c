/* iq2.c: the codebook formats of 2 bits. */
#include "quant/quant_int.h"

QUANT_FORMAT(IQ2_XXS, "iq2_xxs", NULL, NULL);
QUANT_FORMAT(IQ2_XS, "iq2_xs", NULL, NULL);
QUANT_FORMAT(IQ2_S, "iq2_s", NULL, NULL);
