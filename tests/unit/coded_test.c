/* coded_test.c: entropy-coded tensors: every byte comes back, whatever the shape; cuts, flips and made-up heads are refused. */
#include "base/rng.h"
#include "compress/packing.h"
#include "format/coded.h"
#include "format/edit.h"
#include "report.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "folder.h"
#include "ok.h"

static bool reporting;
static const quant_type types[] = {QUANT_Q4_96, QUANT_Q3_96, QUANT_Q2_96, QUANT_TQ1_192, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q8_0};

/* A tensor of bell-shaped weights; its bytes are the caller's. */
static tensor_info make_tensor(quant_type type, uint64_t cols, uint64_t rows, uint64_t seed) {
    const quant_format *f = quant_get((int)type);
    tensor_info t = {.name = STR("t"), .type = type, .n_dims = 2, .ne = {cols, rows, 1, 1}};
    size_t row = (size_t)cols / f->block * f->bytes;
    unsigned char *data = mem_calloc((size_t)rows, row);
    float *x = MEM_NEW_N(float, cols);
    rng r;
    rng_seed(&r, seed, 1);
    assert_true(data && x);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            x[j] = 0;
            for (int k = 0; k < 6; k++) x[j] += (float)rng_double(&r) - 0.5f;
        }
        f->encode(data + i * row, x, (size_t)cols, NULL);
    }
    mem_free(x);
    t.size = (size_t)rows * row;
    t.data = data;
    return t;
}

static mote_status read_back(const unsigned char *p, size_t n, tensor_info *t, unsigned char *dst, size_t room, mote_error *err) {
    TRY(coded_read_head(p, n, t, err));
    if (t->size != room) FAIL(err, MOTE_E_FORMAT, "another size");
    for (size_t i = 0; i < coded_chunks(p); i++) TRY(coded_read_chunk(p, n, t, i, dst, err));
    return MOTE_OK;
}

static void every_byte_comes_back(void **unused) {
    (void)unused;
    static const uint64_t shapes[][2] = {{192, 1}, {576, 3}, {1536, 700}, {192, 3000}};
    for (size_t k = 0; k < COUNT_OF(types); k++)
        for (size_t i = 0; i < COUNT_OF(shapes); i++) {
            tensor_info t = make_tensor(types[k], shapes[i][0], shapes[i][1], 7 * k + i), u = {.name = STR("u")};
            unsigned char *p, *dst = mem_calloc(1, t.size);
            size_t n;
            assert_non_null(dst);
            OK(coded_write(&t, &p, &n, &e_));
            OK(read_back(p, n, &u, dst, t.size, &e_));
            assert_int_equal(u.type, t.type);
            assert_memory_equal(u.ne, t.ne, sizeof t.ne);
            assert_memory_equal(dst, t.data, t.size);
            if (i == 2) {
                double was = 8.0 * (double)t.size / (double)(t.ne[0] * t.ne[1]), is = 8.0 * (double)n / (double)(t.ne[0] * t.ne[1]);
                char item[64], text[64];
                (void)snprintf(item, sizeof item, "%s, bell-shaped weights", quant_get((int)types[k])->name);
                (void)snprintf(text, sizeof text, "%.3f -> %.3f bits", was, is);
                assert_true(is < was);
                if (reporting) report_row("coded", item, text, "lossless, smaller", "ok", "-", "rANS");
            }
            mem_free((void *)(uintptr_t)t.data), mem_free(dst), mem_free(p);
        }
}

static void damage_is_refused(void **unused) {
    (void)unused;
    tensor_info t = make_tensor(QUANT_Q3_96, 576, 40, 3);
    unsigned char *p, *dst = mem_calloc(1, t.size);
    size_t n;
    assert_non_null(dst);
    OK(coded_write(&t, &p, &n, &e_));
    for (size_t cut = 0; cut < n; cut += cut < 600 ? 1 : 53) {
        unsigned char *part = MEM_NEW_N(unsigned char, cut + 1);
        tensor_info u = {.name = STR("u")};
        assert_non_null(part);
        memcpy(part, p, cut);
        assert_int_not_equal(read_back(part, cut, &u, dst, t.size, NULL), MOTE_OK);
        mem_free(part);
    }
    for (size_t bit = 0; bit < 8 * n; bit += bit < 5000 ? 1 : 101) {
        tensor_info u = {.name = STR("u")};
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        mote_status s = read_back(p, n, &u, dst, t.size, NULL);
        if (s == MOTE_OK && bit / 8 >= 4) fail_msg("bit %zu was not missed", bit);
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    mem_free((void *)(uintptr_t)t.data), mem_free(dst), mem_free(p);
}

/* A tiny model with one tensor more, which is bell-shaped, as its own are not. */
static void write_model(const char *path, quant_type type) {
    model_file *f;
    model_edit *e;
    const char *flat = in_folder("flat.gguf");
    OK(tiny_model_write(flat, &(tiny_opts){.type = type, .times = 3, .seed = 5}, &e_));
    OK(model_file_open(&f, flat, 0, &e_));
    OK(edit_open(&e, f, &e_));
    tensor_info t = make_tensor(type, 576, 300, 9);
    OK(edit_put_bytes(e, STR("extra.weight"), type, 2, t.ne, t.data, &e_));
    OK(edit_write(e, path, &e_));
    edit_close(&e);
    model_file_close(&f);
    mem_free((void *)(uintptr_t)t.data);
}

/* A model packed, opened, exported: the same weights all the way. */
static void models_stay_the_same(void **unused) {
    (void)unused;
    const char *in = in_folder("in.gguf"), *packed = in_folder("packed.gguf"), *out = in_folder("out.gguf");
    mote_pack_result r;
    for (size_t k = 0; k < COUNT_OF(types); k++) {
        write_model(in, types[k]);
        r = (mote_pack_result){.size = sizeof r};
        OK(pack_run(in, packed, &r, &e_));
        assert_true(r.bytes_to < r.bytes_from && r.n_changed >= 1);
        OK(export_run(packed, out, &r, &e_));
        model_file *a, *b, *c;
        OK(model_file_open(&a, in, 0, &e_));
        OK(model_file_open(&b, packed, 0, &e_));
        OK(model_file_open(&c, out, 0, &e_));
        for (size_t i = 0; i < model_file_n_tensors(a); i++) {
            const tensor_info *t = model_file_tensor(a, i);
            char name[256];
            (void)snprintf(name, sizeof name, "%.*s", STR_ARG(t->name));
            const tensor_info *u = model_file_find_tensor(b, name), *v = model_file_find_tensor(c, name);
            assert_true(u && v && u->size == t->size && u->type == t->type);
            assert_memory_equal(u->data, t->data, t->size);
            if (t->type != types[k]) continue;
            assert_int_equal(v->type, types[k] == QUANT_Q4_1 || types[k] == QUANT_Q8_0 ? types[k] : QUANT_Q4_0);
            size_t n = (size_t)(t->ne[0] * t->ne[1]);
            float *x = MEM_NEW_N(float, n), *y = MEM_NEW_N(float, n);
            quant_get((int)t->type)->decode(x, t->data, n);
            quant_get((int)v->type)->decode(y, v->data, n);
            for (size_t j = 0; j < n; j++) assert_true(x[j] == y[j]);
            mem_free(x), mem_free(y);
        }
        model_file_close(&a), model_file_close(&b), model_file_close(&c);
    }
    OK(tiny_model_write(in, &(tiny_opts){.type = QUANT_F16, .seed = 5}, &e_));
    r = (mote_pack_result){.size = sizeof r};
    assert_int_equal(pack_run(in, packed, &r, NULL), MOTE_E_UNSUPPORTED);
}

/* ---- vocabularies ---- */
static void write_vocabulary(const char *path, const char *const *merges, uint64_t n_merges) {
    const str tokens[] = {STR("<s>"), STR("a"), STR("b"), STR("c d"), STR("ab"), STR("abc d"), STR("more")};
    static const unsigned char kinds[28] = {3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4};
    str list[8];
    gguf_writer *w;
    for (uint64_t i = 0; i < n_merges; i++) list[i] = str_of(merges[i]);
    const kv keys[] = {{.key = STR("tokenizer.ggml.tokens"), .type = KV_ARRAY, .elem = KV_STRING, .count = COUNT_OF(tokens), .strings = tokens},
                       {.key = STR("tokenizer.ggml.token_type"), .type = KV_ARRAY, .elem = KV_I32, .count = COUNT_OF(tokens), .elems = kinds},
                       {.key = STR("tokenizer.ggml.merges"), .type = KV_ARRAY, .elem = KV_STRING, .count = n_merges, .strings = list}};
    OK(gguf_writer_open(&w, path, 32, &e_));
    for (size_t i = 0; i < COUNT_OF(keys); i++) OK(gguf_put_kv(w, &keys[i], &e_));
    OK(gguf_writer_begin(w, &e_));
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
}

static void same_lists(const model_file *f, const model_file *g) {
    for (size_t i = 1; vocabulary_keys[i]; i++) {
        const kv *a = model_file_find(f, vocabulary_keys[i]), *b = model_file_find(g, vocabulary_keys[i]);
        assert_true(a && b && a->count == b->count && a->elem == b->elem);
        for (uint64_t j = 0; j < a->count; j++) {
            int64_t x = 0, y = 0;
            if (a->elem == KV_STRING) assert_true(str_eq(kv_at_str(a, j), kv_at_str(b, j)));
            else assert_true(kv_at_int(a, j, &x) && kv_at_int(b, j, &y) && x == y);
        }
    }
}

/* A file with nothing but this key. */
static mote_status open_vocabulary(const unsigned char *p, size_t n, model_file **out) {
    gguf_writer *w;
    const kv k = {.key = str_of(vocabulary_keys[0]), .type = KV_ARRAY, .elem = KV_U8, .count = n, .elems = p};
    OK(gguf_writer_open(&w, in_folder("small.gguf"), 32, &e_));
    OK(gguf_put_kv(w, &k, &e_));
    OK(gguf_writer_begin(w, &e_));
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
    return model_file_open(out, in_folder("small.gguf"), MODEL_FILE_NO_TENSORS_OK, NULL);
}

static void vocabularies_come_back(void **unused) {
    (void)unused;
    static const char *const good[] = {"a b", "ab c d"}, *const bad[] = {"a b", "abc c"};
    model_file *f, *g;
    unsigned char *p;
    size_t n;
    const char *path = in_folder("lists.gguf");
    write_vocabulary(path, good, 2);
    OK(model_file_open(&f, path, MODEL_FILE_NO_TENSORS_OK, &e_));
    OK(vocabulary_pack(f, &p, &n, &e_));
    assert_non_null(p);
    assert_int_equal(open_vocabulary(p, n, &g), MOTE_OK);
    same_lists(f, g);
    model_file_close(&g);
    for (size_t cut = 0; cut < n; cut++) assert_int_not_equal(open_vocabulary(p, cut, &g), MOTE_OK);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (open_vocabulary(p, n, &g) == MOTE_OK) { /* bits of the frame that say nothing */
            same_lists(f, g);
            model_file_close(&g);
        }
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    mem_free(p);
    model_file_close(&f);
    write_vocabulary(path, bad, 2); /* merges that say something of their own stay as they are */
    OK(model_file_open(&f, path, MODEL_FILE_NO_TENSORS_OK, &e_));
    OK(vocabulary_pack(f, &p, &n, &e_));
    assert_null(p);
    model_file_close(&f);
}

int main(int argc, char **argv) {
    reporting = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_byte_comes_back), cmocka_unit_test(damage_is_refused), cmocka_unit_test(models_stay_the_same),
                                       cmocka_unit_test(vocabularies_come_back)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
