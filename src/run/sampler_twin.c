/* sampler_twin.c: a second sampler in the state of a first. A draft model guesses with it: equal random numbers
 * make equal distributions draw equal tokens. It shares what never changes and has what a draw writes to. */
#include "run/sampler.h"

mote_status sampler_twin_open(mote_sampler **out, const mote_sampler *of, mote_error *err) {
    *out = NULL;
    mote_sampler *t = MEM_NEW(mote_sampler);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory for a sampler's twin");
    *t = *of;
    t->o.logprobs = false;
    t->n_top = 0;
    t->top = NULL;
    t->forced = MEM_NEW_N(int32_t, HEAD_FORCED_MAX);
    t->work = MEM_NEW_N(float, of->n_vocab);
    t->c = MEM_NEW_N(cand, of->n_vocab);
    t->hist = of->hist ? MEM_NEW_N(int32_t, 2 * of->hist_cap) : NULL;
    t->count = of->count ? MEM_NEW_N(uint32_t, of->n_vocab) : NULL;
    t->stamp = of->stamp ? MEM_NEW_N(uint32_t, of->n_vocab) : NULL;
    t->stamp_now = 0;
    t->dry_len = of->dry_len ? MEM_NEW_N(uint32_t, of->n_vocab) : NULL;
    t->dry_z = of->dry_z ? MEM_NEW_N(uint32_t, of->dry_n) : NULL;
    t->dry_hit = of->dry_hit ? MEM_NEW_N(int32_t, of->dry_n) : NULL;
    bool whole = t->forced && t->work && t->c && !t->hist == !of->hist && !t->count == !of->count &&
                 !t->stamp == !of->stamp && !t->dry_len == !of->dry_len && !t->dry_z == !of->dry_z &&
                 !t->dry_hit == !of->dry_hit;
    if (!whole) {
        sampler_twin_free(t);
        FAIL(err, MOTE_E_MEMORY, "out of memory for a sampler's twin");
    }
    sampler_twin_sync(t, of);
    *out = t;
    return MOTE_OK;
}

void sampler_twin_sync(mote_sampler *t, const mote_sampler *of) {
    t->draw_rng = of->draw_rng;
    t->xtc_rng = of->xtc_rng;
    t->mu = of->mu;
    t->hist_begin = 0;
    t->n_hist = of->n_hist;
    t->n_counted = of->n_counted;
    if (of->n_hist) memcpy(t->hist, of->hist + of->hist_begin, of->n_hist * sizeof *of->hist);
    if (of->count) memcpy(t->count, of->count, of->n_vocab * sizeof *of->count);
}

void sampler_twin_free(mote_sampler *t) {
    if (!t) return;
    void *parts[] = {t->forced, t->work, t->c, t->hist, t->count, t->stamp, t->dry_len, t->dry_z, t->dry_hit, t};
    for (size_t i = 0; i < COUNT_OF(parts); i++) mem_free(parts[i]);
}
