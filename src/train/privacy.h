/* privacy.h: differential privacy of training: what a run has given away about any one example, and the noise that bounds it.
 *
 * Examples are drawn by chance, each with probability q in every step (Poisson sampling); each one's gradient is cut to
 * length C; noise of standard deviation σ C is added to the sum (Abadi et al. 2016, algorithm 1). The accountant adds up Rényi
 * divergences of the sampled Gaussian mechanism (Mironov, Talwar, Zhang 2019, section 3.3) at the orders that Opacus uses and turns
 * them into (ε, δ) by Balle et al. 2020, theorem 21. */
#ifndef MOTE_TRAIN_PRIVACY_H
#define MOTE_TRAIN_PRIVACY_H

#include "train/optim.h"

/* What was spent so far: steps of the same q and σ. Plain bytes: it lies in checkpoints as it is. */
enum { PRIVACY_SPANS = 32 };
typedef struct privacy_spent {
    uint64_t n;
    struct {
        double q, sigma;
        uint64_t steps;
    } spans[PRIVACY_SPANS];
    unsigned char key[16]; /* of the noise; secret */
} privacy_spent;

/* ε at δ; infinite when there is no bound. */
double privacy_epsilon(const privacy_spent *s, double delta);
/* The least σ (to 0.1 %) with which `steps` steps at q stay within ε; E_RANGE when none below 1e4 does. */
mote_status privacy_find_sigma(double *sigma, double epsilon, double delta, double q, uint64_t steps, mote_error *err);
/* E_LIMIT when q or σ changed more often than there is room for. */
mote_status privacy_spend(privacy_spent *s, double q, double sigma, mote_error *err);
/* σ, C, δ against the number of examples: what makes no sense is refused by name. */
mote_status privacy_check(double sigma, double clip, double delta, double batch, size_t n_examples, mote_error *err);

/* The sum of cut gradients of a step. */
typedef struct privacy privacy;
/* params are copied, their vars' rooms must be there. */
mote_status privacy_open(privacy **out, const train_param *params, size_t n, double sigma, double clip, double batch, mote_error *err);
void privacy_close(privacy **p);
/* v->g of all parameters is one example's gradient: cut and added; v->g is NULL afterwards. E_OUTPUT: it is not finite. */
mote_status privacy_add(privacy *p, mote_error *err);
/* The step's gradient into v->g: (sum + noise) / batch; the noise is a function of key and step. */
void privacy_take(privacy *p, const unsigned char key[16], uint64_t step);
/* Share of examples that were cut, so far. */
double privacy_share_cut(const privacy *p);

#endif
