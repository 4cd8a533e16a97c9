/* head.c: the greatest logits of a token. A screen reads the leading bits of each row (kernel/split.h) and gives a
 * bound that the row's product cannot exceed. Rows whose bound is below what is known to be enough are done with; the
 * others are refined by two more bits, and what then remains is merged and multiplied as op_linear does.
 *
 * Enough is a *floor*: the k-th greatest product so far, or the greatest minus the gap. It only rises, and every
 * thread's floor is true for all of them, so they share the highest. It begins with panels that held the greatest
 * lately. A row at or above the last floor is found whatever the order was, so what is found, cut by the last floor,
 * does not depend on threads or time. */
#include "tensor/tensor_int.h"

#include <math.h>
#include <stdatomic.h>

enum { CHUNK = 16, /* panels screened at once: what survives is fetched while the others are looked at */
       PANELS_MAX = HEAD_SEEDS + HEAD_FORCED_MAX };

/* What one thread has found. */
typedef struct finder {
    const head_query *q;
    float floor, best, cap;
    size_t k, n_top, n;
    bool failed;
    size_t n_screened, n_refined, n_exact; /* panels */
    float top[HEAD_K_MAX];     /* heap of the k greatest, the least on top */
    int32_t ids[HEAD_FOUND_MAX];
    float y[HEAD_FOUND_MAX];
} finder;

typedef struct common {
    atomic_int floor; /* order_of the highest */
    atomic_size_t next;
    size_t n_panels;  /* computed beforehand: those of seeds and of forced rows */
    int32_t panels[PANELS_MAX];
    float y[PANELS_MAX * KERN_PANEL];
} common;

/* One thread's tools. */
typedef struct tools {
    kern_screen_col *cols;
    unsigned char *acts, *merged;
    void *scratch;
} tools;

static size_t round_up_64(size_t n) { return (n + 63) / 64 * 64; }
static size_t merged_bytes(size_t k) { return kern_acts_blocks(k) * (512 + 64) + 320; }
static size_t cols_bytes(size_t k) { return kern_acts_blocks(k) * 4 * sizeof(kern_screen_col); }

size_t head_scratch_bytes(size_t k, int nth) {
    size_t each = round_up_64(sizeof(finder)) + round_up_64(cols_bytes(k)) + round_up_64(kern_acts_bytes(k)) +
                  round_up_64(merged_bytes(k)) + round_up_64(kern_mul_scratch(k));
    return round_up_64(sizeof(common)) + (size_t)nth * each + 512;
}

/* ---- floors ---- */

/* Integers in the order of floats. */
static int order_of(float x) {
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return i < 0 ? i ^ INT32_MAX : i;
}
static float of_order(int i) {
    int32_t bits = i < 0 ? i ^ INT32_MAX : i;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The floor when x has been reached: behind a cap, values this near may come out equal or, by the rounding of tanh, in
 * the other order. 1 - tanh² is the slope there: 1e-5 of the cap is far more than a few roundings. */
static float below_ties(const finder *f, float x) {
    if (f->cap <= 0) return x;
    float t = tanhf(x / f->cap), slope = 1 - t * t;
    return slope > 0 ? x - f->cap * 1e-5f / slope : -INFINITY;
}

static void sift(float *heap, size_t n) {
    float x = heap[0];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (x <= heap[child]) break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

/* y of a row that is not forced has become known. */
static void raise_floor(finder *f, float y) {
    if (y > f->best) {
        f->best = y;
        if (f->q->gap < INFINITY) f->floor = fmaxf(f->floor, y - f->q->gap - 1e-6f * fabsf(y));
    }
    if (f->n_top < f->k) {
        size_t i = f->n_top++; /* up the heap */
        for (; i > 0 && f->top[(i - 1) / 2] > y; i = (i - 1) / 2) f->top[i] = f->top[(i - 1) / 2];
        f->top[i] = y;
        if (f->n_top < f->k) return;
    } else if (y > f->top[0]) {
        f->top[0] = y;
        sift(f->top, f->k);
    } else {
        return;
    }
    if (f->q->k) f->floor = fmaxf(f->floor, below_ties(f, f->top[0]));
}

static void drop_below(finder *f, float floor) {
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (f->y[i] < floor) continue;
        f->ids[n] = f->ids[i];
        f->y[n++] = f->y[i];
    }
    f->n = n;
}

static void keep(finder *f, int32_t id, float y) {
    if (y < f->floor) return;
    if (f->n == HEAD_FOUND_MAX) drop_below(f, f->floor);
    if (f->n == HEAD_FOUND_MAX) {
        f->failed = true;
        return;
    }
    f->ids[f->n] = id;
    f->y[f->n++] = y;
}

static bool is_forced(const head_query *q, int32_t id) {
    size_t low = 0, high = q->n_forced;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (q->forced[mid] < id) low = mid + 1;
        else high = mid;
    }
    return low < q->n_forced && q->forced[low] == id;
}

static void take_rows(finder *f, size_t first, size_t n, const float *y) {
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(y[i])) f->failed = true;
        if (!(y[i] >= f->floor) || is_forced(f->q, (int32_t)(first + i))) continue;
        keep(f, (int32_t)(first + i), y[i]);
        raise_floor(f, y[i]);
    }
}

/* The floors of all threads are one: whatever one of them knows is true. */
static void share_floor(finder *f, common *c) {
    int mine = order_of(f->floor), now = atomic_load_explicit(&c->floor, memory_order_relaxed);
    while (mine > now && !atomic_compare_exchange_weak_explicit(&c->floor, &now, mine, memory_order_relaxed, memory_order_relaxed)) {}
    if (now > mine) f->floor = of_order(now);
}

/* ---- the panels ---- */

static size_t rows_of_panel(const weight *w, size_t i) { return MIN((size_t)KERN_PANEL, w->rows - i * KERN_PANEL); }

static void multiply_panel(const team *t, const head_in *in, const tools *o, size_t i, float *y) {
    const weight *w = in->w;
    split_multiply(t, w, i * KERN_PANEL, i * KERN_PANEL + rows_of_panel(w, i), o->merged,
                   (kern_mul){.pk = w->packing, .panel_bytes = kern_panel_bytes(w->packing, w->cols), .k = w->cols,
                              .x = o->acts, .x_bytes = kern_acts_bytes(w->cols), .n_x = 1, .scratch = o->scratch,
                              .out = {.y = y, .ld = KERN_PANEL, .scale = in->scale}});
}

static bool is_known(const common *c, size_t panel) {
    size_t low = 0, high = c->n_panels;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if ((size_t)c->panels[mid] < panel) low = mid + 1;
        else high = mid;
    }
    return low < c->n_panels && (size_t)c->panels[low] == panel;
}

/* y = scale · v rounds as scale · u does: what is below stays below. */
static void screen_chunk(const team *t, const head_in *in, const tools *o, finder *f, common *c, size_t from, size_t to) {
    const weight *w = in->w;
    const size_t pair_bytes = kern_split_pair_bytes(w->cols);
    float s[CHUNK * KERN_PANEL], u[CHUNK * KERN_PANEL];
    bool reach[CHUNK];
    size_t left[CHUNK], n_left = 0;
    kern_screen a = {.split = w->split, .high = split_panel_at(w, from).high, .n_panels = to - from, .k = w->cols,
                     .q = kern_acts_at(o->acts, w->cols).q, .cols = o->cols, .s = s, .u = u, .scale = in->scale,
                     .floor = f->floor, .reach = reach};
    t->kern->screen(&a);
    f->n_screened += to - from;
    share_floor(f, c);
    for (size_t i = from; i < to; i++) {
        if (!reach[i - from] || is_known(c, i)) continue;
        const unsigned char *rest = split_panel_at(w, i).rest;
        for (size_t at = 0; at < pair_bytes; at += 64) __builtin_prefetch(rest + at);
        left[n_left++] = i;
    }
    a.n_panels = 1;
    a.cols += kern_screen_cols(w->split, w->cols);
    for (size_t j = 0; j < n_left; j++) {
        size_t i = left[j];
        split_panel p = split_panel_at(w, i);
        a.s = s + (i - from) * KERN_PANEL;
        a.u = u + (i - from) * KERN_PANEL;
        a.high = p.high;
        a.rest = p.rest;
        a.floor = f->floor;
        if (w->split->n_low == 4) {
            t->kern->refine(&a);
            f->n_refined++;
            if (!reach[0]) continue;
        }
        float y[KERN_PANEL];
        multiply_panel(t, in, o, i, y);
        f->n_exact++;
        take_rows(f, i * KERN_PANEL, rows_of_panel(w, i), y);
        if (f->failed) return;
    }
}

/* ---- the whole ---- */

/* The panels that are computed in any case, by thread 0. */
static void plan(const head_in *in, const head_query *q, common *c) {
    size_t s = 0, f = 0;
    c->n_panels = 0;
    while (s < in->n_seeds || f < q->n_forced) {
        int32_t seed = s < in->n_seeds ? in->seeds[s] : INT32_MAX, forced = f < q->n_forced ? q->forced[f] / KERN_PANEL : INT32_MAX;
        int32_t next = MIN(seed, forced);
        if (seed == next) s++;
        while (f < q->n_forced && q->forced[f] / KERN_PANEL == next) f++;
        c->panels[c->n_panels++] = next;
    }
    atomic_init(&c->floor, order_of(-INFINITY));
    atomic_init(&c->next, 0);
}

static void sort_by_id(head_found *h) {
    for (size_t gap = h->n / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < h->n; i++) {
            int32_t id = h->ids[i];
            float y = h->y[i];
            size_t j = i;
            for (; j >= gap && h->ids[j - gap] > id; j -= gap) {
                h->ids[j] = h->ids[j - gap];
                h->y[j] = h->y[j - gap];
            }
            h->ids[j] = id;
            h->y[j] = y;
        }
}

/* Everything found, by thread 0, into the finder of its own and then out. */
static void gather(const team *t, const head_in *in, const head_query *q, finder *all, size_t stride, const common *c,
                   head_found *out) {
    const weight *w = in->w;
    const size_t pair = kern_split_pair_bytes(w->cols), rest = kern_split_rest_bytes(w->split, w->cols);
    size_t high = kern_split_high_bytes(w->split, w->cols), n_exact = c->n_panels;
    finder *f = all;
    out->read_bytes = (w->rows + KERN_PANEL - 1) / KERN_PANEL * high + f->n_refined * pair;
    for (int i = 0; i < t->nth; i++) {
        const finder *o = (const finder *)(const void *)((const unsigned char *)all + (size_t)i * stride);
        f->failed = f->failed || o->failed;
        n_exact += o->n_exact;
        if (i) out->read_bytes += o->n_refined * pair;
        for (size_t j = 0; i > 0 && j < o->n; j++) {
            keep(f, o->ids[j], o->y[j]);
            raise_floor(f, o->y[j]);
        }
    }
    out->read_bytes += n_exact * (w->split->n_low == 4 ? rest - pair : rest) + (w->split->n_low == 4 ? c->n_panels * pair : 0);
    drop_below(f, f->floor);
    out->ok = !f->failed && f->n + q->n_forced <= HEAD_FOUND_MAX;
    if (!out->ok) return;
    memcpy(out->ids, f->ids, f->n * sizeof *f->ids);
    memcpy(out->y, f->y, f->n * sizeof *f->y);
    out->n = f->n;
    for (size_t i = 0, p = 0; i < q->n_forced; i++) {
        while (c->panels[p] != q->forced[i] / KERN_PANEL) p++;
        float y = c->y[p * KERN_PANEL + (size_t)(q->forced[i] % KERN_PANEL)];
        out->ids[out->n] = q->forced[i];
        out->y[out->n++] = y;
        if (!isfinite(y)) out->ok = false;
    }
    sort_by_id(out);
}

/* n bytes of this thread's own. */
static void *mine(team *t, size_t n) {
    n = round_up_64(n);
    return (unsigned char *)bump_bytes(&t->scratch, (size_t)t->nth * n) + (size_t)t->ith * n;
}

void op_head(team *t, const head_in *in, const head_query *q, head_found *out) {
    const weight *w = in->w;
    size_t mark = bump_mark(&t->scratch), ith = (size_t)t->ith, nth = (size_t)t->nth, k = w->cols;
    size_t stride = round_up_64(sizeof(finder)), from, to;
    common *c = bump_bytes(&t->scratch, sizeof *c);
    finder *all = bump_bytes(&t->scratch, nth * stride);
    finder *f = (finder *)(void *)((unsigned char *)all + ith * stride);
    tools o = {.cols = mine(t, cols_bytes(k)), .acts = mine(t, kern_acts_bytes(k)), .merged = mine(t, merged_bytes(k)),
               .scratch = mine(t, kern_mul_scratch(k))};
    f->q = q;
    f->k = q->k ? q->k : 1;
    f->floor = f->best = -INFINITY;
    f->cap = in->cap;
    f->n_top = f->n = f->n_screened = f->n_refined = f->n_exact = 0;
    t->kern->quantize(o.acts, in->x, k);
    kern_acts x = kern_acts_at(o.acts, k);
    f->failed = !kern_screen_x(w->split, &x, k, o.cols);
    if (ith == 0) plan(in, q, c);
    team_barrier(t);

    team_enter(t, PROF_HEAD);
    pool_share(c->n_panels, 1, t->ith, t->nth, &from, &to);
    for (size_t i = from; i < to; i++) multiply_panel(t, in, &o, (size_t)c->panels[i], c->y + i * KERN_PANEL);
    team_barrier(t);

    if (t->prof) prof_enter(t->prof, PROF_HEAD, "screen", (int)w->type);
    for (size_t i = 0; i < c->n_panels; i++)
        take_rows(f, (size_t)c->panels[i] * KERN_PANEL, rows_of_panel(w, (size_t)c->panels[i]), c->y + i * KERN_PANEL);
    if (ith) f->n = 0; /* they are thread 0's */
    size_t n_panels = (w->rows + KERN_PANEL - 1) / KERN_PANEL;
    while (!f->failed && (from = atomic_fetch_add_explicit(&c->next, CHUNK, memory_order_relaxed)) < n_panels)
        screen_chunk(t, in, &o, f, c, from, MIN(from + CHUNK, n_panels));
    if (t->prof) {
        const uint64_t high = kern_split_high_bytes(w->split, k), pair = kern_split_pair_bytes(k);
        const uint64_t rest = kern_split_rest_bytes(w->split, k) - (w->split->n_low == 4 ? pair : 0);
        prof_count(t->prof, PROF_INT8, f->n_screened * high + f->n_refined * pair + f->n_exact * rest,
                   2 * KERN_PANEL * k * (f->n_screened + f->n_refined + f->n_exact));
    }
    team_barrier(t);

    if (ith == 0) {
        team_enter(t, PROF_HEAD);
        gather(t, in, q, all, stride, c, out);
        if (t->prof) prof_count(t->prof, PROF_INT8, out->read_bytes, 0);
    }
    team_barrier(t);
    bump_reset(&t->scratch, mark);
}
