/* qat_take.c: the scales of a model that was trained before, in the same formats or in others.
 *
 * Scales that a run has learned are worth most of what it has learned: SmolLM2 in three bits whose scales are fitted to its trained weights anew stands at a
 * divergence of 1.9, where it stood at 0.39. So a row that the model before has in the same format keeps its scales. And its rounded weights are what was
 * trained, not those before rounding, which stand anywhere in their cells: read in finer steps, those are worse (0.449 for 0.366 with the first 512 rows
 * of the embedding in eight bits). So a row in another format begins near the rounded ones: with half of each scale where the new grid has all levels of the
 * old one, exactly there; else as its encoder rounds them. */
#include "train/qat_int.h"

#include <math.h>
#include <string.h>

struct row_room {
    unsigned char *blocks;
    float *y;
};

struct taking {
    const qat *q;
    const qat_entry *e;
    const model_file *from;
    unsigned char *blocks; /* [threads, row_bytes] */
    float *y;              /* [threads, cols] */
};

/* The row's blocks in the model before: of its tensor, or of the part of the embedding that has it. NULL: there is none of that width. */
static const unsigned char *row_before(const struct taking *a, size_t row, const quant_format **f) {
    const param *p = a->e->p;
    const tensor_info *parts[MODEL_FILE_PARTS_MAX] = {0};
    size_t bytes, n = a->e->row0 || a->q->o.parts.n ? model_file_parts(a->from, parts) : 0;
    char name[160];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(p->info->name));
    const tensor_info *t = n && str_is(p->info->name, model_file_part_name(0)) ? parts[0] : model_file_find_tensor(a->from, name);
    row += a->e->row0;
    for (size_t i = 0; t && t == parts[i] && row >= t->ne[1] && i + 1 < n; t = parts[++i]) row -= (size_t)t->ne[1];
    *f = t ? quant_get((int)t->type) : NULL;
    if (!*f || t->ne[0] != p->v.cols || quant_row_bytes(*f, p->v.cols, &bytes, NULL) != MOTE_OK || t->size / bytes <= row) return NULL;
    return t->data + row * bytes;
}

/* Every level of `old` is one of `now` at half the scale. */
static bool halves(const quant_grid *now, const quant_grid *old) {
    return old && old->block == now->block && old->group == now->group && !now->table && !old->table && now->step == 1 && old->step == 1 && !now->minimum && !old->minimum &&
           now->lo == 2 * old->lo && now->hi == 2 * old->hi + 1;
}

/* Puts the weights of a block where their levels are the nearest to y, and as near as they can to where they were. */
static void seat_block(const qat_entry *e, const quant_grid_scales *s, float *w, const float *y) {
    const quant_grid *g = e->grid;
    for (size_t i = 0; i < g->block; i++) {
        const float scale = s->d * s->a[i / g->group], off = s->m * s->b[i / g->group];
        const float at = quant_grid_value(g, scale, off, quant_grid_place(g, (y[i] - off) * qat_inverse(scale)));
        const float most = QAT_SEAT_MOST * fabsf(qat_cell(e, s, i, at)), far = w[i] - at;
        w[i] = at + fmaxf(-most, fminf(most, far)); /* NaN: -most */
    }
}

static void take_row(const struct taking *a, size_t row, struct row_room *room) {
    const qat_entry *e = a->e;
    const size_t cols = e->p->v.cols, n = cols / e->f->block;
    const quant_format *f;
    const unsigned char *old = row_before(a, row, &f);
    const bool same = old && f->type == e->f->type, half = old && !same && halves(e->grid, quant_grid_of(f->type));
    float *w = e->latent + row * cols;
    const bool fits = old && f->decode && e->grid->block < QUANT_GRID_BLOCK /* else inner scales would have to be taken as well */ && a->q->o.kind == QAT_WEIGHTS;
    if (!same && !fits) return;
    if (!same) f->decode(room->y, old, cols);
    if (!same && !half) {
        e->f->encode(room->blocks, room->y, cols, NULL);
        old = room->blocks, f = e->f;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t b = row * n + i;
        const float d0 = e->d0[b], u = e->grid->block == QUANT_GRID_BLOCK ? e->m0[b] : d0;
        quant_grid_scales s;
        quant_grid_read(quant_grid_of(f->type), old + i * f->bytes, &s);
        if (half) s.d *= 0.5f;
        if (d0 != 0) e->by.x[b] = s.d / d0 - 1;
        if (e->grid->minimum && u != 0) e->by.x[e->n_blocks + b] = (s.m - e->m0[b]) / u;
        if (!same && d0 != 0) seat_block(e, &s, w + i * e->f->block, room->y + i * e->f->block);
    }
}

static void take_part(void *arg, int ith, int nth) {
    const struct taking *a = arg;
    size_t from, to;
    pool_share(a->e->rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) take_row(a, r, &(struct row_room){a->blocks + (size_t)ith * a->e->row_bytes, a->y + (size_t)ith * a->e->p->v.cols});
}

mote_status qat_take_scales(qat *q, const model_file *from, mote_error *err) {
    const size_t threads = (size_t)pool_size(q->p);
    mote_status st = MOTE_OK;
    for (size_t i = 0; i < q->count && st == MOTE_OK; i++) {
        struct taking a = {.q = q, .e = &q->e[i], .from = from};
        if (!a.e->grid || !a.e->grid->outer || q->o.fixed_scales) continue;
        a.blocks = mem_alloc_aligned(threads * a.e->row_bytes);
        a.y = mem_alloc_aligned(threads * a.e->p->v.cols * sizeof(float));
        if (a.blocks && a.y) pool_run(q->p, take_part, &a);
        else st = ERR(err, MOTE_E_MEMORY, "out of memory for the scales of '%s'", a.e->tensor);
        mem_free_aligned(a.blocks);
        mem_free_aligned(a.y);
    }
    qat_changed(q);
    return st;
}
