/* session_file.c: a sequence in a file.
 *
 *   "MOTESEQ1"            8 bytes; the digit is the version
 *   fingerprint           64 hex digits: SHA-256 of what must be equal to read the caches back: the model's
 * metadata and tensor table, cache types, context and batch sizes u64 n_tokens, cache_bytes, n_checkpoints,
 * checkpoint_bytes i32 ids[n_tokens] cache                 cache_bytes, see state_seq_save checkpoints
 * n_checkpoints × (u64 position, checkpoint_bytes) SHA-256               64 hex digits over everything before
 * Little-endian. Nothing is believed before the checksum and every size agree. */
#include "run/run.h"

#include <stdio.h>

#define MAGIC "MOTESEQ1"
#define HEX (SHA256_HEX - 1)

typedef struct head {
    uint64_t n_tokens, cache_bytes, n_ck, ck_bytes;
} head;
#define HEAD_BYTES (8 + HEX + 4 * 8)

static void hash_u64(sha256 *h, uint64_t v) { sha256_update(h, &v, sizeof v); }
static void hash_str(sha256 *h, str s) {
    hash_u64(h, s.n);
    sha256_update(h, s.p, s.n);
}

static mote_status fingerprint(const mote_session *s, char hex[SHA256_HEX], mote_error *err) {
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    const model_file *f = s->model->file;
    for (size_t i = 0; i < model_file_n_kv(f); i++) {
        const kv *k = model_file_kv(f, i);
        hash_str(h, k->key);
        hash_u64(h, (uint64_t)k->type);
        if (k->type == KV_STRING) hash_str(h, k->s);
        else if (k->type == KV_ARRAY) hash_u64(h, k->count);
        else if (k->type == KV_F32 || k->type == KV_F64) sha256_update(h, &k->f, sizeof k->f);
        else hash_u64(h, (uint64_t)k->i);
    }
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        hash_str(h, t->name);
        hash_u64(h, (uint64_t)t->type);
        for (int d = 0; d < TENSOR_DIMS_MAX; d++) hash_u64(h, t->ne[d]);
        const size_t n = MIN(t->coded.n ? t->coded.n : t->size, (size_t)64); /* a sample, so that fine-tunes differ */
        sha256_update(h, t->coded.n ? t->coded.p + (t->coded.n - n) : (const char *)t->data, n);
    }
    hash_str(h, str_of(s->o.type_k));
    hash_str(h, str_of(s->o.type_v));
    hash_u64(h, s->o.exact);
    hash_u64(h, s->n_ctx);
    hash_u64(h, s->n_batch);
    sha256_final(h, hex);
    sha256_free(h);
    return MOTE_OK;
}

/* ---- writing ---- */

typedef struct out_file {
    file_writer w;
    sha256 *hash;
    mote_error *err;
} out_file;

static mote_status put(out_file *f, const void *p, size_t n) {
    sha256_update(f->hash, p, n);
    return file_write(&f->w, p, n, f->err);
}

static mote_status put_u64(out_file *f, uint64_t v) {
    unsigned char b[8];
    le_put(b, v, sizeof b);
    return put(f, b, sizeof b);
}

static mote_status put_all(mote_session *s, size_t seq, out_file *f, void *cache, size_t cache_bytes) {
    const run_seq *q = &s->seqs[seq];
    char hex[SHA256_HEX];
    uint64_t n_ck = 0;
    for (size_t i = 0; i < s->n_ck; i++) n_ck += s->ck[i].pos && s->ck[i].seq == seq;
    TRY(fingerprint(s, hex, f->err));
    TRY(put(f, MAGIC, 8));
    TRY(put(f, hex, HEX));
    TRY(put_u64(f, q->n));
    TRY(put_u64(f, cache_bytes));
    TRY(put_u64(f, n_ck));
    TRY(put_u64(f, s->ck_bytes));
    TRY(put(f, q->ids, q->n * sizeof *q->ids));
    run_settle(s, seq);
    state_seq_save(s->st, seq, cache);
    TRY(put(f, cache, cache_bytes));
    for (size_t i = 0; i < s->n_ck; i++) {
        if (s->ck[i].pos == 0 || s->ck[i].seq != seq) continue;
        TRY(put_u64(f, s->ck[i].pos));
        TRY(put(f, s->ck_data + i * s->ck_bytes, s->ck_bytes));
    }
    sha256_final(f->hash, hex);
    return file_write(&f->w, hex, HEX, f->err);
}

mote_status run_save(mote_session *s, size_t seq, const char *path, mote_error *err) {
    TRY(run_check_seq(s, seq, err));
    mote_status st = MOTE_OK;
    out_file f = {.err = err};
    size_t cache_bytes = state_seq_bytes(s->st, seq);
    void *cache = mem_calloc(cache_bytes, 1);
    f.hash = sha256_new();
    if (!cache || !f.hash)
        FAILG(st, err, MOTE_E_MEMORY, "out of memory for a copy of the caches (%zu bytes)", cache_bytes);
    TRYG(st, file_writer_open(&f.w, path, err));
    st = put_all(s, seq, &f, cache, cache_bytes);
    if (st == MOTE_OK) st = file_writer_commit(&f.w, err);
    else file_writer_abort(&f.w);
out:
    sha256_free(f.hash);
    mem_free(cache);
    return st;
}

/* ---- reading ---- */

typedef struct in_file {
    const unsigned char *p;
    size_t n, at;
} in_file;

static uint64_t get_u64(in_file *f) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | f->p[f->at + (size_t)i];
    f->at += 8;
    return v;
}

/* The file's length must be exactly what its head says. */
static bool sizes_agree(const head *h, size_t n) {
    uint64_t ids, each, cks, all = HEAD_BYTES + HEX;
    return ckd_mul_u64(&ids, h->n_tokens, 4) && ckd_add_u64(&each, h->ck_bytes, 8) &&
           ckd_mul_u64(&cks, each, h->n_ck) && ckd_add_u64(&all, all, ids) &&
           ckd_add_u64(&all, all, h->cache_bytes) && ckd_add_u64(&all, all, cks) && all == n;
}

static mote_status check_file(const mote_session *s, in_file *f, head *h, const char *path, mote_error *err) {
    char hex[SHA256_HEX];
    if (f->n < HEAD_BYTES + HEX || memcmp(f->p, MAGIC, 8) != 0)
        FAIL(err, MOTE_E_FORMAT, "%s: not a saved sequence of this version of mote", path);
    sha256 *hash = sha256_new();
    if (!hash) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    sha256_update(hash, f->p, f->n - HEX);
    sha256_final(hash, hex);
    sha256_free(hash);
    if (memcmp(hex, f->p + f->n - HEX, HEX) != 0)
        FAIL(err, MOTE_E_HASH, "%s: the file is damaged: its checksum does not match", path);
    TRY(fingerprint(s, hex, err));
    if (memcmp(hex, f->p + 8, HEX) != 0)
        FAIL(err, MOTE_E_MISMATCH, "%s: saved with another model, cache type, context or batch size", path);
    f->at = 8 + HEX;
    h->n_tokens = get_u64(f);
    h->cache_bytes = get_u64(f);
    h->n_ck = get_u64(f);
    h->ck_bytes = get_u64(f);
    if (!sizes_agree(h, f->n)) FAIL(err, MOTE_E_FORMAT, "%s: its sizes contradict each other", path);
    if (h->n_tokens > s->n_ctx)
        FAIL(err, MOTE_E_CONTEXT, "%s: %llu tokens do not fit the context of %zu", path,
             (unsigned long long)h->n_tokens, s->n_ctx);
    return MOTE_OK;
}

static mote_status read_checkpoints(mote_session *s, size_t seq, in_file *f, const head *h, const char *path,
                                    mote_error *err) {
    for (uint64_t i = 0; i < h->n_ck; i++) {
        uint64_t pos = get_u64(f);
        if (pos == 0 || pos > h->n_tokens)
            FAIL(err, MOTE_E_FORMAT, "%s: a checkpoint at %llu", path, (unsigned long long)pos);
        size_t slot = SIZE_MAX;
        for (size_t j = 0; j < s->n_ck && slot == SIZE_MAX; j++)
            if (s->ck[j].pos == 0) slot = j;
        if (slot != SIZE_MAX && h->ck_bytes == s->ck_bytes) {
            memcpy(s->ck_data + slot * s->ck_bytes, f->p + f->at, s->ck_bytes);
            s->ck[slot] = (run_checkpoint){seq, (size_t)pos, ++s->ck_age};
        }
        f->at += (size_t)h->ck_bytes;
    }
    return MOTE_OK;
}

mote_status run_load(mote_session *s, size_t seq, const char *path, mote_error *err) {
    TRY(run_check_seq(s, seq, err));
    run_clear(s, seq);
    file_map map = {0};
    head h = {0};
    mote_status st = MOTE_OK;
    run_seq *q = &s->seqs[seq];
    TRY(file_open(&map, path, FILE_MAP, err));
    in_file f = {map.p, map.n, 0};
    TRYG(st, check_file(s, &f, &h, path, err));
    size_t n = (size_t)h.n_tokens;
    if (n) memcpy(q->ids, f.p + f.at, n * sizeof *q->ids);
    f.at += n * sizeof *q->ids;
    TRYG(st, run_check_ids(s, q->ids, n, err));
    TRYG(st, state_seq_load(s->st, seq, f.p + f.at, (size_t)h.cache_bytes, n, err));
    q->n = n;
    q->n_keep = 0;
    f.at += (size_t)h.cache_bytes;
    st = read_checkpoints(s, seq, &f, &h, path, err);
out:
    file_close(&map);
    if (st != MOTE_OK) run_clear(s, seq);
    return st;
}
