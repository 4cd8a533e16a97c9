/* hf_tensor.c: tensors of a Hugging Face folder into GGUF's layouts.
 *
 * safetensors shapes are outermost first, GGUF's innermost first: the bytes are the same. Whatever is not a
 * plain view is a copy that the model_file owns. */
#include "format/hf_int.h"

#include <math.h>
#include <stdio.h>

static const struct {
    const char *dtype;
    quant_type type;
} types[] = {{"F32", QUANT_F32}, {"F16", QUANT_F16}, {"BF16", QUANT_BF16}, {"Q4_0", QUANT_Q4_0}, {"Q8_0", QUANT_Q8_0} /* hf_quantized.c */};

mote_status hf_quant_type(const st_tensor *t, quant_type *type, mote_error *err) {
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (str_is(t->dtype, types[i].dtype)) {
            *type = types[i].type;
            return MOTE_OK;
        }
    *type = QUANT_F32;
    if (str_is(t->dtype, "F64") || str_is(t->dtype, "I64") || str_is(t->dtype, "I32")) return MOTE_OK;
    FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' has dtype %.*s: only F32, F16 and BF16 weights are read; convert the "
         "checkpoint to one of them first", STR_ARG(t->name), STR_ARG(t->dtype));
}

uint64_t hf_elements(const st_tensor *t) {
    uint64_t n = 1;
    for (int d = 0; d < t->n_dims; d++) n *= t->shape[d];
    return n;
}

mote_status hf_read_f32(const st_tensor *t, float *v, mote_error *err) {
    quant_type type;
    TRY(hf_quant_type(t, &type, err));
    size_t n = (size_t)hf_elements(t);
    if (str_is(t->dtype, "F32")) {
        if (n) memcpy(v, t->data, n * sizeof *v);
    } else if (str_is(t->dtype, "F16") || str_is(t->dtype, "BF16")) {
        bool half = type == QUANT_F16;
        for (size_t i = 0; i < n; i++) {
            uint16_t x;
            memcpy(&x, t->data + i * sizeof x, sizeof x);
            v[i] = half ? quant_f16_to_f32(x) : quant_bf16_to_f32(x);
        }
    } else if (quant_get((int)type)->block > 1) {
        quant_get((int)type)->decode(v, t->data, n);
    } else if (str_is(t->dtype, "F64")) {
        for (size_t i = 0; i < n; i++) {
            double x;
            memcpy(&x, t->data + i * sizeof x, sizeof x);
            v[i] = (float)x;
        }
    } else {
        size_t width = str_is(t->dtype, "I64") ? 8 : 4;
        for (size_t i = 0; i < n; i++) {
            int64_t x = 0;
            int32_t y = 0;
            if (width == 8) memcpy(&x, t->data + i * 8, 8);
            else memcpy(&y, t->data + i * 4, 4);
            v[i] = (float)(x + y);
        }
    }
    return MOTE_OK;
}

mote_status hf_add(hf *h, const st_tensor *t, const char *to, int layer, quant_type type, int n_dims,
                   const uint64_t *shape, tensor_info **out, mote_error *err) {
    model_file *f = h->f;
    char name[160];
    const char *hash = strchr(to, '#');
    int n = hash ? snprintf(name, sizeof name, "%.*s%d%s", (int)(hash - to), to, layer, hash + 1)
                 : snprintf(name, sizeof name, "%s", to);
    if (n < 0 || (size_t)n >= sizeof name) FAIL(err, MOTE_E_INTERNAL, "tensor name '%s' is too long", to);
    while (n_dims > TENSOR_DIMS_MAX && shape[0] == 1) {
        shape++;
        n_dims--;
    }
    if (n_dims > TENSOR_DIMS_MAX)
        FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s' has %d dimensions, at most %d are possible", name, n_dims,
             TENSOR_DIMS_MAX);
    TRY(mem_grow(&f->tensors, &h->cap_tensors, f->n_tensors + 1, sizeof *f->tensors, FORMAT_TENSORS_MAX, err));
    tensor_info *o = &f->tensors[f->n_tensors];
    *o = (tensor_info){.type = type, .n_dims = n_dims ? n_dims : 1, .ne = {1, 1, 1, 1}};
    o->name = (str){arena_dup(&f->mem, str_of(name)), (size_t)n};
    if (!o->name.p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    o->origin = t ? t->name : o->name;
    for (int d = 0; d < n_dims; d++) {
        o->ne[d] = shape[n_dims - 1 - d];
        if (o->ne[d] == 0) FAIL(err, MOTE_E_FORMAT, "tensor '%s' is empty", name);
    }
    TRY(quant_row_bytes(quant_get((int)type), o->ne[0], &o->size, err));
    for (int d = 1; d < o->n_dims; d++)
        if (!ckd_mul_size(&o->size, o->size, (size_t)o->ne[d]))
            FAIL(err, MOTE_E_FORMAT, "tensor '%s' is too large", name);
    f->n_tensors++;
    *out = o;
    return MOTE_OK;
}

mote_status hf_make_f32(hf *h, const st_tensor *t, const char *to, int layer, int n_dims, const uint64_t *shape,
                        float **v, mote_error *err) {
    tensor_info *o;
    void *p;
    TRY(hf_add(h, t, to, layer, QUANT_F32, n_dims, shape, &o, err));
    TRY(model_file_own(h->f, o->size, &p, err));
    o->data = p;
    *v = p;
    return MOTE_OK;
}

void hf_form(hf *h, value_form form) { h->f->tensors[h->f->n_tensors - 1].form = form; }

/* What GGUF files hold in float32 whatever the matrices are. */
static bool wants_f32(const char *to, int n_dims) {
    static const char *const parts[] = {"norm.weight", "ffn_gate_inp.", "ssm_conv1d", "shortconv.conv", "token_types",
                                        "position_embd", "ssm_a", "ssm_d", "time_mix_", "rope_f"};
    if (n_dims <= 1) return true;
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (strstr(to, parts[i]) && !strstr(to, "time_mix_key") && !strstr(to, "time_mix_val") &&
            !strstr(to, "time_mix_rec") && !strstr(to, "time_mix_out"))
            return true;
    return false;
}

mote_status hf_take_shaped(hf *h, const st_tensor *t, const char *to, int layer, int n_dims, const uint64_t *shape,
                           mote_error *err) {
    quant_type type;
    tensor_info *o;
    TRY(hf_quant_type(t, &type, err));
    bool is_view = str_is(t->dtype, "F32") || (type != QUANT_F32 && !wants_f32(to, n_dims));
    TRY(hf_add(h, t, to, layer, is_view ? type : QUANT_F32, n_dims, shape, &o, err));
    if (is_view) {
        o->data = t->data;
        if (o->size != t->size) FAIL(err, MOTE_E_INTERNAL, "tensor '%.*s' changed its size", STR_ARG(t->name));
        return MOTE_OK;
    }
    void *p;
    TRY(model_file_own(h->f, o->size, &p, err));
    o->data = p;
    return hf_read_f32(t, p, err);
}

mote_status hf_take(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return hf_take_shaped(h, t, to, layer, t->n_dims, t->shape, err);
}

mote_status hf_take_rows(hf *h, const st_tensor *t, const char *to, int layer, size_t n_out,
                         size_t (*map)(const void *ctx, size_t i), const void *ctx, mote_error *err) {
    if (t->n_dims < 1 || t->shape[0] == 0 || n_out == 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' has no rows", STR_ARG(t->name));
    size_t n_in = (size_t)t->shape[0], row = t->size / n_in;
    st_tensor moved = *t;
    moved.shape[0] = n_out;
    if (!ckd_mul_size(&moved.size, row, n_out)) FAIL(err, MOTE_E_LIMIT, "tensor '%.*s' is too large", STR_ARG(t->name));
    void *p;
    TRY(model_file_own(h->f, moved.size, &p, err));
    for (size_t i = 0; i < n_out; i++) {
        size_t from = map(ctx, i);
        if (from >= n_in) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' has only %zu rows", STR_ARG(t->name), n_in);
        memcpy((unsigned char *)p + i * row, t->data + from * row, row);
    }
    moved.data = p;
    return hf_take(h, &moved, to, layer, err);
}

/* Within a head of d rows: halves [a0 a1 … b0 b1 …] to pairs [a0 b0 a1 b1 …]. */
static size_t interleave(const void *ctx, size_t i) {
    size_t d = *(const size_t *)ctx, in = i % d;
    return i - in + in / 2 + (in % 2) * (d / 2);
}

static mote_status permute(hf *h, const st_tensor *t, const char *to, int layer, uint32_t heads, mote_error *err) {
    size_t rows = t->n_dims ? (size_t)t->shape[0] : 0;
    if (heads == 0 || rows == 0 || rows % heads != 0 || rows / heads % 2 != 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' has %zu rows, which %u heads cannot share", STR_ARG(t->name), rows,
             heads);
    size_t d = rows / heads;
    return hf_take_rows(h, t, to, layer, rows, interleave, &d, err);
}

mote_status hf_op_permute_q(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return permute(h, t, to, layer, h->n_head, err);
}

mote_status hf_op_permute_k(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return permute(h, t, to, layer, h->n_head_kv, err);
}

mote_status hf_op_add_one(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    float *v;
    TRY(hf_make_f32(h, t, to, layer, t->n_dims, t->shape, &v, err));
    hf_form(h, VALUE_PLUS_ONE);
    TRY(hf_read_f32(t, v, err));
    for (uint64_t i = 0, n = hf_elements(t); i < n; i++) v[i] += 1.0f;
    return MOTE_OK;
}

static mote_status neg_exp(hf *h, const st_tensor *t, const char *to, int layer, int n_dims, const uint64_t *shape,
                           mote_error *err) {
    float *v;
    TRY(hf_make_f32(h, t, to, layer, n_dims, shape, &v, err));
    hf_form(h, VALUE_MINUS_EXP);
    TRY(hf_read_f32(t, v, err));
    for (uint64_t i = 0, n = hf_elements(t); i < n; i++) v[i] = -expf(v[i]);
    return MOTE_OK;
}

mote_status hf_op_neg_exp(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return neg_exp(h, t, to, layer, t->n_dims, t->shape, err);
}

mote_status hf_op_neg_exp_column(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return neg_exp(h, t, to, layer, 2, (const uint64_t[]){hf_elements(t), 1}, err);
}

mote_status hf_op_column(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return hf_take_shaped(h, t, to, layer, 2, (const uint64_t[]){hf_elements(t), 1}, err);
}

mote_status hf_op_as_vector(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return hf_take_shaped(h, t, to, layer, 1, (const uint64_t[]){hf_elements(t)}, err);
}

mote_status hf_op_squeeze(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    uint64_t shape[8];
    int n = 0;
    for (int d = 0; d < t->n_dims; d++)
        if (t->shape[d] != 1) shape[n++] = t->shape[d];
    return hf_take_shaped(h, t, to, layer, n, shape, err);
}

/* [a, b] to [b, a]; vectors stay. */
mote_status hf_op_transpose(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    if (t->n_dims != 2) return hf_take(h, t, to, layer, err);
    size_t a = (size_t)t->shape[0], b = (size_t)t->shape[1];
    if (a == 0 || b == 0) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' is empty", STR_ARG(t->name));
    size_t width = t->size / a / b;
    unsigned char *p;
    void *owned;
    TRY(model_file_own(h->f, t->size, &owned, err));
    p = owned;
    for (size_t i = 0; i < a; i++)
        for (size_t j = 0; j < b; j++) memcpy(p + (j * a + i) * width, t->data + (i * b + j) * width, width);
    st_tensor turned = *t;
    turned.shape[0] = b;
    turned.shape[1] = a;
    turned.data = p;
    return hf_take(h, &turned, to, layer, err);
}

/* The two names of "first|second", each with the ending that stands only behind the second. */
static void split_names(const char *to, char first[160], char second[160]) {
    const char *bar = strchr(to, '|'), *dot = strrchr(to, '.');
    bool ends = dot && dot > bar && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0) &&
                !str_ends((str){to, (size_t)(bar - to)}, str_of(dot));
    (void)snprintf(first, 160, "%.*s%s", (int)(bar - to), to, ends ? dot : "");
    (void)snprintf(second, 160, "%s", bar + 1);
}

/* to is "first|second": the two halves along the last dimension but one (rows of a matrix, or of each expert's). */
mote_status hf_op_halves(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    int at = t->n_dims >= 2 ? t->n_dims - 2 : 0;
    if (!strchr(to, '|') || t->n_dims < 1 || t->shape[at] == 0 || t->shape[at] % 2 != 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' cannot be halved", STR_ARG(t->name));
    char names[2][160];
    split_names(to, names[0], names[1]);
    size_t outer = 1;
    for (int d = 0; d < at; d++) outer *= (size_t)t->shape[d];
    st_tensor half = *t;
    half.shape[at] /= 2;
    half.size /= 2;
    size_t chunk = outer ? half.size / outer : 0;
    for (size_t k = 0; k < 2; k++) {
        half.data = t->data + k * half.size;
        if (outer != 1) {
            void *p;
            TRY(model_file_own(h->f, half.size, &p, err));
            for (size_t o = 0; o < outer; o++)
                memcpy((unsigned char *)p + o * chunk, t->data + (2 * o + k) * chunk, chunk);
            half.data = p;
        }
        TRY(hf_take(h, &half, names[k], layer, err));
    }
    return MOTE_OK;
}

/* A tensor that GGUF calls a bias whatever its name here ends in. */
mote_status hf_op_bias(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    char name[160];
    const char *dot = strrchr(to, '.');
    bool drop = dot && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0);
    (void)snprintf(name, sizeof name, "%.*s.bias", drop ? (int)(dot - to) : (int)strlen(to), to);
    return hf_take(h, t, name, layer, err);
}

/* Query, key and value of each head lie together: [head][q k v][d]. GGUF wants all queries, all keys, all
 * values. */
struct per_head {
    size_t heads, d;
};

static size_t gather_per_head(const void *ctx, size_t i) {
    const struct per_head *p = ctx;
    size_t part = i / (p->heads * p->d), head = i / p->d % p->heads;
    return (head * 3 + part) * p->d + i % p->d;
}

mote_status hf_op_qkv_per_head(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    size_t rows = t->n_dims ? (size_t)t->shape[0] : 0, heads = h->n_head;
    if (heads == 0 || rows == 0 || rows % (3 * heads) != 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s': %zu rows are not Q, K and V of %zu heads", STR_ARG(t->name), rows,
             heads);
    struct per_head p = {heads, rows / heads / 3};
    return hf_take_rows(h, t, to, layer, rows, gather_per_head, &p, err);
}

/* Grouped: for each key-value head its query heads, then its key, then its value. */
struct groups {
    size_t per_group, groups, d, first; /* query heads per group; first: row of the whole result to begin with */
    bool pairs;                         /* also interleave the rotary halves of queries and keys */
};

static size_t gather_groups(const void *ctx, size_t i) {
    const struct groups *g = ctx;
    i += g->first;
    size_t q_rows = g->groups * g->per_group * g->d, kv_rows = g->groups * g->d, in_group = (g->per_group + 2) * g->d;
    size_t in = i % g->d;
    if (g->pairs && i < q_rows + kv_rows) in = in / 2 + (in % 2) * (g->d / 2);
    if (i < q_rows) return i / g->d / g->per_group * in_group + i / g->d % g->per_group * g->d + in;
    i -= q_rows;
    size_t part = i / kv_rows, group = i % kv_rows / g->d;
    return group * in_group + (g->per_group + part) * g->d + in;
}

static mote_status find_groups(const hf *h, const st_tensor *t, struct groups *g, mote_error *err) {
    size_t rows = t->n_dims ? (size_t)t->shape[0] : 0, heads = h->n_head, kv_heads = h->n_head_kv;
    if (kv_heads == 0 || heads % kv_heads != 0 || rows == 0 || rows % (heads + 2 * kv_heads) != 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s': %zu rows are not Q, K and V of %zu and %zu heads", STR_ARG(t->name),
             rows, heads, kv_heads);
    *g = (struct groups){heads / kv_heads, kv_heads, rows / (heads + 2 * kv_heads), 0, false};
    return MOTE_OK;
}

mote_status hf_op_qkv_groups(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    struct groups g;
    TRY(find_groups(h, t, &g, err));
    return hf_take_rows(h, t, to, layer, (size_t)t->shape[0], gather_groups, &g, err);
}

/* The same into three tensors (to is not used), with the rows of Q and K interleaved. */
mote_status hf_op_qkv_groups_split(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    struct groups g;
    (void)to;
    TRY(find_groups(h, t, &g, err));
    g.pairs = true;
    size_t q = g.groups * g.per_group * g.d, k = g.groups * g.d;
    TRY(hf_take_rows(h, t, "blk.#.attn_q.weight", layer, q, gather_groups, &g, err));
    g.first = q;
    TRY(hf_take_rows(h, t, "blk.#.attn_k.weight", layer, k, gather_groups, &g, err));
    g.first = q + k;
    return hf_take_rows(h, t, "blk.#.attn_v.weight", layer, k, gather_groups, &g, err);
}

const st_tensor *hf_find(const hf *h, const char *name) {
    size_t i = index_find(&h->src_index, h->src, sizeof *h->src, str_of(name));
    if (i == SIZE_MAX) return NULL;
    return h->stand_in ? h->stand_in(h->stand_in_ctx, h->src[i].t) : h->src[i].t;
}
