/* origin_test.c: the way back to a Hugging Face folder, for families whose rules do more than rename. */
#include "origin_props.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

static char folder[] = "/tmp/mote_origin_XXXXXX", scratch[] = "/tmp/mote_origin_XXXXXX";

typedef struct spec {
    const char *name;
    int n_dims;
    uint64_t shape[4];
    const char *dtype;
} spec;

static void put_folder(const char *config, const spec *s, size_t n) {
    static float values[4096];
    static uint16_t halves[2][4096];
    st_tensor t[32];
    char path[300];
    mote_error e = {0};
    rng r;
    rng_seed(&r, 1, 0);
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        values[i] = (float)rng_double(&r) - 0.4f;
        halves[0][i] = quant_f32_to_f16(values[i]);
        halves[1][i] = quant_f32_to_bf16(values[i]);
    }
    for (size_t i = 0; i < n; i++) {
        t[i] = (st_tensor){.name = str_of(s[i].name), .dtype = str_of(s[i].dtype ? s[i].dtype : "F32"), .n_dims = s[i].n_dims,
                           .data = (const unsigned char *)(values + i), .size = s[i].dtype ? 2 : 4};
        if (s[i].dtype) t[i].data = (const unsigned char *)halves[strcmp(s[i].dtype, "BF16") == 0];
        for (int d = 0; d < s[i].n_dims; d++) t[i].size *= (size_t)(t[i].shape[d] = s[i].shape[d]);
        assert_true(t[i].size < sizeof values / 2);
    }
    (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (st_write(path, t, n, NULL, &e) != MOTE_OK) fail_msg("%s", e.message);
    (void)snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(config, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void goes_back(const char *config, const spec *s, size_t n, const char *unused) {
    origin_props_result r;
    mote_error e = {0};
    put_folder(config, s, n);
    if (origin_props(folder, scratch, &r, &e) != MOTE_OK) fail_msg("%s\n%s", e.message, config);
    assert_true(r.worst <= 1e-5);
    if (strcmp(r.unused, unused) != 0) fail_msg("no gradient: '%s'\n%s", r.unused, config);
}

#define COMMON "\"hidden_size\":8,\"num_attention_heads\":2,\"num_hidden_layers\":1,\"intermediate_size\":4,\"vocab_size\":3"
#define SPECS(...) (const spec[]){__VA_ARGS__}, sizeof((const spec[]){__VA_ARGS__}) / sizeof(spec)

static void rows_are_permuted(void **state) {
    (void)state;
    goes_back("{\"architectures\":[\"LlamaForCausalLM\"],\"num_key_value_heads\":1," COMMON "}",
              SPECS({"model.embed_tokens.weight", 2, {3, 8}, NULL}, {"model.norm.weight", 1, {8}, NULL},
                    {"model.layers.0.self_attn.q_proj.weight", 2, {8, 8}, NULL},
                    {"model.layers.0.self_attn.k_proj.weight", 2, {4, 8}, NULL},
                    {"model.layers.0.self_attn.q_proj.bias", 1, {8}, NULL},
                    {"model.layers.0.self_attn.rotary_emb.inv_freq", 1, {2}, NULL}),
              "model.layers.0.self_attn.rotary_emb.inv_freq");
    goes_back("{\"architectures\":[\"LlamaForCausalLM\"],\"num_key_value_heads\":1," COMMON "}",
              SPECS({"model.embed_tokens.weight", 2, {3, 8}, "BF16"}, {"model.norm.weight", 1, {8}, "F16"},
                    {"model.layers.0.self_attn.k_proj.weight", 2, {4, 8}, "F16"}), "");
}

static void fused_projections_are_sorted(void **state) {
    (void)state;
    goes_back("{\"architectures\":[\"FalconForCausalLM\"],\"new_decoder_architecture\":true,\"num_kv_heads\":1," COMMON "}",
              SPECS({"transformer.h.0.self_attention.query_key_value.weight", 2, {16, 8}, NULL}), "");
    goes_back("{\"architectures\":[\"GPTNeoXForCausalLM\"]," COMMON "}",
              SPECS({"gpt_neox.layers.0.attention.query_key_value.weight", 2, {24, 8}, NULL},
                    {"gpt_neox.layers.0.attention.query_key_value.bias", 1, {24}, NULL}), "");
    goes_back("{\"architectures\":[\"InternLM2ForCausalLM\"],\"num_key_value_heads\":1," COMMON "}",
              SPECS({"model.layers.0.attention.wqkv.weight", 2, {16, 8}, NULL}), "");
    goes_back("{\"architectures\":[\"Qwen3NextForCausalLM\"],\"linear_num_key_heads\":2,\"linear_num_value_heads\":4,"
              "\"linear_key_head_dim\":2,\"linear_value_head_dim\":3," COMMON "}",
              SPECS({"model.layers.0.linear_attn.in_proj_qkvz.weight", 2, {32, 8}, NULL},
                    {"model.layers.0.linear_attn.A_log", 1, {4}, NULL}), "");
    goes_back("{\"architectures\":[\"Qwen3_5ForCausalLM\"],\"linear_num_key_heads\":2,\"linear_num_value_heads\":4,"
              "\"linear_key_head_dim\":2,\"linear_value_head_dim\":3," COMMON "}",
              SPECS({"model.layers.0.linear_attn.out_proj.weight", 2, {8, 12}, NULL},
                    {"model.layers.0.linear_attn.A_log", 1, {4}, NULL},
                    {"model.layers.0.linear_attn.conv1d.weight", 3, {20, 1, 4}, NULL}), "");
}

static void matrices_are_turned(void **state) {
    (void)state;
    goes_back("{\"architectures\":[\"GPT2LMHeadModel\"]," COMMON "}",
              SPECS({"transformer.h.0.attn.c_attn.weight", 2, {8, 24}, NULL}, {"transformer.h.0.mlp.c_proj.weight", 2, {4, 8}, "BF16"},
                    {"transformer.h.0.attn.c_attn.bias", 1, {24}, NULL}), "");
    goes_back("{\"architectures\":[\"GptOssForCausalLM\"],\"num_local_experts\":2," COMMON "}",
              SPECS({"model.layers.0.mlp.experts.gate_up_proj", 3, {2, 8, 6}, NULL},
                    {"model.layers.0.mlp.experts.down_proj", 3, {2, 3, 8}, NULL},
                    {"model.layers.0.mlp.experts.gate_up_proj_bias", 2, {2, 6}, NULL}), "");
    goes_back("{\"architectures\":[\"KimiLinearForCausalLM\"],\"qk_nope_head_dim\":3,\"v_head_dim\":2," COMMON "}",
              SPECS({"model.layers.0.self_attn.kv_b_proj.weight", 2, {10, 4}, NULL},
                    {"model.layers.0.self_attn.A_log", 4, {1, 1, 2, 1}, NULL}), "");
}

static void experts_are_taken_apart(void **state) {
    (void)state;
    goes_back("{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"num_experts\":2,\"num_experts_per_tok\":1,"
              "\"moe_intermediate_size\":2," COMMON "}",
              SPECS({"model.layers.0.mlp.experts.0.up_proj.weight", 2, {2, 8}, NULL},
                    {"model.layers.0.mlp.experts.1.up_proj.weight", 2, {2, 8}, NULL},
                    {"model.layers.0.mlp.gate.weight", 2, {2, 8}, "BF16"}), "");
    goes_back("{\"architectures\":[\"GraniteMoeForCausalLM\"],\"num_local_experts\":2," COMMON "}",
              SPECS({"model.layers.0.block_sparse_moe.input_linear.weight", 3, {2, 8, 8}, NULL},
                    {"model.layers.0.block_sparse_moe.output_linear.weight", 3, {2, 8, 4}, NULL}), "");
    goes_back("{\"architectures\":[\"Rwkv7ForCausalLM\"],\"head_dim\":4," COMMON "}",
              SPECS({"model.layers.0.attn.x_r", 3, {1, 1, 8}, NULL}, {"model.layers.0.attn.x_w", 3, {1, 1, 8}, NULL},
                    {"model.layers.0.attn.x_k", 3, {1, 1, 8}, NULL}, {"model.layers.0.attn.x_v", 3, {1, 1, 8}, NULL},
                    {"model.layers.0.attn.x_a", 3, {1, 1, 8}, NULL}, {"model.layers.0.attn.x_g", 3, {1, 1, 8}, NULL}), "");
}

static void values_are_changed_back(void **state) {
    (void)state;
    goes_back("{\"architectures\":[\"Gemma2ForCausalLM\"]," COMMON "}",
              SPECS({"model.norm.weight", 1, {8}, NULL}, {"model.layers.0.pre_feedforward_layernorm.weight", 1, {8}, NULL}), "");
    goes_back("{\"architectures\":[\"Plamo2ForCausalLM\"],\"mamba_num_heads\":2,\"hidden_size_per_head\":4," COMMON "}",
              SPECS({"model.layers.layers.0.post_mixer_norm.weight", 1, {8}, NULL},
                    {"model.layers.layers.0.post_mlp_norm.weight", 1, {8}, NULL}), "");
    goes_back("{\"architectures\":[\"FalconH1ForCausalLM\"],\"mamba_d_ssm\":4,\"mamba_n_heads\":2,\"mamba_d_state\":2,"
              "\"key_multiplier\":0.3,\"ssm_in_multiplier\":1.25,\"ssm_multipliers\":[0.5,2,0.25,3,0.7]," COMMON "}",
              SPECS({"model.layers.0.mamba.in_proj.weight", 2, {14, 8}, NULL},
                    {"model.layers.0.self_attn.k_proj.weight", 2, {8, 8}, NULL},
                    {"model.layers.0.mamba.A_log", 1, {2}, NULL}), "");
}

static void matrices_are_recognised(void **state) {
    (void)state;
    model_file *f;
    origin *o;
    origin_map *m;
    mote_error e = {0};
    size_t src;
    uint64_t rows[32], cols[32];
    bool turned;
    put_folder("{\"architectures\":[\"GPT2LMHeadModel\"]," COMMON "}",
               SPECS({"transformer.h.0.attn.c_attn.weight", 2, {8, 24}, NULL}));
    assert_int_equal(model_file_open(&f, folder, 0, &e), MOTE_OK);
    assert_int_equal(origin_open(&o, folder, &e), MOTE_OK);
    assert_int_equal(origin_map_open(&m, o, model_file_find_tensor(f, "blk.0.attn_qkv.weight"), &e), MOTE_OK);
    assert_true(origin_map_matrix(m, model_file_find_tensor(f, "blk.0.attn_qkv.weight"), &src, rows, cols, &turned));
    assert_true(turned && rows[5] == 5 && cols[3] == 3);
    origin_map_close(&m);
    origin_close(&o);
    model_file_close(&f);
    put_folder("{\"architectures\":[\"LlamaForCausalLM\"],\"num_key_value_heads\":1," COMMON "}",
               SPECS({"model.layers.0.self_attn.k_proj.weight", 2, {4, 8}, NULL}));
    assert_int_equal(model_file_open(&f, folder, 0, &e), MOTE_OK);
    assert_int_equal(origin_open(&o, folder, &e), MOTE_OK);
    assert_int_equal(origin_map_open(&m, o, model_file_find_tensor(f, "blk.0.attn_k.weight"), &e), MOTE_OK);
    assert_true(origin_map_matrix(m, model_file_find_tensor(f, "blk.0.attn_k.weight"), &src, rows, cols, &turned));
    assert_true(!turned && rows[0] == 0 && rows[1] == 2 && rows[2] == 1 && rows[3] == 3 && cols[7] == 7);
    origin_map_close(&m);
    origin_close(&o);
    model_file_close(&f);
    assert_int_equal(origin_open(&o, "/dev/null", &e), MOTE_E_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_permuted),       cmocka_unit_test(fused_projections_are_sorted),
        cmocka_unit_test(matrices_are_turned),     cmocka_unit_test(experts_are_taken_apart),
        cmocka_unit_test(values_are_changed_back), cmocka_unit_test(matrices_are_recognised),
    };
    char command[200];
    if (!mkdtemp(folder) || !mkdtemp(scratch)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s %s", folder, scratch);
    return system(command) != 0 || failed;
}
