/* prune_merge.c: fewer key/value heads: each of the new ones stands for several of the old (GQA, MQA).
 *
 * `mean` is Ainslie et al. 2023, §2.1. `aligned` uses that queries and outputs can be changed along with keys and values:
 *   values   v̂_m = B_m z with one z = F [v_1 … v_r] for all r heads of a group; the B_m go into the output's weights.
 *            The best F spans the leading eigenvectors of the values' covariance over the text, seen through the output's
 *            weights (Ω_m = Σ over its query heads of OᵀO): the least squares of what attention adds to the stream.
 *   keys     only what commutes with the rotation of positions may be moved into the queries: in each rotated pair of
 *            dimensions, as a complex number, k̂_m = c_m z; c is the leading eigenvector of their covariance, weighed
 *            with the queries' energy. Dimensions that are not rotated are done as values, weighed with the queries'.
 * Rotations that align heads before the mean (Jin et al. 2024, "Align attention heads before merging them") are the special
 * case where every B_m is orthogonal. */
#include "compress/pruning.h"

#include <math.h>

#define DAMPING 0.01

typedef struct merge {
    prune *p;
    const layer *l;
    size_t r, per;             /* old key/value heads of a new one; query heads of an old one */
    size_t n_embd;
    float *q, *k, *v, *o;      /* the layer's weights; [rows, cols] as in the file */
    float *qb, *kb, *vb;       /* biases or NULL */
    double *c;                 /* [(n_embd + 1)²]: the mean of x̃ x̃ᵀ, x̃ the input with a 1 behind it */
} merge;

/* ---- small dense algebra, doubles, row-major ---- */

/* Eigenvectors of a symmetric a[n, n] (destroyed) as columns of u, values in w: cyclic Jacobi (Golub and Van Loan, §8.5). */
static void jacobi(double *a, size_t n, double *u, double *w) {
    for (size_t i = 0; i < n * n; i++) u[i] = i % (n + 1) == 0;
    for (int sweep = 0; sweep < 30; sweep++) {
        double off = 0, all = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                all += a[i * n + j] * a[i * n + j];
                if (i != j) off += a[i * n + j] * a[i * n + j];
            }
        if (!(off > 1e-20 * all)) break;
        for (size_t p = 0; p + 1 < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                double apq = a[p * n + q];
                if (apq * apq < 1e-24 * fabs(a[p * n + p] * a[q * n + q])) continue;
                double t = (a[q * n + q] - a[p * n + p]) / (2 * apq);
                t = (t >= 0 ? 1 : -1) / (fabs(t) + sqrt(t * t + 1));
                double cs = 1 / sqrt(t * t + 1), sn = t * cs;
                for (size_t i = 0; i < n; i++) { /* rows of the transpose: contiguous */
                    double x = a[p * n + i], y = a[q * n + i];
                    a[p * n + i] = cs * x - sn * y;
                    a[q * n + i] = sn * x + cs * y;
                }
                for (size_t i = 0; i < n; i++) {
                    double x = a[i * n + p], y = a[i * n + q];
                    a[i * n + p] = cs * x - sn * y;
                    a[i * n + q] = sn * x + cs * y;
                }
                for (size_t i = 0; i < n; i++) { /* u is kept transposed meanwhile */
                    double x = u[p * n + i], y = u[q * n + i];
                    u[p * n + i] = cs * x - sn * y;
                    u[q * n + i] = sn * x + cs * y;
                }
            }
    }
    for (size_t i = 0; i < n; i++) w[i] = a[i * n + i];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            double x = u[i * n + j];
            u[i * n + j] = u[j * n + i];
            u[j * n + i] = x;
        }
}

/* l of m = l lᵀ, in place (lower); a little is added to the diagonal. */
static void cholesky(double *m, size_t n) {
    double mean = 0;
    for (size_t i = 0; i < n; i++) mean += m[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        m[i * n + i] += 1e-6 * mean + 1e-30;
        for (size_t j = 0; j <= i; j++) {
            double v = m[i * n + j];
            for (size_t k = 0; k < j; k++) v -= m[i * n + k] * m[j * n + k];
            m[i * n + j] = i == j ? sqrt(v > 1e-30 ? v : 1e-30) : v / m[j * n + j];
        }
        for (size_t j = i + 1; j < n; j++) m[i * n + j] = 0;
    }
}

/* s[n, n] = w̃ c w̃ᵀ for rows w of weights (their biases behind them): the second moments of what they give. */
static mote_status moments(const merge *g, const float *w, const float *bias, const size_t *rows, size_t n, double *s, mote_error *err) {
    size_t e = g->n_embd, a = e + 1;
    double *wc = MEM_NEW_N(double, n * a);
    if (!wc) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const float *row = w + rows[i] * e;
        double *to = wc + i * a;
        for (size_t k = 0; k < a; k++) {
            double x = k < e ? (double)row[k] : bias ? (double)bias[rows[i]] : 0;
            const double *c = g->c + k * a;
            for (size_t j = 0; x != 0 && j < a; j++) to[j] += x * c[j];
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const float *row = w + rows[j] * e;
            double v = bias ? wc[i * a + e] * (double)bias[rows[j]] : 0;
            for (size_t k = 0; k < e; k++) v += wc[i * a + k] * (double)row[k];
            s[i * n + j] = v;
        }
    mem_free(wc);
    return MOTE_OK;
}

/* The best subspace: s[rd, rd] moments of r vectors of d, omega[r][d, d] how errors in them count. into[d, rd] makes the
 * new vector, back[r][d, d] the old ones from it. */
static mote_status subspace(size_t r, size_t d, const double *s, double *omega, double *into, double *back, mote_error *err) {
    size_t n = r * d;
    double *a = MEM_NEW_N(double, n * n), *b = MEM_NEW_N(double, n * n), *u = MEM_NEW_N(double, n * n), *w = MEM_NEW_N(double, n);
    mote_status st = MOTE_OK;
    if (!a || !b || !u || !w) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    for (size_t m = 0; m < r; m++) cholesky(omega + m * d * d, d);
    for (size_t i = 0; i < n; i++) /* b = s L */
        for (size_t m = 0; m < r; m++)
            for (size_t k = 0; k < d; k++)
                for (size_t j = 0; j <= k; j++) b[i * n + m * d + j] += s[i * n + m * d + k] * omega[m * d * d + k * d + j];
    for (size_t m = 0; m < r; m++) /* a = Lᵀ b */
        for (size_t k = 0; k < d; k++)
            for (size_t i = 0; i <= k; i++) {
                double x = omega[m * d * d + k * d + i];
                for (size_t j = 0; j < n; j++) a[(m * d + i) * n + j] += x * b[(m * d + k) * n + j];
            }
    jacobi(a, n, u, w);
    for (size_t z = 0; z < d; z++) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (w[i] > w[best]) best = i;
        w[best] = -HUGE_VAL;
        for (size_t m = 0; m < r; m++) {
            const double *l = omega + m * d * d;
            for (size_t i = 0; i < d; i++) { /* into row = uᵀ Lᵀ */
                double v = 0;
                for (size_t j = 0; j <= i; j++) v += l[i * d + j] * u[(m * d + j) * n + best];
                into[z * n + m * d + i] = v;
            }
            for (size_t i = d; i-- > 0;) { /* back column = L⁻ᵀ u */
                double v = u[(m * d + i) * n + best];
                for (size_t j = i + 1; j < d; j++) v -= l[j * d + i] * back[(m * d + j) * d + z];
                back[(m * d + i) * d + z] = v / l[i * d + i];
            }
        }
    }
out:
    mem_free(a);
    mem_free(b);
    mem_free(u);
    mem_free(w);
    return st;
}

/* ---- values ---- */
/* y[d rows] = into w[rows], for weights and bias, put at row `to`. */
static void combine_rows(const merge *g, float *w, float *bias, const size_t *rows, size_t n, const double *into, size_t d, const size_t *to,
                         double *tmp) {
    size_t e = g->n_embd;
    memset(tmp, 0, d * (e + 1) * sizeof *tmp);
    for (size_t z = 0; z < d; z++)
        for (size_t i = 0; i < n; i++) {
            double by = into[z * n + i];
            for (size_t k = 0; k < e; k++) tmp[z * (e + 1) + k] += by * (double)w[rows[i] * e + k];
            if (bias) tmp[z * (e + 1) + e] += by * (double)bias[rows[i]];
        }
    for (size_t z = 0; z < d; z++) {
        for (size_t k = 0; k < e; k++) w[to[z] * e + k] = (float)tmp[z * (e + 1) + k];
        if (bias) bias[to[z]] = (float)tmp[z * (e + 1) + e];
    }
}

typedef struct work {
    double *s, *omega, *into, *back, *tmp;
    size_t *rows, *to;
} work;

static mote_status work_open(prune *p, const merge *g, work *w, mote_error *err) {
    size_t d = MAX(g->l->dim_k, g->l->dim_v), n = g->r * d;
    TRY(prune_alloc(p, n * n, sizeof(double), &w->s, err));
    TRY(prune_alloc(p, n * d, sizeof(double), &w->omega, err));
    TRY(prune_alloc(p, n * d, sizeof(double), &w->into, err));
    TRY(prune_alloc(p, n * d, sizeof(double), &w->back, err));
    TRY(prune_alloc(p, n * (g->n_embd + 1), sizeof(double), &w->tmp, err));
    TRY(prune_alloc(p, n, sizeof(size_t), &w->rows, err));
    return prune_alloc(p, n, sizeof(size_t), &w->to, err);
}

static mote_status merge_values(merge *g, size_t group, work *w, mote_error *err) {
    const layer *l = g->l;
    size_t d = l->dim_v, r = g->r, n = r * d, ld = l->n_head * d;
    memset(w->omega, 0, n * d * sizeof(double));
    for (size_t m = 0; m < r; m++)
        for (size_t h = 0; h < g->per; h++) {
            const float *o = g->o + ((group * r + m) * g->per + h) * d;
            for (size_t e = 0; e < g->n_embd; e++)
                for (size_t i = 0; i < d; i++)
                    for (size_t j = 0; j <= i; j++) w->omega[(m * d + i) * d + j] += (double)o[e * ld + i] * (double)o[e * ld + j];
        }
    for (size_t i = 0; i < n; i++) w->rows[i] = group * n + i;
    for (size_t i = 0; i < d; i++) w->to[i] = group * d + i;
    TRY(moments(g, g->v, g->vb, w->rows, n, w->s, err));
    TRY(subspace(r, d, w->s, w->omega, w->into, w->back, err));
    combine_rows(g, g->v, g->vb, w->rows, n, w->into, d, w->to, w->tmp);
    for (size_t m = 0; m < r; m++)
        for (size_t h = 0; h < g->per; h++)
            for (size_t e = 0; e < g->n_embd; e++) { /* o_q B_m */
                float *o = g->o + e * ld + ((group * r + m) * g->per + h) * d;
                double *row = w->tmp;
                for (size_t z = 0; z < d; z++) row[z] = 0;
                for (size_t i = 0; i < d; i++)
                    for (size_t z = 0; z < d; z++) row[z] += (double)o[i] * w->back[(m * d + i) * d + z];
                for (size_t z = 0; z < d; z++) o[z] = (float)row[z];
            }
    return MOTE_OK;
}

/* ---- keys ---- */
/* Two rows of a head's weights as one complex number times (re + i im). */
static void turn_rows(const merge *g, float *w, float *bias, size_t a, size_t b, double re, double im) {
    for (size_t k = 0; k < g->n_embd; k++) {
        double x = (double)w[a * g->n_embd + k], y = (double)w[b * g->n_embd + k];
        w[a * g->n_embd + k] = (float)(re * x - im * y);
        w[b * g->n_embd + k] = (float)(im * x + re * y);
    }
    if (!bias) return;
    double x = (double)bias[a], y = (double)bias[b];
    bias[a] = (float)(re * x - im * y);
    bias[b] = (float)(im * x + re * y);
}

/* The leading eigenvector of a Hermitian h[r, r] (re, im), by powers. */
static void leading(const double *re, const double *im, size_t r, double *ur, double *ui) {
    double wr[64], wi[64];
    for (size_t i = 0; i < r; i++) ur[i] = 1 + 0.01 * (double)i, ui[i] = 0.003 * (double)i;
    for (int it = 0; it < 300; it++) {
        double length = 0;
        for (size_t i = 0; i < r; i++) {
            wr[i] = wi[i] = 0;
            for (size_t j = 0; j < r; j++) {
                wr[i] += re[i * r + j] * ur[j] - im[i * r + j] * ui[j];
                wi[i] += re[i * r + j] * ui[j] + im[i * r + j] * ur[j];
            }
            length += wr[i] * wr[i] + wi[i] * wi[i];
        }
        if (!(length > 0)) return;
        for (size_t i = 0; i < r; i++) ur[i] = wr[i] / sqrt(length), ui[i] = wi[i] / sqrt(length);
    }
}

/* Pair (a, b) of every head of the group. */
static mote_status merge_pair(merge *g, size_t group, size_t a, size_t b, work *w, mote_error *err) {
    const layer *l = g->l;
    size_t d = l->dim_k, r = g->r, e = g->n_embd;
    double re[64 * 64], im[64 * 64], ur[64], ui[64], energy[64], s2[4];
    for (size_t m = 0; m < r; m++) {
        w->rows[2 * m] = (group * r + m) * d + a;
        w->rows[2 * m + 1] = (group * r + m) * d + b;
        energy[m] = 1e-30;
        for (size_t h = 0; h < g->per; h++) {
            size_t head = (group * r + m) * g->per + h, rows[2] = {head * d + a, head * d + b};
            TRY(moments(g, g->q, g->qb, rows, 2, s2, err));
            energy[m] += s2[0] + s2[3];
        }
        energy[m] = sqrt(energy[m]);
    }
    TRY(moments(g, g->k, g->kb, w->rows, 2 * r, w->s, err));
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < r; j++) { /* E κ_i κ̄_j */
            const double *x = w->s + 2 * i * 2 * r + 2 * j, *y = x + 2 * r;
            re[i * r + j] = (x[0] + y[1]) * energy[i] * energy[j];
            im[i * r + j] = (y[0] - x[1]) * energy[i] * energy[j];
        }
    leading(re, im, r, ur, ui);
    for (size_t z = 0; z < 2; z++) /* z = Σ ū_m D_m κ_m, its real and imaginary part */
        for (size_t m = 0; m < r; m++) {
            w->into[z * 2 * r + 2 * m] = (z ? -ui[m] : ur[m]) * energy[m];
            w->into[z * 2 * r + 2 * m + 1] = (z ? ur[m] : ui[m]) * energy[m];
        }
    /* the new head is built in the group's first one: later groups' rows are not touched, and this one's pair is done */
    size_t to[2] = {w->rows[0], w->rows[1]};
    combine_rows(g, g->k, g->kb, w->rows, 2 * r, w->into, 2, to, w->tmp);
    for (size_t m = 0; m < r; m++) /* q c̄_m, c = u / D */
        for (size_t h = 0; h < g->per; h++) {
            size_t head = (group * r + m) * g->per + h;
            turn_rows(g, g->q, g->qb, head * d + a, head * d + b, ur[m] / energy[m], -ui[m] / energy[m]);
        }
    (void)e;
    return MOTE_OK;
}

/* Dimensions [from, dim_k) of the keys, which are not rotated. */
static mote_status merge_plain_keys(merge *g, size_t group, size_t from, work *w, mote_error *err) {
    const layer *l = g->l;
    size_t dk = l->dim_k, d = dk - from, r = g->r, n = r * d;
    if (d == 0) return MOTE_OK;
    double *s = MEM_NEW_N(double, d * d);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    memset(w->omega, 0, n * d * sizeof(double));
    mote_status st = MOTE_OK;
    for (size_t m = 0; st == MOTE_OK && m < r; m++)
        for (size_t h = 0; st == MOTE_OK && h < g->per; h++) {
            for (size_t i = 0; i < d; i++) w->rows[i] = ((group * r + m) * g->per + h) * dk + from + i;
            st = moments(g, g->q, g->qb, w->rows, d, s, err);
            for (size_t i = 0; i < d * d; i++) w->omega[m * d * d + i] += s[i];
        }
    mem_free(s);
    TRY(st);
    for (size_t i = 0; i < n; i++) w->rows[i] = (group * r + i / d) * dk + from + i % d;
    for (size_t i = 0; i < d; i++) w->to[i] = group * r * dk + from + i;
    TRY(moments(g, g->k, g->kb, w->rows, n, w->s, err));
    TRY(subspace(r, d, w->s, w->omega, w->into, w->back, err));
    combine_rows(g, g->k, g->kb, w->rows, n, w->into, d, w->to, w->tmp);
    double *t = w->s; /* B_mᵀ q */
    for (size_t m = 0; m < r; m++) {
        for (size_t i = 0; i < d; i++)
            for (size_t z = 0; z < d; z++) t[z * d + i] = w->back[(m * d + i) * d + z];
        for (size_t h = 0; h < g->per; h++) {
            for (size_t i = 0; i < d; i++) w->rows[i] = ((group * r + m) * g->per + h) * dk + from + i;
            combine_rows(g, g->q, g->qb, w->rows, d, t, d, w->rows, w->tmp);
        }
    }
    return MOTE_OK;
}

static mote_status merge_keys(merge *g, size_t group, work *w, mote_error *err) {
    const layer *l = g->l;
    const hparams *h = &g->p->m->hp;
    size_t n_rot = l->rope && h->rope != ROPE_NONE ? l->rope_conf->n_rot : 0, d = l->dim_k;
    for (size_t i = 0; i < n_rot / 2; i++) {
        bool neox = h->rope == ROPE_NEOX;
        TRY(merge_pair(g, group, neox ? i : 2 * i, neox ? i + n_rot / 2 : 2 * i + 1, w, err));
    }
    TRY(merge_plain_keys(g, group, n_rot, w, err));
    /* heads were built in the place of each group's first: close the gaps */
    memmove(g->k + group * d * g->n_embd, g->k + group * g->r * d * g->n_embd, d * g->n_embd * sizeof *g->k);
    if (g->kb) memmove(g->kb + group * d, g->kb + group * g->r * d, d * sizeof *g->kb);
    return MOTE_OK;
}

/* ---- means ---- */
static void mean_heads(float *w, size_t head, size_t r, size_t n_new) {
    for (size_t g = 0; g < n_new; g++)
        for (size_t i = 0; i < head; i++) {
            double sum = 0;
            for (size_t m = 0; m < r; m++) sum += (double)w[(g * r + m) * head + i];
            w[g * head + i] = (float)(sum / (double)r);
        }
}

/* ---- one layer ---- */
static const tensor_info *bias_info(const prune *p, const slot *s) {
    char name[256];
    (void)snprintf(name, sizeof name, "%.*s.bias", (int)MIN(s->info->name.n - MIN(s->info->name.n, (size_t)7), (size_t)200), s->info->name.p);
    return s->bias ? model_file_find_tensor(p->f, name) : NULL;
}

static mote_status load(merge *g, const slot *s, float **w, float **bias, mote_error *err) {
    const tensor_info *b = bias_info(g->p, s);
    TRY(prune_floats(s->info, w, err));
    return bias && b ? prune_floats(b, bias, err) : MOTE_OK;
}

static mote_status store(merge *g, const slot *s, const float *w, const float *bias, size_t rows, mote_error *err) {
    const tensor_info *b = bias_info(g->p, s);
    TRY(prune_put(g->p, s->info, w, 2, (uint64_t[]){s->info->ne[0], rows}, err));
    return bias && b ? prune_put(g->p, b, bias, 1, (uint64_t[]){rows}, err) : MOTE_OK;
}

static mote_status input_moments(merge *g, const seen_stats *seen, mote_error *err) {
    size_t e = g->n_embd, a = e + 1;
    if (!seen || !seen->gram || !(seen->n[0] > 0)) FAIL(err, MOTE_E_UNSUPPORTED, "the inputs of layer %zu were not met", g->l->index);
    g->c = MEM_NEW_N(double, a * a);
    if (!g->c) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < e; i++) {
        for (size_t j = 0; j < e; j++) g->c[i * a + j] = (double)seen->gram[i * e + j] / seen->n[0];
        g->c[i * a + e] = g->c[e * a + i] = seen->sum[i] / seen->n[0];
    }
    g->c[e * a + e] = 1;
    double mean = 0;
    for (size_t i = 0; i < e; i++) mean += g->c[i * a + i] / (double)e;
    for (size_t i = 0; i < e; i++) g->c[i * a + i] += DAMPING * mean; /* what the text does not show counts a little */
    return MOTE_OK;
}

static mote_status merge_layer(prune *p, const layer *l, size_t n_new, const seen_stats *seen, bool aligned, mote_error *err) {
    merge g = {.p = p, .l = l, .r = l->n_head_kv / n_new, .per = l->n_head / l->n_head_kv, .n_embd = p->m->hp.n_embd};
    const slot *s = l->slots;
    bool normed = has(l, R_ATTN_K_NORM) && p->m->arch->qk_norm != QKN_NONE;
    mote_status st;
    work w;
    TRYG(st, load(&g, &s[R_ATTN_Q], &g.q, &g.qb, err));
    TRYG(st, load(&g, &s[R_ATTN_K], &g.k, &g.kb, err));
    TRYG(st, load(&g, &s[R_ATTN_V], &g.v, &g.vb, err));
    TRYG(st, load(&g, &s[R_ATTN_OUT], &g.o, NULL, err));
    if (!aligned || normed) { /* a norm per head lets nothing pass into the queries */
        mean_heads(g.k, l->dim_k * g.n_embd, g.r, n_new);
        if (g.kb) mean_heads(g.kb, l->dim_k, g.r, n_new);
    }
    if (!aligned) {
        mean_heads(g.v, l->dim_v * g.n_embd, g.r, n_new);
        if (g.vb) mean_heads(g.vb, l->dim_v, g.r, n_new);
    } else {
        TRYG(st, input_moments(&g, seen, err));
        TRYG(st, work_open(p, &g, &w, err));
        for (size_t i = 0; i < n_new; i++) {
            if (!normed) TRYG(st, merge_keys(&g, i, &w, err));
            TRYG(st, merge_values(&g, i, &w, err));
        }
        TRYG(st, store(&g, &s[R_ATTN_OUT], g.o, NULL, g.n_embd, err));
        if (!normed) TRYG(st, store(&g, &s[R_ATTN_Q], g.q, g.qb, l->n_head * l->dim_k, err));
    }
    TRYG(st, store(&g, &s[R_ATTN_K], g.k, g.kb, n_new * l->dim_k, err));
    st = store(&g, &s[R_ATTN_V], g.v, g.vb, n_new * l->dim_v, err);
out:
    mem_free(g.c);
    mem_free_aligned(g.q);
    mem_free_aligned(g.k);
    mem_free_aligned(g.v);
    mem_free_aligned(g.o);
    mem_free_aligned(g.qb);
    mem_free_aligned(g.kb);
    mem_free_aligned(g.vb);
    return st;
}

static mote_status check_layers(const prune *p, size_t n_new, mote_error *err) {
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const layer *l = &p->m->layers[il];
        if (l->mixer[0] != &block_attn || has(l, R_ATTN_QKV) || p->m->arch->attn_gate ||
            (has(l, R_ATTN_K_NORM) && l->slots[R_ATTN_K_NORM].n != l->dim_k))
            FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu of '%s' has no key/value heads of its own weights that could be merged", il, p->m->arch->name);
        if (n_new > l->n_head_kv || l->n_head_kv % n_new || l->n_head_kv / n_new > 64)
            FAIL(err, MOTE_E_RANGE, "layer %zu has %zu key/value heads, which cannot become %zu", il, l->n_head_kv, n_new);
    }
    return MOTE_OK;
}

mote_status prune_merge_kv(prune *p, mote_error *err) {
    const char *by = p->o->merge_by ? p->o->merge_by : "aligned";
    bool aligned = strcmp(by, "aligned") == 0;
    size_t n_new = p->o->n_merge_kv;
    calib c = {0};
    char key[160];
    if (!aligned && strcmp(by, "mean") != 0) FAIL(err, MOTE_E_USAGE, "heads can be merged aligned or by their mean, not '%s'", by);
    TRY(check_layers(p, n_new, err));
    if (aligned) TRY(prune_calibrate(p, (role[]){R_ATTN_Q}, 1, &c, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const layer *l = &p->m->layers[il];
        TRY(merge_layer(p, l, n_new, aligned ? prune_seen(&c, l->slots[R_ATTN_Q].mat) : NULL, aligned, err));
        TRY(prune_progress(p, "merging heads", il + 1, p->m->hp.n_layer, err));
    }
    prune_say(p, "attention: %zu key/value heads in each layer became %zu (%s)", p->m->layers[0].n_head_kv, n_new, by);
    (void)json_object_set_new(p->json, "kv_heads", json_integer((json_int_t)n_new));
    return edit_set_u32(p->edit, prune_key(p, "attention.head_count_kv", key), (uint32_t)n_new, err);
}
