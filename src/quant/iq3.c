/* iq3.c: the codebook formats of 3 bits. */
#include "quant/quant_int.h"

QUANT_FORMAT(IQ3_XXS, "iq3_xxs", NULL, NULL);
QUANT_FORMAT(IQ3_S, "iq3_s", NULL, NULL);
