/* train_data_test.c: the training data: items, rows, borders, losses on answers, cursors, shares, hostile files. */
#include "../tiny_model.h"
#include "report.h"
#include "train/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

static char folder[] = "/tmp/mote_data_XXXXXX";
static model_file *file;
static tok_vocab *vocab;
static chat_template *tmpl;

static const char *write_file(char out[256], const char *name, const char *bytes, size_t n) {
    (void)snprintf(out, 256, "%s/%s", folder, name);
    FILE *f = fopen(out, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return out;
}

static const char *write_text(char out[256], const char *name, const char *text) { return write_file(out, name, text, strlen(text)); }

/* n numbered documents of different lengths. */
static const char *write_documents(char out[256], const char *name, int n) {
    buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < n; i++) {
        buf_printf(&b, "{\"text\": \"document %d", i);
        for (int k = 0; k < i * 7 % 13; k++) buf_printf(&b, " word%d", k);
        buf_puts(&b, "\"}\n");
    }
    (void)write_file(out, name, b.p, b.n);
    buf_free(&b);
    return out;
}

static data_opts opts_for(data_source *s, size_t n) { return (data_opts){.sources = s, .n_sources = n, .vocab = vocab, .tmpl = tmpl, .n_ctx = 32, .seed = 7}; }

static void check_batch(const data_batch *b) {
    assert_int_equal(b->seqs.start[0], 0);
    assert_int_equal(b->seqs.start[b->seqs.n_seq], b->seqs.n);
    for (size_t s = 0; s < b->seqs.n_seq; s++) {
        assert_true(b->seqs.start[s] < b->seqs.start[s + 1]);
        for (size_t i = b->seqs.start[s]; i < b->seqs.start[s + 1]; i++) {
            assert_int_equal(b->seqs.pos[i], i - b->seqs.start[s]);
            assert_true((b->target[i] < 0) == (b->weights[i] <= 0));
            if (i + 1 < b->seqs.start[s + 1] && b->target[i] >= 0) assert_int_equal(b->target[i], b->ids[i + 1]);
        }
    }
}

static void rows_are_full_and_an_epoch_holds_every_token_once(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_documents(path, "docs.jsonl", 40)};
    data_opts o = opts_for(&src, 1);
    data *d;
    OK(data_open(&d, &o, &e_));
    assert_int_equal(data_n_items(d), 40);
    size_t *tokens = calloc(40, sizeof *tokens), *seen = calloc(40, sizeof *seen);
    data_batch one;
    for (size_t i = 0; i < 40; i++) {
        o.n_ctx = 32;
        OK(data_item(d, i, &one, &e_));
        check_batch(&one);
    }
    data_close(&d);
    o.n_ctx = 4096; /* whole documents, for their lengths */
    OK(data_open(&d, &o, &e_));
    for (size_t i = 0; i < 40; i++) {
        OK(data_item(d, i, &one, &e_));
        tokens[i] = one.seqs.n;
    }
    data_close(&d);
    o.n_ctx = 32;
    OK(data_open(&d, &o, &e_));
    data_step_info s;
    size_t epoch_tokens = 0, got = 0;
    for (size_t i = 0; i < 40; i++) epoch_tokens += tokens[i];
    while (got + 2 * 32 < epoch_tokens) {
        OK(data_step(d, 1, 0, 1, &s, &e_));
        check_batch(&s.mine);
        assert_true(s.mine.seqs.n >= 31 && s.mine.seqs.n <= 32);
        for (size_t k = 0; k < s.mine.seqs.n_seq; k++)
            seen[s.mine.item[k]] += s.mine.seqs.start[k + 1] - s.mine.seqs.start[k];
        got += s.mine.seqs.n;
        assert_int_equal(s.epoch, 0);
    }
    for (size_t i = 0; i < 40; i++) assert_true(seen[i] <= tokens[i]);
    size_t whole = 0;
    for (size_t i = 0; i < 40; i++) whole += seen[i] == tokens[i];
    assert_true(whole >= 30);
    data_close(&d);
    free(tokens);
    free(seen);
}

static uint64_t step_hash(data *d, size_t rows) {
    data_step_info s;
    OK(data_step(d, rows, 0, 1, &s, &e_));
    uint64_t h = 1;
    for (size_t i = 0; i < s.mine.seqs.n; i++)
        h = (h ^ (uint64_t)(uint32_t)s.mine.ids[i] ^ (uint64_t)(uint32_t)s.mine.target[i] << 20 ^ (uint64_t)s.mine.seqs.pos[i] << 40) * 0x100000001b3u;
    return h;
}

static void a_cursor_brings_back_the_very_same_steps(void **state) {
    (void)state;
    char a[256], b[256];
    buf text;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 3000; i++) buf_printf(&text, "Sentence %d of a long book.%s", i, i % 20 == 19 ? "\n\n" : " ");
    data_source src[2] = {{.path = write_documents(a, "docs.jsonl", 25), .weight = 1}, {.path = write_file(b, "book.txt", text.p, text.n), .weight = 3}};
    data_opts o = opts_for(src, 2);
    o.part_bytes = 512;
    for (int order = DATA_SHUFFLED; order <= DATA_EASY_FIRST; order++) {
        o.order = (data_order)order;
        data *d, *again;
        OK(data_open(&d, &o, &e_));
        OK(data_open(&again, &o, &e_));
        assert_string_equal(data_digest(d), data_digest(again));
        for (int k = 0; k < 60; k++) {
            json_t *c = data_cursor(d);
            char *dumped = json_dumps(c, 0);
            json_t *read;
            OK(json_parse(&read, str_of(dumped), "cursor", &e_));
            uint64_t h = step_hash(d, 3);
            OK(data_seek(again, read, &e_));
            assert_true(step_hash(again, 3) == h);
            assert_true(step_hash(again, 3) != h);
            json_decref(c);
            json_decref(read);
            free(dumped);
        }
        data_close(&again);
        o.seed++;
        OK(data_open(&again, &o, &e_));
        json_t *c = data_cursor(d);
        mote_error err;
        assert_int_equal(data_seek(again, c, &err), MOTE_E_MISMATCH);
        json_decref(c);
        data_close(&d);
        data_close(&again);
    }
    buf_free(&text);
    if (getenv("MOTE_REPORT")) report_row("data", "a cursor resumed", "180 of 180 steps equal", "all", "ok", "-", "3 orders, 2 files, cut documents");
}

static void processes_share_the_rows_that_one_would_have(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_documents(path, "docs.jsonl", 40)};
    data_opts o = opts_for(&src, 1);
    data *one, *part[3];
    OK(data_open(&one, &o, &e_));
    for (int r = 0; r < 3; r++) OK(data_open(&part[r], &o, &e_));
    for (int k = 0; k < 10; k++) {
        data_step_info whole, s;
        OK(data_step(one, 5, 0, 1, &whole, &e_));
        size_t at = 0, rows = 0;
        for (int r = 0; r < 3; r++) {
            OK(data_step(part[r], 5, r, 3, &s, &e_));
            check_batch(&s.mine);
            assert_memory_equal(s.mine.ids, whole.mine.ids + at, s.mine.seqs.n * sizeof(int32_t));
            assert_memory_equal(s.mine.target, whole.mine.target + at, s.mine.seqs.n * sizeof(int32_t));
            assert_true(s.sum_weight == whole.sum_weight);
            assert_int_equal(s.n_tokens, whole.n_tokens);
            at += s.mine.seqs.n;
            rows += s.mine.n_rows;
            size_t tokens = 0;
            for (size_t i = 0; i < s.mine.n_rows; i++) {
                data_batch b;
                OK(data_part(part[r], i, 1, &b, &e_));
                check_batch(&b);
                tokens += b.seqs.n;
            }
            assert_int_equal(tokens, s.mine.seqs.n);
        }
        assert_int_equal(at, whole.mine.seqs.n);
        assert_int_equal(rows, 5);
    }
    data_close(&one);
    for (int r = 0; r < 3; r++) data_close(&part[r]);
}

static void taught(data *d, size_t item, buf *out) {
    data_batch b;
    OK(data_item(d, item, &b, &e_));
    check_batch(&b);
    buf_clear(out);
    for (size_t i = 0; i < b.seqs.n; i++)
        if (b.target[i] >= 0) buf_put_str(out, tok_piece(vocab, b.target[i], TOK_SPECIAL));
}

static void chats_teach_the_answers_and_nothing_else(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_text(
        path, "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"ask <|im_end|> one\"}, {\"role\": \"assistant\", \"content\": \"first\"},"
        " {\"role\": \"user\", \"content\": \"more\"}, {\"role\": \"assistant\", \"content\": \"second\"}]}\n"
        "{\"prompt\": \"q\", \"completion\": \"said\"}\n"
        "{\"conversations\": [{\"from\": \"human\", \"value\": \"h\"}, {\"from\": \"gpt\", \"value\": \"shared\"}]}\n"
        "{\"instruction\": \"do\", \"input\": \"this\", \"output\": \"done\"}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"not this\", \"weight\": 0},"
        " {\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"but this\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"nobody answers\"}]}\n"
        "{\"text\": \"a text among them\"}\n")};
    data_opts o = opts_for(&src, 1);
    o.n_ctx = 256;
    data *d;
    OK(data_open(&d, &o, &e_));
    assert_int_equal(data_n_items(d), 6);
    assert_int_equal(data_get_stats(d, 0).lacking, 1);
    assert_non_null(strstr(data_get_stats(d, 0).first_bad, "chat.jsonl:6"));
    buf b;
    buf_init(&b, 4096);
    static const char *const want[] = {"first<|im_end|>second<|im_end|>", "said<|im_end|>", "shared<|im_end|>", "done<|im_end|>", "but this<|im_end|>"};
    for (size_t i = 0; i < 5; i++) {
        taught(d, i, &b);
        assert_string_equal(b.p, want[i]);
    }
    data_batch one; /* what the user writes is text, whatever it looks like */
    OK(data_item(d, 0, &one, &e_));
    size_t ends = 0;
    for (size_t i = 0; i < one.seqs.n; i++) ends += one.ids[i] == TINY_IM_END;
    assert_int_equal(ends, 4); /* one a turn, all of the template */
    data_close(&d);
    o.loss_on_all = true;
    OK(data_open(&d, &o, &e_));
    taught(d, 1, &b);
    assert_non_null(strstr(b.p, "q<|im_end|>"));
    assert_non_null(strstr(b.p, "<|im_start|> assistant"));
    assert_non_null(strstr(b.p, "said<|im_end|>"));
    data_close(&d);
    buf_free(&b);
}

static void pairs_come_as_two_sequences(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_text(path, "pairs.jsonl",
                                          "{\"prompt\": \"q\", \"chosen\": \"good\", \"rejected\": \"bad\"}\n"
                                          "{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"yes\"}],"
                                          " \"rejected\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"no\"}]}\n"
                                          "{\"prompt\": \"q\", \"chosen\": \"alone\"}\n")};
    data_opts o = opts_for(&src, 1);
    o.n_ctx = 256;
    o.order = DATA_AS_IS;
    data *d;
    OK(data_open(&d, &o, &e_));
    assert_int_equal(data_n_items(d), 2);
    data_step_info s;
    OK(data_step(d, 1, 0, 1, &s, &e_));
    check_batch(&s.mine);
    assert_true(s.mine.seqs.n_seq >= 4 && s.mine.seqs.n_seq % 2 == 0);
    for (size_t i = 0; i < s.mine.seqs.n_seq; i++) assert_int_equal(s.mine.item[i], i / 2 % 2);
    buf b;
    buf_init(&b, 4096);
    taught(d, 0, &b);
    assert_string_equal(b.p, "good<|im_end|>bad<|im_end|>");
    taught(d, 1, &b);
    assert_string_equal(b.p, "yes<|im_end|>no<|im_end|>");
    buf_free(&b);
    data_close(&d);
}

static void bad_lines_are_counted_or_refused_by_place(void **state) {
    (void)state;
    char path[256];
    static const char lines[] = "{\"text\": \"good\"}\n{\"text\": \"bad \xff\xfe\"}\n{broken\n\n{\"other\": 1}\n{\"text\": \"\"}\n[1]\n{\"text\": \"a very long line, longer than allowed\"}\n{\"text\": \"end\"}";
    data_source src = {.path = write_file(path, "bad.jsonl", lines, sizeof lines - 1)};
    data_opts o = opts_for(&src, 1);
    o.max_line_bytes = 40;
    data *d;
    OK(data_open(&d, &o, &e_));
    data_stats s = data_get_stats(d, 0);
    assert_int_equal(s.items, 2);
    assert_int_equal(s.not_utf8, 1);
    assert_int_equal(s.not_json, 2);
    assert_int_equal(s.lacking, 2);
    assert_int_equal(s.too_long, 1);
    assert_int_equal(s.empty, 1);
    assert_non_null(strstr(s.first_bad, "bad.jsonl:2"));
    assert_int_equal(strlen(s.sha256), 64);
    data_close(&d);
    o.strict = true;
    mote_error err;
    assert_int_equal(data_open(&d, &o, &err), MOTE_E_FORMAT);
    assert_null(d);
    assert_non_null(strstr(err.message, "bad.jsonl:2"));
    o.strict = false;
    src.path = write_text(path, "none.jsonl", "{\"text\": \"\"}\nx\n");
    assert_int_equal(data_open(&d, &o, &err), MOTE_E_FORMAT);
    assert_non_null(strstr(err.message, "none.jsonl:1"));
    src.path = write_text(path, "empty.txt", "");
    assert_int_equal(data_open(&d, &o, &err), MOTE_E_FORMAT);
    src.path = "/nonexistent/file.txt";
    assert_int_equal(data_open(&d, &o, &err), MOTE_E_NOT_FOUND);
}

static void a_giant_line_is_cut_and_loses_nothing(void **state) {
    (void)state;
    char path[256];
    size_t n = 3000000;
    char *giant = malloc(n);
    for (size_t i = 0; i < n; i++) giant[i] = (char)('a' + i % 26);
    memcpy(giant + 1000000, "\xff", 1); /* one part is lost, not the line */
    data_source src = {.path = write_file(path, "giant.txt", giant, n)};
    data_opts o = opts_for(&src, 1);
    o.n_ctx = 128;
    o.part_bytes = 10000;
    data *d;
    OK(data_open(&d, &o, &e_));
    data_stats s = data_get_stats(d, 0);
    assert_in_range(s.items, 270, 302); /* the last part of a block may be half as long again */
    assert_int_equal(s.not_utf8, 1);
    assert_non_null(strstr(s.first_bad, "giant.txt:1"));
    for (int i = 0; i < 20; i++) (void)step_hash(d, 2);
    data_close(&d);
    free(giant);
}

static void documents_end_at_separators_and_with_the_end_token(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_text(path, "two.txt", "one\n<|endoftext|>\ntwo <|endoftext|> not\n<|endoftext|>\n\n<|endoftext|>\nthree")};
    data_opts o = opts_for(&src, 1);
    o.n_ctx = 128;
    data *d;
    OK(data_open(&d, &o, &e_));
    assert_int_equal(data_n_items(d), 3);
    for (size_t i = 0; i < 3; i++) {
        data_batch b;
        OK(data_item(d, i, &b, &e_));
        assert_int_equal(b.target[b.seqs.n - 1], TINY_EOS);
        assert_int_equal(b.ids[0], TINY_BOS);
    }
    buf b;
    buf_init(&b, 4096);
    OK(data_item_text(d, 1, &b, &e_));
    assert_string_equal(b.p, "\ntwo <|endoftext|> not\n");
    buf_free(&b);
    data_close(&d);
}

static void sides_of_the_split_are_apart_and_stay_so(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_documents(path, "docs.jsonl", 200)};
    data_opts o = opts_for(&src, 1);
    o.held_out = 0.1;
    bool held[2][200] = {0};
    size_t n[2];
    for (int side = 0; side < 2; side++) {
        data *d;
        o.split = side ? DATA_HELD : DATA_TRAIN;
        OK(data_open(&d, &o, &e_));
        n[side] = data_n_items(d);
        for (size_t i = 0; i < n[side]; i++) {
            buf b;
            buf_init(&b, 4096);
            OK(data_item_text(d, i, &b, &e_));
            held[side][strtoul(b.p + strlen("document "), NULL, 10)] = true;
            buf_free(&b);
        }
        data_close(&d);
    }
    assert_int_equal(n[0] + n[1], 200);
    assert_in_range(n[1], 8, 40);
    for (size_t i = 0; i < 200; i++) assert_true(held[0][i] != held[1][i]);
}

/* 24 documents of 50 kB with their number in every line; as text or as JSON. */
static char *write_long(char out[256], const char *name, bool json) {
    buf b;
    buf_init(&b, 4 << 20);
    for (int i = 0; i < 24; i++) {
        if (json) buf_printf(&b, "{\"text\": \"");
        else if (i) buf_printf(&b, "<|endoftext|>\n");
        for (int k = 0; k < 2500; k++) buf_printf(&b, "document %02d line %04d%s", i, k, json ? "\\n" : "\n");
        if (json) buf_printf(&b, "\"}\n");
    }
    (void)write_file(out, name, b.p, b.n);
    buf_free(&b);
    return out;
}

/* Which lines of which documents the items of a side hold, each once. */
static size_t mark_lines(const data_opts *o, bool (*seen)[2500]) {
    data *d;
    OK(data_open(&d, o, &e_));
    size_t n = data_n_items(d);
    for (size_t i = 0; i < n; i++) {
        buf b;
        buf_init(&b, 1 << 20);
        OK(data_item_text(d, i, &b, &e_));
        for (const char *p = b.p; (p = strstr(p, "document ")); p++) {
            size_t doc = strtoul(p + strlen("document "), NULL, 10), line = strtoul(p + strlen("document 00 line "), NULL, 10);
            assert_true(doc < 24 && line < 2500 && !seen[doc][line]);
            seen[doc][line] = true;
        }
        buf_free(&b);
    }
    data_close(&d);
    return n;
}

static size_t documents_in_a_step(const data_opts *o) {
    data *d;
    data_step_info s;
    bool seen[24] = {0};
    size_t n = 0;
    OK(data_open(&d, o, &e_));
    OK(data_step(d, 48, 0, 1, &s, &e_));
    for (size_t i = 0; i < s.mine.seqs.n_seq; i++) {
        buf b;
        buf_init(&b, 1 << 20);
        OK(data_item_text(d, s.mine.item[i], &b, &e_));
        const char *first = strstr(b.p, "document ");
        size_t doc = strtoul(first + strlen("document "), NULL, 10);
        n += !seen[doc];
        seen[doc] = true;
        buf_free(&b);
    }
    data_close(&d);
    return n;
}

static void a_step_holds_many_documents_however_long_they_are(void **state) {
    (void)state;
    for (int json = 0; json < 2; json++) {
        char path[256];
        data_source src = {.path = write_long(path, json ? "long.jsonl" : "long.txt", json)};
        data_opts o = opts_for(&src, 1);
        o.n_ctx = 256;
        bool(*seen)[2500] = calloc(24, sizeof *seen);
        o.held_out = 0.2;
        o.split = DATA_TRAIN;
        size_t n = mark_lines(&o, seen);
        o.split = DATA_HELD;
        o.order = DATA_AS_IS; /* longer parts, the same sides */
        size_t held = mark_lines(&o, seen);
        assert_true(n > 20 * 24 && held > 0 && held < 30);
        for (size_t i = 0; i < 24 * 2500; i++) assert_true(seen[i / 2500][i % 2500]);
        free(seen);
        o.held_out = 0;
        o.split = DATA_ALL;
        assert_int_equal(documents_in_a_step(&o), 1);
        o.order = DATA_SHUFFLED;
        assert_true(documents_in_a_step(&o) >= 6); /* 12 thousand tokens, of parts of 2 KiB */
    }
}

static void mixtures_keep_their_shares_and_times(void **state) {
    (void)state;
    char a[256], b[256];
    data_source src[2] = {{.path = write_documents(a, "a.jsonl", 30), .weight = 1}, {.path = write_documents(b, "b.jsonl", 31), .weight = 4, .from = 0.25}};
    data_opts o = opts_for(src, 2);
    data *d;
    OK(data_open(&d, &o, &e_));
    size_t drawn[2] = {0};
    data_step_info s;
    for (int k = 0; k < 400; k++) {
        data_progress(d, k < 20 ? 0.1 : 0.5);
        OK(data_step(d, 1, 0, 1, &s, &e_));
        for (size_t i = 0; i < s.mine.seqs.n_seq; i++) {
            size_t file_of = s.mine.item[i] >= 30;
            drawn[file_of] += s.mine.seqs.start[i + 1] - s.mine.seqs.start[i];
            if (k < 20) assert_int_equal(file_of, 0);
        }
    }
    double share = (double)drawn[1] / (double)(drawn[0] + drawn[1]);
    assert_true(share > 0.78 && share < 0.82);
    data_close(&d);
    src[0].until = 0.25;
    src[1].from = 0.5;
    OK(data_open(&d, &o, &e_));
    data_progress(d, 0.3);
    mote_error err;
    assert_int_equal(data_step(d, 1, 0, 1, &s, &err), MOTE_E_USAGE);
    data_close(&d);
}

static void a_selection_is_all_there_is(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_documents(path, "docs.jsonl", 40)};
    data_opts o = opts_for(&src, 1);
    o.order = DATA_AS_IS;
    data *d;
    OK(data_open(&d, &o, &e_));
    char digest[SHA256_HEX];
    memcpy(digest, data_digest(d), sizeof digest);
    const uint32_t few[] = {31, 4, 9};
    OK(data_select(d, few, 3, &e_));
    assert_string_not_equal(digest, data_digest(d));
    data_step_info s;
    OK(data_step(d, 20, 0, 1, &s, &e_));
    assert_int_equal(s.mine.item[0], 31);
    for (size_t i = 0; i < s.mine.seqs.n_seq; i++) assert_true(s.mine.item[i] == 31 || s.mine.item[i] == 4 || s.mine.item[i] == 9);
    mote_error err;
    assert_int_equal(data_select(d, (const uint32_t[]){40}, 1, &err), MOTE_E_RANGE);
    data_close(&d);
}

static void a_file_that_changes_ends_the_run(void **state) {
    (void)state;
    char path[256];
    data_source src = {.path = write_documents(path, "moving.jsonl", 40)};
    data_opts o = opts_for(&src, 1);
    data *d;
    OK(data_open(&d, &o, &e_));
    data_step_info s;
    OK(data_step(d, 2, 0, 1, &s, &e_));
    (void)write_documents(path, "moving.jsonl", 41);
    mote_error err;
    assert_int_equal(data_step(d, 2, 0, 1, &s, &err), MOTE_E_MISMATCH);
    assert_non_null(strstr(err.message, "moving.jsonl"));
    data_close(&d);
}

static int open_all(void **state) {
    (void)state;
    char path[256];
    if (!mkdtemp(folder)) return -1;
    (void)snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    if (tiny_model_write(path, &(tiny_opts){0}, NULL) != MOTE_OK || model_file_open(&file, path, 0, NULL) != MOTE_OK) return -1;
    return tok_open(&vocab, file, NULL, NULL) == MOTE_OK && data_template(&tmpl, file, vocab, NULL) == MOTE_OK ? 0 : -1;
}

static int close_all(void **state) {
    (void)state;
    chat_template_close(&tmpl);
    tok_close(&vocab);
    model_file_close(&file);
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_full_and_an_epoch_holds_every_token_once),
        cmocka_unit_test(a_cursor_brings_back_the_very_same_steps),
        cmocka_unit_test(processes_share_the_rows_that_one_would_have),
        cmocka_unit_test(chats_teach_the_answers_and_nothing_else),
        cmocka_unit_test(pairs_come_as_two_sequences),
        cmocka_unit_test(bad_lines_are_counted_or_refused_by_place),
        cmocka_unit_test(a_giant_line_is_cut_and_loses_nothing),
        cmocka_unit_test(documents_end_at_separators_and_with_the_end_token),
        cmocka_unit_test(sides_of_the_split_are_apart_and_stay_so),
        cmocka_unit_test(a_step_holds_many_documents_however_long_they_are),
        cmocka_unit_test(mixtures_keep_their_shares_and_times),
        cmocka_unit_test(a_selection_is_all_there_is),
        cmocka_unit_test(a_file_that_changes_ends_the_run),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
