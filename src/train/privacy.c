/* privacy.c: see privacy.h. */
#include "train/privacy.h"

#include <math.h>

/* ---- the accountant ---- */

static double log_add(double x, double y) {
    double a = fmin(x, y), b = fmax(x, y);
    return isinf(a) ? b : log1p(exp(a - b)) + b;
}

/* log(exp(x) - exp(y)), x > y. */
static double log_sub(double x, double y) {
    if (isinf(y)) return x;
    if (x <= y) return -HUGE_VAL;
    double d = x - y;
    return d > 700 ? x : log(expm1(d)) + y;
}

/* log erfc(x); far out by its asymptotic series. */
static double log_erfc(double x) {
    if (x < 20) return log(erfc(x));
    double r = 1 / (2 * x * x), sum = 1, term = 1;
    for (int k = 1; k < 12; k++) {
        term *= -(2 * k - 1) * r;
        sum += term;
    }
    return -x * x - log(x) - 0.5 * log(M_PI) + log(sum);
}

static double log_binomial(double n, double k) { return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1); }

static double log_a_whole(double q, double sigma, int alpha) {
    double sum = -HUGE_VAL;
    for (int i = 0; i <= alpha; i++)
        sum = log_add(sum, log_binomial(alpha, i) + i * log(q) + (alpha - i) * log1p(-q) + (double)(i * i - i) / (2 * sigma * sigma));
    return sum;
}

/* Two series, whose terms change sign once i is above alpha. */
static double log_a_fraction(double q, double sigma, double alpha) {
    double a0 = -HUGE_VAL, a1 = -HUGE_VAL, z0 = sigma * sigma * log(1 / q - 1) + 0.5, coef = 0, s0, s1;
    bool negative = false;
    int i = 0;
    do {
        double j = alpha - i;
        double t0 = coef + i * log(q) + j * log1p(-q), t1 = coef + j * log(q) + i * log1p(-q);
        double e0 = log(0.5) + log_erfc((i - z0) / (sqrt(2) * sigma)), e1 = log(0.5) + log_erfc((z0 - j) / (sqrt(2) * sigma));
        s0 = t0 + ((double)i * i - i) / (2 * sigma * sigma) + e0;
        s1 = t1 + (j * j - j) / (2 * sigma * sigma) + e1;
        a0 = negative ? log_sub(a0, s0) : log_add(a0, s0);
        a1 = negative ? log_sub(a1, s1) : log_add(a1, s1);
        coef += log(fabs(alpha - i)) - log(i + 1.0); /* of the next term */
        if (alpha - i < 0) negative = !negative;
        i++;
    } while (fmax(s0, s1) >= -30 && i < 100000);
    return log_add(a0, a1);
}

static double divergence(double q, double sigma, double alpha) {
    if (q <= 0) return 0;
    if (!(sigma > 0)) return HUGE_VAL;
    if (q >= 1) return alpha / (2 * sigma * sigma);
    double whole = floor(alpha);
    return (alpha > whole ? log_a_fraction(q, sigma, alpha) : log_a_whole(q, sigma, (int)whole)) / (alpha - 1);
}

enum { ORDERS = 99 + 52 };
static double order(int i) { return i < 99 ? 1 + (i + 1) / 10.0 : 12 + (i - 99); }

double privacy_epsilon(const privacy_spent *s, double delta) {
    double best = HUGE_VAL;
    uint64_t steps = 0;
    for (uint64_t k = 0; k < MIN(s->n, (uint64_t)PRIVACY_SPANS); k++) steps += s->spans[k].steps;
    if (steps == 0) return 0;
    for (int i = 0; i < ORDERS; i++) {
        double a = order(i), sum = 0;
        for (uint64_t k = 0; k < MIN(s->n, (uint64_t)PRIVACY_SPANS); k++)
            sum += divergence(s->spans[k].q, s->spans[k].sigma, a) * (double)s->spans[k].steps;
        double epsilon = sum - (log(delta) + log(a)) / (a - 1) + log((a - 1) / a);
        if (epsilon < best) best = epsilon;
    }
    return fmax(best, 0);
}

mote_status privacy_find_sigma(double *sigma, double epsilon, double delta, double q, uint64_t steps, mote_error *err) {
    double low = 0, high = 1e4;
    if (!(epsilon > 0 && isfinite(epsilon))) FAIL(err, MOTE_E_RANGE, "epsilon is %g; expected a number above 0", epsilon);
    privacy_spent s = {.n = 1, .spans = {{q, high, steps}}};
    if (privacy_epsilon(&s, delta) > epsilon)
        FAIL(err, MOTE_E_RANGE, "no noise keeps %llu steps within epsilon %g at delta %g: take fewer steps, or a smaller batch",
             (unsigned long long)steps, epsilon, delta);
    while (high - low > 1e-3 * high) {
        double mid = (low + high) / 2;
        s.spans[0].sigma = mid;
        if (privacy_epsilon(&s, delta) > epsilon) low = mid;
        else high = mid;
    }
    *sigma = high;
    return MOTE_OK;
}

mote_status privacy_spend(privacy_spent *s, double q, double sigma, mote_error *err) {
    uint64_t last = s->n - 1;
    bool same = s->n > 0 && fabs(s->spans[last].q - q) <= 0 && fabs(s->spans[last].sigma - sigma) <= 0;
    if (!same) {
        if (s->n >= PRIVACY_SPANS) FAIL(err, MOTE_E_LIMIT, "noise or batch changed more than %d times in one private run", PRIVACY_SPANS);
        last = s->n++;
        s->spans[last].q = q;
        s->spans[last].sigma = sigma;
        s->spans[last].steps = 0;
    }
    s->spans[last].steps++;
    return MOTE_OK;
}

mote_status privacy_check(double sigma, double clip, double delta, double batch, size_t n_examples, mote_error *err) {
    if (!(sigma > 0 && sigma <= 1e4)) FAIL(err, MOTE_E_RANGE, "noise %g: without noise above 0 nothing is private", sigma);
    if (!(clip > 0 && isfinite(clip))) FAIL(err, MOTE_E_RANGE, "clipping to %g: expected a length above 0", clip);
    if (!(delta > 0 && delta < 1 / (double)MAX(n_examples, (size_t)1)))
        FAIL(err, MOTE_E_RANGE, "delta %g: it must lie between 0 and 1 / %zu, or whole examples may be given away", delta, n_examples);
    if (!(batch >= 1 && batch <= (double)n_examples))
        FAIL(err, MOTE_E_RANGE, "a batch of %g of %zu examples: expected 1 to all of them", batch, n_examples);
    return MOTE_OK;
}

/* ---- gradients ---- */

struct privacy {
    train_param *params;
    float **sum;
    size_t n;
    double sigma, clip, batch;
    uint64_t n_seen, n_cut;
};

mote_status privacy_open(privacy **out, const train_param *params, size_t n, double sigma, double clip, double batch, mote_error *err) {
    *out = NULL;
    privacy *p = MEM_NEW(privacy);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    *p = (privacy){.n = n, .sigma = sigma, .clip = clip, .batch = batch, .params = MEM_NEW_N(train_param, n), .sum = MEM_NEW_N(float *, n)};
    bool ok = p->params && p->sum;
    for (size_t i = 0; ok && i < n; i++) {
        p->params[i] = params[i];
        p->sum[i] = MEM_NEW_N(float, params[i].v->rows * params[i].v->cols);
        ok = p->sum[i] != NULL;
    }
    if (!ok) {
        privacy_close(&p);
        FAIL(err, MOTE_E_MEMORY, "out of memory for the sums of private gradients");
    }
    *out = p;
    return MOTE_OK;
}

void privacy_close(privacy **pp) {
    privacy *p = pp ? *pp : NULL;
    if (!p) return;
    *pp = NULL;
    for (size_t i = 0; p->sum && i < p->n; i++) mem_free(p->sum[i]);
    mem_free(p->sum);
    mem_free(p->params);
    mem_free(p);
}

mote_status privacy_add(privacy *p, mote_error *err) {
    double square = 0;
    for (size_t i = 0; i < p->n; i++) {
        const var *v = p->params[i].v;
        for (size_t k = 0; v->g && k < v->rows * v->cols; k++) square += (double)v->g[k] * (double)v->g[k];
    }
    if (!isfinite(square)) FAIL(err, MOTE_E_OUTPUT, "an example's gradient is not finite");
    double length = sqrt(square);
    float by = (float)(length > p->clip ? p->clip / length : 1);
    for (size_t i = 0; i < p->n; i++) {
        var *v = p->params[i].v;
        for (size_t k = 0; v->g && k < v->rows * v->cols; k++) p->sum[i][k] += by * v->g[k];
        v->g = NULL;
    }
    p->n_seen++;
    p->n_cut += length > p->clip;
    return MOTE_OK;
}

/* Normally distributed numbers. Source: Box and Muller 1958. The generator is good, not cryptographic: who knows the noise of
 * some parameters could, with much work, find that of others (as with Opacus out of its secure mode). */
typedef struct noise {
    rng r;
    double spare;
    bool has_spare;
} noise;

static double normal(noise *z) {
    if (z->has_spare) {
        z->has_spare = false;
        return z->spare;
    }
    double r = sqrt(-2 * log(1 - rng_double(&z->r))), a = 2 * M_PI * rng_double(&z->r);
    z->spare = r * sin(a);
    z->has_spare = true;
    return r * cos(a);
}

void privacy_take(privacy *p, const unsigned char key[16], uint64_t step) {
    noise z = {.has_spare = false};
    uint64_t seed[2];
    memcpy(seed, key, sizeof seed);
    rng_seed(&z.r, seed[0] + step * 0x9e3779b97f4a7c15u, seed[1]);
    for (size_t i = 0; i < p->n; i++) {
        var *v = p->params[i].v;
        v->g = v->room;
        for (size_t k = 0; k < v->rows * v->cols; k++) {
            v->g[k] = (float)(((double)p->sum[i][k] + p->sigma * p->clip * normal(&z)) / p->batch);
            p->sum[i][k] = 0;
        }
    }
}

double privacy_share_cut(const privacy *p) { return p->n_seen ? (double)p->n_cut / (double)p->n_seen : 0; }
