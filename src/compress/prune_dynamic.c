/* prune_dynamic.c: feed-forwards of which each token uses a part (model/dynamic.h).
 *
 * The neurons of a layer are put in another order, which changes nothing, so that those that are needed together lie in one group:
 * balanced k-means over what each gives to each token of a text (|h_j| ‖down_·j‖), beginning with groups of like size. Thresholds
 * come from the text too. Layers do not leave out alike: the step that costs least of the stream's energy comes first. */
#include "compress/prune_neurons.h"
#include "model/dynamic.h"

#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 6, STEPS = 32 };

/* A layer's neurons, their new order, and what shares of them are worth. */
typedef struct watched {
    const neurons *s;      /* l NULL: left alone */
    float *scales;         /* [n_ff]; as dynamic.h, in the layer's old order */
    uint32_t *order;       /* [n_ff] new order: group g is the 32 from 32 g on */
    double lost[STEPS + 1]; /* energy of what is left out, share by share, as a part of the stream's */
    float cut[STEPS + 1];   /* the threshold for it */
} watched;

typedef struct dynamic {
    prune *p;
    neurons *seen;         /* [n_layer] */
    watched *layers;       /* [n_layer] */
    double *stream;        /* [n_layer] mean square of the stream behind the layer */
    bool in_order;
    bool failed;           /* out of memory in a thread */
} dynamic;

/* scales: what is known once the sizes of down's columns are. */
static void weigh(watched *w) {
    const neurons *s = w->s;
    const size_t n_ff = s->l->n_ff;
    for (size_t j = 0; j < n_ff; j++) {
        double up = 0;
        for (size_t i = 0; i < s->n; i++) up += (double)s->u[i * n_ff + j] * (double)s->u[i * n_ff + j];
        w->scales[j] = (float)(sqrt(up / (double)s->n) * (double)s->size[j]);
        w->order[j] = (uint32_t)j;
    }
}

/* ---- groups ---- */
static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* What a threshold for each share leaves out of w in its order, and what that loses. score, give: room for [samples, groups]. */
static void judge(const dynamic *d, watched *w, const uint32_t *order, float *score, float *sorted, float *give, float cut[STEPS + 1],
                  double lost[STEPS + 1]) {
    const size_t n_ff = w->s->l->n_ff, groups = n_ff / DYNAMIC_GROUP, n = w->s->n * groups;
    for (size_t i = 0; i < w->s->n; i++) {
        for (size_t g = 0; g < groups; g++) {
            float s = 0, e = 0;
            for (size_t j = g * DYNAMIC_GROUP; j < (g + 1) * DYNAMIC_GROUP; j++) {
                const float a = w->s->a[i * n_ff + order[j]] * w->scales[order[j]], h = w->s->give[order[j] * w->s->n + i];
                s += a * a;
                e += h * h;
            }
            score[i * groups + g] = sorted[i * groups + g] = s;
            give[i * groups + g] = e;
        }
    }
    qsort(sorted, n, sizeof *sorted, ascending);
    const double whole = MAX(d->stream[w->s->l->index], 1e-30) * (double)w->s->n;
    for (size_t s = 0; s <= STEPS; s++) {
        cut[s] = s ? sorted[MIN(n * s / STEPS, n - 1)] : 0;
        lost[s] = 0;
        for (size_t i = 0; i < n; i++) lost[s] += score[i] < cut[s] ? (double)give[i] / whole : 0;
    }
}

typedef struct grouping {
    const dynamic *d;
    watched *w;
    size_t at; /* the step that counts */
    float *score; /* [3, samples, groups] */
} grouping;

static void attempt(void *ctx, const uint32_t *order) {
    const grouping *g = ctx;
    watched *w = g->w;
    const size_t n = w->s->n * (w->s->l->n_ff / DYNAMIC_GROUP);
    double lost[STEPS + 1];
    float cut[STEPS + 1];
    judge(g->d, w, order, g->score, g->score + n, g->score + 2 * n, cut, lost);
    if (order != w->order && !(lost[g->at] < w->lost[g->at])) return;
    if (order != w->order) memcpy(w->order, order, w->s->l->n_ff * sizeof *order);
    memcpy(w->cut, cut, sizeof cut);
    memcpy(w->lost, lost, sizeof lost);
}

static bool group_layer(const dynamic *d, watched *w, double share) {
    const size_t n_ff = w->s->l->n_ff;
    grouping g = {d, w, (size_t)(share * STEPS + 0.5), MEM_NEW_N(float, 3 * w->s->n * (n_ff / DYNAMIC_GROUP))};
    uint32_t *all = MEM_NEW_N(uint32_t, n_ff);
    bool ok = g.score && all;
    if (ok) {
        memcpy(all, w->order, n_ff * sizeof *all);
        attempt(&g, w->order); /* as they lie */
        ok = d->in_order || neurons_group(d->p->m->kern, w->s, all, n_ff, DYNAMIC_GROUP, ROUNDS, attempt, &g);
    }
    mem_free(g.score);
    mem_free(all);
    return ok;
}

static void group_layers(void *arg, int ith, int nth) {
    dynamic *d = arg;
    for (size_t il = (size_t)ith; il < d->p->m->hp.n_layer; il += (size_t)nth)
        if (d->layers[il].s->l && !group_layer(d, &d->layers[il], d->p->o->dynamic)) d->failed = true;
}

/* ---- thresholds ---- */
/* levels[n_layer, DYNAMIC_LEVELS]: for every mean share, how much each layer leaves out: always the step that loses least. */
static void allot(const dynamic *d, float *levels, size_t *steps) {
    const size_t n_layer = d->p->m->hp.n_layer;
    size_t live = 0, done = 0;
    for (size_t il = 0; il < n_layer; il++) live += d->layers[il].s->l != NULL, steps[il] = 0;
    for (size_t v = 1; v < DYNAMIC_LEVELS; v++) {
        for (; done < v * live * STEPS / (DYNAMIC_LEVELS - 1); done++) {
            size_t best = SIZE_MAX;
            double least = 0;
            for (size_t il = 0; il < n_layer; il++) {
                const watched *w = &d->layers[il];
                if (!w->s->l || steps[il] == STEPS) continue;
                double more = w->lost[steps[il] + 1] - w->lost[steps[il]];
                if (best == SIZE_MAX || more < least) best = il, least = more;
            }
            steps[best]++;
        }
        for (size_t il = 0; il < n_layer; il++)
            if (d->layers[il].s->l) levels[il * DYNAMIC_LEVELS + v] = d->layers[il].cut[steps[il]];
    }
}

static mote_status set_floats(prune *p, const char *key, const float *v, size_t n, mote_error *err) {
    const kv k = {.key = str_of(key), .type = KV_ARRAY, .elem = KV_F32, .count = n, .elems = (const unsigned char *)v};
    return edit_set_kv(p->edit, &k, err);
}

static mote_status set_keys(dynamic *d, mote_error *err) {
    prune *p = d->p;
    const size_t n_layer = p->m->hp.n_layer;
    float *levels, *scales;
    size_t *steps, n = 0;
    for (size_t il = 0; il < n_layer; il++) n += p->m->layers[il].n_ff;
    TRY(prune_alloc(p, n_layer * DYNAMIC_LEVELS, sizeof *levels, &levels, err));
    TRY(prune_alloc(p, n, sizeof *scales, &scales, err));
    TRY(prune_alloc(p, n_layer, sizeof *steps, &steps, err));
    allot(d, levels, steps);
    n = 0;
    for (size_t il = 0; il < n_layer; il++) {
        const watched *w = &d->layers[il];
        for (size_t j = 0; w->s->l && j < w->s->l->n_ff; j++) scales[n + j] = w->scales[w->order[j]];
        n += p->m->layers[il].n_ff;
    }
    TRY(edit_set_u32(p->edit, DYNAMIC_KEY_GROUP, DYNAMIC_GROUP, err));
    TRY(edit_set_f32(p->edit, DYNAMIC_KEY_SHARE, (float)p->o->dynamic, err));
    TRY(set_floats(p, DYNAMIC_KEY_SCALES, scales, n, err));
    return set_floats(p, DYNAMIC_KEY_LEVELS, levels, n_layer * DYNAMIC_LEVELS, err);
}

/* ---- the step ---- */
static mote_status choose_layers(dynamic *d, mote_error *err) {
    prune *p = d->p;
    const size_t n_layer = p->m->hp.n_layer;
    TRY(prune_alloc(p, n_layer, sizeof *d->layers, &d->layers, err));
    TRY(prune_alloc(p, n_layer, sizeof *d->seen, &d->seen, err));
    TRY(prune_alloc(p, n_layer, sizeof *d->stream, &d->stream, err));
    size_t n = 0;
    for (size_t il = 0; il < n_layer; il++) {
        const layer *l = &p->m->layers[il];
        d->seen[il] = (neurons){0};
        d->layers[il] = (watched){.s = &d->seen[il]};
        if (l->ffn != &block_ffn || !has(l, R_FFN_GATE) || l->n_ff % DYNAMIC_GROUP || p->m->arch->act == ACT_SWIGLU_OAI) continue;
        d->seen[il].l = l;
        TRY(prune_alloc(p, l->n_ff, sizeof(float), &d->layers[il].scales, err));
        TRY(prune_alloc(p, l->n_ff, sizeof(uint32_t), &d->layers[il].order, err));
        n++;
    }
    if (!n) FAIL(err, MOTE_E_UNSUPPORTED, "no layer has a gated feed-forward of a multiple of %d neurons, so nothing says what a token needs", DYNAMIC_GROUP);
    return MOTE_OK;
}

static void report(const dynamic *d) {
    prune *p = d->p;
    const size_t at = (size_t)(p->o->dynamic * STEPS + 0.5);
    double lost = 0;
    size_t n = 0;
    for (size_t il = 0; il < p->m->hp.n_layer; il++)
        if (d->layers[il].s->l) lost += d->layers[il].lost[at], n++;
    prune_say(p, "dynamic: %.0f %% of the neurons of %zu layers will be left out, in groups of %d by each token's gates", 100 * p->o->dynamic, n, DYNAMIC_GROUP);
    prune_say(p, "  with the same share everywhere, that were %.2f %% of the stream's energy a layer on the text", 100 * lost / (double)n);
    (void)json_object_set_new(p->json, "share", json_real(p->o->dynamic));
    (void)json_object_set_new(p->json, "layers", json_integer((json_int_t)n));
    (void)json_object_set_new(p->json, "lost", json_real(lost / (double)n));
}

mote_status prune_dynamic(prune *p, mote_error *err) {
    dynamic d = {.p = p};
    prune_plan plan = {0};
    const char *by = p->o->dynamic_by ? p->o->dynamic_by : "together";
    if (!(p->o->dynamic > 0 && p->o->dynamic <= 0.9)) FAIL(err, MOTE_E_RANGE, "a share of %g cannot be left out; up to 0.9 can", p->o->dynamic);
    d.in_order = !strcmp(by, "neighbours");
    if (!d.in_order && strcmp(by, "together") != 0) FAIL(err, MOTE_E_USAGE, "groups can be of neurons that are needed together, or of neighbours, not '%s'", by);
    TRY(choose_layers(&d, err));
    TRY(neurons_watch(p, d.seen, d.stream, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++)
        if (d.seen[il].l) weigh(&d.layers[il]);
    pool_run(p->pool, group_layers, &d);
    if (d.failed) FAIL(err, MOTE_E_MEMORY, "out of memory for the groups");
    TRY(set_keys(&d, err));
    TRY(prune_alloc(p, p->m->hp.n_layer, sizeof *plan.layers, &plan.layers, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const watched *w = &d.layers[il];
        plan.layers[il] = w->s->l && !d.in_order ? (prune_keep){.ff = w->order, .n_ff = w->s->l->n_ff} : (prune_keep){0};
    }
    TRY(prune_slice(p, &plan, NULL, NULL, err));
    report(&d);
    return MOTE_OK;
}
