/* weight.c: weights are checked and laid out when a model is opened, and packed when it is known to be used for longer.
 *
 * All panels of a model lie in one block of huge pages. The threads take pieces of about a megabyte of the file, in
 * order; a piece that is packed is dropped from the file's mapping, so that at no time more than the file's own size and
 * a few pieces are resident. Until then panels are packed one by one where they are used (linear.c): the products
 * are the same bits, so nobody can tell when a weight was packed. */
#include "base/file.h"
#include "tensor/tensor_int.h"

#include <stdatomic.h>

typedef struct pack_job {
    const weight_packer *p;
    _Atomic size_t next; /* piece, counted over all weights */
} pack_job;

static size_t panels_of(const weight *w) { return (w->rows + KERN_PANEL - 1) / KERN_PANEL; }

static size_t piece_panels(const weight *w) {
    enum { PIECE_BYTES = 1 << 20 };
    return MAX(PIECE_BYTES / (w->row_bytes * KERN_PANEL), (size_t)1);
}

static size_t pieces_of(const weight *w) {
    size_t per_piece = piece_panels(w);
    return w->packing ? (panels_of(w) * w->n_mat + per_piece - 1) / per_piece : 0;
}

/* The addresses of panel i's rows in the file. */
static void rows_of(const weight *w, size_t i, const unsigned char *rows[KERN_PANEL]) {
    size_t n_panels = panels_of(w), first = i % n_panels * KERN_PANEL;
    const unsigned char *mat = w->data + i / n_panels * w->mat_bytes;
    for (size_t r = 0; r < KERN_PANEL; r++)
        rows[r] = mat + MIN(first + r, w->rows - 1) * w->row_bytes; /* past the end: never looked at */
}

void weight_pack_panel(const weight *w, size_t i, void *dst) {
    const unsigned char *rows[KERN_PANEL];
    rows_of(w, i, rows);
    kern_pack_panel(w->packing, dst, rows, w->cols);
}

void weight_pass_panel(team *t, const weight *w, size_t i) {
    enum { DROP_BYTES = 8 << 20 }; /* often enough for a small footprint; each time stops all threads for a moment */
    const unsigned char *rows[KERN_PANEL];
    rows_of(w, i, rows);
    const unsigned char *end = rows[KERN_PANEL - 1] + w->row_bytes;
    if (t->read_bytes == 0 || rows[0] < t->read_from) t->read_from = rows[0];
    if (t->read_bytes == 0 || end > t->read_to) t->read_to = end;
    t->read_bytes += (size_t)(end - rows[0]);
    if (t->read_bytes < DROP_BYTES) return;
    file_drop(t->read_from, (size_t)(t->read_to - t->read_from));
    t->read_bytes = 0;
}

/* w as it is once it is packed at dst. */
static weight packed_at(const weight *w, void *dst) {
    weight r = *w;
    r.packed = dst;
    r.split = w->head && w->n_mat == 1 ? kern_split_of(w->type) : NULL;
    return r;
}

static bool can_be_sliced(const weight *w, const kern_packing *p) {
    if (w->n_mat != 1 || kern_bits_24(p->bits)) return false;
    return w->cols % (kern_group_blocks(p->scales, p->span) * KERN_BLOCK) == 0;
}

/* Panel i, which lies in one piece, to where its groups belong in all panels of a sliced weight. */
static void slice_panel(const weight *w, unsigned char *dst, size_t i, const unsigned char *panel) {
    const size_t each = weight_slice_bytes(w);
    for (size_t at = 0; at < kern_panel_bytes(w->packing, w->cols); at += each) memcpy(dst + at * panels_of(w) + i * each, panel + at, each);
}

/* scratch: room for a panel that is to be split or sliced. */
static void pack_piece(const weight *w, unsigned char *dst, size_t piece, unsigned char *scratch) {
    size_t per_piece = piece_panels(w), panel_bytes = kern_panel_bytes(w->packing, w->cols);
    size_t from = piece * per_piece, to = MIN(from + per_piece, panels_of(w) * w->n_mat);
    const weight ready = packed_at(w, dst);
    for (size_t i = from; i < to; i++) {
        weight_pack_panel(w, i, ready.split || w->sliced ? scratch : dst + i * panel_bytes);
        if (w->sliced) slice_panel(w, dst, i, scratch);
        if (!ready.split) continue;
        split_panel parts = split_panel_at(&ready, i);
        kern_split_panel(ready.split, parts.high, parts.rest, scratch, w->cols);
    }
    const unsigned char *begin[KERN_PANEL], *end[KERN_PANEL];
    rows_of(w, from, begin);
    rows_of(w, to - 1, end);
    (w->decoded ? mem_forget : file_drop)(begin[0], (size_t)(end[KERN_PANEL - 1] - begin[0]) + w->row_bytes);
}

static size_t room_of(const weight *w) { return (w->packed_bytes + 63) / 64 * 64; }

static void pack_share(void *arg, int ith, int nth) {
    pack_job *job = arg;
    const weight_packer *p = job->p;
    unsigned char *at = p->block;
    (void)nth;
    size_t i = 0, before = 0; /* pieces before weight i; a thread's pieces ascend */
    for (;;) {
        size_t piece = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        while (i < p->n && piece - before >= pieces_of(p->ws[i])) {
            before += pieces_of(p->ws[i]);
            at += room_of(p->ws[i++]);
        }
        if (i == p->n) return;
        pack_piece(p->ws[i], at, piece - before, p->panels + (size_t)ith * p->panel_bytes);
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
    w->sliced = w->sliced && packing && !w->head && can_be_sliced(w, packing);
    if (!packing || !kern->mul[w->type]) return MOTE_OK;
    const struct kern_split *split = packed_at(w, NULL).split;
    size_t panel_bytes = kern_panel_bytes(packing, w->cols);
    if (split) panel_bytes = kern_split_high_bytes(split, w->cols) + kern_split_rest_bytes(split, w->cols);
    if (!ckd_mul_size(&w->packed_mat_bytes, panel_bytes, panels_of(w)) ||
        !ckd_mul_size(&w->packed_bytes, w->packed_mat_bytes, w->n_mat))
        FAIL(err, MOTE_E_FORMAT, "tensor '%s': its size overflows", w->name);
    w->packing = packing;
    return MOTE_OK;
}

mote_status weights_reserve(weight_packer *p, weight *const *ws, size_t n, const pool *threads, mote_error *err) {
    size_t total = 0;
    *p = (weight_packer){.ws = ws, .n = n};
    for (size_t i = 0; i < n; i++) {
        if (!ckd_add_size(&total, total, ws[i]->packed_bytes) || !ckd_add_size(&total, total, 64))
            FAIL(err, MOTE_E_FORMAT, "the weights' size overflows");
        if (ws[i]->packing && (ws[i]->sliced || packed_at(ws[i], NULL).split))
            p->panel_bytes = MAX(p->panel_bytes, (kern_panel_bytes(ws[i]->packing, ws[i]->cols) + 63) / 64 * 64);
    }
    p->block = mem_alloc_aligned(total);
    p->panels = mem_alloc_aligned(p->panel_bytes * (size_t)pool_size(threads));
    if (p->block && p->panels) return MOTE_OK;
    weights_free(p);
    FAIL(err, MOTE_E_MEMORY, "out of memory for %zu bytes of weights", total);
}

void weights_free(weight_packer *p) {
    mem_free_aligned(p->block);
    mem_free_aligned(p->panels);
    *p = (weight_packer){0};
}

void weights_pack(weight_packer *p, pool *threads) {
    if (p->done) return;
    pack_job job = {.p = p};
    pool_run(threads, pack_share, &job);
    unsigned char *at = p->block;
    for (size_t i = 0; i < p->n; i++) {
        if (p->ws[i]->packing) *p->ws[i] = packed_at(p->ws[i], at);
        at += room_of(p->ws[i]);
    }
    p->done = true;
}

void weight_row_of(const weight *w, size_t mat, size_t r, float *dst) {
    if (w->split) {
        split_panel p = split_panel_at(w, r / KERN_PANEL);
        kern_split_row(w->split, p.high, p.rest, r % KERN_PANEL, w->cols, dst);
    } else if (w->packed && w->sliced) {
        const kern_packing *pk = w->packing;
        const size_t each = weight_slice_bytes(w), cols = kern_group_blocks(pk->scales, pk->span) * KERN_BLOCK;
        const unsigned char *at = (const unsigned char *)w->packed + r / KERN_PANEL * each;
        for (size_t c = 0; c < w->cols; c += cols, at += panels_of(w) * each) kern_panel_row(pk, at, r % KERN_PANEL, cols, dst + c);
    } else if (w->packed) {
        size_t i = mat * panels_of(w) + r / KERN_PANEL;
        const unsigned char *panel = (const unsigned char *)w->packed + i * kern_panel_bytes(w->packing, w->cols);
        kern_panel_row(w->packing, panel, r % KERN_PANEL, w->cols, dst);
    } else quant_get((int)w->type)->decode(dst, w->data + mat * w->mat_bytes + r * w->row_bytes, w->cols);
}

void weight_row(const weight *w, size_t r, float *dst) {
    for (; w->below && r >= w->rows; w = w->below) r -= w->rows;
    weight_row_of(w, 0, r, dst);
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
