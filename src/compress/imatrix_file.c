/* imatrix_file.c: importance matrices on disk. Everything a file says is checked against its length before memory is asked for. */
#include "compress/importance.h"
#include "format/format.h"

#include <math.h>

enum { NAME_MAX_BYTES = 4096, CHUNKS_MAX = 1 << 30 };

/* ---- GGUF ---- */

/* Elements of a tensor as double. */
static mote_status as_doubles(const tensor_info *t, double **out, size_t *n, mote_error *err) {
    if (t->type != QUANT_F32 || t->size / 4 > IMATRIX_VALUES_MAX)
        FAIL(err, MOTE_E_FORMAT, "'%.*s' of an importance matrix is not F32", STR_ARG(t->name));
    *n = t->size / 4;
    *out = MEM_NEW_N(double, *n);
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu values", *n);
    for (size_t i = 0; i < *n; i++) {
        float v;
        memcpy(&v, t->data + 4 * i, sizeof v);
        (*out)[i] = (double)v;
    }
    return MOTE_OK;
}

static mote_status add_tensor(imatrix *m, const model_file *f, const tensor_info *sums, str name, mote_error *err) {
    char other[NAME_MAX_BYTES];
    double *s = NULL, *c = NULL;
    size_t n_s, n_c;
    mote_status st;
    if (name.n + sizeof ".counts" > sizeof other) FAIL(err, MOTE_E_LIMIT, "a name of %zu bytes in an importance matrix", name.n);
    (void)snprintf(other, sizeof other, "%.*s.counts", (int)name.n, name.p);
    const tensor_info *counts = model_file_find_tensor(f, other);
    if (!counts) FAIL(err, MOTE_E_FORMAT, "importance of '%.*s' has sums and no counts", STR_ARG(name));
    TRYG(st, as_doubles(sums, &s, &n_s, err));
    TRYG(st, as_doubles(counts, &c, &n_c, err));
    for (size_t i = 0; i < n_c; i++) c[i] = rint(c[i]);
    st = imatrix_add(m, name, s, n_s, c, n_c, err);
out:
    mem_free(s);
    mem_free(c);
    return st;
}

static mote_status add_gguf(imatrix *m, const model_file *f, mote_error *err) {
    uint32_t chunks, chunk_size;
    size_t sums = 0;
    TRY(kv_get_u32(f, "imatrix.chunk_count", &chunks, 0, err));
    TRY(kv_get_u32(f, "imatrix.chunk_size", &chunk_size, 0, err));
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        if (!str_ends(t->name, STR(".in_sum2"))) continue;
        TRY(add_tensor(m, f, t, str_sub(t->name, 0, t->name.n - strlen(".in_sum2")), err));
        sums++;
    }
    if (sums == 0) FAIL(err, MOTE_E_FORMAT, "this GGUF file is no importance matrix: nothing in it is called NAME.in_sum2");
    const kv *d = model_file_find(f, "imatrix.datasets");
    for (uint64_t i = 0; d && d->type == KV_ARRAY && d->elem == KV_STRING && i < d->count; i++)
        TRY(imatrix_add_dataset(m, kv_at_str(d, i), err));
    m->n_chunks += MIN(chunks, (uint32_t)CHUNKS_MAX);
    if (chunk_size && chunk_size <= CHUNKS_MAX) m->chunk_size = chunk_size;
    return MOTE_OK;
}

/* ---- .dat: i32 entries; each i32 length, name, i32 calls, i32 values, f32 values (means times calls); then perhaps i32 chunks, i32 length,
 * name of the text ---- */
typedef struct reader {
    const unsigned char *p;
    size_t n;
} reader;

static bool take_i32(reader *r, int32_t *v) {
    if (r->n < 4) return false;
    memcpy(v, r->p, 4);
    r->p += 4;
    r->n -= 4;
    return true;
}

static bool take_text(reader *r, str *s) {
    int32_t len;
    if (!take_i32(r, &len) || len < 0 || (size_t)len > r->n || len > NAME_MAX_BYTES) return false;
    *s = (str){(const char *)r->p, strnlen((const char *)r->p, (size_t)len)};
    r->p += len;
    r->n -= (size_t)len;
    return true;
}

static mote_status add_dat(imatrix *m, reader r, size_t chunk_size, mote_error *err) {
    int32_t n, calls, n_values;
    str name;
    if (!take_i32(&r, &n) || n < 1) FAIL(err, MOTE_E_FORMAT, "this is no importance matrix: neither GGUF nor .dat");
    for (int32_t i = 0; i < n; i++) {
        if (!take_text(&r, &name) || name.n == 0 || !take_i32(&r, &calls) || !take_i32(&r, &n_values) || n_values < 1 ||
            (size_t)n_values > r.n / 4 || calls < 0)
            FAIL(err, MOTE_E_FORMAT, "entry %d of %d of the importance matrix is damaged or cut short (or this is none)", i + 1, n);
        double *sums = MEM_NEW_N(double, (size_t)n_values), count = (double)calls * (double)chunk_size;
        if (!sums) FAIL(err, MOTE_E_MEMORY, "out of memory for %d values", n_values);
        for (int32_t k = 0; k < n_values; k++) {
            float v;
            memcpy(&v, r.p + 4 * (size_t)k, sizeof v);
            sums[k] = (double)v * (double)chunk_size;
        }
        if (calls == 0) count = (double)chunk_size; /* means as they are */
        mote_status s = imatrix_add(m, name, sums, (size_t)n_values, &count, 1, err);
        mem_free(sums);
        TRY(s);
        r.p += 4 * (size_t)n_values;
        r.n -= 4 * (size_t)n_values;
    }
    int32_t chunks;
    if (take_i32(&r, &chunks) && chunks > 0 && chunks < CHUNKS_MAX) m->n_chunks += (size_t)chunks;
    if (take_text(&r, &name) && name.n) TRY(imatrix_add_dataset(m, name, err));
    if (!m->chunk_size) m->chunk_size = chunk_size;
    return MOTE_OK;
}

mote_status imatrix_parse(imatrix *m, const unsigned char *p, size_t n, const char *path, size_t chunk_size, mote_error *err) {
    mote_status s;
    if (n >= 4 && memcmp(p, "GGUF", 4) == 0) {
        model_file *f = NULL;
        s = gguf_parse(&f, p, n, err);
        if (s == MOTE_OK) s = add_gguf(m, f, err);
        model_file_close(&f);
    } else s = add_dat(m, (reader){p, n}, chunk_size ? chunk_size : IMATRIX_CHUNK_DEFAULT, err);
    return s == MOTE_OK ? s : err_prefix(err, s, "%s", path);
}

mote_status imatrix_read(imatrix *m, const char *path, size_t chunk_size, mote_error *err) {
    file_map f;
    TRY(file_open(&f, path, FILE_MAP, err));
    mote_status s = imatrix_parse(m, f.p, f.n, path, chunk_size, err);
    file_close(&f);
    return s;
}

/* ---- writing ---- */

static bool has_data(const imatrix_entry *e) {
    for (size_t i = 0; i < e->n_counts; i++) {
        if (e->counts[i] > 0) return true;
    }
    return false;
}

static mote_status write_floats(gguf_writer *w, const double *v, size_t n, mote_error *err) {
    enum { AT_ONCE = 4096 };
    float out[AT_ONCE];
    for (size_t i = 0, k; i < n; i += k) {
        k = MIN(n - i, (size_t)AT_ONCE);
        for (size_t j = 0; j < k; j++) out[j] = (float)v[i + j];
        TRY(gguf_write_data(w, out, k * sizeof *out, err));
    }
    return MOTE_OK;
}

static mote_status declare(gguf_writer *w, const imatrix *m, mote_error *err) {
    char name[NAME_MAX_BYTES + 16];
    str *datasets = MEM_NEW_N(str, m->n_datasets);
    if (!datasets) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < m->n_datasets; i++) datasets[i] = str_of(m->datasets[i]);
    const kv list = {.key = STR("imatrix.datasets"), .type = KV_ARRAY, .elem = KV_STRING, .count = m->n_datasets, .strings = datasets};
    mote_status s = gguf_put_str(w, "general.type", STR("imatrix"), err);
    if (s == MOTE_OK) s = gguf_put_kv(w, &list, err);
    mem_free(datasets);
    TRY(s);
    TRY(gguf_put_u32(w, "imatrix.chunk_count", (uint32_t)m->n_chunks, err));
    TRY(gguf_put_u32(w, "imatrix.chunk_size", (uint32_t)(m->chunk_size ? m->chunk_size : IMATRIX_CHUNK_DEFAULT), err));
    for (size_t i = 0; i < m->n; i++) {
        const imatrix_entry *e = &m->entries[i];
        const uint64_t sums[2] = {e->n_values / e->n_counts, e->n_counts}, counts[2] = {1, e->n_counts};
        (void)snprintf(name, sizeof name, "%s.in_sum2", e->name);
        TRY(gguf_put_tensor(w, str_of(name), QUANT_F32, 2, sums, err));
        (void)snprintf(name, sizeof name, "%s.counts", e->name);
        TRY(gguf_put_tensor(w, str_of(name), QUANT_F32, 2, counts, err));
    }
    return gguf_writer_begin(w, err);
}

static mote_status write_gguf(const imatrix *m, const char *path, mote_error *err) {
    gguf_writer *w = NULL;
    mote_status s = gguf_writer_open(&w, path, 0, err);
    if (s == MOTE_OK) s = declare(w, m, err);
    for (size_t i = 0; s == MOTE_OK && i < m->n; i++) {
        s = write_floats(w, m->entries[i].sums, m->entries[i].n_values, err);
        if (s == MOTE_OK) s = write_floats(w, m->entries[i].counts, m->entries[i].n_counts, err);
    }
    if (s == MOTE_OK) s = gguf_writer_commit(w, err);
    gguf_writer_close(&w);
    return s;
}

static mote_status put_i32(file_writer *w, size_t v, mote_error *err) {
    if (v > INT32_MAX) FAIL(err, MOTE_E_LIMIT, "%zu is more than a .dat file can say; write GGUF", v);
    int32_t i = (int32_t)v;
    return file_write(w, &i, sizeof i, err);
}

static mote_status put_text(file_writer *w, str s, mote_error *err) {
    TRY(put_i32(w, s.n, err));
    return file_write(w, s.p, s.n, err);
}

static mote_status put_entry(file_writer *w, const imatrix_entry *e, size_t chunk_size, mote_error *err) {
    size_t columns = e->n_values / e->n_counts;
    double most = 0;
    for (size_t i = 0; i < e->n_counts; i++) most = MAX(most, e->counts[i]);
    double calls = ceil(most / (double)chunk_size);
    TRY(put_text(w, str_of(e->name), err));
    TRY(put_i32(w, (size_t)calls, err));
    TRY(put_i32(w, e->n_values, err));
    for (size_t i = 0; i < e->n_values; i++) {
        double n = e->counts[i / columns]; /* 1 for experts that were never met */
        float v = (float)(n > 0 ? e->sums[i] / n * calls : calls);
        TRY(file_write(w, &v, sizeof v, err));
    }
    return MOTE_OK;
}

static mote_status write_dat(file_writer *w, const imatrix *m, mote_error *err) {
    size_t n = 0, chunk_size = m->chunk_size ? m->chunk_size : IMATRIX_CHUNK_DEFAULT;
    for (size_t i = 0; i < m->n; i++) n += has_data(&m->entries[i]);
    TRY(put_i32(w, n, err));
    for (size_t i = 0; i < m->n; i++) {
        if (has_data(&m->entries[i])) TRY(put_entry(w, &m->entries[i], chunk_size, err));
    }
    TRY(put_i32(w, m->n_chunks, err));
    TRY(put_text(w, m->n_datasets ? str_of(m->datasets[m->n_datasets - 1]) : STR(""), err));
    return file_writer_commit(w, err);
}

mote_status imatrix_write(const imatrix *m, const char *path, bool legacy, mote_error *err) {
    if (m->n == 0) FAIL(err, MOTE_E_USAGE, "%s: an importance matrix without entries", path);
    if (!legacy) return write_gguf(m, path, err);
    file_writer w = {0};
    TRY(file_writer_open(&w, path, err));
    mote_status s = write_dat(&w, m, err);
    file_writer_abort(&w);
    return s;
}
