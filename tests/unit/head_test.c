/* head_test.c: a head in split form gives the same bits as one that is not, whole or looked through for the greatest;
 * what op_head finds is what all logits say, on every rung, for any number of threads, on kind and on hostile heads. */
#include "kern/random_weights.h"
#include "report.h"
#include "tensor/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static kern_table kern;

enum { COLS = 256, ROWS = 1003 };

typedef struct head {
    unsigned char *data;
    weight split, plain;
    void *blocks[2];
    float *x, *want; /* [COLS], [ROWS] */
} head;

typedef struct call {
    const head *h;
    head_in in;
    head_query q;
    head_found *found;
    linear_out out;
    size_t n_x;
    pool *pool;
    unsigned char *scratch;
} call;

static size_t scratch_bytes(void) { return MAX(tensor_scratch_bytes(32, COLS, 3), head_scratch_bytes(COLS, 3)); }

static void on_thread(void *arg, int ith, int nth) {
    call *c = arg;
    team t = {.pool = c->pool, .kern = &kern, .ith = ith, .nth = nth, .fast = true, .scratch = {.base = c->scratch, .cap = scratch_bytes()}};
    linear_in in = {.x = c->h->x, .ld = 0};
    if (c->found) op_head(&t, &c->in, &c->q, c->found);
    else op_linear(&t, &in, c->n_x, &c->out, 1);
    assert_true(t.scratch.peak <= scratch_bytes());
}
static void run(call *c, int threads) {
    assert_int_equal(pool_open(&c->pool, threads, NULL), MOTE_OK);
    c->scratch = mem_alloc_aligned(scratch_bytes());
    pool_run(c->pool, on_thread, c);
    mem_free_aligned(c->scratch);
    pool_close(&c->pool);
}

static void prepare(weight *w, void **block, bool is_head) {
    pool *p;
    w->head = is_head;
    assert_int_equal(pool_open(&p, 2, NULL), MOTE_OK);
    assert_int_equal(weight_plan(w, &kern, NULL), MOTE_OK);
    weight_packer packer;
    assert_int_equal(weights_reserve(&packer, &w, 1, p, NULL), MOTE_OK);
    weights_pack(&packer, p);
    *block = packer.block;
    mem_free_aligned(packer.panels);
    pool_close(&p);
    assert_true((w->split != NULL) == is_head);
}

/* How a head and its input are. */
enum { KIND_PEAKED, KIND_FLAT, KIND_EQUAL_ROWS, KIND_TIES, KIND_HUGE, KIND_TINY, KIND_NEGATIVE, KIND_ZERO_X, KINDS };
static const char *const kinds[] = {"peaked", "flat", "equal rows", "ties", "huge", "tiny", "negative", "zero input"};

static head make_head(quant_type type, int kind, rng *r) {
    const quant_format *f = quant_get((int)type);
    size_t row_bytes = COLS / f->block * f->bytes;
    head h = {.data = malloc(ROWS * row_bytes), .x = malloc(COLS * sizeof(float)), .want = malloc(ROWS * sizeof(float))};
    float row[COLS], base[COLS];
    float size = kind == KIND_HUGE ? 1e6f : kind == KIND_TINY ? 1e-6f : 1;
    for (size_t i = 0; i < COLS; i++) base[i] = random_float(r);
    for (size_t i = 0; i < ROWS; i++) {
        float toward = kind == KIND_FLAT ? 0 : (float)rng_double(r);
        toward *= toward * toward;
        for (size_t j = 0; j < COLS; j++) row[j] = size * (random_float(r) + toward * base[j]);
        if (kind == KIND_EQUAL_ROWS) memcpy(row, base, sizeof row);
        if (kind == KIND_TIES && i % 3 == 2) memcpy(h.data + i * row_bytes, h.data + (i - i % 37 % (i + 1)) * row_bytes, row_bytes);
        else f->encode(h.data + i * row_bytes, row, COLS, NULL);
        for (size_t b = 0; kind == KIND_NEGATIVE && type == QUANT_Q8_0 && b < COLS / 32; b++)
            if (rng_below(r, 2)) h.data[i * row_bytes + b * 34 + 1] ^= 0x80;
    }
    for (size_t j = 0; j < COLS; j++) h.x[j] = kind == KIND_ZERO_X ? 0 : base[j] + 0.3f * random_float(r);
    h.split = h.plain = (weight){.name = "head", .type = type, .rows = ROWS, .cols = COLS, .n_mat = 1, .data = h.data};
    prepare(&h.split, &h.blocks[0], true);
    prepare(&h.plain, &h.blocks[1], false);
    call c = {.h = &h, .n_x = 1, .out = {.w = &h.plain, .y = h.want, .ld = ROWS, .scale = 0.5f}};
    run(&c, 1);
    return h;
}
static void drop_head(head *h) {
    free(h->data);
    free(h->x);
    free(h->want);
    mem_free_aligned(h->blocks[0]);
    mem_free_aligned(h->blocks[1]);
}

/* Whether row i must be found. */
static bool is_wanted(const head *h, const head_query *q, const bool *forced, int32_t i, float kth, float best) {
    return forced[i] || ((q->k == 0 || h->want[i] >= kth) && (q->gap == INFINITY || h->want[i] >= best - q->gap));
}

static int descending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void check_found(const head *h, const head_query *q, const head_found *found) {
    bool *forced = calloc(ROWS, sizeof *forced);
    float *sorted = malloc(ROWS * sizeof *sorted);
    size_t n = 0, at = 0;
    for (size_t i = 0; i < q->n_forced; i++) forced[q->forced[i]] = true;
    for (size_t i = 0; i < ROWS; i++)
        if (!forced[i]) sorted[n++] = h->want[i];
    qsort(sorted, n, sizeof *sorted, descending);
    for (int32_t i = 0; i < ROWS; i++) {
        bool there = at < found->n && found->ids[at] == i;
        if (is_wanted(h, q, forced, i, q->k ? sorted[q->k - 1] : 0, sorted[0]) && !there) fail_msg("row %d is missing", (int)i);
        if (!there) continue;
        assert_memory_equal(&found->y[at], &h->want[i], sizeof(float));
        at++;
    }
    assert_int_equal(at, found->n); /* ascending, each once */
    free(forced);
    free(sorted);
}

static void check_queries(const head *h, int kind, double *share, size_t *n_found) {
    static head_found found, first;
    int32_t seeds[] = {0, 3, 17, 40, (ROWS - 1) / 16}, forced[] = {1, 2, 48, 49, 777, ROWS - 1};
    static const size_t ks[] = {1, 2, 40, HEAD_K_MAX, 0, 0};
    static const float gaps[] = {INFINITY, INFINITY, INFINITY, 2, 1, 1e-3f};
    for (size_t i = 0; i < COUNT_OF(ks); i++)
        for (int way = 0; way < 4; way++) {
            call c = {.h = h, .found = &found, .q = {.k = ks[i], .gap = gaps[i], .forced = forced},
                      .in = {.w = &h->split, .x = h->x, .scale = 0.5f, .seeds = seeds}};
            if (way & 1) c.in.n_seeds = COUNT_OF(seeds);
            if (way & 2) c.q.n_forced = COUNT_OF(forced);
            for (int threads = 1; threads <= 3; threads++) {
                memset(&found, 0xff, sizeof found);
                run(&c, threads);
                if (threads > 1) assert_int_equal(found.ok, first.ok);
                if (!found.ok) { /* only what no screen can part may give up */
                    assert_true(kind != KIND_PEAKED && kind != KIND_HUGE && (kind != KIND_TINY || ks[i] == 0));
                    first = found;
                    continue;
                }
                check_found(h, &c.q, &found);
                if (threads > 1) {
                    assert_int_equal(found.n, first.n);
                    assert_memory_equal(found.ids, first.ids, found.n * sizeof *found.ids);
                }
                first = found;
                ++*n_found;
                if (i == 0 && way == 1) *share = (double)found.read_bytes / (double)h->split.packed_bytes;
            }
        }
}

/* A softcap: rows whose capped values tie must all be found. */
static void check_capped(const head *h) {
    static head_found found;
    for (float cap = 0.5f; cap < 1000; cap *= 4) {
        call c = {.h = h, .found = &found, .q = {.k = 3, .gap = INFINITY}, .in = {.w = &h->split, .x = h->x, .scale = 0.5f, .cap = cap}};
        run(&c, 2);
        if (!found.ok) continue;
        float *sorted = malloc(ROWS * sizeof *sorted);
        for (size_t i = 0; i < ROWS; i++) sorted[i] = cap * tanhf(h->want[i] / cap);
        size_t n = 0, above = 0;
        qsort(sorted, ROWS, sizeof *sorted, descending);
        for (size_t i = 0; i < ROWS; i++) above += cap * tanhf(h->want[i] / cap) >= sorted[2];
        n = 0;
        for (size_t i = 0; i < found.n; i++) n += cap * tanhf(found.y[i] / cap) >= sorted[2];
        assert_int_equal(n, above);
        free(sorted);
    }
}

/* All logits, for one token and for many; rows for look-up. */
static void check_whole(const head *h) {
    float *a = malloc(13 * ROWS * sizeof *a), *b = malloc(13 * ROWS * sizeof *b), row[2][COLS];
    for (size_t n = 1; n <= 13; n += 4)
        for (int threads = 1; threads <= 2; threads++) {
            call c = {.h = h, .n_x = n, .out = {.w = &h->plain, .y = a, .ld = ROWS}};
            run(&c, threads);
            c.out = (linear_out){.w = &h->split, .y = b, .ld = ROWS};
            run(&c, threads);
            for (size_t i = 0; i < n * ROWS; i++) assert_true(memcmp(&a[i], &b[i], sizeof *a) == 0 || (isnan(a[i]) && isnan(b[i])));
        }
    for (size_t i = 0; i < ROWS; i += 7) {
        weight_row(&h->plain, i, row[0]);
        weight_row(&h->split, i, row[1]);
        assert_memory_equal(row[0], row[1], sizeof row[0]);
    }
    free(a);
    free(b);
}

static void check_rung(const char *rung) {
    static const quant_type types[] = {QUANT_Q8_0, QUANT_Q6_K};
    rng r;
    rng_seed(&r, 11, 1);
    for (size_t i = 0; i < COUNT_OF(types); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            double share = 0;
            size_t n_found = 0;
            head h = make_head(types[i], kind, &r);
            if (kind == KIND_PEAKED || kind == KIND_NEGATIVE) check_whole(&h);
            check_queries(&h, kind, &share, &n_found);
            if (kind == KIND_PEAKED) check_capped(&h);
            if (getenv("MOTE_REPORT")) {
                char item[64], measured[64];
                (void)snprintf(item, sizeof item, "%s head, %s", quant_get((int)types[i])->name, kinds[kind]);
                (void)snprintf(measured, sizeof measured, "%zu found equal, greedy reads %.0f%%", n_found, 100 * share);
                report_row("head", item, measured, "all", "ok", "-", rung);
            }
            drop_head(&h);
        }
}

static void test_rungs(void **state) {
    static const char *const rungs[] = {"scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "neon", "dotprod"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rungs); i++) {
        int ok;
        uint32_t mask = cpu_mask_by_name(rungs[i], &ok);
        if (!ok || (mask & cpu_detect()) != mask) continue;
        kern_table_init(&kern, mask);
        check_rung(rungs[i]);
    }
    kern_table_init(&kern, CPU_ALL);
}

/* A logit that is no number anywhere must not go unseen. */
static void test_nan(void **state) {
    static head_found found;
    rng r;
    (void)state;
    rng_seed(&r, 12, 1);
    kern_table_init(&kern, CPU_ALL);
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        head h = make_head(QUANT_Q8_0, KIND_PEAKED, &r);
        memcpy(h.data + (921 * (COLS / 32) + 5) * 34, &bad[i], 2);
        mem_free_aligned(h.blocks[0]);
        h.split.split = NULL;
        prepare(&h.split, &h.blocks[0], true);
        call c = {.h = &h, .found = &found, .q = {.k = 1, .gap = INFINITY}, .in = {.w = &h.split, .x = h.x, .scale = 1}};
        for (int threads = 1; threads <= 2; threads++) {
            run(&c, threads);
            assert_false(found.ok);
        }
        h.x[7] = 1e30f; /* activations whose sums might overflow are not screened */
        run(&c, 2);
        assert_false(found.ok);
        drop_head(&h);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rungs),
        cmocka_unit_test(test_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
