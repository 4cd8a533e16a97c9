/* stack_test.c: an embedding in parts of rows computes what the matrix in one piece does, and wrong parts are refused. */
#include "compress/packing.h"
#include "format/edit.h"
#include "model/model.h"
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

enum { N = 9, COLS = 64, WIDE = 192, MORE = 200, PIECES = MODEL_FILE_PARTS_MAX };

static const char *const names[] = {"token_embd.weight", "token_embd_2.weight", "token_embd_3.weight", "token_embd_4.weight"};

typedef struct piece {
    size_t rows, cols;
    quant_type type;
} piece;

/* The tiny model with its output tied to the embedding, which is written in these pieces (rows 0: no such part). */
static void write_pieces(const char *path, const piece *parts, bool keep_output) {
    const size_t cols = parts[0].cols;
    model_file *f = NULL;
    model_edit *e = NULL;
    unsigned char *bytes[PIECES] = {NULL};
    OK(tiny_model_write(in_folder("whole.gguf"), &(tiny_opts){.seed = 9, .times = (unsigned)(cols / COLS), .n_more_unused = cols == WIDE ? MORE : 0}, &e_));
    OK(model_file_open(&f, in_folder("whole.gguf"), 0, &e_));
    OK(edit_open(&e, f, &e_));
    const float *x = (const float *)(const void *)model_file_find_tensor(f, names[0])->data;
    for (size_t i = 0, row = 0; i < PIECES; row += parts[i++].rows) {
        if (!parts[i].rows) continue;
        const quant_format *q = quant_get((int)parts[i].type);
        const uint64_t ne[TENSOR_DIMS_MAX] = {parts[i].cols, parts[i].rows, 1, 1};
        bytes[i] = malloc(parts[i].rows * cols * sizeof(float));
        float *w = malloc(parts[i].rows * cols * sizeof *w);
        for (size_t j = 0; j < parts[i].rows * cols; j++) w[j] = cols == WIDE ? powf(x[row * cols + j], 3) * 9 : x[row * cols + j]; /* small ones more often: less entropy */
        q->encode(bytes[i], w, parts[i].rows * parts[i].cols, NULL);
        free(w);
        OK(edit_put_bytes(e, str_of(names[i]), parts[i].type, 2, ne, bytes[i], &e_));
    }
    if (!keep_output) OK(edit_drop(e, STR("output.weight"), &e_));
    OK(edit_write(e, path, &e_));
    edit_close(&e);
    model_file_close(&f);
    for (size_t i = 0; i < PIECES; i++) free(bytes[i]);
}

static float *logits_of(const char *path, bool stacked, bool exact, int threads) {
    pool *p;
    model *m;
    state *s;
    OK(pool_open(&p, threads, &e_));
    OK(model_open(&m, path, &(model_opts){.stacked = stacked}, p, &e_));
    OK(state_open(&s, m, &(state_opts){.n_ctx = 16, .n_seq = 1, .n_batch = N, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = exact}, p, &e_));
    const size_t vocab = model_get_info(m)->n_vocab;
    assert_true(vocab == TINY_VOCAB || vocab == TINY_VOCAB + MORE);
    float *out = calloc(N * (TINY_VOCAB + MORE), sizeof *out);
    int32_t ids[N], want[N];
    for (int i = 0; i < N; i++) ids[i] = i * 39 % TINY_VOCAB, want[i] = i; /* of every part */
    const model_seg seg = {0, 0, N};
    OK(model_forward(s, &(model_batch){.ids = ids, .n = N, .segs = &seg, .n_segs = 1, .want = want, .n_want = N, .logits = out}, &e_));
    state_close(&s);
    model_close(&m);
    pool_close(&p);
    return out;
}

static void parts_give_what_the_whole_gives(void **unused) {
    (void)unused;
    static const piece whole[PIECES] = {{TINY_VOCAB, COLS, QUANT_F32}}, same[PIECES] = {{64, COLS, QUANT_F32}, {100, COLS, QUANT_F32}, {30, COLS, QUANT_F32}, {TINY_VOCAB - 194, COLS, QUANT_F32}},
                       two[PIECES] = {{40, COLS, QUANT_F32}, {TINY_VOCAB - 40, COLS, QUANT_F32}},
                       mixed[PIECES] = {{96, COLS, QUANT_Q8_0}, {32, COLS, QUANT_F16}, {TINY_VOCAB - 128, COLS, QUANT_Q4_0}};
    write_pieces(in_folder("one.gguf"), whole, false);
    write_pieces(in_folder("same.gguf"), same, false);
    write_pieces(in_folder("two.gguf"), two, false);
    write_pieces(in_folder("mixed.gguf"), mixed, false);
    for (int exact = 0; exact < 2; exact++) {
        float *a = logits_of(in_folder("one.gguf"), true, exact, 2);
        for (int k = 0; k < 6; k++) {
            float *b = logits_of(in_folder(k % 2 ? "two.gguf" : "same.gguf"), k < 4, exact, k % 3 ? 2 : 1);
            assert_memory_equal(a, b, N * TINY_VOCAB * sizeof *a);
            free(b);
        }
        free(a);
    }
    float *joined = logits_of(in_folder("mixed.gguf"), false, true, 2), *parts = logits_of(in_folder("mixed.gguf"), true, true, 2);
    for (size_t i = 0; i < N * TINY_VOCAB; i++) assert_true(fabsf(joined[i] - parts[i]) < 1e-4f);
    free(joined);
    free(parts);
    parts = logits_of(in_folder("mixed.gguf"), true, false, 2); /* rounded activations: near */
    float *exact = logits_of(in_folder("mixed.gguf"), true, true, 2);
    double d = 0, a = 0;
    for (size_t i = 0; i < N * TINY_VOCAB; i++) {
        d += pow((double)(parts[i] - exact[i]), 2);
        a += pow((double)exact[i], 2);
    }
    assert_true(d < 1e-3 * a);
    free(parts);
    free(exact);
}

/* Entropy-coded for the disk, and as one tensor that other programs read: the same numbers. */
static void parts_are_packed_and_exported(void **unused) {
    (void)unused;
    static const piece small[PIECES] = {{64, WIDE, QUANT_Q4_96}, {128, WIDE, QUANT_Q3_96}, {TINY_VOCAB + MORE - 192, WIDE, QUANT_Q2_96}},
                       other[PIECES] = {{64, WIDE, QUANT_Q8_0}, {TINY_VOCAB + MORE - 64, WIDE, QUANT_Q3_96}},
                       floats[PIECES] = {{64, WIDE, QUANT_Q8_0}, {64, WIDE, QUANT_F16}, {TINY_VOCAB + MORE - 128, WIDE, QUANT_Q3_96}};
    static const struct {
        const piece *parts;
        quant_type becomes;
    } cases[] = {{small, QUANT_Q4_0}, {other, QUANT_Q8_0}, {floats, QUANT_F32}};
    for (size_t k = 0; k < COUNT_OF(cases); k++) {
        mote_pack_result r = {0};
        model_file *f = NULL;
        write_pieces(in_folder("small.gguf"), cases[k].parts, false);
        OK(pack_run(in_folder("small.gguf"), in_folder("packed.gguf"), &r, &e_));
        OK(export_run(in_folder("packed.gguf"), in_folder("exported.gguf"), &r, &e_));
        OK(model_file_open(&f, in_folder("exported.gguf"), MODEL_FILE_STACKED, &e_));
        const tensor_info *t = model_file_find_tensor(f, names[0]);
        assert_int_equal(t->ne[1], TINY_VOCAB + MORE);
        assert_int_equal(t->type, cases[k].becomes);
        assert_null(model_file_find_tensor(f, names[1]));
        model_file_close(&f);
        float *a = logits_of(in_folder("small.gguf"), true, true, 2), *b = logits_of(in_folder("packed.gguf"), true, true, 1),
              *c = logits_of(in_folder("exported.gguf"), true, true, 2);
        assert_memory_equal(a, b, N * (TINY_VOCAB + MORE) * sizeof *a);
        for (size_t i = 0; i < N * (TINY_VOCAB + MORE); i++) assert_true(fabsf(a[i] - c[i]) < 1e-4f);
        free(a);
        free(b);
        free(c);
    }
}

static void refused(const piece *parts, bool keep_output, mote_status want, const char *says) {
    pool *p;
    model *m;
    mote_error err;
    write_pieces(in_folder("bad.gguf"), parts, keep_output);
    OK(pool_open(&p, 1, &e_));
    assert_int_equal(model_open(&m, in_folder("bad.gguf"), &(model_opts){.stacked = true}, p, &err), want);
    if (!strstr(err.message, says)) fail_msg("%s", err.message);
    pool_close(&p);
}

static void wrong_parts_are_refused(void **unused) {
    (void)unused;
    static const piece narrow[PIECES] = {{64, COLS, QUANT_F32}, {TINY_VOCAB - 64, COLS / 2, QUANT_F32}}, good[PIECES] = {{64, COLS, QUANT_F32}, {TINY_VOCAB - 64, COLS, QUANT_F32}},
                       gap[PIECES] = {{64, COLS, QUANT_F32}, {0, 0, 0}, {TINY_VOCAB - 64, COLS, QUANT_F32}};
    refused(gap, false, MOTE_E_UNSUPPORTED, "token_embd_3");
    refused(narrow, false, MOTE_E_MISMATCH, "token_embd_2");
    refused(good, true, MOTE_E_UNSUPPORTED, "output matrix");
    model_file *f = NULL;
    mote_error err;
    write_pieces(in_folder("bad.gguf"), gap, false);
    assert_int_equal(model_file_open(&f, in_folder("bad.gguf"), 0, &err), MOTE_E_FORMAT);
    assert_non_null(strstr(err.message, "token_embd_2.weight' is missing"));
    write_pieces(in_folder("bad.gguf"), narrow, false);
    assert_int_equal(model_file_open(&f, in_folder("bad.gguf"), 0, &err), MOTE_E_MISMATCH);
}

/* How many rows are left for the last, or why it cannot be. */
static uint64_t fit(const char *path, embedding_parts p, mote_status want, const char *says) {
    model_file *f = NULL;
    mote_error err = {0};
    OK(model_file_open(&f, path, 0, &e_));
    assert_int_equal(model_file_fit_parts(f, &p, &err), want);
    if (says && !strstr(err.message, says)) fail_msg("%s", err.message);
    model_file_close(&f);
    return p.rows[p.n - 1];
}

static void parts_that_are_wanted_fit_or_are_refused(void **unused) {
    (void)unused;
    static const piece whole[PIECES] = {{TINY_VOCAB, COLS, QUANT_F32}};
    write_pieces(in_folder("untied.gguf"), whole, true);
    write_pieces(in_folder("tied.gguf"), whole, false);
    embedding_parts p = {.rows = {64, 100}, .type = {QUANT_Q8_0, QUANT_Q4_0, QUANT_Q8_0}, .n = 3};
    assert_int_equal(fit(in_folder("tied.gguf"), p, MOTE_OK, NULL), TINY_VOCAB - 164);
    fit(in_folder("untied.gguf"), p, MOTE_E_UNSUPPORTED, "output matrix");
    p.rows[1] = TINY_VOCAB;
    fit(in_folder("tied.gguf"), p, MOTE_E_USAGE, "no part of");
    p.rows[1] = TINY_VOCAB - 64;
    fit(in_folder("tied.gguf"), p, MOTE_E_USAGE, "no part of 0");
    p.rows[1] = 100, p.type[2] = QUANT_Q3_96;
    fit(in_folder("tied.gguf"), p, MOTE_E_UNSUPPORTED, "no multiple");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_give_what_the_whole_gives),
        cmocka_unit_test(parts_are_packed_and_exported),
        cmocka_unit_test(wrong_parts_are_refused),
        cmocka_unit_test(parts_that_are_wanted_fit_or_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
