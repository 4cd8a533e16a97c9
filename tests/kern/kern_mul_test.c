/* kern_mul_test.c: the int8 products of every format on every rung are the same bits as the scalar ones, for odd
 * sizes, extreme inputs, gathered rows, and buffers that end at a guard page. */
#include "kern/check.h"

typedef struct problem {
    quant_type type;
    const kern_packing *pk;
    size_t n_rows, k, n_x, panel_bytes, slice_bytes; /* slice_bytes: of a panel's group of blocks; 0: k is no multiple of its columns */
    guarded panels, sliced, acts, tiles, bias, scratch;
    int32_t index[64][2]; /* xi, yi */
} problem;

enum { FILL_RANDOM, FILL_MAX, FILL_MIN, FILL_ZERO, FILLS };

static void fill_row(quant_type type, unsigned char *row, size_t k, int fill, rng *r) {
    const quant_format *f = quant_get((int)type);
    size_t bytes = k / f->block * f->bytes;
    random_row(type, row, k, r);
    if (fill == FILL_RANDOM || type == QUANT_MXFP4 || type == QUANT_NVFP4 || type == QUANT_IQ1_M) return;
    int at[2];
    half_offsets(type, at);
    for (size_t i = 0; i < bytes; i++) {
        int in_block = (int)(i % f->bytes);
        bool half = in_block == at[0] || in_block == at[0] + 1 || (at[1] >= 0 && in_block / 2 == at[1] / 2);
        if (!half) row[i] = fill == FILL_MAX ? 0xff : fill == FILL_MIN ? 0x80 : 0;
    }
}

static problem make_problem(const kern_table *ref, quant_type type, size_t n_rows, size_t k, size_t n_x, int fill,
                            rng *r) {
    problem p = {.type = type, .pk = kern_packing_of(type), .n_rows = n_rows, .k = k, .n_x = n_x};
    const quant_format *f = quant_get((int)type);
    size_t n_panels = (n_rows + KERN_PANEL - 1) / KERN_PANEL, row_bytes = k / f->block * f->bytes;
    p.panel_bytes = kern_panel_bytes(p.pk, k);
    p.panels = guarded_new(n_panels * p.panel_bytes);
    guarded rows = guarded_new(KERN_PANEL * row_bytes);
    for (size_t i = 0; i < n_panels; i++) {
        const unsigned char *list[KERN_PANEL];
        for (size_t j = 0; j < KERN_PANEL; j++) {
            fill_row(type, rows.p + j * row_bytes, k, fill, r);
            list[j] = rows.p + j * row_bytes;
        }
        kern_pack_panel(p.pk, p.panels.p + i * p.panel_bytes, list, k);
    }
    guarded_free(&rows);
    const size_t columns = kern_group_blocks(p.pk->scales, p.pk->span) * KERN_BLOCK;
    if (k % columns == 0 && !kern_bits_24(p.pk->bits)) p.slice_bytes = kern_panel_bytes(p.pk, columns);
    p.sliced = guarded_new(n_panels * p.panel_bytes);
    for (size_t i = 0; i < n_panels && p.slice_bytes; i++)
        for (size_t g = 0; g < k / columns; g++)
            memcpy(p.sliced.p + (g * n_panels + i) * p.slice_bytes, p.panels.p + i * p.panel_bytes + g * p.slice_bytes, p.slice_bytes);
    size_t act_bytes = kern_acts_bytes(k), nb = kern_acts_blocks(k), n_tiles = (n_x + KERN_TILE - 1) / KERN_TILE;
    guarded x = guarded_floats(k, NULL, fill == FILL_MIN ? -2.0f : 2.0f);
    p.acts = guarded_new(n_x * act_bytes);
    p.tiles = guarded_new(n_tiles * nb * sizeof(kern_acts_block));
    for (size_t t = 0; t < n_x; t++) {
        for (size_t i = 0; i < k && (fill == FILL_RANDOM || fill == FILL_ZERO); i++) floats(&x)[i] = random_float(r);
        for (size_t i = 0; i < k && fill == FILL_RANDOM && t == 0; i++) /* one token with blocks of zeros: many, some in a row */
            if (i / KERN_BLOCK % 5 == 1 || i / KERN_BLOCK % 5 == 2) floats(&x)[i] = 0;
        ref->quantize(p.acts.p + t * act_bytes, floats(&x), k);
    }
    for (size_t t = 0; t < n_x; t += KERN_TILE)
        ref->interleave((kern_acts_block *)(void *)p.tiles.p + t / KERN_TILE * nb, p.acts.p + t * act_bytes, act_bytes,
                        MIN((size_t)KERN_TILE, n_x - t), k);
    guarded_free(&x);
    p.bias = guarded_floats(n_rows, r, 1);
    p.scratch = guarded_new(kern_mul_scratch(k));
    for (size_t t = 0; t < n_x && t < 64; t++) {
        p.index[t][0] = (int32_t)(t * 7 % n_x);
        p.index[t][1] = (int32_t)(n_x - 1 - t);
    }
    return p;
}
static void drop_problem(problem *p) {
    guarded *all[] = {&p->panels, &p->sliced, &p->acts, &p->tiles, &p->bias, &p->scratch};
    for (size_t i = 0; i < COUNT_OF(all); i++) guarded_free(all[i]);
}

enum { PLAIN, WITH_BIAS, ADDING, GATHERED, ZEROS, TILED, TILED_ADDING, SLICED, SLICED_ONE, SLICED_TILED, WAYS };

/* slice: the sliced ways use the sliced panels; else the same is asked of the others. */
static void multiply(const kern_table *t, const problem *p, int way, bool slice, float *y, size_t ld) {
    kern_mul m = {.pk = p->pk, .panels = p->panels.p, .panel_bytes = p->panel_bytes, .n_rows = p->n_rows, .k = p->k,
                  .x = p->acts.p, .x_bytes = kern_acts_bytes(p->k), .n_x = p->n_x, .scratch = p->scratch.p,
                  .out = {.y = y, .ld = ld, .scale = 1}};
    if (way == WITH_BIAS || way == TILED_ADDING) m.out.bias = floats(&p->bias);
    if (way != PLAIN) m.out.scale = 0.7f;
    m.out.add = way == ADDING || way == TILED_ADDING;
    if (way == ZEROS) m.zeros = true, m.n_x = 1; /* the reference does not know of it */
    if (way == SLICED_ONE) m.n_x = 1, m.zeros = slice;
    if (way >= SLICED && slice && p->slice_bytes) {
        m.panels = p->sliced.p;
        m.panel_bytes = p->slice_bytes;
        m.group_bytes = (p->n_rows + KERN_PANEL - 1) / KERN_PANEL * p->slice_bytes;
    }
    if (way == GATHERED) m.index = (kern_index){&p->index[0][0], &p->index[0][1], 2};
    if (way == TILED || way == TILED_ADDING || way == SLICED_TILED) m.tiles = (const kern_acts_block *)(const void *)p->tiles.p;
    t->mul[p->type](&m);
}

/* The largest error over all ways; every element must be the very same bits, or error is at least 1e-30. */
static double compare(const kern_table *ref, const kern_table *t, const problem *p, rng *r) {
    double worst = 0;
    size_t ld = p->n_rows + 3, n = (p->n_x - 1) * ld + p->n_rows;
    for (int way = 0; way < WAYS; way++) {
        guarded a = guarded_floats(n, r, 1), b = guarded_new(n * sizeof(float));
        memcpy(b.p, a.p, n * sizeof(float));
        multiply(ref, p, way, false, floats(&a), ld);
        multiply(t, p, way, true, floats(&b), ld);
        if (memcmp(a.p, b.p, n * sizeof(float)) != 0) worst = fmax(worst, fmax(1e-30, error_of(floats(&b), floats(&a), n)));
        guarded_free(&a);
        guarded_free(&b);
    }
    return worst;
}

static void speed_of(const kern_table *ref, const kern_table *t, quant_type type, double *ratio, char *text,
                     size_t cap) {
    rng r;
    rng_seed(&r, 5, 5);
    problem p = make_problem(ref, type, 512, 1024, 48, FILL_RANDOM, &r);
    guarded y = guarded_new(48 * 512 * sizeof(float));
    double one, many, slow;
    size_t n_x = p.n_x;
    TIME_NS(many, multiply(t, &p, TILED, false, floats(&y), 512));
    p.n_x = 1;
    TIME_NS(one, multiply(t, &p, PLAIN, false, floats(&y), 512));
    TIME_NS(slow, multiply(ref, &p, PLAIN, false, floats(&y), 512));
    *ratio = slow / one;
    (void)snprintf(text, cap, "1 token %6.1f GB/s, 48 tokens %7.1f GOP/s, %5.1fx scalar", (double)p.panels.n / one,
                   2.0 * 512 * 1024 * (double)n_x / many, *ratio);
    p.n_x = n_x;
    guarded_free(&y);
    drop_problem(&p);
}

static void check_type(const kern_table *ref, const kern_table *t, quant_type type) {
    static const struct {
        size_t n_rows, blocks, n_x;
    } sizes[] = {{1, 1, 1}, {5, 2, 2}, {16, 1, 3}, {17, 3, 4}, {33, 5, 7}, {20, 2, 8}, {40, 1, 13}, {16, 2, 25},
                 {35, 1, 5},  {16, 2, 6}, {50, 1, 10}, {17, 1, 12}, {35, 3, 37}, {16, 1, 46}, {150, 8, 3}};
    const quant_format *f = quant_get((int)type);
    rng r;
    rng_seed(&r, check.seed, (uint64_t)type);
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (int fill = 0; fill < FILLS; fill++) {
            if (fill != FILL_RANDOM && i % 3 != 1) continue;
            (void)snprintf(check.what, sizeof check.what, "%s, %s, case %zu, fill %d", f->name, check.rung, i, fill);
            problem p = make_problem(ref, type, sizes[i].n_rows, sizes[i].blocks * f->block, sizes[i].n_x, fill, &r);
            double e = compare(ref, t, &p, &r);
            if (e > 0 && !check.report) printf("     %s: error %g\n", check.what, e);
            worst = fmax(worst, e);
            drop_problem(&p);
        }
    char name[48], speed[96] = "";
    double ratio = 0;
    if (check.bench || check.report) speed_of(ref, t, type, &ratio, speed, sizeof speed);
    (void)snprintf(name, sizeof name, "%s mul", f->name);
    verdict(name, worst, 0, ratio, speed);
}

/* The scalar products themselves, against decoded weights in double precision. */
static void check_ref(const kern_table *ref, quant_type type) {
    const quant_format *f = quant_get((int)type);
    rng r;
    rng_seed(&r, check.seed, 99);
    size_t k = f->block * 2, row_bytes = 2 * f->bytes;
    unsigned char rows[KERN_PANEL][512], panel[16384] __attribute__((aligned(64)));
    unsigned char acts[4096] __attribute__((aligned(64)));
    const unsigned char *list[KERN_PANEL];
    float x[512], w[512], got[KERN_PANEL], want[KERN_PANEL];
    if (row_bytes > sizeof rows[0] || kern_panel_bytes(kern_packing_of(type), k) > sizeof panel) exit(2);
    for (size_t i = 0; i < k; i++) x[i] = random_float(&r);
    ref->quantize(acts, x, k);
    kern_acts a = kern_acts_at(acts, k);
    for (size_t i = 0; i < KERN_PANEL; i++) {
        random_row(type, rows[i], k, &r);
        list[i] = rows[i];
        f->decode(w, rows[i], k);
        double s = 0;
        for (size_t j = 0; j < k; j++) s += (double)w[j] * (double)a.d[j / 32] * a.q[j];
        want[i] = (float)s;
    }
    kern_pack_panel(kern_packing_of(type), panel, list, k);
    kern_mul m = {.pk = kern_packing_of(type), .panels = panel, .panel_bytes = sizeof panel, .n_rows = KERN_PANEL, .k = k,
                  .x = acts, .x_bytes = sizeof acts, .n_x = 1, .out = {.y = got, .ld = KERN_PANEL, .scale = 1}};
    ref->mul[type](&m);
    char name[48];
    (void)snprintf(name, sizeof name, "%s mul", f->name);
    verdict(name, error_of(got, want, KERN_PANEL), 1e-12, 0, "(against double precision)");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    kern_table ref, t;
    kern_mul_fn *seen[COUNT_OF(rung_names)][QUANT_TYPE_MAX] = {{0}};
    if (!rung_table(0, &ref)) return 2;
    for (int type = 0; type < QUANT_TYPE_MAX; type++)
        if (ref.mul[type]) check_ref(&ref, (quant_type)type);
    memcpy(seen[0], ref.mul, sizeof ref.mul);
    for (size_t i = 1; i < COUNT_OF(rung_names); i++) {
        if (!rung_table(i, &t)) continue;
        memcpy(seen[i], t.mul, sizeof t.mul);
        for (int type = 0; type < QUANT_TYPE_MAX; type++) {
            bool known = !t.mul[type];
            for (size_t j = 0; j < i; j++) known = known || seen[j][type] == t.mul[type];
            if (!known) check_type(&ref, &t, (quant_type)type);
        }
    }
    return check.failed;
}
