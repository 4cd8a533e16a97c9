/* format_edit_test.c: a model with changes, written and read back; what it refuses; what a failure leaves. */
#include "format/edit.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

static char folder[] = "/tmp/mote_edit_XXXXXX", source[64], result[64];

static const uint64_t ne_a[] = {64, 2}, ne_c[] = {3};

static void write_source(uint32_t align) {
    static float a[128], c[3] = {7, 8, 9};
    for (int i = 0; i < 128; i++) a[i] = (float)i;
    gguf_writer *w;
    OK(gguf_writer_open(&w, source, align, &e_));
    OK(gguf_put_str(w, "general.architecture", STR("llama"), &e_));
    OK(gguf_put_u32(w, "llama.block_count", 2, &e_));
    OK(gguf_put_u32(w, "split.count", 0, &e_));
    OK(gguf_put_tensor(w, STR("a.weight"), QUANT_F32, 2, ne_a, &e_));
    OK(gguf_put_tensor(w, STR("b.weight"), QUANT_F32, 2, ne_a, &e_));
    OK(gguf_put_tensor(w, STR("c.weight"), QUANT_F32, 1, ne_c, &e_));
    OK(gguf_writer_begin(w, &e_));
    OK(gguf_write_data(w, a, sizeof a, &e_));
    OK(gguf_write_data(w, a, sizeof a, &e_));
    OK(gguf_write_data(w, c, sizeof c, &e_));
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
}

typedef struct fixture {
    model_file *f;
    model_edit *e;
} fixture;

static fixture opened(void) {
    fixture x;
    OK(model_file_open(&x.f, source, 0, &e_));
    OK(edit_open(&x.e, x.f, &e_));
    return x;
}
static void closed(fixture *x) {
    edit_close(&x->e);
    model_file_close(&x->f);
}

static float at(const model_file *f, const char *name, size_t i) {
    const tensor_info *t = model_file_find_tensor(f, name);
    assert_non_null(t);
    float x[256];
    size_t n = t->size / quant_get((int)t->type)->bytes * quant_get((int)t->type)->block;
    assert_true(i < n && n <= 256);
    quant_get((int)t->type)->decode(x, t->data, n);
    return x[i];
}

static void an_edit_without_changes_is_the_source(void **state) {
    (void)state;
    write_source(64);
    fixture x = opened();
    OK(edit_write(x.e, result, &e_));
    model_file *r;
    OK(model_file_open(&r, result, 0, &e_));
    assert_int_equal(model_file_n_tensors(r), 3);
    for (size_t i = 0; i < 3; i++) {
        const tensor_info *s = model_file_tensor(x.f, i), *t = model_file_tensor(r, i);
        assert_true(str_eq(s->name, t->name) && s->size == t->size && s->n_dims == t->n_dims);
        assert_memory_equal(s->data, t->data, s->size);
    }
    assert_int_equal(model_file_find(r, "general.alignment")->i, 64);
    assert_null(model_file_find(r, "split.count"));
    assert_null(model_file_find(r, "general.quantization_version"));
    model_file_close(&r);
    closed(&x);
}

static void tensors_are_replaced_added_dropped_and_renamed(void **state) {
    (void)state;
    write_source(0);
    fixture x = opened();
    float v[192];
    for (int i = 0; i < 192; i++) v[i] = (float)(i % 5) - 2.0f;
    OK(edit_put(x.e, STR("a.weight"), QUANT_Q8_0, 2, (uint64_t[]){32, 3}, v, NULL, &e_));
    OK(edit_put_bytes(x.e, STR("d.weight"), QUANT_F32, 1, (uint64_t[]){4}, v, &e_));
    OK(edit_rename(x.e, STR("c.weight"), STR("z.weight"), &e_));
    OK(edit_drop(x.e, STR("b.weight"), &e_));
    OK(edit_write(x.e, result, &e_));
    OK(edit_write(x.e, result, &e_)); /* and again, over it */
    closed(&x);
    model_file *r;
    OK(model_file_open(&r, result, 0, &e_));
    static const char *const names[] = {"a.weight", "z.weight", "d.weight"};
    assert_int_equal(model_file_n_tensors(r), 3);
    for (size_t i = 0; i < 3; i++) assert_true(str_is(model_file_tensor(r, i)->name, names[i]));
    assert_int_equal(model_file_find_tensor(r, "a.weight")->type, QUANT_Q8_0);
    assert_int_equal(model_file_find_tensor(r, "a.weight")->ne[1], 3);
    assert_true(fabsf(at(r, "a.weight", 95) - v[95]) < 0.02f);
    assert_true(at(r, "z.weight", 2) == 9.0f && at(r, "d.weight", 3) == 1.0f);
    assert_int_equal(model_file_find(r, "general.quantization_version")->i, 2);
    model_file_close(&r);
}

/* Names that were given up can be given anew; the last word counts. */
static void names_can_be_used_again(void **state) {
    (void)state;
    write_source(0);
    fixture x = opened();
    float v[4] = {1, 2, 3, 4};
    OK(edit_rename(x.e, STR("a.weight"), STR("t"), &e_));
    OK(edit_rename(x.e, STR("b.weight"), STR("a.weight"), &e_));
    OK(edit_drop(x.e, STR("a.weight"), &e_));
    OK(edit_rename(x.e, STR("t"), STR("a.weight"), &e_));
    OK(edit_put(x.e, STR("t"), QUANT_F32, 1, (uint64_t[]){4}, v, NULL, &e_));
    for (int i = 0; i < 100; i++) { /* the table of names grows */
        char name[16];
        (void)snprintf(name, sizeof name, "n%d", i);
        OK(edit_put(x.e, str_of(name), QUANT_F32, 1, (uint64_t[]){1}, v, NULL, &e_));
        if (i % 2) OK(edit_drop(x.e, str_of(name), &e_));
    }
    assert_int_equal(edit_drop(x.e, STR("b.weight"), NULL), MOTE_E_NOT_FOUND);
    assert_int_equal(edit_rename(x.e, STR("b.weight"), STR("q"), NULL), MOTE_E_NOT_FOUND);
    assert_int_equal(edit_rename(x.e, STR("t"), STR("n0"), NULL), MOTE_E_USAGE);
    assert_int_equal(edit_rename(x.e, STR("t"), STR(""), NULL), MOTE_E_USAGE);
    OK(edit_rename(x.e, STR("t"), STR("n1"), &e_));
    OK(edit_write(x.e, result, &e_));
    closed(&x);
    model_file *r;
    OK(model_file_open(&r, result, 0, &e_));
    assert_int_equal(model_file_n_tensors(r), 2 + 1 + 50);
    assert_true(at(r, "a.weight", 5) == 5.0f && at(r, "n1", 1) == 2.0f);
    assert_null(model_file_find_tensor(r, "t"));
    model_file_close(&r);
}

static void metadata_is_set_and_dropped(void **state) {
    (void)state;
    write_source(0);
    fixture x = opened();
    char text[] = "changed";
    static const str strings[] = {{"x", 1}, {"", 0}};
    int32_t numbers[] = {-1, 5};
    OK(edit_set_str(x.e, "general.architecture", (str){text, 7}, &e_));
    OK(edit_set_u32(x.e, "u", 1, &e_));
    OK(edit_set_u32(x.e, "u", 2, &e_));
    OK(edit_set_f32(x.e, "f", 0.5f, &e_));
    OK(edit_set_bool(x.e, "b", true, &e_));
    OK(edit_set_kv(x.e, &(kv){.key = STR("s"), .type = KV_ARRAY, .elem = KV_STRING, .count = 2, .strings = strings},
                   &e_));
    kv n = {.key = STR("n"), .type = KV_ARRAY, .elem = KV_I32, .count = 2, .elems = (const unsigned char *)numbers};
    OK(edit_set_kv(x.e, &n, &e_));
    OK(edit_drop_kv(x.e, "llama.block_count", &e_));
    OK(edit_drop_kv(x.e, "never there", &e_));
    memset(text, '?', sizeof text - 1); /* copies were made */
    numbers[1] = 0;
    OK(edit_write(x.e, result, &e_));
    closed(&x);
    model_file *r;
    OK(model_file_open(&r, result, 0, &e_));
    assert_true(str_is(model_file_find(r, "general.architecture")->s, "changed"));
    assert_true(str_is(model_file_kv(r, 0)->key, "general.architecture")); /* in its place */
    assert_int_equal(model_file_find(r, "u")->i, 2);
    assert_int_equal(model_file_find(r, "b")->type, KV_BOOL);
    assert_true(model_file_find(r, "f")->f == 0.5);
    assert_true(str_is(kv_at_str(model_file_find(r, "s"), 0), "x"));
    int64_t v;
    assert_true(kv_at_int(model_file_find(r, "n"), 1, &v) && v == 5);
    assert_null(model_file_find(r, "llama.block_count"));
    assert_null(model_file_find(r, "never there"));
    model_file_close(&r);
}

static void importance_counts_per_row_and_expert(void **state) {
    (void)state;
    write_source(0);
    fixture x = opened();
    static float v[2 * 2 * 32], w[2 * 32];
    for (int i = 0; i < 128; i++) v[i] = sinf((float)i * 0.7f);
    for (int i = 0; i < 64; i++) w[i] = i == 3 || i == 32 + 20 ? 1000.0f : 0.01f;
    OK(edit_put(x.e, STR("m"), QUANT_Q4_0, 3, (uint64_t[]){32, 2, 2}, v, w, &e_));
    OK(edit_put(x.e, STR("p"), QUANT_Q4_0, 3, (uint64_t[]){32, 2, 2}, v, NULL, &e_));
    OK(edit_write(x.e, result, &e_));
    closed(&x);
    model_file *r;
    OK(model_file_open(&r, result, 0, &e_));
    float with = 0, without = 0;
    for (size_t row = 0; row < 4; row++) {
        size_t i = row * 32 + (row < 2 ? 3 : 20);
        with += fabsf(at(r, "m", i) - v[i]);
        without += fabsf(at(r, "p", i) - v[i]);
    }
    assert_true(with < 0.5f * without);
    model_file_close(&r);
}

static void the_output_may_be_the_source(void **state) {
    (void)state;
    write_source(0);
    fixture x = opened();
    float v[128] = {42};
    OK(edit_put(x.e, STR("a.weight"), QUANT_F16, 2, ne_a, v, NULL, &e_));
    OK(edit_write(x.e, source, &e_));
    closed(&x);
    model_file *r;
    OK(model_file_open(&r, source, 0, &e_));
    assert_true(at(r, "a.weight", 0) == 42.0f && at(r, "b.weight", 100) == 100.0f);
    model_file_close(&r);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    write_source(0);
    (void)unlink(result);
    fixture x = opened();
    mote_error e = {0};
    float v[64] = {0};
    uint64_t huge[] = {UINT64_MAX / 4, 64, 64, 64};
    assert_int_not_equal(edit_put(x.e, STR("a"), QUANT_F32, 4, huge, v, NULL, &e), MOTE_OK);
    assert_int_equal(edit_put(x.e, STR("a"), QUANT_F32, 0, huge, v, NULL, NULL), MOTE_E_USAGE);
    assert_int_equal(edit_put(x.e, STR("a"), QUANT_F32, 5, huge, v, NULL, NULL), MOTE_E_USAGE);
    assert_int_equal(edit_put(x.e, STR("a"), QUANT_F32, 2, (uint64_t[]){4, 0}, v, NULL, NULL), MOTE_E_USAGE);
    assert_int_equal(edit_put(x.e, STR("a"), QUANT_Q4_0, 1, (uint64_t[]){33}, v, NULL, &e), MOTE_E_FORMAT);
    assert_non_null(strstr(e.message, "'a'"));
    assert_int_equal(edit_put(x.e, STR("a"), (quant_type)63, 1, (uint64_t[]){32}, v, NULL, NULL), MOTE_E_USAGE);
    /* A number that is none, before and after encoding */
    static const float bad[] = {NAN, INFINITY, 1e6f};
    for (int i = 0; i < 3; i++) {
        v[33] = bad[i];
        OK(edit_put(x.e, STR("bad"), QUANT_F16, 2, (uint64_t[]){32, 2}, v, NULL, &e_));
        assert_int_equal(edit_write(x.e, result, &e), MOTE_E_RANGE);
        assert_non_null(strstr(e.message, "'bad': weight 33"));
        assert_int_equal(access(result, F_OK), -1);
    }
    OK(edit_drop(x.e, STR("bad"), &e_));
    OK(edit_set_u32(x.e, "general.alignment", 33, &e_));
    assert_int_equal(edit_write(x.e, result, NULL), MOTE_E_USAGE);
    OK(edit_drop_kv(x.e, "general.alignment", &e_));
    OK(edit_set_u32(x.e, "bad\xFFkey", 1, &e_));
    assert_int_equal(edit_write(x.e, result, NULL), MOTE_E_USAGE);
    assert_int_equal(edit_write(x.e, "/nowhere/at/all.gguf", NULL), MOTE_E_IO);
    closed(&x);
}

/* A limit on the size of files is a disk that fills: the old file stands, and no temporary one. */
static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    write_source(0);
    write_source(0);
    fixture x = opened();
    struct rlimit was, small = {.rlim_cur = 900};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    mote_error e = {0};
    mote_status s = edit_write(x.e, source, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    (void)signal(SIGXFSZ, old);
    assert_int_equal(s, MOTE_E_IO);
    assert_non_null(strstr(e.message, source));
    closed(&x);
    x = opened();
    assert_true(at(x.f, "b.weight", 127) == 127.0f);
    closed(&x);
    char command[128];
    (void)snprintf(command, sizeof command, "test $(ls %s | grep -c source) = 1", folder);
    assert_int_equal(system(command), 0);
}

static int setup(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return 1;
    (void)snprintf(source, sizeof source, "%s/source.gguf", folder);
    (void)snprintf(result, sizeof result, "%s/result.gguf", folder);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_edit_without_changes_is_the_source),
        cmocka_unit_test(tensors_are_replaced_added_dropped_and_renamed),
        cmocka_unit_test(names_can_be_used_again),
        cmocka_unit_test(metadata_is_set_and_dropped),
        cmocka_unit_test(importance_counts_per_row_and_expert),
        cmocka_unit_test(the_output_may_be_the_source),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
