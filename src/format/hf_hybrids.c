/* hf_hybrids.c: families with recurrent layers: state space models, short convolutions, delta nets. */
#include "format/hf_archs.h"

#include <math.h>

#define L "blk.#."
#define END {NULL, NULL, NULL}
#define KEYS_END {NULL, KV_U32, NULL}

#define MAMBA_CONTEXT (1u << 20) /* no limit of its own; what llama.cpp writes */

/* Sizes every Mamba has. */
static mote_status put_ssm(hf *h, uint32_t conv, uint32_t inner, uint32_t state, uint32_t rank, mote_error *err) {
    TRY(hf_put_u32(h, "ssm.conv_kernel", conv, err));
    TRY(hf_put_u32(h, "ssm.inner_size", inner, err));
    TRY(hf_put_u32(h, "ssm.state_size", state, err));
    return hf_put_u32(h, "ssm.time_step_rank", rank, err);
}

static mote_status put_pure(hf *h, mote_error *err) {
    double eps = 1e-5;
    TRY(hf_get_f32(h, "layer_norm_epsilon,rms_norm_eps", &eps, err));
    TRY(hf_put_u32(h, "context_length", MAMBA_CONTEXT, err));
    TRY(hf_put_u32(h, "feed_forward_length", 0, err));
    TRY(hf_put_u32(h, "attention.head_count", 0, err));
    return hf_put_f32(h, "attention.layer_norm_rms_epsilon", eps, err);
}

mote_status hf_mamba_extra(hf *h, mote_error *err) {
    uint32_t conv = 4, inner = 2 * h->n_embd, state = 16, rank = (h->n_embd + 15) / 16;
    TRY(hf_get_u32(h, "conv_kernel,d_conv", &conv, err));
    TRY(hf_get_u32(h, "intermediate_size,d_inner", &inner, err));
    TRY(hf_get_u32(h, "state_size,d_state", &state, err));
    TRY(hf_get_u32(h, "time_step_rank,dt_rank", &rank, err));
    TRY(put_pure(h, err));
    TRY(put_ssm(h, conv, inner, state, rank, err));
    return hf_put_bool(h, "ssm.dt_b_c_rms", str_is(hf_get_str(h, "model_type"), "falcon_mamba"), err);
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

const hf_rule hf_mamba2_rules[] = {
    {"layers.#.mixer.A_log", L "ssm_a", hf_op_neg_exp_column},
    {"layers.#.mixer.D", L "ssm_d", hf_op_column},
    {"layers.#.mixer.norm", L "ssm_norm", group_norm},
    END,
};

mote_status hf_mamba2_extra(hf *h, mote_error *err) {
    uint32_t conv = 4, inner = 2 * h->n_embd, state = 128, head = 64, groups = 1;
    TRY(hf_get_u32(h, "conv_kernel,d_conv", &conv, err));
    TRY(hf_get_u32(h, "intermediate_size,d_inner", &inner, err));
    TRY(hf_get_u32(h, "state_size,d_state", &state, err));
    TRY(hf_get_u32(h, "head_dim", &head, err));
    TRY(hf_get_u32(h, "n_groups", &groups, err));
    if (head == 0) FAIL(err, MOTE_E_RANGE, "config.json: head_dim is 0");
    TRY(put_pure(h, err));
    TRY(put_ssm(h, conv, inner, state, inner / head, err));
    return hf_put_u32(h, "ssm.group_count", groups, err);
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

mote_status hf_lfm2_extra(hf *h, mote_error *err) {
    uint32_t *kv_heads = arena_alloc(&h->f->mem, h->n_layer, sizeof *kv_heads), ff = 0, multiple = 256;
    if (!kv_heads) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (uint32_t i = 0; i < h->n_layer; i++) kv_heads[i] = hf_layer_is(h, i, "full_attention") ? h->n_head_kv : 0;
    TRY(hf_put_u32s(h, "attention.head_count_kv", kv_heads, h->n_layer, err));
    if (h->n_expert) return hf_put_u32(h, "expert_gating_func", 2, err);
    TRY(hf_get_u32(h, "block_ff_dim,intermediate_size", &ff, err));
    if (hf_get_flag(h, "block_auto_adjust_ff_dim", false)) {
        double multiplier = 1;
        TRY(hf_get_u32(h, "block_multiple_of", &multiple, err));
        TRY(hf_get_f32(h, "block_ffn_dim_multiplier", &multiplier, err));
        if (multiple == 0 || !(multiplier > 0 && multiplier < 1e3) || ff > 1u << 30)
            FAIL(err, MOTE_E_RANGE, "config.json: block_multiple_of or block_ffn_dim_multiplier makes no sense");
        ff = (uint32_t)(multiplier * floor(2.0 * (double)ff / 3.0));
        ff = (ff + multiple - 1) / multiple * multiple;
    }
    return hf_put_u32(h, "feed_forward_length", ff, err);
}
