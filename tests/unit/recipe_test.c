/* recipe_test.c: llm-compressor's recipes. */
#include "compress/recipe.h"
#include "compress/calibrated.h"

#include "../tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static const mote_calibrate_options none;

static recipe parsed(const char *text) {
    recipe r;
    mote_error err = {0};
    if (recipe_parse(&r, str_of(text), "test.yaml", &none, &err) != MOTE_OK) fail_msg("%s", err.message);
    return r;
}

static void refused(const char *text, mote_status code, const char *says) {
    recipe r;
    mote_error err = {0};
    mote_status s = recipe_parse(&r, str_of(text), "test.yaml", &none, &err);
    recipe_free(&r);
    if (s != code || !strstr(err.message, says)) fail_msg("%s\n-> %d %s; expected %d and '%s'", text, (int)s, err.message, (int)code, says);
}

static void stages_become_one_pass(void **state) {
    (void)state;
    recipe r = parsed("quant_stage:\n  quant_modifiers:\n    SmoothQuantModifier: {smoothing_strength: 0.8}\n    GPTQModifier:\n      scheme: W8A8\n"
                      "      targets: [Linear]\n      ignore: [lm_head, 're:.*down_proj']\n      dampening_frac: 0.05\n      block_size: 64\n      actorder: static\n");
    assert_string_equal(r.o.scale, "smoothquant");
    assert_string_equal(r.o.round, "gptq");
    assert_string_equal(r.o.quantize.type, "Q8_0");
    assert_true(r.o.alpha == 0.8 && r.o.damp == 0.05 && r.o.block == 64 && !r.o.no_act_order && r.n_ignore == 2 && r.n_targets == 0);
    recipe_free(&r);
    r = parsed("sparsity_stage:\n  run_type: oneshot\n  sparsity_modifiers:\n    SparseGPTModifier: {sparsity: 0.5, mask_structure: '2:4', sequential_update: false}\n"
               "quantization_stage:\n  quantization_modifiers:\n    GPTQModifier:\n      config_groups:\n        group_0:\n          weights: {num_bits: 4, type: int, symmetric: true, strategy: channel}\n"
               "          targets: [Linear]\n");
    assert_string_equal(r.o.prune, "sparsegpt");
    assert_string_equal(r.o.round, "gptq");
    assert_string_equal(r.o.quantize.type, "Q4_0");
    assert_true(r.o.keep == 2 && r.o.of == 4 && r.o.sparsity == 0);
    recipe_free(&r);
    r = parsed("AWQModifier: {scheme: W4A16_ASYM, n_grid: 10, duo_scaling: true}");
    assert_true(!strcmp(r.o.scale, "awq") && !strcmp(r.o.round, "nearest") && !strcmp(r.o.quantize.type, "Q4_1") && r.o.n_grid == 10);
    recipe_free(&r);
    r = parsed("stage: {mods: {AutoRoundModifier: {scheme: 'GGUF:Q2_K_S', iters: 200}}}");
    assert_true(!strcmp(r.o.round, "autoround") && !strcmp(r.o.quantize.type, "Q2_K_S") && r.o.steps == 200);
    recipe_free(&r);
    r = parsed("WandaPruningModifier: {sparsity: 0.3, mask_structure: unstructured}");
    assert_true(!strcmp(r.o.prune, "wanda") && r.o.sparsity == 0.3 && !r.o.round && !r.o.quantize.type);
    recipe_free(&r);
}

static void what_cannot_be_followed_is_named(void **state) {
    (void)state;
    refused("QuIPModifier: {}", MOTE_E_UNSUPPORTED, "QuIPModifier");
    refused("GPTQModifier: {scheme: FP8}", MOTE_E_UNSUPPORTED, "FP8");
    refused("GPTQModifier: {scheme: W4A16, actorder: group}", MOTE_E_UNSUPPORTED, "actorder");
    refused("GPTQModifier: {scheme: W4A16, kv_cache_scheme: {num_bits: 8}}", MOTE_E_UNSUPPORTED, "kv_cache_scheme");
    refused("GPTQModifier: {scheme: W4A16, targets: [LlamaDecoderLayer]}", MOTE_E_UNSUPPORTED, "LlamaDecoderLayer");
    refused("GPTQModifier: {}", MOTE_E_USAGE, "scheme");
    refused("GPTQModifier: {scheme: W4A16, dampening_frac: many}", MOTE_E_RANGE, "dampening_frac");
    refused("a: {GPTQModifier: {scheme: W4A16}}", MOTE_E_UNSUPPORTED, "'a'");
    refused("stage: {GPTQModifier: {scheme: W4A16}, AutoRoundModifier: {scheme: W4A16}}", MOTE_E_UNSUPPORTED, "rounds with gptq already");
    refused("SparseGPTModifier: {sparsity: 0.5, sparsity_profile: owl}", MOTE_E_UNSUPPORTED, "sparsity_profile");
    refused("SparseGPTModifier: {sparsity: 0.3, mask_structure: '2:4'}", MOTE_E_USAGE, "agree");
    refused("SparseGPTModifier: {sparsity: 0.5, mask_structure: '4:2'}", MOTE_E_USAGE, "N:M");
    refused("QuantizationModifier: {config_groups: {g: {weights: {num_bits: 7}}}}", MOTE_E_UNSUPPORTED, "7 bits");
    refused("QuantizationModifier: {config_groups: {g: {weights: {num_bits: 8, type: float}}}}", MOTE_E_UNSUPPORTED, "float");
    refused("", MOTE_E_FORMAT, "map");
    refused("[1, 2]", MOTE_E_FORMAT, "map");
    refused("stage: {mods: {}}", MOTE_E_FORMAT, "no modifier");
}

static void modules_have_their_own_names(void **state) {
    (void)state;
    char name[96];
    assert_string_equal(recipe_module(STR("blk.12.attn_output.weight"), name, sizeof name), "model.layers.12.self_attn.o_proj");
    assert_string_equal(recipe_module(STR("output.weight"), name, sizeof name), "lm_head");
    assert_string_equal(recipe_module(STR("blk.1.ssm_in.weight"), name, sizeof name), "blk.1.ssm_in");
    assert_string_equal(recipe_module(STR("blk.1.ssm_in.weight"), name, 4), "blk");
}

/* A recipe on a model: what it ignores keeps 16 bits. */
static void a_recipe_makes_a_file(void **state) {
    (void)state;
    char dir[] = "/tmp/mote_recipe_XXXXXX", in[64], out[64], yaml[64], text[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(in, sizeof in, "%s/in.gguf", dir);
    (void)snprintf(out, sizeof out, "%s/out.gguf", dir);
    (void)snprintf(yaml, sizeof yaml, "%s/r.yaml", dir);
    (void)snprintf(text, sizeof text, "%s/t.txt", dir);
    mote_error err = {0};
    assert_int_equal(tiny_model_write(in, &(tiny_opts){.seed = 3}, &err), MOTE_OK);
    FILE *f = fopen(yaml, "w"), *t = fopen(text, "w");
    assert_true(f && t);
    (void)fputs("quant_stage:\n  quant_modifiers:\n    GPTQModifier: {scheme: W8A16, targets: ['re:model.layers.[0-9]+$'], ignore: [lm_head, 're:.*v_proj']}\n", f);
    for (int i = 0; i < 200; i++) (void)fputs(i % 3 ? "hello world " : "the house ", t);
    assert_true(!fclose(f) && !fclose(t));
    const char *texts[] = {text};
    mote_calibrate_options o = {.text = texts, .n_text = 1, .n_seqs = 4, .n_ctx = 32};
    mote_calibrate_report r;
    if (mote_compress(in, out, yaml, &o, &r, &err) != MOTE_OK) fail_msg("%s", err.message);
    assert_int_equal(r.n_matrices, 12);
    mote_calibrate_report_free(&r);
    model_file *m;
    assert_int_equal(model_file_open(&m, out, 0, &err), MOTE_OK);
    assert_int_equal(model_file_find_tensor(m, "blk.1.attn_v.weight")->type, QUANT_F16);
    assert_int_equal(model_file_find_tensor(m, "blk.1.attn_q.weight")->type, QUANT_Q8_0);
    assert_int_equal(model_file_find_tensor(m, "output.weight")->type, QUANT_F16);
    model_file_close(&m);
    const char *all[] = {in, out, yaml, text};
    for (size_t i = 0; i < COUNT_OF(all); i++) (void)unlink(all[i]);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_become_one_pass), cmocka_unit_test(what_cannot_be_followed_is_named),
        cmocka_unit_test(modules_have_their_own_names), cmocka_unit_test(a_recipe_makes_a_file),
    };
    return cmocka_run_group_tests_name("recipe", tests, NULL, NULL);
}
