/* budget_choose.c: the allocation itself: convex hulls and the best steps first, which is Lagrange's condition for sums
 * (Everett 1963; Shoham and Gersho 1988): at the end one more byte would save about the same everywhere. */
#include "compress/budget.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b) {
    const budget_point *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return (x->type > y->type) - (x->type < y->type);
}

/* What a byte saves between two points. */
static double slope(const budget_point *a, const budget_point *b) {
    return (a->cost - b->cost) / (double)(b->bytes - a->bytes);
}

size_t budget_hull(budget_point *p, size_t n) {
    size_t kept = 0;
    qsort(p, n, sizeof *p, by_size);
    for (size_t i = 0; i < n; i++) {
        if (kept && (p[i].bytes == p[kept - 1].bytes || !(p[i].cost < p[kept - 1].cost))) continue;
        while (kept > 1 && slope(&p[kept - 2], &p[kept - 1]) <= slope(&p[kept - 1], &p[i])) kept--;
        p[kept++] = p[i];
    }
    return kept;
}

bool budget_choose(const budget_point *p, const size_t *first, size_t n, uint64_t bytes, size_t *chosen, uint64_t *least) {
    uint64_t used = 0;
    for (size_t i = 0; i < n; i++) {
        chosen[i] = first[i];
        used += p[first[i]].bytes;
    }
    *least = used;
    if (used > bytes) return false;
    for (;;) {
        size_t best = SIZE_MAX;
        double most = 0;
        for (size_t i = 0; i < n; i++) {
            if (chosen[i] + 1 >= first[i + 1]) continue;
            const budget_point *now = &p[chosen[i]], *next = now + 1;
            if (next->bytes - now->bytes > bytes - used || !(slope(now, next) > most)) continue;
            most = slope(now, next);
            best = i;
        }
        if (best == SIZE_MAX) return true;
        used += p[chosen[best] + 1].bytes - p[chosen[best]].bytes;
        chosen[best]++;
    }
}
