/* heads_file_test.c: heads files are read as they were written, and wrong ones are refused with their reason. */
#include "heads_file.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "ok.h"

static void what_is_written_is_read(void **unused) {
    (void)unused;
    const tiny_opts t = {.seed = 3};
    OK(tiny_model_write(in_folder("tiny.gguf"), &t, &e_));
    const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        heads_plan p = {.layer = {1, 2, 2}, .offset = {0, 1, 2}, .n = 3, .size = 0.5f, .type = types[i], .bias = i == 1, .n_likely = 5 * i, .seed = i};
        OK(heads_file_write(in_folder("heads.gguf"), in_folder("tiny.gguf"), &p, &e_));
        heads *h;
        OK(heads_open(&h, in_folder("heads.gguf"), &(heads_base){.arch = STR("llama"), .n_layer = 2, .n_vocab = TINY_VOCAB}, &e_));
        assert_int_equal(h->n, 3);
        for (size_t k = 0; k < h->n; k++) {
            assert_int_equal(h->one[k].layer, p.layer[k]);
            assert_int_equal(h->one[k].offset, p.offset[k]);
            assert_true(h->one[k].accuracy < 0);
            assert_int_equal(h->one[k].weight->type, types[i]);
            assert_true((h->one[k].bias != NULL) == p.bias);
            assert_true((h->one[k].token != NULL) == (k > 0) && (h->one[k].norm != NULL) == (k < 2));
        }
        int64_t id;
        assert_true((h->tokens != NULL) == (i > 0));
        if (h->tokens) assert_true(h->tokens->count == 5 * i && kv_at_int(h->tokens, 4, &id) && id == 12);
        heads_close(&h);
    }
}

/* ---- what is wrong ---- */

enum { D = 32 };
typedef struct lie {
    const char *says;
    const char *type, *arch, *form; /* NULL: right */
    uint32_t n_embd, n_layer, n_vocab; /* 0: right */
    int32_t layer[3], offset[3];
    size_t n, n_offsets;  /* 0: 2 */
    int32_t accuracy;     /* 0: not there; else times 0.01 */
    uint64_t cols, norm;  /* 0: right */
    quant_type norm_type;
    float value;          /* first of the norm; 0: 1 */
    bool no_weight, more, floats;
    bool no_token;        /* Medusa heads without a matrix for the token */
    int32_t tokens[3];    /* likely ones */
    size_t n_tokens;
    uint64_t gate;        /* numbers of head 1's; 0: none */
    float gate_value;     /* the last of them; 0: 1 */
} lie;

static void put_list(gguf_writer *w, const char *key, const void *v, kv_type type, size_t n) {
    const kv k = {.key = str_of(key), .type = KV_ARRAY, .elem = type, .count = n, .elems = v};
    OK(gguf_put_kv(w, &k, &e_));
}

static void write_lie(const lie *l) {
    gguf_writer *w;
    size_t n = l->n ? l->n : 2, n_data = 0;
    static float x[1 << 16];
    const float share[3] = {0.01f * (float)l->accuracy, 0.5f, 0.5f};
    char name[64];
    OK(gguf_writer_open(&w, in_folder("lie.gguf"), 0, &e_));
    OK(gguf_put_str(w, "general.type", str_of(l->type ? l->type : "heads"), &e_));
    OK(gguf_put_str(w, "general.architecture", str_of(l->arch ? l->arch : "llama"), &e_));
    OK(gguf_put_str(w, HEADS_KEY_FORM, str_of(l->form ? l->form : HEADS_FORM_CHAIN), &e_));
    if (l->n_embd != 1) OK(gguf_put_u32(w, HEADS_KEY_N_EMBD, l->n_embd ? l->n_embd : D, &e_));
    OK(gguf_put_u32(w, HEADS_KEY_N_LAYER, l->n_layer ? l->n_layer : 3, &e_));
    OK(gguf_put_u32(w, HEADS_KEY_N_VOCAB, l->n_vocab ? l->n_vocab : 40, &e_));
    put_list(w, HEADS_KEY_LAYER, l->layer, l->floats ? KV_F32 : KV_I32, n);
    put_list(w, HEADS_KEY_OFFSET, l->offset, KV_I32, l->n_offsets ? l->n_offsets : n);
    if (l->n_tokens) put_list(w, HEADS_KEY_TOKENS, l->tokens, KV_I32, l->n_tokens);
    if (l->accuracy) put_list(w, HEADS_KEY_ACCURACY, share, KV_F32, n);
    for (size_t i = 0; i < MIN(n, (size_t)3); i++) {
        const uint64_t norm[4] = {l->norm ? l->norm : D, 1, 1, 1}, mat[4] = {l->cols ? l->cols : D, D, 1, 1};
        (void)snprintf(name, sizeof name, "head.%zu.norm.weight", i);
        if (l->offset[i] <= 1) OK(gguf_put_tensor(w, str_of(name), l->norm_type, 1, norm, &e_));
        if (l->offset[i] <= 1) n_data += norm[0] * (l->norm_type == QUANT_F16 ? 2 : 4);
        (void)snprintf(name, sizeof name, "head.%zu.weight", i);
        if (!l->no_weight) OK(gguf_put_tensor(w, str_of(name), QUANT_F32, 2, mat, &e_));
        if (!l->no_weight) n_data += mat[0] * D * 4;
        if (l->offset[i] <= 0 || l->no_token) continue;
        (void)snprintf(name, sizeof name, "head.%zu.token.weight", i);
        OK(gguf_put_tensor(w, str_of(name), QUANT_F32, 2, mat, &e_));
        n_data += mat[0] * D * 4;
    }
    if (l->more) OK(gguf_put_tensor(w, STR("head.9.weight"), QUANT_F32, 1, (const uint64_t[]){D, 1, 1, 1}, &e_));
    if (l->more) n_data += D * 4;
    if (l->gate) OK(gguf_put_tensor(w, STR("head.1.gate"), QUANT_F32, 1, (const uint64_t[]){l->gate, 1, 1, 1}, &e_));
    n_data += l->gate * 4;
    for (size_t i = 0; i < COUNT_OF(x); i++) x[i] = 1;
    if (l->value != 0) x[0] = l->value;
    if (l->gate_value != 0) x[n_data / 4 - 1] = l->gate_value;
    OK(gguf_writer_begin(w, &e_));
    OK(gguf_write_data(w, x, n_data, &e_));
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
}

static void wrong_files_are_refused(void **unused) {
    (void)unused;
    const lie lies[] = {
        {.says = "general.type is 'adapter'", .type = "adapter", .layer = {1, 2}},
        {.says = "made for architecture 'gemma', the model's is 'llama'", .arch = "gemma", .layer = {1, 2}},
        {.says = "heads of the form 'silu'", .form = "silu", .layer = {1, 2}},
        {.says = "width 64, this one has 32", .n_embd = 64, .layer = {1, 2}},
        {.says = "lacks 'mote.heads.n_embd'", .n_embd = 1, .layer = {1, 2}},
        {.says = "layers 4, this one has 3", .n_layer = 4, .layer = {1, 2}},
        {.says = "vocabulary 41, this one has 40", .n_vocab = 41, .layer = {1, 2}},
        {.says = "is 0 for head 0", .layer = {0, 2}},
        {.says = "is 4 for head 1; expected 1 to 3", .layer = {1, 4}},
        {.says = "is 17 for head 1", .layer = {1, 3}, .offset = {0, 17}},
        {.says = "is -1 for head 0", .layer = {3, 3}, .offset = {-1, 1}},
        {.says = "head 1 reads layer 2 of 3 and tells token 1 ahead", .layer = {1, 2}, .offset = {0, 1}},
        {.says = "head 0 reads layer 3 of 3 and tells token 0 ahead", .layer = {3, 3}, .offset = {0, 1}},
        {.says = "not in the order of their layers", .layer = {2, 2}},
        {.says = "tokens 1, 2, … ahead", .layer = {3, 3}, .offset = {2, 1}},
        {.says = "with a number for each head", .layer = {1, 2}, .n_offsets = 1},
        {.says = "not a list of whole numbers", .layer = {1, 2}, .floats = true},
        {.says = "is no share", .layer = {1, 2}, .accuracy = 150},
        {.says = "'head.0.weight' is [64, 32]; expected [32, 32]", .layer = {1, 2}, .cols = 64},
        {.says = "'head.0.norm.weight' is not 32 numbers of type F32", .layer = {1, 2}, .norm = 33},
        {.says = "'head.0.norm.weight' is not 32 numbers of type F32", .layer = {1, 2}, .norm_type = QUANT_F16},
        {.says = "not finite, at 0", .layer = {1, 2}, .value = NAN},
        {.says = "head 0 lacks 'head.0.weight'", .layer = {1, 2}, .no_weight = true},
        {.says = "5 tensors, of which 4 are of its 2 heads", .layer = {1, 2}, .more = true},
        {.says = "'head.1.gate' is not 34 numbers of type F32", .layer = {1, 2}, .gate = 32},
        {.says = "'head.1.gate': its factor of what the exit says is -1", .layer = {1, 2}, .gate = 34, .gate_value = -1},
        {.says = "'head.1.gate' holds a number that is not finite, at 33", .layer = {1, 2}, .gate = 34, .gate_value = NAN},
        {.says = "head 1 lacks 'head.1.token.weight'", .layer = {1, 3}, .offset = {0, 1}, .no_token = true},
        {.says = "head 0: Medusa heads of the form 'affine' do not see the token that was drawn", .form = "affine", .layer = {3, 3}, .offset = {1, 2}},
        {.says = "is no ascending list of tokens below 40, at 1", .layer = {1, 2}, .tokens = {3, 40}, .n_tokens = 2},
        {.says = "is no ascending list of tokens below 40, at 2", .layer = {1, 2}, .tokens = {3, 7, 7}, .n_tokens = 3},
        {.says = "is no ascending list of tokens below 40, at 0", .layer = {1, 2}, .tokens = {-1}, .n_tokens = 1},
        {.says = "head 1 has a gate, which only an exit needs", .layer = {1, 3}, .offset = {0, 1}, .gate = 34},
    };
    const heads_base base = {.arch = STR("llama"), .n_layer = 3, .n_embd = D, .n_vocab = 40};
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        heads *h;
        mote_error e = {0};
        write_lie(&lies[i]);
        if (heads_open(&h, in_folder("lie.gguf"), &base, &e) == MOTE_OK) fail_msg("opened: expected '%s'", lies[i].says);
        assert_null(h);
        if (!strstr(e.message, lies[i].says)) fail_msg("expected '%s' in '%s'", lies[i].says, e.message);
    }
    heads *h;
    mote_error e = {0};
    write_lie(&(lie){.layer = {1, 3}, .offset = {0, 1}, .accuracy = 40});
    OK(heads_open(&h, in_folder("lie.gguf"), &base, &e_));
    assert_true(fabsf(h->one[0].accuracy - 0.4f) < 1e-6f);
    heads_close(&h);
    assert_int_not_equal(heads_open(&h, in_folder("nowhere"), &base, &e), MOTE_OK);
    assert_null(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(wrong_files_are_refused)};
    char command[200];
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
