/* imatrix_stats.c: what an importance matrix says of each weight, in llama-imatrix's terms (--show-statistics). */
#include "compress/importance.h"

#include <math.h>
#include <stdlib.h>

static void measure(const imatrix_entry *e, mote_imatrix_row *r) {
    size_t columns = e->n_values / e->n_counts;
    double squares = 0;
    for (size_t i = 0; i < e->n_values; i++) {
        double n = e->counts[i / columns], a = n > 0 ? e->sums[i] / n : 0;
        if (n <= 0) continue;
        r->min = r->n == 0 ? a : fmin(r->min, a);
        r->max = r->n == 0 ? a : fmax(r->max, a);
        r->total += a;
        squares += a * a;
        r->active += fabs(a) > 1e-5;
        r->n++;
    }
    if (r->n == 0) return;
    r->mean = r->total / (double)r->n;
    r->active /= (double)r->n;
    r->stddev = sqrt(fmax(0, squares / (double)r->n - r->mean * r->mean));
    for (size_t i = 0; i < e->n_values; i++) {
        double n = e->counts[i / columns], a = n > 0 ? e->sums[i] / n : 0, p = r->total > 0 ? a / r->total : 0;
        if (n <= 0) continue;
        if (p > 0) r->entropy -= p * log2(p);
        r->zd += r->stddev > 0 && (a - r->mean) / r->stddev > 1;
    }
    r->zd /= (double)r->n;
}

/* "blk.12.ffn_down.weight" is layer 12's ffn_down. */
static mote_status name_parts(arena *mem, const char *name, mote_imatrix_row *r, mote_error *err) {
    str s = str_of(name);
    int64_t layer;
    r->layer = -1;
    if (str_starts(s, STR("blk."))) {
        size_t dot = str_find(s, STR("."), 4);
        if (dot != SIZE_MAX && str_to_i64(str_sub(s, 4, dot - 4), &layer) && layer >= 0 && layer < 1 << 20) {
            r->layer = (int)layer;
            s = str_sub(s, dot + 1, s.n - dot - 1);
        }
    }
    if (str_ends(s, STR(".weight"))) s.n -= strlen(".weight");
    r->tensor = arena_dup(mem, s);
    r->name = arena_dup(mem, str_of(name));
    if (!r->tensor || !r->name) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

static double cosine(const imatrix_entry *a, const imatrix_entry *b) {
    double ab = 0, aa = 0, bb = 0;
    if (a->n_values != b->n_values) return 0;
    for (size_t i = 0; i < a->n_values; i++) {
        ab += a->sums[i] * b->sums[i];
        aa += a->sums[i] * a->sums[i];
        bb += b->sums[i] * b->sums[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa) / sqrt(bb) : 0;
}

/* With the same tensor of the layer before. */
static double likeness(const imatrix *m, const imatrix_entry *e, const mote_imatrix_row *r) {
    char before[4200];
    if (r->layer < 1) return 0;
    const char *rest = strchr(e->name + strlen("blk."), '.');
    (void)snprintf(before, sizeof before, "blk.%d%s", r->layer - 1, rest);
    const imatrix_entry *p = imatrix_find(m, str_of(before));
    return p ? cosine(e, p) : 0;
}

static int by_tensor(const void *a, const void *b) {
    const mote_imatrix_row *x = a, *y = b;
    int c = strcmp(x->tensor, y->tensor);
    return c ? c : (x->total < y->total) - (x->total > y->total);
}

mote_status imatrix_statistics(const imatrix *m, mote_imatrix_stats *out, mote_error *err) {
    arena *mem = MEM_NEW(arena);
    *out = (mote_imatrix_stats){.owned = mem, .n_chunks = m->n_chunks, .chunk_size = m->chunk_size};
    if (!mem) FAIL(err, MOTE_E_MEMORY, "out of memory");
    arena_init(mem, (size_t)1 << 30);
    out->rows = ARENA_NEW_N(mem, mote_imatrix_row, m->n);
    if (!out->rows) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu rows", m->n);
    for (size_t i = 0; i < m->n; i++) {
        mote_imatrix_row *r = &out->rows[out->n_rows];
        *r = (mote_imatrix_row){0};
        measure(&m->entries[i], r);
        if (r->n == 0) continue;
        TRY(name_parts(mem, m->entries[i].name, r, err));
        r->cossim = likeness(m, &m->entries[i], r);
        out->n_rows++;
    }
    qsort(out->rows, out->n_rows, sizeof *out->rows, by_tensor);
    return MOTE_OK;
}
