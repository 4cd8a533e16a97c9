/* spec_cost.c: which guesses pay.
 *
 * With p_i the chance that the i-th guess comes true when those before it did, a pass with n guesses gives
 * E(n) = 1 + p_1 + p_1 p_2 + … + p_1 … p_n tokens (Leviathan et al. 2023, §3.1, with p that differ) and takes
 * T(n). Plain decoding gives one token in T(0). The n with the most tokens per time is chosen if it beats that
 * by a margin for what measurements are worth.
 *
 * The ledger is what "never loses" rests on, since means may be wrong: passes are booked with the time they
 * took against the time their tokens would have taken one by one. Who is in debt by more than a share of all
 * time spent may not guess. */
#include "run/spec.h"

#define MARGIN 1.03          /* expected gain below which nothing is tried */
#define STEP 0.3             /* what having several rows takes, in t1, where nothing is measured: their logits … */
#define SLOPE 0.1            /* … are all computed; and what a further row takes */
#define STALE 512            /* passes after which a measurement is no longer believed */
#define PLAIN_EVERY 128      /* one pass in so many is plain at least, so that t1 is fresh */
#define LOSS_SHARE 0.01      /* of the time spent may be lost */
#define LOSS_PASSES 2        /* and so many t1 on top, to begin with */
#define BALANCE_PASSES 16    /* time won, in t1, that may be lost again */

void spec_odds_hear(spec_odds *o, unsigned level, bool hit) {
    uint32_t n = MIN(o->n[level] + 4, o->memory); /* the prior counts as three guesses */
    if (o->n[level] < o->memory) o->n[level]++;
    o->p[level] += ((float)hit - o->p[level]) / (float)n;
}

void spec_cost_pass(spec_cost *c, size_t rows, double ns) {
    c->passes++;
    if (rows > SPEC_ROWS) return;
    if (rows == 1) {
        c->plain_at = c->passes;
        if (c->n_t1++ < 2) { /* the first is slowed down by everything that is cold */
            c->t1 = ns;
            return;
        }
        double x = MIN(MAX(ns, c->t1 / 2), c->t1 * 2); /* who else runs on the machine is not our speed */
        c->t1 += (x - c->t1) / MIN(c->n_t1, 16);
        return;
    }
    if (c->t1 <= 0) return;
    double ratio = MAX(ns / c->t1, 1);
    bool fresh = c->n[rows] == 0 || c->passes - c->at[rows] > STALE;
    if (fresh) c->n[rows] = 0;
    if (++c->n[rows] > 2) ratio = MIN(ratio, 2 * c->ratio[rows]);
    c->ratio[rows] = fresh ? ratio : c->ratio[rows] + (ratio - c->ratio[rows]) / MIN(c->n[rows], 8);
    c->at[rows] = c->passes;
}

static bool known(const spec_cost *c, size_t rows) {
    return rows == 1 || (c->n[rows] && c->passes - c->at[rows] <= STALE);
}

double spec_cost_of(const spec_cost *c, size_t rows) {
    rows = MIN(rows, (size_t)SPEC_ROWS);
    size_t below = rows, above = rows;
    while (!known(c, below)) below--;
    while (above <= SPEC_ROWS && !known(c, above)) above++;
    double low = below == 1 ? 1 : c->ratio[below];
    if (below == rows) return low * c->t1;
    double guess = low + SLOPE * (double)(rows - below) + (below == 1 ? STEP : 0);
    if (above <= SPEC_ROWS) {
        double slope = (c->ratio[above] - low) / (double)(above - below);
        guess = low + MAX(slope, 0) * (double)(rows - below);
    }
    return guess * c->t1;
}

static void book(spec_cost *c, double won, double ns) {
    c->spent += ns;
    c->saved += won;
    c->balance = MIN(c->balance + won, BALANCE_PASSES * c->t1);
}

void spec_cost_book(spec_cost *c, size_t tokens, double ns) { book(c, (double)tokens * c->t1 - ns, ns); }
void spec_cost_waste(spec_cost *c, double ns) {
    c->wasted += ns;
    book(c, -ns, ns);
}

bool spec_cost_allows(const spec_cost *c, double ns) {
    return c->n_t1 > 2 && c->balance + LOSS_SHARE * c->spent + LOSS_PASSES * c->t1 >= ns;
}

size_t spec_cost_choose(const spec_cost *c, const spec_odds *o, const proposal *p, size_t rows, double extra,
                        double *speed) {
    double chance = 1, tokens = 1, plain = c->t1 / spec_cost_of(c, rows), best = plain * MARGIN;
    size_t n = 0;
    *speed = plain;
    if (c->n_t1 <= 2 || c->passes - c->plain_at >= PLAIN_EVERY) return 0;
    for (size_t i = 0; i < p->n; i++) {
        chance *= (double)o->p[p->level[i]];
        tokens += chance;
        double s = tokens * c->t1 / (spec_cost_of(c, rows + i + 1) + extra);
        if (s <= best) continue;
        best = *speed = s;
        n = i + 1;
    }
    return n;
}
