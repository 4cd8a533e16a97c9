/* qat.c: weights on the grid of their format while they are trained. See qat.h. */
#include "train/op_fake.h"
#include "train/qat_int.h"

#include <math.h>
#include <string.h>

enum { FACTOR_LEAST = 64 /* a scale never shrinks to less than a 64th; below 0 it begins where another model's scales were taken */ };

static void scales_of(const qat_entry *e, size_t b, float *d, float *m) {
    float a = copysignf(fmaxf(fabsf(1 + e->by.x[b]), 1.0f / FACTOR_LEAST), 1 + e->by.x[b]);
    *d = e->d0[b] * a;
    *m = e->grid->minimum ? e->m0[b] + (e->grid->block == QUANT_GRID_BLOCK ? e->m0[b] : e->d0[b]) * e->by.x[e->n_blocks + b] : 0;
}

/* ---- rounding ----
 * Both ways go over every weight in every step. Lanes of constant number without a branch: compilers make vectors of them. */
enum { LANES = 8 /* groups are multiples of it */ };

/* Levels that are neighbouring integers. Adding and taking away 1.5 · 2^23 rounds to the nearest integer, as lrintf does. */
static void round_integers(const quant_grid *g, const float *restrict w, float *restrict y, float scale, float off, float inv) {
    const float lo = g->lo, hi = g->hi, magic = 12582912;
    for (size_t i = 0; i < g->group; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            float t = (w[i + k] - off) * inv;
            t = t > lo ? t : lo; /* NaN: lo */
            t = t < hi ? t : hi;
            y[i + k] = scale * ((t + magic) - magic) + off;
        }
    }
}

static void round_block(const qat_entry *e, size_t b, bool keep_levels, bool levels) {
    const quant_grid *g = e->grid;
    size_t n = g->block;
    unsigned char *block = e->bytes + b * e->f->bytes;
    const float *w = e->latent + b * n;
    float *y = e->rounded + b * n, d, m;
    uint8_t places[QUANT_GRID_BLOCK];
    if (g->outer) {
        scales_of(e, b, &d, &m);
        quant_grid_set(g, block, &d, &m);
    }
    if (keep_levels) {
        e->f->decode(y, block, n);
        return;
    }
    quant_grid_scales s;
    quant_grid_read(g, block, &s);
    for (size_t j = 0; j < n; j += g->group) {
        float scale = s.d * s.a[j / g->group], off = s.m * s.b[j / g->group], inv = qat_inverse(scale);
        bool integers = !g->table && g->step == 1;
        if (integers) round_integers(g, w + j, y + j, scale, off, inv);
        for (size_t i = j; i < j + g->group && (levels || !integers); i++) {
            places[i] = (uint8_t)qat_place(g, (w[i] - off) * inv);
            if (!integers) y[i] = quant_grid_value(g, scale, off, places[i]);
        }
    }
    if (levels) quant_grid_put(g, block, places);
}

struct rounding {
    const qat *q;
    const qat_entry *one; /* NULL: all, without levels */
};

static void round_entry(const qat *q, const qat_entry *e, bool levels, int ith, int nth) {
    size_t from, to, cols = e->p->v.cols;
    if (!e->grid) {
        pool_share(e->rows, 1, ith, nth, &from, &to);
        for (size_t r = from; r < to; r++) {
            e->f->encode(e->bytes + r * e->row_bytes, e->latent + r * cols, cols, NULL);
            e->f->decode(e->rounded + r * cols, e->bytes + r * e->row_bytes, cols);
        }
        return;
    }
    pool_share(e->n_blocks, 1, ith, nth, &from, &to);
    for (size_t b = from; b < to; b++) round_block(e, b, q->o.kind == QAT_SCALES, levels);
}

static void round_part(void *arg, int ith, int nth) {
    const struct rounding *a = arg;
    if (a->one) round_entry(a->q, a->one, true, ith, nth);
    for (size_t i = 0; !a->one && i < a->q->count; i++) round_entry(a->q, &a->q->e[i], false, ith, nth);
}

static void freshen(qat *q) {
    if (q->stale) pool_run(q->p, round_part, &(struct rounding){q, NULL});
    q->stale = false;
}

void qat_begin(qat *q) {
    if (q->inside) return;
    freshen(q);
    for (size_t i = 0; i < q->count; i++)
        if (q->e[i].row0 == 0) q->e[i].p->v.x = q->e[i].rounded;
    q->inside = true;
}

void qat_end(qat *q) {
    for (size_t i = 0; q->inside && i < q->count; i++)
        if (q->e[i].row0 == 0) q->e[i].p->v.x = q->e[i].latent;
    q->inside = false;
}

void qat_changed(qat *q) { q->stale = true; }

/* ---- gradients ----
 * y = scale level + off, scale = d a, off = m b; t = (w - off) / scale. With g = dy:
 *   inside the range   dw = g   dd = g a (level - t)   dm = 0
 *   outside            dw = 0   dd = g a level         dm = g b
 *   levels that stay            dd = g a level         dm = g b */
/* One group. levels_stay: no weight learns. *dd, *dm: Σ by scale d and minimum m, over a and o. */
static void grads_of_group(const quant_grid *gr, bool levels_stay, const float *restrict w, const float *restrict y, float *restrict g, float off,
                           float inv, double *dd, double *dm) {
    float half = 0.5f * (float)gr->step, lo = levels_stay ? 1 : gr->lo - half, hi = levels_stay ? 0 : gr->hi + half, keep = levels_stay;
    float by_d[LANES] = {0}, by_m[LANES] = {0};
    for (size_t i = 0; i < gr->group; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            float level = (y[i + k] - off) * inv, t = (w[i + k] - off) * inv, slope = g[i + k];
            float in = (float)((t >= lo) & (t <= hi));
            by_d[k] += slope * (level - in * t);
            by_m[k] += slope * (1 - in);
            g[i + k] = slope * (in + keep);
        }
    }
    for (size_t k = 0; k < LANES; k++) {
        *dd += (double)by_d[k];
        *dm += (double)by_m[k];
    }
}

static void grads_of_block(const qat *q, const qat_entry *e, size_t b) {
    const quant_grid *gr = e->grid;
    size_t n = gr->block;
    const float *w = e->latent + b * n, *y = e->rounded + b * n;
    float *g = e->p->v.g + e->row0 * e->p->v.cols + b * n;
    quant_grid_scales s;
    quant_grid_read(gr, e->bytes + b * e->f->bytes, &s);
    double dd = 0, dm = 0;
    for (size_t j = 0; j < n; j += gr->group) {
        float a = s.a[j / gr->group], o = s.b[j / gr->group], scale = s.d * a, off = s.m * o;
        double by_d = 0, by_m = 0;
        grads_of_group(gr, q->o.kind == QAT_SCALES, w + j, y + j, g + j, off, qat_inverse(scale), &by_d, &by_m);
        dd += by_d * (double)a;
        dm += by_m * (double)o;
    }
    if (!e->by.g) return;
    e->by.g[b] = (float)(dd * (double)e->d0[b]);
    if (gr->minimum) e->by.g[e->n_blocks + b] = (float)(dm * (double)(gr->block == QUANT_GRID_BLOCK ? e->m0[b] : e->d0[b]));
}

static void grads_part(void *arg, int ith, int nth) {
    const qat *q = arg;
    for (size_t i = 0; i < q->count; i++) {
        const qat_entry *e = &q->e[i];
        size_t from, to;
        if (!e->grid || !e->p->v.g) continue;
        pool_share(e->n_blocks, 1, ith, nth, &from, &to);
        for (size_t b = from; b < to; b++) grads_of_block(q, e, b);
    }
}

static bool scales_learn(const qat *q, const qat_entry *e) { return e->p->trained && e->grid && e->grid->outer && !q->o.fixed_scales; }

void qat_grads(qat *q) {
    for (size_t i = 0; i < q->count; i++) {
        qat_entry *e = &q->e[i];
        e->by.g = scales_learn(q, e) && e->p->v.g ? e->by.room : NULL;
    }
    pool_run(q->p, grads_part, q);
    for (size_t i = 0; q->o.kind == QAT_SCALES && i < q->count; i++) q->e[i].p->v.g = NULL; /* not the optimizer's: it will not clear them */
}

/* ---- opening ---- */
static var *fake_linear(void *ctx, tape *t, param *w, size_t mat, var *x) {
    (void)ctx;
    return net_plain_linear(t, w, mat, ad_fake_acts(t, x));
}

static var *fake_cache(void *ctx, tape *t, size_t il, bool value, var *x) {
    const qat *q = ctx;
    return ad_fake_kv(t, x, net_model(q->n)->layers[il].n_head_kv, value ? q->o.v_type : q->o.k_type);
}

var *qat_head_input(const qat *q, tape *t, var *hidden) { return q->o.acts ? ad_fake_acts(t, hidden) : hidden; }

/* The first blocks: the file's own where they have the format already, else the encoder's. */
static void first_part(void *arg, int ith, int nth) {
    const qat_entry *e = arg;
    size_t from, to, cols = e->p->v.cols;
    pool_share(e->rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) {
        unsigned char *dst = e->bytes + r * e->row_bytes;
        if (e->p->info->type == e->f->type) memcpy(dst, e->p->info->data + r * e->row_bytes, e->row_bytes);
        else e->f->encode(dst, e->latent + r * cols, cols, NULL);
    }
}

/* Rows [row0, row0 + rows) of p, which is above the entry's other rows when it has some. */
static mote_status open_entry(qat *q, param *p, const char *tensor, size_t row0, size_t rows, const quant_format *f, mote_error *err) {
    qat_entry *e = &q->e[q->count++];
    const size_t cols = p->v.cols, n = rows * cols;
    mote_error why;
    *e = (qat_entry){.p = p, .row0 = row0, .rows = rows, .f = f, .grid = quant_grid_of(f->type), .latent = p->v.x + row0 * cols, .n_blocks = n / f->block};
    (void)snprintf(e->tensor, sizeof e->tensor, "%s", tensor);
    (void)snprintf(e->name, sizeof e->name, "%.80s.scales", tensor);
    if (!f->encode || !f->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s': %s cannot be written", tensor, f->name);
    if (!e->grid && q->o.kind == QAT_SCALES) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s': %s has no scales that could be trained by themselves", tensor, f->name);
    if (quant_row_bytes(f, cols, &e->row_bytes, &why) != MOTE_OK)
        FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s': rows of %zu weights are no multiple of %s's blocks of %u", tensor, cols, f->name, f->block);
    e->bytes = mem_alloc_aligned(rows * e->row_bytes);
    e->rounded = row0 ? e[-1].rounded + e[-1].rows * cols : mem_alloc_aligned(p->v.rows * cols * sizeof(float));
    e->by = (var){.rows = e->grid && e->grid->minimum ? 2 : 1, .cols = e->n_blocks, .wants = true};
    e->by.x = mem_alloc_aligned(2 * e->by.rows * e->n_blocks * sizeof(float));
    e->d0 = mem_alloc_aligned(2 * e->n_blocks * sizeof(float));
    if (!e->bytes || !e->rounded || !e->by.x || !e->d0) FAIL(err, MOTE_E_MEMORY, "out of memory for the blocks of '%s'", tensor);
    e->by.room = e->by.x + e->by.rows * e->n_blocks;
    e->m0 = e->d0 + e->n_blocks;
    pool_run(q->p, first_part, e);
    for (size_t b = 0; e->grid && b < e->n_blocks; b++) {
        quant_grid_scales s;
        quant_grid_read(e->grid, e->bytes + b * f->bytes, &s);
        e->d0[b] = s.d;
        e->m0[b] = s.m;
    }
    return e->grid && q->o.kind == QAT_WEIGHTS && p->info->type == f->type ? qat_seat(q, e, err) : MOTE_OK;
}

static mote_status open_param(qat *q, param *p, const quant_format *f, mote_error *err) {
    char name[96];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(p->info->name));
    if (!q->o.parts.n || !str_is(p->info->name, model_file_part_name(0))) return f ? open_entry(q, p, name, 0, p->v.rows, f, err) : MOTE_OK;
    for (size_t i = 0, row = 0; i < q->o.parts.n; row += (size_t)q->o.parts.rows[i++])
        TRY(open_entry(q, p, model_file_part_name(i), row, (size_t)q->o.parts.rows[i], quant_get((int)q->o.parts.type[i]), err));
    return MOTE_OK;
}

mote_status qat_open(qat **out, net *n, pool *p, const qat_opts *o, mote_error *err) {
    qat *q = MEM_NEW(qat);
    mote_status s = MOTE_OK;
    if (!q) FAIL(err, MOTE_E_MEMORY, "out of memory");
    q->n = n;
    q->p = p;
    q->o = *o;
    if (!(q->o.scale_lr > 0)) q->o.scale_lr = 10;
    q->stale = true;
    q->e = MEM_NEW_N(qat_entry, net_n_params(n) + MODEL_FILE_PARTS_MAX);
    if (!q->e) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    const model_file *f = net_model(n)->file;
    if (o->parts.n) TRYG(s, model_file_fit_parts(f, &q->o.parts, err));
    for (size_t i = 0; i < net_n_params(n); i++) {
        param *at = net_param(n, i);
        size_t index = 0;
        while (index < model_file_n_tensors(f) && model_file_tensor(f, index) != at->info) index++;
        const bool rounded = at->trained || at->frozen;
        int type = rounded && index < model_file_n_tensors(f) ? o->format(o->ctx, index) : -1;
        const quant_format *format = quant_get(type);
        if (rounded) TRYG(s, open_param(q, at, !format || format->type == QUANT_F32 ? NULL : format, err));
    }
    if (q->count == 0) FAILG(s, err, MOTE_E_USAGE, "no tensor is to be quantized");
    if (o->acts) net_set_linear(n, fake_linear, q);
    if (o->k_type != QUANT_F32 || o->v_type != QUANT_F32) net_set_kv(n, fake_cache, q);
    *out = q;
    return MOTE_OK;
out:
    qat_close(&q);
    return s;
}

void qat_close(qat **q) {
    if (!*q) return;
    qat_end(*q);
    if ((*q)->o.acts) net_set_linear((*q)->n, NULL, NULL);
    net_set_kv((*q)->n, NULL, NULL);
    for (size_t i = 0; i < (*q)->count; i++) {
        qat_entry *e = &(*q)->e[i];
        mem_free_aligned(e->bytes);
        if (e->row0 == 0) mem_free_aligned(e->rounded);
        mem_free_aligned(e->by.x);
        mem_free_aligned(e->d0);
    }
    mem_free((*q)->e);
    mem_free(*q);
    *q = NULL;
}

static qat_entry *entry_of(qat *q, const var *v) {
    for (size_t i = 0; i < q->count; i++)
        if (&q->e[i].p->v == v) return &q->e[i];
    return NULL;
}

size_t qat_params(qat *q, const train_param *all, size_t n, train_param *dst, size_t cap) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (q->o.kind == QAT_SCALES && entry_of(q, all[i].v)) continue;
        if (count < cap) dst[count] = all[i];
        count++;
    }
    for (size_t i = 0; i < q->count; i++) {
        qat_entry *e = &q->e[i];
        if (!scales_learn(q, e)) continue;
        if (count < cap) dst[count] = (train_param){.name = str_of(e->name), .v = &e->by, .lr = q->o.scale_lr, .formatted = true};
        count++;
    }
    return count;
}

size_t qat_n(const qat *q) { return q->count; }

qat_tensor qat_get(qat *q, size_t i) {
    const qat_entry *e = &q->e[i];
    freshen(q);
    if (q->o.kind == QAT_WEIGHTS && e->grid) pool_run(q->p, round_part, &(struct rounding){q, e});
    return (qat_tensor){e->p, e->tensor, e->rows, e->f->type, e->rounded, e->bytes, e->rows * e->row_bytes};
}

size_t qat_find(const qat *q, const param *p) {
    for (size_t i = 0; i < q->count; i++)
        if (q->e[i].p == p) return i;
    return SIZE_MAX;
}
