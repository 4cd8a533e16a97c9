/* quantize.c: reads a model tensor by tensor, tile by tile, and writes it in other number formats.
 *
 * A tensor is a run of tiles of TILE weights, a multiple of every block, so tiles are converted alone: the pool
 * divides them, and what comes out does not depend on the number of threads. Nothing larger than a few
 * megabytes is held beside the mapped source. */
#include "compress/parts.h"
#include "compress/rules.h"
#include "quant/sparse24.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define TILE 12288
#define FORMAT(NAME, number, block, bytes, family) _Static_assert(TILE % (block) == 0, #NAME);
#include "quant/formats.def"
#undef FORMAT
#define TILES_PER_THREAD 32

/* What the threads share while they convert one chunk of a tensor. */
typedef struct job {
    const quant_format *from, *to;
    const unsigned char *src; /* of the tensor */
    const unsigned char *ready; /* all of it in `to` already, or NULL */
    uint64_t first, n;        /* weights: where the chunk begins, how many it has */
    unsigned char *dst;       /* of the chunk */
    atomic_size_t next;       /* the first tile that nobody has taken */
    gguf_writer *w;           /* the chunk before is written meanwhile, by the calling thread */
    const unsigned char *out; /* NULL: there is none */
    size_t out_bytes;
    mote_status written;
    mote_error *err_out;
    const float *importance;  /* ne[0] values per expert, or NULL */
    uint64_t columns, matrix; /* ne[0], and the weights of one expert */
    float *scratch;           /* 3 × TILE per thread */
    double *err, *sum;        /* per tile */
    uint64_t *bad;            /* per tile: the first weight not finite before or after, or UINT64_MAX */
} job;

/* Whether `sparse` is a 2:4 format and `dense` the one with the same scales: then nothing is lost between them. */
static bool twins(const quant_format *sparse, const quant_format *dense) {
    quant_type d;
    return quant_24_dense(sparse->type, &d) && d == dense->type;
}

/* Where n weights from `at` on are floats: in the file itself, or decoded to scratch. */
static const float *tile_of(const job *j, uint64_t at, size_t n, float *scratch) {
    const unsigned char *p = j->src + at / j->from->block * j->from->bytes;
    if (j->from->type == QUANT_F32 && (uintptr_t)p % sizeof(float) == 0) return (const float *)(const void *)p;
    j->from->decode(scratch, p, n);
    return scratch;
}

static void convert_tile(job *j, size_t tile, float *scratch, float *y, float *w) {
    uint64_t from = tile * (uint64_t)TILE, n = MIN(j->n - from, (uint64_t)TILE), at = j->first + from;
    unsigned char *dst = j->dst + from / j->to->block * j->to->bytes;
    double err, sum;
    j->bad[tile] = UINT64_MAX;
    const float *x = tile_of(j, at, (size_t)n, scratch);
    for (uint64_t i = 0; i < n && j->importance;) { /* a row, or what the tile has of it, at a time */
        uint64_t column = (at + i) % j->columns, m = MIN(j->columns - column, n - i);
        memcpy(w + i, j->importance + (at + i) / j->matrix * j->columns + column, (size_t)m * sizeof *w);
        i += m;
    }
    quant_weigh(w, x, (size_t)n, j->importance != NULL);
    if (j->ready) memcpy(dst, j->ready + at / j->to->block * j->to->bytes, (size_t)(n / j->to->block * j->to->bytes));
    else if (twins(j->from, j->to)) quant_24_expand(j->from->type, dst, j->src + at / 32 * j->from->bytes, (size_t)n);
    else if (!twins(j->to, j->from) || !quant_24_pack(j->to->type, dst, j->src + at / 32 * j->from->bytes, (size_t)n))
        j->to->encode(dst, x, (size_t)n, w);
    j->to->decode(y, dst, (size_t)n);
    quant_miss(x, y, (size_t)n, &err, &sum);
    j->err[tile] = err;
    j->sum[tile] = sum;
    if (isfinite(err)) return;
    for (uint64_t i = 0; i < n && j->bad[tile] == UINT64_MAX; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i])) j->bad[tile] = at + i;
    }
}

static void write_out(job *j) {
    if (j->out) j->written = gguf_write_data(j->w, j->out, j->out_bytes, j->err_out);
    j->out = NULL;
}

static void convert(void *arg, int ith, int nth) {
    (void)nth;
    job *j = arg;
    float *x = j->scratch + (size_t)ith * 3 * TILE;
    size_t tiles = (size_t)((j->n + TILE - 1) / TILE);
    if (ith == 0) write_out(j);
    for (size_t tile; (tile = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < tiles;)
        convert_tile(j, tile, x, x + TILE, x + 2 * TILE);
}

/* Everything of one run. */
typedef struct run {
    const mote_quantize_options *o;
    const quantize_importance *importance;
    const quantize_source *source;
    model_file *f;
    rules *rules;
    rules_choice *choice;
    gguf_writer *w;
    pool *pool;
    job job;
    size_t tiles; /* of a chunk */
    unsigned char *dst[2]; /* of a chunk, and of the one that is being written */
    mote_quantize_report *report;
    arena *mem;
    double err, sum; /* of all conversions */
} run;

/* Weights that are no numbers would spoil the file silently: say so, and where. */
static mote_status check_tile(const job *j, const tensor_info *t, uint64_t bad, mote_error *err) {
    float x[256]; /* the most weights a block has */
    uint64_t block = bad / j->from->block;
    j->from->decode(x, j->src + block * j->from->bytes, j->from->block);
    float v = x[bad % j->from->block];
    if (isfinite(v)) {
        FAIL(err, MOTE_E_RANGE, "tensor '%.*s': weight %llu (%g) is beyond the range of %s; use BF16 or F32",
             STR_ARG(t->name), (unsigned long long)bad, (double)v, j->to->name);
    }
    FAIL(err, MOTE_E_FORMAT, "tensor '%.*s': weight %llu is not a finite number; the file is damaged",
         STR_ARG(t->name), (unsigned long long)bad);
}

static mote_status find_importance(const run *r, const tensor_info *t, const float **importance, mote_error *err) {
    *importance = NULL;
    if (!r->importance) return MOTE_OK;
    size_t n = 0;
    const float *p = r->importance->find(r->importance->ctx, t->name, &n);
    if (!p) return MOTE_OK;
    bool embedding = str_is(t->name, "token_embd.weight") || str_is(t->name, "per_layer_token_embd.weight");
    uint64_t experts = t->n_dims > 2 ? t->ne[2] : 1, want = t->ne[0] * experts;
    if (n != want && embedding) return MOTE_OK; /* looked up, not multiplied: llama-imatrix's entry may be of another kind */
    if (n != want || (t->n_dims > 3 && t->ne[3] > 1)) {
        FAIL(err, MOTE_E_MISMATCH, "importance of tensor '%.*s' has %zu values, the tensor has %llu columns: is the matrix of this model?",
             STR_ARG(t->name), n, (unsigned long long)want);
    }
    *importance = p;
    return MOTE_OK;
}

/* values, bytes: as quantize_source gives them. */
static mote_status convert_tensor(run *r, const tensor_info *t, const quant_format *to, const float *values, const void *bytes,
                                  double *nmse, mote_error *err) {
    job *j = &r->job;
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= t->ne[i]; /* the reader has checked it against the file */
    j->from = quant_get(values ? QUANT_F32 : (int)t->type);
    j->to = to;
    j->src = values ? (const unsigned char *)values : t->data;
    j->ready = bytes;
    j->columns = t->ne[0];
    j->matrix = t->n_dims > 1 ? t->ne[0] * t->ne[1] : t->ne[0];
    TRY(find_importance(r, t, &j->importance, err));
    double e = 0, sum = 0;
    for (j->first = 0; j->first < n; j->first += j->n) {
        j->n = MIN(n - j->first, (uint64_t)r->tiles * TILE);
        unsigned char *turn = r->dst[0];
        r->dst[0] = r->dst[1];
        r->dst[1] = j->dst = turn;
        atomic_store(&j->next, 0);
        j->err_out = err;
        pool_run(r->pool, convert, j);
        if (j->written != MOTE_OK) return j->written;
        for (size_t i = 0; i < (size_t)((j->n + TILE - 1) / TILE); i++) {
            if (j->bad[i] != UINT64_MAX) return check_tile(j, t, j->bad[i], err);
            e += j->err[i];
            sum += j->sum[i];
        }
        j->out = j->dst;
        j->out_bytes = (size_t)(j->n / to->block * to->bytes);
    }
    *nmse = sum > 0 ? e / sum : 0;
    r->err += e;
    r->sum += sum;
    return MOTE_OK;
}

static bool is_quantized(quant_type t) {
    return quant_get((int)t)->block > 1;
}

/* Below three bits plain least squares leaves nothing of a model: llama-quantize refuses the same tensors. */
static mote_status check_importance(const run *r, const tensor_info *t, quant_type to, mote_error *err) {
    static const quant_type tiny[] = {QUANT_IQ3_XXS, QUANT_IQ2_XXS, QUANT_IQ2_XS, QUANT_IQ2_S, QUANT_IQ1_M, QUANT_IQ1_S};
    const float *p;
    bool needed = to == QUANT_Q2_K && rules_type(r->rules) == FTYPE_Q2_K_S;
    for (size_t i = 0; i < COUNT_OF(tiny); i++) needed |= to == tiny[i];
    TRY(find_importance(r, t, &p, err));
    if (!needed || p || r->o->dry_run) return MOTE_OK;
    if (str_is(t->name, "token_embd.weight") || str_is(t->name, "per_layer_token_embd.weight") || str_is(t->name, "output.weight")) return MOTE_OK;
    if (!r->importance) {
        FAIL(err, MOTE_E_USAGE, "tensor '%.*s' should become %s, which needs an importance matrix: make one with mote imatrix, pass it with --imatrix",
             STR_ARG(t->name), quant_get((int)to)->name);
    }
    FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' should become %s, and the importance matrix does not know it: is it of this model?",
         STR_ARG(t->name), quant_get((int)to)->name);
}

/* All that can be refused is refused before anything is written. */
static mote_status check_plan(const run *r, mote_error *err) {
    for (size_t i = 0; i < model_file_n_tensors(r->f); i++) {
        const tensor_info *t = model_file_tensor(r->f, i);
        const quant_format *from = quant_get((int)t->type), *to = quant_get((int)r->choice[i].got);
        if (from == to) continue;
        TRY(check_importance(r, t, to->type, err));
        if (r->o->dry_run) continue;
        if (!to->encode) {
            FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' should become %s, which can be read but not written",
                 STR_ARG(t->name), to->name);
        }
        if (is_quantized(t->type) && !r->o->allow_requantize && !twins(from, to)) {
            FAIL(err, MOTE_E_UNSUPPORTED,
                 "tensor '%.*s' is %s already; quantizing again loses more: allow it with --allow-requantize",
                 STR_ARG(t->name), from->name);
        }
    }
    return MOTE_OK;
}

/* By which calibration the file was made: llama-quantize's keys, and the hash of the matrix. */
static mote_status declare_importance(run *r, mote_error *err) {
    const quantize_importance *q = r->importance;
    if (!q || !q->file) return MOTE_OK;
    TRY(gguf_put_str(r->w, "quantize.imatrix.file", str_of(q->file), err));
    if (q->dataset) TRY(gguf_put_str(r->w, "quantize.imatrix.dataset", str_of(q->dataset), err));
    TRY(gguf_put_u32(r->w, "quantize.imatrix.entries_count", (uint32_t)q->n_entries, err));
    if (q->n_chunks) TRY(gguf_put_u32(r->w, "quantize.imatrix.chunks_count", (uint32_t)q->n_chunks, err));
    return q->hash ? gguf_put_str(r->w, "quantize.imatrix.sha256", str_of(q->hash), err) : MOTE_OK;
}

static mote_status declare(run *r, const char *out, mote_error *err) {
    uint32_t align, was;
    TRY(kv_get_u32(r->f, "general.alignment", &align, 32, err));
    TRY(kv_get_u32(r->f, "general.file_type", &was, 0, err));
    TRY(gguf_writer_open(&r->w, out, align, err));
    for (size_t i = 0; i < model_file_n_kv(r->f); i++) {
        const kv *k = model_file_kv(r->f, i);
        if (!str_starts(k->key, STR("split."))) TRY(gguf_put_kv(r->w, k, err));
    }
    ftype type = rules_type(r->rules);
    TRY(gguf_put_u32(r->w, "general.quantization_version", 2, err));
    if (type != FTYPE_COPY) was = (uint32_t)ftypes[type].file_type;
    TRY(gguf_put_u32(r->w, "general.file_type", was, err));
    TRY(declare_importance(r, err));
    if (r->source && r->source->declare) TRY(r->source->declare(r->source->ctx, r->w, err));
    for (size_t i = 0; i < model_file_n_tensors(r->f); i++) {
        const tensor_info *t = model_file_tensor(r->f, i);
        TRY(gguf_put_tensor(r->w, t->name, r->choice[i].got, t->n_dims, t->ne, err));
    }
    r->job.w = r->w;
    return gguf_writer_begin(r->w, err);
}

static mote_status prepare_threads(run *r, mote_error *err) {
    if (r->o->n_threads < 0 || r->o->n_threads > POOL_THREADS_MAX) {
        FAIL(err, MOTE_E_USAGE, "%d threads: 1 to %d are possible", r->o->n_threads, POOL_THREADS_MAX);
    }
    TRY(pool_open(&r->pool, r->o->n_threads, err));
    size_t nth = (size_t)pool_size(r->pool);
    r->tiles = TILES_PER_THREAD * nth;
    r->job.scratch = mem_alloc_aligned(nth * 3 * TILE * sizeof(float));
    r->dst[0] = mem_alloc_aligned(r->tiles * TILE * sizeof(float));
    r->dst[1] = mem_alloc_aligned(r->tiles * TILE * sizeof(float));
    r->job.err = MEM_NEW_N(double, 2 * r->tiles);
    r->job.bad = MEM_NEW_N(uint64_t, r->tiles);
    if (!r->job.scratch || !r->dst[0] || !r->dst[1] || !r->job.err || !r->job.bad) {
        FAIL(err, MOTE_E_MEMORY, "out of memory for %zu threads; use fewer", nth);
    }
    r->job.sum = r->job.err + r->tiles;
    return MOTE_OK;
}

static mote_status start_report(run *r, mote_error *err) {
    mote_quantize_report *p = r->report;
    p->owned = r->mem;
    p->n_tensors = model_file_n_tensors(r->f);
    p->tensors = ARENA_NEW_N(r->mem, mote_quantized_tensor, p->n_tensors + 1);
    if (!p->tensors) FAIL(err, MOTE_E_MEMORY, "out of memory for the report");
    (void)snprintf(p->type, sizeof p->type, "%s", ftypes[rules_type(r->rules)].name);
    for (size_t i = 0; i < p->n_tensors; i++) {
        const tensor_info *t = model_file_tensor(r->f, i);
        const quant_format *to = quant_get((int)r->choice[i].got);
        mote_quantized_tensor *q = &p->tensors[i];
        uint64_t n = 1;
        q->name = arena_dup(r->mem, t->name);
        if (!q->name) FAIL(err, MOTE_E_MEMORY, "out of memory for the report");
        q->n_dims = t->n_dims;
        for (int d = 0; d < 4; d++) {
            q->ne[d] = d < t->n_dims ? t->ne[d] : 1;
            n *= q->ne[d];
        }
        q->from = quant_get((int)t->type)->name;
        q->wanted = quant_get((int)r->choice[i].wanted)->name;
        q->to = to->name;
        q->why = r->choice[i].why;
        q->bytes_from = t->size;
        q->bytes_to = n / to->block * to->bytes;
        q->nmse = to->type == t->type ? 0 : -1;
        p->n_fallbacks += q->why != NULL;
        p->n_copied += to->type == t->type;
        p->n_weights += n;
        p->bytes_from += q->bytes_from;
        p->bytes_to += q->bytes_to;
    }
    if (p->n_weights) {
        p->bpw_from = 8 * (double)p->bytes_from / (double)p->n_weights;
        p->bpw_to = 8 * (double)p->bytes_to / (double)p->n_weights;
    }
    p->nmse = -1;
    return MOTE_OK;
}

/* What still waits to be written. */
static mote_status flush(run *r, mote_error *err) {
    r->job.err_out = err;
    write_out(&r->job);
    return r->job.written;
}

static mote_status write_tensors(run *r, mote_error *err) {
    size_t n = model_file_n_tensors(r->f);
    for (size_t i = 0; i < n; i++) {
        const tensor_info *t = model_file_tensor(r->f, i);
        mote_quantized_tensor *q = &r->report->tensors[i];
        const float *values = NULL;
        const void *bytes = NULL;
        quant_type to = r->choice[i].got;
        if (r->source && !r->o->dry_run) r->source->find(r->source->ctx, t->name, to, &values, &bytes);
        if (r->o->dry_run) {
            /* nothing but progress */
        } else if (to == t->type && !values && !bytes) {
            TRY(flush(r, err));
            TRY(gguf_write_data(r->w, t->data, t->size, err));
        } else {
            TRY(convert_tensor(r, t, quant_get((int)to), values, bytes, &q->nmse, err));
        }
        if (!r->o->dry_run) file_drop(t->data, t->size);
        if (r->o->progress && !r->o->progress(r->o->progress_ctx, q, i + 1, n)) {
            FAIL(err, MOTE_E_CANCELLED, "cancelled after %zu of %zu tensors", i + 1, n);
        }
    }
    if (r->o->dry_run) return MOTE_OK;
    r->report->nmse = r->sum > 0 ? r->err / r->sum : 0;
    TRY(flush(r, err));
    return gguf_writer_commit(r->w, err);
}

static void choose_parts(run *r, const embedding_parts *parts) {
    const tensor_info *t[MODEL_FILE_PARTS_MAX];
    for (size_t k = 0, n = parts->n ? model_file_parts(r->f, t) : 0; k < n; k++)
        r->choice[t[k] - model_file_tensor(r->f, 0)] = (rules_choice){.wanted = parts->type[k], .got = parts->type[k]};
}

static mote_status go(run *r, const char *in, const char *out, mote_error *err) {
    bool named = in && *in && (r->o->dry_run || (out && *out));
    if (!named) FAIL(err, MOTE_E_USAGE, "quantize needs the path of a model and one for the result");
    mote_quantize_options o = *r->o;
    embedding_parts parts;
    TRY(embedding_parts_read(o.token_embedding_format, &parts, err));
    if (parts.n && r->source) FAIL(err, MOTE_E_UNSUPPORTED, "an embedding in parts goes with plain rounding, or with mote distill --qat");
    if (parts.n) o.token_embedding_format = NULL;
    TRY(model_file_open(&r->f, in, MODEL_FILE_VOCAB, err));
    if (parts.n) {
        TRY(model_file_fit_parts(r->f, &parts, err));
        TRY(model_file_stack(r->f, &parts, err));
    }
    TRY(rules_open(&r->rules, r->f, &o, r->importance != NULL, err));
    size_t n = model_file_n_tensors(r->f);
    r->choice = MEM_NEW_N(rules_choice, n);
    if (!r->choice) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tensors", n);
    TRY(rules_decide(r->rules, r->f, r->choice, err));
    choose_parts(r, &parts);
    TRY(check_plan(r, err));
    TRY(start_report(r, err));
    if (!r->o->dry_run) {
        TRY(prepare_threads(r, err));
        TRY(declare(r, out, err));
    }
    return write_tensors(r, err);
}

void compress_report_free(mote_quantize_report *report) {
    if (!report) return;
    if (report->owned) arena_free(report->owned);
    mem_free(report->owned);
    *report = (mote_quantize_report){0};
}

mote_status compress_quantize(const char *in, const char *out, const mote_quantize_options *o,
                              const quantize_importance *importance, mote_quantize_report *report,
                              mote_error *err) {
    return compress_quantize_from(in, out, o, importance, NULL, report, err);
}

mote_status compress_quantize_from(const char *in, const char *out, const mote_quantize_options *o,
                                   const quantize_importance *importance, const quantize_source *source,
                                   mote_quantize_report *report, mote_error *err) {
    mote_quantize_report own = {0};
    uint64_t began = clock_ns();
    run r = {.o = o, .importance = importance, .source = source, .report = &own, .mem = MEM_NEW(arena)};
    mote_status s = r.mem ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    if (s == MOTE_OK) {
        arena_init(r.mem, (size_t)1 << 30);
        own.owned = r.mem;
        s = go(&r, in, out, err);
    }
    own.seconds = (double)(clock_ns() - began) * 1e-9;
    gguf_writer_close(&r.w);
    pool_close(&r.pool);
    mem_free_aligned(r.job.scratch);
    mem_free_aligned(r.dst[0]);
    mem_free_aligned(r.dst[1]);
    mem_free(r.job.err);
    mem_free(r.job.bad);
    mem_free(r.choice);
    rules_close(&r.rules);
    model_file_close(&r.f);
    if (s == MOTE_OK && report) *report = own;
    else compress_report_free(&own);
    return s;
}
