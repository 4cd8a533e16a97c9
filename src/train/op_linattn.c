/* op_linattn.c: sums over keys that have left a window, weighted by features: linear attention.
 * Per key/value head, with φ(e) = [exp(e), exp(-e)] and u_j = [v_j, 1]:
 *   S_i = Σ_{j ≤ i - w} φ(ek_j) ⊗ u_j;   [N_i, Z_i] = φ(eq_i) S_i;   y_i = N_i / Z_i;   lz_i = log Z_i
 * Queries' features are taken less their greatest exponent, which is added to the logarithm. Going back, with d_i = [dy_i / Z_i,
 * (dlz_i - dy_i · y_i) / Z_i]: dφ(eq_i) = S_i d_i, for which the states are made once more, and with G_j = Σ_{i ≥ j + w} φ(eq_i) ⊗ d_i:
 *   dφ(ek_j) = G_j u_j;   du_j = φ(ek_j) G_j
 * A unit of work is a key/value head of a sequence. Source: Katharopoulos et al. 2020, "Transformers are RNNs", eq. 9 and §3.3.1. */
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define FAR (-1e9f) /* the logarithm of a sum over no keys */

struct summing {
    const struct kern_table *kern;
    var *eq, *ek, *v, *y, *lz;
    ad_linattn_shape o;
    const ad_seqs *s;
    size_t m, cols;        /* exponents of a head; columns of the state: values, the sum, up to 16 */
    float *work;           /* per thread: work_floats */
    float *gq, *gk, *gv;
};

static size_t work_floats(const struct summing *a) { return 2 * a->m * (a->cols + 2 + a->o.n_head / a->o.n_head_kv) + 4 * a->cols; }

/* y[2m] = the features of e less `top`. */
static void features(const struct summing *a, const float *e, float top, float *y) {
    for (size_t i = 0; i < a->m; i++) {
        y[i] = e[i];
        y[a->m + i] = -e[i];
    }
    (void)a->kern->exp_sum(y, top, 2 * a->m);
}

static float greatest(const struct summing *a, const float *e) {
    float top = 0;
    for (size_t i = 0; i < a->m; i++) top = fmaxf(top, fabsf(e[i]));
    return top;
}

static void key_features(const struct summing *a, size_t j, size_t g, float *y, float *u) {
    const float *e = a->ek->x + j * a->ek->cols + g * a->m;
    for (size_t i = 0; i < a->m; i++) {
        y[i] = MIN(MAX(e[i], -a->o.clamp), a->o.clamp);
        y[a->m + i] = -y[i];
    }
    (void)a->kern->exp_sum(y, 0, 2 * a->m);
    memcpy(u, a->v->x + j * a->v->cols + g * a->o.dim_v, a->o.dim_v * sizeof *u);
    u[a->o.dim_v] = 1;
    memset(u + a->o.dim_v + 1, 0, (a->cols - a->o.dim_v - 1) * sizeof *u);
}

/* S += f ⊗ u */
static void add_outer(const struct summing *a, float *s, const float *f, const float *u) {
    a->kern->tile(&(kern_tile){.c = s, .a = f, .b = u, .ldc = a->cols, .lda = 1, .ldb = a->cols, .m = 2 * a->m, .n = a->cols, .k = 1, .add = true});
}

/* One token's queries of head g's group read the state. */
static void read_state(const struct summing *a, const float *s, size_t i, size_t g, float *f, float *sum) {
    size_t group = a->o.n_head / a->o.n_head_kv, dim = a->o.dim_v;
    for (size_t h = g * group; h < (g + 1) * group; h++) {
        const float *e = a->eq->x + i * a->eq->cols + h * a->m;
        float top = greatest(a, e), *y = a->y->x + i * a->y->cols + h * dim;
        features(a, e, top, f);
        a->kern->tile(&(kern_tile){.c = sum, .a = f, .b = s, .ldc = a->cols, .lda = 2 * a->m, .ldb = a->cols, .m = 1, .n = a->cols, .k = 2 * a->m});
        a->kern->scale(y, sum, 1 / sum[dim], dim);
        a->lz->x[i * a->o.n_head + h] = logf(sum[dim]) + top;
    }
}

static void sum_unit(const struct summing *a, size_t from, size_t to, size_t g, float *work) {
    size_t n = 2 * a->m, group = a->o.n_head / a->o.n_head_kv, dim = a->o.dim_v;
    float *s = work, *f = s + n * a->cols, *u = f + n, *sum = u + a->cols;
    memset(s, 0, n * a->cols * sizeof *s);
    for (size_t i = from; i < to; i++) {
        if (i - from < a->o.window) {
            memset(a->y->x + i * a->y->cols + g * group * dim, 0, group * dim * sizeof *s);
            for (size_t h = g * group; h < (g + 1) * group; h++) a->lz->x[i * a->o.n_head + h] = FAR;
            continue;
        }
        key_features(a, i - a->o.window, g, f, u);
        add_outer(a, s, f, u);
        read_state(a, s, i, g, f, sum);
    }
}

static void sum_part(void *ctx, size_t from, size_t to, int ith) {
    const struct summing *a = ctx;
    for (size_t u = from; u < to; u++) {
        size_t q = u / a->o.n_head_kv;
        sum_unit(a, a->s->start[q], a->s->start[q + 1], u % a->o.n_head_kv, a->work + (size_t)ith * work_floats(a));
    }
}

/* ---- back ---- */
/* d = [dy / Z, (dlz - dy · y) / Z]; f: the query's features */
static void gradient_of_sums(const struct summing *a, size_t i, size_t h, float *f, float *d) {
    size_t dim = a->o.dim_v, at = i * a->o.n_head + h;
    const float *e = a->eq->x + i * a->eq->cols + h * a->m, *dy = a->y->g ? a->y->g + at * dim : NULL;
    float top = greatest(a, e), z = expf(a->lz->x[at] - top), own = a->lz->g ? a->lz->g[at] : 0;
    features(a, e, top, f);
    if (dy) {
        own -= a->kern->dot(dy, a->y->x + at * dim, dim);
        a->kern->scale(d, dy, 1 / z, dim);
    } else memset(d, 0, dim * sizeof *d);
    d[dim] = own / z;
    memset(d + dim + 1, 0, (a->cols - dim - 1) * sizeof *d);
}

/* de_i += df_i f_i - df_{m+i} f_{m+i}, df = S d; nothing where `e` was clamped. */
static void exponents_back(const struct summing *a, const float *s, const float *f, const float *d, const float *e, float clamp, float *ge) {
    for (size_t i = 0; i < a->m; i++) {
        float up = a->kern->dot(s + i * a->cols, d, a->cols), down = a->kern->dot(s + (a->m + i) * a->cols, d, a->cols);
        if (fabsf(e[i]) <= clamp) ge[i] += up * f[i] - down * f[a->m + i];
    }
}

static void back_unit(const struct summing *a, size_t from, size_t to, size_t g, float *work) {
    size_t n = 2 * a->m, group = a->o.n_head / a->o.n_head_kv, w = a->o.window;
    float *s = work, *f = s + n * a->cols, *u = f + n, *d = u + a->cols, *du = d + a->cols;
    memset(s, 0, n * a->cols * sizeof *s);
    for (size_t i = from + w; i < to && a->gq; i++) {
        key_features(a, i - w, g, f, u);
        add_outer(a, s, f, u);
        for (size_t h = g * group; h < (g + 1) * group; h++) {
            size_t at = i * a->eq->cols + h * a->m;
            gradient_of_sums(a, i, h, f, d);
            exponents_back(a, s, f, d, a->eq->x + at, INFINITY, a->gq + at);
        }
    }
    memset(s, 0, n * a->cols * sizeof *s);
    for (size_t i = to; (a->gk || a->gv) && i-- > from + w;) {
        size_t j = i - w, at = j * a->ek->cols + g * a->m;
        for (size_t h = g * group; h < (g + 1) * group; h++) {
            gradient_of_sums(a, i, h, f, d);
            add_outer(a, s, f, d);
        }
        key_features(a, j, g, f, u);
        if (a->gk) exponents_back(a, s, f, u, a->ek->x + at, a->o.clamp, a->gk + at);
        if (!a->gv) continue;
        a->kern->tile(&(kern_tile){.c = du, .a = f, .b = s, .ldc = a->cols, .lda = n, .ldb = a->cols, .m = 1, .n = a->cols, .k = n});
        a->kern->axpy(a->gv + j * a->v->cols + g * a->o.dim_v, du, 1, a->o.dim_v);
    }
}

static void back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct summing *a = ctx;
    for (size_t u = from; u < to; u++) {
        size_t q = u / a->o.n_head_kv;
        back_unit(a, a->s->start[q], a->s->start[q + 1], u % a->o.n_head_kv, a->work + (size_t)ith * work_floats(a));
    }
}

static void sums_back(tape *t, void *ctx) {
    struct summing *a = ctx;
    if (!a->y->g && !a->lz->g) return;
    a->gq = tape_grad_zeroed(t, a->eq);
    a->gk = tape_grad_zeroed(t, a->ek);
    a->gv = tape_grad_zeroed(t, a->v);
    tape_for(t, a->s->n_seq * a->o.n_head_kv, 1, back_part, a);
}

var *ad_linattn(tape *t, var *eq, var *ek, var *v, const ad_linattn_shape *o, const ad_seqs *s, var **lz) {
    if (!eq || !ek || !v) return NULL;
    struct summing a = {.kern = tape_kern(t), .eq = eq, .ek = ek, .v = v, .o = *o, .s = s, .m = eq->cols / o->n_head,
                        .cols = (o->dim_v + 16) / 16 * 16};
    bool wants = eq->wants || ek->wants || v->wants;
    assert(eq->cols == o->n_head * a.m && ek->cols == o->n_head_kv * a.m && v->cols == o->n_head_kv * o->dim_v);
    a.y = tape_var(t, eq->rows, o->n_head * o->dim_v, wants);
    a.lz = tape_var(t, eq->rows, o->n_head, wants);
    a.work = tape_mem(t, (size_t)tape_threads(t) * work_floats(&a) * sizeof(float));
    if (!a.y || !a.lz || !a.work) return NULL;
    *lz = a.lz;
    tape_for(t, s->n_seq * o->n_head_kv, 1, sum_part, &a);
    struct summing *kept = wants ? tape_note(t, sums_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
