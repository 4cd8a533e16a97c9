/* grid.h: the levels of a format under scales that are already chosen.
 *
 * Methods that decide weight by weight (GPTQ, learned rounding, training through the quantizer) need to know which values a
 * weight may take, and to write the values they chose. A format has a grid when its scales can be fixed first: then
 *     weight = (d a) level + m b
 * with d and m of the block (m: formats with a minimum), a and b of a group of weights inside it, and the level one of
 * lo..hi or of a table. The float arithmetic is decode's own, so what is written decodes to exactly the value chosen. */
#ifndef MOTE_QUANT_GRID_H
#define MOTE_QUANT_GRID_H

#include "quant/quant_int.h"

#include <stdbool.h>

enum { QUANT_GRID_GROUPS = 16 /* at most in a block */, QUANT_GRID_BLOCK = 256 /* weights in a block, at most */ };

typedef struct quant_grid {
    quant_type type;
    uint16_t block, group;  /* weights */
    int16_t lo, hi, step;   /* levels: every step-th integer of lo..hi, or … */
    const int8_t *table;    /* … these 16, ascending from lo to hi; NULL: integers */
    bool zero;              /* 0 is a level of every group: pruned weights can be expressed */
    bool outer, minimum;    /* d can be set; so can m */
} quant_grid;

/* NULL when the format has none (floats, codebooks). */
const quant_grid *quant_grid_of(int type);

/* A block's scales. */
typedef struct quant_grid_scales {
    float d, m;
    float a[QUANT_GRID_GROUPS], b[QUANT_GRID_GROUPS];
} quant_grid_scales;
void quant_grid_read(const quant_grid *g, const void *block, quant_grid_scales *out);
/* Sets d (and m, where there is one) to the nearest halves; *d, *m become what they are now. For formats with `outer`. */
void quant_grid_set(const quant_grid *g, void *block, float *d, float *m);
/* Sets the levels of a block: places[j] is (level - lo) / step, or the place in the table. The scales stay. */
void quant_grid_put(const quant_grid *g, void *block, const uint8_t *places);

static inline float quant_grid_level(const quant_grid *g, int place) {
    return g->table ? (float)g->table[place] : (float)(g->lo + g->step * place);
}
/* Whether t lies within the levels, half a step at the ends included: where a gradient passes the rounding. */
static inline bool quant_grid_inside(const quant_grid *g, float t) {
    float half = 0.5f * (float)g->step;
    return t >= (float)g->lo - half && t <= (float)g->hi + half;
}
/* The value of the level at `place`. scale: d a, off: m b. */
static inline float quant_grid_value(const quant_grid *g, float scale, float off, int place) {
    return scale * quant_grid_level(g, place) + off;
}
/* The place of the level nearest to t = (w - off) / scale. NaN: the level nearest to 0. */
int quant_grid_place(const quant_grid *g, float t);
static inline int quant_grid_places(const quant_grid *g) { return g->table ? 16 : (g->hi - g->lo) / g->step + 1; }

#endif
