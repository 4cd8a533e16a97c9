/* format_gguf_test.c: GGUF from bytes: what is read, and every way a file can lie. */
#include "format/format.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

/* A GGUF under construction, byte by byte, so that lies can be told. */
typedef struct image {
    unsigned char p[8192];
    size_t n;
} image;

static void le(image *m, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) m->p[m->n++] = (unsigned char)(v >> (8 * i));
}
static void text(image *m, const char *s) {
    le(m, strlen(s), 8);
    memcpy(m->p + m->n, s, strlen(s));
    m->n += strlen(s);
}
static void head(image *m, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    m->n = 0;
    memcpy(m->p, "GGUF", 4);
    m->n = 4;
    le(m, version, 4);
    le(m, n_tensors, 8);
    le(m, n_kv, 8);
}
static void key(image *m, const char *name, uint32_t type) {
    text(m, name);
    le(m, type, 4);
}
static void tensor(image *m, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t at) {
    text(m, name);
    le(m, n_dims, 4);
    for (uint32_t d = 0; d < n_dims && d < 8; d++) le(m, ne[d], 8);
    le(m, type, 4);
    le(m, at, 8);
}
static void pad(image *m, size_t align) {
    while (m->n % align) m->p[m->n++] = 0;
}

/* Every kind of value, two tensors, the second ending with the file. */
static void good_file(image *m, uint32_t version) {
    head(m, version, 2, 9);
    key(m, "general.architecture", KV_STRING);
    text(m, "llama");
    key(m, "llama.block_count", KV_U32);
    le(m, 7, 4);
    key(m, "a.i8", KV_I8);
    le(m, 0xFE, 1);
    key(m, "a.f32", KV_F32);
    le(m, 0x3FC00000, 4);
    key(m, "a.bool", KV_BOOL);
    le(m, 1, 1);
    key(m, "a.i64", KV_I64);
    le(m, (uint64_t)-5, 8);
    key(m, "a.f64", KV_F64);
    le(m, 0x3FF8000000000000, 8);
    key(m, "tokens", KV_ARRAY);
    le(m, KV_STRING, 4);
    le(m, 3, 8);
    text(m, "a");
    text(m, "");
    text(m, "xyz");
    key(m, "ids", KV_ARRAY);
    le(m, KV_I16, 4);
    le(m, 2, 8);
    le(m, 0xFFFF, 2);
    le(m, 300, 2);
    tensor(m, "w", QUANT_Q8_0, 2, (uint64_t[]){64, 3}, 0); /* 204 bytes */
    tensor(m, "b", QUANT_F32, 1, (uint64_t[]){5}, 224);
    pad(m, 32);
    for (int i = 0; i < 244; i++) m->p[m->n++] = (unsigned char)i;
}

/* A copy of exactly n bytes, so that AddressSanitizer sees every read beyond. */
static mote_status parse(const unsigned char *p, size_t n, mote_error *err) {
    unsigned char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    model_file *f;
    mote_status s = gguf_parse(&f, copy, n, err);
    if (s == MOTE_OK) { /* touch everything that was promised */
        unsigned sum = 0;
        for (size_t i = 0; i < model_file_n_tensors(f); i++) {
            const tensor_info *t = model_file_tensor(f, i);
            for (size_t j = 0; j < t->size; j += 64) sum += t->data[j];
            sum += t->data[t->size - 1];
        }
        for (size_t i = 0; i < model_file_n_kv(f); i++) {
            const kv *k = model_file_kv(f, i);
            for (uint64_t j = 0; j < k->count; j++) {
                double d;
                if (kv_at_num(k, j, &d)) sum += d > 0;
                str t = kv_at_str(k, j);
                if (t.n) sum += (unsigned char)t.p[t.n - 1];
            }
        }
        assert_true(sum + 1 > 0);
        model_file_close(&f);
    } else assert_null(f);
    free(copy);
    return s;
}

static void refuse(const image *m, const char *says) {
    mote_error e = {0};
    assert_int_not_equal(parse(m->p, m->n, &e), MOTE_OK);
    if (!strstr(e.message, says)) fail_msg("expected '%s' in '%s'", says, e.message);
}
static void accept(const image *m) {
    mote_error e = {0};
    if (parse(m->p, m->n, &e) != MOTE_OK) fail_msg("%s", e.message);
}

static void values_are_read(void **state) {
    (void)state;
    image m;
    for (uint32_t version = 2; version <= 3; version++) {
        good_file(&m, version);
        model_file *f;
        assert_int_equal(gguf_parse(&f, m.p, m.n, NULL), MOTE_OK);
        uint32_t u;
        float x;
        bool b;
        str s;
        int64_t i;
        assert_int_equal(kv_get_u32(f, "llama.block_count", &u, 0, NULL), MOTE_OK);
        assert_int_equal(u, 7);
        assert_int_equal(kv_get_u32(f, "absent", &u, 9, NULL), MOTE_OK);
        assert_int_equal(u, 9);
        assert_int_equal(kv_get_u32(f, "a.i64", &u, 0, NULL), MOTE_E_RANGE);
        assert_int_equal(kv_get_u32(f, "a.f32", &u, 0, NULL), MOTE_E_FORMAT);
        assert_int_equal(kv_get_f32(f, "a.f32", &x, 0, NULL), MOTE_OK);
        assert_true(x == 1.5f);
        assert_int_equal(kv_get_f32(f, "a.i8", &x, 0, NULL), MOTE_OK);
        assert_true(x == -2.0f);
        assert_int_equal(kv_get_f32(f, "a.f64", &x, 0, NULL), MOTE_OK);
        assert_true(x == 1.5f);
        assert_int_equal(kv_get_bool(f, "a.bool", &b, false, NULL), MOTE_OK);
        assert_true(b);
        assert_int_equal(kv_get_str(f, "general.architecture", &s, STR(""), NULL), MOTE_OK);
        assert_true(str_is(s, "llama"));
        const kv *k = model_file_find(f, "tokens");
        assert_int_equal(k->count, 3);
        assert_true(str_is(kv_at_str(k, 2), "xyz"));
        k = model_file_find(f, "ids");
        assert_true(kv_at_int(k, 0, &i) && i == -1);
        assert_true(kv_at_int(k, 1, &i) && i == 300);
        assert_false(kv_at_int(k, 2, &i));
        const tensor_info *t = model_file_find_tensor(f, "w");
        assert_int_equal(t->size, 204);
        assert_int_equal(t->ne[1], 3);
        assert_int_equal(t->data[1], 1);
        assert_int_equal(model_file_find_tensor(f, "b")->data[0], 224);
        assert_null(model_file_find_tensor(f, "c"));
        model_file_close(&f);
        assert_null(f);
    }
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    image m;
    good_file(&m, 3);
    size_t n = m.n;
    accept(&m);
    for (m.n = 0; m.n < n; m.n++) {
        mote_error e = {0};
        assert_int_not_equal(parse(m.p, m.n, &e), MOTE_OK);
        assert_true(e.message[0]);
    }
}

/* Every 1-, 4- and 8-byte field at every offset, with the values that break arithmetic. */
static void no_field_can_break_the_reader(void **state) {
    (void)state;
    static const uint64_t extreme[] = {
        0, 1, 3, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 1000000000, (UINT64_C(1) << 42) + 1,
        (UINT64_C(1) << 61) + 1, INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX, UINT64_MAX - 31, 8192,
    };
    image good, m;
    good_file(&good, 3);
    for (size_t at = 0; at < good.n - 244; at++)
        for (size_t e = 0; e < COUNT_OF(extreme); e++)
            for (size_t width = 1; width <= 8; width *= 2) {
                m = good;
                for (size_t i = 0; i < width && at + i < m.n; i++) m.p[at + i] = (unsigned char)(extreme[e] >> (8 * i));
                (void)parse(m.p, m.n, NULL);
            }
}

static void headers_that_are_not_gguf(void **state) {
    (void)state;
    image m;
    head(&m, 3, 0, 0);
    accept(&m);
    head(&m, 1, 0, 0);
    refuse(&m, "version 1");
    head(&m, 0, 0, 0);
    refuse(&m, "version 0");
    head(&m, 99, 0, 0);
    refuse(&m, "version 99");
    head(&m, 0x03000000, 0, 0);
    refuse(&m, "big-endian");
    memcpy(m.p, "GGUX", 4);
    refuse(&m, "not a GGUF");
    memcpy(m.p, "PK\3\4", 4);
    refuse(&m, "zip");
    memcpy(m.p, "\x80\2", 2);
    refuse(&m, "pickle");
    m.n = 0;
    refuse(&m, "not a GGUF");
}

static void counts_are_compared_with_the_file(void **state) {
    (void)state;
    static const uint64_t huge[] = {UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 32, 1000000000, 40};
    image m;
    for (size_t i = 0; i < COUNT_OF(huge); i++) {
        head(&m, 3, huge[i], 0);
        le(&m, 0, 8);
        m.n = 1024;
        refuse(&m, "tensors cannot");
        head(&m, 3, 0, huge[i] == 40 ? 80 : huge[i]);
        m.n = 1024;
        refuse(&m, "metadata entries cannot");
    }
    static const uint64_t lengths[] = {UINT64_MAX, INT64_MAX, 1025, UINT64_C(1) << 61};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        head(&m, 3, 0, 1);
        le(&m, lengths[i], 8);
        m.n = 1024;
        refuse(&m, "key");
        for (uint32_t elem = KV_U8; elem <= KV_F64; elem++) {
            if (elem == KV_ARRAY) continue;
            head(&m, 3, 0, 1);
            key(&m, "k", KV_ARRAY);
            le(&m, elem, 4);
            le(&m, lengths[i], 8);
            m.n = 1024;
            refuse(&m, "do not fit");
        }
        head(&m, 3, 0, 1);
        key(&m, "k", KV_STRING);
        le(&m, lengths[i], 8);
        m.n = 1024;
        refuse(&m, "bytes");
    }
    head(&m, 3, 0, 1);
    key(&m, "k", KV_ARRAY);
    le(&m, KV_ARRAY, 4);
    le(&m, 1, 8);
    m.n = 1024;
    refuse(&m, "array of arrays");
}

static void one_key(image *m, const char *name, uint32_t type, uint64_t v, size_t n) {
    head(m, 3, 0, 1);
    key(m, name, type);
    le(m, v, n);
}

static void keys_and_alignment(void **state) {
    (void)state;
    image m;
    one_key(&m, "", KV_U64, 1, 8);
    refuse(&m, "key is empty");
    one_key(&m, "a\xFF", KV_U8, 1, 1);
    refuse(&m, "UTF-8");
    one_key(&m, "abc", KV_U8, 1, 1);
    m.p[33] = 0;
    refuse(&m, "NUL");
    one_key(&m, "abc", 13, 1, 1);
    refuse(&m, "unknown type 13");
    head(&m, 3, 0, 2);
    key(&m, "twice", KV_U8);
    le(&m, 1, 1);
    key(&m, "twice", KV_U8);
    le(&m, 1, 1);
    refuse(&m, "occurs twice");
    static const uint64_t bad[] = {0, 3, 48, UINT64_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        one_key(&m, "general.alignment", KV_U32, bad[i], 4);
        refuse(&m, "power of two");
    }
    one_key(&m, "general.alignment", KV_F32, 0x42000000, 4);
    refuse(&m, "power of two");
    one_key(&m, "general.alignment", KV_U32, 64, 4);
    accept(&m);
}

static void a_key_of_64_kb_is_too_long(void **state) {
    (void)state;
    size_t n = 70000;
    unsigned char *p = calloc(n, 1);
    assert_non_null(p);
    image m;
    head(&m, 3, 0, 1);
    le(&m, 65536, 8);
    memset(p, 'k', n);
    memcpy(p, m.p, m.n);
    mote_error e = {0};
    assert_int_equal(parse(p, n, &e), MOTE_E_FORMAT);
    assert_non_null(strstr(e.message, "at most 65535"));
    free(p);
}

static void one_tensor(image *m, uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t at, size_t data) {
    head(m, 3, 1, 0);
    tensor(m, "t", type, n_dims, ne, at);
    pad(m, 32);
    m->n += data;
}

static void tensors_lie_inside_the_file(void **state) {
    (void)state;
    image m;
    memset(m.p, 0, sizeof m.p);
    one_tensor(&m, QUANT_F32, 1, (uint64_t[]){8}, 0, 32);
    accept(&m); /* the last byte is the file's last */
    one_tensor(&m, QUANT_F32, 1, (uint64_t[]){8}, 0, 31);
    refuse(&m, "ends beyond");
    one_tensor(&m, QUANT_F32, 1, (uint64_t[]){8}, 16, 64);
    refuse(&m, "no multiple of 32");
    one_tensor(&m, QUANT_F32, 1, (uint64_t[]){8}, UINT64_MAX - 31, 64);
    refuse(&m, "ends beyond");
    one_tensor(&m, QUANT_F32, 0, NULL, 0, 64);
    refuse(&m, "0 dimensions");
    one_tensor(&m, QUANT_F32, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 64);
    refuse(&m, "5 dimensions");
    one_tensor(&m, QUANT_F32, UINT32_MAX, (uint64_t[]){1, 1, 1, 1, 1, 1, 1, 1}, 0, 64);
    refuse(&m, "dimensions");
    one_tensor(&m, QUANT_F32, 2, (uint64_t[]){8, 0}, 0, 64);
    refuse(&m, "dimension 1 is 0");
    one_tensor(&m, QUANT_F32, 2, (uint64_t[]){8, (uint64_t)-1}, 0, 64);
    refuse(&m, "dimension 1");
    one_tensor(&m, QUANT_F32, 2, (uint64_t[]){4, (UINT64_C(1) << 60) + 1}, 0, 64);
    refuse(&m, "too large");
    one_tensor(&m, QUANT_F32, 4, (uint64_t[]){1 << 16, 1 << 16, 1 << 16, 1 << 16}, 0, 64);
    refuse(&m, "too large");
    one_tensor(&m, QUANT_F32, 1, (uint64_t[]){(UINT64_C(1) << 62) + 1}, 0, 64);
    refuse(&m, "tensor 't'");
    one_tensor(&m, QUANT_Q8_0, 1, (uint64_t[]){33}, 0, 64);
    refuse(&m, "tensor 't'");
    static const uint32_t types[] = {4, 5, 9, 15, 31, 33, 36, 38, 255, 0x7FFFFFFF, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        one_tensor(&m, types[i], 1, (uint64_t[]){32}, 0, 256);
        refuse(&m, "unknown type");
    }
}

static void two_tensors(image *m, const char *second, uint64_t at) {
    head(m, 3, 2, 0);
    tensor(m, "one", QUANT_F32, 1, (uint64_t[]){16}, 0);
    tensor(m, second, QUANT_F32, 1, (uint64_t[]){16}, at);
    pad(m, 32);
    m->n += 256;
}

static void tensors_do_not_overlap(void **state) {
    (void)state;
    image m;
    memset(m.p, 0, sizeof m.p);
    two_tensors(&m, "two", 64);
    accept(&m);
    two_tensors(&m, "two", 96);
    accept(&m);
    two_tensors(&m, "two", 32);
    refuse(&m, "overlaps");
    two_tensors(&m, "two", 0);
    refuse(&m, "overlaps");
    two_tensors(&m, "one", 64);
    refuse(&m, "tensor 'one' occurs twice");
    two_tensors(&m, "", 64);
    refuse(&m, "name is empty");
}

static void special_files_are_refused(void **state) {
    (void)state;
    model_file *f;
    mote_error e;
    assert_int_equal(model_file_open(&f, "/dev/zero", 0, &e), MOTE_E_IO);
    assert_int_equal(model_file_open(&f, "/nonexistent.gguf", 0, &e), MOTE_E_NOT_FOUND);
    assert_null(f);
}

/* Every golden GGUF opens, and the real vocabularies are whole. */
static void golden_files_open(void **state) {
    (void)state;
    const char *shared = getenv("MOTE_SHARED"), *source = getenv("MOTE_SOURCE_DIR");
    char root[1024], pattern[1100];
    if (shared) (void)snprintf(root, sizeof root, "%s", shared);
    else (void)snprintf(root, sizeof root, "%s/../shared", source ? source : ".");
    if (!file_is_dir(root)) skip();
    static const char *const sets[] = {"arch", "vocab"};
    for (size_t s = 0; s < COUNT_OF(sets); s++) {
        glob_t g;
        (void)snprintf(pattern, sizeof pattern, "%s/oracle/%s/*.gguf", root, sets[s]);
        assert_int_equal(glob(pattern, 0, NULL, &g), 0);
        for (size_t i = 0; i < g.gl_pathc; i++) {
            model_file *f;
            mote_error e = {0};
            if (model_file_open(&f, g.gl_pathv[i], MODEL_FILE_NO_TENSORS_OK, &e) != MOTE_OK) fail_msg("%s", e.message);
            assert_non_null(model_file_find(f, "general.architecture"));
            model_file_close(&f);
        }
        globfree(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(no_field_can_break_the_reader),
        cmocka_unit_test(headers_that_are_not_gguf),
        cmocka_unit_test(counts_are_compared_with_the_file),
        cmocka_unit_test(keys_and_alignment),
        cmocka_unit_test(a_key_of_64_kb_is_too_long),
        cmocka_unit_test(tensors_lie_inside_the_file),
        cmocka_unit_test(tensors_do_not_overlap),
        cmocka_unit_test(special_files_are_refused),
        cmocka_unit_test(golden_files_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
