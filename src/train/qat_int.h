/* qat_int.h: the inside of qat.c, shared with qat_state.c. */
#ifndef MOTE_TRAIN_QAT_INT_H
#define MOTE_TRAIN_QAT_INT_H

#include "quant/grid.h"
#include "train/qat.h"

#include <math.h>

/* A tensor on a grid. Scales are trained as what they are times: d = d0 (1 + a), m = m0 + u c, with a and c 0 at first, so that a learning
 * rate means the same in every format. u is d0, or m0 in super-blocks. */
typedef struct qat_entry {
    param *p;
    size_t row0, rows;       /* of it: all but for an embedding in parts (qat_opts) */
    char tensor[96];         /* the name in the file */
    const quant_format *f;
    const quant_grid *grid;  /* NULL: encoded anew each time */
    size_t row_bytes, n_blocks;
    unsigned char *bytes;    /* all blocks; scales are always up to date, levels when `levels` says so */
    float *latent, *rounded; /* the rows' own values; what passes use (of all parts one block, the first one's) */
    float *d0, *m0;          /* [n_blocks] */
    var by;                  /* [1 or 2, n_blocks] a, and c */
    char name[96];
} qat_entry;

struct qat {
    net *n;
    pool *p;
    qat_opts o;
    qat_entry *e;
    size_t count;
    bool stale, inside;
};

static inline size_t qat_weights(const qat_entry *e) { return e->rows * e->p->v.cols; }

/* qat_seat.c: gives the latents of a tensor that begins with its own blocks places in their cells. E_MEMORY. */
mote_status qat_seat(const qat *q, const qat_entry *e, mote_error *err);
/* The width of the cell of weight i of a block, which stands in its middle as x; of levels in a table, to the nearer neighbour. With the sign of the scale. */
float qat_cell(const qat_entry *e, const quant_grid_scales *s, size_t i, float x);
#define QAT_SEAT_MOST 0.45f /* of a cell's width, from its middle: how far from there a weight is put */

/* quant_grid_place, inline where levels are neighbouring integers: it is asked once for each weight in each step. */
static inline int qat_place(const quant_grid *g, float t) {
    if (g->table || g->step != 1) return quant_grid_place(g, t);
    t = t > (float)g->lo ? t : (float)g->lo; /* NaN: lo */
    t = t < (float)g->hi ? t : (float)g->hi;
    return (int)lrintf(t) - g->lo;
}

static inline float qat_inverse(float scale) { return scale > 1e-30f || scale < -1e-30f ? 1 / scale : 0; }

#endif
