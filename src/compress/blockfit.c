/* blockfit.c: the quantizer as an op of the tape, and its two optimizers. */
#include "compress/blockfit.h"

#include <math.h>

typedef struct fit {
    blockfit_part *part;
    const quant_format *f;
    size_t rows, cols, n_blocks, n_groups; /* blocks and groups of all rows */
    float *w, *gw;            /* [rows, cols] latent weights, their gradient */
    float *w1, *w2;           /* Adam's moments; training only */
    float *d, *m, *gd, *gm;   /* [n_blocks] outer scale and minimum */
    float *d0, *m0, *s1, *s2; /* where they began; moments of both: [2 n_blocks] */
    float *a, *b;             /* [n_groups] */
    float *best_w, *best_d;   /* the last state that was measured to be better: [rows, cols], [2 n_blocks] */
    float size;               /* mean |w| */
    var *y;                   /* quantized, in this pass */
} fit;

typedef struct fitting {
    calib *c;
    const blockfit_opts *o;
    fit *fits;
    size_t n;
    const float *target;      /* of the pass */
    double rate;              /* what is left of the step size, 1 to 0 */
    size_t step;
} fitting;

/* ---- the quantizer ---- */

typedef struct level {
    float value, t, scale;
    float lv;     /* the level */
    bool inside;  /* t lies within the levels: gradients pass */
} level;

static inline float half_of(float v) { return quant_f16_to_f32(quant_f32_to_f16(v)); }

static inline level level_of(const fit *f, float scale, float off, float w) {
    const quant_grid *g = f->part->grid;
    level l = {.scale = scale};
    l.t = (w - off) * (fabsf(scale) > 1e-30f ? 1 / scale : 0);
    int place = quant_grid_place(g, l.t);
    l.lv = quant_grid_level(g, place);
    l.value = quant_grid_value(g, scale, off, place);
    l.inside = quant_grid_inside(g, l.t);
    return l;
}

/* The scale and the minimum that weight i has. */
static inline float scale_at(const fit *f, size_t i, float *off) {
    const quant_grid *g = f->part->grid;
    size_t block = i / g->block, group = i / g->group;
    *off = g->minimum ? half_of(f->m[block]) * f->b[group] : 0;
    return half_of(f->d[block]) * f->a[group];
}

static void quantize_part(void *ctx, size_t from, size_t to, int ith) {
    const fit *f = ctx;
    const quant_grid *g = f->part->grid;
    (void)ith;
    for (size_t r = from; r < to; r++) {
        for (size_t c = 0; c < f->cols; c += g->group) {
            size_t i = r * f->cols + c;
            float off, scale = scale_at(f, i, &off);
            for (size_t k = 0; k < g->group; k++) f->y->x[i + k] = level_of(f, scale, off, f->w[i + k]).value;
        }
    }
}

/* gw = g where the weight lies within the levels; scales by LSQ: d value / d scale = level - t inside, level outside. */
static void gradient_part(void *ctx, size_t from, size_t to, int ith) {
    const fit *f = ctx;
    const quant_grid *g = f->part->grid;
    (void)ith;
    for (size_t r = from; r < to; r++) {
        for (size_t c = 0; c < f->cols; c += g->group) {
            size_t i = r * f->cols + c, block = i / g->block, group = i / g->group;
            float off, scale = scale_at(f, i, &off);
            float gs = 0, go = 0;
            for (size_t k = 0; k < g->group; k++) {
                level l = level_of(f, scale, off, f->w[i + k]);
                float up = f->y->g[i + k];
                f->gw[i + k] = l.inside ? up : 0;
                gs += up * (l.inside ? l.lv - l.t : l.lv);
                go += l.inside ? 0 : up;
            }
            if (i % g->block == 0) f->gd[block] = f->gm[block] = 0;
            f->gd[block] += gs * f->a[group];
            f->gm[block] += go * f->b[group];
        }
    }
}

static void quantized_back(tape *t, void *ctx) {
    fit *f = *(fit **)ctx;
    if (f->y->g) tape_for(t, f->rows, 1, gradient_part, f);
}

static var *quantized(tape *t, fit *f) {
    f->y = tape_var(t, f->rows, f->cols, true);
    if (!f->y) return NULL;
    tape_for(t, f->rows, 1, quantize_part, f);
    fit **kept = tape_note(t, quantized_back, sizeof *kept);
    if (kept) *kept = f;
    return f->y;
}

static var *linear(void *ctx, tape *t, param *w, size_t mat, var *x) {
    const fitting *j = ctx;
    for (size_t i = 0; i < j->n; i++) {
        if (j->fits[i].part->w == w && j->fits[i].part->mat == mat) return ad_linear(t, x, quantized(t, &j->fits[i]));
    }
    return net_plain_linear(t, w, mat, x);
}

/* ---- the loss: mean (y - target)² ---- */

typedef struct squared {
    var *y, *loss;
    const float *target;
} squared;

static void squared_back(tape *t, void *ctx) {
    const squared *s = ctx;
    bool fresh;
    float *g = s->loss->g ? tape_grad(t, s->y, &fresh) : NULL;
    if (!g) return;
    size_t n = s->y->rows * s->y->cols;
    float by = 2 * s->loss->g[0] / (float)n;
    for (size_t i = 0; i < n; i++) g[i] = (fresh ? 0 : g[i]) + by * (s->y->x[i] - s->target[i]);
}

static var *squared_error(tape *t, var *y, const float *target) {
    var *loss = tape_var(t, 1, 1, y->wants);
    squared *s = loss && y->wants ? tape_note(t, squared_back, sizeof *s) : NULL;
    double sum = 0;
    if (!loss) return NULL;
    for (size_t i = 0; i < y->rows * y->cols; i++) sum += ((double)y->x[i] - (double)target[i]) * ((double)y->x[i] - (double)target[i]);
    loss->x[0] = (float)(sum / (double)(y->rows * y->cols));
    if (s) *s = (squared){y, loss, target};
    return loss;
}

/* ---- steps ---- */

static float sign(float v) { return v > 0 ? 1.0f : v < 0 ? -1.0f : 0; }

/* How far a scale may go from where it began. */
static float near(float v, float began) {
    float lo = MIN(0.8f * began, 1.25f * began), hi = MAX(0.8f * began, 1.25f * began);
    return v < lo ? lo : v > hi ? hi : v;
}

static void step_rounding(void *ctx, size_t from, size_t to, int ith) {
    const fitting *j = ctx;
    (void)ith;
    for (size_t i = 0; i < j->n; i++) {
        fit *f = &j->fits[i];
        const quant_grid *g = f->part->grid;
        float lr = (j->o->lr > 0 ? j->o->lr : 2 / (float)j->o->steps) * (float)j->rate;
        for (size_t b = from; b < MIN(to, f->n_blocks); b++) {
            for (size_t k = b * g->block; k < (b + 1) * g->block; k++) {
                float gap = fabsf(half_of(f->d[b]) * f->a[k / g->group]) * (g->table ? 16.0f : 1), at = f->part->start[k];
                float v = f->w[k] - lr * gap * sign(f->gw[k]);
                f->w[k] = v < at - gap / 2 ? at - gap / 2 : v > at + gap / 2 ? at + gap / 2 : v;
            }
            if (!g->outer) continue;
            float by = (j->o->lr_scale > 0 ? j->o->lr_scale : 5e-4f) * (float)j->rate;
            f->d[b] = near(f->d[b] - by * fabsf(f->d0[b]) * sign(f->gd[b]), f->d0[b]);
            if (g->minimum) f->m[b] = near(f->m[b] - by * fabsf(f->m0[b]) * sign(f->gm[b]), f->m0[b]);
        }
    }
}

/* Adam without bias of its moments; b1 0.9, b2 0.95. */
static float adam(float *m, float *v, float g, size_t step) {
    float c1 = 1 - powf(0.9f, (float)step), c2 = 1 - powf(0.95f, (float)step);
    *m = 0.9f * *m + 0.1f * g;
    *v = 0.95f * *v + 0.05f * g * g;
    return *m / c1 / (sqrtf(*v / c2) + 1e-20f);
}

static void step_training(void *ctx, size_t from, size_t to, int ith) {
    const fitting *j = ctx;
    (void)ith;
    for (size_t i = 0; i < j->n; i++) {
        fit *f = &j->fits[i];
        const quant_grid *g = f->part->grid;
        float lr = (j->o->lr > 0 ? j->o->lr : 3e-3f) * f->size * (float)j->rate;
        float by = (j->o->lr_scale > 0 ? j->o->lr_scale : 5e-4f) * (float)j->rate;
        for (size_t b = from; b < MIN(to, f->n_blocks); b++) {
            for (size_t k = b * g->block; k < (b + 1) * g->block; k++) f->w[k] -= lr * adam(&f->w1[k], &f->w2[k], f->gw[k], j->step);
            if (!g->outer) continue;
            f->d[b] = near(f->d[b] - by * fabsf(f->d0[b]) * adam(&f->s1[b], &f->s2[b], f->gd[b], j->step), f->d0[b]);
            size_t at = f->n_blocks + b;
            if (g->minimum) f->m[b] = near(f->m[b] - by * fabsf(f->m0[b]) * adam(&f->s1[at], &f->s2[at], f->gm[b], j->step), f->m0[b]);
        }
    }
}

/* ---- around them ---- */

static void fit_free(fit *f) {
    float *all[] = {f->w, f->gw, f->w1, f->w2, f->d, f->d0, f->s1, f->s2, f->a, f->best_w, f->best_d};
    for (size_t i = 0; i < COUNT_OF(all); i++) mem_free(all[i]);
}

static mote_status fit_open(fit *f, blockfit_part *part, bool train, mote_error *err) {
    const quant_grid *g = part->grid;
    *f = (fit){.part = part, .f = quant_get((int)g->type), .rows = (size_t)part->w->info->ne[1], .cols = part->w->v.cols};
    size_t n = f->rows * f->cols;
    f->n_blocks = n / g->block;
    f->n_groups = n / g->group;
    f->w = MEM_NEW_N(float, n);
    f->gw = MEM_NEW_N(float, n);
    f->best_w = MEM_NEW_N(float, n);
    if (train) f->w1 = MEM_NEW_N(float, n);
    if (train) f->w2 = MEM_NEW_N(float, n);
    f->d = MEM_NEW_N(float, 4 * f->n_blocks);
    f->d0 = MEM_NEW_N(float, 2 * f->n_blocks);
    f->best_d = MEM_NEW_N(float, 2 * f->n_blocks);
    f->s1 = MEM_NEW_N(float, 2 * f->n_blocks);
    f->s2 = MEM_NEW_N(float, 2 * f->n_blocks);
    f->a = MEM_NEW_N(float, 2 * f->n_groups);
    if (!f->w || !f->gw || !f->best_w || (train && (!f->w1 || !f->w2)) || !f->d || !f->d0 || !f->best_d || !f->s1 || !f->s2 || !f->a) {
        FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(part->w->info->name));
    }
    f->m = f->d + f->n_blocks;
    f->gd = f->m + f->n_blocks;
    f->gm = f->gd + f->n_blocks;
    f->m0 = f->d0 + f->n_blocks;
    f->b = f->a + f->n_groups;
    memcpy(f->w, part->start, n * sizeof *f->w);
    size_t per = g->block / g->group;
    double sum = 0;
    for (size_t i = 0; i < f->n_blocks; i++) {
        quant_grid_scales s;
        quant_grid_read(g, part->bytes + i * f->f->bytes, &s);
        f->d[i] = f->d0[i] = s.d;
        f->m[i] = f->m0[i] = s.m;
        for (size_t k = 0; k < per; k++) {
            f->a[i * per + k] = s.a[k];
            f->b[i * per + k] = s.b[k];
        }
    }
    for (size_t i = 0; i < n; i++) sum += (double)fabsf(f->w[i]);
    f->size = (float)(sum / (double)MAX(n, (size_t)1));
    return MOTE_OK;
}

static void remember(fit *f) {
    memcpy(f->best_w, f->w, f->rows * f->cols * sizeof *f->w);
    memcpy(f->best_d, f->d, 2 * f->n_blocks * sizeof *f->d);
}

/* The error over all sequences, over the mean square of the target. */
static mote_status measure(fitting *j, const float *target, double *out, mote_error *err) {
    calib *c = j->c;
    mote_status s = MOTE_OK;
    double e = 0, sum = 0;
    tape_pause(c->tape);
    for (size_t seq = 0; s == MOTE_OK && seq < c->n_seq; seq += c->per_pass) {
        size_t n = MIN(c->n_seq - seq, c->per_pass), from = seq * c->n_ctx * c->n_embd, count = n * c->n_ctx * c->n_embd;
        var *y;
        tape_reset(c->tape);
        s = calib_pass(c, c->x, seq, n, &y, err);
        for (size_t i = 0; s == MOTE_OK && i < count; i++) {
            double t = (double)target[from + i], d = (double)y->x[i] - t;
            e += d * d;
            sum += t * t;
        }
    }
    tape_reset(c->tape);
    tape_resume(c->tape);
    *out = sum > 0 ? e / sum : 0;
    if (s == MOTE_OK && !isfinite(e)) FAIL(err, MOTE_E_RANGE, "layer %zu: the loss is not a finite number", c->at);
    return s;
}

static mote_status one_step(fitting *j, const float *target, rng *r, mote_error *err) {
    calib *c = j->c;
    size_t batch = MIN(j->o->batch ? j->o->batch : 1, c->per_pass);
    size_t seq = rng_below(r, (uint32_t)(c->n_seq - batch + 1)), most = 0;
    var *y;
    tape_reset(c->tape);
    TRY(calib_pass(c, c->x, seq, batch, &y, err));
    var *loss = squared_error(c->tape, y, target + seq * c->n_ctx * c->n_embd);
    if (loss && !isfinite(loss->x[0])) FAIL(err, MOTE_E_RANGE, "layer %zu, step %zu: the loss is not a finite number", c->at, j->step);
    tape_back(c->tape, loss, 1);
    TRY(tape_status(c->tape, err));
    for (size_t i = 0; i < j->n; i++) most = MAX(most, j->fits[i].n_blocks);
    tape_for(c->tape, most, 1, j->o->train ? step_training : step_rounding, j);
    return MOTE_OK;
}

/* Scales and levels of a state into the file's bytes. */
static void write_bytes(fit *f) {
    const quant_grid *g = f->part->grid;
    uint8_t places[QUANT_GRID_BLOCK];
    for (size_t i = 0; i < f->n_blocks; i++) {
        unsigned char *block = f->part->bytes + i * f->f->bytes;
        if (g->outer) quant_grid_set(g, block, &f->d[i], &f->m[i]);
        for (size_t k = 0; k < g->block; k++) {
            size_t at = i * g->block + k, group = at / g->group;
            float scale = f->d[i] * f->a[group], off = g->minimum ? f->m[i] * f->b[group] : 0;
            places[k] = (uint8_t)quant_grid_place(g, (f->w[at] - off) * (fabsf(scale) > 1e-30f ? 1 / scale : 0));
        }
        quant_grid_put(g, block, places);
    }
}

static mote_status run_steps(fitting *j, const float *target, blockfit_result *r, mote_error *err) {
    rng random;
    double now;
    rng_seed(&random, j->o->seed, j->c->at + 1);
    TRY(measure(j, target, &r->before, err));
    r->after = r->before;
    for (size_t i = 0; i < j->n; i++) remember(&j->fits[i]);
    for (j->step = 1; j->step <= j->o->steps; j->step++) {
        j->rate = 1 - (double)(j->step - 1) / (double)j->o->steps;
        TRY(one_step(j, target, &random, err));
        if (j->step % MAX(j->o->steps / 2, (size_t)1)) continue;
        TRY(measure(j, target, &now, err));
        if (!(now < r->after)) continue;
        r->after = now;
        r->kept = true;
        for (size_t i = 0; i < j->n; i++) remember(&j->fits[i]);
    }
    return MOTE_OK;
}

mote_status blockfit_run(calib *c, const float *target, blockfit_part *parts, size_t n, const blockfit_opts *opts, blockfit_result *r,
                         mote_error *err) {
    blockfit_opts o = *opts;
    if (o.steps == 0) o.steps = 100;
    fitting j = {.c = c, .o = &o, .fits = MEM_NEW_N(fit, n), .n = n};
    mote_status s = j.fits ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    *r = (blockfit_result){0};
    for (size_t i = 0; s == MOTE_OK && i < n; i++) s = fit_open(&j.fits[i], &parts[i], o.train, err);
    if (s == MOTE_OK) {
        net_set_linear(c->net, linear, &j);
        s = run_steps(&j, target, r, err);
        net_set_linear(c->net, NULL, NULL);
        tape_reset(c->tape);
    }
    for (size_t i = 0; j.fits && i < n; i++) {
        fit *f = &j.fits[i];
        if (s == MOTE_OK && r->kept) {
            memcpy(f->w, f->best_w, f->rows * f->cols * sizeof *f->w);
            memcpy(f->d, f->best_d, 2 * f->n_blocks * sizeof *f->d);
            write_bytes(f);
        }
        if (s == MOTE_OK) f->f->decode(parts[i].w->v.x + parts[i].mat * f->rows * f->cols, parts[i].bytes, f->rows * f->cols);
        fit_free(f);
    }
    mem_free(j.fits);
    return s;
}
