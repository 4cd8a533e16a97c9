/* op_distill_rows.c: the divergences, for one row of logits.
 *
 * With u = z / T, q = softmax(u) and p the teacher's, D the divergence, the gradient by z of T² D is T dD/du:
 *   forward  D = Σ p (log p - log q)               dD/du = q - p
 *   reverse  D = Σ q (log q - log p)               dD/du = q (log q - log p - D)
 *   jsd      D = β KL(p‖m) + (1-β) KL(q‖m)         dD/du = q (g - Σ q g),  g = (1-β) log(q / m)
 *   sorted   D = Σ |q_(i) - p_(i)|                 dD/du = q (g - Σ q g),  g = the sign of q_(i) - p_(i) at that token
 *   hybrid   forward over M and "any other", plus sorted over the others: g is 0 in M
 *   top      D = Σ_K p log(p/q) + P log(P/Q)       dD/du = q - p in K, q (1 - P/Q) outside; P, Q: what is left for the others
 */
#include "train/op_distill_int.h"

#include <math.h>
#include <string.h>

/* x = softmax(x); returns the logarithm of the sum of exponentials. */
static float soften(const kern_table *k, float *x, size_t n) {
    float top = k->max(x, n), sum = k->exp_sum(x, top, n);
    k->scale(x, x, 1 / sum, n);
    return top + logf(sum);
}

static size_t argmax(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
    return best;
}

/* The teacher's logits as those of a distribution over the student's tokens, times T: log of the sums by map. Tokens that nothing
 * stands for get what is as good as nothing, so that every divergence is finite. */
static void project(distill_row *r, float temperature) {
    const kern_table *k = r->kern;
    float *p = r->work[0], left = 0;
    k->scale(r->teacher, r->teacher, 1 / temperature, r->n_teacher);
    (void)soften(k, r->teacher, r->n_teacher);
    memset(p, 0, r->n * sizeof *p);
    for (size_t i = 0; i < r->n_teacher; i++) {
        int32_t to = r->o->map[i];
        if (to < 0 || (size_t)to >= r->n) continue;
        p[to] += r->teacher[i];
        left += r->teacher[i];
    }
    r->counts = (double)left;
    for (size_t i = 0; i < r->n; i++) p[i] = logf(fmaxf(p[i], 1e-30f)) * temperature;
}

/* q (g - Σ q g), times by. */
static void through_softmax(float *z, const float *q, const float *g, float by, size_t n) {
    double mean = 0;
    for (size_t i = 0; i < n; i++) mean += (double)(q[i] * g[i]);
    for (size_t i = 0; i < n; i++) z[i] = by * q[i] * (g[i] - (float)mean);
}

static void forward(distill_row *r, float *q, float *p, float by) {
    const kern_table *k = r->kern;
    float *diff = r->work[1];
    memcpy(diff, q, r->n * sizeof *q);
    k->mix(diff, -1, p, 1, r->n); /* log p - log q, but for both normalisers */
    float lq = soften(k, q, r->n), lp = soften(k, p, r->n);
    r->divergence = (double)k->dot(p, diff, r->n) - (double)lp + (double)lq;
    k->mix(q, by, p, -by, r->n);
}

static void reverse(distill_row *r, float *q, float *p, float by) {
    const kern_table *k = r->kern;
    float *g = r->work[1];
    memcpy(g, q, r->n * sizeof *q);
    k->mix(g, 1, p, -1, r->n);
    float lq = soften(k, q, r->n), lp = soften(k, p, r->n);
    r->divergence = (double)k->dot(q, g, r->n) - (double)lq + (double)lp;
    through_softmax(r->z, q, g, by, r->n);
}

static void jsd(distill_row *r, float *q, float *p, float by) {
    float beta = r->o->beta, *g = r->work[1];
    (void)soften(r->kern, q, r->n);
    (void)soften(r->kern, p, r->n);
    double d = 0;
    for (size_t i = 0; i < r->n; i++) {
        float m = beta * p[i] + (1 - beta) * q[i], log_m = m > 0 ? logf(m) : 0;
        float to_q = q[i] > 0 ? logf(q[i]) - log_m : 0, to_p = p[i] > 0 ? logf(p[i]) - log_m : 0;
        d += (double)(beta * p[i] * to_p + (1 - beta) * q[i] * to_q);
        g[i] = (1 - beta) * to_q;
    }
    r->divergence = d;
    through_softmax(r->z, q, g, by, r->n);
}

/* The DISTILL_SORTED_TOP greatest of x by a heap whose root is the least of them; sorted downwards, ties by place. Gives their number. */
static bool before(const float *x, uint32_t a, uint32_t b) {
    return x[a] > x[b] || (x[a] >= x[b] && a < b);
}

static void sift(const float *x, uint32_t *heap, size_t n, size_t i) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && before(x, heap[child], heap[child + 1])) child++;
        if (!before(x, heap[i], heap[child])) return;
        uint32_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

static size_t greatest(const float *x, size_t n, size_t k, uint32_t *out) {
    if (k > n) k = n;
    for (size_t i = 0; i < k; i++) out[i] = (uint32_t)i;
    for (size_t i = k / 2; i-- > 0;) sift(x, out, k, i);
    for (size_t i = k; i < n; i++) {
        if (k == 0 || !before(x, (uint32_t)i, out[0])) continue;
        out[0] = (uint32_t)i;
        sift(x, out, k, 0);
    }
    for (size_t m = k; m-- > 1;) { /* the least goes to the end */
        uint32_t swap = out[0];
        out[0] = out[m];
        out[m] = swap;
        sift(x, out, m, 0);
    }
    return k;
}

/* Σ |q_(i) - p_(i)| of probabilities that sum to left_q and left_p; g: the signs, in the places of q (which g may be). Beyond the greatest,
 * what is left of both counts as one more pair. */
static double sorted_gap(const distill_row *r, const float *q, const float *p, double left_q, double left_p, float *g) {
    uint32_t iq[DISTILL_SORTED_TOP], ip[DISTILL_SORTED_TOP];
    float own[DISTILL_SORTED_TOP], rest = 0;
    double d = 0;
    size_t nq = greatest(q, r->n, DISTILL_SORTED_TOP, iq), np = greatest(p, r->n_teacher, DISTILL_SORTED_TOP, ip);
    for (size_t i = 0; i < nq || i < np; i++) {
        float a = own[i] = i < nq ? q[iq[i]] : 0, b = i < np ? p[ip[i]] : 0;
        d += fabs((double)a - (double)b);
        left_q -= (double)a;
        left_p -= (double)b;
    }
    if (nq < r->n || np < r->n_teacher) {
        d += fabs(left_q - left_p);
        rest = left_q > left_p ? 1 : -1;
    }
    for (size_t i = 0; i < r->n; i++) g[i] = rest;
    for (size_t i = 0; i < nq; i++) {
        float b = i < np ? p[ip[i]] : 0;
        g[iq[i]] = own[i] > b ? 1 : own[i] < b ? -1 : 0;
    }
    return d;
}

static void sorted(distill_row *r, float *q, float *p, float by) {
    float *g = r->work[1];
    (void)soften(r->kern, q, r->n);
    (void)soften(r->kern, p, r->n_teacher);
    r->divergence = sorted_gap(r, q, p, 1, 1, g);
    through_softmax(r->z, q, g, by, r->n);
}

/* The teacher's probabilities by the student's tokens into m, -1 where the student alone has a token; in p those of the others remain.
 * Gives their sum, and whether the student has others, too. */
static double match(const distill_row *r, float *p, float *m, bool *others) {
    double left = 0;
    size_t matched = 0;
    for (size_t i = 0; i < r->n; i++) m[i] = -1;
    for (size_t i = 0; i < r->n_teacher; i++) {
        int32_t to = r->o->map[i];
        if (to < 0 || (size_t)to >= r->n) {
            left += (double)p[i];
            continue;
        }
        matched += m[to] < 0;
        m[to] = fmaxf(m[to], 0) + p[i];
        p[i] = 0;
    }
    *others = matched < r->n;
    return left;
}

static void hybrid(distill_row *r, float *q, float *p, float by) {
    float *m = r->work[0], *g = r->work[1];
    const size_t best_q = argmax(q, r->n), best_p = argmax(p, r->n_teacher);
    bool others;
    r->agree = r->o->map[best_p] == (int32_t)best_q;
    (void)soften(r->kern, q, r->n);
    (void)soften(r->kern, p, r->n_teacher);
    double rest_p = match(r, p, m, &others), rest_q = 0, d = 0, kept = 1;
    if (!others) { /* what the teacher alone has is nothing the student could say: the row counts by what is left */
        kept = 1 - rest_p;
        r->counts = kept;
        rest_p = 0;
        memset(p, 0, r->n_teacher * sizeof *p);
        kept = kept > 0 ? kept : 1;
    }
    for (size_t i = 0; i < r->n; i++) {
        g[i] = m[i] < 0 ? q[i] : 0;
        rest_q += (double)g[i];
        if (m[i] > 0) d += (double)m[i] / kept * log((double)m[i] / kept / fmax((double)q[i], 1e-30));
    }
    const double ratio = rest_p / fmax(rest_q, 1e-30);
    if (rest_p > 0) d += rest_p * log(ratio);
    r->divergence = d + sorted_gap(r, g, p, rest_q, rest_p, g);
    double mean = 0;
    for (size_t i = 0; i < r->n; i++) mean += m[i] < 0 ? (double)(q[i] * g[i]) : 0;
    for (size_t i = 0; i < r->n; i++) {
        double own = (double)q[i], slope = m[i] < 0 ? own * (1 - ratio + (double)g[i] - mean) : own - (double)m[i] / kept - own * mean;
        r->z[i] = by * (float)slope;
    }
}

static void top_and_rest(distill_row *r, float *q, float by) {
    const distill_top *t = r->top;
    const uint32_t *ids = t->ids + r->at * t->k;
    const float *logp = t->logp + r->at * t->k;
    float *u = r->work[1], p_rest = t->rest[r->at];
    memcpy(u, q, r->n * sizeof *u);
    float lq = soften(r->kern, q, r->n);
    double d = 0, q_top = 0, q_rest = 0;
    for (size_t i = 0; i < t->k; i++) {
        if (!(logp[i] > -INFINITY)) continue;
        d += (double)expf(logp[i]) * ((double)logp[i] - (double)(u[ids[i]] - lq));
        q_top += (double)q[ids[i]];
    }
    q_rest = 1 - q_top;
    if (q_rest < 1e-3) { /* the difference has lost its digits: add up the others themselves */
        for (size_t i = 0; i < t->k; i++) {
            if (logp[i] > -INFINITY) u[ids[i]] = -INFINITY;
        }
        q_rest = 0;
        for (size_t i = 0; i < r->n; i++) q_rest += u[i] > -INFINITY ? (double)q[i] : 0;
    }
    double by_rest = 1;
    if (p_rest > 0 && q_rest > 0) {
        d += (double)p_rest * (log((double)p_rest) - log(q_rest));
        by_rest = 1 - (double)p_rest / q_rest;
    }
    for (size_t i = 0; i < t->k; i++) { /* q lies where the gradient will */
        if (logp[i] > -INFINITY) u[ids[i]] = by * (q[ids[i]] - expf(logp[i]));
    }
    r->kern->scale(q, q, by * (float)by_rest, r->n);
    for (size_t i = 0; i < t->k; i++) {
        if (logp[i] > -INFINITY) q[ids[i]] = u[ids[i]];
    }
    r->divergence = d;
}

void distill_row_run(distill_row *r) {
    const kern_table *k = r->kern;
    float temperature = r->o->temperature > 0 ? r->o->temperature : 1, by = r->o->weight * temperature;
    float *ce = r->work[2], *p = r->teacher;
    bool wants_ce = r->o->ce > 0 && r->target >= 0;
    r->counts = 1;
    r->ce = r->divergence = 0;
    if (wants_ce) {
        memcpy(ce, r->z, r->n * sizeof *ce);
        float z = ce[r->target];
        r->ce = (double)soften(k, ce, r->n) - (double)z;
        ce[r->target] -= 1;
    }
    if (r->o->weight > 0) {
        const bool whole = r->o->kind == DISTILL_SORTED || r->o->kind == DISTILL_HYBRID, by_map = p && r->o->map && !whole; /* whole: in its own tokens */
        if (by_map) {
            project(r, temperature);
            p = r->work[0];
        }
        if (p && !whole) r->agree = argmax(r->z, r->n) == argmax(p, r->n);
        k->scale(r->z, r->z, 1 / temperature, r->n);
        if (p) k->scale(p, p, 1 / temperature, by_map ? r->n : r->n_teacher);
        if (!p) top_and_rest(r, r->z, by);
        else if (r->o->kind == DISTILL_REVERSE) reverse(r, r->z, p, by);
        else if (r->o->kind == DISTILL_JSD) jsd(r, r->z, p, by);
        else if (r->o->kind == DISTILL_SORTED) sorted(r, r->z, p, by);
        else if (r->o->kind == DISTILL_HYBRID) hybrid(r, r->z, p, by);
        else forward(r, r->z, p, by);
        if (r->counts < 1) {
            r->divergence *= r->counts;
            k->scale(r->z, r->z, (float)r->counts, r->n);
        }
        r->divergence *= (double)temperature * (double)temperature;
    } else memset(r->z, 0, r->n * sizeof *r->z);
    if (wants_ce) k->axpy(r->z, ce, r->o->ce, r->n);
}

void distill_keep_top(const kern_table *kern, const float *z, size_t n_vocab, float temperature, size_t k, uint32_t *ids, float *logp,
                      float *rest, float *work) {
    float by = temperature > 0 ? 1 / temperature : 1;
    kern->scale(work, z, by, n_vocab);
    size_t n = greatest(work, n_vocab, k, ids);
    float log_sum = soften(kern, work, n_vocab);
    double kept = 0;
    for (size_t i = 0; i < n; i++) {
        logp[i] = z[ids[i]] * by - log_sum;
        kept += (double)work[ids[i]];
    }
    for (size_t i = n; i < k; i++) ids[i] = 0, logp[i] = -INFINITY;
    if (kept > 0.999) { /* as above */
        for (size_t i = 0; i < n; i++) work[ids[i]] = 0;
        double left = 0;
        for (size_t i = 0; i < n_vocab; i++) left += (double)work[i];
        *rest = (float)left;
    } else *rest = (float)(1 - kept);
}
