/* iq1.c: the codebook formats of 1 bits. */
#include "quant/quant_int.h"

QUANT_FORMAT(IQ1_S, "iq1_s", NULL, NULL);
QUANT_FORMAT(IQ1_M, "iq1_m", NULL, NULL);
