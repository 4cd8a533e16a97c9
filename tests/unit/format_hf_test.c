/* format_hf_test.c: Hugging Face folders: names, keys, layouts; vocabularies; everything that can be wrong. */
#include "format/format_convert.h"
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "ok.h"

static void put(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void clear(void) {
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf %s/*", folder);
    assert_int_equal(system(command), 0);
}

/* A checkpoint of given tensors: element i of each is i. n_dims and shape from text such as "4,2". */
typedef struct spec {
    const char *name;
    uint64_t rows, cols; /* cols 0: a vector of rows */
} spec;

static void put_tensors(const char *file, const spec *s, size_t n) {
    static float values[4096];
    st_tensor t[64];
    assert_true(n <= 64);
    for (size_t i = 0; i < COUNT_OF(values); i++) values[i] = (float)i;
    for (size_t i = 0; i < n; i++) {
        t[i] = (st_tensor){.name = str_of(s[i].name), .dtype = STR("F32"), .n_dims = s[i].cols ? 2 : 1,
                           .shape = {s[i].rows, s[i].cols}, .data = (const unsigned char *)values};
        t[i].size = (size_t)(s[i].rows * (s[i].cols ? s[i].cols : 1)) * sizeof(float);
        assert_true(t[i].size <= sizeof values);
    }
    OK(st_write(in_folder(file), t, n, NULL, &e_));
}

static float at(const model_file *f, const char *name, size_t i) {
    const tensor_info *t = model_file_find_tensor(f, name);
    float x;
    if (!t) fail_msg("no tensor %s", name);
    assert_int_equal(t->type, QUANT_F32);
    memcpy(&x, t->data + i * sizeof x, sizeof x);
    return x;
}

static const char llama_config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":8,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
    "\"num_hidden_layers\":1,\"intermediate_size\":4,\"vocab_size\":3,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
    "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":16},"
    "\"weird\":NaN,\"other\":[-Infinity,\"NaN \\\" Infinity\"]}";
static const spec llama_tensors[] = {
    {"model.embed_tokens.weight", 3, 8}, {"model.norm.weight", 8, 0},
    {"model.layers.0.input_layernorm.weight", 8, 0}, {"model.layers.0.self_attn.q_proj.weight", 8, 8},
    {"model.layers.0.self_attn.k_proj.weight", 4, 8}, {"model.layers.0.self_attn.rotary_emb.inv_freq", 2, 0},
};

static void a_llama_is_read(void **state) {
    (void)state;
    clear();
    put("config.json", llama_config);
    put("generation_config.json", "{\"temperature\":0.25,\"top_k\":20,\"top_p\":\"all\",\"min_p\":null}");
    put_tensors("model.safetensors", llama_tensors, COUNT_OF(llama_tensors));
    model_file *f;
    OK(model_file_open(&f, folder, 0, &e_));
    str s;
    uint32_t u;
    float x;
    OK(kv_get_str(f, "general.architecture", &s, STR(""), &e_));
    assert_true(str_is(s, "llama"));
    OK(kv_get_u32(f, "llama.attention.head_count_kv", &u, 0, &e_));
    assert_int_equal(u, 1);
    OK(kv_get_u32(f, "llama.rope.dimension_count", &u, 0, &e_));
    assert_int_equal(u, 4);
    OK(kv_get_f32(f, "llama.rope.freq_base", &x, 0, &e_));
    assert_true(x == 500000.0f);
    OK(kv_get_f32(f, "general.sampling.temp", &x, 0, &e_));
    assert_true(x == 0.25f);
    OK(kv_get_u32(f, "general.sampling.top_k", &u, 0, &e_));
    assert_int_equal(u, 20);
    assert_null(model_file_find(f, "general.sampling.top_p"));
    /* rows of a head of 4: halves (0 1)(2 3) to pairs (0 2)(1 3) */
    assert_true(at(f, "blk.0.attn_q.weight", 0) == 0.0f && at(f, "blk.0.attn_q.weight", 8) == 16.0f);
    assert_true(at(f, "blk.0.attn_q.weight", 16) == 8.0f && at(f, "blk.0.attn_q.weight", 24) == 24.0f);
    assert_true(at(f, "blk.0.attn_k.weight", 8) == 16.0f);
    /* the first frequency has a wavelength below 4, the second one far above 16 */
    assert_true(at(f, "rope_freqs.weight", 1) == 8.0f);
    assert_true(at(f, "output_norm.weight", 7) == 7.0f);
    const tensor_info *q = model_file_find_tensor(f, "blk.0.attn_q.weight");
    assert_true(str_is(q->origin, "model.layers.0.self_attn.q_proj.weight"));
    assert_null(model_file_find_tensor(f, "output.weight"));
    model_file_close(&f);
}

static void both_forms_of_rope_are_the_same(void **state) {
    (void)state;
    static const char *const forms[] = {
        "\"rope_theta\":77.0,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}",
        "\"rope_parameters\":{\"rope_theta\":77.0,\"rope_type\":\"linear\",\"factor\":4.0}",
        "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":77.0,\"rope_type\":\"linear\",\"factor\":4.0}}",
    };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        char config[700];
        clear();
        (void)snprintf(config, sizeof config,
                       "{\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_size\":8,\"num_attention_heads\":2,"
                       "\"num_hidden_layers\":1,\"vocab_size\":3,%s}", forms[i]);
        put("config.json", config);
        put_tensors("model.safetensors", llama_tensors, 4);
        model_file *f;
        float x;
        str s;
        OK(model_file_open(&f, folder, 0, &e_));
        OK(kv_get_f32(f, "qwen2.rope.freq_base", &x, 0, &e_));
        assert_true(x == 77.0f);
        OK(kv_get_f32(f, "qwen2.rope.scaling.factor", &x, 0, &e_));
        assert_true(x == 4.0f);
        OK(kv_get_str(f, "qwen2.rope.scaling.type", &s, STR(""), &e_));
        assert_true(str_is(s, "linear"));
        assert_true(at(f, "blk.0.attn_q.weight", 8) == 8.0f); /* not reordered */
        model_file_close(&f);
    }
}

static void experts_are_stacked_and_shards_joined(void **state) {
    (void)state;
    clear();
    put("config.json", "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"hidden_size\":4,\"num_attention_heads\":2,"
        "\"num_hidden_layers\":1,\"vocab_size\":3,\"num_experts\":2,\"num_experts_per_tok\":1,\"moe_intermediate_size\":2}");
    put("model.safetensors.index.json",
        "{\"weight_map\":{\"model.embed_tokens.weight\":\"a.safetensors\",\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}}");
    static const spec a[] = {{"model.embed_tokens.weight", 3, 4}, {"model.layers.0.mlp.experts.0.up_proj.weight", 2, 4}};
    static const spec b[] = {{"model.layers.0.mlp.experts.1.up_proj.weight", 2, 4}, {"model.layers.0.mlp.gate.weight", 2, 4}};
    put_tensors("a.safetensors", a, 2);
    put_tensors("b.safetensors", b, 2);
    model_file *f;
    OK(model_file_open(&f, folder, MODEL_FILE_NO_MMAP, &e_));
    const tensor_info *t = model_file_find_tensor(f, "blk.0.ffn_up_exps.weight");
    assert_non_null(t);
    assert_true(t->n_dims == 3 && t->ne[0] == 4 && t->ne[1] == 2 && t->ne[2] == 2);
    assert_true(at(f, "blk.0.ffn_up_exps.weight", 8 + 3) == 3.0f);
    assert_non_null(model_file_find_tensor(f, "blk.0.ffn_gate_inp.weight"));
    model_file_close(&f);
}

/* Writes a folder with this config, index (NULL: one file) and tensors; opening must fail and say so. */
static void refuse(const char *config, const char *index, const spec *s, size_t n, const char *says) {
    clear();
    if (config) put("config.json", config);
    if (index) put("model.safetensors.index.json", index);
    if (s) put_tensors("model.safetensors", s, n);
    model_file *f;
    mote_error e = {0};
    mote_status status = model_file_open(&f, folder, MODEL_FILE_VOCAB, &e);
    if (status == MOTE_OK) fail_msg("opened: expected '%s'", says);
    assert_null(f);
    if (!strstr(e.message, says)) fail_msg("expected '%s' in '%s'", says, e.message);
}

#define QWEN "\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_size\":8,\"num_attention_heads\":2"

static void folders_that_are_wrong_are_refused(void **state) {
    (void)state;
    const spec *t = llama_tensors;
    refuse(NULL, NULL, t, 3, "no config.json");
    refuse("[]", NULL, t, 3, "not an object");
    refuse("{\"a\":", NULL, t, 3, "bad JSON");
    refuse("{}", NULL, t, 3, "names no architecture");
    refuse("{\"architectures\":[\"NobodyForCausalLM\"]}", NULL, t, 3, "'NobodyForCausalLM' is not known");
    refuse("{" QWEN "}", NULL, t, 3, "number of layers");
    refuse("{" QWEN ",\"num_hidden_layers\":1000000}", NULL, t, 3, "number of layers");
    refuse("{" QWEN ",\"num_hidden_layers\":-1}", NULL, t, 3, "n_layers");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"vocab_size\":1e30}", NULL, t, 3, "vocab_size");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"rope_theta\":0}", NULL, t, 3, "rotary base");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"rope_theta\":\"x\"}", NULL, t, 3, "must be a number");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"rope_scaling\":{\"type\":\"magic\"}}", NULL, t, 3, "'magic'");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1]}}", NULL, t, 3,
           "factors");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}", NULL, t, 3, "bitsandbytes");
    refuse("{" QWEN ",\"num_hidden_layers\":1}", NULL, NULL, 0, "model.safetensors");
    static const spec odd[] = {{"model.layers.0.strange.weight", 4, 4}};
    refuse("{" QWEN ",\"num_hidden_layers\":1}", NULL, odd, 1, "no place for tensor 'model.layers.0.strange.weight'");
    static const spec uneven[] = {{"model.layers.0.self_attn.q_proj.weight", 7, 8}};
    refuse(llama_config, NULL, uneven, 1, "2 heads cannot share");
    static const spec expert[] = {{"model.layers.0.mlp.experts.0.up_proj.weight", 2, 4}};
    refuse("{" QWEN ",\"num_hidden_layers\":1}", NULL, expert, 1, "names no experts");
    refuse("{" QWEN ",\"num_hidden_layers\":1,\"num_experts\":4}", NULL, expert, 1, "experts.1.up_proj.weight' is missing");
}

static void names_cannot_leave_the_folder(void **state) {
    (void)state;
    static const char *const names[] = {"../../etc/passwd", "/etc/passwd", "..", "", "a/../../b", "link"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char index[200];
        clear();
        (void)snprintf(index, sizeof index, "{\"weight_map\":{\"t\":\"%s\"}}", names[i]);
        put("config.json", llama_config);
        put("model.safetensors.index.json", index);
        assert_int_equal(symlink("/etc/passwd", in_folder("link")), 0);
        model_file *f;
        mote_error e = {0};
        assert_int_equal(model_file_open(&f, folder, 0, &e), MOTE_E_FORMAT);
        if (!strstr(e.message, "leads out of the model")) fail_msg("%s: %s", names[i], e.message);
    }
    refuse(llama_config, "{\"weight_map\":[]}", NULL, 0, "no object 'weight_map'");
    refuse(llama_config, "{\"weight_map\":{\"t\":7}}", NULL, 0, "is no file name");
    refuse(llama_config, "{\"weight_map\":{\"t\":\"a\\u0000b\"}}", NULL, 0, "is no file name");
}

static void a_pickle_is_never_loaded(void **state) {
    (void)state;
    clear();
    put("config.json", llama_config);
    put("pytorch_model.bin", "\x80\2}q\1.");
    model_file *f;
    mote_error e = {0};
    assert_int_equal(model_file_open(&f, folder, 0, &e), MOTE_E_UNSUPPORTED);
    assert_non_null(strstr(e.message, "safe_serialization"));
}

static const char tokenizer_bpe[] =
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<|im_end|>\",\"special\":false},{\"id\":5,\"content\":\"<tool>\","
    "\"special\":false},{\"id\":6,\"content\":\"<s>\",\"special\":true}],"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"ByteLevel\"}]},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":"
    "[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}]},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"abb\":3},\"merges\":[\"a b\",[\"ab\",\"b\"]]}}";

static void a_vocabulary_is_read(void **state) {
    (void)state;
    clear();
    char config[700];
    (void)snprintf(config, sizeof config, "{" QWEN ",\"num_hidden_layers\":1,\"vocab_size\":8,\"eos_token_id\":[4,3]}");
    put("config.json", config);
    put("tokenizer.json", tokenizer_bpe);
    put("tokenizer_config.json", "{\"bos_token\":{\"content\":\"<s>\"},\"chat_template\":\"T\"}");
    put_tensors("model.safetensors", llama_tensors, 2);
    char out[300];
    (void)snprintf(out, sizeof out, "%s/out.gguf", folder);
    OK(format_convert(folder, out, &(convert_opts){.type = QUANT_F16}, &e_));
    model_file *f;
    OK(model_file_open(&f, out, 0, &e_));
    str s;
    uint32_t u;
    bool b;
    int64_t i;
    OK(kv_get_str(f, "tokenizer.ggml.model", &s, STR(""), &e_));
    assert_true(str_is(s, "gpt2"));
    OK(kv_get_str(f, "tokenizer.ggml.pre", &s, STR(""), &e_));
    assert_true(str_is(s, "starcoder"));
    OK(kv_get_str(f, "tokenizer.chat_template", &s, STR(""), &e_));
    assert_true(str_is(s, "T"));
    const kv *tokens = model_file_find(f, "tokenizer.ggml.tokens"), *types = model_file_find(f, "tokenizer.ggml.token_type");
    assert_int_equal(tokens->count, 8);
    assert_true(str_is(kv_at_str(tokens, 3), "abb") && str_is(kv_at_str(tokens, 7), "[PAD7]"));
    static const int expected[8] = {1, 1, 1, 1, 3, 4, 3, 5};
    for (uint64_t k = 0; k < 8; k++) assert_true(kv_at_int(types, k, &i) && i == expected[k]);
    assert_true(str_is(kv_at_str(model_file_find(f, "tokenizer.ggml.merges"), 1), "ab b"));
    OK(kv_get_u32(f, "tokenizer.ggml.bos_token_id", &u, 0, &e_));
    assert_int_equal(u, 6);
    OK(kv_get_u32(f, "tokenizer.ggml.eos_token_id", &u, 0, &e_));
    assert_int_equal(u, 4);
    OK(kv_get_bool(f, "tokenizer.ggml.add_bos_token", &b, false, &e_));
    assert_true(b);
    assert_int_equal(model_file_find_tensor(f, "token_embd.weight")->type, QUANT_F16);
    assert_int_equal(model_file_find_tensor(f, "output_norm.weight")->type, QUANT_F32);
    model_file_close(&f);
}

/* Every prefix of a tokenizer.json and each of its bytes changed: an error or a model, never a crash. */
static void a_damaged_vocabulary_is_an_error(void **state) {
    (void)state;
    clear();
    put("config.json", "{" QWEN ",\"num_hidden_layers\":1,\"vocab_size\":8}");
    put_tensors("model.safetensors", llama_tensors, 2);
    static const char odd[] = {'"', '9', '-', '{', ']', ','};
    char text[sizeof tokenizer_bpe];
    for (size_t i = 0; i + 1 < sizeof text; i += 2)
        for (size_t k = 0; k <= sizeof odd; k++) {
            memcpy(text, tokenizer_bpe, sizeof text);
            text[i] = k < sizeof odd ? odd[k] : 0;
            put("tokenizer.json", text);
            model_file *f;
            mote_error e = {0};
            if (model_file_open(&f, folder, MODEL_FILE_VOCAB, &e) != MOTE_OK) assert_true(e.message[0]);
            model_file_close(&f);
        }
}

/* A tokenizer.model: <unk>, <s>, <0x41>, "▁a" of score -1; BPE; no space in front. */
static const char tokenizer_spm[] = "\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0\x18\2"
                                    "\x0A\x0C\x0A\x03<s>\x15\0\0\0\0\x18\3"
                                    "\x0A\x0F\x0A\x06<0x41>\x15\0\0\0\0\x18\6"
                                    "\x0A\x0B\x0A\x04\xE2\x96\x81" "a\x15\0\0\x80\xBF"
                                    "\x12\2\x18\2\x1A\2\x18\0";

static void put_bytes(const char *name, const char *p, size_t n) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void a_sentencepiece_model_is_read(void **state) {
    (void)state;
    clear();
    put("config.json", "{" QWEN ",\"num_hidden_layers\":1,\"vocab_size\":5,\"bos_token_id\":1}");
    put("tokenizer_config.json", "{\"added_tokens_decoder\":{\"4\":{\"content\":\"<|x|>\"},\"9\":{\"content\":\"no\"}}}");
    put_tensors("model.safetensors", llama_tensors, 2);
    put_bytes("tokenizer.model", tokenizer_spm, sizeof tokenizer_spm - 1);
    model_file *f;
    str s;
    bool prefix;
    int64_t type;
    double score;
    OK(model_file_open(&f, folder, 0, &e_));
    OK(kv_get_str(f, "tokenizer.ggml.model", &s, STR(""), &e_));
    assert_true(str_is(s, "llama"));
    OK(kv_get_bool(f, "tokenizer.ggml.add_space_prefix", &prefix, true, &e_));
    assert_false(prefix);
    const kv *tokens = model_file_find(f, "tokenizer.ggml.tokens"), *types = model_file_find(f, "tokenizer.ggml.token_type");
    assert_int_equal(tokens->count, 5);
    assert_true(str_is(kv_at_str(tokens, 3), "\xE2\x96\x81" "a") && str_is(kv_at_str(tokens, 4), "<|x|>"));
    static const int expected[5] = {2, 3, 6, 1, 3};
    for (uint64_t i = 0; i < 5; i++) assert_true(kv_at_int(types, i, &type) && type == expected[i]);
    assert_true(kv_at_num(model_file_find(f, "tokenizer.ggml.scores"), 3, &score) && score == -1.0);
    model_file_close(&f);
    static const char odd[] = {0, 1, 0x7F, (char)0x80, (char)0xFF};
    char text[sizeof tokenizer_spm];
    for (size_t i = 0; i + 1 < sizeof text; i++)
        for (size_t k = 0; k <= sizeof odd; k++) {
            memcpy(text, tokenizer_spm, sizeof text);
            if (k < sizeof odd) text[i] = odd[k];
            put_bytes("tokenizer.model", text, k < sizeof odd ? sizeof text - 1 : i);
            (void)model_file_open(&f, folder, 0, NULL);
            model_file_close(&f);
        }
}

/* Numbers of config.json replaced by what breaks arithmetic, for families that compute with them. */
static void a_damaged_config_is_an_error(void **state) {
    (void)state;
    static const char *const configs[] = {
        llama_config,
        "{\"architectures\":[\"Lfm2ForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
        "\"block_auto_adjust_ff_dim\":true,\"block_ffn_dim_multiplier\":1.5,\"block_multiple_of\":8,\"intermediate_size\":4}",
        "{\"architectures\":[\"OpenELMForCausalLM\"],\"model_dim\":8,\"num_transformer_layers\":2,\"ffn_multipliers\":[1.5,2],"
        "\"ffn_dim_divisor\":8,\"num_query_heads\":[2,2],\"num_kv_heads\":[1,1],\"head_dim\":4}",
        "{\"architectures\":[\"FalconH1ForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"mamba_expand\":2,\"mamba_d_ssm\":8,\"mamba_n_groups\":2,\"mamba_d_state\":4,\"ssm_multipliers\":[1,2,3,4,5]}",
        "{\"architectures\":[\"Qwen3_5ForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
        "\"linear_num_key_heads\":2,\"linear_num_value_heads\":4,\"linear_key_head_dim\":4,\"linear_value_head_dim\":4,"
        "\"rope_parameters\":{\"rope_theta\":1e4,\"partial_rotary_factor\":0.5,\"mrope_section\":[1,1,1]}}",
        "{\"architectures\":[\"HunYuanDenseV1ForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":2,\"rope_scaling\":{\"type\":\"dynamic\",\"alpha\":50}}",
        "{\"architectures\":[\"MiniCPMForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"scale_emb\":2,\"scale_depth\":1,\"dim_model_base\":4,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,"
        "\"original_max_position_embeddings\":64}}",
        "{\"architectures\":[\"Phi3ForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"max_position_embeddings\":128,\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1,2],\"short_factor\":[1,1],"
        "\"original_max_position_embeddings\":64}}",
        "{\"architectures\":[\"RWKV7ForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":1,\"head_dim\":4}",
        "{\"architectures\":[\"NemotronHForCausalLM\"],\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
        "\"mamba_head_dim\":4,\"mamba_num_heads\":2,\"hybrid_override_pattern\":\"M*\"}",
    };
    static const char *const odd[] = {"0", "-1", "1e308", "4294967295", "9223372036854775807", "null", "\"x\"", "[]", "0.5", "{}"};
    for (size_t c = 0; c < COUNT_OF(configs); c++) {
        clear();
        put_tensors("model.safetensors", llama_tensors, COUNT_OF(llama_tensors));
        for (const char *at = configs[c]; *at; at++) {
            if (at[0] < '0' || at[0] > '9' || (at[-1] != ':' && at[-1] != '[' && at[-1] != ',')) continue;
            for (size_t k = 0; k < COUNT_OF(odd); k++) {
                char text[1200];
                size_t n = strspn(at, "0123456789.e-");
                (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - configs[c]), configs[c], odd[k], at + n);
                put("config.json", text);
                model_file *f;
                mote_error e = {0};
                if (model_file_open(&f, folder, 0, &e) != MOTE_OK) assert_true(e.message[0]);
                model_file_close(&f);
            }
        }
    }
}

static int leave_nothing(void **state) {
    (void)state;
    clear();
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_llama_is_read),
        cmocka_unit_test(both_forms_of_rope_are_the_same),
        cmocka_unit_test(experts_are_stacked_and_shards_joined),
        cmocka_unit_test(folders_that_are_wrong_are_refused),
        cmocka_unit_test(names_cannot_leave_the_folder),
        cmocka_unit_test(a_pickle_is_never_loaded),
        cmocka_unit_test(a_vocabulary_is_read),
        cmocka_unit_test(a_damaged_vocabulary_is_an_error),
        cmocka_unit_test(a_sentencepiece_model_is_read),
        cmocka_unit_test(a_damaged_config_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_folder, leave_nothing);
}
