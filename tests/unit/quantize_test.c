/* quantize_test.c: the rules of mote quantize and its engine, on a small made-up model. */
#include "base/base.h"
#include "compress/quantize.h"
#include "compress/rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

#define LAYERS 8
static char folder[] = "/tmp/mote_quantize_XXXXXX";

static const char *path_of(char out[256], const char *name) {
    (void)snprintf(out, 256, "%s/%s", folder, name);
    return out;
}

static void put(gguf_writer *w, const char *kind, int layer, uint64_t columns, uint64_t rows) {
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%d.%s.weight", layer, kind);
    OK(gguf_put_tensor(w, str_of(name), QUANT_F32, rows > 1 ? 2 : 1, (uint64_t[]){columns, rows}, &e_));
}

/* A llama of 8 layers whose rows have `columns` weights. bad: one weight is NaN. */
static void write_model(const char *path, uint64_t columns, bool tied, bool bad) {
    gguf_writer *w;
    OK(gguf_writer_open(&w, path, 32, &e_));
    OK(gguf_put_str(w, "general.architecture", STR("llama"), &e_));
    OK(gguf_put_str(w, "general.name", STR("tiny"), &e_));
    OK(gguf_put_u32(w, "llama.block_count", LAYERS, &e_));
    OK(gguf_put_u32(w, "llama.attention.head_count", 4, &e_));
    OK(gguf_put_u32(w, "llama.attention.head_count_kv", 2, &e_));
    OK(gguf_put_tensor(w, STR("token_embd.weight"), QUANT_F32, 2, (uint64_t[]){columns, 100}, &e_));
    OK(gguf_put_tensor(w, STR("output_norm.weight"), QUANT_F32, 1, (uint64_t[]){columns}, &e_));
    size_t n = (size_t)columns * 101;
    for (int i = LAYERS - 1; i >= 0; i--) { /* against the order of layers */
        put(w, "attn_v", i, columns, 64);
        put(w, "ffn_down", i, 512, columns);
        put(w, "attn_norm", i, columns, 1);
        n += (size_t)columns * (64 + 512 + 1);
    }
    if (!tied) {
        OK(gguf_put_tensor(w, STR("output.weight"), QUANT_F32, 2, (uint64_t[]){columns, 100}, &e_));
        n += (size_t)columns * 100;
    }
    OK(gguf_writer_begin(w, &e_));
    rng r;
    rng_seed(&r, 1, 1);
    for (size_t i = 0; i < n; i++) {
        float x = (float)(rng_double(&r) + rng_double(&r) + rng_double(&r) - 1.5) * 0.1f;
        if (bad && i == 5 * columns + 7) x = NAN;
        OK(gguf_write_data(w, &x, sizeof x, &e_));
    }
    OK(gguf_writer_commit(w, &e_));
    gguf_writer_close(&w);
}

static const mote_quantized_tensor *find(const mote_quantize_report *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++) {
        if (strcmp(r->tensors[i].name, name) == 0) return &r->tensors[i];
    }
    fail_msg("no tensor %s in the report", name);
    return NULL;
}

static void a_mixture_counts_layers_whatever_the_order_of_the_file(void **state) {
    (void)state;
    char in[256], out[256];
    write_model(path_of(in, "m.gguf"), 256, false, false);
    mote_quantize_report r;
    mote_quantize_options o = {.type = "q4_k_m", .n_threads = 2};
    OK(compress_quantize(in, path_of(out, "o.gguf"), &o, NULL, &r, &e_));
    assert_string_equal(r.type, "Q4_K_M");
    /* of 8 layers: the first, the last, and every third between get more bits */
    static const char *const want[LAYERS] = {"q6_K", "q4_K", "q4_K", "q6_K", "q4_K", "q4_K", "q6_K", "q6_K"};
    char name[64];
    for (int i = 0; i < LAYERS; i++) {
        (void)snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        assert_string_equal(find(&r, name)->to, want[i]);
        (void)snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        assert_string_equal(find(&r, name)->to, want[i]);
    }
    assert_string_equal(find(&r, "output.weight")->to, "q6_K");
    assert_string_equal(find(&r, "token_embd.weight")->to, "q4_K");
    assert_string_equal(find(&r, "blk.3.attn_norm.weight")->to, "f32");
    assert_int_equal(r.n_fallbacks, 0);
    assert_int_equal(r.n_copied, LAYERS + 1);
    assert_true(r.nmse > 1e-4 && r.nmse < 1e-2);

    model_file *a, *b;
    OK(model_file_open(&a, in, 0, &e_));
    OK(model_file_open(&b, out, 0, &e_));
    uint32_t v;
    str s;
    OK(kv_get_u32(b, "general.file_type", &v, 99, &e_));
    assert_int_equal(v, 15);
    OK(kv_get_u32(b, "general.quantization_version", &v, 99, &e_));
    assert_int_equal(v, 2);
    OK(kv_get_str(b, "general.name", &s, STR(""), &e_));
    assert_true(str_is(s, "tiny"));
    assert_int_equal(model_file_n_tensors(b), r.n_tensors);
    uint64_t bytes = 0;
    for (size_t i = 0; i < r.n_tensors; i++) {
        const tensor_info *x = model_file_tensor(a, i), *y = model_file_tensor(b, i);
        assert_true(str_eq(x->name, y->name));
        assert_int_equal(y->size, r.tensors[i].bytes_to);
        if (x->type == y->type) assert_memory_equal(x->data, y->data, x->size);
        bytes += y->size;
    }
    assert_int_equal(bytes, r.bytes_to);
    assert_true(fabs(r.bpw_to - 8.0 * (double)bytes / (double)r.n_weights) < 1e-12);
    model_file_close(&a);
    model_file_close(&b);
    mote_quantize_report_free(&r);
}

static void every_departure_is_reported(void **state) {
    (void)state;
    char in[256];
    write_model(path_of(in, "f.gguf"), 96, true, false);
    mote_quantize_report r;
    mote_quantize_options o = {.type = "Q4_K_M", .dry_run = true};
    OK(compress_quantize(in, NULL, &o, NULL, &r, &e_));
    const mote_quantized_tensor *t = find(&r, "token_embd.weight"); /* tied: it is the output, too */
    assert_string_equal(t->wanted, "q6_K");
    assert_string_equal(t->to, "q8_0");
    assert_non_null(t->why);
    t = find(&r, "blk.1.attn_v.weight");
    assert_string_equal(t->wanted, "q4_K");
    assert_string_equal(t->to, "q5_0");
    assert_string_equal(find(&r, "blk.0.attn_v.weight")->to, "q8_0");
    assert_string_equal(find(&r, "blk.1.ffn_down.weight")->to, "q4_K");
    assert_int_equal(r.n_fallbacks, 1 + LAYERS);
    assert_true(r.nmse < 0);
    mote_quantize_report_free(&r);
}

static void options_go_before_rules(void **state) {
    (void)state;
    char in[256];
    path_of(in, "m.gguf");
    mote_quantize_report r;
    mote_tensor_type types[] = {{"BLK\\.[01]\\.attn_v", "f16"}, {"attn_v", "q5_0"}};
    mote_quantize_options o = {.type = "15", .dry_run = true, .overrides = types, .n_overrides = 2,
                               .output_format = "q8_0", .token_embedding_format = "iq4_nl"};
    OK(compress_quantize(in, NULL, &o, NULL, &r, &e_));
    assert_string_equal(find(&r, "blk.1.attn_v.weight")->to, "f16");
    assert_string_equal(find(&r, "blk.2.attn_v.weight")->to, "q5_0");
    assert_string_equal(find(&r, "output.weight")->to, "q8_0");
    assert_string_equal(find(&r, "token_embd.weight")->to, "iq4_nl");
    mote_quantize_report_free(&r);
    o = (mote_quantize_options){.type = "Q4_K_M", .dry_run = true, .pure = true, .leave_output = true};
    OK(compress_quantize(in, NULL, &o, NULL, &r, &e_));
    assert_string_equal(find(&r, "blk.0.attn_v.weight")->to, "q4_K");
    assert_string_equal(find(&r, "output.weight")->to, "f32");
    mote_quantize_report_free(&r);
}

static bool stop_at_three(void *ctx, const mote_quantized_tensor *t, size_t done, size_t n) {
    (void)ctx;
    (void)t;
    return done < 3 && n > 3;
}

static void what_cannot_be_done_is_refused_and_leaves_no_file(void **state) {
    (void)state;
    char in[256], out[256], nan[256], q8[256];
    path_of(in, "m.gguf");
    path_of(out, "no.gguf");
    write_model(path_of(nan, "nan.gguf"), 256, false, true);
    mote_tensor_type open = {"attn_(v", "q8_0"}, unknown = {"attn_v", "q9"}, readable = {"attn_v", "i16"};
    struct {
        const char *in;
        mote_quantize_options o;
        mote_status want;
    } cases[] = {
        {in, {.type = "Q4_L"}, MOTE_E_USAGE},
        {in, {.type = NULL}, MOTE_E_USAGE},
        {in, {.type = "-1"}, MOTE_E_USAGE},
        {in, {.type = "Q4_0", .output_format = "q7"}, MOTE_E_USAGE},
        {in, {.type = "Q4_0", .overrides = &open, .n_overrides = 1}, MOTE_E_USAGE},
        {in, {.type = "Q4_0", .overrides = &unknown, .n_overrides = 1}, MOTE_E_USAGE},
        {in, {.type = "Q4_0", .overrides = &readable, .n_overrides = 1}, MOTE_E_UNSUPPORTED},
        {in, {.type = "IQ2_XS"}, MOTE_E_USAGE},
        {in, {.type = "Q4_0", .n_threads = 1000}, MOTE_E_USAGE},
        {in, {.type = "Q4_0", .progress = stop_at_three}, MOTE_E_CANCELLED},
        {nan, {.type = "Q4_0"}, MOTE_E_FORMAT},
        {"/nowhere/m.gguf", {.type = "Q4_0"}, MOTE_E_NOT_FOUND},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        mote_error e = {0};
        mote_quantize_report r = {0};
        mote_status s = compress_quantize(cases[i].in, out, &cases[i].o, NULL, &r, &e);
        if (s != cases[i].want) fail_msg("case %zu: %s: %s", i, mote_status_name(s), e.message);
        assert_true(e.message[0] != 0);
        assert_null(r.owned);
        assert_int_not_equal(access(out, F_OK), 0);
    }
    mote_quantize_options o = {.type = "Q8_0"};
    OK(compress_quantize(in, path_of(q8, "q8.gguf"), &o, NULL, NULL, &e_));
    o.type = "Q4_0";
    assert_int_equal(compress_quantize(q8, out, &o, NULL, NULL, NULL), MOTE_E_UNSUPPORTED);
    o.allow_requantize = true;
    OK(compress_quantize(q8, q8, &o, NULL, NULL, &e_)); /* onto itself */
}

static unsigned char *bytes_of(const char *path, size_t *n) {
    file_map m;
    OK(file_open(&m, path, FILE_READ, &e_));
    unsigned char *p = mem_calloc(m.n, 1);
    memcpy(p, m.p, m.n);
    *n = m.n;
    file_close(&m);
    return p;
}

static void threads_do_not_change_the_bytes(void **state) {
    (void)state;
    char in[256], a[256], b[256];
    path_of(in, "f.gguf");
    size_t na, nb;
    for (int threads = 2; threads <= 5; threads += 3) {
        mote_quantize_options o = {.type = "Q3_K_M", .n_threads = 1};
        OK(compress_quantize(in, path_of(a, "a.gguf"), &o, NULL, NULL, &e_));
        o.n_threads = threads;
        OK(compress_quantize(in, path_of(b, "b.gguf"), &o, NULL, NULL, &e_));
        unsigned char *pa = bytes_of(a, &na), *pb = bytes_of(b, &nb);
        assert_int_equal(na, nb);
        assert_memory_equal(pa, pb, na);
        mem_free(pa);
        mem_free(pb);
    }
}

static const float *some_columns_matter(void *ctx, str tensor, size_t *n) {
    static float w[256];
    (void)ctx;
    if (!str_ends(tensor, STR("attn_v.weight"))) return NULL;
    for (size_t i = 0; i < 256; i++) w[i] = i % 4 ? 0.01f : 1;
    *n = 256;
    return w;
}

static void importance_is_per_column(void **state) {
    (void)state;
    char in[256], out[256];
    quantize_importance imp = {.find = some_columns_matter};
    mote_quantize_options o = {.type = "Q2_K", .pure = true};
    model_file *a, *b;
    double err[2][2] = {{0}};
    float x[256], y[256];
    OK(model_file_open(&a, path_of(in, "m.gguf"), 0, &e_));
    for (int with = 0; with < 2; with++) {
        OK(compress_quantize(in, path_of(out, "i.gguf"), &o, with ? &imp : NULL, NULL, &e_));
        OK(model_file_open(&b, out, 0, &e_));
        const tensor_info *s = model_file_find_tensor(a, "blk.4.attn_v.weight");
        const tensor_info *t = model_file_find_tensor(b, "blk.4.attn_v.weight");
        for (size_t row = 0; row < 64; row++) {
            memcpy(x, s->data + row * sizeof x, sizeof x);
            quant_get(QUANT_Q2_K)->decode(y, t->data + row * 84, 256);
            for (int i = 0; i < 256; i++) err[with][i % 4 != 0] += pow((double)x[i] - (double)y[i], 2);
        }
        model_file_close(&b);
    }
    model_file_close(&a);
    assert_true(err[1][0] < 0.8 * err[0][0]); /* paid for by the other columns */
}

static void types_are_listed_and_found(void **state) {
    (void)state;
    const char *about, *name;
    size_t n = 0;
    for (; (name = mote_quantize_type(n, &about)) != NULL; n++) {
        assert_true(about && *about);
        assert_int_equal(ftype_find(name), n);
    }
    assert_int_equal(n, FTYPE_COUNT);
    assert_int_equal(ftype_find("Q4_K"), FTYPE_Q4_K_M);
    assert_int_equal(ftype_find("7"), FTYPE_Q8_0);
    assert_int_equal(ftype_find("0"), FTYPE_F32);
    assert_int_equal(ftype_find("38"), FTYPE_MXFP4_MOE);
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"m.gguf",  "f.gguf", "nan.gguf", "o.gguf",
                                        "q8.gguf", "a.gguf", "b.gguf",   "i.gguf"};
    char path[256];
    for (size_t i = 0; i < COUNT_OF(names); i++) (void)unlink(path_of(path, names[i]));
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mixture_counts_layers_whatever_the_order_of_the_file),
        cmocka_unit_test(every_departure_is_reported),
        cmocka_unit_test(options_go_before_rules),
        cmocka_unit_test(what_cannot_be_done_is_refused_and_leaves_no_file),
        cmocka_unit_test(threads_do_not_change_the_bytes),
        cmocka_unit_test(importance_is_per_column),
        cmocka_unit_test(types_are_listed_and_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
