/* prune_neurons.c: see prune_neurons.h. */
#include "compress/prune_neurons.h"

#include <math.h>
#include <stdlib.h>

enum { SAMPLES_MAX = 512, SAMPLES_MIN = 64, FIRST_TOKENS = 4 /* of a window: their activations are like no others */ };
#define SAMPLE_BYTES_MAX ((size_t)640 << 20)

/* ---- watching ---- */
typedef struct watching {
    prune *p;
    neurons *seen;
    double *stream;
    size_t stride, window, room; /* tokens that are kept of, every stride-th, the running window */
    size_t n_stream;
} watching;

static bool is_sample(const watching *d, size_t row) {
    return row >= FIRST_TOKENS && (d->window * PRUNE_WINDOW + row) % d->stride == d->stride - 1;
}

static void on_down(void *ctx, const linear_seen *s) {
    watching *d = ctx;
    neurons *w = NULL;
    for (size_t il = 0; il < d->p->m->hp.n_layer && !w; il++)
        if (d->seen[il].l && d->seen[il].l->slots[R_FFN_DOWN].mat == s->w) w = &d->seen[il];
    if (!w || !s->in || !s->in->up) return;
    size_t from, to, at = w->n;
    pool_share(s->w->cols, 16, s->ith, s->nth, &from, &to);
    for (size_t r = 0; r < s->n && at < d->room; r++) {
        if (!is_sample(d, r)) continue;
        const size_t to_row = at++ * s->w->cols + from;
        d->p->m->kern->act(d->p->m->arch->act, w->a + to_row, s->in->x + r * s->in->ld + from, NULL, to - from);
        memcpy(w->u + to_row, s->in->up + r * s->in->ld_up + from, (to - from) * sizeof(float));
    }
    pool_barrier(s->pool);
    if (s->ith == 0) w->n = at;
    pool_barrier(s->pool);
}

static void on_stream(void *ctx, size_t il, const float *x, size_t n) {
    watching *d = ctx;
    const size_t n_embd = d->p->m->hp.n_embd;
    if (il == 0) return;
    for (size_t r = 0; r < n; r++) {
        if (!is_sample(d, r)) continue;
        for (size_t i = 0; i < n_embd; i++) d->stream[il - 1] += (double)x[r * n_embd + i] * (double)x[r * n_embd + i];
        d->n_stream += il == 1;
    }
}

static mote_status make_room(watching *d, mote_error *err) {
    prune *p = d->p;
    size_t width = 0;
    for (size_t il = 0; il < p->m->hp.n_layer; il++) width += d->seen[il].l ? d->seen[il].l->n_ff : 0;
    d->room = MIN((size_t)SAMPLES_MAX, SAMPLE_BYTES_MAX / (3 * sizeof(float) * MAX(width, (size_t)1)));
    if (d->room < SAMPLES_MIN) FAIL(err, MOTE_E_UNSUPPORTED, "%zu neurons are more than can be watched at once", width);
    d->stride = (p->ids.n + d->room - 1) / d->room;
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        neurons *w = &d->seen[il];
        if (!w->l) continue;
        TRY(prune_alloc(p, w->l->n_ff, sizeof(float), &w->size, err));
        TRY(prune_alloc(p, d->room * w->l->n_ff, sizeof(float), &w->a, err));
        TRY(prune_alloc(p, d->room * w->l->n_ff, sizeof(float), &w->u, err));
        TRY(prune_alloc(p, d->room * w->l->n_ff, sizeof(float), &w->give, err));
    }
    return MOTE_OK;
}

/* size and give: what is known once the columns of down are. */
static mote_status weigh(neurons *w, mote_error *err) {
    const tensor_info *t = w->l->slots[R_FFN_DOWN].info;
    const size_t n_ff = w->l->n_ff, rows = (size_t)t->ne[1];
    float *x;
    TRY(prune_floats(t, &x, err));
    for (size_t j = 0; j < n_ff; j++) {
        double size = 0;
        for (size_t r = 0; r < rows; r++) size += (double)x[r * n_ff + j] * (double)x[r * n_ff + j];
        w->size[j] = (float)sqrt(size);
        for (size_t i = 0; i < w->n; i++) w->give[j * w->n + i] = fabsf(w->a[i * n_ff + j] * w->u[i * n_ff + j]) * w->size[j];
    }
    mem_free_aligned(x);
    return MOTE_OK;
}

mote_status neurons_watch(prune *p, neurons *seen, double *stream, mote_error *err) {
    watching d = {.p = p, .seen = seen, .stream = stream};
    size_t n_windows, n;
    TRY(prune_tokens(p, 4096, err));
    TRY(prune_state(p, err));
    TRY(make_room(&d, err));
    TRY(state_set_observer(p->st, on_down, &d, err));
    if (stream) memset(stream, 0, p->m->hp.n_layer * sizeof *stream);
    if (stream) state_set_stream(p->st, on_stream, &d);
    n_windows = prune_n_windows(p);
    for (d.window = 0; d.window < n_windows; d.window++) {
        TRY(prune_window(p, d.window, NULL, &n, err));
        TRY(prune_progress(p, "watching", d.window + 1, n_windows, err));
    }
    state_set_stream(p->st, NULL, NULL);
    TRY(state_set_observer(p->st, NULL, NULL, err));
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        if (stream) stream[il] /= (double)MAX(d.n_stream, (size_t)1);
        if (!seen[il].l) continue;
        if (seen[il].n < SAMPLES_MIN / 4)
            FAIL(err, MOTE_E_USAGE, "the text is too short to see what layer %zu needs: give at least a thousand tokens", il);
        TRY(weigh(&seen[il], err));
    }
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

/* One round of k-means with groups of a given size: centres of the groups in `order`, then each neuron, the largest first, to the nearest
 * centre that has room. */
static void regroup(const struct kern_table *k, const neurons *w, const by_size *sizes, size_t n_ff, size_t size, const uint32_t *order, uint32_t *out,
                    float *centre, size_t *room) {
    const size_t groups = n_ff / size, n = w->n;
    for (size_t g = 0; g < groups; g++) {
        float *c = centre + g * n;
        memset(c, 0, n * sizeof *c);
        for (size_t j = 0; j < size; j++) k->axpy(c, w->give + order[g * size + j] * n, 1.0f / (float)size, n);
        room[g] = size;
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
        out[best * size + size - room[best]--] = sizes[i].at;
    }
}

bool neurons_group(const struct kern_table *k, const neurons *s, const uint32_t *which, size_t n, size_t size, size_t rounds, neurons_try_fn *attempt,
                   void *ctx) {
    const size_t groups = n / size;
    float *centre = MEM_NEW_N(float, (s->n + 1) * groups);
    uint32_t *order = MEM_NEW_N(uint32_t, 2 * n), *next = order ? order + n : NULL;
    by_size *sizes = MEM_NEW_N(by_size, n);
    size_t *room = MEM_NEW_N(size_t, groups);
    const bool ok = centre && order && sizes && room;
    for (size_t j = 0; ok && j < n; j++) {
        const float *x = s->give + which[j] * s->n;
        sizes[j] = (by_size){(double)k->dot(x, x, s->n), which[j]};
    }
    if (ok) qsort(sizes, n, sizeof *sizes, larger_first);
    for (size_t j = 0; ok && j < n; j++) next[j] = sizes[j].at;
    for (size_t round = 0; ok && round <= rounds; round++) {
        memcpy(order, next, n * sizeof *order);
        attempt(ctx, order);
        if (round < rounds) regroup(k, s, sizes, n, size, order, next, centre, room);
    }
    mem_free(centre);
    mem_free(order);
    mem_free(sizes);
    mem_free(room);
    return ok;
}
