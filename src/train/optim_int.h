/* optim_int.h: what the files of the optimizers share. */
#ifndef MOTE_TRAIN_OPTIM_INT_H
#define MOTE_TRAIN_OPTIM_INT_H

#include "train/optim.h"

enum { OPTIM_BLOCK = 256 /* of 8-bit states; shares of threads are multiples of it */ };

/* The state of one parameter. An average of n floats, or as 8 bits: the blocks' greatest magnitudes, then n codes. */
typedef struct optim_slot {
    train_param p;
    size_t n, rows, cols; /* rows, cols of one matrix */
    void *m, *v;          /* NULL v: Muon */
    size_t m_bytes, v_bytes;
    float *s;             /* the trained numbers where they differ from v->x, else NULL */
    uint64_t first_from;  /* the update from which on m counts */
    bool muon, bits8;
} optim_slot;

/* Codes of 8 bits: a sign (signed ones), a decimal exponent and a linear fraction: Dettmers et al. 2022, "8-bit optimizers via
 * block-wise quantization", section 2.2 (dynamic tree quantization; the unsigned ones spend the sign on the fraction). */
enum { OPTIM_CODE_KEYS = 32 << 8 }; /* powers of two from 2^-31 on, in 256 parts each */
typedef struct optim_code {
    float value[256], border[255];      /* ascending; border[i] lies between values i and i + 1 */
    uint8_t first[2][OPTIM_CODE_KEYS];  /* by sign and size: the borders below all such numbers; at most one more is below a given one */
} optim_code;
void optim_code_init(optim_code *c, bool is_signed);
/* n ≤ OPTIM_BLOCK floats from or to codes. never_zero: what is not 0 does not become 0. */
void optim_decode(const optim_code *c, float *x, const uint8_t *codes, float max, size_t n);
float optim_encode(const optim_code *c, uint8_t *codes, const float *x, size_t n, bool never_zero);

typedef struct muon muon;
mote_status muon_open(muon **out, const optim_slot *slots, size_t n, gemm_prec prec, pool *p, const struct kern_table *k, mote_error *err);
void muon_close(muon **m);
/* Replaces the matrix g[rows, cols] by about U Vᵀ of its singular value decomposition. */
void muon_orthogonal(muon *m, float *g, size_t rows, size_t cols);
/* Room for one matrix. */
float *muon_room(muon *m);

#endif
