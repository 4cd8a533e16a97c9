/* hf_hybrids.c: state space models and their hybrids with attention: Mamba, Mamba-2, Jamba, Granite 4, Falcon-H1,
 * Nemotron-H, PLaMo 2; and LFM2's short convolutions. */
#include "format/hf_archs.h"

#include <math.h>
#include <stdio.h>

#define L "blk.#."
#define END {NULL, NULL, NULL}
#define KEYS_END {NULL, KV_U32, NULL}

#define NO_LIMIT (1u << 20) /* the context of what has none of its own; llama.cpp writes the same */

/* A layer's mixer as `prefix`.in_proj and so on, with one A and D per head (Mamba-2). */
#define MAMBA2_MIXER(prefix)                                                                       \
    {prefix ".in_proj", L "ssm_in", NULL}, {prefix ".conv1d", L "ssm_conv1d", hf_op_squeeze},      \
    {prefix ".dt_bias", L "ssm_dt.bias", NULL}, {prefix ".A_log", L "ssm_a", hf_op_neg_exp_column}, \
    {prefix ".D", L "ssm_d", hf_op_column}, {prefix ".norm", L "ssm_norm", group_norm},            \
    {prefix ".out_proj", L "ssm_out", NULL}

/* ---- shared ---- */

typedef struct ssm_sizes {
    uint32_t conv, inner, state, rank, groups;
} ssm_sizes;

static mote_status put_ssm(hf *h, const ssm_sizes *s, mote_error *err) {
    TRY(hf_put_u32(h, "ssm.conv_kernel", s->conv, err));
    TRY(hf_put_u32(h, "ssm.inner_size", s->inner, err));
    TRY(hf_put_u32(h, "ssm.state_size", s->state, err));
    TRY(hf_put_u32(h, "ssm.time_step_rank", s->rank, err));
    return s->groups ? hf_put_u32(h, "ssm.group_count", s->groups, err) : MOTE_OK;
}

/* Models of nothing but Mamba layers. */
static mote_status put_pure(hf *h, mote_error *err) {
    double eps = 1e-5;
    TRY(hf_get_f32(h, "layer_norm_epsilon,rms_norm_eps", &eps, err));
    TRY(hf_put_u32(h, "context_length", NO_LIMIT, err));
    TRY(hf_put_u32(h, "feed_forward_length", 0, err));
    TRY(hf_put_u32(h, "attention.head_count", 0, err));
    return hf_put_f32(h, "attention.layer_norm_rms_epsilon", eps, err);
}

/* The inner norm is one per group: [group][inner / group]. */
static mote_status group_norm(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    uint64_t n = hf_elements(t);
    uint32_t groups = 1;
    TRY(hf_get_u32(h, "mamba_n_groups,n_groups", &groups, err));
    if (groups == 0 || n % groups != 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' cannot be shared by %u groups", STR_ARG(t->name), groups);
    return hf_take_shaped(h, t, to, layer, 2, (const uint64_t[]){groups, n / groups}, err);
}

/* A per-layer list: v where attention(h, i), 0 elsewhere. */
static mote_status put_where(hf *h, const char *key, uint32_t v, bool (*attention)(const hf *h, uint32_t i),
                             mote_error *err) {
    uint32_t *list = arena_alloc(&h->f->mem, h->n_layer, sizeof *list);
    if (!list) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (uint32_t i = 0; i < h->n_layer; i++) list[i] = attention(h, i) ? v : 0;
    return hf_put_u32s(h, key, list, h->n_layer, err);
}

/* ---- Mamba, Mamba-2 ---- */

mote_status hf_mamba_extra(hf *h, mote_error *err) {
    ssm_sizes s = {4, 2 * h->n_embd, 16, (h->n_embd + 15) / 16, 0};
    TRY(hf_get_u32(h, "conv_kernel,d_conv", &s.conv, err));
    TRY(hf_get_u32(h, "intermediate_size,d_inner", &s.inner, err));
    TRY(hf_get_u32(h, "state_size,d_state", &s.state, err));
    TRY(hf_get_u32(h, "time_step_rank,dt_rank", &s.rank, err));
    TRY(put_pure(h, err));
    TRY(put_ssm(h, &s, err));
    return hf_put_bool(h, "ssm.dt_b_c_rms", str_is(hf_get_str(h, "model_type"), "falcon_mamba"), err);
}

const hf_rule hf_mamba2_rules[] = {MAMBA2_MIXER("layers.#.mixer"), END};

mote_status hf_mamba2_extra(hf *h, mote_error *err) {
    ssm_sizes s = {4, 2 * h->n_embd, 128, 0, 1};
    uint32_t head = 64;
    TRY(hf_get_u32(h, "conv_kernel,d_conv", &s.conv, err));
    TRY(hf_get_u32(h, "intermediate_size,d_inner", &s.inner, err));
    TRY(hf_get_u32(h, "state_size,d_state", &s.state, err));
    TRY(hf_get_u32(h, "head_dim", &head, err));
    TRY(hf_get_u32(h, "n_groups", &s.groups, err));
    if (head == 0) FAIL(err, MOTE_E_RANGE, "config.json: head_dim is 0");
    s.rank = s.inner / head;
    TRY(put_pure(h, err));
    return put_ssm(h, &s, err);
}

/* Sizes of a Mamba-2 mixer inside a hybrid. */
static mote_status hybrid_sizes(const hf *h, ssm_sizes *s, mote_error *err) {
    uint32_t expand = 2;
    TRY(hf_get_u32(h, "mamba_expand,expand", &expand, err));
    *s = (ssm_sizes){4, expand * h->n_embd, 128, 0, 1};
    TRY(hf_get_u32(h, "mamba_d_conv,conv_kernel", &s->conv, err));
    TRY(hf_get_u32(h, "mamba_d_ssm", &s->inner, err));
    TRY(hf_get_u32(h, "mamba_d_state,ssm_state_size", &s->state, err));
    TRY(hf_get_u32(h, "mamba_n_groups,n_groups", &s->groups, err));
    return hf_get_u32(h, "mamba_n_heads,mamba_num_heads", &s->rank, err);
}

/* ---- Granite 4 ---- */

bool hf_granite_is_attention(const hf *h, uint32_t i) {
    if (hf_get(h, "layer_types,layers_block_type")) return hf_layer_is(h, i, "attention");
    const json_t *list = hf_get(h, "attn_layer_indices");
    for (size_t k = 0; k < json_array_size(list); k++)
        if (json_integer_value(json_array_get(list, k)) == (json_int_t)i) return true;
    uint32_t period = 0, offset = 0;
    (void)hf_get_u32(h, "attn_layer_period", &period, NULL);
    (void)hf_get_u32(h, "attn_layer_offset", &offset, NULL);
    return period && i % period == offset;
}

/* Beside experts the shared network has its own name, alone it is the layer's feed-forward. */
static mote_status shared_in(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    (void)to;
    return hf_op_halves(h, t, h->n_expert ? L "ffn_gate_shexp|" L "ffn_up_shexp.weight" : L "ffn_gate|" L "ffn_up.weight",
                        layer, err);
}
static mote_status shared_out(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    (void)to;
    return hf_take(h, t, h->n_expert ? L "ffn_down_shexp.weight" : L "ffn_down.weight", layer, err);
}

const hf_rule hf_granite_rules[] = {
    {"layers.#.block_sparse_moe.input_linear", L "ffn_gate_exps|" L "ffn_up_exps", hf_op_halves},
    {"layers.#.block_sparse_moe.output_linear", L "ffn_down_exps", NULL},
    {"layers.#.block_sparse_moe.router.layer", L "ffn_gate_inp", NULL},
    {"layers.#.shared_mlp.input_linear", L "ffn_gate", shared_in},
    {"layers.#.shared_mlp.output_linear", L "ffn_down", shared_out},
    MAMBA2_MIXER("layers.#.mamba"),
    END,
};

mote_status hf_granite_hybrid_extra(hf *h, mote_error *err) {
    ssm_sizes s;
    TRY(hybrid_sizes(h, &s, err));
    TRY(put_ssm(h, &s, err));
    TRY(put_where(h, "attention.head_count_kv", h->n_head_kv, hf_granite_is_attention, err));
    TRY(hf_put_bool(h, "rope.scaling.finetuned", false, err)); /* no positions at all */
    return hf_put_u32(h, "context_length", NO_LIMIT, err);
}

/* ---- Jamba ---- */

static bool jamba_is_attention(const hf *h, uint32_t i) {
    uint32_t period = 8, offset = 4;
    (void)hf_get_u32(h, "attn_layer_period", &period, NULL);
    (void)hf_get_u32(h, "attn_layer_offset", &offset, NULL);
    return period && i >= offset && (i - offset) % period == 0;
}

const hf_rule hf_jamba_rules[] = {
    {"layers.#.mamba.in_proj", L "ssm_in", NULL},
    {"layers.#.mamba.conv1d", L "ssm_conv1d", hf_op_squeeze},
    {"layers.#.mamba.x_proj", L "ssm_x", NULL},
    {"layers.#.mamba.dt_proj", L "ssm_dt", NULL},
    {"layers.#.mamba.A_log", L "ssm_a", hf_op_neg_exp},
    {"layers.#.mamba.D", L "ssm_d", NULL},
    {"layers.#.mamba.out_proj", L "ssm_out", NULL},
    {"layers.#.mamba.dt_layernorm", L "ssm_dt_norm", NULL},
    {"layers.#.mamba.b_layernorm", L "ssm_b_norm", NULL},
    {"layers.#.mamba.c_layernorm", L "ssm_c_norm", NULL},
    {"layers.#.mamba.B_layernorm", L "ssm_b_norm", NULL},
    {"layers.#.mamba.C_layernorm", L "ssm_c_norm", NULL},
    {"layers.#.pre_ff_layernorm", L "ffn_norm", NULL},
    {"layers.#.feed_forward.router", L "ffn_gate_inp", NULL},
    {"layers.#.feed_forward.experts.@.gate_proj", L "ffn_gate_exps", NULL},
    {"layers.#.feed_forward.experts.@.up_proj", L "ffn_up_exps", NULL},
    {"layers.#.feed_forward.experts.@.down_proj", L "ffn_down_exps", NULL},
    END,
};

mote_status hf_jamba_extra(hf *h, mote_error *err) {
    uint32_t expand = 2;
    TRY(hf_get_u32(h, "mamba_expand", &expand, err));
    ssm_sizes s = {4, expand * h->n_embd, 16, (h->n_embd + 15) / 16, 0};
    TRY(hf_get_u32(h, "mamba_d_conv", &s.conv, err));
    TRY(hf_get_u32(h, "mamba_d_state", &s.state, err));
    TRY(hf_get_u32(h, "mamba_dt_rank", &s.rank, err));
    TRY(put_ssm(h, &s, err));
    return put_where(h, "attention.head_count_kv", h->n_head_kv, jamba_is_attention, err);
}

/* ---- Falcon-H1: attention and Mamba-2 side by side, with multipliers that GGUF has in the weights ---- */

/* t times a factor per row; matrices go back to their own type. */
static mote_status scaled(hf *h, const st_tensor *t, const char *to, int layer, double (*factor)(const hf *h, size_t row),
                          double all, mote_error *err) {
    size_t n = (size_t)hf_elements(t), rows = t->n_dims ? (size_t)t->shape[0] : 0;
    quant_type type;
    TRY(hf_quant_type(t, &type, err));
    float *v = MEM_NEW_N(float, n);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu weights", n);
    mote_status s = hf_read_f32(t, v, err);
    st_tensor changed = *t;
    void *p = NULL;
    if (s == MOTE_OK) {
        for (size_t r = 0, k = 0; r < rows; r++) {
            float x = (float)(all * (factor ? factor(h, r) : 1));
            for (size_t end = k + n / rows; k < end; k++) v[k] *= x;
        }
        bool half = type == QUANT_F16 || type == QUANT_BF16;
        if (!half) changed.dtype = STR("F32");
        changed.size = n * (half ? 2 : 4);
        s = model_file_own(h->f, changed.size, &p, err);
    }
    if (s == MOTE_OK) {
        changed.data = p;
        if (type == QUANT_F16 || type == QUANT_BF16) quant_get((int)type)->encode(p, v, n, NULL);
        else memcpy(p, v, changed.size);
    }
    mem_free(v);
    TRY(s);
    TRY(hf_take(h, &changed, to, layer, err));
    hf_form(h, VALUE_OTHER);
    return MOTE_OK;
}

static mote_status multiplier(const hf *h, const char *name, double *x, mote_error *err) {
    *x = 1;
    return hf_get_f32(h, name, x, err);
}

static double list_number(const hf *h, const char *name, size_t i) {
    const json_t *v = json_array_get(hf_get(h, name), i);
    return json_is_number(v) ? json_number_value(v) : 1;
}

/* Rows of in_proj: gate, x, B, C, time step; each has its own multiplier. */
static double ssm_row(const hf *h, size_t row) {
    uint32_t inner = 0, groups = 1, state = 0;
    (void)hf_get_u32(h, "mamba_d_ssm", &inner, NULL);
    (void)hf_get_u32(h, "mamba_n_groups", &groups, NULL);
    (void)hf_get_u32(h, "mamba_d_state", &state, NULL);
    size_t bc = (size_t)groups * state, ends[4] = {inner, 2 * (size_t)inner, 2 * (size_t)inner + bc, 2 * (size_t)inner + 2 * bc};
    size_t part = 0;
    while (part < 4 && row >= ends[part]) part++;
    return list_number(h, "ssm_multipliers", part);
}

static mote_status falcon_ssm_in(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    double x;
    TRY(multiplier(h, "ssm_in_multiplier", &x, err));
    return scaled(h, t, to, layer, ssm_row, x, err);
}

/* Which multipliers a tensor has, by its GGUF name. */
static mote_status falcon_scaled(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    static const struct {
        const char *to, *names[2];
        int list; /* element of mlp_multipliers, or -1 */
    } all[] = {
        {"attn_q", {"attention_in_multiplier", NULL}, -1}, {"attn_k", {"attention_in_multiplier", "key_multiplier"}, -1},
        {"attn_v", {"attention_in_multiplier", NULL}, -1}, {"attn_output", {"attention_out_multiplier", NULL}, -1},
        {"ssm_out", {"ssm_out_multiplier", NULL}, -1},     {"ffn_gate", {NULL, NULL}, 0},
        {"ffn_down", {NULL, NULL}, 1},                     {"token_embd", {"embedding_multiplier", NULL}, -1},
        {"output", {"lm_head_multiplier", NULL}, -1},
    };
    double x = 1, y;
    const char *last = strrchr(to, '#') ? strrchr(to, '#') + 2 : to;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (!str_starts(str_of(last), str_of(all[i].to)) || last[strlen(all[i].to)] != '.') continue;
        for (int k = 0; k < 2 && all[i].names[k]; k++) {
            TRY(multiplier(h, all[i].names[k], &y, err));
            x *= y;
        }
        if (all[i].list >= 0) x *= list_number(h, "mlp_multipliers", (size_t)all[i].list);
    }
    return scaled(h, t, to, layer, NULL, x, err);
}

const hf_rule hf_falcon_h1_rules[] = {
    {"embed_tokens", "token_embd", falcon_scaled},
    {"lm_head", "output", falcon_scaled},
    {"layers.#.self_attn.q_proj", L "attn_q", falcon_scaled},
    {"layers.#.self_attn.k_proj", L "attn_k", falcon_scaled},
    {"layers.#.self_attn.v_proj", L "attn_v", falcon_scaled},
    {"layers.#.self_attn.o_proj", L "attn_output", falcon_scaled},
    {"layers.#.feed_forward.gate_proj", L "ffn_gate", falcon_scaled},
    {"layers.#.feed_forward.down_proj", L "ffn_down", falcon_scaled},
    {"layers.#.mamba.in_proj", L "ssm_in", falcon_ssm_in},
    {"layers.#.mamba.out_proj", L "ssm_out", falcon_scaled},
    {"layers.#.pre_ff_layernorm.weight", L "ffn_norm", NULL}, /* without ".weight" in GGUF too */
    MAMBA2_MIXER("layers.#.mamba"),
    END,
};

mote_status hf_falcon_h1_extra(hf *h, mote_error *err) {
    ssm_sizes s;
    TRY(hybrid_sizes(h, &s, err));
    return put_ssm(h, &s, err);
}

/* ---- Nemotron-H: each layer is one of Mamba-2 (M), attention (*) and feed-forward (-) ---- */

static bool nemotron_is(const hf *h, uint32_t i, char letter, const char *name, const char *other) {
    str pattern = hf_get_str(h, "hybrid_override_pattern");
    if (pattern.n) return i < pattern.n && pattern.p[i] == letter;
    return hf_layer_is(h, i, name) || hf_layer_is(h, i, other);
}
static bool nemotron_is_attention(const hf *h, uint32_t i) { return nemotron_is(h, i, '*', "attention", "full_attention"); }
static bool nemotron_is_mlp(const hf *h, uint32_t i) { return nemotron_is(h, i, '-', "mlp", "moe"); }

const hf_rule hf_nemotron_h_rules[] = {
    MAMBA2_MIXER("layers.#.mixer"),
    {"layers.#.mixer.q_proj", L "attn_q", NULL},
    {"layers.#.mixer.k_proj", L "attn_k", NULL},
    {"layers.#.mixer.v_proj", L "attn_v", NULL},
    {"layers.#.mixer.o_proj", L "attn_output", NULL},
    {"layers.#.mixer.up_proj", L "ffn_up", NULL},
    {"layers.#.mixer.down_proj", L "ffn_down", NULL},
    END,
};
const hf_key hf_nemotron_h_keys[] = {
    {"attention.layer_norm_rms_epsilon", KV_F32, "layer_norm_epsilon,norm_eps,rms_norm_eps"},
    {"attention.key_length", KV_U32, "head_dim,attention_head_dim"},
    {"attention.value_length", KV_U32, "head_dim,attention_head_dim"},
    KEYS_END,
};

mote_status hf_nemotron_h_extra(hf *h, mote_error *err) {
    ssm_sizes s;
    uint32_t head = 64, ff = 0;
    if (h->n_expert) FAIL(err, MOTE_E_UNSUPPORTED, "Nemotron-H with experts is not converted; give its GGUF file");
    TRY(hybrid_sizes(h, &s, err));
    TRY(hf_get_u32(h, "mamba_head_dim", &head, err));
    s.inner = s.rank * head;
    TRY(put_ssm(h, &s, err));
    TRY(hf_get_u32(h, "intermediate_size", &ff, err));
    TRY(put_where(h, "attention.head_count_kv", h->n_head_kv, nemotron_is_attention, err));
    TRY(put_where(h, "feed_forward_length", ff, nemotron_is_mlp, err));
    return hf_put_bool(h, "rope.scaling.finetuned", false, err);
}

/* ---- PLaMo 2 ---- */

static bool plamo_is_attention(const hf *h, uint32_t i) {
    uint32_t step = 2;
    (void)hf_get_u32(h, "mamba_step", &step, NULL);
    if (!hf_get_flag(h, "mamba_enabled", true) || step == 0) return true;
    return h->n_layer <= step / 2 ? i == h->n_layer - 1 : i % step == step / 2;
}

/* Norms are stored less an offset that grows smaller after the mixer and the feed-forward. */
static mote_status plus(hf *h, const st_tensor *t, const char *to, int layer, double x, mote_error *err) {
    float *v;
    TRY(hf_make_f32(h, t, to, layer, t->n_dims, t->shape, &v, err));
    hf_form(h, VALUE_OTHER);
    TRY(hf_read_f32(t, v, err));
    for (uint64_t i = 0, n = hf_elements(t); i < n; i++) v[i] += (float)x;
    return MOTE_OK;
}
static mote_status plus_fifth(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return plus(h, t, to, layer, 1.0 / 5, err);
}
static mote_status plus_small(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return plus(h, t, to, layer, 1.0 / pow(5, 1.5), err);
}

const hf_rule hf_plamo2_rules[] = {
    {"norm", "output_norm", hf_op_add_one},
    {"layers.layers.#.pre_mixer_norm", L "attn_norm", hf_op_add_one},
    {"layers.layers.#.post_mixer_norm.weight", L "post_attention_norm", plus_fifth},
    {"layers.layers.#.pre_mlp_norm", L "ffn_norm", hf_op_add_one},
    {"layers.layers.#.post_mlp_norm.weight", L "post_ffw_norm", plus_small},
    {"layers.layers.#.mixer.qkv_proj", L "attn_qkv", NULL},
    {"layers.layers.#.mixer.o_proj", L "attn_output", NULL},
    {"layers.layers.#.mixer.q_weight", L "attn_q_norm.weight", NULL},
    {"layers.layers.#.mixer.k_weight", L "attn_k_norm.weight", NULL},
    {"layers.layers.#.mixer.in_proj", L "ssm_in", NULL},
    {"layers.layers.#.mixer.conv1d", L "ssm_conv1d", hf_op_squeeze},
    {"layers.layers.#.mixer.bcdt_proj", L "ssm_x", NULL},
    {"layers.layers.#.mixer.dt_proj", L "ssm_dt", NULL},
    {"layers.layers.#.mixer.dt_bias", L "ssm_dt.bias", NULL},
    {"layers.layers.#.mixer.A_log", L "ssm_a", hf_op_neg_exp},
    {"layers.layers.#.mixer.D", L "ssm_d", NULL},
    {"layers.layers.#.mixer.dt_norm_weight", L "ssm_dt_norm", NULL},
    {"layers.layers.#.mixer.B_norm_weight", L "ssm_b_norm", NULL},
    {"layers.layers.#.mixer.C_norm_weight", L "ssm_c_norm", NULL},
    {"layers.layers.#.mixer.out_proj", L "ssm_out", NULL},
    {"layers.layers.#.mlp.gate_up_proj", L "ffn_up", NULL},
    {"layers.layers.#.mlp.down_proj", L "ffn_down", NULL},
    END,
};
const hf_key hf_plamo2_keys[] = {
    {"attention.key_length", KV_U32, "hidden_size_per_head"},
    {"attention.value_length", KV_U32, "hidden_size_per_head"},
    KEYS_END,
};

mote_status hf_plamo2_extra(hf *h, mote_error *err) {
    ssm_sizes s;
    uint32_t head = 128;
    TRY(hybrid_sizes(h, &s, err));
    TRY(hf_get_u32(h, "hidden_size_per_head", &head, err));
    s.inner = s.rank * head;
    s.groups = 0;
    TRY(put_ssm(h, &s, err));
    TRY(hf_put_u32(h, "ssm.group_count", 0, err));
    TRY(hf_put_u32(h, "rope.dimension_count", head, err));
    TRY(put_where(h, "attention.head_count", h->n_head, plamo_is_attention, err));
    return put_where(h, "attention.head_count_kv", h->n_head_kv, plamo_is_attention, err);
}

/* ---- LFM2 ---- */

const hf_key hf_lfm2_keys[] = {
    {"shortconv.l_cache", KV_U32, "conv_L_cache"},
    {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"},
    {"leading_dense_block_count", KV_U32, "num_dense_layers"},
    KEYS_END,
};
const hf_rule hf_lfm2_rules[] = {
    {"layers.#.conv.conv", L "shortconv.conv", hf_op_squeeze},
    {"layers.#.conv.in_proj", L "shortconv.in_proj", NULL},
    {"layers.#.conv.out_proj", L "shortconv.out_proj", NULL},
    {"layers.#.operator_norm", L "attn_norm", NULL},
    {"layers.#.ffn_norm", L "ffn_norm", NULL},
    {"embedding_norm", "token_embd_norm", NULL},
    {"layers.#.feed_forward.gate", L "ffn_gate_inp", NULL},
    {"layers.#.feed_forward.expert_bias", L "exp_probs_b.bias", NULL},
    {"layers.#.feed_forward.experts.@.w1", L "ffn_gate_exps", NULL},
    {"layers.#.feed_forward.experts.@.w2", L "ffn_down_exps", NULL},
    {"layers.#.feed_forward.experts.@.w3", L "ffn_up_exps", NULL},
    END,
};

static bool lfm2_is_attention(const hf *h, uint32_t i) {
    if (hf_get(h, "layer_types")) return hf_layer_is(h, i, "full_attention");
    const json_t *list = hf_get(h, "full_attn_idxs");
    for (size_t k = 0; k < json_array_size(list); k++)
        if (json_integer_value(json_array_get(list, k)) == (json_int_t)i) return true;
    return false;
}

mote_status hf_lfm2_extra(hf *h, mote_error *err) {
    uint32_t ff = 0, multiple = 256;
    TRY(put_where(h, "attention.head_count_kv", h->n_head_kv, lfm2_is_attention, err));
    if (h->n_expert) return hf_put_u32(h, "expert_gating_func", 2, err);
    TRY(hf_get_u32(h, "block_ff_dim,intermediate_size", &ff, err));
    if (hf_get_flag(h, "block_auto_adjust_ff_dim", false)) {
        double factor = 1;
        TRY(hf_get_u32(h, "block_multiple_of", &multiple, err));
        TRY(hf_get_f32(h, "block_ffn_dim_multiplier", &factor, err));
        if (multiple == 0 || !(factor > 0 && factor < 1e3) || ff > 1u << 30 || multiple > 1u << 20)
            FAIL(err, MOTE_E_RANGE, "config.json: block_multiple_of or block_ffn_dim_multiplier makes no sense");
        double wanted = floor(factor * floor(2.0 * (double)ff / 3.0));
        if (wanted > 1e9) FAIL(err, MOTE_E_RANGE, "config.json: a feed-forward of %g makes no sense", wanted);
        ff = ((uint32_t)wanted + multiple - 1) / multiple * multiple;
    }
    return hf_put_u32(h, "feed_forward_length", ff, err);
}
