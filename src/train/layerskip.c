/* layerskip.c: see layerskip.h. */
#include "train/layerskip.h"

#include "train/net_int.h"

#include <math.h>

enum { TURNS = 4 /* an inner layer's turn comes in every so many-th part of the layers */ };

double layerskip_chance(const layerskip *s, size_t l, size_t n, uint64_t at) {
    if (n < 2) return 0;
    double by_layer = exp2((double)l / (double)(n - 1)) - 1;
    double by_time = s->rising && s->steps > 1 ? exp2((double)at / (double)(s->steps - 1)) - 1 : 1;
    return fmin(s->dropout * by_layer * by_time, 1);
}

/* Before it is known what all of them sum to. Layers speak in turns: one in every R steps. */
static double raw_share(const layerskip *s, size_t l, size_t n, uint64_t at) {
    size_t turns = MAX(n / TURNS, (size_t)1);
    double last = (double)(n - 1);
    if (l + 1 == n) return fmax(last + s->exit * (last - 1) * last / 2, 1e-9);
    return l % turns == (size_t)(at % turns) ? s->exit * (double)l * (double)(l + 1) / 2 : 0;
}

double layerskip_share(const layerskip *s, size_t l, size_t n, uint64_t at) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += raw_share(s, i, n, at);
    return raw_share(s, l, n, at) / sum;
}

/* Which layers are left out: by the seed, the step and the part alone, so that a run that goes on draws the same. */
static bool *draw(layerskip *s, tape *t, size_t n, uint64_t at) {
    if (s->at != at) s->part = 0;
    s->at = at;
    bool *skip = tape_mem(t, (n + 1) * sizeof *skip);
    rng r;
    rng_seed(&r, s->seed + at, 2048 + (uint64_t)s->rank + 65536 * (uint64_t)s->part++);
    for (size_t l = 0; skip && l < n; l++) skip[l] = rng_double(&r) < layerskip_chance(s, l, n, at);
    return skip;
}

var *layerskip_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err) {
    layerskip *s = ctx;
    size_t n = net_model(s->n)->hp.n_layer;
    uint64_t at = trainer_at(s->t);
    ad_head head = net_head(s->n);
    net_inside in = {.layers = tape_mem(t, (n + 1) * sizeof(var *)), .skip = draw(s, t, n, at)};
    (void)err;
    if (!in.layers || !in.skip) return NULL;
    const net_pass pass = {.n = s->n, .t = t, .s = &b->seqs};
    var *own = net_hidden(s->n, t, b->ids, &b->seqs, &in), *sum = NULL;
    for (size_t l = n; l-- > 0;) {
        float share = (float)layerskip_share(s, l, n, at);
        if (!(share > 0)) continue;
        var *h = l + 1 == n ? own : net_norm_global(&pass, R_OUTPUT_NORM, in.layers[l + 1]);
        var *loss = ad_cross_entropy(t, h, &head, &(ad_targets){.target = b->target, .weights = b->weights, .sum_weight = sum_weight, .fused = share});
        sum = sum ? ad_add_scaled(t, sum, loss, share) : ad_scale(t, loss, share);
        if (!sum) return NULL;
    }
    return sum;
}
