/* prune_dynamic.c: feed-forwards of which each token uses a part (model/dynamic.h).
 *
 * The neurons of a layer are put in another order, which changes nothing, so that those that are needed together lie in one group:
 * balanced k-means over what each gives to each token of a text (|h_j| ‖down_·j‖), beginning with groups of like size. Thresholds
 * come from the text too. Layers do not leave out alike: the step that costs least of the stream's energy comes first. */
#include "compress/pruning.h"
#include "model/dynamic.h"

#include <math.h>
#include <stdlib.h>

enum { SAMPLES_MAX = 512, SAMPLES_MIN = 64, FIRST_TOKENS = 4 /* of a window: their activations are like no others */, ROUNDS = 6, STEPS = 32 };
#define SAMPLE_BYTES_MAX ((size_t)640 << 20)

/* What was seen of a layer: a = act(gate), u = up, of `n` tokens. */
typedef struct watched {
    const layer *l;
    float *a, *u;          /* [samples, n_ff] */
    size_t n;
    float *give;           /* [n_ff, samples] |h_j| ‖down_j‖ */
    float *scales;         /* [n_ff]; as dynamic.h, in the layer's old order */
    uint32_t *order;       /* [n_ff] new order: group g is the 32 from 32 g on */
    double lost[STEPS + 1]; /* energy of what is left out, share by share, as a part of the stream's */
    float cut[STEPS + 1];   /* the threshold for it */
} watched;

typedef struct dynamic {
    prune *p;
    watched *layers;       /* [n_layer]; l NULL: left alone */
    size_t n_samples, stride, window, room; /* tokens that are kept of, every stride-th, the running window */
    double *stream;        /* [n_layer] sum of the stream's squares behind the layer */
    size_t n_stream;
    act_fn act;
    bool in_order;
    bool failed;           /* out of memory in a thread */
} dynamic;

/* ---- watching ---- */
static bool is_sample(const dynamic *d, size_t row) {
    return row >= FIRST_TOKENS && (d->window * PRUNE_WINDOW + row) % d->stride == d->stride - 1;
}

static void on_down(void *ctx, const linear_seen *s) {
    dynamic *d = ctx;
    watched *w = NULL;
    for (size_t il = 0; il < d->p->m->hp.n_layer && !w; il++)
        if (d->layers[il].l && d->layers[il].l->slots[R_FFN_DOWN].mat == s->w) w = &d->layers[il];
    if (!w || !s->in || !s->in->up) return;
    size_t from, to, at = w->n;
    pool_share(s->w->cols, 16, s->ith, s->nth, &from, &to);
    for (size_t r = 0; r < s->n && at < d->room; r++) {
        if (!is_sample(d, r)) continue;
        const size_t to_row = at++ * s->w->cols + from;
        d->p->m->kern->act(d->act, w->a + to_row, s->in->x + r * s->in->ld + from, NULL, to - from);
        memcpy(w->u + to_row, s->in->up + r * s->in->ld_up + from, (to - from) * sizeof(float));
    }
    pool_barrier(s->pool);
    if (s->ith == 0) w->n = at;
    pool_barrier(s->pool);
}

static void on_stream(void *ctx, size_t il, const float *x, size_t n) {
    dynamic *d = ctx;
    const size_t n_embd = d->p->m->hp.n_embd;
    if (il == 0) return;
    for (size_t r = 0; r < n; r++) {
        if (!is_sample(d, r)) continue;
        for (size_t i = 0; i < n_embd; i++) d->stream[il - 1] += (double)x[r * n_embd + i] * (double)x[r * n_embd + i];
        d->n_stream += il == 1;
    }
}

static mote_status watch(dynamic *d, mote_error *err) {
    prune *p = d->p;
    size_t n_windows, n;
    TRY(prune_tokens(p, 4096, err));
    TRY(prune_state(p, err));
    size_t width = 0;
    for (size_t il = 0; il < p->m->hp.n_layer; il++) width += d->layers[il].l ? d->layers[il].l->n_ff : 0;
    d->room = MIN((size_t)SAMPLES_MAX, SAMPLE_BYTES_MAX / (3 * sizeof(float) * width));
    if (d->room < SAMPLES_MIN) FAIL(err, MOTE_E_UNSUPPORTED, "%zu neurons are more than can be watched at once", width);
    d->stride = (p->ids.n + d->room - 1) / d->room;
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        watched *w = &d->layers[il];
        if (!w->l) continue;
        TRY(prune_alloc(p, d->room * w->l->n_ff, sizeof(float), &w->a, err));
        TRY(prune_alloc(p, d->room * w->l->n_ff, sizeof(float), &w->u, err));
        TRY(prune_alloc(p, d->room * w->l->n_ff, sizeof(float), &w->give, err));
    }
    TRY(state_set_observer(p->st, on_down, d, err));
    state_set_stream(p->st, on_stream, d);
    n_windows = prune_n_windows(p);
    for (d->window = 0; d->window < n_windows; d->window++) {
        TRY(prune_window(p, d->window, NULL, &n, err));
        TRY(prune_progress(p, "watching", d->window + 1, n_windows, err));
    }
    state_set_stream(p->st, NULL, NULL);
    TRY(state_set_observer(p->st, NULL, NULL, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++)
        if (d->layers[il].l && d->layers[il].n < SAMPLES_MIN / 4)
            FAIL(err, MOTE_E_USAGE, "the text is too short to see what layer %zu needs: give at least a thousand tokens", il);
    return MOTE_OK;
}

/* scales and give: what is known once the sizes of down's columns are. */
static mote_status weigh(watched *w, mote_error *err) {
    const tensor_info *t = w->l->slots[R_FFN_DOWN].info;
    const size_t n_ff = w->l->n_ff, rows = (size_t)t->ne[1];
    float *x;
    TRY(prune_floats(t, &x, err));
    for (size_t j = 0; j < n_ff; j++) {
        double size = 0, up = 0;
        for (size_t r = 0; r < rows; r++) size += (double)x[r * n_ff + j] * (double)x[r * n_ff + j];
        size = sqrt(size);
        for (size_t i = 0; i < w->n; i++) {
            const float u = w->u[i * n_ff + j];
            up += (double)u * (double)u;
            w->give[j * w->n + i] = fabsf(w->a[i * n_ff + j] * u) * (float)size;
        }
        w->scales[j] = (float)(sqrt(up / (double)w->n) * size);
        w->order[j] = (uint32_t)j;
    }
    mem_free_aligned(x);
    return MOTE_OK;
}

/* ---- groups ---- */
typedef struct by_size {
    double size;
    uint32_t at;
} by_size;
static int larger_first(const void *a, const void *b) {
    const by_size *x = a, *y = b;
    return x->size != y->size ? (x->size > y->size ? -1 : 1) : x->at < y->at ? -1 : x->at > y->at;
}
static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* What a threshold for each share leaves out of w in its order, and what that loses. score, give: room for [samples, groups]. */
static void judge(const dynamic *d, watched *w, const uint32_t *order, float *score, float *sorted, float *give, float cut[STEPS + 1],
                  double lost[STEPS + 1]) {
    const size_t n_ff = w->l->n_ff, groups = n_ff / DYNAMIC_GROUP, n = w->n * groups;
    for (size_t i = 0; i < w->n; i++) {
        for (size_t g = 0; g < groups; g++) {
            float s = 0, e = 0;
            for (size_t j = g * DYNAMIC_GROUP; j < (g + 1) * DYNAMIC_GROUP; j++) {
                const float a = w->a[i * n_ff + order[j]] * w->scales[order[j]], h = w->give[order[j] * w->n + i];
                s += a * a;
                e += h * h;
            }
            score[i * groups + g] = sorted[i * groups + g] = s;
            give[i * groups + g] = e;
        }
    }
    qsort(sorted, n, sizeof *sorted, ascending);
    const double whole = MAX(d->stream[w->l->index] / (double)MAX(d->n_stream, (size_t)1), 1e-30) * (double)w->n;
    for (size_t s = 0; s <= STEPS; s++) {
        cut[s] = s ? sorted[MIN(n * s / STEPS, n - 1)] : 0;
        lost[s] = 0;
        for (size_t i = 0; i < n; i++) lost[s] += score[i] < cut[s] ? (double)give[i] / whole : 0;
    }
}

/* One round of k-means with groups of a given size: centres of the groups in `order`, then each neuron, the largest first, to the nearest
 * centre that has room. */
static void regroup(const dynamic *d, const watched *w, const by_size *sizes, const uint32_t *order, uint32_t *out, float *centre, size_t *room) {
    const size_t n_ff = w->l->n_ff, groups = n_ff / DYNAMIC_GROUP, n = w->n;
    const struct kern_table *k = d->p->m->kern;
    for (size_t g = 0; g < groups; g++) {
        float *c = centre + g * n;
        memset(c, 0, n * sizeof *c);
        for (size_t j = 0; j < DYNAMIC_GROUP; j++) k->axpy(c, w->give + order[g * DYNAMIC_GROUP + j] * n, 1.0f / DYNAMIC_GROUP, n);
        room[g] = DYNAMIC_GROUP;
    }
    float *half = centre + groups * n;
    for (size_t g = 0; g < groups; g++) half[g] = k->dot(centre + g * n, centre + g * n, n) / 2;
    for (size_t i = 0; i < n_ff; i++) {
        const float *x = w->give + sizes[i].at * n;
        size_t best = SIZE_MAX;
        float nearest = 0;
        for (size_t g = 0; g < groups; g++) {
            if (!room[g]) continue;
            const float far = half[g] - k->dot(x, centre + g * n, n); /* of |x - c|², what depends on g */
            if (best == SIZE_MAX || far < nearest) best = g, nearest = far;
        }
        out[best * DYNAMIC_GROUP + DYNAMIC_GROUP - room[best]--] = sizes[i].at;
    }
}

static bool group_layer(const dynamic *d, watched *w, double share) {
    const size_t n_ff = w->l->n_ff, groups = n_ff / DYNAMIC_GROUP, at = (size_t)(share * STEPS + 0.5);
    const size_t n = w->n * groups;
    float *score = MEM_NEW_N(float, 3 * n), *centre = MEM_NEW_N(float, n + groups), cut[STEPS + 1];
    uint32_t *order = MEM_NEW_N(uint32_t, 2 * n_ff), *next = order ? order + n_ff : NULL;
    by_size *sizes = MEM_NEW_N(by_size, n_ff);
    size_t *room = MEM_NEW_N(size_t, groups);
    double lost[STEPS + 1];
    bool ok = score && centre && order && sizes && room;
    if (!ok) goto out;
    judge(d, w, w->order, score, score + n, score + 2 * n, w->cut, w->lost);
    if (d->in_order) goto out;
    for (size_t j = 0; j < n_ff; j++) {
        const float *x = w->give + j * w->n;
        sizes[j] = (by_size){(double)d->p->m->kern->dot(x, x, w->n), (uint32_t)j};
    }
    qsort(sizes, n_ff, sizeof *sizes, larger_first);
    for (size_t j = 0; j < n_ff; j++) next[j] = sizes[j].at;
    for (int round = 0; round <= ROUNDS; round++) {
        memcpy(order, next, n_ff * sizeof *order);
        judge(d, w, order, score, score + n, score + 2 * n, cut, lost);
        if (lost[at] < w->lost[at]) {
            memcpy(w->order, order, n_ff * sizeof *order);
            memcpy(w->cut, cut, sizeof cut);
            memcpy(w->lost, lost, sizeof lost);
        }
        if (round < ROUNDS) regroup(d, w, sizes, order, next, centre, room);
    }
out:
    mem_free(score);
    mem_free(centre);
    mem_free(order);
    mem_free(sizes);
    mem_free(room);
    return ok;
}

static void group_layers(void *arg, int ith, int nth) {
    dynamic *d = arg;
    for (size_t il = (size_t)ith; il < d->p->m->hp.n_layer; il += (size_t)nth)
        if (d->layers[il].l && !group_layer(d, &d->layers[il], d->p->o->dynamic)) d->failed = true;
}

/* ---- thresholds ---- */
/* levels[n_layer, DYNAMIC_LEVELS]: for every mean share, how much each layer leaves out: always the step that loses least. */
static void allot(const dynamic *d, float *levels, size_t *steps) {
    const size_t n_layer = d->p->m->hp.n_layer;
    size_t live = 0, done = 0;
    for (size_t il = 0; il < n_layer; il++) live += d->layers[il].l != NULL, steps[il] = 0;
    for (size_t v = 1; v < DYNAMIC_LEVELS; v++) {
        for (; done < v * live * STEPS / (DYNAMIC_LEVELS - 1); done++) {
            size_t best = SIZE_MAX;
            double least = 0;
            for (size_t il = 0; il < n_layer; il++) {
                const watched *w = &d->layers[il];
                if (!w->l || steps[il] == STEPS) continue;
                double more = w->lost[steps[il] + 1] - w->lost[steps[il]];
                if (best == SIZE_MAX || more < least) best = il, least = more;
            }
            steps[best]++;
        }
        for (size_t il = 0; il < n_layer; il++)
            if (d->layers[il].l) levels[il * DYNAMIC_LEVELS + v] = d->layers[il].cut[steps[il]];
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
        for (size_t j = 0; w->l && j < w->l->n_ff; j++) scales[n + j] = w->scales[w->order[j]];
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
    TRY(prune_alloc(p, n_layer, sizeof *d->stream, &d->stream, err));
    d->act = p->m->arch->act;
    size_t n = 0;
    for (size_t il = 0; il < n_layer; il++) {
        const layer *l = &p->m->layers[il];
        d->stream[il] = 0;
        d->layers[il] = (watched){0};
        if (l->ffn != &block_ffn || !has(l, R_FFN_GATE) || l->n_ff % DYNAMIC_GROUP || d->act == ACT_SWIGLU_OAI) continue;
        d->layers[il].l = l;
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
        if (d->layers[il].l) lost += d->layers[il].lost[at], n++;
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
    TRY(watch(&d, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++)
        if (d.layers[il].l) TRY(weigh(&d.layers[il], err));
    pool_run(p->pool, group_layers, &d);
    if (d.failed) FAIL(err, MOTE_E_MEMORY, "out of memory for the groups");
    TRY(set_keys(&d, err));
    TRY(prune_alloc(p, p->m->hp.n_layer, sizeof *plan.layers, &plan.layers, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const watched *w = &d.layers[il];
        plan.layers[il] = w->l && !d.in_order ? (prune_keep){.ff = w->order, .n_ff = w->l->n_ff} : (prune_keep){0};
    }
    TRY(prune_slice(p, &plan, NULL, NULL, err));
    report(&d);
    return MOTE_OK;
}
