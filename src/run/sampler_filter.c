/* sampler_filter.c: the steps that throw candidates away or bend their probabilities. */
#include "run/sampler.h"

#include <math.h>

static inline bool better(const cand *a, const cand *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Restores the heap whose root i has changed: the worst of its n candidates is on top. */
static void sift(cand *heap, size_t n, size_t i) {
    cand x = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && better(&heap[child], &heap[child + 1])) child++;
        if (!better(&x, &heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = x;
}

static void heap_make(cand *heap, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift(heap, n, i);
}

/* Takes the worst out again and again: what remains is in descending order. */
static void heap_sort(cand *heap, size_t n) {
    for (size_t left = n; left > 1; left--) {
        cand worst = heap[0];
        heap[0] = heap[left - 1];
        heap[left - 1] = worst;
        sift(heap, left - 1, 0);
    }
}

void cand_top(cand *c, size_t n, size_t k) {
    if (k > n) k = n;
    if (k == 0) return;
    heap_make(c, k);
    for (size_t i = k; i < n; i++) {
        if (!better(&c[i], &c[0])) continue;
        cand x = c[0];
        c[0] = c[i];
        c[i] = x;
        sift(c, k, 0);
    }
    heap_sort(c, k);
}

/* The k best of the dense logits, without making a candidate of each token first. */
static void dense_top(mote_sampler *s, size_t k) {
    size_t n = 0, i = 0;
    for (; i < s->n_vocab && n < k; i++)
        if (s->work[i] > -INFINITY) s->c[n++] = (cand){s->work[i], (int32_t)i, 0};
    heap_make(s->c, n);
    for (; i < s->n_vocab; i++) {
        if (s->work[i] <= s->c[0].logit) continue; /* at equal logits the one in the heap has the lower id */
        s->c[0] = (cand){s->work[i], (int32_t)i, 0};
        sift(s->c, n, 0);
    }
    heap_sort(s->c, n);
    s->n = n;
    s->dense = false;
    s->sorted = true;
}

void sample_make_sparse(mote_sampler *s) {
    s->found = false;
    if (!s->dense) return;
    size_t n = 0;
    for (size_t i = 0; i < s->n_vocab; i++)
        if (s->work[i] > -INFINITY) s->c[n++] = (cand){s->work[i], (int32_t)i, 0};
    s->n = n;
    s->dense = false;
    s->sorted = false;
}

static float max_logit(const mote_sampler *s) {
    if (s->sorted) return s->c[0].logit;
    float max = s->c[0].logit;
    for (size_t i = 1; i < s->n; i++) max = MAX(max, s->c[i].logit);
    return max;
}

void cand_softmax(mote_sampler *s) {
    double max = (double)max_logit(s), sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += s->c[i].p = exp((double)s->c[i].logit - max);
    for (size_t i = 0; i < s->n; i++) s->c[i].p /= sum;
}

static size_t at_least(const mote_sampler *s) { return s->o.min_keep > 1 ? (size_t)s->o.min_keep : 1; }

/* Keeps the candidates with logits ≥ floor, and min_keep of them in any case. */
static void keep_above(mote_sampler *s, double floor) {
    size_t above = 0;
    for (size_t i = 0; i < s->n; i++) above += (double)s->c[i].logit >= floor;
    if (above < at_least(s)) {
        size_t k = MIN(at_least(s), s->n);
        if (!s->sorted) cand_top(s->c, s->n, k);
        s->sorted = true;
        s->n = k;
        return;
    }
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if ((double)s->c[i].logit >= floor) s->c[n++] = s->c[i];
    s->n = n;
}

/* The k likeliest. Source: Fan et al. 2018, Hierarchical Neural Story Generation, §5. */
void sample_top_k(mote_sampler *s) {
    if (s->o.top_k <= 0) return;
    size_t k = MAX((size_t)s->o.top_k, at_least(s));
    if (s->dense) {
        dense_top(s, MIN(k, s->n_vocab));
        return;
    }
    bool first = s->found; /* a dense draw orders at its first cut */
    s->found = false;
    if (k >= s->n && !first) return;
    if (!s->sorted) cand_top(s->c, s->n, k);
    s->sorted = true;
    s->n = MIN(k, s->n);
}

/* The fewest likeliest tokens whose probabilities reach p. Source: Holtzman et al. 2020, The Curious Case of
 * Neural Text Degeneration, §3.1. */
void sample_top_p(mote_sampler *s) {
    if (s->o.top_p >= 1) return;
    sample_make_sparse(s);
    cand_softmax(s);
    double sum = 0;
    size_t ordered = s->sorted ? s->n : 0, keep = s->n;
    for (size_t i = 0; i < s->n; i++) {
        if (i == ordered) { /* most often a few tokens are enough: do not order all the vocabulary */
            ordered = MIN(s->n, ordered ? 8 * ordered : 256);
            cand_top(s->c, s->n, ordered);
        }
        sum += s->c[i].p;
        if (sum >= (double)s->o.top_p && i + 1 >= at_least(s)) {
            keep = i + 1;
            break;
        }
    }
    s->sorted = true;
    s->n = keep;
}

/* Tokens at least p times as likely as the likeliest. Source: Nguyen et al. 2024, Turning Up the Heat: Min-p
 * Sampling, §3. */
void sample_min_p(mote_sampler *s) {
    if (s->o.min_p <= 0) return;
    sample_make_sparse(s);
    keep_above(s, (double)max_logit(s) + log((double)s->o.min_p));
}

/* Tokens whose logits lie within n standard deviations of the greatest. Source: Tang et al. 2024, Top-nσ: Not
 * All Logits Are You Need, algorithm 1. */
void sample_top_n_sigma(mote_sampler *s) {
    if (s->o.top_n_sigma <= 0) return;
    sample_make_sparse(s);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < s->n; i++) sum += (double)s->c[i].logit;
    double mean = sum / (double)s->n;
    for (size_t i = 0; i < s->n; i++) {
        double d = (double)s->c[i].logit - mean;
        squares += d * d;
    }
    keep_above(s, (double)max_logit(s) - (double)s->o.top_n_sigma * sqrt(squares / (double)s->n));
}

/* The tokens whose surprise is nearest to the entropy, until they have probability p together. Source:
 * Meister et al. 2023, Locally Typical Sampling, §4. */
void sample_typical(mote_sampler *s) {
    if (s->o.typical_p >= 1) return;
    sample_make_sparse(s);
    cand_softmax(s);
    double entropy = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->c[i].p > 0) entropy -= s->c[i].p * log(s->c[i].p);
    double max = (double)max_logit(s), sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += exp((double)s->c[i].logit - max);
    /* cand_top orders by `logit`: the distance takes its place for a moment, and p keeps the logit. */
    for (size_t i = 0; i < s->n; i++) {
        cand *c = &s->c[i];
        double distance = c->p > 0 ? fabs(-log(c->p) - entropy) : (double)INFINITY;
        c->p = (double)c->logit;
        c->logit = (float)-distance;
    }
    size_t ordered = 0, keep = s->n;
    double mass = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (i == ordered) {
            ordered = MIN(s->n, ordered ? 8 * ordered : 256);
            cand_top(s->c, s->n, ordered);
        }
        mass += exp(s->c[i].p - max) / sum;
        if (mass > (double)s->o.typical_p && i + 1 >= at_least(s)) {
            keep = i + 1;
            break;
        }
    }
    s->n = keep;
    s->sorted = false;
    for (size_t i = 0; i < s->n; i++) s->c[i].logit = (float)s->c[i].p;
}

/* Now and then excludes the top choices: of all tokens with probability ≥ threshold only the least likely
 * stays. Source: p-e-w 2024, "Exclude Top Choices", text-generation-webui PR 6335. */
void sample_xtc(mote_sampler *s) {
    if (s->o.xtc_probability <= 0 || s->o.xtc_threshold > 0.5f) return;
    sample_make_sparse(s);
    if (s->n < 2 || rng_double(&s->xtc_rng) >= (double)s->o.xtc_probability) return;
    cand_softmax(s);
    size_t above = 0, least = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->c[i].p < (double)s->o.xtc_threshold) continue;
        if (above == 0 || better(&s->c[least], &s->c[i])) least = i;
        above++;
    }
    if (above < 2 || s->n - (above - 1) < at_least(s)) return;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (i == least || s->c[i].p < (double)s->o.xtc_threshold) s->c[n++] = s->c[i];
    s->n = n;
}

/* Logits over the temperature; with a range, a temperature between its ends according to how uncertain the
 * model is (entropy over its maximum, to the power of the exponent). Source: kalomaze 2023, dynamic
 * temperature, llama.cpp PR 4972. */
void sample_temperature(mote_sampler *s) {
    double t = (double)s->o.temp, range = (double)s->o.dynatemp_range;
    sample_make_sparse(s);
    if (range > 0 && s->n > 1) {
        cand_softmax(s);
        double entropy = 0, low = MAX(0.0, t - range);
        for (size_t i = 0; i < s->n; i++)
            if (s->c[i].p > 0) entropy -= s->c[i].p * log(s->c[i].p);
        t = low + (t + range - low) * pow(entropy / log((double)s->n), (double)s->o.dynatemp_exponent);
    }
    if (t <= 0) {
        cand_top(s->c, s->n, 1);
        s->n = 1;
        return;
    }
    /* Relative to the greatest, so that a tiny temperature overflows towards -inf alone. */
    float max = max_logit(s);
    for (size_t i = 0; i < s->n; i++) s->c[i].logit = (float)(((double)s->c[i].logit - (double)max) / t);
}

/* Keeps the k tokens for which the surprise is expected to be mu, from an estimate of Zipf's exponent over
 * the 100 likeliest. Source: Basu et al. 2021, Mirostat, algorithm 1. */
void sample_mirostat1_cut(mote_sampler *s) {
    sample_make_sparse(s);
    cand_softmax(s);
    size_t m = MIN(s->n, (size_t)100);
    if (!s->sorted) cand_top(s->c, s->n, m);
    double tb = 0, tt = 0;
    for (size_t i = 0; i + 1 < m; i++) {
        if (s->c[i + 1].p <= 0) break;
        double t = log((double)(i + 2) / (double)(i + 1)), b = log(s->c[i].p / s->c[i + 1].p);
        tb += t * b;
        tt += t * t;
    }
    double zipf = tt > 0 ? tb / tt : 1, e = zipf - 1;
    double k = pow(e * exp2(s->mu) / (1 - pow((double)s->n_vocab, -e)), 1 / zipf);
    size_t keep = k >= 1 && k < (double)s->n ? (size_t)k : k >= (double)s->n ? s->n : 1; /* NaN gives 1 */
    if (keep > m) cand_top(s->c, s->n, keep);
    s->n = keep;
    s->sorted = true;
}

/* Keeps the tokens with a surprise of at most mu bits. Source: Basu et al. 2021, Mirostat, algorithm 2. */
void sample_mirostat2_cut(mote_sampler *s) {
    sample_make_sparse(s);
    cand_softmax(s);
    size_t n = 0, best = 0;
    for (size_t i = 1; i < s->n; i++)
        if (better(&s->c[i], &s->c[best])) best = i;
    cand top = s->c[best];
    for (size_t i = 0; i < s->n; i++)
        if (-log2(s->c[i].p) <= s->mu) s->c[n++] = s->c[i];
    if (n == 0) s->c[n++] = top;
    s->n = n;
}
