#include "train/optim_int.h"

#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>

enum { NORM_CHUNK = 1 << 16, BITS8_FROM = 4096 /* smaller tensors keep 32 bits */, NAME_MAX_BYTES = 150 };

struct optim {
    optim_opts o;
    pool *pool;
    const struct kern_table *kern;
    optim_slot *slots;
    size_t n;
    muon *muon;
    optim_code up, both; /* unsigned and signed */
    double *sums;        /* of gradients' chunks */
    size_t n_sums;
};

static double otherwise(double x, double d) { return x != 0 ? x : d; }

static mote_status check(optim_opts *o, mote_error *err) {
    o->lr = otherwise(o->lr, 1e-3);
    o->beta1 = otherwise(o->beta1, 0.9);
    o->beta2 = otherwise(o->beta2, 0.95);
    o->eps = otherwise(o->eps, 1e-8);
    o->momentum = otherwise(o->momentum, 0.95);
    o->state_bits = o->state_bits ? o->state_bits : 32;
    if (!(o->lr > 0 && o->lr < 100)) FAIL(err, MOTE_E_USAGE, "a learning rate of %g: expected more than 0", o->lr);
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->momentum >= 0 && o->momentum < 1))
        FAIL(err, MOTE_E_USAGE, "betas %g, %g and momentum %g: expected numbers from 0 to below 1", o->beta1, o->beta2, o->momentum);
    if (!(o->eps > 0) || !(o->decay >= 0) || !(o->muon_lr >= 0))
        FAIL(err, MOTE_E_USAGE, "eps %g, weight decay %g or Muon's rate %g: not below 0", o->eps, o->decay, o->muon_lr);
    if (o->state_bits != 8 && o->state_bits != 32) FAIL(err, MOTE_E_USAGE, "optimizer states of %d bits: 8 or 32", o->state_bits);
    return MOTE_OK;
}

static bool differs(value_form f) { return f == VALUE_PLUS_ONE || f == VALUE_MINUS_EXP; }

static size_t blocks_of(size_t n) { return (n + OPTIM_BLOCK - 1) / OPTIM_BLOCK; }

static mote_status slot_open(optim_slot *s, const optim_opts *o, const train_param *p, mote_error *err) {
    *s = (optim_slot){.p = *p};
    if (!p->v || !p->v->x || p->name.n == 0 || p->name.n > NAME_MAX_BYTES)
        FAIL(err, MOTE_E_USAGE, "a parameter without values, or with a name of %zu bytes", p->name.n);
    if (s->p.lr == 0) s->p.lr = 1;
    if (s->p.n_mats == 0) s->p.n_mats = 1;
    if (!ckd_mul_size(&s->n, p->v->rows, p->v->cols) || s->n == 0 || s->n > SIZE_MAX / 16)
        FAIL(err, MOTE_E_USAGE, "%.*s: %zu × %zu numbers", STR_ARG(p->name), p->v->rows, p->v->cols);
    if (p->v->rows % s->p.n_mats) FAIL(err, MOTE_E_USAGE, "%.*s: %zu rows in %zu matrices", STR_ARG(p->name), p->v->rows, s->p.n_mats);
    s->rows = p->v->rows / s->p.n_mats;
    s->cols = p->v->cols;
    s->muon = o->kind == OPTIM_MUON && p->muon && s->rows > 1 && s->cols > 1;
    s->bits8 = o->state_bits == 8 && s->n >= BITS8_FROM && !s->muon;
    size_t bytes = s->bits8 ? blocks_of(s->n) * sizeof(float) + s->n : s->n * sizeof(float);
    s->m = mem_alloc_aligned(bytes);
    s->m_bytes = bytes;
    if (!s->muon) {
        s->v = mem_alloc_aligned(bytes);
        s->v_bytes = bytes;
    }
    if (differs(p->form)) s->s = mem_alloc_aligned(s->n * sizeof(float));
    if (!s->m || (!s->muon && !s->v) || (differs(p->form) && !s->s))
        FAIL(err, MOTE_E_MEMORY, "out of memory for the optimizer's state of %.*s: %zu bytes; 8-bit states take a quarter", STR_ARG(p->name), bytes);
    return MOTE_OK;
}

/* All bytes 0 as 8-bit codes would be the least value, not 0. */
static void zero_codes(const optim *o, optim_slot *s) {
    optim_code const *c[2] = {&o->both, &o->up};
    void *state[2] = {s->m, s->v};
    for (int k = 0; k < 2; k++) {
        uint8_t *codes = (uint8_t *)state[k] + blocks_of(s->n) * sizeof(float);
        uint8_t zero = 0;
        while (c[k]->value[zero] != 0) zero++;
        memset(codes, zero, s->n);
    }
}

mote_status optim_open(optim **out, const optim_opts *opts, const train_param *params, size_t n, pool *p, const struct kern_table *k,
                       mote_error *err) {
    *out = NULL;
    optim_opts checked = *opts;
    TRY(check(&checked, err));
    optim *o = MEM_NEW(optim);
    mote_status s = MOTE_OK;
    bool any_muon = false;
    if (!o || !(o->slots = MEM_NEW_N(optim_slot, n))) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    o->o = checked;
    o->pool = p;
    o->kern = k;
    o->n = n;
    optim_code_init(&o->up, false);
    optim_code_init(&o->both, true);
    for (size_t i = 0; i < n; i++) {
        optim_slot *slot = &o->slots[i];
        TRYG(s, slot_open(slot, &o->o, &params[i], err));
        if (slot->bits8) zero_codes(o, slot);
        any_muon |= slot->muon;
        o->n_sums += (slot->n + NORM_CHUNK - 1) / NORM_CHUNK;
    }
    o->sums = MEM_NEW_N(double, o->n_sums);
    if (!o->sums) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    if (any_muon) TRYG(s, muon_open(&o->muon, o->slots, n, o->o.prec, p, k, err));
    optim_values_changed(o);
    *out = o;
    return MOTE_OK;
out:
    optim_close(&o);
    return s;
}

void optim_close(optim **po) {
    optim *o = *po;
    if (!o) return;
    for (size_t i = 0; o->slots && i < o->n; i++) {
        mem_free_aligned(o->slots[i].m);
        mem_free_aligned(o->slots[i].v);
        mem_free_aligned(o->slots[i].s);
    }
    muon_close(&o->muon);
    mem_free(o->slots);
    mem_free(o->sums);
    mem_free(o);
    *po = NULL;
}

void optim_values_changed(optim *o) {
    for (size_t i = 0; i < o->n; i++) {
        optim_slot *s = &o->slots[i];
        const float *x = s->p.v->x;
        if (s->p.form == VALUE_PLUS_ONE)
            for (size_t k = 0; k < s->n; k++) s->s[k] = x[k] - 1;
        else if (s->p.form == VALUE_MINUS_EXP)
            for (size_t k = 0; k < s->n; k++) s->s[k] = logf(-x[k]);
    }
}

double optim_rate(const optim *o) { return o->o.lr; }

size_t optim_state_bytes(const optim *o) {
    size_t n = 0;
    for (size_t i = 0; i < o->n; i++) n += o->slots[i].m_bytes + o->slots[i].v_bytes;
    return n;
}

/* ---- the norm ---- */
static double square_sum(const float *x, size_t n) {
    double sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) sum[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++) sum[0] += (double)x[i] * (double)x[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void norm_part(void *arg, int ith, int nth) {
    optim *o = arg;
    size_t chunk = 0;
    for (size_t i = 0; i < o->n; i++) {
        const optim_slot *s = &o->slots[i];
        const float *g = s->p.v->g;
        for (size_t at = 0; at < s->n; at += NORM_CHUNK, chunk++) {
            if (chunk % (size_t)nth != (size_t)ith) continue;
            o->sums[chunk] = g ? square_sum(g + at, MIN(NORM_CHUNK, s->n - at)) : 0;
        }
    }
}

static bool keeps_zeros(const optim *o, const optim_slot *s) { return o->o.keep_zeros && s->p.decay && s->rows > 1 && s->cols > 1 && !s->s; }

static void zeros_part(void *arg, int ith, int nth) {
    const optim *o = arg;
    for (size_t i = 0; i < o->n; i++) {
        const optim_slot *s = &o->slots[i];
        if (!keeps_zeros(o, s) || !s->p.v->g) continue;
        const float *restrict x = s->p.v->x;
        float *restrict g = s->p.v->g;
        size_t from, to;
        pool_share(s->n, OPTIM_BLOCK, ith, nth, &from, &to);
        for (size_t k = from; k < to; k++) g[k] = x[k] == 0 ? 0 : g[k];
    }
}

/* dx/ds is 1, or x itself for VALUE_MINUS_EXP. */
void optim_grads_ready(optim *o) {
    if (o->o.keep_zeros) pool_run(o->pool, zeros_part, o);
    for (size_t i = 0; i < o->n; i++) {
        const optim_slot *s = &o->slots[i];
        float *g = s->p.v->g;
        if (s->p.form == VALUE_MINUS_EXP && g)
            for (size_t k = 0; k < s->n; k++) g[k] *= s->p.v->x[k];
    }
}

double optim_grad_norm(optim *o) {
    double sum = 0;
    pool_run(o->pool, norm_part, o);
    for (size_t i = 0; i < o->n_sums; i++) sum += o->sums[i];
    return sqrt(sum);
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

const train_param *optim_bad_grad(optim *o) {
    for (size_t i = 0; i < o->n; i++)
        if (o->slots[i].p.v->g && !all_finite(o->slots[i].p.v->g, o->slots[i].n)) return &o->slots[i].p;
    return NULL;
}

const train_param *optim_bad_value(optim *o) {
    for (size_t i = 0; i < o->n; i++)
        if (!all_finite(o->slots[i].p.v->x, o->slots[i].n)) return &o->slots[i].p;
    return NULL;
}

/* ---- the step ---- */
/* Loshchilov and Hutter 2019, algorithm 2; step: what is the same for all blocks. */
struct adam {
    const optim *o;
    const optim_slot *s;
    kern_adamw step;
};

static void adam_block(const struct adam *a, float *x, const float *g, float *m, float *v, size_t n) {
    kern_adamw k = a->step;
    k.x = x, k.g = g, k.m = m, k.v = v, k.n = n;
    a->o->kern->train.adamw(&k);
}

static void adam_part(void *arg, int ith, int nth) {
    const struct adam *a = arg;
    const optim_slot *s = a->s;
    float *x = s->s ? s->s : s->p.v->x;
    const float *g = s->p.v->g;
    size_t from, to;
    pool_share(s->n, OPTIM_BLOCK, ith, nth, &from, &to);
    if (!s->bits8) {
        float *m = s->m, *v = s->v;
        adam_block(a, x + from, g + from, m + from, v + from, to - from);
        return;
    }
    float m[OPTIM_BLOCK], v[OPTIM_BLOCK], *m_max = s->m, *v_max = s->v;
    uint8_t *m_codes = (uint8_t *)(m_max + blocks_of(s->n)), *v_codes = (uint8_t *)(v_max + blocks_of(s->n));
    for (size_t at = from; at < to; at += OPTIM_BLOCK) {
        size_t n = MIN(OPTIM_BLOCK, to - at), b = at / OPTIM_BLOCK;
        optim_decode(&a->o->both, m, m_codes + at, m_max[b], n);
        optim_decode(&a->o->up, v, v_codes + at, v_max[b], n);
        adam_block(a, x + at, g + at, m, v, n);
        m_max[b] = optim_encode(&a->o->both, m_codes + at, m, n, false);
        v_max[b] = optim_encode(&a->o->up, v_codes + at, v, n, true);
    }
}

static void adam_step(optim *o, optim_slot *s, uint64_t t, double lr, float grad_scale) {
    double n = (double)t + 1;
    struct adam a = {.o = o, .s = s};
    a.step = (kern_adamw){.by = grad_scale, .keep = (float)(1 - lr * (s->p.decay ? o->o.decay : 0)), .rest1 = (float)(1 - o->o.beta1),
                          .beta2 = (float)o->o.beta2, .rest2 = (float)(1 - o->o.beta2), .bias = (float)sqrt(1 - pow(o->o.beta2, n)),
                          .eps = (float)o->o.eps, .size = (float)(lr / (1 - pow(o->o.beta1, n - (double)s->first_from)))};
    pool_run(o->pool, adam_part, &a);
}

/* Momentum as Nesterov's, orthogonalized; m = M m + (1 - M) g, the direction is (1 - M) g + M m. */
static void muon_step(optim *o, optim_slot *s, double lr, double rate, float grad_scale) {
    const float mom = (float)o->o.momentum;
    double shape = o->o.muon_lr > 0 ? sqrt(fmax(1, (double)s->rows / (double)s->cols)) : 0.2 * sqrt((double)MAX(s->rows, s->cols));
    if (o->o.muon_lr > 0) lr = o->o.muon_lr * rate * (double)s->p.lr;
    const float keep = (float)(1 - lr * (s->p.decay ? o->o.decay : 0)), by = (float)(lr * shape);
    const bool zeros = keeps_zeros(o, s);
    float *x = s->s ? s->s : s->p.v->x, *m = s->m, *u = muon_room(o->muon);
    const float *g = s->p.v->g;
    size_t n = s->rows * s->cols;
    for (size_t k = 0; k < s->p.n_mats; k++, x += n, m += n, g += n) {
        for (size_t i = 0; i < n; i++) {
            float gi = g[i] * grad_scale;
            m[i] = m[i] + (1 - mom) * (gi - m[i]);
            u[i] = gi + mom * (m[i] - gi);
        }
        muon_orthogonal(o->muon, u, s->rows, s->cols);
        for (size_t i = 0; i < n; i++) x[i] = zeros && x[i] == 0 ? 0 : x[i] * keep - by * u[i];
    }
}

static void to_graph(const optim_slot *s) {
    float *x = s->p.v->x;
    if (s->p.form == VALUE_PLUS_ONE)
        for (size_t k = 0; k < s->n; k++) x[k] = 1 + s->s[k];
    else if (s->p.form == VALUE_MINUS_EXP)
        for (size_t k = 0; k < s->n; k++) x[k] = -expf(s->s[k]);
}

void optim_step(optim *o, uint64_t t, double rate, float grad_scale) {
    for (size_t i = 0; i < o->n; i++) {
        optim_slot *s = &o->slots[i];
        if (!s->p.v->g) continue;
        double lr = o->o.lr * rate * (double)s->p.lr;
        if (s->muon) muon_step(o, s, lr, rate, grad_scale);
        else adam_step(o, s, t, lr, grad_scale);
        to_graph(s);
    }
}

/* ---- checkpoints ---- */
size_t optim_sections(optim *o, ckpt_section *dst, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < o->n; i++) {
        const optim_slot *s = &o->slots[i];
        const struct {
            char kind;
            void *p;
            size_t bytes;
        } part[] = {{'m', s->m, s->m_bytes}, {'v', s->v, s->v_bytes}, {'s', s->s, s->n * sizeof(float)}};
        for (size_t k = 0; k < COUNT_OF(part); k++) {
            if (!part[k].p) continue;
            if (n < cap) {
                (void)snprintf(dst[n].name, sizeof dst[n].name, "%c:%.*s", part[k].kind, STR_ARG(s->p.name));
                dst[n].p = part[k].p;
                dst[n].n = part[k].bytes;
            }
            n++;
        }
    }
    return n;
}

/* ---- states in little ---- */
enum { FACTORED_FROM = 8 /* rows and columns */ };

static bool factored(const optim_slot *s) { return s->rows >= FACTORED_FROM && s->cols >= FACTORED_FROM; }

static void read_second(const optim *o, const optim_slot *s, size_t from, size_t n, float *dst) {
    if (!s->bits8) {
        memcpy(dst, (const float *)s->v + from, n * sizeof *dst);
        return;
    }
    const float *max = s->v;
    const uint8_t *codes = (const uint8_t *)(max + blocks_of(s->n));
    for (size_t at = 0; at < n; at += OPTIM_BLOCK)
        optim_decode(&o->up, dst + at, codes + from + at, max[(from + at) / OPTIM_BLOCK], MIN(OPTIM_BLOCK, n - at));
}

static void write_second(const optim *o, optim_slot *s, size_t from, size_t n, const float *src) {
    if (!s->bits8) {
        memcpy((float *)s->v + from, src, n * sizeof *src);
        return;
    }
    float *max = s->v;
    uint8_t *codes = (uint8_t *)(max + blocks_of(s->n));
    for (size_t at = 0; at < n; at += OPTIM_BLOCK)
        max[(from + at) / OPTIM_BLOCK] = optim_encode(&o->up, codes + from + at, src + at, MIN(OPTIM_BLOCK, n - at), true);
}

/* [all rows] and [matrices, cols] means; chunks are whole blocks, so that 8-bit states can be read. */
static bool factors_get(const optim *o, const optim_slot *s, unsigned char *dst) {
    size_t rows = s->p.v->rows, cols = s->cols, n_cols = s->p.n_mats * cols;
    double *sums = MEM_NEW_N(double, rows + n_cols);
    float chunk[OPTIM_BLOCK];
    for (size_t from = 0; sums && from < s->n; from += OPTIM_BLOCK) {
        size_t n = MIN(OPTIM_BLOCK, s->n - from);
        read_second(o, s, from, n, chunk);
        for (size_t i = 0; i < n; i++) {
            size_t row = (from + i) / cols, col = (from + i) % cols;
            sums[row] += (double)chunk[i] / (double)cols;
            sums[rows + row / s->rows * cols + col] += (double)chunk[i] / (double)s->rows;
        }
    }
    for (size_t i = 0; sums && i < rows + n_cols; i++) {
        float x = (float)sums[i];
        memcpy(dst + i * sizeof x, &x, sizeof x);
    }
    mem_free(sums);
    return sums != NULL;
}

static bool factors_set(const optim *o, optim_slot *s, const unsigned char *src) {
    size_t rows = s->p.v->rows, cols = s->cols, n = rows + s->p.n_mats * cols;
    float *f = MEM_NEW_N(float, n), chunk[OPTIM_BLOCK];
    double *mean = MEM_NEW_N(double, s->p.n_mats);
    bool good = f && mean;
    if (good) memcpy(f, src, n * sizeof *f);
    for (size_t i = 0; good && i < n; i++) f[i] = isfinite(f[i]) && f[i] > 0 ? f[i] : 0;
    for (size_t i = 0; good && i < rows; i++) mean[i / s->rows] += (double)f[i] / (double)s->rows;
    for (size_t from = 0; good && from < s->n; from += OPTIM_BLOCK) {
        size_t m = MIN(OPTIM_BLOCK, s->n - from);
        for (size_t i = 0; i < m; i++) {
            size_t row = (from + i) / cols, col = (from + i) % cols, mat = row / s->rows;
            chunk[i] = mean[mat] > 0 ? (float)((double)f[row] * (double)f[rows + mat * cols + col] / mean[mat]) : 0;
        }
        write_second(o, s, from, m, chunk);
    }
    mem_free(f);
    mem_free(mean);
    return good;
}

size_t optim_condensed(const optim *o, size_t i, unsigned char *dst) {
    const optim_slot *s = &o->slots[i];
    if (s->muon) return 0;
    size_t bytes = factored(s) ? (s->p.v->rows + s->p.n_mats * s->cols) * sizeof(float) : blocks_of(s->n) * sizeof(float) + s->n;
    if (!dst) return bytes;
    if (factored(s)) return factors_get(o, s, dst) ? bytes : 0;
    unsigned char *codes = dst + blocks_of(s->n) * sizeof(float);
    for (size_t from = 0; from < s->n; from += OPTIM_BLOCK) {
        float v[OPTIM_BLOCK], max;
        size_t n = MIN(OPTIM_BLOCK, s->n - from);
        read_second(o, s, from, n, v);
        max = optim_encode(&o->up, codes + from, v, n, true);
        memcpy(dst + from / OPTIM_BLOCK * sizeof max, &max, sizeof max);
    }
    return bytes;
}

bool optim_expand(optim *o, size_t i, uint64_t t, const unsigned char *src, size_t n) {
    optim_slot *s = &o->slots[i];
    if (n != optim_condensed(o, i, NULL)) return false;
    memset(s->m, 0, s->m_bytes);
    s->first_from = t;
    if (s->muon) return true;
    if (s->bits8) zero_codes(o, s);
    if (factored(s)) return factors_set(o, s, src);
    const unsigned char *codes = src + blocks_of(s->n) * sizeof(float);
    for (size_t from = 0; from < s->n; from += OPTIM_BLOCK) {
        float v[OPTIM_BLOCK], max;
        size_t m = MIN(OPTIM_BLOCK, s->n - from);
        memcpy(&max, src + from / OPTIM_BLOCK * sizeof max, sizeof max);
        optim_decode(&o->up, v, codes + from, isfinite(max) && max > 0 ? max : 0, m);
        write_second(o, s, from, m, v);
    }
    return true;
}
