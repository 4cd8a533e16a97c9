/* curate_test.c: what mote data lets through, and why not the rest. */
#include "../tiny_model.h"
#include "report.h"
#include "train/curate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"

#include "ok.h"


static const char *path_of(char out[256], const char *name) {
    (void)snprintf(out, 256, "%s/%s", folder, name);
    return out;
}

static const char *write_text(char out[256], const char *name, const char *text) {
    FILE *f = fopen(path_of(out, name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return out;
}

static char *read_text(const char *name) {
    char path[256];
    file_map m;
    OK(file_open(&m, path_of(path, name), FILE_READ, &e_));
    char *copy = mem_strndup((const char *)m.p, m.n);
    file_close(&m);
    return copy;
}

static mote_data_reason judged(const mote_data_options *o, const char *text) {
    words w = {0};
    OK(words_of(&w, str_of(text), &e_));
    mote_data_reason r = curate_judge(o, str_of(text), &w);
    words_free(&w);
    return r;
}

static const char prose[] = "It was late in the evening when the three of them came to the river, and the ferry had gone. They sat down on the bank with what was "
                            "left of the bread, and talked of the people that they had met on the way. Nobody had told them that the bridge was closed, or that the "
                            "last boat left at six. In the end they walked back to the village and asked for a room at the inn, which they were given.";

static void texts_are_judged_by_their_faults(void **state) {
    (void)state;
    mote_data_options o = {0};
    assert_int_equal(judged(&o, prose), MOTE_DATA_REASONS);
    assert_int_equal(judged(&o, "Too short."), MOTE_DATA_SHORT);
    assert_int_equal(judged(&o, "one two three four five six seven eight one two three four five six seven eight one two three four five six seven eight"), MOTE_DATA_REPEATS);
    assert_int_equal(judged(&o, "== -- ++ $$ 1 ## ^^ && 2 ** // \\\\ || 3 ~~ <> {} [] 4 () ;; :: 5 ,, .. 6 ?? !! 7 @@ %% 8 ^^ 9 ## $$ 10"), MOTE_DATA_QUALITY);
    assert_int_equal(judged(&o, "int main(void) {\n    for (int i = 0; i < 10; i++) printf(\"%d\\n\", i * i);\n    return 0;\n}\n"), MOTE_DATA_REASONS);
    o.max_words = 20;
    assert_int_equal(judged(&o, prose), MOTE_DATA_LONG);
    o = (mote_data_options){.quality = MOTE_DATA_GOPHER};
    assert_int_equal(judged(&o, prose), MOTE_DATA_REASONS);
    assert_int_equal(judged(&o, "int main(void) {\n    for (int i = 0; i < 10; i++) printf(\"%d\\n\", i * i);\n    return 0;\n}\n"), MOTE_DATA_QUALITY);
    o = (mote_data_options){.script = "latin"};
    assert_int_equal(judged(&o, prose), MOTE_DATA_REASONS);
    static const char russian[] = "\xD0\xBE\xD0\xBD \xD0\xBF\xD1\x80\xD0\xB8\xD1\x88\xD1\x91\xD0\xBB \xD0\xB4\xD0\xBE\xD0\xBC\xD0\xBE\xD0\xB9 \xD0\xB8 "
                                  "\xD1\x81\xD0\xB5\xD0\xBB \xD0\xB7\xD0\xB0 \xD1\x81\xD1\x82\xD0\xBE\xD0\xBB \xD1\x83 \xD0\xBE\xD0\xBA\xD0\xBD\xD0\xB0";
    assert_int_equal(judged(&o, russian), MOTE_DATA_SCRIPT);
    o.script = "cyrillic";
    assert_int_equal(judged(&o, russian), MOTE_DATA_REASONS);
    o = (mote_data_options){.language = "en"};
    assert_int_equal(judged(&o, prose), MOTE_DATA_REASONS);
    static const char german[] = "Es war sp\xC3\xA4t am Abend, als die drei an den Fluss kamen, und die F\xC3\xA4hre war nicht mehr da; sie setzten sich auf das Ufer.";
    assert_int_equal(judged(&o, german), MOTE_DATA_LANGUAGE);
    o.language = "de";
    assert_int_equal(judged(&o, german), MOTE_DATA_REASONS);
    mote_error err;
    o = (mote_data_options){.script = "runes"};
    assert_int_equal(curate_check(&o, &err), MOTE_E_USAGE);
    o = (mote_data_options){.order = MOTE_DATA_BY_LOSS};
    assert_int_equal(curate_check(&o, &err), MOTE_E_USAGE);
}

static void personal_data_is_replaced_and_dates_are_not(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"write to jane.doe+x@mail.example.org, please", "write to <e-mail>, please"},
        {"call +49 30 1234567 or (555) 123-4567.", "call <phone> or <phone>."},
        {"the server 192.168.10.1 said", "the server <ip> said"},
        {"card 4111 1111 1111 1111!", "card <card>!"},
        {"on 2026-11-21 12 people paid 1,234,567.89 for version 1.2.3.4567", NULL},
        {"a@b, 300.1.2.3, 10/11/2026, 1-2-3, pi is 3.14159265358979", NULL},
        {"@", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        buf b;
        buf_init(&b, 1 << 16);
        size_t n = curate_redact(str_of(cases[i][0]), &b);
        const char *want = cases[i][1] ? cases[i][1] : cases[i][0];
        if (b.n != strlen(want) || (b.n && strcmp(b.p, want) != 0)) fail_msg("'%s' became '%s'", cases[i][0], b.p);
        assert_true((n > 0) == (cases[i][1] != NULL));
        buf_free(&b);
    }
}

/* Documents of 200 words of which `changed` differ from the first's: its Jaccard similarity is known. */
static void make_variant(buf *b, uint64_t seed, int changed) {
    rng r, c;
    rng_seed(&r, 1, 1);
    rng_seed(&c, seed, 2);
    buf_clear(b);
    for (int i = 0; i < 200; i++) {
        uint32_t word = rng_below(&r, 100000);
        if (changed && i % (200 / changed) == 50 % (200 / changed)) word = 200000 + rng_below(&c, 100000);
        buf_printf(b, "word%u ", word);
    }
}

static void near_duplicates_go_by_their_similarity(void **state) {
    (void)state;
    /* each changed word touches 5 of 196 sequences: similarity (196 - 5 c) / (196 + 5 c) */
    static const struct {
        int changed;
        mote_data_reason want;
    } cases[] = {{0, MOTE_DATA_DUPLICATE}, {1, MOTE_DATA_NEAR}, {2, MOTE_DATA_NEAR}, {10, MOTE_DATA_REASONS}, {20, MOTE_DATA_REASONS}};
    buf b;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        same_set *s;
        words w = {0};
        mote_data_reason why;
        OK(same_open(&s, &(mote_data_options){0}, &e_));
        make_variant(&b, 0, 0);
        OK(words_of(&w, buf_str(&b), &e_));
        OK(same_check(s, &w, &why, &e_));
        assert_int_equal(why, MOTE_DATA_REASONS);
        make_variant(&b, i + 1, cases[i].changed);
        OK(words_of(&w, buf_str(&b), &e_));
        OK(same_check(s, &w, &why, &e_));
        assert_int_equal(why, cases[i].want);
        words_free(&w);
        same_close(&s);
    }
    buf_free(&b);
    if (getenv("MOTE_REPORT")) report_row("data", "near duplicates at 0.8", "similarity 0.95, 0.90 found; 0.59, 0.32 kept", "all", "ok", "-", "MinHash 128, 32 bands");
}

static void the_whole_way_keeps_what_is_good_and_says_what_went(void **state) {
    (void)state;
    char in[256], eval[256], out[256], rejected[256];
    buf b;
    buf_init(&b, 1 << 20);
    buf_printf(&b, "{\"text\": \"%s\", \"licence\": \"CC0-1.0\"}\n", prose);
    buf_printf(&b, "{\"text\": \"  %s\"}\n", prose); /* equal but for white space */
    buf_puts(&b, "{\"text\": \"The answer to the long question of the test is that nobody in the whole wide world knows it, they said.\"}\n");
    buf_puts(&b, "{\"messages\": [{\"role\": \"user\", \"content\": \"My address is me@example.com, what can I write there to my friends?\"}, {\"role\": \"assistant\", "
                 "\"content\": \"You may write whatever you like, of course.\"}], \"licence\": \"MIT\"}\n");
    buf_puts(&b, "broken\n{\"text\": \"short\"}\n");
    (void)write_text(in, "in.jsonl", b.p);
    buf_free(&b);
    const char *const evals[] = {write_text(eval, "eval.jsonl", "{\"q\": \"?\", \"choices\": [\"x\", \"question of the test is that nobody in the whole wide world knows\"]}\n")};
    const char *const paths[] = {in};
    mote_data_options o = {.personal = MOTE_DATA_PRIVATE_REDACT, .evaluation = evals, .n_evaluation = 1, .order = MOTE_DATA_BY_LENGTH, .rejected = path_of(rejected, "no.jsonl")};
    mote_data_report r;
    OK(curate_prepare(paths, 1, path_of(out, "out.jsonl"), &o, &r, &e_));
    assert_int_equal(r.left_out[MOTE_DATA_BROKEN], 1);
    assert_int_equal(r.left_out[MOTE_DATA_DUPLICATE], 1);
    assert_int_equal(r.left_out[MOTE_DATA_EVALUATION], 1);
    assert_int_equal(r.left_out[MOTE_DATA_SHORT], 1);
    assert_int_equal(r.n_in, 6);
    assert_int_equal(r.n_out, 2);
    assert_int_equal(r.n_redacted, 1);
    assert_string_equal(r.licences[0].name, "CC0-1.0");
    assert_string_equal(r.licences[1].name, "MIT");
    assert_non_null(strstr(r.first_broken, "in.jsonl:5"));
    char *text = read_text("no.jsonl");
    assert_non_null(strstr(text, "\"reason\":\"holds evaluation text\""));
    mem_free(text);
    char sum[SHA256_HEX], written[SHA256_HEX];
    OK(sha256_file(out, sum, &e_));
    assert_string_equal(sum, r.sha256);
    memcpy(written, sum, sizeof sum);
    mote_error err;
    (void)write_text(in, "in.jsonl", "{\"text\": \"short\"}\n");
    assert_int_equal(curate_prepare(paths, 1, out, &o, &r, &err), MOTE_E_FORMAT);
    OK(sha256_file(out, sum, &e_)); /* what was there still is */
    assert_string_equal(sum, written);
}

static void a_models_loss_orders_and_redaction_reaches_messages(void **state) {
    (void)state;
    char in[256], out[256], model[256];
    OK(tiny_model_write(path_of(model, "tiny.gguf"), &(tiny_opts){0}, &e_));
    buf b;
    buf_init(&b, 1 << 20);
    static const char *const said[] = {"aaaa bbbb cccc dddd eeee ffff gggg hhhh iiii", "Some other words that stand in another order, and a mail to me@example.com too",
                                       "zq xj kv wy pf mh gt bn dl rs tv"};
    for (size_t i = 0; i < COUNT_OF(said); i++)
        buf_printf(&b, "{\"messages\": [{\"role\": \"user\", \"content\": \"question number %zu\"}, {\"role\": \"assistant\", \"content\": \"%s\"}]}\n", i, said[i]);
    (void)write_text(in, "chat.jsonl", b.p);
    buf_free(&b);
    const char *const paths[] = {in};
    mote_data_options o = {.personal = MOTE_DATA_PRIVATE_REDACT, .order = MOTE_DATA_BY_LOSS, .model = model, .n_threads = 1};
    mote_data_report r;
    OK(curate_prepare(paths, 1, path_of(out, "out.jsonl"), &o, &r, &e_));
    assert_int_equal(r.n_out, 3);
    assert_int_equal(r.n_redacted, 1);
    assert_true(r.loss > 0 && r.tokens_out > 30);
    char *text = read_text("out.jsonl");
    assert_non_null(strstr(text, "a mail to <e-mail> too"));
    double last = 0;
    for (const char *p = text; (p = strstr(p, "\"loss\":")); p++) {
        double loss;
        assert_true(str_to_double(str_sub(str_of(p), 7, strcspn(p + 7, "}")), &loss));
        assert_true(loss >= last);
        last = loss;
    }
    assert_true(last > 0);
    mem_free(text);
    o.max_loss = 1e-3;
    mote_error err;
    assert_int_equal(curate_prepare(paths, 1, out, &o, &r, &err), MOTE_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_judged_by_their_faults),
        cmocka_unit_test(personal_data_is_replaced_and_dates_are_not),
        cmocka_unit_test(near_duplicates_go_by_their_similarity),
        cmocka_unit_test(the_whole_way_keeps_what_is_good_and_says_what_went),
        cmocka_unit_test(a_models_loss_orders_and_redaction_reaches_messages),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
