/* weight.c: weights are checked and packed when a model is opened. */
#include "tensor/tensor_int.h"

typedef struct pack_job {
    const weight *w;
    unsigned char *dst;
    size_t panel_bytes, n_panels; /* of one matrix */
} pack_job;

static void pack_share(void *arg, int ith, int nth) {
    const pack_job *job = arg;
    const weight *w = job->w;
    size_t from, to;
    pool_share(job->n_panels * w->n_mat, 1, ith, nth, &from, &to);
    for (size_t i = from; i < to; i++) {
        const unsigned char *rows[KERN_PANEL], *mat = w->data + i / job->n_panels * w->mat_bytes;
        size_t first = i % job->n_panels * KERN_PANEL;
        for (size_t r = 0; r < KERN_PANEL; r++)
            rows[r] = mat + MIN(first + r, w->rows - 1) * w->row_bytes; /* past the end: never looked at */
        kern_pack_panel(w->packing, job->dst + i * job->panel_bytes, rows, w->cols);
    }
}

mote_status weight_prepare(weight *w, const struct kern_table *kern, pool *p, mote_error *err) {
    const quant_format *f = quant_get((int)w->type);
    if (!f || !f->decode)
        FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s': its type (%d) cannot be multiplied", w->name, (int)w->type);
    if (w->rows == 0 || w->cols == 0 || w->n_mat == 0 || !w->data)
        FAIL(err, MOTE_E_FORMAT, "tensor '%s' is empty", w->name);
    TRY(quant_row_bytes(f, w->cols, &w->row_bytes, err));
    if (!ckd_mul_size(&w->mat_bytes, w->row_bytes, w->rows))
        FAIL(err, MOTE_E_FORMAT, "tensor '%s': its size overflows", w->name);
    const kern_packing *packing = kern_packing_of(w->type);
    if (!packing || !kern->mul[w->type]) return MOTE_OK;

    pack_job job = {w, NULL, kern_panel_bytes(packing, w->cols), (w->rows + KERN_PANEL - 1) / KERN_PANEL};
    if (!ckd_mul_size(&w->packed_mat_bytes, job.panel_bytes, job.n_panels) ||
        !ckd_mul_size(&w->packed_bytes, w->packed_mat_bytes, w->n_mat))
        FAIL(err, MOTE_E_FORMAT, "tensor '%s': its size overflows", w->name);
    w->packed = job.dst = mem_alloc_aligned(w->packed_bytes);
    if (!job.dst)
        FAIL(err, MOTE_E_MEMORY, "out of memory for %zu bytes of tensor '%s'", w->packed_bytes, w->name);
    w->packing = packing;
    pool_run(p, pack_share, &job);
    return MOTE_OK;
}

void weight_free(weight *w) {
    mem_free_aligned(w->packed);
    w->packed = NULL;
    w->packing = NULL;
    w->packed_bytes = w->packed_mat_bytes = 0;
}

void weight_row(const weight *w, size_t r, float *dst) {
    quant_get((int)w->type)->decode(dst, w->data + r * w->row_bytes, w->cols);
}

const struct kern_table *tensor_kernels_open(uint32_t cpu_mask) {
    kern_table *k = MEM_NEW(kern_table);
    if (k) kern_table_init(k, cpu_mask);
    return k;
}

void tensor_kernels_close(const struct kern_table **k) {
    union {
        const struct kern_table *c;
        void *p;
    } u = {*k};
    mem_free(u.p);
    *k = NULL;
}

const char *tensor_kernels_rung(const struct kern_table *k) { return k->rung; }
