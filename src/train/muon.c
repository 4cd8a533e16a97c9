/* muon.c: orthogonalized momentum. Source: Jordan et al. 2024, "Muon": five steps of a Newton-Schulz iteration with the
 * coefficients (3.4445, -4.7750, 2.0315), which brings all singular values near 1 (about 0.7 to 1.2) without computing them. */
#include "tensor/gemm.h"
#include "train/optim_int.h"

#include <math.h>

enum { STEPS = 5 };

struct muon {
    pool *pool;
    gemm *gemm;
    gemm_prec prec;
    float *room, *a, *aa, *next; /* rows × cols; s × s twice, s the shorter side; rows × cols */
};

mote_status muon_open(muon **out, const optim_slot *slots, size_t n, gemm_prec prec, pool *p, const struct kern_table *k, mote_error *err) {
    size_t all = 0, side = 0;
    for (size_t i = 0; i < n; i++) {
        if (!slots[i].muon) continue;
        all = MAX(all, slots[i].rows * slots[i].cols);
        side = MAX(side, MIN(slots[i].rows, slots[i].cols));
    }
    muon *m = MEM_NEW(muon);
    *out = m;
    if (!m) FAIL(err, MOTE_E_MEMORY, "out of memory");
    m->pool = p;
    m->prec = prec;
    m->room = mem_alloc_aligned(all * sizeof(float));
    m->next = mem_alloc_aligned(all * sizeof(float));
    m->a = mem_alloc_aligned(side * side * sizeof(float));
    m->aa = mem_alloc_aligned(side * side * sizeof(float));
    if (!m->room || !m->next || !m->a || !m->aa) FAIL(err, MOTE_E_MEMORY, "out of memory for Muon's products");
    return gemm_open(&m->gemm, p, k, err);
}

void muon_close(muon **m) {
    if (!*m) return;
    if ((*m)->gemm) gemm_close(&(*m)->gemm);
    mem_free_aligned((*m)->room);
    mem_free_aligned((*m)->next);
    mem_free_aligned((*m)->a);
    mem_free_aligned((*m)->aa);
    mem_free(*m);
    *m = NULL;
}

float *muon_room(muon *m) { return m->room; }

/* y = p x + q y over n floats, on all threads. */
struct mix {
    float p, q;
    const float *x;
    float *y;
    size_t n;
};
static void mix_part(void *arg, int ith, int nth) {
    const struct mix *c = arg;
    size_t from, to;
    pool_share(c->n, OPTIM_BLOCK, ith, nth, &from, &to);
    for (size_t i = from; i < to; i++) c->y[i] = c->p * c->x[i] + c->q * c->y[i];
}

void muon_orthogonal(muon *m, float *g, size_t rows, size_t cols) {
    static const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    size_t n = rows * cols, s = MIN(rows, cols);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)g[i] * (double)g[i];
    float by = (float)(1 / fmax(sqrt(sum), 1e-7));
    for (size_t i = 0; i < n; i++) g[i] *= by;
    bool tall = rows > cols; /* then from the right: X Xᵀ of the shorter side */
    for (int k = 0; k < STEPS; k++) {
        gemm_run(m->gemm, m->prec, &(gemm_args){.m = s, .n = s, .k = n / s, .a = g, .b = g, .c = m->a, .lda = cols, .ldb = cols,
                                                 .ldc = s, .ta = tall, .tb = !tall});
        gemm_run(m->gemm, m->prec, &(gemm_args){.m = s, .n = s, .k = s, .a = m->a, .b = m->a, .c = m->aa, .lda = s, .ldb = s, .ldc = s});
        pool_run(m->pool, mix_part, &(struct mix){b, c, m->a, m->aa, s * s}); /* b A + c A A */
        gemm_args x = {.m = rows, .n = cols, .k = s, .c = m->next, .ldc = cols};
        x.a = tall ? g : m->aa;
        x.b = tall ? m->aa : g;
        x.lda = tall ? cols : s;
        x.ldb = tall ? s : cols;
        gemm_run(m->gemm, m->prec, &x);
        pool_run(m->pool, mix_part, &(struct mix){1, a, m->next, g, n});
    }
}
