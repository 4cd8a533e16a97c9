/* budget_choose.c: the allocation itself: a knapsack of which every tensor takes one point. What is above the smallest points is counted in
 * portions, and for each number of them the least cost is kept, tensor by tensor (dynamic programming; Sinha and Zoltners 1979 name the
 * problem). What rounding to portions left is spent on the best steps that fit.
 *
 * Where tensors are many and alike, the best steps first (Everett 1963; Shoham and Gersho 1988) come as near; where one holds half of the model
 * (an embedding of a large vocabulary) they stop at a step of it that no longer fits, and a twentieth of the budget stays unused. */
#include "compress/budget.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PORTIONS = 1 << 14 };

static int by_size(const void *a, const void *b) {
    const budget_point *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return (x->type > y->type) - (x->type < y->type);
}

size_t budget_front(budget_point *p, size_t n) {
    size_t kept = 0;
    qsort(p, n, sizeof *p, by_size);
    for (size_t i = 0; i < n; i++)
        if (!kept || p[i].cost < p[kept - 1].cost) p[kept++] = p[i];
    return kept;
}

typedef struct choice {
    const budget_point *p;
    const size_t *first;
    size_t n;
} choice;

/* Takes the steps that save most per byte, as long as one fits into `left`. */
static void spend(const choice *c, uint64_t left, size_t *chosen) {
    for (;;) {
        size_t best = SIZE_MAX, to = 0;
        double most = 0;
        for (size_t i = 0; i < c->n; i++) {
            const budget_point *now = &c->p[chosen[i]];
            for (size_t k = chosen[i] + 1; k < c->first[i + 1] && c->p[k].bytes - now->bytes <= left; k++) {
                double saves = (now->cost - c->p[k].cost) / (double)(c->p[k].bytes - now->bytes);
                if (!(saves > most)) continue;
                most = saves;
                best = i;
                to = k;
            }
        }
        if (best == SIZE_MAX) return;
        left -= c->p[to].bytes - c->p[chosen[best]].bytes;
        chosen[best] = to;
    }
}

static uint64_t bytes_of(const choice *c, const size_t *chosen) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->n; i++) bytes += c->p[chosen[i]].bytes;
    return bytes;
}

static double cost_of(const choice *c, const size_t *chosen) {
    double cost = 0;
    for (size_t i = 0; i < c->n; i++) cost += c->p[chosen[i]].cost;
    return cost;
}

/* chosen: the least cost with `room` bytes above the smallest points, each point's bytes rounded up to portions. */
static mote_status knapsack(const choice *c, uint64_t room, size_t *chosen, mote_error *err) {
    const uint64_t portion = room / PORTIONS + 1;
    const size_t most = (size_t)(room / portion), row = most + 1;
    double *cost = MEM_NEW_N(double, 2 * row);
    unsigned char *took = mem_calloc(c->n, row); /* [tensors, portions] which of its points */
    if (!cost || !took) {
        mem_free(cost);
        mem_free(took);
        FAIL(err, MOTE_E_MEMORY, "out of memory for the formats of %zu tensors", c->n);
    }
    double *was = cost, *now = cost + row;
    memset(was, 0, row * sizeof *was);
    for (size_t i = 0; i < c->n; i++) {
        for (size_t b = 0; b < row; b++) now[b] = HUGE_VAL;
        for (size_t k = c->first[i]; k < c->first[i + 1]; k++) {
            const uint64_t needs = (c->p[k].bytes - c->p[c->first[i]].bytes + portion - 1) / portion;
            for (size_t b = (size_t)MIN(needs, (uint64_t)row); b < row; b++) {
                double with = was[b - (size_t)needs] + c->p[k].cost;
                if (!(with < now[b])) continue;
                now[b] = with;
                took[i * row + b] = (unsigned char)(k - c->first[i]);
            }
        }
        double *turn = was;
        was = now;
        now = turn;
    }
    size_t at = most;
    for (size_t i = c->n; i-- > 0;) {
        chosen[i] = c->first[i] + took[i * row + at];
        at -= (size_t)((c->p[chosen[i]].bytes - c->p[c->first[i]].bytes + portion - 1) / portion);
    }
    mem_free(cost);
    mem_free(took);
    return MOTE_OK;
}

mote_status budget_choose(const budget_point *p, const size_t *first, size_t n, uint64_t bytes, size_t *chosen, uint64_t *least, mote_error *err) {
    const choice c = {p, first, n};
    size_t *steps = MEM_NEW_N(size_t, n ? n : 1);
    mote_status st = MOTE_OK;
    if (!steps) FAIL(err, MOTE_E_MEMORY, "out of memory for the formats of %zu tensors", n);
    memcpy(steps, first, n * sizeof *steps);
    *least = bytes_of(&c, steps);
    if (*least > bytes) FAILG(st, err, MOTE_E_RANGE, "%llu bytes are too few: the least is %llu", (unsigned long long)bytes, (unsigned long long)*least);
    TRYG(st, knapsack(&c, bytes - *least, chosen, err));
    spend(&c, bytes - bytes_of(&c, chosen), chosen);
    spend(&c, bytes - *least, steps);
    if (cost_of(&c, steps) < cost_of(&c, chosen)) memcpy(chosen, steps, n * sizeof *steps);
out:
    mem_free(steps);
    return st;
}
