/* op_act.c: activations and the other ops that go element by element, and the moving of columns. */
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TILE = 256, STEP = 1024 };

/* ---- activations: y = f(x) (· up); dx = dy f'(x) (· up), dup = dy f(x) ---- */
struct acting {
    const struct kern_table *kern;
    act_fn f;
    var *x, *up, *y;
    float *gx, *gup;
    bool fresh_x, fresh_up;
};

/* gpt-oss: y = g σ(1.702 g) (u + 1), g = min(gate, 7), u = up between -7 and 7. Slopes d of the gate and e of up. */
static void swiglu_oai_slopes(float *d, float *e, const float *gate, const float *up, size_t n) {
    const float most = 7, steep = 1.702f;
    for (size_t i = 0; i < n; i++) {
        float g = fminf(gate[i], most), u = fmaxf(-most, fminf(up[i], most)), s = 1 / (1 + expf(-steep * g));
        d[i] = gate[i] < most ? s * (1 + steep * g * (1 - s)) * (u + 1) : 0;
        e[i] = fabsf(up[i]) < most ? g * s : 0;
    }
}

static void swiglu_oai_back(const struct acting *a, size_t from, size_t to) {
    float d[TILE], e[TILE];
    for (size_t i = from; i < to; i += TILE) {
        size_t n = MIN(to - i, (size_t)TILE);
        const float *dy = a->y->g + i;
        swiglu_oai_slopes(d, e, a->x->x + i, a->up->x + i, n);
        for (size_t j = 0; a->gx && j < n; j++) a->gx[i + j] = (a->fresh_x ? 0 : a->gx[i + j]) + d[j] * dy[j];
        for (size_t j = 0; a->gup && j < n; j++) a->gup[i + j] = (a->fresh_up ? 0 : a->gup[i + j]) + e[j] * dy[j];
    }
}

static void act_part(void *ctx, size_t from, size_t to, int ith) {
    const struct acting *a = ctx;
    (void)ith;
    a->kern->act(a->f, a->y->x + from, a->x->x + from, a->up ? a->up->x + from : NULL, to - from);
}

static void act_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct acting *a = ctx;
    (void)ith;
    if (a->f == ACT_SWIGLU_OAI) swiglu_oai_back(a, from, to);
    else
        a->kern->train.act_back(&(kern_act_back){.f = a->f, .x = a->x->x + from, .up = a->up ? a->up->x + from : NULL, .dy = a->y->g + from,
                                                 .gx = a->gx ? a->gx + from : NULL, .gup = a->gup ? a->gup + from : NULL, .n = to - from,
                                                 .add_x = !a->fresh_x, .add_up = !a->fresh_up});
}

static void act_back(tape *t, void *ctx) {
    struct acting *a = ctx;
    if (!a->y->g) return;
    a->gx = tape_grad(t, a->x, &a->fresh_x);
    a->gup = tape_grad(t, a->up, &a->fresh_up);
    tape_for(t, a->x->rows * a->x->cols, STEP, act_back_part, a);
}

static var *acting(tape *t, act_fn f, var *x, var *up) {
    assert(up || f != ACT_SWIGLU_OAI);
    struct acting a = {.kern = tape_kern(t), .f = f, .x = x, .up = up};
    a.y = tape_var(t, x->rows, x->cols, x->wants || (up && up->wants));
    if (!a.y) return NULL;
    tape_for(t, x->rows * x->cols, STEP, act_part, &a);
    struct acting *kept = a.y->wants ? tape_note(t, act_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}

var *ad_act(tape *t, act_fn f, var *x) { return x ? acting(t, f, x, NULL) : NULL; }
var *ad_act_mul(tape *t, act_fn f, var *gate, var *up) { return gate && up ? acting(t, f, gate, up) : NULL; }

/* ---- sums and products: y = a · m + b · by, where m is 1, c, or a row; da = dy m, db = dy by ---- */
struct element {
    const struct kern_table *kern;
    enum { SUM, PRODUCT, ROW_PRODUCT, COL_PRODUCT, CAP, CLAMP } kind;
    var *a, *b, *y;
    float by;
    float *ga, *gb;
    bool fresh_a, fresh_b;
};

static inline void put(float *g, size_t i, float v, bool fresh) { g[i] = fresh ? v : g[i] + v; }

static void element_part(void *ctx, size_t from, size_t to, int ith) {
    const struct element *e = ctx;
    const float *a = e->a->x, *b = e->b ? e->b->x : NULL;
    float *y = e->y->x, by = e->by;
    size_t n = e->a->cols;
    (void)ith;
    switch (e->kind) {
    case SUM:
        if (!b) e->kern->scale(y + from, a + from, by, to - from);
        else e->kern->train.sum(y + from, a + from, b + from, by, to - from);
        return;
    case PRODUCT:
        for (size_t i = from; i < to; i++) y[i] = a[i] * b[i];
        return;
    case ROW_PRODUCT:
        for (size_t i = from; i < to; i++) y[i] = a[i] * b[i % n];
        return;
    case COL_PRODUCT:
        for (size_t i = from; i < to; i++) y[i] = a[i] * b[i / n];
        return;
    case CAP:
        for (size_t i = from; i < to; i++) y[i] = by * tanhf(a[i] / by);
        return;
    case CLAMP:
        for (size_t i = from; i < to; i++) y[i] = fmaxf(-by, fminf(a[i], by));
        return;
    }
}

/* g (+)= by · dy */
static void pass_on(const struct element *e, float *g, float by, bool fresh, size_t from, size_t to) {
    const float *dy = e->y->g + from;
    if (!g) return;
    if (!fresh) e->kern->axpy(g + from, dy, by, to - from);
    else if (by == 1) memcpy(g + from, dy, (to - from) * sizeof *g);
    else e->kern->scale(g + from, dy, by, to - from);
}

static void element_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct element *e = ctx;
    const float *a = e->a->x, *b = e->b ? e->b->x : NULL, *dy = e->y->g;
    float *ga = e->ga, *gb = e->gb, by = e->by;
    size_t n = e->a->cols;
    (void)ith;
    if (e->kind == SUM) {
        pass_on(e, ga, b ? 1 : by, e->fresh_a, from, to);
        pass_on(e, gb, by, e->fresh_b, from, to);
        return;
    }
    for (size_t i = from; i < to && ga; i++) {
        float d = 1;
        switch (e->kind) {
        case SUM: break;
        case PRODUCT: d = b[i]; break;
        case ROW_PRODUCT: d = b[i % n]; break;
        case COL_PRODUCT: d = b[i / n]; break;
        case CAP: d = 1 - e->y->x[i] / by * (e->y->x[i] / by); break;
        case CLAMP: d = fabsf(a[i]) < by ? 1 : 0; break;
        }
        put(ga, i, d * dy[i], e->fresh_a);
    }
    for (size_t i = from; e->kind == PRODUCT && i < to && gb; i++) put(gb, i, a[i] * dy[i], e->fresh_b);
}

/* d of the column: sums over each row. */
static void col_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct element *e = ctx;
    size_t n = e->a->cols;
    (void)ith;
    for (size_t r = from; r < to; r++) {
        float sum = 0;
        for (size_t i = 0; i < n; i++) sum += e->a->x[r * n + i] * e->y->g[r * n + i];
        put(e->gb, r, sum, e->fresh_b);
    }
}

/* d of the row: sums over the rows, columns shared out. */
static void row_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct element *e = ctx;
    size_t n = e->a->cols;
    (void)ith;
    for (size_t i = from; i < to && e->fresh_b; i++) e->gb[i] = 0;
    for (size_t r = 0; r < e->a->rows; r++)
        for (size_t i = from; i < to; i++) e->gb[i] += e->a->x[r * n + i] * e->y->g[r * n + i];
}

static void element_back(tape *t, void *ctx) {
    struct element *e = ctx;
    if (!e->y->g) return;
    bool same = e->a == e->b; /* x · x: the second use adds to the first */
    e->ga = tape_grad(t, e->a, &e->fresh_a);
    e->gb = tape_grad(t, e->b, &e->fresh_b);
    if (same) e->fresh_b = false;
    if (e->kind == ROW_PRODUCT && e->gb) tape_for(t, e->a->cols, 16, row_back_part, e);
    if (e->kind == COL_PRODUCT && e->gb) tape_for(t, e->a->rows, 4, col_back_part, e);
    tape_for(t, e->a->rows * e->a->cols, STEP, element_back_part, e);
}

static var *element(tape *t, struct element e) {
    e.kern = tape_kern(t);
    e.y = tape_var(t, e.a->rows, e.a->cols, e.a->wants || (e.b && e.b->wants));
    if (!e.y) return NULL;
    tape_for(t, e.a->rows * e.a->cols, STEP, element_part, &e);
    struct element *kept = e.y->wants ? tape_note(t, element_back, sizeof e) : NULL;
    if (kept) *kept = e;
    return e.y;
}

var *ad_add_scaled(tape *t, var *a, var *b, float by) {
    if (!a || !b) return NULL;
    assert(a->rows == b->rows && a->cols == b->cols);
    return element(t, (struct element){.kind = SUM, .a = a, .b = b, .by = by});
}

var *ad_add(tape *t, var *a, var *b) { return ad_add_scaled(t, a, b, 1); }

var *ad_scale(tape *t, var *x, float by) {
    return x ? element(t, (struct element){.kind = SUM, .a = x, .by = by}) : NULL;
}

var *ad_mul(tape *t, var *a, var *b) {
    if (!a || !b) return NULL;
    assert(a->rows == b->rows && a->cols == b->cols);
    return element(t, (struct element){.kind = PRODUCT, .a = a, .b = b});
}

var *ad_mul_row(tape *t, var *x, var *s) {
    if (!x || !s) return NULL;
    assert(s->rows * s->cols == x->cols);
    return element(t, (struct element){.kind = ROW_PRODUCT, .a = x, .b = s});
}

var *ad_mul_col(tape *t, var *x, var *s) {
    if (!x || !s) return NULL;
    assert(s->rows == x->rows && s->cols == 1);
    return element(t, (struct element){.kind = COL_PRODUCT, .a = x, .b = s});
}

var *ad_softcap(tape *t, var *x, float cap) {
    return x ? element(t, (struct element){.kind = CAP, .a = x, .by = cap}) : NULL;
}

var *ad_clamp(tape *t, var *x, float by) {
    return x ? element(t, (struct element){.kind = CLAMP, .a = x, .by = by}) : NULL;
}

/* ---- columns ---- */
struct columns {
    var *x, *y;      /* columns [from, from + n) of x are columns [to, to + n) of y */
    size_t from, to, n;
    float *g;
    bool fresh;
};

static void columns_part(void *ctx, size_t from, size_t to, int ith) {
    const struct columns *c = ctx;
    (void)ith;
    for (size_t r = from; r < to; r++)
        memcpy(c->y->x + r * c->y->cols + c->to, c->x->x + r * c->x->cols + c->from, c->n * sizeof(float));
}

static void columns_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct columns *c = ctx;
    (void)ith;
    for (size_t r = from; r < to; r++) {
        float *g = c->g + r * c->x->cols + c->from;
        const float *dy = c->y->g + r * c->y->cols + c->to;
        for (size_t i = 0; i < c->n; i++) g[i] += dy[i];
    }
}

static void columns_back(tape *t, void *ctx) {
    struct columns *c = ctx;
    if (!c->y->g) return;
    c->g = tape_grad_zeroed(t, c->x);
    if (c->g) tape_for(t, c->x->rows, 4, columns_back_part, c);
}

static void columns(tape *t, struct columns c) {
    tape_for(t, c.x->rows, 4, columns_part, &c);
    struct columns *kept = c.x->wants ? tape_note(t, columns_back, sizeof c) : NULL;
    if (kept) *kept = c;
}

var *ad_cols(tape *t, var *x, size_t from, size_t n) {
    if (!x) return NULL;
    assert(from + n <= x->cols);
    var *y = tape_var(t, x->rows, n, x->wants);
    if (y) columns(t, (struct columns){.x = x, .y = y, .from = from, .n = n});
    return y;
}

var *ad_join(tape *t, var *const *xs, size_t n) {
    size_t cols = 0, at = 0;
    bool wants = false;
    for (size_t i = 0; i < n; i++) {
        if (!xs[i]) return NULL;
        assert(xs[i]->rows == xs[0]->rows);
        cols += xs[i]->cols;
        wants |= xs[i]->wants;
    }
    var *y = tape_var(t, xs[0]->rows, cols, wants);
    for (size_t i = 0; y && i < n; at += xs[i]->cols, i++)
        columns(t, (struct columns){.x = xs[i], .y = y, .to = at, .n = xs[i]->cols});
    return y;
}

/* ---- rows above one another ---- */
struct stacking {
    var *x, *y;
    size_t at; /* floats of y before x's */
    float *g;
    bool fresh;
};

static void stack_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct stacking *a = ctx;
    const float *dy = a->y->g + a->at;
    (void)ith;
    for (size_t i = from; i < to; i++) put(a->g, i, dy[i], a->fresh);
}

static void stack_back(tape *t, void *ctx) {
    struct stacking *a = ctx;
    if (!a->y->g) return;
    a->g = tape_grad(t, a->x, &a->fresh);
    if (a->g) tape_for(t, a->x->rows * a->x->cols, STEP, stack_back_part, a);
}

var *ad_stack(tape *t, var *const *xs, size_t n) {
    size_t rows = 0, at = 0;
    bool wants = false;
    for (size_t i = 0; i < n; i++) {
        if (!xs[i]) return NULL;
        assert(xs[i]->cols == xs[0]->cols);
        rows += xs[i]->rows;
        wants |= xs[i]->wants;
    }
    var *y = tape_var(t, rows, xs[0]->cols, wants);
    for (size_t i = 0; y && i < n; i++) {
        size_t size = xs[i]->rows * xs[i]->cols;
        memcpy(y->x + at, xs[i]->x, size * sizeof(float));
        struct stacking *kept = xs[i]->wants ? tape_note(t, stack_back, sizeof *kept) : NULL;
        if (kept) *kept = (struct stacking){.x = xs[i], .y = y, .at = at};
        at += size;
    }
    return y;
}
