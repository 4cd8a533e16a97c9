/* kern_screen_test.c: split matrices. On every rung: splitting and merging gives back the panels, the screens are
 * the same bits as the scalar ones, and no product is ever above its bound: over random levels and over activations
 * that pull every unread bit the same way, with scales from the smallest to the largest and such that are no numbers. */
#include "kern/check.h"
#include "kernel/generic/ref.h"
#include "kernel/split.h"

enum { N_PANELS = 3, N_ROWS = N_PANELS * KERN_PANEL };

/* Where scales lie between. */
enum { USUAL, TINY, HUGE_SCALES, NEGATIVE, BROKEN, SCALE_KINDS };
/* What the activations are. */
enum { RANDOM_X, UPWARD_X, DOWNWARD_X, OUTLIER_X, ZERO_X, X_KINDS };

typedef struct problem {
    quant_type type;
    const kern_split *split;
    size_t k, panel_bytes, high_bytes, rest_bytes;
    guarded panels, high, rest, acts, cols;
} problem;

static uint16_t scale_of(int kind, rng *r) {
    float x = 0.002f + 0.01f * (float)rng_double(r);
    switch (kind) {
        case TINY: return (uint16_t)rng_below(r, 4); /* the smallest halves, and 0 */
        case HUGE_SCALES: return (uint16_t)(0x7bff - rng_below(r, 64));
        case NEGATIVE: return quant_f32_to_f16(rng_below(r, 2) ? x : -x);
        case BROKEN: return rng_below(r, 8) ? quant_f32_to_f16(x) : (uint16_t)(0x7c00 + rng_below(r, 2) + (rng_below(r, 2) << 15));
        default: return quant_f32_to_f16(x);
    }
}

static problem make_problem(const kern_table *ref, quant_type type, size_t blocks, int scales, int xs, rng *r) {
    const quant_format *f = quant_get((int)type);
    problem p = {.type = type, .split = kern_split_of(type), .k = blocks * f->block};
    const kern_packing *pk = kern_packing_of(type);
    size_t row_bytes = blocks * f->bytes, n_cols = kern_screen_cols(p.split, p.k);
    p.panel_bytes = kern_panel_bytes(pk, p.k);
    p.high_bytes = kern_split_high_bytes(p.split, p.k);
    p.rest_bytes = kern_split_rest_bytes(p.split, p.k);
    p.panels = guarded_new(N_PANELS * p.panel_bytes);
    p.high = guarded_new(N_PANELS * p.high_bytes);
    p.rest = guarded_new(N_PANELS * p.rest_bytes);
    p.acts = guarded_new(kern_acts_bytes(p.k));
    p.cols = guarded_new(2 * n_cols * sizeof(kern_screen_col));
    guarded rows = guarded_new(KERN_PANEL * row_bytes), x = guarded_floats(p.k, r, 2);
    float *v = floats(&x);
    float *first = malloc(p.k * sizeof *first);
    for (size_t i = 0; i < N_PANELS; i++) {
        const unsigned char *list[KERN_PANEL];
        for (size_t j = 0; j < KERN_PANEL; j++) {
            unsigned char *row = rows.p + j * row_bytes;
            random_row(type, row, p.k, r);
            for (size_t b = 0; b < blocks; b++) {
                uint16_t h = scale_of(scales, r);
                memcpy(row + b * f->bytes + (type == QUANT_Q6_K ? 208 : 0), &h, 2);
            }
            list[j] = row;
        }
        kern_pack_panel(pk, p.panels.p + i * p.panel_bytes, list, p.k);
        kern_split_panel(p.split, p.high.p + i * p.high_bytes, p.rest.p + i * p.rest_bytes, p.panels.p + i * p.panel_bytes, p.k);
    }
    /* the unread bits of the last panel's first row decide the signs of hostile activations */
    const unsigned char *panel = p.panels.p + (N_PANELS - 1) * p.panel_bytes;
    for (size_t b = 0; b < kern_acts_blocks(p.k); b++) {
        uint8_t u[32];
        float scale[2], min[2];
        kern_panel_block_ref(pk, panel, b, 0, u, scale, min);
        for (size_t c = 0; c < 32; c++) {
            bool up = ((u[c] & ((1 << p.split->n_low) - 1)) >> (p.split->n_low - 1)) != (scale[c / 16] < 0);
            first[32 * b + c] = up ? 1.0f : -1.0f;
        }
    }
    for (size_t i = 0; i < p.k; i++) {
        if (xs == UPWARD_X) v[i] = first[i];
        if (xs == DOWNWARD_X) v[i] = -first[i];
        if (xs == OUTLIER_X && i % 37 == 5) v[i] *= 100;
        if (xs == ZERO_X) v[i] = 0;
    }
    free(first);
    ref->quantize(p.acts.p, v, p.k);
    guarded_free(&rows);
    guarded_free(&x);
    return p;
}
static void drop_problem(problem *p) {
    guarded *all[] = {&p->panels, &p->high, &p->rest, &p->acts, &p->cols};
    for (size_t i = 0; i < COUNT_OF(all); i++) guarded_free(all[i]);
}

static kern_screen_col *cols_of(const problem *p) { return (kern_screen_col *)(void *)p->cols.p; }

typedef struct screened {
    float s[2][N_ROWS], u[2][N_ROWS];
    bool reach[2][N_PANELS];
} screened;

static void screen_all(const kern_table *t, const problem *p, float floor, screened *out) {
    kern_screen a = {.split = p->split, .high = p->high.p, .rest = p->rest.p, .n_panels = N_PANELS, .k = p->k,
                     .q = kern_acts_at(p->acts.p, p->k).q, .cols = cols_of(p), .s = out->s[0], .u = out->u[0],
                     .scale = 0.5f, .floor = floor, .reach = out->reach[0]};
    t->screen(&a);
    memcpy(out->s[1], out->s[0], sizeof out->s[0]);
    memcpy(out->u[1], out->u[0], sizeof out->u[0]);
    memcpy(out->reach[1], out->reach[0], sizeof out->reach[0]);
    if (p->split->n_low < 4) return;
    a.cols += kern_screen_cols(p->split, p->k);
    a.s = out->s[1];
    a.u = out->u[1];
    a.reach = out->reach[1];
    t->refine(&a);
}

static void multiply(const kern_table *t, const problem *p, float *y) {
    guarded scratch = guarded_new(kern_mul_scratch(p->k));
    t->mul[p->type](&(kern_mul){.pk = kern_packing_of(p->type), .panels = p->panels.p, .panel_bytes = p->panel_bytes,
                                .n_rows = N_ROWS, .k = p->k, .x = p->acts.p, .x_bytes = kern_acts_bytes(p->k), .n_x = 1,
                                .scratch = scratch.p, .out = {.y = y, .ld = N_ROWS, .scale = 1}});
    guarded_free(&scratch);
}

/* The same product straight from the parts, up to a row in the middle of a panel. */
static double multiplies_split(const kern_table *t, const problem *p, const float *want) {
    enum { N = N_ROWS - 3 };
    guarded y = guarded_new(N * sizeof(float));
    t->split_mul(&(kern_split_mul){.split = p->split, .high = p->high.p, .rest = p->rest.p, .n_rows = N, .k = p->k,
                                   .x = p->acts.p, .scale = 1, .y = floats(&y)});
    double e = error_of(floats(&y), want, N) > 0;
    guarded_free(&y);
    return e;
}

static double merges_back(const kern_table *t, const problem *p) {
    guarded panel = guarded_new(p->panel_bytes);
    double wrong = 0;
    for (size_t i = 0; i < N_PANELS; i++) {
        memcpy(panel.p, p->panels.p + i * p->panel_bytes, p->panel_bytes); /* padding stays */
        const kern_packing *pk = kern_packing_of(p->type);
        for (size_t b = 0; b < kern_acts_blocks(p->k); b++) memset(panel.p + kern_levels_at(pk, b), 0xa5, kern_level_bytes(pk->bits));
        t->merge(p->split, panel.p, p->high.p + i * p->high_bytes, p->rest.p + i * p->rest_bytes, p->k);
        wrong += memcmp(panel.p, p->panels.p + i * p->panel_bytes, p->panel_bytes) != 0;
    }
    guarded_free(&panel);
    return wrong;
}

/* Rows whose product is above its bound, or whose bound is a number though the product is none; and how tight. */
static size_t above(const float *y, const float *u, size_t *infinite) {
    size_t n = 0;
    for (size_t r = 0; r < N_ROWS; r++) {
        if (!isfinite(u[r])) (*infinite)++;
        if (u[r] < y[r] || (!isfinite(y[r]) && isfinite(u[r]))) n++;
    }
    return n;
}

static void check_type(const kern_table *ref, const kern_table *t, quant_type type) {
    rng r;
    rng_seed(&r, check.seed, (uint64_t)type + 7);
    double merged = 0, multiplied = 0, same = 0;
    size_t n_above = 0, n_rows = 0, infinite = 0;
    for (int trial = 0; trial < SCALE_KINDS * X_KINDS * 4; trial++) {
        int scales = trial % SCALE_KINDS, xs = trial / SCALE_KINDS % X_KINDS;
        size_t blocks = 1 + (size_t)rng_below(&r, type == QUANT_Q6_K ? 4 : 24);
        (void)snprintf(check.what, sizeof check.what, "%d, %s, trial %d", (int)type, check.rung, trial);
        problem p = make_problem(ref, type, blocks, scales, xs, &r);
        float y[N_ROWS];
        screened a = {0}, b = {0};
        kern_acts x = kern_acts_at(p.acts.p, p.k);
        merged += merges_back(t, &p);
        multiply(t, &p, y);
        multiplied += multiplies_split(t, &p, y);
        if (kern_screen_x(p.split, &x, p.k, cols_of(&p))) {
            screen_all(ref, &p, y[3] / 2, &a);
            screen_all(t, &p, y[3] / 2, &b);
            same += memcmp(a.reach, b.reach, sizeof a.reach) != 0 || !a.reach[0][0]; /* row 3 reaches itself */
            for (int level = 0; level < 2; level++) {
                same += error_of(b.s[level], a.s[level], N_ROWS) > 0;
                same += error_of(b.u[level], a.u[level], N_ROWS) > 0;
                n_above += above(y, b.u[level], &infinite);
                n_rows += N_ROWS;
            }
        }
        drop_problem(&p);
    }
    if (infinite == 0 || infinite * 2 > n_rows) n_above++; /* only broken scales may refuse to be bounded */
    char name[64];
    const char *f = quant_get((int)type)->name;
    (void)snprintf(name, sizeof name, "%s merge", f);
    verdict(name, merged, 0, 0, "");
    (void)snprintf(name, sizeof name, "%s split mul", f);
    verdict(name, multiplied, 0, 0, "");
    (void)snprintf(name, sizeof name, "%s screen", f);
    verdict(name, same, 0, 0, "");
    (void)snprintf(name, sizeof name, "%s bound", f);
    verdict(name, (double)n_above, 0, 0, "(products above)");
}

static void speed_of(const kern_table *t, quant_type type) {
    rng r;
    rng_seed(&r, 5, 5);
    problem p = make_problem(t, type, type == QUANT_Q6_K ? 4 : 32, USUAL, RANDOM_X, &r);
    kern_acts x = kern_acts_at(p.acts.p, p.k);
    screened out = {0};
    float y[N_ROWS];
    double screen, full, merge;
    if (!kern_screen_x(p.split, &x, p.k, cols_of(&p))) return;
    kern_screen a = {.split = p.split, .high = p.high.p, .rest = p.rest.p, .n_panels = N_PANELS, .k = p.k, .q = x.q,
                     .cols = cols_of(&p), .s = out.s[0], .u = out.u[0], .scale = 1, .floor = 0, .reach = out.reach[0]};
    guarded panel = guarded_new(p.panel_bytes);
    TIME_NS(screen, t->screen(&a));
    TIME_NS(full, multiply(t, &p, y));
    TIME_NS(merge, t->merge(p.split, panel.p, p.high.p, p.rest.p, p.k));
    printf("     %s in cache: screen %.2f ns/row, product %.2f, merge %.2f\n", quant_get((int)type)->name, screen / N_ROWS,
           full / N_ROWS, merge / KERN_PANEL);
    guarded_free(&panel);
    drop_problem(&p);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    kern_table ref, t;
    kern_screen_fn *seen[COUNT_OF(rung_names)] = {0};
    if (!rung_table(0, &ref)) return 2;
    for (size_t i = 0; i < COUNT_OF(rung_names); i++) {
        if (!rung_table(i, &t)) continue;
        bool known = false;
        for (size_t j = 0; j < i; j++) known = known || seen[j] == t.screen;
        seen[i] = t.screen;
        for (int type = 0; type < QUANT_TYPE_MAX && !known; type++) {
            if (!kern_split_of((quant_type)type)) continue;
            check_type(&ref, &t, (quant_type)type);
            if (check.bench) speed_of(&t, (quant_type)type);
        }
    }
    return check.failed;
}
