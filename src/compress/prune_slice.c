/* prune_slice.c: what each tensor's rows and columns stand for, and cutting them. */
#include "compress/pruning.h"

#include <math.h>

/* ---- axes ---- */
static const struct {
    role r;
    prune_axis rows, cols; /* of a vector: rows */
} axes[] = {
    {R_TOKEN_EMBD, AXIS_VOCAB, AXIS_EMBD}, {R_OUTPUT, AXIS_VOCAB, AXIS_EMBD}, {R_TOKEN_EMBD_NORM, AXIS_EMBD, AXIS_NONE},
    {R_TOKEN_TYPES, AXIS_NONE, AXIS_EMBD}, {R_POSITION_EMBD, AXIS_NONE, AXIS_EMBD}, {R_OUTPUT_NORM, AXIS_EMBD, AXIS_NONE},
    {R_ROPE_FREQS, AXIS_NONE, AXIS_NONE}, {R_ROPE_LONG, AXIS_NONE, AXIS_NONE}, {R_ROPE_SHORT, AXIS_NONE, AXIS_NONE},
    {R_ATTN_NORM, AXIS_EMBD, AXIS_NONE}, {R_ATTN_NORM_2, AXIS_EMBD, AXIS_NONE}, {R_ATTN_Q, AXIS_Q, AXIS_EMBD},
    {R_ATTN_K, AXIS_K, AXIS_EMBD}, {R_ATTN_V, AXIS_V, AXIS_EMBD}, {R_ATTN_QKV, AXIS_QKV, AXIS_EMBD},
    {R_ATTN_OUT, AXIS_EMBD, AXIS_O}, {R_ATTN_SINKS, AXIS_HEAD, AXIS_NONE}, {R_ATTN_POST_NORM, AXIS_EMBD, AXIS_NONE},
    {R_ATTN_OUT_NORM, AXIS_EMBD, AXIS_NONE}, {R_FFN_NORM, AXIS_EMBD, AXIS_NONE}, {R_FFN_POST_NORM, AXIS_EMBD, AXIS_NONE},
    {R_ATTN_SUB_NORM, AXIS_O, AXIS_NONE}, {R_FFN_GATE, AXIS_FF, AXIS_EMBD}, {R_FFN_UP, AXIS_FF, AXIS_EMBD},
    {R_FFN_DOWN, AXIS_EMBD, AXIS_FF}, {R_FFN_ACT, AXIS_FF, AXIS_NONE}, {R_LAYER_OUT_NORM, AXIS_EMBD, AXIS_NONE},
    {R_FFN_GATE_INP, AXIS_EXPERT, AXIS_EMBD}, {R_EXP_PROBS_B, AXIS_EXPERT, AXIS_NONE},
    {R_FFN_UP_EXPS, AXIS_UNKNOWN, AXIS_EMBD}, {R_FFN_GATE_EXPS, AXIS_UNKNOWN, AXIS_EMBD}, {R_FFN_DOWN_EXPS, AXIS_EMBD, AXIS_UNKNOWN},
    {R_FFN_UP_SHEXP, AXIS_UNKNOWN, AXIS_EMBD}, {R_FFN_GATE_SHEXP, AXIS_UNKNOWN, AXIS_EMBD}, {R_FFN_DOWN_SHEXP, AXIS_EMBD, AXIS_UNKNOWN},
};

void prune_axes(const prune *p, role r, prune_axis *rows, prune_axis *cols) {
    (void)p;
    *rows = *cols = AXIS_UNKNOWN;
    if (r == R_ATTN_Q_NORM || r == R_ATTN_K_NORM) *rows = AXIS_NONE, *cols = AXIS_NONE; /* one head's, checked by cut_vector */
    for (size_t i = 0; i < COUNT_OF(axes); i++)
        if (axes[i].r == r) *rows = axes[i].rows, *cols = axes[i].cols;
}

/* ---- which elements of an axis stay ---- */
typedef struct picks {
    uint32_t *at; /* NULL: all n */
    size_t n;
} picks;

/* Each kept head becomes its `dim` elements. */
static void heads_to_elements(const uint32_t *heads, size_t n, size_t dim, size_t base, picks *out) {
    size_t at = out->n;
    for (size_t h = 0; h < n; h++)
        for (size_t d = 0; d < dim; d++) out->at[at++] = (uint32_t)(base + heads[h] * dim + d);
    out->n = at;
}

static mote_status room(prune *p, size_t n, picks *out, mote_error *err) {
    out->n = 0;
    return prune_alloc(p, n, sizeof *out->at, &out->at, err);
}

static mote_status all_of(prune *p, const uint32_t *some, size_t n_some, size_t n, uint32_t **out, size_t *n_out, mote_error *err) {
    TRY(prune_alloc(p, n, sizeof **out, out, err));
    *n_out = some ? n_some : n;
    for (size_t i = 0; i < *n_out; i++) (*out)[i] = some ? some[i] : (uint32_t)i;
    return MOTE_OK;
}

static mote_status pick_qkv(prune *p, const layer *l, const prune_keep *k, prune_axis a, picks *out, mote_error *err) {
    uint32_t *heads, *groups;
    size_t nh, ng, q_dim = l->dim_k * (p->m->arch->attn_gate ? 2 : 1);
    size_t q_all = l->n_head * q_dim, k_all = l->n_head_kv * l->dim_k, v_all = l->n_head_kv * l->dim_v;
    TRY(all_of(p, k->heads, k->n_heads, l->n_head, &heads, &nh, err));
    TRY(all_of(p, k->groups, k->n_groups, l->n_head_kv, &groups, &ng, err));
    TRY(room(p, q_all + k_all + v_all + l->n_head * l->dim_v, out, err));
    if (a == AXIS_HEAD) heads_to_elements(heads, nh, 1, 0, out);
    if (a == AXIS_O) heads_to_elements(heads, nh, l->dim_v, 0, out);
    if (a == AXIS_Q || a == AXIS_QKV) heads_to_elements(heads, nh, q_dim, 0, out);
    if (a == AXIS_K || a == AXIS_QKV) heads_to_elements(groups, ng, l->dim_k, a == AXIS_QKV ? q_all : 0, out);
    if (a == AXIS_V || a == AXIS_QKV) heads_to_elements(groups, ng, l->dim_v, a == AXIS_QKV ? q_all + k_all : 0, out);
    return MOTE_OK;
}

/* n: how long the axis is now. */
static mote_status pick(prune *p, const prune_plan *plan, const layer *l, prune_axis a, size_t n, const tensor_info *t, picks *out,
                        mote_error *err) {
    *out = (picks){.n = n};
    const prune_keep *k = l && plan->layers ? &plan->layers[l->index] : NULL;
    switch (a) {
    case AXIS_EMBD:
        if (plan->embd) *out = (picks){plan->embd, plan->n_embd};
        return MOTE_OK;
    case AXIS_VOCAB:
        if (plan->vocab) *out = (picks){plan->vocab, plan->n_vocab};
        return MOTE_OK;
    case AXIS_FF:
        if (!k || !k->ff) return MOTE_OK;
        if (n == l->n_ff) *out = (picks){k->ff, k->n_ff};
        else if (n == 2 * l->n_ff) { /* gate and up, one above the other */
            TRY(room(p, 2 * k->n_ff, out, err));
            out->n = 2 * k->n_ff;
            for (size_t i = 0; i < k->n_ff; i++) {
                out->at[i] = k->ff[i];
                out->at[k->n_ff + i] = (uint32_t)l->n_ff + k->ff[i];
            }
        } else FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' is no feed-forward of %zu neurons", STR_ARG(t->name), l->n_ff);
        return MOTE_OK;
    case AXIS_Q: case AXIS_K: case AXIS_V: case AXIS_O: case AXIS_QKV: case AXIS_HEAD:
        return k && (k->heads || k->groups) ? pick_qkv(p, l, k, a, out, err) : MOTE_OK;
    case AXIS_NONE: case AXIS_EXPERT: case AXIS_UNKNOWN: return MOTE_OK;
    }
    return MOTE_OK;
}

/* ---- numbers ---- */
mote_status prune_floats(const tensor_info *t, float **x, mote_error *err) {
    size_t n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
    const quant_format *q = quant_get((int)t->type);
    if (!q || !q->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' cannot be read as numbers", STR_ARG(t->name));
    *x = mem_alloc_aligned(n * sizeof(float));
    if (!*x) FAIL(err, MOTE_E_MEMORY, "out of memory for the %zu weights of '%.*s'", n, STR_ARG(t->name));
    q->decode(*x, t->data, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite((*x)[i])) {
            mem_free_aligned(*x);
            *x = NULL;
            FAIL(err, MOTE_E_FORMAT, "tensor '%.*s': weight %zu is not a finite number", STR_ARG(t->name), i);
        }
    return MOTE_OK;
}

/* The format rows of n weights can have that is nearest to the old one. */
static const quant_format *nearest(prune *p, const tensor_info *t, uint64_t n) {
    const quant_format *q = quant_get((int)t->type);
    if (q->encode && n % q->block == 0) return q;
    p->n_retyped++;
    if (n % 32) return quant_get(QUANT_F16);
    uint64_t eighths = 8u * (uint64_t)q->bytes * 8 / q->block; /* bits per weight, times 8 */
    return quant_get(eighths <= 40 ? QUANT_Q4_1 : eighths <= 48 ? QUANT_Q5_1 : QUANT_Q8_0);
}

typedef struct encode_job {
    const quant_format *q;
    const float *x;
    unsigned char *y;
    size_t n, rows, row_bytes;
} encode_job;

static void encode_rows(void *arg, int ith, int nth) {
    const encode_job *j = arg;
    size_t from, to;
    pool_share(j->rows, 1, ith, nth, &from, &to);
    for (size_t r = from; r < to; r++) j->q->encode(j->y + r * j->row_bytes, j->x + r * j->n, j->n, NULL);
}

mote_status prune_put(prune *p, const tensor_info *t, const float *x, int n_dims, const uint64_t *ne, mote_error *err) {
    encode_job j = {.q = nearest(p, t, ne[0]), .x = x, .n = (size_t)ne[0], .rows = 1};
    for (int d = 1; d < n_dims; d++) j.rows *= (size_t)ne[d];
    TRY(quant_row_bytes(j.q, ne[0], &j.row_bytes, err));
    for (size_t i = 0; i < j.n * j.rows; i++)
        if (!isfinite(x[i])) FAIL(err, MOTE_E_RANGE, "tensor '%.*s': weight %zu would not be a finite number", STR_ARG(t->name), i);
    TRY(prune_alloc(p, j.rows, j.row_bytes, &j.y, err));
    pool_run(p->pool, encode_rows, &j);
    return edit_put_bytes(p->edit, t->name, j.q->type, n_dims, ne, j.y, err);
}

/* ---- cutting ---- */
static bool whole(const picks *k) { return k->at == NULL; }

/* Rows alone go: their bytes are copied. */
static mote_status cut_rows(prune *p, const tensor_info *t, const picks *rows, mote_error *err) {
    size_t bytes;
    TRY(quant_row_bytes(quant_get((int)t->type), t->ne[0], &bytes, err));
    unsigned char *y;
    TRY(prune_alloc(p, rows->n, bytes, &y, err));
    for (size_t r = 0; r < rows->n; r++) memcpy(y + r * bytes, t->data + rows->at[r] * bytes, bytes);
    return edit_put_bytes(p->edit, t->name, t->type, t->n_dims, (uint64_t[]){t->ne[0], rows->n, 1, 1}, y, err);
}

static mote_status cut_vector(prune *p, const tensor_info *t, const picks *k, mote_error *err) {
    float *x, *y;
    TRY(prune_alloc(p, k->n, sizeof *y, &y, err));
    TRY(prune_floats(t, &x, err));
    for (size_t i = 0; i < k->n; i++) y[i] = x[k->at[i]];
    mem_free_aligned(x);
    return prune_put(p, t, y, 1, (uint64_t[]){k->n}, err);
}

static mote_status cut_matrix(prune *p, const tensor_info *t, const layer *l, role r, const picks *rows, const picks *cols,
                              prune_fit_fn *fit, void *ctx, mote_error *err) {
    size_t n_rows = rows->n, n_mat = (size_t)t->ne[2], old_rows = (size_t)t->ne[1], old_cols = (size_t)t->ne[0];
    if (whole(cols) && n_mat == 1) return cut_rows(p, t, rows, err);
    float *x = NULL, *y = mem_alloc_aligned(n_mat * n_rows * cols->n * sizeof *y), *z = mem_alloc_aligned(n_rows * old_cols * sizeof *z);
    mote_status s;
    if (!y || !z) FAILG(s, err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(t->name));
    TRYG(s, prune_floats(t, &x, err));
    for (size_t m = 0; m < n_mat; m++) {
        float *to = y + m * n_rows * cols->n;
        for (size_t i = 0; i < n_rows; i++)
            memcpy(z + i * old_cols, x + (m * old_rows + (whole(rows) ? i : rows->at[i])) * old_cols, old_cols * sizeof(float));
        bool fitted = false;
        if (n_mat == 1 && l && fit) TRYG(s, fit(ctx, p, l->index, r, z, n_rows, to, &fitted, err));
        if (fitted) continue;
        for (size_t i = 0; i < n_rows; i++)
            for (size_t j = 0; j < cols->n; j++) to[i * cols->n + j] = z[i * old_cols + (whole(cols) ? j : cols->at[j])];
    }
    s = prune_put(p, t, y, t->n_dims, (uint64_t[]){cols->n, n_rows, n_mat, 1}, err);
out:
    mem_free_aligned(x);
    mem_free_aligned(y);
    mem_free_aligned(z);
    return s;
}

static mote_status refuse(const prune *p, const tensor_info *t, mote_error *err) {
    FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' of architecture '%s' depends on what should go, and it is not known how",
         STR_ARG(t->name), p->m->arch->name);
}

static mote_status slice_slot(prune *p, const prune_plan *plan, const layer *l, role r, const slot *s, const tensor_info *bias,
                              prune_fit_fn *fit, void *ctx, mote_error *err) {
    const tensor_info *t = s->info;
    prune_axis ra, ca;
    picks rows = {0}, cols = {0};
    prune_axes(p, r, &ra, &ca);
    bool vector = t && t->n_dims == 1;
    if (ra == AXIS_UNKNOWN && ca == AXIS_UNKNOWN) {
        bool heads = l && plan->layers && plan->layers[l->index].heads;
        return t && (plan->embd || heads) ? refuse(p, t, err) : MOTE_OK;
    }
    if (t && l && (r == R_ATTN_Q_NORM || r == R_ATTN_K_NORM)) { /* all heads' side by side, or one for each */
        ra = t->ne[0] * t->ne[1] == l->dim_k ? AXIS_NONE : r == R_ATTN_Q_NORM ? AXIS_Q : AXIS_K;
        vector = true;
    }
    if (t) {
        size_t n_rows = vector ? (size_t)(t->ne[0] * t->ne[1]) : (size_t)t->ne[1];
        TRY(pick(p, plan, l, ra, n_rows, t, &rows, err));
        if (!vector) TRY(pick(p, plan, l, ca, (size_t)t->ne[0], t, &cols, err));
        if (vector && !whole(&rows)) TRY(cut_vector(p, t, &rows, err));
        if (!vector && (!whole(&rows) || !whole(&cols))) TRY(cut_matrix(p, t, l, r, &rows, &cols, fit, ctx, err));
    }
    if (!bias) return MOTE_OK;
    TRY(pick(p, plan, l, ra, (size_t)bias->ne[0], bias, &rows, err));
    return whole(&rows) ? MOTE_OK : cut_vector(p, bias, &rows, err);
}

static const tensor_info *bias_of(const prune *p, const slot *s) {
    char name[256];
    if (!s->info || !s->bias) return NULL;
    size_t n = s->info->name.n;
    if (str_ends(s->info->name, STR(".weight"))) n -= 7;
    (void)snprintf(name, sizeof name, "%.*s.bias", (int)MIN(n, (size_t)200), s->info->name.p);
    return model_file_find_tensor(p->f, name);
}

mote_status prune_slice(prune *p, const prune_plan *plan, prune_fit_fn *fit, void *ctx, mote_error *err) {
    for (int r = 0; r < R_COUNT; r++) {
        const slot *s = &p->m->slots[r];
        if (s->info) TRY(slice_slot(p, plan, NULL, (role)r, s, bias_of(p, s), NULL, NULL, err));
    }
    for (size_t il = 0; il < p->m->hp.n_layer; il++) {
        const layer *l = &p->m->layers[il];
        for (int r = 0; r < R_COUNT; r++) {
            const slot *s = &l->slots[r];
            if (s->info) TRY(slice_slot(p, plan, l, (role)r, s, bias_of(p, s), fit, ctx, err));
        }
        TRY(prune_progress(p, "cutting", il + 1, p->m->hp.n_layer, err));
    }
    return MOTE_OK;
}

/* ---- counting ---- */
prune_sizes prune_sizes_of(const prune *p) {
    const model *m = p->m;
    return (prune_sizes){m->hp.n_layer, m->hp.n_embd, m->layers[0].n_ff, m->layers[0].n_head, m->layers[0].n_head_kv};
}

static uint64_t axis_size(const layer *l, prune_axis a, uint64_t now, const prune_sizes *s) {
    switch (a) {
    case AXIS_EMBD: return s->n_embd;
    case AXIS_FF: return l && l->n_ff ? now / l->n_ff * s->n_ff : now;
    case AXIS_Q: case AXIS_O: case AXIS_HEAD: return l && l->n_head ? now / l->n_head * s->n_head : now;
    case AXIS_K: case AXIS_V: return l && l->n_head_kv ? now / l->n_head_kv * s->n_head_kv : now;
    case AXIS_QKV: return l ? s->n_head * l->dim_k + s->n_head_kv * (l->dim_k + l->dim_v) : now;
    case AXIS_NONE: case AXIS_VOCAB: case AXIS_EXPERT: case AXIS_UNKNOWN: return now;
    }
    return now;
}

static uint64_t slot_count(const prune *p, const layer *l, role r, const slot *s, const prune_sizes *sz) {
    if (!s->info) return 0;
    prune_axis ra, ca;
    prune_axes(p, r, &ra, &ca);
    const uint64_t *ne = s->info->ne;
    uint64_t bias = s->bias ? axis_size(l, ra, s->n_bias, sz) : 0;
    if (s->info->n_dims == 1) return axis_size(l, ra, ne[0], sz) + bias;
    return axis_size(l, ca, ne[0], sz) * axis_size(l, ra, ne[1], sz) * ne[2] + bias;
}

uint64_t prune_count(const prune *p, const prune_sizes *s) {
    uint64_t n = 0;
    for (int r = 0; r < R_COUNT; r++) n += slot_count(p, NULL, (role)r, &p->m->slots[r], s);
    for (size_t il = 0; il < s->n_layer; il++)
        for (int r = 0; r < R_COUNT; r++) n += slot_count(p, &p->m->layers[il], (role)r, &p->m->layers[il].slots[r], s);
    return n;
}
