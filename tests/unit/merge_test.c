/* merge_test.c: adapters into weights and what survives; two models into one. */
#include "compress/merging.h"
#include "format/adapter.h"
#include "report.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "ok.h"

static float *matrix(const char *path, const char *name, size_t *n) {
    model_file *f;
    OK(model_file_open(&f, path, 0, &e_));
    const tensor_info *t = model_file_find_tensor(f, name);
    assert_non_null(t);
    *n = (size_t)(t->ne[0] * t->ne[1]);
    float *x = MEM_NEW_N(float, *n);
    assert_non_null(x);
    quant_get((int)t->type)->decode(x, t->data, *n);
    model_file_close(&f);
    return x;
}

static void make_adapter(const char *base, const char *path, float size) {
    model_file *f;
    adapter *ad;
    adapter_pair *p;
    rng r;
    rng_seed(&r, 5, 0);
    OK(model_file_open(&f, base, 0, &e_));
    OK(adapter_new(&ad, f, &e_));
    OK(adapter_add(ad, model_file_find_tensor(f, "blk.0.attn_q.weight"), 3, false, &p, &e_));
    for (size_t i = 0; i < p->rank * p->cols; i++) p->a[i] = (float)(rng_double(&r) - 0.5);
    for (size_t i = 0; i < p->rows * p->rank; i++) p->b[i] = size * (float)(rng_double(&r) - 0.5);
    OK(adapter_write_gguf(ad, path, &e_));
    adapter_close(&ad);
    model_file_close(&f);
}

static void what_survives_is_measured(void **unused) {
    (void)unused;
    OK(tiny_model_write(in_folder("q4.gguf"), &(tiny_opts){.type = QUANT_Q4_0, .seed = 3}, &e_));
    make_adapter(in_folder("q4.gguf"), in_folder("small.gguf"), 0.02f);
    mote_adapter ad = {in_folder("small.gguf"), 1};
    mote_merge_opts o = mote_merge_opts_default();
    mote_merge_result same = {0}, chosen = {0}, fine = {0}, exact = {0};
    o.model = in_folder("q4.gguf");
    o.out = in_folder("merged.gguf");
    o.adapters = &ad;
    o.n_adapters = 1;
    OK(merge_run(&o, &chosen, &e_)); /* a tune that Q4_0 would lose is not lost */
    assert_true(chosen.n_changed == 1 && chosen.n_widened == 1 && chosen.survived >= 0.9 && strcmp(chosen.formats, "q8_0") == 0);
    o.type = "same";
    OK(merge_run(&o, &same, &e_));
    assert_true(same.n_changed == 1 && same.n_widened == 0 && strcmp(same.formats, "q4_0") == 0 && same.survived < 0.9);
    o.type = "q8_0";
    OK(merge_run(&o, &fine, &e_));
    o.type = "f32";
    OK(merge_run(&o, &exact, &e_));
    if (!(exact.error < 1e-6 && fine.error < same.error / 2 && same.error > 0.1 && fabs(exact.survived - 1) < 1e-6))
        fail_msg("errors: q4_0 %g, q8_0 %g, f32 %g", same.error, fine.error, exact.error);
    char measured[96];
    (void)snprintf(measured, sizeof measured, "f32 %.1f %%, q8_0 %.1f %%, q4_0 %.1f %%", 100 * exact.survived, 100 * fine.survived, 100 * same.survived);
    if (getenv("MOTE_REPORT")) report_row("merge", "a small tune that is left after merging", measured, "f32 100 %", "ok", "-", "tiny llama, adapter into q4_0");
    size_t n;
    float *was = matrix(in_folder("q4.gguf"), "blk.0.attn_q.weight", &n), *is = matrix(in_folder("merged.gguf"), "blk.0.attn_q.weight", &n);
    model_file *f;
    adapter *a;
    OK(model_file_open(&f, in_folder("q4.gguf"), 0, &e_));
    OK(adapter_open(&a, ad.path, f, &e_));
    OK(adapter_merge(&a->pairs[0], 1, was, &e_));
    for (size_t i = 0; i < n; i++) assert_true(fabsf(was[i] - is[i]) < 1e-6f);
    adapter_close(&a);
    model_file_close(&f);
    mem_free(was);
    mem_free(is);
}

static void two_models_become_one(void **unused) {
    (void)unused;
    static const char *const methods[] = {"linear", "slerp", "ties", "dare"};
    for (uint64_t i = 0; i < 3; i++) {
        char name[20];
        (void)snprintf(name, sizeof name, "m%d.gguf", (int)i);
        OK(tiny_model_write(in_folder(name), &(tiny_opts){.type = QUANT_F32, .seed = 10 + i}, &e_));
    }
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        mote_merge_opts o = mote_merge_opts_default();
        mote_merge_result r = {0};
        mote_error e = {0};
        o.model = in_folder("m0.gguf");
        o.with = in_folder("m1.gguf");
        o.out = in_folder("both.gguf");
        o.method = methods[i];
        o.weight = 0.3;
        if (i >= 2) {
            assert_int_equal(merge_run(&o, &r, &e), MOTE_E_USAGE);
            o.base = in_folder("m2.gguf");
        }
        r = (mote_merge_result){0};
        OK(merge_run(&o, &r, &e_));
        assert_true(r.n_changed == r.n_tensors && r.error < 1e-6);
    }
    mote_merge_opts o = mote_merge_opts_default();
    mote_merge_result r = {0};
    mote_error e = {0};
    OK(tiny_model_write(in_folder("wide.gguf"), &(tiny_opts){.type = QUANT_F32, .seed = 1, .n_more_unused = 7}, &e_));
    o.model = in_folder("m0.gguf");
    o.with = in_folder("wide.gguf");
    o.out = in_folder("both.gguf");
    assert_int_equal(merge_run(&o, &r, &e), MOTE_E_MISMATCH);
    o.weight = 2;
    assert_int_equal(merge_run(&o, &r, &e), MOTE_E_RANGE);
    o = mote_merge_opts_default();
    o.model = in_folder("m0.gguf");
    o.out = in_folder("both.gguf");
    assert_int_equal(merge_run(&o, &r, &e), MOTE_E_USAGE);
}

static void merged_numbers_are_right(void **unused) {
    (void)unused;
    const float a[4] = {1, 0, 4, -1}, b[4] = {0, 1, -2, 3}, base[4] = {0, 0, 0, 0};
    float y[4];
    OK(merge_arrays(y, a, b, NULL, 4, "linear", 0.25, 0.5, 0, &e_));
    assert_true(fabsf(y[0] - 0.75f) < 1e-6f && fabsf(y[2] - 2.5f) < 1e-6f);
    OK(merge_arrays(y, a, b, NULL, 2, "slerp", 0.5, 0.5, 0, &e_)); /* a quarter circle, halved */
    assert_true(fabsf(y[0] - sqrtf(0.5f)) < 1e-6f && fabsf(y[1] - sqrtf(0.5f)) < 1e-6f);
    OK(merge_arrays(y, a, b, base, 4, "ties", 0.5, 0.5, 0, &e_)); /* kept: 4 and one of ±1; 3 and -2; signs: + + */
    assert_true(fabsf(y[2] - 4) < 1e-6f && fabsf(y[3] - 3) < 1e-6f);
    OK(merge_arrays(y, a, b, base, 4, "dare", 0.5, 1, 7, &e_)); /* nothing dropped: the mean */
    assert_true(fabsf(y[2] - 1) < 1e-6f && fabsf(y[3] - 1) < 1e-6f);
    mote_error e = {0};
    assert_int_equal(merge_arrays(y, a, b, base, 4, "magic", 0.5, 1, 7, &e), MOTE_E_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_survives_is_measured), cmocka_unit_test(two_models_become_one), cmocka_unit_test(merged_numbers_are_right),
    };
    char command[200];
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
