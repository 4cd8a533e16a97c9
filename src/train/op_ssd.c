/* op_ssd.c: Mamba-2's recurrence. Per head, with g_t = exp(dt_t a):
 *   S_t = g_t S_{t-1} + dt_t x_t ⊗ B_t;   y_t = S_t C_t + d x_t
 * Going back, with D the gradient of S_t, to which y_t adds dy_t ⊗ C_t:
 *   dC_t = S_tᵀ dy_t;  dB_t = dt_t Dᵀ x_t;  dx_t = d dy_t + dt_t D B_t;  dd = Σ dy_t · x_t
 *   ddt_t = x_t · D B_t + a g_t <D, S_{t-1}>;  da = Σ dt_t g_t <D, S_{t-1}>;   D becomes g_t D
 * States are kept at the starts of chunks and computed again inside them. A unit of work is a head: sums over the heads
 * of a group (dB, dC) are made afterwards, by rows. Source: Dao and Gu 2024 (Mamba-2), §3. */
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { CHUNK = 16 };

struct scanning {
    var *x, *dt, *a, *b, *c, *d, *y;
    ad_ssd_shape o;
    const ad_seqs *s;
    size_t n_chunks;        /* of all sequences together */
    float *starts;          /* [n_head, n_chunks, dim, n_state] */
    float *states;          /* per thread, going back: [CHUNK + 1, dim, n_state] and D */
    float *gx, *gdt, *ga, *gd, *gb, *gc;
    float *head_b, *head_c; /* [n_head, n, n_state] what each head adds to dB, dC */
};

static size_t state_size(const struct scanning *a) { return a->o.dim * a->o.n_state; }

/* S = the state after token i, from the one before it (which may be the same memory). */
static void step(const struct scanning *a, size_t h, size_t i, const float *before, float *s) {
    const ad_ssd_shape *o = &a->o;
    size_t n = o->n_state, group = h * o->n_group / o->n_head;
    float dt = a->dt->x[i * o->n_head + h], g = expf(dt * a->a->x[h]);
    const float *x = a->x->x + i * a->x->cols + h * o->dim, *b = a->b->x + i * a->b->cols + group * n;
    for (size_t p = 0; p < o->dim; p++) {
        float in = dt * x[p];
        for (size_t k = 0; k < n; k++) s[p * n + k] = g * before[p * n + k] + in * b[k];
    }
}

static void read_state(const struct scanning *a, size_t h, size_t i, const float *s) {
    const ad_ssd_shape *o = &a->o;
    size_t n = o->n_state, group = h * o->n_group / o->n_head;
    const float *x = a->x->x + i * a->x->cols + h * o->dim, *c = a->c->x + i * a->c->cols + group * n;
    float *y = a->y->x + i * a->y->cols + h * o->dim;
    for (size_t p = 0; p < o->dim; p++) {
        float sum = 0;
        for (size_t k = 0; k < n; k++) sum += s[p * n + k] * c[k];
        y[p] = sum + a->d->x[h] * x[p];
    }
}

static void scan_part(void *ctx, size_t from, size_t to, int ith) {
    const struct scanning *a = ctx;
    size_t size = state_size(a);
    float *s = a->states + (size_t)ith * (CHUNK + 2) * size;
    for (size_t h = from; h < to; h++) {
        float *start = a->starts + h * a->n_chunks * size;
        for (size_t q = 0; q < a->s->n_seq; q++) {
            memset(s, 0, size * sizeof *s);
            for (size_t i = a->s->start[q]; i < a->s->start[q + 1]; i++) {
                if ((i - a->s->start[q]) % CHUNK == 0) {
                    memcpy(start, s, size * sizeof *s);
                    start += size;
                }
                step(a, h, i, s, s);
                read_state(a, h, i, s);
            }
        }
    }
}

/* One token back: after: S_t, before: S_{t-1}, big: D. */
static void step_back(const struct scanning *a, size_t h, size_t i, const float *after, const float *before, float *big) {
    const ad_ssd_shape *o = &a->o;
    size_t n = o->n_state, group = h * o->n_group / o->n_head, at = i * a->x->cols + h * o->dim;
    float dt = a->dt->x[i * o->n_head + h], decay = a->a->x[h], g = expf(dt * decay);
    const float *x = a->x->x + at, *b = a->b->x + i * a->b->cols + group * n, *c = a->c->x + i * a->c->cols + group * n, *dy = a->y->g + at;
    float *db = a->head_b + (h * a->s->n + i) * n, *dc = a->head_c + (h * a->s->n + i) * n, through = 0, kept = 0, skip = 0;
    memset(db, 0, n * sizeof *db);
    memset(dc, 0, n * sizeof *dc);
    for (size_t p = 0; p < o->dim; p++) {
        float *d = big + p * n, in = 0;
        for (size_t k = 0; k < n; k++) {
            dc[k] += after[p * n + k] * dy[p];
            d[k] += dy[p] * c[k];
            in += d[k] * b[k];
            kept += d[k] * before[p * n + k];
            db[k] += dt * d[k] * x[p];
            d[k] *= g;
        }
        through += x[p] * in;
        skip += dy[p] * x[p];
        if (a->gx) a->gx[at + p] += a->d->x[h] * dy[p] + dt * in;
    }
    if (a->gdt) a->gdt[i * o->n_head + h] += through + decay * g * kept;
    if (a->ga) a->ga[h] += dt * g * kept;
    if (a->gd) a->gd[h] += skip;
}

static void scan_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct scanning *a = ctx;
    size_t size = state_size(a);
    float *s = a->states + (size_t)ith * (CHUNK + 2) * size, *big = s + (CHUNK + 1) * size;
    for (size_t h = from; h < to; h++) {
        const float *start = a->starts + (h + 1) * a->n_chunks * size;
        for (size_t q = a->s->n_seq; q-- > 0;) {
            size_t first = a->s->start[q], len = a->s->start[q + 1] - first;
            memset(big, 0, size * sizeof *big);
            for (size_t c = (len + CHUNK - 1) / CHUNK; c-- > 0;) {
                size_t at = first + c * CHUNK, n = MIN(len - c * CHUNK, (size_t)CHUNK);
                start -= size;
                memcpy(s, start, size * sizeof *s);
                for (size_t i = 0; i < n; i++) step(a, h, at + i, s + i * size, s + (i + 1) * size);
                for (size_t i = n; i-- > 0;) step_back(a, h, at + i, s + (i + 1) * size, s + i * size, big);
            }
        }
    }
}

static void add_heads(const struct scanning *a, float *g, const float *heads, size_t i) {
    const ad_ssd_shape *o = &a->o;
    size_t n = o->n_state;
    for (size_t h = 0; h < o->n_head; h++) {
        float *to = g + (i * o->n_group + h * o->n_group / o->n_head) * n;
        const float *from = heads + (h * a->s->n + i) * n;
        for (size_t k = 0; k < n; k++) to[k] += from[k];
    }
}

static void sum_heads_part(void *ctx, size_t from, size_t to, int ith) {
    const struct scanning *a = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        if (a->gb) add_heads(a, a->gb, a->head_b, i);
        if (a->gc) add_heads(a, a->gc, a->head_c, i);
    }
}

static void scan_back(tape *t, void *ctx) {
    struct scanning *a = ctx;
    if (!a->y->g) return;
    size_t each = a->o.n_head * a->s->n * a->o.n_state;
    a->gx = tape_grad_zeroed(t, a->x);
    a->gdt = tape_grad_zeroed(t, a->dt);
    a->ga = tape_grad_zeroed(t, a->a);
    a->gd = tape_grad_zeroed(t, a->d);
    a->gb = tape_grad_zeroed(t, a->b);
    a->gc = tape_grad_zeroed(t, a->c);
    tape_spot spot = tape_mark(t);
    a->head_b = tape_mem(t, each * sizeof(float));
    a->head_c = tape_mem(t, each * sizeof(float));
    if (a->head_b && a->head_c) {
        tape_for(t, a->o.n_head, 1, scan_back_part, a);
        tape_for(t, a->s->n, 1, sum_heads_part, a);
    }
    tape_release(t, spot);
}

var *ad_ssd(tape *t, var *x, var *dt, var *a, var *b, var *c, var *d, const ad_ssd_shape *o, const ad_seqs *s) {
    if (!x || !dt || !a || !b || !c || !d) return NULL;
    assert(x->cols == o->n_head * o->dim && dt->cols == o->n_head && b->cols == o->n_group * o->n_state);
    struct scanning k = {.x = x, .dt = dt, .a = a, .b = b, .c = c, .d = d, .o = *o, .s = s};
    for (size_t q = 0; q < s->n_seq; q++) k.n_chunks += (s->start[q + 1] - s->start[q] + CHUNK - 1) / CHUNK;
    size_t size = state_size(&k);
    k.y = tape_var(t, x->rows, x->cols, x->wants || dt->wants || a->wants || b->wants || c->wants || d->wants);
    k.starts = tape_mem(t, o->n_head * k.n_chunks * size * sizeof(float));
    k.states = tape_mem(t, (size_t)tape_threads(t) * (CHUNK + 2) * size * sizeof(float));
    if (!k.y || !k.starts || !k.states) return NULL;
    tape_for(t, o->n_head, 1, scan_part, &k);
    struct scanning *kept = k.y->wants ? tape_note(t, scan_back, sizeof k) : NULL;
    if (kept) *kept = k;
    return k.y;
}
