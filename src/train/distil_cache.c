/* distil_cache.c: the file of a teacher's likeliest tokens. */
#include "train/distil_cache.h"

#include "quant/quant.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { HEAD_BYTES = 8 + 16 + 2 * (SHA256_HEX - 1), END_BYTES = 8 + 24 + 8, COUNTS_BIT = 31 };
static const char magic[] = "moteKD01", end_magic[] = "moteKDok";

static size_t id_bytes(size_t n_vocab) { return n_vocab <= 65536 ? 2 : 4; }
static size_t record_bytes(const distil_cache_info *i) { return i->k * (id_bytes(i->n_vocab) + 2) + 4; }

static uint32_t u32_at(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static uint64_t u64_at(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static float f32_at(const unsigned char *p) {
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* What stands in a file's head must be possible. */
static mote_status check_info(const distil_cache_info *i, mote_error *err) {
    if (i->n_vocab == 0 || i->n_vocab > (size_t)1 << 24) FAIL(err, MOTE_E_FORMAT, "a vocabulary of %zu tokens", i->n_vocab);
    if (i->k == 0 || i->k > DISTIL_CACHE_K_MAX || i->k > i->n_vocab) FAIL(err, MOTE_E_FORMAT, "%zu likeliest tokens of %zu (at most %d)", i->k, i->n_vocab, DISTIL_CACHE_K_MAX);
    if (!(i->temperature > 0 && i->temperature <= 1000)) FAIL(err, MOTE_E_FORMAT, "a temperature of %g", (double)i->temperature);
    return MOTE_OK;
}

/* ---- writing ---- */
struct distil_cache_writer {
    file_writer f;
    distil_cache_info info;
    unsigned char *record;
};

mote_status distil_cache_create(distil_cache_writer **out, const char *path, const distil_cache_info *i, mote_error *err) {
    TRY(check_info(i, err));
    distil_cache_writer *w = MEM_NEW(distil_cache_writer);
    if (!w) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s;
    unsigned char head[HEAD_BYTES] = {0};
    uint32_t sizes[2] = {(uint32_t)i->n_vocab, (uint32_t)i->k};
    w->info = *i;
    w->info.n_seqs = w->info.n_tokens = w->info.n_records = 0;
    w->record = mem_calloc(record_bytes(i), 1);
    if (!w->record) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, file_writer_open(&w->f, path, err));
    memcpy(head, magic, 8);
    memcpy(head + 8, sizes, 8);
    memcpy(head + 16, &i->temperature, 4);
    memcpy(head + 24, i->teacher, SHA256_HEX - 1);
    memcpy(head + 24 + SHA256_HEX - 1, i->data, SHA256_HEX - 1);
    TRYG(s, file_write(&w->f, head, sizeof head, err));
    *out = w;
    return MOTE_OK;
out:
    distil_cache_discard(&w);
    return s;
}

static mote_status write_record(distil_cache_writer *w, const uint32_t *ids, const float *logp, float rest, mote_error *err) {
    unsigned char *p = w->record;
    size_t k = w->info.k, wide = id_bytes(w->info.n_vocab);
    for (size_t i = 0; i < k; i++) memcpy(p + i * wide, &ids[i], wide);
    p += k * wide;
    for (size_t i = 0; i < k; i++) {
        uint16_t h = quant_f32_to_f16(logp[i]);
        memcpy(p + 2 * i, &h, 2);
    }
    memcpy(p + 2 * k, &rest, 4);
    return file_write(&w->f, w->record, record_bytes(&w->info), err);
}

mote_status distil_cache_add(distil_cache_writer *w, const int32_t *tokens, const bool *counts, size_t n, const uint32_t *ids,
                             const float *logp, const float *rest, mote_error *err) {
    if (n == 0) return MOTE_OK;
    if (n > DISTIL_CACHE_SEQ_MAX) FAIL(err, MOTE_E_LIMIT, "a sequence of %zu tokens: at most %d", n, DISTIL_CACHE_SEQ_MAX);
    uint32_t head[2] = {(uint32_t)n, 0};
    for (size_t i = 0; i < n; i++) head[1] += counts[i];
    TRY(file_write(&w->f, head, sizeof head, err));
    for (size_t i = 0; i < n; i++) {
        uint32_t token = (uint32_t)tokens[i] | (uint32_t)counts[i] << COUNTS_BIT;
        TRY(file_write(&w->f, &token, sizeof token, err));
    }
    for (size_t i = 0; i < head[1]; i++) TRY(write_record(w, ids + i * w->info.k, logp + i * w->info.k, rest[i], err));
    w->info.n_seqs++;
    w->info.n_tokens += n;
    w->info.n_records += head[1];
    return MOTE_OK;
}

mote_status distil_cache_commit(distil_cache_writer *w, distil_cache_info *info, mote_error *err) {
    unsigned char end[END_BYTES] = {0};
    uint64_t sums[3] = {w->info.n_seqs, w->info.n_tokens, w->info.n_records};
    memcpy(end + 8, sums, sizeof sums);
    memcpy(end + 32, end_magic, 8);
    TRY(file_write(&w->f, end, sizeof end, err));
    TRY(file_writer_commit(&w->f, err));
    if (info) *info = w->info;
    return MOTE_OK;
}

void distil_cache_discard(distil_cache_writer **w) {
    if (!*w) return;
    file_writer_abort(&(*w)->f);
    mem_free((*w)->record);
    mem_free(*w);
    *w = NULL;
}

/* ---- reading ---- */
struct distil_cache {
    file_map map;
    const unsigned char *p;
    distil_cache_info info;
    size_t *at; /* [n_seqs] where each begins; checked to lie within the data with all its records */
    size_t cap;
};

/* The sequence at `at`: its sizes and where the next begins. false: it reaches beyond the data. */
static bool span(const distil_cache *c, size_t at, size_t n, uint32_t *n_tokens, uint32_t *n_records, size_t *next) {
    if (n - at < 8) return false;
    *n_tokens = u32_at(c->p + at);
    *n_records = u32_at(c->p + at + 4);
    if (*n_tokens > DISTIL_CACHE_SEQ_MAX || *n_records > *n_tokens) return false;
    /* at most 2^24 · (4 + 6 · 1024 + 4): no overflow in 64 bits */
    uint64_t bytes = 8 + 4 * (uint64_t)*n_tokens + (uint64_t)*n_records * record_bytes(&c->info);
    if (bytes > n - at) return false;
    *next = at + (size_t)bytes;
    return true;
}

static mote_status find_sequences(distil_cache *c, size_t n, mote_error *err) {
    size_t at = HEAD_BYTES, next = 0;
    uint32_t tokens, records;
    distil_cache_info *i = &c->info;
    for (;; at = next) {
        if (!span(c, at, n, &tokens, &records, &next)) FAIL(err, MOTE_E_FORMAT, "sequence %" PRIu64 " reaches beyond the end: the file is cut off", i->n_seqs);
        if (tokens == 0) break;
        TRY(mem_grow(&c->at, &c->cap, i->n_seqs + 1, sizeof *c->at, SIZE_MAX / sizeof *c->at, err));
        c->at[i->n_seqs++] = at;
        i->n_tokens += tokens;
        i->n_records += records;
    }
    const unsigned char *end = c->p + at;
    if (n - at != END_BYTES || memcmp(end + 32, end_magic, 8) != 0 || u64_at(end + 8) != i->n_seqs || u64_at(end + 16) != i->n_tokens ||
        u64_at(end + 24) != i->n_records)
        FAIL(err, MOTE_E_FORMAT, "the end is not there, or its sums are wrong: the file is cut off or damaged");
    return MOTE_OK;
}

mote_status distil_cache_parse(distil_cache **out, const unsigned char *data, size_t n, mote_error *err) {
    if (n < HEAD_BYTES + END_BYTES || memcmp(data, magic, 8) != 0) FAIL(err, MOTE_E_FORMAT, "this is not a file of a teacher's likeliest tokens (it begins with \"%s\")", magic);
    distil_cache *c = MEM_NEW(distil_cache);
    if (!c) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s;
    c->p = data;
    c->info = (distil_cache_info){.n_vocab = u32_at(data + 8), .k = u32_at(data + 12), .temperature = f32_at(data + 16)};
    memcpy(c->info.teacher, data + 24, SHA256_HEX - 1);
    memcpy(c->info.data, data + 24 + SHA256_HEX - 1, SHA256_HEX - 1);
    TRYG(s, check_info(&c->info, err));
    TRYG(s, find_sequences(c, n, err));
    *out = c;
    return MOTE_OK;
out:
    distil_cache_close(&c);
    return s;
}

mote_status distil_cache_open(distil_cache **out, const char *path, mote_error *err) {
    file_map m;
    TRY(file_open(&m, path, FILE_MAP, err));
    mote_status s = distil_cache_parse(out, m.p, m.n, err);
    if (s != MOTE_OK) {
        file_close(&m);
        return err_prefix(err, s, "%s", path);
    }
    (*out)->map = m;
    return MOTE_OK;
}

void distil_cache_close(distil_cache **c) {
    if (!*c) return;
    file_close(&(*c)->map);
    mem_free((*c)->at);
    mem_free(*c);
    *c = NULL;
}

const distil_cache_info *distil_cache_about(const distil_cache *c) { return &c->info; }

void distil_cache_size(const distil_cache *c, size_t i, size_t *n_tokens, size_t *n_records) {
    *n_tokens = u32_at(c->p + c->at[i]);
    *n_records = u32_at(c->p + c->at[i] + 4);
}

static bool read_record(const distil_cache_info *info, const unsigned char *p, uint32_t *ids, float *logp, float *rest) {
    size_t k = info->k, wide = id_bytes(info->n_vocab);
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        uint16_t h;
        ids[i] = 0;
        memcpy(&ids[i], p + i * wide, wide);
        memcpy(&h, p + k * wide + 2 * i, 2);
        logp[i] = quant_f16_to_f32(h);
        if (ids[i] >= info->n_vocab || !(logp[i] <= 0)) return false;
        for (size_t j = 0; j < i; j++) {
            if (ids[j] == ids[i] && logp[i] > -INFINITY) return false;
        }
        sum += exp((double)logp[i]);
    }
    *rest = f32_at(p + k * (wide + 2));
    if (!(*rest >= 0 && *rest <= 1.001f)) return false;
    sum += (double)*rest;
    if (!(sum > 0.9 && sum < 1.1)) return false; /* halves round by less than a hundredth */
    for (size_t i = 0; i < k; i++) logp[i] -= (float)log(sum);
    *rest = (float)((double)*rest / sum);
    return true;
}

mote_status distil_cache_read(const distil_cache *c, size_t i, int32_t *tokens, bool *counts, uint32_t *ids, float *logp, float *rest,
                              mote_error *err) {
    const distil_cache_info *info = &c->info;
    size_t n, m, found = 0, bytes = record_bytes(info);
    distil_cache_size(c, i, &n, &m);
    const unsigned char *p = c->p + c->at[i] + 8, *records = p + 4 * n;
    for (size_t t = 0; t < n; t++) {
        uint32_t v = u32_at(p + 4 * t), id = v & (((uint32_t)1 << COUNTS_BIT) - 1);
        if (id >= info->n_vocab) FAIL(err, MOTE_E_FORMAT, "sequence %zu, token %zu: id %u is outside the vocabulary of %zu", i, t, id, info->n_vocab);
        tokens[t] = (int32_t)id;
        counts[t] = v >> COUNTS_BIT;
        found += counts[t];
        if (!counts[t]) continue;
        size_t r = found - 1;
        if (found > m || !read_record(info, records + r * bytes, ids + r * info->k, logp + r * info->k, rest + r))
            FAIL(err, MOTE_E_FORMAT, "sequence %zu, token %zu: what was kept is no distribution", i, t);
    }
    if (found != m) FAIL(err, MOTE_E_FORMAT, "sequence %zu: %zu tokens count, and %zu records are there", i, found, m);
    return MOTE_OK;
}
