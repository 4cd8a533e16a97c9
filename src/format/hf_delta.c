/* hf_delta.c: linear attention with a delta rule: Qwen3-Next, Qwen3.5, Kimi Linear; and RWKV-7. */
#include "format/hf_archs.h"

#include <math.h>
#include <stdio.h>

#define L "blk.#."
#define END {NULL, NULL, NULL}
#define KEYS_END {NULL, KV_U32, NULL}

/* ---- Qwen3-Next and Qwen3.5 ---- */

typedef struct delta_sizes {
    size_t k_heads, v_heads, k_dim, v_dim, per_k; /* per_k: value heads of one key head */
    size_t first; /* rows before those that are reordered */
} delta_sizes;

static mote_status read_sizes(const hf *h, delta_sizes *d, mote_error *err) {
    uint32_t k_heads = 16, v_heads = 32, k_dim = 128, v_dim = 128;
    TRY(hf_get_u32(h, "linear_num_key_heads", &k_heads, err));
    TRY(hf_get_u32(h, "linear_num_value_heads", &v_heads, err));
    TRY(hf_get_u32(h, "linear_key_head_dim", &k_dim, err));
    TRY(hf_get_u32(h, "linear_value_head_dim", &v_dim, err));
    if (k_heads == 0 || v_heads % k_heads != 0 || v_heads == 0 || k_dim == 0 || v_dim == 0 || v_heads > 65536 ||
        k_dim > 65536 || v_dim > 65536)
        FAIL(err, MOTE_E_RANGE, "config.json: %u key and %u value heads of linear attention make no sense", k_heads, v_heads);
    *d = (delta_sizes){k_heads, v_heads, k_dim, v_dim, v_heads / k_heads, 0};
    return MOTE_OK;
}

/* Value heads lie grouped by key head; GGUF wants the first of every group, then the second of every group. */
static size_t tile(const delta_sizes *d, size_t i, size_t head) {
    size_t in = i % head, j = i / head;
    return (j % d->k_heads * d->per_k + j / d->k_heads) * head + in;
}
static size_t tile_heads(const void *ctx, size_t i) {
    const delta_sizes *d = ctx;
    return i < d->first ? i : d->first + tile(d, i - d->first, d->v_dim);
}
static size_t tile_single(const void *ctx, size_t i) { return tile(ctx, i, 1); }

static mote_status need_rows(const st_tensor *t, size_t rows, mote_error *err) {
    if (t->n_dims < 1 || t->shape[0] != rows)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' should have %zu rows", STR_ARG(t->name), rows);
    return MOTE_OK;
}

/* Rows: queries, keys, then values to be tiled. Serves the projection and the convolution. */
static mote_status delta_qkv(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    delta_sizes d;
    TRY(read_sizes(h, &d, err));
    d.first = 2 * d.k_heads * d.k_dim;
    st_tensor flat = *t;
    if (t->n_dims == 3) { /* [channel][1][kernel] */
        flat.n_dims = 2;
        flat.shape[1] = t->shape[1] * t->shape[2];
    }
    TRY(need_rows(t, d.first + d.v_heads * d.v_dim, err));
    if (d.per_k == 1) return hf_take(h, &flat, to, layer, err);
    return hf_take_rows(h, &flat, to, layer, (size_t)t->shape[0], tile_heads, &d, err);
}

static mote_status delta_z(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    delta_sizes d;
    TRY(read_sizes(h, &d, err));
    TRY(need_rows(t, d.v_heads * d.v_dim, err));
    return d.per_k == 1 ? hf_take(h, t, to, layer, err)
                        : hf_take_rows(h, t, to, layer, (size_t)t->shape[0], tile_heads, &d, err);
}

static mote_status delta_single(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    delta_sizes d;
    TRY(read_sizes(h, &d, err));
    TRY(need_rows(t, d.v_heads, err));
    return d.per_k == 1 ? hf_take(h, t, to, layer, err)
                        : hf_take_rows(h, t, to, layer, (size_t)t->shape[0], tile_single, &d, err);
}

static mote_status delta_a(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    delta_sizes d;
    float *v, *x;
    TRY(read_sizes(h, &d, err));
    TRY(need_rows(t, d.v_heads, err));
    TRY(hf_make_f32(h, t, to, layer, t->n_dims, t->shape, &v, err));
    hf_form(h, VALUE_MINUS_EXP);
    x = MEM_NEW_N(float, d.v_heads);
    if (!x) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = hf_read_f32(t, x, err);
    for (size_t i = 0; s == MOTE_OK && i < d.v_heads; i++) v[i] = -expf(x[tile_single(&d, i)]);
    mem_free(x);
    return s;
}

/* Columns of the output projection are tiled as the values are. */
static mote_status delta_out(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    delta_sizes d;
    TRY(read_sizes(h, &d, err));
    size_t cols = d.v_heads * d.v_dim;
    if (t->n_dims != 2 || t->shape[1] != cols || t->shape[0] == 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' should have %zu columns", STR_ARG(t->name), cols);
    if (d.per_k == 1) return hf_take(h, t, to, layer, err);
    size_t rows = (size_t)t->shape[0], width = t->size / rows / cols;
    void *p;
    TRY(model_file_own(h->f, t->size, &p, err));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            memcpy((unsigned char *)p + (r * cols + c) * width, t->data + (r * cols + tile_heads(&d, c)) * width, width);
    st_tensor turned = *t;
    turned.data = p;
    return hf_take(h, &turned, to, layer, err);
}

/* Qwen3-Next: each key head's query, key, values and gates lie together. */
struct next_rows {
    delta_sizes d;
    bool gates;
};
static size_t next_row(const void *ctx, size_t i) {
    const struct next_rows *n = ctx;
    size_t k = n->d.k_dim, v = n->d.per_k * n->d.v_dim, group = 2 * k + 2 * v, keys = n->d.k_heads * k;
    if (n->gates) return i / v * group + 2 * k + v + i % v;
    if (i < 2 * keys) return i % keys / k * group + i / keys * k + i % k;
    i -= 2 * keys;
    return i / v * group + 2 * k + i % v;
}

static mote_status next_qkvz(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    struct next_rows n = {.gates = false};
    (void)to;
    TRY(read_sizes(h, &n.d, err));
    size_t qkv = 2 * n.d.k_heads * n.d.k_dim + n.d.v_heads * n.d.v_dim, z = n.d.v_heads * n.d.v_dim;
    TRY(need_rows(t, qkv + z, err));
    TRY(hf_take_rows(h, t, L "attn_qkv.weight", layer, qkv, next_row, &n, err));
    n.gates = true;
    return hf_take_rows(h, t, L "attn_gate.weight", layer, z, next_row, &n, err);
}

#define QWEN_MOE_STACKED                                                                           \
    {"layers.#.mlp.experts.gate_up_proj", L "ffn_gate_up_exps.weight", hf_take},                   \
    {"layers.#.mlp.experts.down_proj", L "ffn_down_exps.weight", hf_take}

const hf_rule hf_qwen3next_rules[] = {
    {"layers.#.post_attention_layernorm", L "post_attention_norm", NULL},
    {"layers.#.linear_attn.in_proj_qkvz", L "attn_qkv", next_qkvz},
    {"layers.#.linear_attn.in_proj_ba", L "ssm_ba", NULL},
    {"layers.#.linear_attn.conv1d", L "ssm_conv1d", hf_op_squeeze},
    {"layers.#.linear_attn.dt_bias", L "ssm_dt.bias", NULL},
    {"layers.#.linear_attn.A_log", L "ssm_a", hf_op_neg_exp},
    {"layers.#.linear_attn.norm", L "ssm_norm", hf_take},
    {"layers.#.linear_attn.out_proj", L "ssm_out", NULL},
    QWEN_MOE_STACKED,
    END,
};
const hf_rule hf_qwen35_rules[] = {
    {"layers.#.post_attention_layernorm", L "post_attention_norm", NULL},
    {"layers.#.linear_attn.in_proj_qkv", L "attn_qkv", delta_qkv},
    {"layers.#.linear_attn.in_proj_z", L "attn_gate", delta_z},
    {"layers.#.linear_attn.in_proj_a", L "ssm_alpha", delta_single},
    {"layers.#.linear_attn.in_proj_b", L "ssm_beta", delta_single},
    {"layers.#.linear_attn.conv1d", L "ssm_conv1d", delta_qkv},
    {"layers.#.linear_attn.dt_bias", L "ssm_dt.bias", delta_single},
    {"layers.#.linear_attn.A_log", L "ssm_a", delta_a},
    {"layers.#.linear_attn.norm", L "ssm_norm", hf_take},
    {"layers.#.linear_attn.out_proj", L "ssm_out", delta_out},
    QWEN_MOE_STACKED,
    END,
};
const hf_key hf_qwen_delta_keys[] = {
    {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", KV_U32, "shared_expert_intermediate_size"},
    {"ssm.conv_kernel", KV_U32, "linear_conv_kernel_dim"},
    {"ssm.state_size", KV_U32, "linear_key_head_dim"},
    {"ssm.group_count", KV_U32, "linear_num_key_heads"},
    {"ssm.time_step_rank", KV_U32, "linear_num_value_heads"},
    KEYS_END,
};

mote_status hf_qwen_delta_extra(hf *h, mote_error *err) {
    delta_sizes d;
    uint32_t interval = 4;
    double partial = 0.25;
    TRY(read_sizes(h, &d, err));
    TRY(hf_get_u32(h, "full_attention_interval", &interval, err));
    TRY(hf_get_f32(h, "partial_rotary_factor,rope_parameters.partial_rotary_factor", &partial, err));
    if (!(partial > 0 && partial <= 1)) FAIL(err, MOTE_E_RANGE, "config.json: partial_rotary_factor makes no sense");
    TRY(hf_put_u32(h, "ssm.inner_size", (uint32_t)(d.v_heads * d.v_dim), err));
    TRY(hf_put_u32(h, "full_attention_interval", interval, err));
    return hf_put_u32(h, "rope.dimension_count", (uint32_t)((double)h->head_dim * partial), err);
}

mote_status hf_qwen35_extra(hf *h, mote_error *err) {
    uint32_t sections[4] = {11, 11, 10, 0};
    const json_t *list = hf_get(h, "rope_parameters.mrope_section,rope_scaling.mrope_section");
    TRY(hf_qwen_delta_extra(h, err));
    for (size_t i = 0; list && i < 4; i++) sections[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return hf_put_u32s(h, "rope.dimension_sections", sections, 4, err);
}

/* ---- Kimi Linear ---- */

static bool kimi_is_attention(const hf *h, uint32_t i) {
    const json_t *list = hf_get(h, "linear_attn_config.full_attn_layers");
    for (size_t k = 0; k < json_array_size(list); k++)
        if (json_integer_value(json_array_get(list, k)) == (json_int_t)i + 1) return true;
    return false;
}

/* kv_b: per head the keys' rows, then the values'. Keys are turned: [head][rank][key], values [head][value][rank]. */
static mote_status kimi_kv_b(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    uint32_t key = 0, value = 0;
    (void)to;
    TRY(hf_get_u32(h, "qk_nope_head_dim", &key, err));
    TRY(hf_get_u32(h, "v_head_dim", &value, err));
    size_t heads = h->n_head_kv, both = (size_t)key + value, rank = t->n_dims == 2 ? (size_t)t->shape[1] : 0;
    if (rank == 0 || heads == 0 || key == 0 || value == 0 || t->shape[0] != heads * both)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' is not keys of %u and values of %u for %zu heads", STR_ARG(t->name), key,
             value, heads);
    size_t width = t->size / (heads * both * rank);
    void *k, *v;
    TRY(model_file_own(h->f, heads * key * rank * width, &k, err));
    TRY(model_file_own(h->f, heads * value * rank * width, &v, err));
    for (size_t i = 0; i < heads; i++) {
        const unsigned char *from = t->data + i * both * rank * width;
        for (size_t r = 0; r < rank; r++)
            for (size_t c = 0; c < key; c++)
                memcpy((unsigned char *)k + ((i * rank + r) * key + c) * width, from + (c * rank + r) * width, width);
        memcpy((unsigned char *)v + i * value * rank * width, from + key * rank * width, value * rank * width);
    }
    st_tensor part = {.name = t->name, .dtype = t->dtype, .n_dims = 3, .shape = {heads, rank, key}, .data = k,
                      .size = heads * key * rank * width};
    TRY(hf_take(h, &part, L "attn_k_b.weight", layer, err));
    part = (st_tensor){.name = t->name, .dtype = t->dtype, .n_dims = 3, .shape = {heads, value, rank}, .data = v,
                       .size = heads * value * rank * width};
    return hf_take(h, &part, L "attn_v_b.weight", layer, err);
}

static mote_status kimi_conv(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    if (t->n_dims < 2) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' is no convolution", STR_ARG(t->name));
    return hf_take_shaped(h, t, to, layer, 3, (const uint64_t[]){t->shape[0], 1, t->shape[t->n_dims - 1]}, err);
}

static mote_status kimi_a(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    st_tensor flat = *t;
    flat.n_dims = 1;
    flat.shape[0] = hf_elements(t);
    return hf_op_neg_exp_column(h, &flat, to, layer, err);
}

const hf_rule hf_kimi_rules[] = {
    {"layers.#.self_attn.kv_a_proj_with_mqa", L "attn_kv_a_mqa", NULL},
    {"layers.#.self_attn.kv_a_layernorm", L "attn_kv_a_norm", NULL},
    {"layers.#.self_attn.kv_b_proj", L "attn_kv_b", kimi_kv_b},
    {"layers.#.self_attn.q_conv1d", L "ssm_conv1d_q", kimi_conv},
    {"layers.#.self_attn.k_conv1d", L "ssm_conv1d_k", kimi_conv},
    {"layers.#.self_attn.v_conv1d", L "ssm_conv1d_v", kimi_conv},
    {"layers.#.self_attn.f_a_proj", L "ssm_f_a", NULL},
    {"layers.#.self_attn.f_b_proj", L "ssm_f_b", NULL},
    {"layers.#.self_attn.g_a_proj", L "ssm_g_a", NULL},
    {"layers.#.self_attn.g_b_proj", L "ssm_g_b", NULL},
    {"layers.#.self_attn.b_proj", L "ssm_beta", NULL},
    {"layers.#.self_attn.A_log", L "ssm_a", kimi_a},
    {"layers.#.self_attn.dt_bias", L "ssm_dt.bias", NULL},
    {"layers.#.self_attn.o_norm", L "ssm_norm", NULL},
    {"layers.#.block_sparse_moe.gate.e_score_correction_bias", L "exp_probs_b.bias", NULL},
    {"layers.#.block_sparse_moe.shared_experts.gate_proj", L "ffn_gate_shexp", NULL},
    {"layers.#.block_sparse_moe.shared_experts.up_proj", L "ffn_up_shexp", NULL},
    {"layers.#.block_sparse_moe.shared_experts.down_proj", L "ffn_down_shexp", NULL},
    END,
};
const hf_key hf_kimi_keys[] = {
    {"ssm.conv_kernel", KV_U32, "linear_attn_config.short_conv_kernel_size"},
    {"kda.head_dim", KV_U32, "linear_attn_config.head_dim"},
    {"attention.q_lora_rank", KV_U32, "q_lora_rank"},
    {"attention.kv_lora_rank", KV_U32, "kv_lora_rank"},
    {"attention.value_length_mla", KV_U32, "v_head_dim"},
    {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"},
    {"expert_shared_count", KV_U32, "num_shared_experts"},
    {"leading_dense_block_count", KV_U32, "first_k_dense_replace"},
    {"expert_weights_scale", KV_F32, "routed_scaling_factor"},
    {"expert_weights_norm", KV_BOOL, "moe_renormalize"},
    KEYS_END,
};

mote_status hf_kimi_extra(hf *h, mote_error *err) {
    uint32_t rank = 0, rope = 0, nope = 0, *list = arena_alloc(&h->f->mem, h->n_layer, sizeof *list);
    if (!list) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(hf_get_u32(h, "kv_lora_rank", &rank, err));
    TRY(hf_get_u32(h, "qk_rope_head_dim", &rope, err));
    TRY(hf_get_u32(h, "qk_nope_head_dim", &nope, err));
    for (uint32_t i = 0; i < h->n_layer; i++) list[i] = kimi_is_attention(h, i);
    TRY(hf_put_u32s(h, "attention.head_count_kv", list, h->n_layer, err));
    TRY(hf_put_u32(h, "attention.key_length", rank + rope, err));
    TRY(hf_put_u32(h, "attention.value_length", rank, err));
    TRY(hf_put_u32(h, "attention.key_length_mla", nope + rope, err));
    str gate = hf_get_str(h, "moe_router_activation_func");
    return hf_put_u32(h, "expert_gating_func", str_is(gate, "softmax") ? 1 : 2, err);
}

/* ---- RWKV-7, in the form of flash-linear-attention ---- */

static const char rwkv_mixes[] = "rwkvag"; /* in this order in GGUF */

/* The six mixing vectors become one tensor [6][1][1][n]; called for the first of them. */
static mote_status rwkv_lerp(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    uint64_t n = hf_elements(t);
    float *v;
    TRY(hf_make_f32(h, t, to, layer, 4, (const uint64_t[]){6, 1, 1, n}, &v, err));
    for (size_t i = 0; i < 6; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "layers.%d.attn.x_%c", layer, rwkv_mixes[i]);
        const st_tensor *x = hf_find(h, name);
        if (!x || hf_elements(x) != n) FAIL(err, MOTE_E_NOT_FOUND, "layer %d lacks x_%c, or it has another size", layer, rwkv_mixes[i]);
        TRY(hf_read_f32(x, v + i * n, err));
    }
    return MOTE_OK;
}

static mote_status rwkv_vector(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return hf_op_as_vector(h, t, to, layer, err);
}

/* GGUF's loader wants the value-residual tensors in the first layer too, where they have no use. */
static mote_status rwkv_a(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    char name[64];
    st_tensor flat = *t;
    if (strstr(to, "_a0")) {
        flat.n_dims = 1;
        flat.shape[0] = hf_elements(t);
    }
    TRY(hf_take(h, &flat, to, layer, err));
    if (layer != 0) return MOTE_OK;
    (void)snprintf(name, sizeof name, "%s", to);
    char *at = strstr(name, "time_mix_a");
    if (!at) return MOTE_OK;
    at[9] = 'v';
    return hf_take(h, &flat, name, layer, err);
}

static mote_status rwkv_v(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    if (layer == 0) return MOTE_OK; /* comes from rwkv_a */
    return strstr(to, "_v0") ? hf_op_as_vector(h, t, to, layer, err) : hf_take(h, t, to, layer, err);
}

#define LORA(fla, gguf, op)                                                                        \
    {"layers.#.attn." fla "_lora.lora.0.weight", L "time_mix_" gguf "1.weight", op},               \
    {"layers.#.attn." fla "_lora.lora.2.weight", L "time_mix_" gguf "2.weight", op},               \
    {"layers.#.attn." fla "_lora.lora.2.bias", L "time_mix_" gguf "0.weight", op}

static mote_status rwkv_w(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return strstr(to, "0.weight") ? hf_op_as_vector(h, t, to, layer, err) : hf_take(h, t, to, layer, err);
}

const hf_rule hf_rwkv7_rules[] = {
    {"layers.#.pre_norm", "token_embd_norm", NULL},
    {"layers.#.attn_norm", L "attn_norm", NULL},
    {"layers.#.ffn_norm", L "attn_norm_2", NULL},
    {"layers.#.attn.x_r", L "time_mix_lerp_fused.weight", rwkv_lerp},
    {"layers.#.attn.x_w", NULL, NULL},
    {"layers.#.attn.x_k", NULL, NULL},
    {"layers.#.attn.x_v", NULL, NULL},
    {"layers.#.attn.x_a", NULL, NULL},
    {"layers.#.attn.x_g", NULL, NULL},
    LORA("w", "w", rwkv_w),
    LORA("a", "a", rwkv_a),
    LORA("v", "v", rwkv_v),
    LORA("g", "g", rwkv_w),
    {"layers.#.attn.k_k", L "time_mix_k_k.weight", rwkv_vector},
    {"layers.#.attn.k_a", L "time_mix_k_a.weight", rwkv_vector},
    {"layers.#.attn.r_k", L "time_mix_r_k.weight", rwkv_vector},
    {"layers.#.attn.r_proj", L "time_mix_receptance", NULL},
    {"layers.#.attn.k_proj", L "time_mix_key", NULL},
    {"layers.#.attn.v_proj", L "time_mix_value", NULL},
    {"layers.#.attn.o_proj", L "time_mix_output", NULL},
    {"layers.#.attn.g_norm", L "time_mix_ln", NULL},
    {"layers.#.ffn.x_k", L "channel_mix_lerp_k.weight", rwkv_vector},
    {"layers.#.ffn.key", L "channel_mix_key", NULL},
    {"layers.#.ffn.value", L "channel_mix_value", NULL},
    END,
};

static uint32_t lora_rank(uint32_t n_embd, double exponent, double factor) {
    double r = floor(pow((double)n_embd, exponent) * factor / 32 + 0.5);
    return (uint32_t)(r < 1 ? 1 : r) * 32;
}

mote_status hf_rwkv7_extra(hf *h, mote_error *err) {
    uint32_t head = 64, ff = 4 * h->n_embd;
    uint32_t decay = lora_rank(h->n_embd, 0.5, 1.8), iclr = decay, residual = lora_rank(h->n_embd, 0.5, 1.3);
    uint32_t gate = lora_rank(h->n_embd, 0.8, 0.6);
    double eps = 1e-5;
    TRY(hf_get_u32(h, "head_size,head_dim", &head, err));
    TRY(hf_get_u32(h, "intermediate_size", &ff, err));
    TRY(hf_get_f32(h, "layer_norm_epsilon,norm_eps", &eps, err));
    TRY(hf_get_u32(h, "lora_rank_decay,decay_low_rank_dim", &decay, err));
    TRY(hf_get_u32(h, "lora_rank_iclr,a_low_rank_dim", &iclr, err));
    TRY(hf_get_u32(h, "lora_rank_value_residual_mix,v_low_rank_dim", &residual, err));
    TRY(hf_get_u32(h, "lora_rank_gate,gate_low_rank_dim", &gate, err));
    TRY(hf_put_u32(h, "context_length", 1u << 20, err));
    TRY(hf_put_u32(h, "feed_forward_length", ff, err));
    TRY(hf_put_u32(h, "attention.head_count", 0, err));
    TRY(hf_put_f32(h, "attention.layer_norm_epsilon", eps, err));
    TRY(hf_put_u32(h, "wkv.head_size", head, err));
    TRY(hf_put_u32(h, "attention.decay_lora_rank", decay, err));
    TRY(hf_put_u32(h, "attention.iclr_lora_rank", iclr, err));
    TRY(hf_put_u32(h, "attention.value_residual_mix_lora_rank", residual, err));
    return hf_put_u32(h, "attention.gate_lora_rank", gate, err);
}
