/* format_write_test.c: what is written is read back; split files; safetensors and its lies. */
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

static char folder[] = "/tmp/mote_format_XXXXXX";

static const char *in_folder(char out[256], const char *name) {
    (void)snprintf(out, 256, "%s/%s", folder, name);
    return out;
}

static void write_small(const char *path, uint32_t align, uint32_t no, uint32_t count, uint32_t total,
                        const char *tensor) {
    gguf_writer *w;
    OK(gguf_writer_open(&w, path, align, &e_));
    static const str strings[] = {{"a", 1}, {"", 0}, {"\xE2\x82\xAC", 3}};
    static const int16_t numbers[] = {-1, 300};
    OK(gguf_put_str(w, "general.architecture", STR("other"), &e_));
    OK(gguf_put_str(w, "general.architecture", STR("llama"), &e_)); /* replaces */
    OK(gguf_put_u32(w, "u", 7, &e_));
    OK(gguf_put_f32(w, "f", 1.5f, &e_));
    OK(gguf_put_bool(w, "b", true, &e_));
    OK(gguf_put_kv(w, &(kv){.key = STR("s"), .type = KV_ARRAY, .elem = KV_STRING, .count = 3, .strings = strings}, &e_));
    OK(gguf_put_kv(w, &(kv){.key = STR("n"), .type = KV_ARRAY, .elem = KV_I16, .count = 2,
                            .elems = (const unsigned char *)numbers}, &e_));
    OK(gguf_put_kv(w, &(kv){.key = STR("d"), .type = KV_F64, .f = -2.25}, &e_));
    OK(gguf_put_kv(w, &(kv){.key = STR("i"), .type = KV_I64, .i = -9}, &e_));
    if (count) {
        OK(gguf_put_kv(w, &(kv){.key = STR("split.no"), .type = KV_U16, .i = no}, &e_));
        OK(gguf_put_kv(w, &(kv){.key = STR("split.count"), .type = KV_U16, .i = count}, &e_));
        OK(gguf_put_kv(w, &(kv){.key = STR("split.tensors.count"), .type = KV_I32, .i = total}, &e_));
    }
    OK(gguf_put_tensor(w, str_of(tensor), QUANT_F32, 2, (uint64_t[]){3, 2}, &e_));
    OK(gguf_put_tensor(w, count ? str_of(tensor + 1) : STR("q"), QUANT_Q8_0, 1, (uint64_t[]){32}, &e_));
    OK(gguf_writer_begin(w, &e_));
    float x[6] = {0, 1, 2, 3, 4, 5};
    unsigned char q[34];
    memset(q, 9, sizeof q);
    OK(gguf_write_data(w, x, 10, &e_));
    OK(gguf_write_data(w, (const char *)x + 10, 14, &e_));
    OK(gguf_write_data(w, q, sizeof q, &e_));
    assert_int_equal(gguf_write_data(w, q, 1, NULL), MOTE_E_INTERNAL);
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
}

static void gguf_is_read_as_written(void **state) {
    (void)state;
    char path[256];
    static const uint32_t aligns[] = {0, 32, 8, 4096};
    for (size_t i = 0; i < COUNT_OF(aligns); i++)
        for (int flags = 0; flags <= MODEL_FILE_NO_MMAP; flags++) {
            write_small(in_folder(path, "a.gguf"), aligns[i], 0, 0, 0, "t");
            model_file *f;
            OK(model_file_open(&f, path, flags, &e_));
            str s;
            OK(kv_get_str(f, "general.architecture", &s, STR(""), &e_));
            assert_true(str_is(s, "llama"));
            assert_true(str_is(kv_at_str(model_file_find(f, "s"), 2), "\xE2\x82\xAC"));
            assert_true(model_file_find(f, "d")->f == -2.25);
            assert_true(model_file_find(f, "i")->i == -9);
            const tensor_info *t = model_file_find_tensor(f, "t");
            float x[6];
            assert_int_equal(t->size, sizeof x);
            memcpy(x, t->data, sizeof x);
            assert_true(x[5] == 5.0f);
            assert_int_equal(model_file_find_tensor(f, "q")->data[33], 9);
            file_drop(t->data, t->size);
            assert_int_equal(t->data[4 * 1 + 3], 0x3F);
            model_file_close(&f);
        }
}

static void nothing_is_left_of_an_aborted_write(void **state) {
    (void)state;
    char path[256];
    gguf_writer *w;
    OK(gguf_writer_open(&w, in_folder(path, "never.gguf"), 0, &e_));
    OK(gguf_put_tensor(w, STR("t"), QUANT_F32, 1, (uint64_t[]){4}, &e_));
    OK(gguf_writer_begin(w, &e_));
    assert_int_equal(gguf_writer_commit(w, NULL), MOTE_E_INTERNAL);
    gguf_writer_close(&w);
    assert_int_equal(access(path, F_OK), -1);
}

static void split_files_are_joined(void **state) {
    (void)state;
    char a[256], b[256], c[256];
    write_small(in_folder(a, "m-00001-of-00003.gguf"), 0, 0, 3, 6, "t1");
    write_small(in_folder(b, "m-00002-of-00003.gguf"), 0, 1, 3, 6, "u2");
    write_small(in_folder(c, "m-00003-of-00003.gguf"), 0, 2, 3, 6, "v3");
    model_file *f;
    mote_error e = {0};
    const char *const paths[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        OK(model_file_open(&f, paths[i], 0, &e_));
        assert_int_equal(model_file_n_tensors(f), 6);
        assert_non_null(model_file_find_tensor(f, "t1"));
        assert_non_null(model_file_find_tensor(f, "v3"));
        assert_int_equal(model_file_find(f, "split.no")->i, 0);
        model_file_close(&f);
    }
    write_small(b, 0, 1, 3, 6, "t1"); /* a tensor that the first part has too */
    assert_int_equal(model_file_open(&f, a, 0, &e), MOTE_E_FORMAT);
    assert_non_null(strstr(e.message, "'t1' occurs twice"));
    write_small(b, 0, 2, 3, 6, "u2"); /* says it is another part */
    assert_int_equal(model_file_open(&f, a, 0, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "mixed"));
    write_small(b, 0, 1, 3, 7, "u2"); /* of another model */
    assert_int_equal(model_file_open(&f, a, 0, &e), MOTE_E_MISMATCH);
    write_small(b, 0, 3, 2, 6, "u2"); /* part 3 of 2 */
    assert_int_equal(model_file_open(&f, a, 0, &e), MOTE_E_FORMAT);
    (void)unlink(b);
    assert_int_equal(model_file_open(&f, a, 0, &e), MOTE_E_NOT_FOUND);
    assert_non_null(strstr(e.message, "part 2 of 3 of the model is missing"));
    write_small(in_folder(b, "oddname.gguf"), 0, 1, 3, 6, "u2");
    assert_int_equal(model_file_open(&f, b, 0, &e), MOTE_E_FORMAT);
    assert_non_null(strstr(e.message, "name must end in"));
}

static void safetensors_are_read_as_written(void **state) {
    (void)state;
    char path[256];
    static const unsigned char bytes[24] = {1, 2, 3, 4, 5, 6};
    st_tensor t[] = {
        {.name = STR("a\"\\\n\xC3\xA9"), .dtype = STR("F32"), .n_dims = 2, .shape = {2, 3}, .data = bytes, .size = 24},
        {.name = STR("scalar"), .dtype = STR("BF16"), .data = bytes + 2, .size = 2},
        {.name = STR("none"), .dtype = STR("I64"), .n_dims = 1, .data = bytes},
    };
    json_t *meta = json_pack("{s:s}", "format", "pt \" \xC3\xA9");
    OK(st_write(in_folder(path, "a.safetensors"), t, COUNT_OF(t), meta, &e_));
    json_decref(meta);
    file_map m;
    OK(file_open(&m, path, FILE_MAP, &e_));
    st_file *f;
    OK(st_parse(&f, m.p, m.n, &e_));
    assert_int_equal(st_n_tensors(f), 3);
    const st_tensor *x = st_find(f, "a\"\\\n\xC3\xA9");
    assert_non_null(x);
    assert_int_equal(x->shape[1], 3);
    assert_memory_equal(x->data, bytes, 24);
    assert_int_equal(st_find(f, "scalar")->data[0], 3);
    assert_int_equal(st_find(f, "none")->size, 0);
    assert_null(st_find(f, "other"));
    assert_true(str_is(json_get_str(st_metadata(f), "format"), "pt \" \xC3\xA9"));
    st_close(&f);
    t[0].size = 23;
    assert_int_equal(st_write(path, t, COUNT_OF(t), NULL, NULL), MOTE_E_FORMAT);
    file_close(&m);
}

static mote_status st_try(const char *header, size_t n_header, size_t n_data, mote_error *err) {
    size_t len = strlen(header), n = 8 + len + n_data;
    if (n_header == 0) n_header = len;
    unsigned char *p = calloc(n, 1);
    assert_non_null(p);
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)((uint64_t)n_header >> (8 * i));
    memcpy(p + 8, header, len);
    st_file *f;
    mote_status s = st_parse(&f, p, n, err);
    st_close(&f);
    free(p);
    return s;
}

static void safetensors_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_header, n_data;
        const char *says; /* NULL: it is fine */
    } cases[] = {
        {"{}", 0, 0, NULL},
        {"{} ", 0, 0, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8, NULL},
        {"{}", 1, 0, "header of 1 bytes"},
        {"{}", 3, 0, "header of 3 bytes"},
        {"{}", SIZE_MAX, 0, "header of"},
        {"{}", (size_t)101 << 20, 0, "header of"},
        {"[]", 0, 0, "not a JSON object"},
        {"{\xFF}", 0, 0, "UTF-8"},
        {"{}x", 0, 0, "follows"},
        {"{", 2, 1, "expected"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 9, "follow the last"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 7, "beyond"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}", 0, 9, "begins at 1"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 0, 8, "need 96 bits"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 0, 8, "spans"},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 0, 1, "need 12 bits"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,8]}}", 0, 8, "too large"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 0, 4, "more than 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 0, 4, "whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 0, 4, "expected"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 0, 4, "whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 0, 4, "two offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, 4, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4, "unexpected field"},
        {"{\"a\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"I8\",\"shape\":[1],"
         "\"data_offsets\":[1,2]}}", 0, 2, "occurs twice"},
        {"{\"a\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"I8\",\"shape\":[1],"
         "\"data_offsets\":[0,1]}}", 0, 1, "begins at 0"},
        {"{\"a\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"I8\",\"shape\":[1],"
         "\"data_offsets\":[2,3]}}", 0, 3, "begins at 2"},
        {"{\"__metadata__\":{\"x\":1}}", 0, 0, "no string"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0, "occurs twice"},
        {"{\"\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, "name is empty"},
        {"{\"a\\u0000b\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, "NUL"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        mote_error e = {0};
        mote_status s = st_try(cases[i].header, cases[i].n_header, cases[i].n_data, &e);
        if (!cases[i].says) {
            if (s != MOTE_OK) fail_msg("%s: %s", cases[i].header, e.message);
        } else if (s == MOTE_OK || !strstr(e.message, cases[i].says))
            fail_msg("%s: expected '%s' in '%s'", cases[i].header, cases[i].says, e.message);
    }
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_is_read_as_written),
        cmocka_unit_test(nothing_is_left_of_an_aborted_write),
        cmocka_unit_test(split_files_are_joined),
        cmocka_unit_test(safetensors_are_read_as_written),
        cmocka_unit_test(safetensors_that_lie_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
