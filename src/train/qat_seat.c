/* qat_seat.c: where weights stand in their cells when training begins with a packed file.
 *
 * A packed weight is the middle of its cell, and weights that all stand in the middle learn badly: none changes its level for dozens of
 * steps, while each scale sees but the small, equal-signed trace of the last updates, (level - t) dy, which Adam makes as large as any
 * gradient: scales shrink all together, and the model with them (SmolLM2 in Q3_96: divergence 0.8 to 2.2 in 30 steps). So each weight gets
 * a place: that of the number it was rounded from, where that is known, else one drawn by chance; never as near to the border
 * that the first step carries it over. The levels are the file's, whatever the places are. */
#include "base/rng.h"
#include "train/qat_int.h"

#include <math.h>

static const float OTHER_WEIGHTS = 0.6f; /* further away on average than this: the row was not rounded from that one */

struct seating {
    const qat *q;
    const qat_entry *e;
    const tensor_info *from; /* before rounding, or NULL */
    size_t from_row_bytes;
    float *places; /* [threads, cols] */
};

float qat_cell(const qat_entry *e, const quant_grid_scales *s, size_t i, float x) {
    const quant_grid *g = e->grid;
    float scale = s->d * s->a[i / g->group], off = s->m * s->b[i / g->group];
    if (!g->table) return scale * (float)g->step;
    int at = quant_grid_place(g, (x - off) * qat_inverse(scale)), last = quant_grid_places(g) - 1;
    int below = g->table[at] - g->table[MAX(at - 1, 0)], above = g->table[MIN(at + 1, last)] - g->table[at];
    return scale * (float)(at == 0 ? above : at == last ? below : MIN(below, above));
}

static void scales_at(const qat_entry *e, size_t row, size_t col, quant_grid_scales *s) {
    quant_grid_read(e->grid, e->bytes + row * e->row_bytes + col / e->grid->block * e->f->bytes, s);
}

/* How far each number of `t` is from its level, in cells. False: these are other weights. */
static bool places_of_row(const qat_entry *e, size_t row, float *t) {
    size_t cols = e->p->v.cols, n = e->grid->block;
    double far = 0;
    for (size_t at = 0; at < cols; at += n) {
        quant_grid_scales s;
        scales_at(e, row, at, &s);
        for (size_t i = 0; i < n; i++) {
            float level = e->latent[row * cols + at + i];
            t[at + i] = (t[at + i] - level) * qat_inverse(qat_cell(e, &s, i, level));
            far += isfinite(t[at + i]) ? fmin(fabs((double)t[at + i]), 1) : 1; /* beyond the last level it may be anywhere */
        }
    }
    return far <= (double)OTHER_WEIGHTS * (double)cols;
}

static void seat_row(const struct seating *a, size_t row, float *t) {
    const qat_entry *e = a->e;
    size_t cols = e->p->v.cols, n = e->grid->block;
    float *x = e->latent + row * cols;
    bool known = false;
    if (a->from) {
        quant_get((int)a->from->type)->decode(t, a->from->data + row * a->from_row_bytes, cols);
        known = places_of_row(e, row, t);
    }
    rng r;
    rng_seed(&r, (uint64_t)(e - a->q->e), row);
    for (size_t at = 0; at < cols; at += n) {
        quant_grid_scales s;
        scales_at(e, row, at, &s);
        for (size_t i = 0; i < n; i++) {
            float place = known ? t[at + i] : (float)(2 * rng_double(&r) - 1);
            if (a->q->o.keep_zeros && x[at + i] == 0) continue;
            x[at + i] += fmaxf(-QAT_SEAT_MOST, fminf(QAT_SEAT_MOST, place)) * qat_cell(e, &s, i, x[at + i]);
        }
    }
}

static void seat_part(void *arg, int ith, int nth) {
    const struct seating *a = arg;
    size_t from, to;
    pool_share(a->e->rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) seat_row(a, r, a->places + (size_t)ith * a->e->p->v.cols);
}

/* The same tensor of the model before rounding: of the same shape, in a format that can be read. */
static const tensor_info *before(const qat *q, const qat_entry *e, size_t *row_bytes) {
    char name[160];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(e->p->info->name));
    const tensor_info *t = q->o.before ? model_file_find_tensor(q->o.before, name) : NULL;
    const quant_format *f = t ? quant_get((int)t->type) : NULL;
    if (!f || !f->decode || t->n_dims != e->p->info->n_dims || memcmp(t->ne, e->p->info->ne, sizeof t->ne) != 0 || t->form != e->p->info->form) return NULL;
    return quant_row_bytes(f, e->p->v.cols, row_bytes, NULL) == MOTE_OK ? t : NULL;
}

mote_status qat_seat(const qat *q, const qat_entry *e, mote_error *err) {
    struct seating a = {.q = q, .e = e};
    a.from = before(q, e, &a.from_row_bytes);
    a.places = mem_alloc_aligned((size_t)pool_size(q->p) * e->p->v.cols * sizeof(float));
    if (!a.places) FAIL(err, MOTE_E_MEMORY, "out of memory for the places of '%.*s'", STR_ARG(e->p->info->name));
    pool_run(q->p, seat_part, &a);
    mem_free_aligned(a.places);
    return MOTE_OK;
}
