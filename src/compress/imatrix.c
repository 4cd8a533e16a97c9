/* imatrix.c: importance matrices in memory: entries by name, sums that add up, means for quantizing. */
#include "compress/importance.h"

#include <math.h>
#include <stdlib.h>

enum { ENTRIES_MAX = 1 << 20, DATASETS_MAX = 1 << 16 };

void imatrix_free(imatrix *m) {
    for (size_t i = 0; i < m->n; i++) {
        mem_free(m->entries[i].name);
        mem_free(m->entries[i].sums);
        mem_free(m->entries[i].counts);
    }
    for (size_t i = 0; i < m->n_datasets; i++) mem_free(m->datasets[i]);
    mem_free(m->entries);
    mem_free(m->datasets);
    *m = (imatrix){0};
}

/* The first entry whose name is not less. */
static size_t place_of(const imatrix *m, str name) {
    size_t from = 0, to = m->n;
    while (from < to) {
        size_t at = from + (to - from) / 2;
        str s = str_of(m->entries[at].name);
        int c = memcmp(s.p, name.p, MIN(s.n, name.n));
        if (c < 0 || (c == 0 && s.n < name.n)) from = at + 1;
        else to = at;
    }
    return from;
}

const imatrix_entry *imatrix_find(const imatrix *m, str name) {
    size_t at = place_of(m, name);
    return at < m->n && str_is(name, m->entries[at].name) ? &m->entries[at] : NULL;
}

static mote_status insert(imatrix *m, size_t at, str name, size_t n_values, size_t n_counts, mote_error *err) {
    imatrix_entry e = {.name = mem_strndup(name.p, name.n), .n_values = n_values, .n_counts = n_counts,
                       .sums = MEM_NEW_N(double, n_values), .counts = MEM_NEW_N(double, n_counts)};
    mote_status s = e.name && e.sums && e.counts ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory for %zu values", n_values);
    if (s == MOTE_OK) s = mem_grow(&m->entries, &m->cap, m->n + 1, sizeof *m->entries, ENTRIES_MAX, err);
    if (s != MOTE_OK) {
        mem_free(e.name);
        mem_free(e.sums);
        mem_free(e.counts);
        return s;
    }
    memmove(m->entries + at + 1, m->entries + at, (m->n - at) * sizeof *m->entries);
    m->entries[at] = e;
    m->n++;
    return MOTE_OK;
}

/* One count for all matrices becomes one for each, where another file has them apart. */
static mote_status widen_counts(imatrix_entry *e, size_t n, mote_error *err) {
    double *counts = MEM_NEW_N(double, n);
    if (!counts) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu counts", n);
    for (size_t i = 0; i < n; i++) counts[i] = e->counts[0];
    mem_free(e->counts);
    e->counts = counts;
    e->n_counts = n;
    return MOTE_OK;
}

mote_status imatrix_add(imatrix *m, str name, const double *sums, size_t n_values, const double *counts, size_t n_counts, mote_error *err) {
    if (n_values == 0 || n_counts == 0 || n_values % n_counts || n_values > IMATRIX_VALUES_MAX)
        FAIL(err, MOTE_E_FORMAT, "importance of '%.*s': %zu values for %zu matrices", STR_ARG(name), n_values, n_counts);
    size_t at = place_of(m, name);
    if (at == m->n || !str_is(name, m->entries[at].name)) TRY(insert(m, at, name, n_values, n_counts, err));
    imatrix_entry *e = &m->entries[at];
    if (e->n_values != n_values)
        FAIL(err, MOTE_E_MISMATCH, "importance of '%.*s': %zu values here, %zu before: are they of the same model?", STR_ARG(name), n_values, e->n_values);
    if (e->n_counts == 1 && n_counts > 1) TRY(widen_counts(e, n_counts, err));
    if (e->n_counts != n_counts && n_counts != 1)
        FAIL(err, MOTE_E_MISMATCH, "importance of '%.*s': %zu matrices here, %zu before: are they of the same model?", STR_ARG(name), n_counts, e->n_counts);
    for (size_t i = 0; i < n_values; i++) e->sums[i] += sums[i];
    for (size_t i = 0; i < e->n_counts; i++) e->counts[i] += counts[n_counts == 1 ? 0 : i];
    return MOTE_OK;
}

mote_status imatrix_add_dataset(imatrix *m, str name, mote_error *err) {
    TRY(mem_grow(&m->datasets, &m->cap_datasets, m->n_datasets + 1, sizeof *m->datasets, DATASETS_MAX, err));
    char *copy = mem_strndup(name.p, name.n);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    m->datasets[m->n_datasets++] = copy;
    return MOTE_OK;
}

void imatrix_means(const imatrix_entry *e, float *dst) {
    size_t columns = e->n_values / e->n_counts;
    for (size_t i = 0; i < e->n_values; i++) {
        double n = e->counts[i / columns];
        dst[i] = n > 0 ? (float)(e->sums[i] / n) : 1;
    }
}

/* ---- for quantizing ---- */
static const float *find_means(void *ctx, str tensor, size_t *n) {
    imatrix_source *s = ctx;
    const imatrix_entry *e = imatrix_find(&s->m, tensor);
    if (!e) return NULL;
    *n = e->n_values;
    return s->means[e - s->m.entries];
}

static bool any_in(const char *name, const char *const *parts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strstr(name, parts[i])) return true;
    }
    return false;
}

static mote_status make_means(imatrix_source *s, const imatrix_entry *e, float **out, mote_error *err) {
    float *means = MEM_NEW_N(float, e->n_values);
    if (!means) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu values", e->n_values);
    imatrix_means(e, means);
    *out = means;
    for (size_t i = 0; i < e->n_values; i++) {
        if (!isfinite(means[i]) || means[i] < 0) {
            FAIL(err, MOTE_E_FORMAT, "%s: importance of '%s': value %zu is %g; measure it again", s->path, e->name, i, (double)means[i]);
        }
    }
    s->n_used++;
    return MOTE_OK;
}

mote_status imatrix_source_open(imatrix_source *s, const char *path, const char *const *include, size_t n_include,
                                const char *const *exclude, size_t n_exclude, mote_error *err) {
    *s = (imatrix_source){.importance = {.find = find_means}};
    s->importance.ctx = s;
    (void)snprintf(s->path, sizeof s->path, "%s", path);
    TRY(imatrix_read(&s->m, path, 0, err));
    TRY(sha256_file(path, s->hash, err));
    s->means = MEM_NEW_N(float *, s->m.n);
    if (!s->means) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu entries", s->m.n);
    for (size_t i = 0; i < s->m.n; i++) {
        const char *name = s->m.entries[i].name;
        if ((n_include && !any_in(name, include, n_include)) || any_in(name, exclude, n_exclude)) continue;
        TRY(make_means(s, &s->m.entries[i], &s->means[i], err));
    }
    s->importance.file = s->path;
    s->importance.hash = s->hash;
    s->importance.dataset = s->m.n_datasets ? s->m.datasets[0] : NULL;
    s->importance.n_entries = s->n_used;
    s->importance.n_chunks = s->m.n_chunks;
    return MOTE_OK;
}

void imatrix_source_free(imatrix_source *s) {
    for (size_t i = 0; s->means && i < s->m.n; i++) mem_free(s->means[i]);
    mem_free(s->means);
    imatrix_free(&s->m);
    *s = (imatrix_source){0};
}
