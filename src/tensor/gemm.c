/* gemm.c: products of float matrices, blocked for the caches.
 *
 * A *phase* multiplies some rows of op(a), some columns of op(b) and a stretch of k, as much as fits the two buffers:
 *   1. both are packed into panels, shared out to the threads by panels, unless they lie there from the phase before;
 *   2. the threads, in a grid over rows and columns, multiply panels: for each block of k a group of A's panels stays in the
 *      second cache while one panel of B, in the first, meets all of them.
 * (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"; the buffers stay in the third cache.)
 *
 * An element of c is one sum in the order of k (kern_gemm), whatever the blocks and the threads. */
#include "tensor/gemm.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kernel/kernel.h"

#include <string.h>

enum {
    BUFFER_WORDS = 2 << 20, /* of each operand: 8 MB, which any matrix of a small model's layer fits */
    BLOCK_WORDS = 384,      /* of k at most: a panel of B 32 words wide is 48 KB */
    GROUP_WORDS = 128 << 10, /* of A in the second cache: 512 KB */
    PHASE_LINES = 3072,     /* rows or columns of a phase at most */
    ACROSS_STEPS = 8,       /* of k, that a thread packs at least */
};
static const size_t alone_flop = 100000; /* what one thread does sooner than several have begun */

struct gemm {
    pool *pool;
    kern_gemm kern[2]; /* by gemm_prec */
    uint32_t *a, *b;   /* [BUFFER_WORDS] */
};

/* How a product is cut. */
typedef struct cut {
    const gemm *g;
    const kern_gemm *k;
    const gemm_args *args;
    size_t block;       /* floats of k */
    size_t rows, cols, depth; /* of a phase; depth: floats of k, whole blocks */
} cut;

/* One phase. */
typedef struct phase {
    size_t i, n_i, j, n_j, l, n_l; /* rows, columns, k */
    bool new_a, new_b;
} phase;

static size_t up(size_t n, size_t step) { return (n + step - 1) / step; }

mote_status gemm_open(gemm **out, pool *p, const struct kern_table *k, mote_error *err) {
    *out = NULL;
    gemm *g = MEM_NEW(gemm);
    if (!g) FAIL(err, MOTE_E_MEMORY, "out of memory");
    *g = (gemm){.pool = p, .kern = {k->gemm, k->gemm_bf16.tile ? k->gemm_bf16 : k->gemm}};
    g->a = mem_alloc_aligned(BUFFER_WORDS * sizeof *g->a);
    g->b = mem_alloc_aligned(BUFFER_WORDS * sizeof *g->b);
    if (!g->a || !g->b) {
        gemm_close(&g);
        FAIL(err, MOTE_E_MEMORY, "out of memory: matrix products need %zu bytes to pack into", 2 * BUFFER_WORDS * sizeof(uint32_t));
    }
    *out = g;
    return MOTE_OK;
}

void gemm_close(gemm **gp) {
    gemm *g = *gp;
    if (!g) return;
    mem_free_aligned(g->a);
    mem_free_aligned(g->b);
    mem_free(g);
    *gp = NULL;
}

const struct kern_gemm *gemm_panels(const gemm *g, gemm_prec prec) { return &g->kern[prec]; }

/* ---- packing ---- */

/* Where panel p of block `block` lies, in a phase of n_panels panels of `width`. */
static size_t block_words(const cut *c, const phase *f, size_t block) { return up(MIN(c->block, f->n_l - block * c->block), c->k->step); }
static size_t panel_at(const cut *c, const phase *f, size_t block, size_t p, size_t n_panels, size_t width) {
    return (block * (c->block / c->k->step) * n_panels + p * block_words(c, f, block)) * width;
}

/* Packs this thread's share of one operand: n lines from line i on, of the phase's stretch of k. Lines that lie side by side in
 * the source (across) are read in whole rows: the shares are cut along k then. */
static void pack_operand(const cut *c, const phase *f, uint32_t *dst, size_t width, const float *src, size_t ld, bool across, size_t i,
                         size_t n, int ith, int nth) {
    const size_t panels = up(n, width);
    for (size_t block = 0; block * c->block < f->n_l; block++) {
        const size_t l = f->l + block * c->block, k = MIN(c->block, f->l + f->n_l - l), next = block_words(c, f, block) * width;
        uint32_t *to_block = dst + panel_at(c, f, block, 0, panels, width);
        size_t from, to;
        if (across) {
            pool_share(k, 2 * ACROSS_STEPS, ith, nth, &from, &to);
            if (from < to) c->k->pack_across(to_block + from / c->k->step * width, width, next, src + (l + from) * ld + i, ld, n, to - from);
        } else {
            pool_share(n, width, ith, nth, &from, &to);
            if (from < to) c->k->pack(to_block + from / width * next, width, next, src + (i + from) * ld + l, ld, to - from, k);
        }
    }
}

/* ---- products ---- */

/* Panels of A [a0, a1) times panels of B [b0, b1), of one block. */
static void multiply_panels(const cut *c, const phase *f, size_t block, size_t a0, size_t a1, size_t b0, size_t b1) {
    const gemm_args *g = c->args;
    const size_t rows = c->k->rows, cols = c->k->cols, a_panels = up(f->n_i, rows), b_panels = up(f->n_j, cols);
    const size_t words = block_words(c, f, block), group = MAX(1, GROUP_WORDS / (rows * words));
    kern_gemm_tile t = {.ldc = g->ldc, .k = words, .add = g->add || f->l + block > 0};
    for (size_t first = a0; first < a1; first += group)
        for (size_t q = b0; q < b1; q++) {
            t.b = c->g->b + panel_at(c, f, block, q, b_panels, cols);
            t.n = MIN(cols, f->n_j - q * cols);
            for (size_t p = first; p < MIN(first + group, a1); p++) {
                t.a = c->g->a + panel_at(c, f, block, p, a_panels, rows);
                t.m = MIN(rows, f->n_i - p * rows);
                t.c = g->c + (f->i + p * rows) * g->ldc + f->j + q * cols;
                t.ahead = p + 1 < a_panels ? t.c + rows * g->ldc : NULL;
                c->k->tile(&t);
            }
        }
}

/* The grid of threads, n_a by n_b, in which the largest share is smallest. */
static void make_grid(size_t a_panels, size_t b_panels, int nth, int *n_a, int *n_b) {
    size_t best = SIZE_MAX;
    for (int i = 1; i <= nth; i++) {
        const int j = nth / i;
        const size_t share = up(a_panels, (size_t)i) * up(b_panels, (size_t)j);
        if (share >= best) continue;
        best = share;
        *n_a = i, *n_b = j;
    }
}

static void multiply_phase(const cut *c, const phase *f, int ith, int nth) {
    const size_t a_panels = up(f->n_i, c->k->rows), b_panels = up(f->n_j, c->k->cols);
    size_t a0, a1, b0, b1;
    int n_a = 1, n_b = 1;
    make_grid(a_panels, b_panels, nth, &n_a, &n_b);
    if (ith >= n_a * n_b) return;
    pool_share(a_panels, 1, ith / n_b, n_a, &a0, &a1);
    pool_share(b_panels, 1, ith % n_b, n_b, &b0, &b1);
    for (size_t block = 0; block * c->block < f->n_l; block++) multiply_panels(c, f, block, a0, a1, b0, b1);
}

static void run_phase(const cut *c, const phase *f, int ith, int nth) {
    const gemm_args *g = c->args;
    if (f->new_a) pack_operand(c, f, c->g->a, c->k->rows, g->a, g->lda, g->ta, f->i, f->n_i, ith, nth);
    if (f->new_b) pack_operand(c, f, c->g->b, c->k->cols, g->b, g->ldb, !g->tb, f->j, f->n_j, nth - 1 - ith, nth);
    if (nth > 1) pool_barrier(c->g->pool);
    multiply_phase(c, f, ith, nth);
    if (nth > 1) pool_barrier(c->g->pool);
}

static void run_all(void *arg, int ith, int nth) {
    const cut *c = arg;
    const gemm_args *g = c->args;
    const bool one_depth = c->depth >= g->k;
    for (size_t i = 0; i < g->m; i += c->rows)
        for (size_t j = 0; j < g->n; j += c->cols)
            for (size_t l = 0; l < g->k; l += c->depth) {
                const phase f = {.i = i, .n_i = MIN(c->rows, g->m - i), .j = j, .n_j = MIN(c->cols, g->n - j),
                                 .l = l, .n_l = MIN(c->depth, g->k - l), .new_a = !one_depth || j == 0,
                                 .new_b = !one_depth || c->cols < g->n || i == 0};
                run_phase(c, &f, ith, nth);
            }
}

static void plan(cut *c) {
    const gemm_args *g = c->args;
    const size_t step = c->k->step, n_blocks = up(g->k, BLOCK_WORDS * step);
    c->block = up(up(g->k, n_blocks), step) * step;
    /* lines of whole panels, so that all but the last phase are full tiles */
    c->rows = MIN(up(g->m, c->k->rows), PHASE_LINES / c->k->rows) * c->k->rows;
    c->cols = MIN(up(g->n, c->k->cols), PHASE_LINES / c->k->cols) * c->k->cols;
    const size_t fit = BUFFER_WORDS / (MAX(c->rows, c->cols) * (c->block / step));
    c->depth = MIN(n_blocks, fit) * c->block;
}
_Static_assert((size_t)PHASE_LINES * BLOCK_WORDS <= BUFFER_WORDS, "a block of a phase fits the buffer");

void gemm_run(gemm *gm, gemm_prec prec, const gemm_args *g) {
    if (g->m == 0 || g->n == 0) return;
    if (g->k == 0) {
        for (size_t i = 0; i < g->m && !g->add; i++) memset(g->c + i * g->ldc, 0, g->n * sizeof *g->c);
        return;
    }
    cut c = {.g = gm, .k = &gm->kern[prec], .args = g};
    plan(&c);
    if ((double)g->m * (double)g->n * (double)g->k * 2 < (double)alone_flop) run_all(&c, 0, 1);
    else pool_run(gm->pool, run_all, &c);
}
