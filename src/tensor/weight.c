/* weight.c: weights are checked, laid out and packed when a model is opened.
 *
 * All panels of a model lie in one block of huge pages. The threads take pieces of about a megabyte of the file, in
 * order; a piece that is packed is dropped from the file's mapping, so that at no time more than the file's own size and
 * a few pieces are resident. Where a piece ends up depends on nothing but the weights: panels are the same for any
 * number of threads. */
#include "base/file.h"
#include "tensor/tensor_int.h"

#include <stdatomic.h>

enum { PIECE_BYTES = 1 << 20 };

typedef struct pack_job {
    weight *const *ws;
    size_t n;
    unsigned char *panels; /* a panel for each thread, to be split */
    size_t panel_bytes;
    _Atomic size_t next; /* piece, counted over all weights */
} pack_job;

static size_t panels_of(const weight *w) { return (w->rows + KERN_PANEL - 1) / KERN_PANEL; }

/* Panels of a piece of w. */
static size_t piece_panels(const weight *w) { return MAX(PIECE_BYTES / (w->row_bytes * KERN_PANEL), (size_t)1); }

static size_t pieces_of(const weight *w) {
    size_t per_piece = piece_panels(w);
    return w->packing ? (panels_of(w) * w->n_mat + per_piece - 1) / per_piece : 0;
}

static void pack_piece(const weight *w, size_t piece, unsigned char *panel) {
    size_t n_panels = panels_of(w), per_piece = piece_panels(w), from = piece * per_piece;
    size_t to = MIN(from + per_piece, n_panels * w->n_mat);
    const unsigned char *rows[KERN_PANEL] = {NULL}, *began = NULL;
    size_t panel_bytes = w->packed_mat_bytes / n_panels;
    for (size_t i = from; i < to; i++) {
        const unsigned char *mat = w->data + i / n_panels * w->mat_bytes;
        size_t first = i % n_panels * KERN_PANEL;
        for (size_t r = 0; r < KERN_PANEL; r++)
            rows[r] = mat + MIN(first + r, w->rows - 1) * w->row_bytes; /* past the end: never looked at */
        if (!began) began = rows[0];
        if (w->split) {
            split_panel dst = split_panel_at(w, i);
            kern_pack_panel(w->packing, panel, rows, w->cols);
            kern_split_panel(w->split, dst.high, dst.rest, panel, w->cols);
        } else kern_pack_panel(w->packing, (unsigned char *)w->packed + i * panel_bytes, rows, w->cols);
    }
    if (began) file_drop(began, (size_t)(rows[KERN_PANEL - 1] - began) + w->row_bytes);
}

static void pack_share(void *arg, int ith, int nth) {
    pack_job *job = arg;
    (void)nth;
    size_t i = 0, first = 0; /* pieces before weight i; pieces come in ascending order */
    for (;;) {
        size_t piece = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        while (i < job->n && piece - first >= pieces_of(job->ws[i])) first += pieces_of(job->ws[i++]);
        if (i == job->n) return;
        pack_piece(job->ws[i], piece - first, job->panels + (size_t)ith * job->panel_bytes);
    }
}

mote_status weight_plan(weight *w, const struct kern_table *kern, mote_error *err) {
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
    if (w->head && w->n_mat == 1) w->split = kern_split_of(w->type);
    size_t panel_bytes = kern_panel_bytes(packing, w->cols);
    if (w->split) panel_bytes = kern_split_high_bytes(w->split, w->cols) + kern_split_rest_bytes(w->split, w->cols);
    if (!ckd_mul_size(&w->packed_mat_bytes, panel_bytes, panels_of(w)) ||
        !ckd_mul_size(&w->packed_bytes, w->packed_mat_bytes, w->n_mat))
        FAIL(err, MOTE_E_FORMAT, "tensor '%s': its size overflows", w->name);
    w->packing = packing;
    return MOTE_OK;
}

mote_status weights_pack(weight *const *ws, size_t n, void **block, pool *p, mote_error *err) {
    enum { ALIGN = 64 };
    size_t total = 0;
    *block = NULL;
    for (size_t i = 0; i < n; i++)
        if (ws[i]->packing && (!ckd_add_size(&total, total, ws[i]->packed_bytes) || !ckd_add_size(&total, total, ALIGN)))
            FAIL(err, MOTE_E_FORMAT, "the weights' size overflows");
    if (total == 0) return MOTE_OK;
    unsigned char *at = *block = mem_alloc_aligned(total);
    if (!at) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu bytes of weights", total);
    for (size_t i = 0; i < n; i++) {
        if (!ws[i]->packing) continue;
        ws[i]->packed = at;
        at += (ws[i]->packed_bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    pack_job job = {.ws = ws, .n = n};
    for (size_t i = 0; i < n; i++)
        if (ws[i]->split) job.panel_bytes = MAX(job.panel_bytes, (kern_panel_bytes(ws[i]->packing, ws[i]->cols) + 63) / 64 * 64);
    job.panels = mem_alloc_aligned(MAX(job.panel_bytes * (size_t)pool_size(p), 64));
    if (!job.panels) {
        mem_free_aligned(*block);
        *block = NULL;
        FAIL(err, MOTE_E_MEMORY, "out of memory for packing weights");
    }
    pool_run(p, pack_share, &job);
    mem_free_aligned(job.panels);
    return MOTE_OK;
}

void weight_row_of(const weight *w, size_t mat, size_t r, float *dst) {
    if (w->split) {
        split_panel p = split_panel_at(w, r / KERN_PANEL);
        kern_split_row(w->split, p.high, p.rest, r % KERN_PANEL, w->cols, dst);
    } else if (w->packed) {
        const unsigned char *panel = (const unsigned char *)w->packed + mat * w->packed_mat_bytes +
                                     r / KERN_PANEL * kern_panel_bytes(w->packing, w->cols);
        kern_panel_row(w->packing, panel, r % KERN_PANEL, w->cols, dst);
    } else quant_get((int)w->type)->decode(dst, w->data + mat * w->mat_bytes + r * w->row_bytes, w->cols);
}

void weight_row(const weight *w, size_t r, float *dst) { weight_row_of(w, 0, r, dst); }

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
