/* tensor.h: the ops of a forward pass, each split over the thread pool and built on the kernel table.
 *
 * Programming model: SPMD. The model calls pool_run once per forward pass; every thread then executes the
 * same model code with its own `team` view, and each op does this thread's share. Ops that say "barrier"
 * end with one: after them every thread may read the whole result. All threads must call the same ops with
 * the same arguments in the same order.
 *
 * Determinism: what is computed for one row (one token) depends on that row alone, bit for bit: not on the
 * number of threads, not on how many rows are computed with it. Kernels for one row and for many rows
 * therefore do the same floating-point operations in the same order.
 *
 * Shapes are written [outer, inner], row-major f32 unless said; ld = floats between rows.
 * Nothing here allocates during a pass: `team.scratch` and the caller's buffers are sized when a session opens. */
#ifndef MOTE_TENSOR_TENSOR_H
#define MOTE_TENSOR_TENSOR_H

#include "base/base.h"
#include "kernel/kernel.h" /* kern_table, act_fn */
#include "quant/quant.h"
#include "tensor/prof.h"

/* ---- bump allocator over a session's arena: every thread bumps its own copy identically ---- */
typedef struct bump {
    unsigned char *base; /* NULL while measuring */
    size_t used, cap, peak;
} bump;
/* n floats aligned to 64 bytes; while measuring (base NULL) returns NULL and only counts. */
float *bump_f32(bump *b, size_t n);
void *bump_bytes(bump *b, size_t n);
static inline size_t bump_mark(const bump *b) { return b->used; }
static inline void bump_reset(bump *b, size_t mark) { b->used = mark; }

struct seen_by;

/* ---- one thread's view of a running pass ---- */
typedef struct team {
    pool *pool;
    const struct kern_table *kern;
    int ith, nth;
    bool fast;    /* int8 activations for quantized weights; false: f32 throughout (--activations f32) */
    bump scratch; /* temporaries of ops, shared between the threads: all compute the same addresses */
    prof_thread *prof; /* this thread's profile, or NULL */
    const unsigned char *read_from, *read_to; /* of the file, since pages were last dropped: read_bytes in between */
    size_t read_bytes;
    const struct seen_by *seen; /* is told of every product, or NULL */
} team;
/* What this thread does from here on, for the profile; what came before ends. */
static inline void team_enter(const team *t, prof_op op) {
    if (t->prof) prof_enter(t->prof, op, NULL, -1);
}
static inline void team_barrier(const team *t) {
    team_enter(t, PROF_WAIT);
    pool_barrier(t->pool);
    team_enter(t, PROF_OTHER);
}
/* Bytes of team.scratch that one op_linear or op_experts call needs at most for T (input) rows of at most k
 * columns; op_attention: attn_scratch_bytes below. Ops give back what they take, so the larger one is enough. */
size_t tensor_scratch_bytes(size_t n_rows, size_t k_max, int nth);
/* The same for adapters, on top: `rank` is the largest of any weight. */
size_t adapter_scratch_bytes(size_t n_rows, size_t rank, int nth);

/* The kernel table for this machine under a CPU mask (base/cpu.h). NULL when out of memory. */
const struct kern_table *tensor_kernels_open(uint32_t cpu_mask);
void tensor_kernels_close(const struct kern_table **k);
const char *tensor_kernels_rung(const struct kern_table *k);

/* ---- weights ---- */
/* A low-rank addition to a matrix: W + B A, the scale being in b. */
typedef struct weight_adapter {
    size_t rank;
    const float *a, *b; /* [rank, cols], [rows, rank] */
} weight_adapter;
/* n_mat matrices (experts; else 1) of [rows, cols]: y[rows] = W x[cols]. `data` is the file's row-major form
 * (rows of row_bytes); `packed` the kernel's own panels of 16 rows, the matrices one after the other, NULL until
 * weights_pack has made them: then `data` is not read any more. */
typedef struct weight {
    const char *name; /* for messages; lives as long as the model */
    const char *role; /* for profiles: static text, the same for all layers; or NULL */
    quant_type type;
    size_t rows, cols, n_mat;
    const unsigned char *data;
    size_t row_bytes, mat_bytes;
    void *packed;        /* in the packer's block */
    size_t packed_bytes, packed_mat_bytes;
    const void *packing; /* how panels lie; NULL when the file's form is used */
    bool decoded;        /* set by the caller: data is memory that was decoded into, not a mapped file */
    bool head;           /* set by the caller: op_head reads it, so that its leading bits should lie together */
    bool sliced;         /* set by the caller: it will often meet single rows that are 0 in whole blocks of 32 columns, so those columns should
                          * lie together (kern_mul.group_bytes); weight_plan takes it back where the format or the size does not allow it */
    const weight_adapter *adapter; /* op_linear adds its part to every product with matrix 0; or NULL */
    const struct weight *below; /* further rows, in another format: a stacked matrix is the parts one below the other; or NULL */
    const struct kern_split *split; /* they do: `packed` is the high parts of all panels, then the rests (kernel/split.h) */
} weight;
/* Checks w (type, rows, cols, n_mat, data set by the caller), and decides whether and how it will be packed for kern.
 * Not needed for weights that are only looked up by weight_row: they stay in the file's form. */
mote_status weight_plan(weight *w, const struct kern_table *kern, mote_error *err);

/* Packs a model's weights, between passes. Products need not wait for it: a panel that is not packed yet is packed where
 * it is used, with the same result. */
typedef struct weight_packer {
    weight *const *ws;
    size_t n;
    void *block;           /* all panels; owned */
    unsigned char *panels; /* a panel for each thread, to be split or sliced; owned */
    size_t panel_bytes;
    bool done;
} weight_packer;
/* Finds room for those of the n weights that were planned to be packed; nothing is touched yet. ws outlives p; `threads`
 * is as large as any pool that will pack. */
mote_status weights_reserve(weight_packer *p, weight *const *ws, size_t n, const pool *threads, mote_error *err);
/* Packs them, split over the pool; pages of a mapped file are dropped as they are read, and so is, for good, what was decoded. */
void weights_pack(weight_packer *p, pool *threads);
void weights_free(weight_packer *p);
/* dst[cols] = row r of matrix 0 as f32 (embedding look-up), of a stacked one, too. Thread: any. */
void weight_row(const weight *w, size_t r, float *dst);
/* Rows of all parts of a stacked matrix. */
static inline size_t weight_rows(const weight *w) {
    size_t n = 0;
    for (; w; w = w->below) n += w->rows;
    return n;
}

/* ---- linear layers ---- */
float act_apply(act_fn f, float x); /* scalar definition */

typedef enum norm_kind { NORM_NONE, NORM_RMS, NORM_LAYER } norm_kind;
typedef struct norm {
    norm_kind kind;
    const float *w, *b; /* [n] or NULL */
    float eps;
} norm;

/* What happens to the input row before it meets the weights; fused with its quantization. */
typedef struct linear_in {
    const float *x; /* [T, cols] */
    size_t ld;
    norm norm;      /* applied first when kind != NORM_NONE */
    act_fn act;     /* then act(x) … */
    const float *up; /* … times up[T, cols] when not NULL (gated FFN: x is the gate) */
    size_t ld_up;
    bool zeros;      /* whole blocks of 32 columns may well be 0 once this is done: looking for them pays */
} linear_in;

/* One output of a linear layer. y[t, r] = scale · (W x)[r] + bias[r]   (+ y[t, r] when add): the scale does not
 * touch the bias. */
typedef struct linear_out {
    const weight *w;
    size_t mat;        /* which matrix of w */
    float *y;
    size_t ld;
    const float *bias; /* [rows] or NULL */
    float scale;       /* 0 means 1 */
    bool add;
    size_t rows;       /* only the first so many rows of w; 0: all */
} linear_out;
enum { LINEAR_OUTS_MAX = 8 /* of one call, parts of stacked matrices counted one by one */ };
/* All outputs share the input, which is normed, activated and quantized once. T rows. Barrier.
 * The input may not overlap an output. */
void op_linear(team *t, const linear_in *in, size_t n_rows, const linear_out *outs, size_t n_outs);

/* Which rows of a gated feed-forward a token needs, by what the gate says of each group of them. */
typedef struct live_rows {
    size_t group;  /* rows of a group, a multiple of 16 */
    act_fn act;
    bool (*skips)(const void *ctx, const struct kern_table *k, const float *gate, size_t g); /* whether group g is left out; gate[rows] */
    const void *ctx;
    uint8_t *skip; /* [rows / group]: room, the same for all threads */
} live_rows;
/* One row of input; gate and up (no add), rows a multiple of the group: gate.y = gate(x), and up.y = act(gate) · up(x), 0 in the groups that
 * are left out, whose rows of up are not read. The same bits as op_linear and then the activation. Barrier. */
void op_gated_live(team *t, const linear_in *in, const linear_out *gate, const linear_out *up, const live_rows *live);

/* An entry of op_experts' list. */
typedef struct expert_assign {
    int32_t expert, xrow, yrow;
} expert_assign;

/* ---- what products are made of, for calibration ---- */
/* One product of a linear layer or of an expert, before it is computed: matrix `mat` of w and the rows that meet it, in
 * f32, normed and activated: what it multiplies in a pass with exact activations; else they are quantized after this.
 * Row i is seen_row(s, i). Products `out` of 0 … n_outs - 1 of one op have the same rows (q, k and v; gate and up). */
typedef struct linear_seen {
    const weight *w;
    size_t mat, n;
    const float *x;
    size_t ld;
    const expert_assign *assign; /* [n] whose xrow are the rows; NULL: 0 … n - 1 */
    size_t out, n_outs;
    const linear_in *in;         /* what the rows were made of; NULL for experts */
    int ith, nth;                /* the thread that is calling */
    pool *pool;                  /* for pool_barrier, which then all threads must call */
} linear_seen;
static inline const float *seen_row(const linear_seen *s, size_t i) {
    return s->x + (s->assign ? (size_t)s->assign[i].xrow : i) * s->ld;
}
/* Called by every thread of the pool with the same arguments but `ith`, each in its own time: threads divide the work
 * (columns, say) or leave it to one of them. May allocate; may not run the pool. */
typedef void linear_seen_fn(void *ctx, const linear_seen *s);
/* Who is told, and room for `cap` floats of rows. An op whose rows do not fit (cannot happen with seen_floats) is not seen. */
typedef struct seen_by {
    linear_seen_fn *fn;
    void *ctx;
    float *rows;
    size_t cap;
} seen_by;
/* Floats of rows that any op with at most n_rows input rows of at most k_max columns needs. */
size_t seen_floats(size_t n_rows, size_t k_max);

/* ---- the head: the greatest of the logits of one token, without reading all of the matrix (head.c) ---- */
enum { HEAD_K_MAX = 256, HEAD_FORCED_MAX = 512, HEAD_FOUND_MAX = 2048, HEAD_SEEDS = 32 };
/* Wanted are the rows whose y is among the k greatest and no further than gap below the greatest (ties at the end
 * included), and those of `forced`, which do not count when the greatest are found. */
typedef struct head_query {
    size_t k;              /* ≤ HEAD_K_MAX; 0: no such limit, then gap is one */
    float gap;             /* > 0; INFINITY: no such limit */
    const int32_t *forced; /* [n_forced ≤ HEAD_FORCED_MAX] ascending, distinct, < rows */
    size_t n_forced;
} head_query;
/* All that are wanted, and perhaps more, by ascending row; y are the very bits that op_linear would give. */
typedef struct head_found {
    int32_t ids[HEAD_FOUND_MAX];
    float y[HEAD_FOUND_MAX];
    size_t n;
    uint64_t read_bytes; /* of the weight */
    bool ok;             /* false: it did not work out (too many, a y that is no number); everything has to be computed */
} head_found;
/* y = scale · (W x), scale > 0, x[cols] as op_linear takes it without norm. w: in split form. Values v are passed on as
 * cap · tanh(v / cap) where cap > 0: it only widens what counts as tied. seeds: panels that may well hold the greatest
 * (ascending, distinct, at most HEAD_SEEDS). Fast activations only. Barrier. */
typedef struct head_in {
    const weight *w;
    const float *x;
    float scale, cap;
    const int32_t *seeds;
    size_t n_seeds;
} head_in;
void op_head(team *t, const head_in *in, const head_query *q, head_found *out);
size_t head_scratch_bytes(size_t k, int nth);

/* Mixture of experts. n_assign assignments sorted by expert: assignment a sends input row xrow[a] through
 * matrix expert[a] and writes output row yrow[a]: y = scale[e] · (W_e x) + bias[e]. Each distinct yrow occurs once.
 * bias: [n_mat, rows] or NULL; scale: [n_mat] or NULL. Barrier. */
typedef struct expert_out {
    const weight *w;
    float *y;
    size_t ld;
    const float *bias, *scale;
} expert_out;
void op_experts(team *t, const linear_in *in, size_t n_in_rows, const expert_assign *assign, size_t n_assign,
                const expert_out *outs, size_t n_outs);

/* ---- elementwise and norms; rows split over threads; barrier unless *_local ---- */
/* y[T,n] = norm(x). May be in place. */
void op_norm(team *t, const norm *nm, float *y, size_t ldy, const float *x, size_t ldx, size_t n_rows, size_t n);
/* One row, this thread only, no barrier. */
void norm_row_local(const team *t, const norm *nm, float *y, const float *x, size_t n);
/* y[T,n] += scale · x[T,n]. */
void op_add(team *t, float *y, size_t ldy, const float *x, size_t ldx, float scale, size_t n_rows, size_t n);
/* softmax of one row in place, this thread only. */
void softmax_row_local(float *x, size_t n);

/* ---- attention ---- */
/* The KV cache of one layer and one sequence. Position p lives in slot p % cap (a ring when the layer has a
 * window). Layout is the tensor module's business (kv.c): blocks of KV_BLOCK positions; K is stored
 * transposed inside a block so that dot products run over positions. cap is a multiple of KV_BLOCK. */
#define KV_BLOCK 16
typedef struct kv_layer {
    quant_type k_type, v_type; /* f32, f16, bf16, q8_0, q4_0 */
    size_t n_head_kv, dim_k, dim_v, cap;
    unsigned char *k, *v;      /* kv_k_bytes / kv_v_bytes each, 64-byte aligned */
    size_t block;              /* 0, or: the mean key of every so many positions lies behind the keys (attn_blocks) */
} kv_layer;
mote_status kv_check(quant_type k_type, quant_type v_type, size_t dim_k, size_t dim_v, mote_error *err);
size_t kv_k_bytes(const kv_layer *c);
size_t kv_v_bytes(const kv_layer *c);
/* The mean key of positions [i · block, (i + 1) · block) of a head, dim_k floats; kv_make_mean computes it from the keys. */
float *kv_mean(const kv_layer *c, size_t head, size_t i);
void kv_make_mean(const team *t, const kv_layer *c, size_t head, size_t i, float *key /* room for dim_k */);
/* Stores / reads back one head of one position (dim_k or dim_v floats). This thread only. */
void kv_put_k(const team *t, const kv_layer *c, size_t head, size_t pos, const float *k);
void kv_put_v(const team *t, const kv_layer *c, size_t head, size_t pos, const float *v);
void kv_get_k(const kv_layer *c, size_t head, size_t pos, float *k);
void kv_get_v(const kv_layer *c, size_t head, size_t pos, float *v);

/* Attention of n_q consecutive queries of one sequence (positions pos0 … pos0+n_q-1) over its cache, which
 * already holds their own keys and values. */
typedef struct attn_seg {
    const kv_layer *kv;
    const float *q; /* [n_q, n_head · dim_k] at stride ld_q; rope applied */
    size_t ld_q;
    float *out;     /* [n_q, n_head · dim_v] at stride ld_out */
    size_t ld_out;
    size_t n_q, pos0;
    size_t kv_len;  /* non-causal: attend to positions 0 … kv_len-1; causal: ignored */
    float *lse;     /* [n_q, n_head] the logarithm of each softmax's denominator is written there, or NULL */
} attn_seg;
/* Attention to a few blocks of `size` positions (a multiple of 64): the first one, the last `window` of them, the own one included, and of
 * those between the `top` whose mean key has the greatest product with the queries of a key/value head, summed over them. Every
 * query chooses for itself. Source: Lu et al. 2025 (MoBA), eq. 3-5; the first block after Xiao et al. 2024 (attention sinks). */
typedef struct attn_blocks {
    size_t size, window, top;
} attn_blocks;
enum { ATTN_BLOCK_STEP = 64, ATTN_TOP_MAX = 64 };
/* The chosen ones of the query at pos: q[group, dim_k], means[.. , dim_k] at stride ld. Returns how many; chosen: room for ATTN_TOP_MAX. */
size_t attn_choose(const struct kern_table *k, const attn_blocks *o, const float *q, size_t group, size_t dim_k, const float *means, size_t ld,
                   size_t pos, uint32_t *chosen);
/* Whether the query at pos reads block i. */
bool attn_reads(const attn_blocks *o, size_t pos, size_t i, const uint32_t *chosen, size_t n);
typedef struct attn_opts {
    size_t n_head;       /* query heads; head h reads KV head h / (n_head / n_head_kv) */
    float scale;         /* scores are multiplied by it */
    float softcap;       /* 0 = none; else cap · tanh(s / cap) */
    size_t window;       /* 0 = all; else only keys with pos_q - pos_k < window */
    const attn_blocks *blocks; /* NULL: all; else causal, without window, over caches whose means are there */
    bool chunked;        /* window is a chunk size: keys of the same chunk pos/window only (llama4) */
    bool causal;
    bool wide_scores;    /* scores in f32 even where bf16 is faster: keys far larger than what tells them apart */
    const float *sinks;  /* [n_head] extra logit in the softmax's denominator, or NULL (gpt-oss) */
    const float *alibi;  /* [n_head] slopes added as slope · (pos_k - pos_q), or NULL */
} attn_opts;
/* Split over (segment, KV head, query tile). Barrier. Source: online softmax (FlashAttention, Dao 2022, alg. 1). */
void op_attention(team *t, const attn_opts *o, const attn_seg *segs, size_t n_segs);
/* Scratch for calls of at most n_rows queries in all, over caches of at most kv_len_max positions. */
size_t attn_scratch_bytes(size_t n_rows, size_t n_head, size_t n_head_kv, size_t dim_k, size_t dim_v,
                          size_t kv_len_max, int nth);

#endif
