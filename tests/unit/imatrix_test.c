/* imatrix_test.c: importance matrices: what is measured on a tiny model, adding up, both file formats, and what is wrong with files. */
#include "compress/importance.h"
#include "mote/mote.h"
#include "run/run.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"

#include "ok.h"

static const char *at(char out[256], const char *name) {
    (void)snprintf(out, 256, "%s/%s", folder, name);
    return out;
}

static void make_text(char *text, size_t n) {
    for (size_t i = 0; i < n; i++) text[i] = "hello world, the in or\n"[i * 7 % 23];
}

static void measure(const char *out, int threads, const mote_imatrix_opts *o, mote_imatrix_result *r) {
    mote_engine *e;
    mote_model *m;
    mote_session *s;
    char path[256], text[2000];
    make_text(text, sizeof text);
    mote_engine_opts eo = mote_engine_opts_default();
    mote_session_opts so = mote_session_opts_default();
    mote_imatrix_opts io = o ? *o : mote_imatrix_opts_default();
    io.out = out;
    io.n_ctx = 64;
    eo.n_threads = threads;
    so.n_ctx = 64;
    so.exact = true;
    *r = (mote_imatrix_result){.size = sizeof *r};
    OK(mote_engine_open(&e, &eo, &e_));
    OK(mote_model_open(&m, e, at(path, "tiny.gguf"), NULL, &e_));
    OK(mote_session_open(&s, m, &so, &e_));
    OK(mote_imatrix(s, text, sizeof text, &io, r, &e_));
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
}

static void all_bytes(const char *path, file_map *f) { OK(file_open(f, path, FILE_READ, &e_)); }

static void assert_same_file(const char *a, const char *b) {
    file_map x, y;
    all_bytes(a, &x);
    all_bytes(b, &y);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    file_close(&x);
    file_close(&y);
}

static void a_model_is_measured(void **unused) {
    (void)unused;
    char a[256], b[256], c[256];
    mote_imatrix_result r;
    imatrix m = {0};
    measure(at(a, "a.gguf"), 1, NULL, &r);
    assert_true(r.n_chunks > 2 && r.ppl > 1 && r.n_partial == 0);
    assert_int_equal(r.n_entries, 2 * 7); /* layers of q, k, v, output, gate, up, down; no head */
    measure(at(b, "b.gguf"), 3, NULL, &r);
    assert_same_file(a, b);
    mote_imatrix_opts o = mote_imatrix_opts_default();
    o.process_output = true;
    o.no_ppl = true;
    o.n_chunks = 2;
    o.save_every = 1;
    measure(at(c, "c.gguf"), 2, &o, &r);
    assert_int_equal(r.n_chunks, 2);
    assert_true(r.n_entries == 2 * 7 + 1 && r.ppl == 0);
    OK(imatrix_read(&m, c, 0, &e_));
    const imatrix_entry *q = imatrix_find(&m, STR("blk.0.attn_q.weight")), *k = imatrix_find(&m, STR("blk.0.attn_k.weight"));
    assert_true(q && k && q->n_values == 64 && q->n_counts == 1 && q->counts[0] == 128);
    assert_memory_equal(q->sums, k->sums, 64 * sizeof *q->sums); /* the same input */
    double sum = 0;
    for (size_t i = 0; i < 64; i++) sum += q->sums[i];
    assert_true(sum > 0);
    assert_null(imatrix_find(&m, STR("blk.2.attn_q.weight")));
    imatrix_free(&m);
    OK(imatrix_read(&m, at(b, "c.gguf.at_1"), 0, &e_));
    assert_int_equal(imatrix_find(&m, STR("blk.1.ffn_down.weight"))->counts[0], 64);
    imatrix_free(&m);
    /* going on from a file is what measuring everything gives */
    const char *in[] = {at(b, "c.gguf.at_1")};
    o = mote_imatrix_opts_default();
    o.in = in;
    o.n_in = 1;
    o.first_chunk = 1;
    o.n_chunks = 1;
    o.no_ppl = true;
    measure(at(a, "d.gguf"), 2, &o, &r);
    assert_int_equal(r.n_chunks, 2);
    imatrix d = {0};
    OK(imatrix_read(&d, a, 0, &e_));
    OK(imatrix_read(&m, c, 0, &e_));
    const imatrix_entry *x = imatrix_find(&d, STR("blk.1.ffn_down.weight")), *y = imatrix_find(&m, STR("blk.1.ffn_down.weight"));
    assert_int_equal(x->counts[0], y->counts[0]);
    for (size_t i = 0; i < x->n_values; i++) assert_true(fabs(x->sums[i] - y->sums[i]) <= 1e-6 * y->sums[i]);
    imatrix_free(&d);
    imatrix_free(&m);
}

static void both_formats_keep_what_quantizing_reads(void **unused) {
    (void)unused;
    char g[256], d[256];
    imatrix m = {.chunk_size = 10, .n_chunks = 3}, back = {0};
    double sums[6] = {30, 60, 90, 1, 2, 3}, counts[2] = {30, 0}, one = 25;
    float a[6], b[6];
    OK(imatrix_add(&m, STR("blk.0.ffn_down_exps.weight"), sums, 6, counts, 2, &e_));
    OK(imatrix_add(&m, STR("blk.0.attn_q.weight"), sums, 6, &one, 1, &e_));
    OK(imatrix_add_dataset(&m, STR("text.txt"), &e_));
    for (int legacy = 0; legacy < 2; legacy++) {
        const char *path = legacy ? at(d, "x.dat") : at(g, "x.gguf");
        OK(imatrix_write(&m, path, legacy, &e_));
        OK(imatrix_read(&back, path, 0, &e_));
        assert_int_equal(back.n, 2);
        assert_int_equal(back.n_chunks, 3);
        assert_string_equal(back.datasets[0], "text.txt");
        for (size_t i = 0; i < 2; i++) {
            imatrix_means(&m.entries[i], a);
            imatrix_means(&back.entries[i], b);
            assert_string_equal(m.entries[i].name, back.entries[i].name);
            for (int k = 0; k < 6; k++) assert_true(fabsf(a[k] - b[k]) <= 1e-6f * a[k]);
        }
        assert_true(b[0] == 1 && b[3] == 1); /* an expert that was never met counts as all alike */
        imatrix_free(&back);
    }
    /* and a merge adds up */
    const char *in[] = {g, g};
    mote_imatrix_opts o = mote_imatrix_opts_default();
    char out[256];
    o.out = at(out, "sum.gguf");
    o.in = in;
    o.n_in = 2;
    mote_imatrix_result r = {.size = sizeof r};
    OK(mote_imatrix_merge(&o, &r, &e_));
    assert_int_equal(r.n_chunks, 6);
    OK(imatrix_read(&back, out, 0, &e_));
    assert_int_equal(imatrix_find(&back, STR("blk.0.attn_q.weight"))->counts[0], 50);
    assert_int_equal((int)imatrix_find(&back, STR("blk.0.attn_q.weight"))->sums[1], 120);
    imatrix_free(&back);
    imatrix_free(&m);
}

static void statistics_say_what_is_in_it(void **unused) {
    (void)unused;
    char g[256];
    imatrix m = {.chunk_size = 10, .n_chunks = 3};
    double first[4] = {0, 10, 10, 100}, second[4] = {0, 20, 20, 200}, count = 10;
    OK(imatrix_add(&m, STR("blk.0.attn_q.weight"), first, 4, &count, 1, &e_));
    OK(imatrix_add(&m, STR("blk.1.attn_q.weight"), second, 4, &count, 1, &e_));
    OK(imatrix_write(&m, at(g, "s.gguf"), false, &e_));
    imatrix_free(&m);
    mote_imatrix_stats s;
    OK(mote_imatrix_statistics(g, &s, &e_));
    assert_int_equal(s.n_rows, 2);
    const mote_imatrix_row *r = &s.rows[0];
    assert_string_equal(r->tensor, "attn_q");
    assert_true(r->layer == 1 && r->n == 4 && r->total == 24 && r->mean == 6 && r->max == 20 && r->min == 0);
    assert_true(fabs(r->stddev - sqrt((4 + 4 + 400) / 4.0 - 36)) < 1e-6 && r->active == 0.75 && r->zd == 0.25);
    assert_true(fabs(r->entropy - (2 * log2(12) / 12 + 10.0 / 12 * log2(1.2))) < 1e-6 && fabs(r->cossim - 1) < 1e-6);
    mote_imatrix_stats_free(&s);
}

static void lies_are_refused(void **unused) {
    (void)unused;
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"", 0}, {"GGUF", 4}, {"\0\0\0\0", 4}, {"\xff\xff\xff\xff", 4}, {"\1\0\0\0\xff\xff\xff\x7f", 8}, {"\1\0\0\0\1\0\0\0a", 9},
        {"\1\0\0\0\1\0\0\0a\1\0\0\0\xff\xff\xff\x7f\0\0\0\0", 21}, {"\1\0\0\0\1\0\0\0a\xff\xff\xff\xff\1\0\0\0\0\0\0\0", 21},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        imatrix m = {0};
        mote_error err = {0};
        assert_int_equal(imatrix_parse(&m, (const unsigned char *)bad[i].bytes, bad[i].n, "bad.dat", 0, &err), MOTE_E_FORMAT);
        assert_non_null(strstr(err.message, "bad.dat"));
        imatrix_free(&m);
    }
    imatrix m = {0};
    double v[4] = {1, 2, 3, 4};
    OK(imatrix_add(&m, STR("w"), v, 4, v, 1, &e_));
    assert_int_equal(imatrix_add(&m, STR("w"), v, 2, v, 1, NULL), MOTE_E_MISMATCH);
    OK(imatrix_add(&m, STR("w"), v, 4, v, 4, &e_));
    assert_int_equal(imatrix_add(&m, STR("w"), v, 4, v, 2, NULL), MOTE_E_MISMATCH);
    assert_int_equal(imatrix_add(&m, STR("w"), v, 4, v, 3, NULL), MOTE_E_FORMAT);
    imatrix_free(&m);
}

/* A quantized file says what it was calibrated with; a matrix of another model, or none where one is needed, is refused by name. */
static void quantizing_takes_it(void **unused) {
    (void)unused;
    char in[256], out[256], imat[256];
    mote_imatrix_result r;
    measure(at(imat, "q.gguf"), 1, NULL, &r);
    mote_quantize_options o = {.type = "Q4_0", .imatrix = imat, .n_threads = 1};
    mote_error err = {0};
    OK(mote_quantize(at(in, "tiny.gguf"), at(out, "out.gguf"), &o, NULL, &e_));
    model_file *f;
    str s;
    uint32_t n;
    char hash[SHA256_HEX];
    OK(model_file_open(&f, out, 0, &e_));
    OK(kv_get_str(f, "quantize.imatrix.file", &s, STR(""), &e_));
    assert_true(str_is(s, imat));
    OK(kv_get_u32(f, "quantize.imatrix.entries_count", &n, 0, &e_));
    assert_int_equal(n, 14);
    OK(kv_get_u32(f, "quantize.imatrix.chunks_count", &n, 0, &e_));
    assert_int_equal(n, r.n_chunks);
    OK(sha256_file(imat, hash, &e_));
    OK(kv_get_str(f, "quantize.imatrix.sha256", &s, STR(""), &e_));
    assert_true(str_is(s, hash));
    model_file_close(&f);
    static const char *const only[] = {"ffn_"};
    o.include_weights = only;
    o.n_include_weights = 1;
    OK(mote_quantize(in, out, &o, NULL, &e_));
    OK(model_file_open(&f, out, 0, &e_));
    OK(kv_get_u32(f, "quantize.imatrix.entries_count", &n, 0, &e_));
    assert_int_equal(n, 6);
    model_file_close(&f);
    imatrix m = {0};
    double v[4] = {1, 2, 3, 4};
    OK(imatrix_add(&m, STR("blk.0.ffn_up.weight"), v, 4, v, 1, &e_));
    OK(imatrix_write(&m, imat, false, &e_));
    imatrix_free(&m);
    o = (mote_quantize_options){.type = "Q4_0", .imatrix = imat};
    assert_int_equal(mote_quantize(in, out, &o, NULL, &err), MOTE_E_MISMATCH);
    assert_non_null(strstr(err.message, "blk.0.ffn_up.weight"));
}

static int setup(void **unused) {
    (void)unused;
    char path[256];
    mote_error err;
    return !mkdtemp(folder) || tiny_model_write(at(path, "tiny.gguf"), &(tiny_opts){.seed = 3}, &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_measured),       cmocka_unit_test(both_formats_keep_what_quantizing_reads),
        cmocka_unit_test(statistics_say_what_is_in_it), cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(quantizing_takes_it),
    };
    return cmocka_run_group_tests(tests, setup, remove_folder);
}
