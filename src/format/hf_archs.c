/* hf_archs.c: the attention families: what their tensors and config entries are called where that differs from
 * the common tables, and the few things a table cannot say. hf_archs.def lists all families. */
#include "format/hf_archs.h"

#include <math.h>
#include <stdio.h>

#define L "blk.#."
#define END {NULL, NULL, NULL}
#define KEYS_END {NULL, KV_U32, NULL}

/* ---- tables ---- */

static const hf_key window_keys[] = {{"attention.sliding_window", KV_U32, "sliding_window"},
                                     {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"}, KEYS_END};
static const hf_key olmo_keys[] = {{"attention.clamp_kqv", KV_F32, "clip_qkv"}, KEYS_END};
static const hf_key granite_keys[] = {
    {"attention.scale", KV_F32, "attention_multiplier"},
    {"embedding_scale", KV_F32, "embedding_multiplier"},
    {"residual_scale", KV_F32, "residual_multiplier"},
    {"logit_scale", KV_F32, "logits_scaling"},
    {"expert_shared_feed_forward_length", KV_U32, "shared_intermediate_size"},
    KEYS_END,
};
static const hf_key qwen_moe_keys[] = {
    {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", KV_U32, "shared_expert_intermediate_size"},
    KEYS_END,
};
static const hf_key deepseek_keys[] = {
    {"leading_dense_block_count", KV_U32, "first_k_dense_replace"},
    {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"},
    {"expert_shared_count", KV_U32, "n_shared_experts"},
    KEYS_END,
};
static const hf_key ernie_keys[] = {
    {"expert_count", KV_U32, "moe_num_experts"},
    {"expert_used_count", KV_U32, "moe_k"},
    {"interleave_moe_layer_step", KV_U32, "moe_layer_interval"},
    {"leading_dense_block_count", KV_U32, "moe_layer_start_index"},
    {"expert_feed_forward_length", KV_U32, "moe_intermediate_size"},
    {"expert_shared_count", KV_U32, "moe_num_shared_experts"},
    KEYS_END,
};
static const hf_key gemma_keys[] = {
    {"attention.sliding_window", KV_U32, "sliding_window"},
    {"attn_logit_softcapping", KV_F32, "attn_logit_softcapping"},
    {"final_logit_softcapping", KV_F32, "final_logit_softcapping"},
    KEYS_END,
};
static const hf_key mla_keys[] = {
    {"attention.q_lora_rank", KV_U32, "q_lora_rank"},
    {"attention.kv_lora_rank", KV_U32, "kv_lora_rank"},
    KEYS_END,
};
static const hf_key stablelm_keys[] = {
    {"use_parallel_residual", KV_BOOL, "use_parallel_residual"},
    {"attention.layer_norm_epsilon", KV_F32, "layer_norm_eps,norm_eps"},
    KEYS_END,
};
static const hf_key gptneox_keys[] = {{"use_parallel_residual", KV_BOOL, "use_parallel_residual"}, KEYS_END};
static const hf_key falcon_keys[] = {{"attention.head_count_kv", KV_U32, "n_head_kv"}, KEYS_END};
static const hf_key mpt_keys[] = {
    {"attention.head_count_kv", KV_U32, "attn_config.kv_n_heads"},
    {"attention.clamp_kqv", KV_F32, "attn_config.clip_qkv"},
    KEYS_END,
};
static const hf_key cohere_keys[] = {{"logit_scale", KV_F32, "logit_scale"}, KEYS_END};
static const hf_key cohere2_keys[] = {{"logit_scale", KV_F32, "logit_scale"},
                                      {"attention.sliding_window", KV_U32, "sliding_window"}, KEYS_END};
static const hf_key nemotron_keys[] = {{"attention.layer_norm_epsilon", KV_F32, "norm_eps"}, KEYS_END};
static const hf_key chatglm_keys[] = {
    {"feed_forward_length", KV_U32, "ffn_hidden_size"},
    {"attention.head_count_kv", KV_U32, "multi_query_group_num"},
    {"attention.layer_norm_rms_epsilon", KV_F32, "layernorm_epsilon"},
    KEYS_END,
};
static const hf_key smallthinker_keys[] = {
    {"expert_count", KV_U32, "moe_num_primary_experts"},
    {"expert_used_count", KV_U32, "moe_num_active_primary_experts"},
    {"expert_feed_forward_length", KV_U32, "moe_ffn_hidden_size"},
    {"feed_forward_length", KV_U32, "moe_ffn_hidden_size"},
    {"attention.sliding_window", KV_U32, "sliding_window_size,sliding_window"},
    KEYS_END,
};

static const hf_rule gemma_rules[] = {
    {"layers.#.post_attention_layernorm", L "post_attention_norm", NULL},
    {"layers.#.pre_feedforward_layernorm", L "ffn_norm", NULL},
    {"layers.#.post_feedforward_layernorm", L "post_ffw_norm", NULL},
    END,
};
static const hf_rule post_norm_rules[] = {
    {"layers.#.post_attention_layernorm", L "post_attention_norm", NULL},
    {"layers.#.post_feedforward_layernorm", L "post_ffw_norm", NULL},
    END,
};
static const hf_rule post_attention_rules[] = {
    {"layers.#.post_attention_layernorm", L "post_attention_norm", NULL},
    END,
};
static const hf_rule glm4_rules[] = {
    {"layers.#.post_self_attn_layernorm", L "post_attention_norm", NULL},
    {"layers.#.post_mlp_layernorm", L "post_ffw_norm", NULL},
    END,
};
static const hf_rule internlm2_rules[] = {
    {"layers.#.attention.wqkv", L "attn_qkv", hf_op_qkv_groups_split},
    {"layers.#.attention.wo", L "attn_output", NULL},
    {"layers.#.attention_norm", L "attn_norm", NULL},
    {"layers.#.ffn_norm", L "ffn_norm", NULL},
    END,
};
static const hf_rule mla_rules[] = {
    {"layers.#.self_attn.q_a_proj", L "attn_q_a", NULL},
    {"layers.#.self_attn.q_a_layernorm", L "attn_q_a_norm", NULL},
    {"layers.#.self_attn.q_b_proj", L "attn_q_b", NULL},
    {"layers.#.self_attn.kv_a_proj_with_mqa", L "attn_kv_a_mqa", NULL},
    {"layers.#.self_attn.kv_a_layernorm", L "attn_kv_a_norm", NULL},
    {"layers.#.self_attn.kv_b_proj", L "attn_kv_b", NULL},
    END,
};
static const hf_rule ernie_rules[] = {
    {"layers.#.mlp.moe_statics.e_score_correction_bias", L "exp_probs_b.bias", hf_op_as_vector},
    {"layers.#.moe_statics.e_score_correction_bias", L "exp_probs_b.bias", hf_op_as_vector},
    END,
};
static const hf_rule phi2_rules[] = {{"final_layernorm", "output_norm", NULL}, END};
static const hf_rule gpt2_rules[] = {
    {"h.#.attn.c_attn", L "attn_qkv", hf_op_transpose},
    {"h.#.attn.c_proj", L "attn_output", hf_op_transpose},
    {"h.#.mlp.c_fc", L "ffn_up", hf_op_transpose},
    {"h.#.mlp.c_proj", L "ffn_down", hf_op_transpose},
    END,
};
static const hf_rule gptneox_rules[] = {
    {"layers.#.attention.query_key_value", L "attn_qkv", hf_op_qkv_per_head},
    END,
};
static const hf_rule bloom_rules[] = {
    {"h.#.self_attention.query_key_value", L "attn_qkv", hf_op_qkv_per_head},
    END,
};
static const hf_rule falcon_rules[] = {
    {"h.#.self_attention.query_key_value", L "attn_qkv", hf_op_qkv_groups},
    END,
};
static const hf_rule mpt_rules[] = {
    {"blocks.#.norm_1", L "attn_norm", NULL},
    {"blocks.#.norm_2", L "ffn_norm", NULL},
    {"blocks.#.attn.Wqkv", L "attn_qkv", NULL},
    {"blocks.#.attn.out_proj", L "attn_output", NULL},
    {"blocks.#.attn.q_ln", L "attn_q_norm", NULL},
    {"blocks.#.attn.k_ln", L "attn_k_norm", NULL},
    {"blocks.#.ffn.up_proj", L "ffn_up", NULL},
    {"blocks.#.ffn.down_proj", L "ffn_down", NULL},
    {"blocks.#.ffn.act.scales", L "ffn.act.scales", NULL},
    END,
};
static const hf_rule chatglm_rules[] = {
    {"embedding.word_embeddings", "token_embd", NULL},
    {"encoder.final_layernorm", "output_norm", NULL},
    {"output_layer", "output", NULL},
    {"encoder.layers.#.input_layernorm", L "attn_norm", NULL},
    {"encoder.layers.#.post_attention_layernorm", L "ffn_norm", NULL},
    {"encoder.layers.#.self_attention.query_key_value", L "attn_qkv", NULL},
    {"encoder.layers.#.self_attention.dense", L "attn_output", NULL},
    {"encoder.layers.#.mlp.dense_h_to_4h", L "ffn_up", NULL},
    {"encoder.layers.#.mlp.dense_4h_to_h", L "ffn_down", NULL},
    {"rotary_pos_emb.inv_freq", NULL, NULL},
    END,
};
static const hf_rule hunyuan_rules[] = {
    {"layers.#.self_attn.query_layernorm", L "attn_q_norm", NULL},
    {"layers.#.self_attn.key_layernorm", L "attn_k_norm", NULL},
    END,
};
static const hf_rule smallthinker_rules[] = {
    {"layers.#.block_sparse_moe.primary_router", L "ffn_gate_inp", NULL},
    {"layers.#.block_sparse_moe.experts.@.gate", L "ffn_gate_exps", NULL},
    {"layers.#.block_sparse_moe.experts.@.up", L "ffn_up_exps", NULL},
    {"layers.#.block_sparse_moe.experts.@.down", L "ffn_down_exps", NULL},
    END,
};
static const hf_rule openelm_rules[] = {
    {"layers.#.attn_norm", L "attn_norm", NULL},
    {"layers.#.ffn_norm", L "ffn_norm", NULL},
    {"layers.#.attn.qkv_proj", L "attn_qkv", NULL},
    {"layers.#.attn.out_proj", L "attn_output", NULL},
    {"layers.#.attn.q_norm", L "attn_q_norm", NULL},
    {"layers.#.attn.k_norm", L "attn_k_norm", NULL},
    {"layers.#.ffn.proj_1", L "ffn_gate|" L "ffn_up", hf_op_halves},
    {"layers.#.ffn.proj_2", L "ffn_down", NULL},
    END,
};
static const hf_rule bert_rules[] = {
    {"embeddings.word_embeddings", "token_embd", NULL},
    {"embeddings.position_embeddings", "position_embd", NULL},
    {"embeddings.token_type_embeddings", "token_types", NULL},
    {"embeddings.LayerNorm", "token_embd_norm", NULL},
    {"embeddings.position_ids", NULL, NULL},
    {"encoder.layer.#.attention.self.query", L "attn_q", NULL},
    {"encoder.layer.#.attention.self.key", L "attn_k", NULL},
    {"encoder.layer.#.attention.self.value", L "attn_v", NULL},
    {"encoder.layer.#.attention.output.dense", L "attn_output", NULL},
    {"encoder.layer.#.attention.output.LayerNorm", L "attn_output_norm", NULL},
    {"encoder.layer.#.intermediate.dense", L "ffn_up", NULL},
    {"encoder.layer.#.output.dense", L "ffn_down", NULL},
    {"encoder.layer.#.output.LayerNorm", L "layer_output_norm", NULL},
    {"classifier", NULL, NULL},
    {"embeddings", NULL, NULL},
    END,
};

/* stablelm-2-12b has a norm per head, each a tensor of its own: blk.#.attn_q_norm is [head][head_dim]. */
static const hf_rule stablelm_rules[] = {
    {"layers.#.self_attn.q_layernorm.norms.@", L "attn_q_norm", NULL},
    {"layers.#.self_attn.k_layernorm.norms.@", L "attn_k_norm", NULL},
    END,
};

/* gpt-oss: gate and up rows alternate; expert matrices are stored transposed ([expert][in][out]), or as MXFP4
 * blocks, whose nibbles GGUF orders differently. */
static hf_op gpt_oss_bias, gpt_oss_gate_up, gpt_oss_down, gpt_oss_blocks;
static const hf_rule gpt_oss_rules[] = {
    {"layers.#.post_attention_layernorm", L "post_attention_norm", NULL},
    {"layers.#.mlp.router", L "ffn_gate_inp", NULL},
    {"layers.#.mlp.experts.gate_up_proj_bias", L "ffn_gate_exps.bias|" L "ffn_up_exps.bias", gpt_oss_bias},
    {"layers.#.mlp.experts.down_proj_bias", L "ffn_down_exps.bias", NULL},
    {"layers.#.mlp.experts.gate_up_proj", L "ffn_gate_exps.weight|" L "ffn_up_exps.weight", gpt_oss_gate_up},
    {"layers.#.mlp.experts.down_proj", L "ffn_down_exps.weight", gpt_oss_down},
    {"layers.#.mlp.experts.gate_up_proj_blocks", L "ffn_gate_exps.weight|" L "ffn_up_exps.weight", gpt_oss_blocks},
    {"layers.#.mlp.experts.down_proj_blocks", L "ffn_down_exps.weight", gpt_oss_blocks},
    {"layers.#.mlp.experts.gate_up_proj_scales", NULL, NULL},
    {"layers.#.mlp.experts.down_proj_scales", NULL, NULL},
    END,
};

/* ---- gpt-oss tensors ---- */

static mote_status check_dims(const st_tensor *t, int n_dims, mote_error *err) {
    if (t->n_dims != n_dims) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' should have %d dimensions", STR_ARG(t->name), n_dims);
    for (int d = 0; d < n_dims; d++)
        if (t->shape[d] == 0) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' is empty", STR_ARG(t->name));
    return MOTE_OK;
}

static void half_name(const char *to, int half, char out[160]) {
    const char *bar = strchr(to, '|');
    (void)snprintf(out, 160, "%.*s", (int)(bar && !half ? bar - to : (ptrdiff_t)strlen(to)), bar && half ? bar + 1 : to);
}

/* [expert][2 n] with alternating elements, to two of [expert][n]. */
static mote_status gpt_oss_bias(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    TRY(check_dims(t, 2, err));
    size_t experts = (size_t)t->shape[0], n = (size_t)t->shape[1] / 2;
    float *all = MEM_NEW_N(float, (size_t)hf_elements(t));
    if (!all) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = hf_read_f32(t, all, err);
    for (int half = 0; s == MOTE_OK && half < 2; half++) {
        char name[160];
        float *v;
        half_name(to, half, name);
        s = hf_make_f32(h, t, name, layer, 2, (const uint64_t[]){experts, n}, &v, err);
        for (size_t i = 0; s == MOTE_OK && i < experts * n; i++) v[i] = all[2 * i + (size_t)half];
    }
    mem_free(all);
    return s;
}

/* [expert][in][out·step], column half + step·o, to [expert][out][in]. */
static mote_status turn_experts(hf *h, const st_tensor *t, const char *to, int layer, size_t half, size_t step,
                                mote_error *err) {
    TRY(check_dims(t, 3, err));
    size_t experts = (size_t)t->shape[0], in = (size_t)t->shape[1], out = (size_t)t->shape[2] / step;
    if (t->shape[2] % step || out == 0) FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' cannot be halved", STR_ARG(t->name));
    size_t width = t->size / experts / in / (size_t)t->shape[2];
    void *p;
    TRY(model_file_own(h->f, t->size / step, &p, err));
    unsigned char *dst = p;
    for (size_t e = 0; e < experts; e++)
        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++) {
                memcpy(dst, t->data + ((e * in + i) * out * step + half + step * o) * width, width);
                dst += width;
            }
    st_tensor turned = *t;
    turned.shape[1] = out;
    turned.shape[2] = in;
    turned.data = p;
    turned.size = t->size / step;
    return hf_take(h, &turned, to, layer, err);
}

static mote_status gpt_oss_gate_up(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    char name[160];
    for (int half = 0; half < 2; half++) {
        half_name(to, half, name);
        TRY(turn_experts(h, t, name, layer, (size_t)half, 2, err));
    }
    return MOTE_OK;
}

static mote_status gpt_oss_down(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    return turn_experts(h, t, to, layer, 0, 1, err);
}

/* One MXFP4 block: the checkpoint holds elements 2j and 2j+1 in byte j, GGUF j and j+16, after the scale. */
static void repack_mxfp4(unsigned char dst[17], const unsigned char src[16], unsigned char scale) {
    dst[0] = scale;
    for (size_t j = 0; j < 16; j++) {
        unsigned lo = src[j / 2] >> (4 * (j % 2)) & 15, hi = src[8 + j / 2] >> (4 * (j % 2)) & 15;
        dst[1 + j] = (unsigned char)(lo | hi << 4);
    }
}

static mote_status gpt_oss_blocks(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err) {
    char name[256];
    bool pair = strchr(to, '|') != NULL;
    (void)snprintf(name, sizeof name, "layers.%d.mlp.experts.%s_proj_scales", layer, pair ? "gate_up" : "down");
    const st_tensor *scales = hf_find(h, name);
    TRY(check_dims(t, 4, err));
    size_t rows = (size_t)t->shape[1], blocks = (size_t)t->shape[2], step = pair ? 2 : 1;
    if (!scales || !str_is(scales->dtype, "U8") || !str_is(t->dtype, "U8") || t->shape[3] != 16 ||
        scales->size * 16 != t->size || rows % step != 0)
        FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s' and its scales are not MXFP4 blocks", STR_ARG(t->name));
    for (size_t half = 0; half < step; half++) {
        tensor_info *o;
        void *p;
        half_name(to, (int)half, name);
        TRY(hf_add(h, t, name, layer, QUANT_MXFP4, 3, (const uint64_t[]){t->shape[0], rows / step, blocks * 32}, &o, err));
        TRY(model_file_own(h->f, o->size, &p, err));
        o->data = p;
        unsigned char *dst = p;
        for (size_t r = half; r < (size_t)t->shape[0] * rows; r += step)
            for (size_t b = 0; b < blocks; b++, dst += 17)
                repack_mxfp4(dst, t->data + (r * blocks + b) * 16, scales->data[r * blocks + b]);
    }
    return MOTE_OK;
}

/* ---- what tables cannot say ---- */

static mote_status minicpm_extra(hf *h, mote_error *err) {
    double emb = 1, depth = 1, base = 0;
    TRY(hf_get_f32(h, "scale_emb", &emb, err));
    TRY(hf_get_f32(h, "scale_depth", &depth, err));
    TRY(hf_get_f32(h, "dim_model_base", &base, err));
    TRY(hf_put_f32(h, "embedding_scale", emb, err));
    TRY(hf_put_f32(h, "residual_scale", depth / sqrt((double)h->n_layer), err));
    return hf_put_f32(h, "logit_scale", base > 0 ? (double)h->n_embd / base : 1, err);
}

static mote_status minicpm3_extra(hf *h, mote_error *err) {
    uint32_t nope = 0, rope = 0;
    TRY(hf_get_u32(h, "qk_nope_head_dim", &nope, err));
    TRY(hf_get_u32(h, "qk_rope_head_dim", &rope, err));
    return hf_put_u32(h, "attention.key_length", nope + rope, err);
}

static mote_status deepseek_extra(hf *h, mote_error *err) { return hf_put_f32(h, "expert_weights_scale", 1, err); }

static mote_status mrope_extra(hf *h, mote_error *err) {
    const json_t *list = hf_get(h, "rope_parameters.mrope_section,rope_scaling.mrope_section");
    uint32_t v[4] = {0};
    for (size_t i = 0; i < 4 && i < json_array_size(list); i++)
        v[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return list ? hf_put_u32s(h, "rope.dimension_sections", v, 4, err) : MOTE_OK;
}

/* Which layers see only a window: layer_types, or letters, or all but every n-th. */
static mote_status put_pattern(hf *h, uint32_t every, mote_error *err) {
    bool *local = arena_alloc(&h->f->mem, h->n_layer, sizeof *local);
    if (!local) FAIL(err, MOTE_E_MEMORY, "out of memory");
    bool listed = json_is_array(hf_get(h, "layer_types"));
    str letters = hf_get_str(h, "sliding_window_pattern");
    if (!letters.n) TRY(hf_get_u32(h, "sliding_window_pattern,_sliding_window_pattern", &every, err));
    for (uint32_t i = 0; i < h->n_layer; i++)
        local[i] = listed ? hf_layer_is(h, i, "sliding_attention")
                 : letters.n ? letters.p[i % letters.n] == 'L' : every && (i + 1) % every != 0;
    return hf_put_bools(h, "attention.sliding_window_pattern", local, h->n_layer, err);
}

static mote_status pattern_extra(hf *h, mote_error *err) {
    return hf_get(h, "sliding_window") ? put_pattern(h, 4, err) : MOTE_OK;
}

/* Whether layer_types says something else than "every n-th layer sees all", which llama.cpp takes for granted. */
static bool unusual_layers(const hf *h, uint32_t every) {
    if (!json_is_array(hf_get(h, "layer_types"))) return false;
    for (uint32_t i = 0; i < h->n_layer; i++)
        if (hf_layer_is(h, i, "sliding_attention") != ((i + 1) % every != 0)) return true;
    return false;
}

static mote_status cohere2_extra(hf *h, mote_error *err) { return unusual_layers(h, 4) ? put_pattern(h, 4, err) : MOTE_OK; }

static mote_status gemma3_extra(hf *h, mote_error *err) {
    double local = 10000;
    uint32_t pattern = 6;
    TRY(hf_get_f32(h, "rope_local_base_freq,rope_parameters.sliding_attention.rope_theta", &local, err));
    TRY(hf_get_u32(h, "sliding_window_pattern,_sliding_window_pattern", &pattern, err));
    TRY(hf_put_f32(h, "rope.freq_base_swa", local, err));
    if (!hf_get(h, "rope_theta,rope_parameters")) TRY(hf_put_f32(h, "rope.freq_base", 1000000, err));
    return pattern != 6 || unusual_layers(h, 6) ? put_pattern(h, 6, err) : MOTE_OK;
}

/* Ministral 3: attention grows with the logarithm of the position. */
static mote_status mistral3_extra(hf *h, mote_error *err) {
    static const hf_key keys[] = {
        {"rope.scaling.yarn_log_multiplier", KV_F32, "rope_parameters.mscale_all_dim"},
        {"attention.temperature_scale", KV_F32, "rope_parameters.llama_4_scaling_beta"},
        KEYS_END,
    };
    return hf_put_table(h, keys, err);
}

static mote_status phi3_extra(hf *h, mote_error *err) {
    uint32_t old = 0;
    TRY(hf_get_u32(h, "original_max_position_embeddings", &old, err));
    if (old) TRY(hf_put_u32(h, "rope.scaling.original_context_length", old, err));
    return hf_get(h, "sliding_window") ? MOTE_OK : hf_put_u32(h, "attention.sliding_window", 0, err);
}

static mote_status gpt2_extra(hf *h, mote_error *err) {
    uint32_t ff = 4 * h->n_embd;
    TRY(hf_get_u32(h, "n_inner", &ff, err));
    TRY(hf_put_u32(h, "feed_forward_length", ff, err));
    return hf_put_u32(h, "attention.head_count_kv", h->n_head, err);
}

static mote_status starcoder_extra(hf *h, mote_error *err) {
    TRY(gpt2_extra(h, err));
    return hf_put_u32(h, "attention.head_count_kv", hf_get_flag(h, "multi_query", true) ? 1 : h->n_head, err);
}

static mote_status gptneox_extra(hf *h, mote_error *err) {
    return hf_get(h, "use_parallel_residual") ? MOTE_OK : hf_put_bool(h, "use_parallel_residual", true, err);
}

static mote_status falcon_extra(hf *h, mote_error *err) {
    if (!hf_get(h, "n_head_kv,num_kv_heads")) h->n_head_kv = hf_get_flag(h, "multi_query", true) ? 1 : h->n_head;
    if (!hf_get_flag(h, "new_decoder_architecture", false))
        h->n_head_kv = hf_get_flag(h, "multi_query", true) ? 1 : h->n_head;
    TRY(hf_put_u32(h, "attention.head_count_kv", h->n_head_kv, err));
    if (!hf_get(h, "max_position_embeddings")) TRY(hf_put_u32(h, "context_length", 2048, err));
    uint32_t ff = 4 * h->n_embd;
    TRY(hf_get_u32(h, "ffn_hidden_size", &ff, err));
    return hf_put_u32(h, "feed_forward_length", ff, err);
}

static mote_status mpt_extra(hf *h, mote_error *err) {
    double bias = 8, ratio = 4;
    TRY(hf_get_f32(h, "expansion_ratio", &ratio, err));
    if (!(ratio > 0 && ratio < 100)) FAIL(err, MOTE_E_RANGE, "config.json: expansion_ratio makes no sense");
    TRY(hf_put_u32(h, "feed_forward_length", (uint32_t)(ratio * (double)h->n_embd), err));
    TRY(hf_put_f32(h, "attention.layer_norm_epsilon", 1e-5, err));
    TRY(hf_get_f32(h, "attn_config.alibi_bias_max", &bias, err));
    return hf_put_f32(h, "attention.max_alibi_bias", hf_get_flag(h, "attn_config.alibi", true) ? bias : 0, err);
}

static mote_status chatglm_extra(hf *h, mote_error *err) {
    double ratio = 1;
    TRY(hf_get_f32(h, "rope_ratio", &ratio, err));
    h->n_rot = h->head_dim / 2;
    uint32_t width = 0;
    TRY(hf_get_u32(h, "kv_channels,attention_dim", &width, err));
    if (width) h->n_rot = width / 2;
    TRY(hf_put_u32(h, "rope.dimension_count", h->n_rot, err));
    return hf_put_f32(h, "rope.freq_base", 10000 * ratio, err);
}

static mote_status gpt_oss_extra(hf *h, mote_error *err) {
    uint32_t ff = 0;
    TRY(hf_get_u32(h, "intermediate_size", &ff, err));
    return hf_put_u32(h, "expert_feed_forward_length", ff, err);
}

/* Rotary base scaled by alpha^(d/(d-2)), for the context of 256k that the model is meant for. */
static mote_status hunyuan_extra(hf *h, mote_error *err) {
    str type = hf_get_str(h, "rope_parameters.rope_type,rope_scaling.type,rope_scaling.rope_type");
    if (!str_is(type, "dynamic")) return MOTE_OK;
    double alpha = 50, base = 10000;
    TRY(hf_get_f32(h, "rope_parameters.alpha,rope_scaling.alpha", &alpha, err));
    TRY(hf_get_f32(h, "rope_theta,rope_parameters.rope_theta", &base, err));
    double d = (double)h->head_dim;
    if (d <= 2 || !(alpha > 0)) FAIL(err, MOTE_E_RANGE, "config.json: rope alpha %g makes no sense", alpha);
    TRY(hf_put_f32(h, "rope.freq_base", base * pow(alpha, d / (d - 2)), err));
    TRY(hf_put_str(h, "rope.scaling.type", STR("none"), err));
    TRY(hf_put_f32(h, "rope.scaling.factor", 1, err));
    TRY(hf_put_u32(h, "rope.scaling.original_context_length", 262144, err));
    return hf_put_u32(h, "context_length", 262144, err);
}

static mote_status smallthinker_extra(hf *h, mote_error *err) {
    bool sigmoid = hf_get_flag(h, "moe_primary_router_apply_softmax", false) == false;
    return hf_put_u32(h, "expert_gating_func", sigmoid ? 2 : 1, err);
}

static mote_status openelm_extra(hf *h, mote_error *err) {
    const json_t *mul = hf_get(h, "ffn_multipliers");
    uint32_t divisor = 256, *ff = arena_alloc(&h->f->mem, h->n_layer, sizeof *ff), context = 2048;
    TRY(hf_get_u32(h, "ffn_dim_divisor", &divisor, err));
    TRY(hf_get_u32(h, "max_context_length", &context, err));
    if (!ff) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (json_array_size(mul) != h->n_layer || divisor == 0)
        FAIL(err, MOTE_E_MISMATCH, "config.json: ffn_multipliers should have %u elements", h->n_layer);
    for (uint32_t i = 0; i < h->n_layer; i++) {
        double v = json_number_value(json_array_get(mul, i)) * (double)h->n_embd;
        if (!(v >= 0 && v < 1e9)) FAIL(err, MOTE_E_RANGE, "config.json: ffn_multipliers make no sense");
        ff[i] = MAX(divisor, (uint32_t)(v + (double)divisor / 2) / divisor * divisor);
        if ((double)ff[i] < 0.9 * v) ff[i] += divisor;
    }
    TRY(hf_put_u32s(h, "feed_forward_length", ff, h->n_layer, err));
    static const hf_key keys[] = {{"attention.head_count", KV_U32, "num_query_heads"},
                                  {"attention.head_count_kv", KV_U32, "num_kv_heads"}, KEYS_END};
    TRY(hf_put_table(h, keys, err));
    TRY(hf_put_u32(h, "context_length", context, err));
    return hf_put_f32(h, "attention.layer_norm_rms_epsilon", 1e-6, err);
}

/* BERT: no causal mask; the way the sentence is pooled stands in 1_Pooling/config.json. */
static mote_status bert_extra(hf *h, mote_error *err) {
    uint32_t types = 2, pooling = 0;
    TRY(hf_put_bool(h, "attention.causal", false, err));
    TRY(hf_get_u32(h, "type_vocab_size", &types, err));
    TRY(hf_put_u32(h, "tokenizer.ggml.token_type_count", types, err));
    str text;
    json_t *p;
    TRY(hf_read_text(h, "1_Pooling/config.json", &text, err));
    if (text.p) {
        TRY(json_parse(&p, text, "1_Pooling/config.json", err));
        pooling = json_get_bool(p, "pooling_mode_mean_tokens", false) ? 1
                : json_get_bool(p, "pooling_mode_cls_token", false) ? 2
                : json_get_bool(p, "pooling_mode_lasttoken", false) ? 3 : 0;
        json_decref(p);
    }
    return hf_put_u32(h, "pooling_type", pooling, err);
}

/* ---- the table ---- */

#define HF_ARCH(classes, gguf, flags, rules, keys, extra) {classes, #gguf, flags, rules, keys, extra},
#define NONE NULL
static const hf_arch archs[] = {
#include "format/hf_archs.def"
};

/* "Qwen3MoeForCausalLM" is the class of model_type "qwen3_moe". */
static bool is_type(str class_name, str type) {
    static const char *const ends[] = {"ForCausalLM", "LMHeadModel", "Model"};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (str_ends(class_name, str_of(ends[i]))) {
            class_name.n -= strlen(ends[i]);
            break;
        }
    size_t j = 0;
    for (size_t i = 0; i < type.n; i++) {
        if (type.p[i] == '_') continue;
        if (j == class_name.n || (class_name.p[j] | 32) != (type.p[i] | 32)) return false;
        j++;
    }
    return j == class_name.n;
}

static const hf_arch *search(str wanted, bool by_type) {
    for (size_t i = 0; i < COUNT_OF(archs); i++) {
        str list = str_of(archs[i].classes);
        for (size_t at = 0; at < list.n;) {
            size_t end = str_find(list, STR(" "), at);
            if (end == SIZE_MAX) end = list.n;
            str one = str_sub(list, at, end - at);
            if (by_type ? is_type(one, wanted) : str_eq(one, wanted)) return &archs[i];
            at = end + 1;
        }
    }
    return NULL;
}

/* Granite 4 without a Mamba layer is plain Granite. */
static const hf_arch *plainer(const hf_arch *arch, const json_t *cfg) {
    if (strcmp(arch->gguf, "granitehybrid") != 0) return arch;
    const json_t *types = json_object_get(cfg, "layer_types");
    size_t n = json_array_size(types);
    for (size_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, "attention") != 0) return arch;
    }
    if (n == 0) return arch;
    return search(json_get_int(cfg, "num_local_experts", 0) > 0 ? STR("GraniteMoeForCausalLM") : STR("GraniteForCausalLM"), false);
}

mote_status hf_find_arch(const json_t *root, const json_t *cfg, const hf_arch **out, mote_error *err) {
    const json_t *name = json_array_get(json_object_get(root, "architectures"), 0);
    if (!name) name = json_array_get(json_object_get(cfg, "architectures"), 0);
    str class_name = json_is_string(name) ? (str){json_string_value(name), json_string_length(name)} : (str){NULL, 0};
    str type = json_get_str(cfg, "model_type");
    *out = class_name.n ? search(class_name, false) : NULL;
    if (!*out && type.n) *out = search(type, true);
    if (*out) {
        *out = plainer(*out, cfg);
        return MOTE_OK;
    }
    if (!class_name.n) class_name = type;
    if (!class_name.n) FAIL(err, MOTE_E_FORMAT, "config.json names no architecture");
    FAIL(err, MOTE_E_UNSUPPORTED, "architecture '%.*s' is not known; if llama.cpp converts it, give its GGUF file",
         STR_ARG(class_name));
}

mote_status hf_find_gguf_arch(str name, const hf_arch **out, mote_error *err) {
    for (size_t i = 0; i < COUNT_OF(archs); i++)
        if (str_is(name, archs[i].gguf)) {
            *out = &archs[i];
            return MOTE_OK;
        }
    FAIL(err, MOTE_E_UNSUPPORTED, "the names that transformers gives to tensors of architecture '%.*s' are not known", STR_ARG(name));
}
