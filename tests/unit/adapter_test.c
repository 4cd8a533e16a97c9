/* adapter_test.c: adapters in files and at work: what is wrong is refused with its reason; a model with adapters gives the
 * same logits however its tokens are batched and whatever the number of threads, and those of merged weights. */
#include "format/adapter.h"
#include "format/edit.h"
#include "model/model.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "nmse.h"
#include "ok.h"

enum { LEN = 20 };

static void fill(rng *r, float *x, size_t n, float by) {
    for (size_t i = 0; i < n; i++) x[i] = by * (float)(rng_double(r) - 0.5);
}

/* A random adapter for two of the tiny model's matrices. */
static void make_adapter(const char *path, const model_file *base, size_t rank, bool dora, uint64_t seed) {
    adapter *ad;
    rng r;
    rng_seed(&r, seed, 0);
    OK(adapter_new(&ad, base, &e_));
    static const char *const names[] = {"blk.0.attn_q.weight", "blk.0.attn_output.weight", "blk.1.ffn_down.weight", "output.weight"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const tensor_info *t = model_file_find_tensor(base, names[i]);
        adapter_pair *p;
        if (!t) continue;
        OK(adapter_add(ad, t, rank + i, dora, &p, &e_));
        p->scale = 0.7f + (float)i;
        fill(&r, p->a, p->rank * p->cols, 0.5f);
        fill(&r, p->b, p->rows * p->rank, 0.5f);
        for (size_t k = 0; p->m && k < p->rows; k++) p->m[k] = 0.5f + (float)rng_double(&r);
    }
    assert_true(ad->n >= 3);
    OK(adapter_write_gguf(ad, path, &e_));
    adapter_close(&ad);
}

typedef struct setup {
    const char *model;
    model_adapter ad[2];
    size_t n_ad;
    int threads;
    bool exact, one_by_one;
} setup;

static float *run(const setup *u, size_t *n) {
    pool *p;
    model *m;
    state *s;
    int32_t ids[LEN], want[LEN];
    model_opts o = {.adapters = u->ad, .n_adapters = u->n_ad};
    OK(pool_open(&p, u->threads, &e_));
    OK(model_open(&m, u->model, &o, p, &e_));
    state_opts so = {.n_ctx = 64, .n_seq = 1, .n_batch = LEN, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = u->exact};
    OK(state_open(&s, m, &so, p, &e_));
    size_t vocab = model_get_info(m)->n_vocab;
    *n = LEN * vocab;
    float *logits = MEM_NEW_N(float, *n);
    assert_non_null(logits);
    for (int i = 0; i < LEN; i++) ids[i] = 20 + i * 7 % 200, want[i] = i;
    for (size_t at = 0, step = u->one_by_one ? 1 : LEN; at < LEN; at += step) {
        model_seg seg = {.pos0 = at, .n = step};
        model_batch b = {.ids = ids + at, .n = step, .segs = &seg, .n_segs = 1, .want = want, .n_want = step, .logits = logits + at * vocab};
        OK(model_forward(s, &b, &e_));
    }
    state_close(&s);
    model_close(&m);
    pool_close(&p);
    return logits;
}

static const char *write_tiny(quant_type type, const char *name) {
    tiny_opts o = {.type = type, .seed = 3};
    OK(tiny_model_write(in_folder(name), &o, &e_));
    return in_folder(name);
}

static void batches_and_threads_do_not_matter(void **unused) {
    (void)unused;
    char path[300];
    (void)snprintf(path, sizeof path, "%s", write_tiny(QUANT_Q8_0, "q8.gguf"));
    model_file *base;
    OK(model_file_open(&base, path, 0, &e_));
    make_adapter(in_folder("a.gguf"), base, 5, false, 1);
    make_adapter(in_folder("b.gguf"), base, 16, false, 2);
    model_file_close(&base);
    char a[300], b[300];
    (void)snprintf(a, sizeof a, "%s", in_folder("a.gguf"));
    (void)snprintf(b, sizeof b, "%s", in_folder("b.gguf"));
    for (int exact = 0; exact < 2; exact++) {
        setup u = {.model = path, .ad = {{a, 1}, {b, -0.5f}}, .n_ad = 2, .threads = 1, .exact = exact};
        size_t n;
        float *one = run(&u, &n), *other;
        u.threads = 3;
        other = run(&u, &n);
        assert_memory_equal(one, other, n * sizeof *one);
        mem_free(other);
        u.one_by_one = true;
        other = run(&u, &n);
        assert_memory_equal(one, other, n * sizeof *one);
        mem_free(other);
        u.threads = 1;
        u.n_ad = 0;
        other = run(&u, &n);
        assert_true(nmse(one, other, n) > 1e-3);
        mem_free(other);
        mem_free(one);
    }
}

/* The file with the adapter in its weights. */
static void merge(const char *from, const char *lora, float by, const char *to) {
    model_file *base;
    adapter *ad;
    model_edit *e;
    float *w[8];
    OK(model_file_open(&base, from, 0, &e_));
    OK(adapter_open(&ad, lora, base, &e_));
    OK(edit_open(&e, base, &e_));
    for (size_t i = 0; i < ad->n; i++) {
        const adapter_pair *p = &ad->pairs[i];
        char name[100];
        (void)snprintf(name, sizeof name, "%.*s", STR_ARG(p->name));
        const tensor_info *t = model_file_find_tensor(base, name);
        w[i] = MEM_NEW_N(float, p->rows * p->cols);
        assert_non_null(w[i]);
        quant_get((int)t->type)->decode(w[i], t->data, p->rows * p->cols);
        OK(adapter_merge(p, by, w[i], &e_));
        OK(edit_put(e, t->name, QUANT_F32, 2, t->ne, w[i], NULL, &e_));
    }
    OK(edit_write(e, to, &e_));
    for (size_t i = 0; i < ad->n; i++) mem_free(w[i]);
    edit_close(&e);
    adapter_close(&ad);
    model_file_close(&base);
}

static void an_adapter_equals_its_merge(void **unused) {
    (void)unused;
    char path[300], lora[300], merged[300];
    (void)snprintf(path, sizeof path, "%s", write_tiny(QUANT_F32, "f32.gguf"));
    (void)snprintf(lora, sizeof lora, "%s", in_folder("c.gguf"));
    (void)snprintf(merged, sizeof merged, "%s", in_folder("merged.gguf"));
    for (int dora = 0; dora < 2; dora++) {
        model_file *base;
        size_t n;
        OK(model_file_open(&base, path, 0, &e_));
        make_adapter(lora, base, 4, dora, 5);
        model_file_close(&base);
        merge(path, lora, 0.75f, merged);
        float *x = run(&(setup){.model = path, .ad = {{lora, 0.75f}}, .n_ad = 1, .threads = 1, .exact = true}, &n);
        float *y = run(&(setup){.model = merged, .threads = 1, .exact = true}, &n);
        assert_true(nmse(x, y, n) < 1e-10);
        mem_free(x);
        mem_free(y);
    }
}

/* ---- what is wrong ---- */

typedef struct lie {
    const char *type, *kind, *arch, *tensor, *says;
    float alpha;
    uint64_t a[2], b[2];
    float value;
} lie;

static void refuse_gguf(const lie *l, const model_file *base) {
    gguf_writer *w;
    adapter *ad;
    mote_error e = {0};
    char name[100];
    static float x[1 << 16];
    x[0] = l->value;
    OK(gguf_writer_open(&w, in_folder("lie.gguf"), 0, &e_));
    OK(gguf_put_str(w, "general.type", str_of(l->type), &e_));
    OK(gguf_put_str(w, "adapter.type", str_of(l->kind), &e_));
    OK(gguf_put_str(w, "general.architecture", str_of(l->arch), &e_));
    OK(gguf_put_f32(w, "adapter.lora.alpha", l->alpha, &e_));
    (void)snprintf(name, sizeof name, "%s.lora_a", l->tensor);
    OK(gguf_put_tensor(w, str_of(name), QUANT_F32, 2, l->a, &e_));
    (void)snprintf(name, sizeof name, "%s.lora_b", l->tensor);
    if (l->b[0]) OK(gguf_put_tensor(w, str_of(name), QUANT_F32, 2, l->b, &e_));
    OK(gguf_writer_begin(w, &e_));
    OK(gguf_write_data(w, x, (size_t)(l->a[0] * l->a[1]) * 4, &e_));
    if (l->b[0]) OK(gguf_write_data(w, x, (size_t)(l->b[0] * l->b[1]) * 4, &e_));
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
    if (adapter_open(&ad, in_folder("lie.gguf"), base, &e) == MOTE_OK) fail_msg("opened: expected '%s'", l->says);
    assert_null(ad);
    if (!strstr(e.message, l->says)) fail_msg("expected '%s' in '%s'", l->says, e.message);
}

static void wrong_gguf_is_refused(void **unused) {
    (void)unused;
    model_file *base;
    OK(model_file_open(&base, write_tiny(QUANT_F32, "base.gguf"), 0, &e_));
    const tensor_info *q = model_file_find_tensor(base, "blk.0.attn_q.weight");
    uint64_t cols = q->ne[0], rows = q->ne[1];
    const char *name = "blk.0.attn_q.weight";
    const lie lies[] = {
        {"model", "lora", "llama", name, "general.type is 'model'", 8, {cols, 4}, {4, rows}, 0},
        {"adapter", "ia3", "llama", name, "only 'lora'", 8, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "qwen2", name, "made for architecture 'qwen2', the model's is 'llama'", 8, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", "blk.9.attn_q.weight", "'blk.9.attn_q.weight', which the model does not have", 8, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", name, "not a number", NAN, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", name, "adapter.lora.alpha is -1", -1, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", name, "expected a number from 0 on", INFINITY, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", name, "the tensor is [", 8, {cols / 2, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", name, "the tensor is [", 8, {cols, 4}, {5, rows}, 0},
        {"adapter", "lora", "llama", name, "the tensor is [", 8, {cols, 4}, {4, rows + 1}, 0},
        {"adapter", "lora", "llama", name, "lacks lora_b", 8, {cols, 4}, {0, 0}, 0},
        {"adapter", "lora", "llama", name, "not finite", 8, {cols, 4}, {4, rows}, NAN},
        {"adapter", "lora", "llama", "token_embd.weight", "merge it first", 8, {cols, 4}, {4, rows}, 0},
        {"adapter", "lora", "llama", "blk.0.attn_norm.weight", "", 8, {cols, 4}, {4, 1}, 0},
    };
    for (size_t i = 0; i < COUNT_OF(lies); i++) refuse_gguf(&lies[i], base);
    adapter *ad;
    mote_error e = {0};
    assert_int_not_equal(adapter_open(&ad, in_folder("base.gguf"), base, &e), MOTE_OK);
    assert_int_not_equal(adapter_open(&ad, in_folder("nowhere"), base, &e), MOTE_OK);
    adapter_pair *p;
    OK(adapter_new(&ad, base, &e_));
    assert_int_equal(adapter_add(ad, q, 0, false, &p, &e), MOTE_E_RANGE);
    assert_int_equal(adapter_add(ad, q, (size_t)1 << 31, false, &p, &e), MOTE_E_RANGE);
    adapter_close(&ad);
    model_file_close(&base);
}

static void refuse_peft(const char *config, uint64_t rank_a, uint64_t in, uint64_t out, uint64_t rank_b, const char *module,
                        const model_file *base, const char *says) {
    static float x[1 << 16];
    char na[200], nb[200];
    adapter *ad;
    mote_error e = {0};
    (void)mkdir(in_folder("peft"), 0777);
    put_text("peft/adapter_config.json", config);
    (void)snprintf(na, sizeof na, "base_model.model.%s.lora_A.weight", module);
    (void)snprintf(nb, sizeof nb, "base_model.model.%s.lora_B.weight", module);
    st_tensor t[2] = {{.name = str_of(na), .dtype = STR("F32"), .n_dims = 2, .shape = {rank_a, in}, .data = (const unsigned char *)x, .size = rank_a * in * 4},
                      {.name = str_of(nb), .dtype = STR("F32"), .n_dims = 2, .shape = {out, rank_b}, .data = (const unsigned char *)x, .size = out * rank_b * 4}};
    OK(st_write(in_folder("peft/adapter_model.safetensors"), t, 2, NULL, &e_));
    mote_status s = adapter_open(&ad, in_folder("peft"), base, &e);
    if (!says) {
        if (s != MOTE_OK) fail_msg("%s", e.message);
        adapter_close(&ad);
        return;
    }
    if (s == MOTE_OK) fail_msg("opened: expected '%s'", says);
    if (!strstr(e.message, says)) fail_msg("expected '%s' in '%s'", says, e.message);
}

static void wrong_peft_is_refused(void **unused) {
    (void)unused;
    model_file *base;
    OK(model_file_open(&base, write_tiny(QUANT_F32, "base.gguf"), 0, &e_));
    const tensor_info *q = model_file_find_tensor(base, "blk.0.attn_q.weight");
    uint64_t cols = q->ne[0], rows = q->ne[1];
    const char *name = "model.layers.0.self_attn.q_proj";
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8}", 4, cols, rows, 4, name, base, NULL);
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":8,\"rank_pattern\":{\"q_proj\":4}}", 4, cols, rows, 4, name, base, NULL);
    refuse_peft("{\"peft_type\":\"IA3\",\"r\":4}", 4, cols, rows, 4, name, base, "peft_type is 'IA3'");
    refuse_peft("[]", 4, cols, rows, 4, name, base, "not an object");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":0}", 4, cols, rows, 4, name, base, "r is 0");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":2147483648}", 4, cols, rows, 4, name, base, "r is 2147483648");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":-4}", 4, cols, rows, 4, name, base, "r is -4");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":NaN}", 4, cols, rows, 4, name, base, "adapter_config.json");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1e999}", 4, cols, rows, 4, name, base, "adapter_config.json");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":-1}", 4, cols, rows, 4, name, base, "make no sense");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"bias\":\"all\"}", 4, cols, rows, 4, name, base, "bias 'all'");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"modules_to_save\":[\"lm_head\"]}", 4, cols, rows, 4, name, base, "modules_to_save");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4,\"alpha_pattern\":{\"q_.*\":3}}", 4, cols, rows, 4, name, base, "regular expression");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4}", 3, cols, rows, 3, name, base, "lora_A has rank 3, adapter_config.json says 4");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4}", 4, cols, rows, 5, name, base, "[rank, in] and [out, rank]");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4}", 4, cols + 1, rows, 4, name, base, "made for another model");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4}", 4, cols, rows / 2, 4, name, base, "made for another model");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4}", 4, cols, rows, 4, "model.layers.77.self_attn.q_proj", base, "not used by the model");
    refuse_peft("{\"peft_type\":\"LORA\",\"r\":4}", 4, cols, rows, 4, "model.layers.0.self_attn.nobody", base, "no place for tensor");
    model_file_close(&base);
}

/* A damaged adapter is an error or an adapter, never a crash. */
static void damaged_files_do_no_harm(void **unused) {
    (void)unused;
    model_file *base;
    file_map m;
    OK(model_file_open(&base, write_tiny(QUANT_F32, "base.gguf"), 0, &e_));
    make_adapter(in_folder("good.gguf"), base, 2, true, 9);
    OK(file_open(&m, in_folder("good.gguf"), FILE_READ, &e_));
    unsigned char *copy = MEM_NEW_N(unsigned char, m.n);
    assert_non_null(copy);
    rng r;
    rng_seed(&r, 4, 0);
    for (int i = 0; i < 300; i++) {
        memcpy(copy, m.p, m.n);
        for (int k = 0; k < 3; k++) copy[rng_below(&r, (uint32_t)MIN(m.n, (size_t)900))] = (unsigned char)rng_u32(&r);
        FILE *f = fopen(in_folder("bad.gguf"), "wb");
        assert_non_null(f);
        size_t n = i % 3 ? m.n : rng_below(&r, (uint32_t)m.n);
        assert_int_equal(fwrite(copy, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
        adapter *ad;
        mote_error e = {0};
        if (adapter_open(&ad, in_folder("bad.gguf"), base, &e) != MOTE_OK) assert_true(e.message[0]);
        adapter_close(&ad);
    }
    mem_free(copy);
    file_close(&m);
    model_file_close(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_and_threads_do_not_matter), cmocka_unit_test(an_adapter_equals_its_merge),
        cmocka_unit_test(wrong_gguf_is_refused),             cmocka_unit_test(wrong_peft_is_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
    };
    char command[200];
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
