/* eval_test.c: tasks from documents, Python's draw, how answers are judged, what is said about bad files. Expected values are
 * those of CPython's random module and of lm-evaluation-harness. */
#include "report.h"
#include "run/eval_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void test_python_draw(void **unused) {
    static const struct {
        uint64_t seed;
        size_t n, k, first[6], second[6];
    } cases[] = {
        {1234, 10, 3, {7, 1, 0}, {1, 0, 9}},
        {1234, 100, 5, {99, 56, 14, 0, 11}, {74, 4, 85, 88, 10}},
        {7, 1319, 6, {663, 308, 808, 98, 148, 1097}, {192, 748, 1193, 118, 1039, 439}},
        {1234, 30, 6, {24, 14, 3, 0, 2, 18}, {1, 21, 22, 2, 3, 24}},
    };
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        py_random r;
        size_t got[6];
        py_seed(&r, cases[i].seed);
        assert_true(py_sample(&r, cases[i].n, cases[i].k, got));
        assert_memory_equal(got, cases[i].first, cases[i].k * sizeof *got);
        assert_true(py_sample(&r, cases[i].n, cases[i].k, got));
        assert_memory_equal(got, cases[i].second, cases[i].k * sizeof *got);
    }
}

static void test_python_text(void **unused) {
    buf b;
    (void)unused;
    assert_true(str_is(py_strip(STR(" \t\u00a0\u2003a b\u3000\n")), "a b"));
    assert_true(str_is(py_strip(STR(" \n ")), ""));
    buf_init(&b, 1000);
    py_capitalize(&b, STR("hELLO Über ÄÖ"));
    assert_true(str_is(buf_str(&b), "Hello über äö"));
    buf_free(&b);
}

/* The harness's own answers (lm_eval 0.4.13, task wikitext; Python's re.split). */
static void test_pages(void **unused) {
    static const char page[] = " = Title = \n The cat 's 1 @,@ 000 and 2 @.@ 5 well @-@ known dogs ' bowls ( of \n food ) : \" yes \" ; no ! ? , x . \n\n = = Part = = \n"
                               " 20 \u00b0 C N [ a ] { b } 'q ' /' 5/ = = = Sub = = = \n";
    static const char want[] = " = Title =\nThe cat's 1,000 and 2.5 well-known dogs' bowls (of\nfood): \"yes\"; no!?, x.\n\n== Part ==\n20\u00b0C 1 [a] {b} 'q' /'[0-9]/ === Sub ===\n";
    mote_error e;
    buf b;
    (void)unused;
    buf_init(&b, 4096);
    assert_int_equal(eval_wikitext(STR(page), &b, &e), MOTE_OK);
    assert_true(str_is(buf_str(&b), want));
    assert_int_equal(eval_words(STR(page)), 62);
    assert_int_equal(eval_words(STR("  two\u2003words\u00a0 here\x1f ")), 5);
    buf_clear(&b);
    assert_int_equal(eval_wikitext(STR("a \xff ( b"), &b, &e), MOTE_E_FORMAT); /* not UTF-8 */
    buf_free(&b);
}

/* One document as an item of a task. */
static mote_status item_of(const char *task, const char *doc, arena *a, eval_item *it, json_t **keep, mote_error *err) {
    assert_int_equal(json_parse(keep, str_of(doc), "test", NULL), MOTE_OK);
    *it = (eval_item){.doc = *keep};
    return eval_find_task(task)->item(*keep, a, it, err);
}

static void test_items(void **unused) {
    static const struct {
        const char *task, *doc, *prompt, *choice;
        size_t n, gold;
    } cases[] = {
        {"arc_easy", "{\"question\":\"Why?\",\"choices\":{\"text\":[\"a\",\"b\"],\"label\":[\"1\",\"2\"]},\"answerKey\":\"2\"}", "Question: Why?\nAnswer:", "b", 2, 1},
        {"arc_challenge", "{\"question\":{\"stem\":\"Why?\",\"choices\":[{\"text\":\"a\",\"label\":\"A\"},{\"text\":\"b\",\"label\":\"B\"}]},\"answerKey\":\"A\"}",
         "Question: Why?\nAnswer:", "a", 2, 0},
        {"openbookqa", "{\"question_stem\":\"The sun\",\"choices\":{\"text\":[\"is hot\"],\"label\":[\"A\"]},\"answerKey\":\" A\"}", "The sun", "is hot", 1, 0},
        {"hellaswag", "{\"activity_label\":\"Cook\",\"ctx_a\":\"A man [step] cuts.\",\"ctx_b\":\"then HE\",\"endings\":[\"x [title] y\",\" eats  it\"],\"label\":\"1\"}",
         "Cook: A man cuts. Then he", "eats it", 2, 1},
        {"hellaswag", "{\"query\":\"Cook: he\",\"endings\":[\"x [title] y\"],\"label\":0}", "Cook: he", "x. y", 1, 0},
        {"piqa", "{\"goal\":\"G\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":1}", "Question: G\nAnswer:", "b", 2, 1},
        {"boolq", "{\"passage\":\"P\",\"question\":\"is it\",\"answer\":true}", "P\nQuestion: is it?\nAnswer:", "yes", 2, 1},
        {"winogrande", "{\"sentence\":\"Ann beat Bo so _ was glad.\",\"option1\":\"Ann\",\"option2\":\"Bo\",\"answer\":\"1\"}", "Ann beat Bo so Ann", "was glad.", 2, 0},
        {"mmlu", "{\"question\":\" Q \",\"choices\":[\"a\",\"b\",\"c\",\"d\"],\"answer\":3}", "Question: Q\nAnswer:", "d", 4, 3},
        {"gsm8k", "{\"question\":\"1+1\",\"answer\":\"2 #### 2\"}", "Question: 1+1\nAnswer:", NULL, 1, 0},
    };
    static const struct {
        const char *task, *doc;
    } bad[] = {
        {"piqa", "{\"goal\":\"G\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":2}"}, {"piqa", "{\"goal\":\"G\",\"sol1\":\"a\",\"sol2\":\"b\"}"},
        {"winogrande", "{\"sentence\":\"no gap\",\"option1\":\"Ann\",\"option2\":\"Bo\",\"answer\":\"1\"}"}, {"mmlu", "{\"question\":\"Q\",\"choices\":[],\"answer\":0}"},
        {"arc_easy", "{\"question\":\"Why?\",\"choices\":{\"text\":[\"a\"],\"label\":[\"A\"]},\"answerKey\":\"B\"}"}, {"hellaswag", "{\"endings\":[1],\"label\":0}"},
    };
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(cases) + COUNT_OF(bad); i++) {
        arena a;
        eval_item it;
        json_t *doc;
        mote_error err = {0};
        bool good = i < COUNT_OF(cases);
        arena_init(&a, 1 << 20);
        mote_status s = item_of(good ? cases[i].task : bad[i - COUNT_OF(cases)].task, good ? cases[i].doc : bad[i - COUNT_OF(cases)].doc, &a, &it, &doc, &err);
        assert_int_equal(s == MOTE_OK, good);
        if (good) {
            assert_int_equal(it.n, cases[i].n);
            assert_int_equal(it.gold, cases[i].gold);
            assert_true(str_is(it.prompts[it.gold], cases[i].prompt));
            if (cases[i].choice) assert_true(str_is(it.choices[it.gold], cases[i].choice));
        } else assert_int_not_equal(strlen(err.message), 0);
        json_decref(doc);
        arena_free(&a);
    }
}

static void test_gsm8k(void **unused) {
    static const struct {
        const char *answer, *right;
        double strict, flexible;
    } cases[] = {
        {"so 3 + 4 = 7\n#### 7", "x #### 7", 1, 1},     {"the answer is $1,200.", "#### 1200", 0, 1}, {"#### 12 and then 15", "#### 12", 1, 0},
        {"nothing here", "#### 5", 0, 0},                {"#### -3", "a\n#### -3", 1, 1},              {"", "#### 1", 0, 0},
        {"he pays 5 or 10. 18", "#### 18", 0, 1},        {"#### 7.", "#### 7", 1, 1},
    };
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        eval_item it = {.answer = str_of(cases[i].right)};
        double v[2];
        json_t *d = json_object();
        assert_int_equal(eval_judge_gsm8k(&it, str_of(cases[i].answer), v, d, NULL), MOTE_OK);
        if (v[0] != cases[i].strict || v[1] != cases[i].flexible) fail_msg("case %zu: %g %g", i, v[0], v[1]);
        json_decref(d);
    }
}

static void test_instructions(void **unused) {
    file_map f = {0};
    json_t *all, *c;
    size_t i, wrong = 0;
    (void)unused;
    assert_int_equal(file_open(&f, MOTE_TEST_DATA "/ifeval.json", FILE_READ, NULL), MOTE_OK);
    assert_int_equal(json_parse(&all, (str){(const char *)f.p, f.n}, "ifeval.json", NULL), MOTE_OK);
    const json_t *answers = json_object_get(all, "answers");
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        const char *id = json_string_value(json_object_get(c, "id"));
        for (size_t k = 0; k < json_array_size(answers); k++) {
            const json_t *a = json_array_get(answers, k);
            const json_t *follows = json_array_get(json_object_get(c, "follows"), k);
            bool known, want = json_is_true(follows);
            if (json_is_null(follows)) continue;
            bool got = eval_follows(id, json_object_get(c, "args"), (str){json_string_value(a), json_string_length(a)}, &known);
            assert_true(known);
            if (got == want) continue;
            wrong++;
            print_message("%s (case %zu), answer %zu: %d, expected %d\n", id, i, k, got, want);
        }
    }
    json_decref(all);
    file_close(&f);
    assert_int_equal(wrong, 0);
    assert_int_equal(eval_sentences(STR("Mr. Smith came. He left! Did he? yes")), 3 + 1);
    assert_int_equal(eval_sentences(STR("One, e.g. this.\nTwo")), 2);
    assert_int_equal(eval_sentences(STR("")), 0);
}

/* chrF as sacrebleu gives it, ROUGE as rouge-score. */
static void test_texts(void **unused) {
    static const struct {
        const char *got, *want;
        double chrf, rouge1, rouge2, rougeL, f1;
    } cases[] = {
        {"The cat sat on the mat.", "A cat sat on a mat today.", 0.40298442604937834, 8.0 / 13, 4.0 / 11, 8.0 / 13, 8.0 / 9},
        {"completely different", "nothing alike here", 0.12314558265666346, 0, 0, 0, 0},
        {"same text", "same text", 1, 1, 1, 1, 1},
        {"Ein Hund läuft über die Straße", "Der Hund läuft schnell über die Straße", 0.6052686910950029, -1, -1, -1, -1},
        {"", "not empty", 0, 0, 0, 0, 0},
    };
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        eval_scores sc;
        assert_int_equal(eval_text_scores(str_of(cases[i].got), str_of(cases[i].want), &sc, NULL), MOTE_OK);
        assert_true(fabs(sc.chrf - (cases[i].chrf)) <= 1e-6);
        if (cases[i].rouge1 < 0) continue;
        assert_true(fabs(sc.rouge1 - (cases[i].rouge1)) <= 1e-9);
        assert_true(fabs(sc.rouge2 - (cases[i].rouge2)) <= 1e-9);
        assert_true(fabs(sc.rougeL - (cases[i].rougeL)) <= 1e-9);
        assert_true(fabs(sc.f1 - (cases[i].f1)) <= 1e-9);
    }
}

/* tools/golden_scores.py: what the two packages give for the pairs. */
static void test_texts_beside_the_packages(void **unused) {
    file_map f = {0};
    json_t *all, *c;
    size_t i, wrong = 0;
    double worst = 0;
    (void)unused;
    assert_int_equal(file_open(&f, MOTE_TEST_DATA "/scores.json", FILE_READ, NULL), MOTE_OK);
    assert_int_equal(json_parse(&all, (str){(const char *)f.p, f.n}, "scores.json", NULL), MOTE_OK);
    assert_true(json_array_size(all) > 40);
    json_array_foreach(all, i, c) {
        eval_scores sc;
        assert_int_equal(eval_text_scores(json_get_str(c, "got"), json_get_str(c, "want"), &sc, NULL), MOTE_OK);
        const double got[] = {sc.chrf, sc.rouge1, sc.rouge2, sc.rougeL};
        static const char *const names[] = {"chrf", "rouge1", "rouge2", "rougeL"};
        for (size_t k = 0; k < COUNT_OF(got); k++) {
            double off = fabs(got[k] - json_get_num(c, names[k], -1));
            worst = fmax(worst, off);
            if (off <= 1e-9) continue;
            wrong++;
            print_message("pair %zu, '%s' beside '%s': %s %.10f, the package's %.10f\n", i, json_get_str(c, "got").p, json_get_str(c, "want").p, names[k], got[k],
                          json_get_num(c, names[k], -1));
        }
    }
    if (getenv("MOTE_REPORT")) {
        char measured[64];
        (void)snprintf(measured, sizeof measured, "%zu pairs, off by at most %.0e", json_array_size(all), worst);
        report_row("eval", "chrF, ROUGE-1/2/L beside sacrebleu, rouge_score", measured, "1e-9", wrong ? "FAIL" : "ok", "-", "eval_text_scores");
    }
    json_decref(all);
    file_close(&f);
    assert_int_equal(wrong, 0);
}

static void test_extraction(void **unused) {
    static const struct {
        const char *doc, *answer;
        double f1, exact, json;
    } cases[] = {
        {"{\"expected\":{\"name\":\"Ann\",\"age\":3}}", "Sure: {\"name\":\"ann \",\"age\":3.0}", 1, 0, 1},
        {"{\"expected\":{\"name\":\"Ann\",\"age\":3}}", "{\"name\":\"Ann\",\"age\":3}", 1, 1, 1},
        {"{\"expected\":{\"name\":\"Ann\",\"age\":3}}", "{\"name\":\"Ann\",\"age\":4,\"more\":[1,2]}", 2 * 0.25 * 0.5 / 0.75, 0, 1},
        {"{\"expected\":{\"name\":\"Ann\"}}", "{\"name\": \"br{ace\"", 0, 0, 0},
        {"{\"expected\":{\"a\":[{\"b\":1}]}}", "no object", 0, 0, 0},
    };
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_t *doc;
        double v[3];
        assert_int_equal(json_parse(&doc, str_of(cases[i].doc), "test", NULL), MOTE_OK);
        eval_item it = {.doc = doc};
        assert_int_equal(eval_judge_extract(&it, str_of(cases[i].answer), v, NULL, NULL), MOTE_OK);
        assert_true(fabs(v[0] - (cases[i].f1)) <= 1e-9);
        assert_true(fabs(v[1] - (cases[i].exact)) <= 0);
        assert_true(fabs(v[2] - (cases[i].json)) <= 0);
        json_decref(doc);
    }
}

static mote_status read_text(const char *ending, const char *text, size_t *n, mote_error *err) {
    char path[64];
    json_t *docs = NULL;
    (void)snprintf(path, sizeof path, "/tmp/mote-eval-%d.%s", (int)getpid(), ending);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    mote_status s = eval_read_docs(&docs, path, err);
    *n = json_array_size(docs);
    json_decref(docs);
    (void)unlink(path);
    return s;
}

static void test_files(void **unused) {
    mote_error err = {0};
    size_t n;
    (void)unused;
    assert_int_equal(read_text("jsonl", "{\"a\":1}\n\n{\"a\":2}", &n, &err), MOTE_OK);
    assert_int_equal(n, 2);
    assert_int_equal(read_text("json", " [{\"a\":1}]", &n, &err), MOTE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(read_text("csv", "question,a,b,c,d,answer\n\"What, \"\"now\"\"?\nHm\",1,2,3,4,B\r\nq,1,2,3,4,3\n", &n, &err), MOTE_OK);
    assert_int_equal(n, 2);
    assert_int_equal(read_text("txt", "Cook: he\n1\na\nb\nc\nd\n", &n, &err), MOTE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(read_text("jsonl", "{\"a\":1}\n{\"a\":", &n, &err), MOTE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 2"));
    assert_int_equal(read_text("json", "[1]", &n, &err), MOTE_E_FORMAT);
    assert_int_equal(read_text("csv", "a,b,c,d,e,f\nq,1,2,3,4,X\n", &n, &err), MOTE_E_FORMAT);
    assert_int_equal(read_text("csv", "\"open,1,2,3,4,A", &n, &err), MOTE_E_FORMAT);
    assert_int_equal(read_text("jsonl", "", &n, &err), MOTE_E_FORMAT);
}

static void test_loops(void **unused) {
    int32_t ids[200];
    (void)unused;
    for (int i = 0; i < 200; i++) ids[i] = i * 7 % 199;
    assert_false(eval_is_loop(ids, 200));
    for (int i = 100; i < 200; i++) ids[i] = i % 5;
    assert_true(eval_is_loop(ids, 200));
    assert_false(eval_is_loop(ids, 110));
    for (int i = 100; i < 200; i++) ids[i] = i % 23;
    assert_true(eval_is_loop(ids, 200));
    assert_false(eval_is_loop(ids, 140));
    assert_false(eval_is_loop(ids, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_python_draw), cmocka_unit_test(test_pages), cmocka_unit_test(test_python_text), cmocka_unit_test(test_items), cmocka_unit_test(test_gsm8k),
        cmocka_unit_test(test_instructions), cmocka_unit_test(test_texts), cmocka_unit_test(test_texts_beside_the_packages), cmocka_unit_test(test_extraction), cmocka_unit_test(test_loops), cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
