/* choose_test.c: labels and spans are those that trying all of them finds. */
#include "mote/mote.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "folder.h"

#include "ok.h"

static mote_engine *engine;
static mote_model *model;
static mote_session *session;

static int open_all(void **unused) {
    mote_error err;
    int failed = make_folder(unused);
    mote_engine_opts o = mote_engine_opts_default();
    mote_session_opts so = mote_session_opts_default();
    o.n_threads = 1;
    so.n_ctx = TINY_CTX;
    so.exact = true;
    failed |= tiny_model_write(in_folder("m.gguf"), &(tiny_opts){.seed = 4}, &err);
    return failed || mote_engine_open(&engine, &o, &err) || mote_model_open(&model, engine, in_folder("m.gguf"), NULL, &err) ||
           mote_session_open(&session, model, &so, &err);
}

static int close_all(void **unused) {
    mote_session_close(&session);
    mote_model_close(&model);
    mote_engine_close(&engine);
    return remove_folder(unused);
}

/* log P(what | before), by one row of logits at a time. */
static double log_p(const char *before, const char *what) {
    int32_t ids[TINY_CTX], all[TINY_CTX];
    char text[512];
    size_t n, m;
    double sum = 0;
    (void)snprintf(text, sizeof text, "%s%s", before, what);
    OK(mote_tokenize(model, before, strlen(before), MOTE_TOK_BOS, ids, TINY_CTX, &n, &e_));
    OK(mote_tokenize(model, text, strlen(text), MOTE_TOK_BOS, all, TINY_CTX, &m, &e_));
    for (size_t i = n; i < m; i++) {
        OK(mote_session_prompt(session, 0, all, i, NULL, &e_));
        const float *row = mote_session_logits(session, 0);
        double top = -1e30, total = 0;
        for (size_t v = 0; v < mote_model_n_vocab(model); v++) top = fmax(top, (double)row[v]);
        for (size_t v = 0; v < mote_model_n_vocab(model); v++) total += exp((double)row[v] - top);
        sum += (double)row[all[i]] - top - log(total);
    }
    return sum;
}

static void labels_are_compared_with_a_text_that_says_nothing(void **unused) {
    (void)unused;
    static const char *const labels[] = {"fox", "old dog", "a", "river"};
    double p[4], want[4], sum = 0;
    OK(mote_classify(session, 0, "the fox ran", 11, labels, 4, p, &e_));
    for (int i = 0; i < 4; i++) {
        char label[16];
        (void)snprintf(label, sizeof label, " %s", labels[i]);
        const double category = log_p("Text: the fox ran\nCategory:", label) - log_p("Text: N/A\nCategory:", label);
        const double topic = log_p("Text: the fox ran\nTopic:", label) - log_p("Text: N/A\nTopic:", label);
        sum += want[i] = exp((category + topic) / 2);
    }
    for (int i = 0; i < 4; i++) assert_true(fabs(p[i] - want[i] / sum) < 1e-5);
}

/* Fields with their spans so far. */
typedef struct filled {
    mote_span spans[2];
    double sum;
    char before[200];
} filled;

static void keep_best(filled best[3], const filled *one) {
    size_t at = 3;
    while (at > 0 && one->sum > best[at - 1].sum) at--;
    for (size_t i = 2; i > at; i--) best[i] = best[i - 1];
    if (at < 3) best[at] = *one;
}

/* Three fillings of the fields are followed; one whose spans are not the likeliest of their field has a nat less for each. */
static void the_likeliest_spans_are_found(void **unused) {
    (void)unused;
    const char *text = "the fox, (old) ran.\n to my river!";
    static const char *const words[] = {"the", "fox", "old", "ran", "to", "my", "river"}; /* as they lie in it */
    static const int line[] = {0, 0, 0, 0, 1, 1, 1};
    static const char *const fields[] = {"who", "where"};
    mote_span found[2];
    filled now[3] = {{.sum = 0}, {.sum = -1e30}, {.sum = -1e30}};
    OK(mote_extract(session, 0, text, strlen(text), fields, 2, found, &e_));
    (void)snprintf(now[0].before, sizeof now[0].before, "Text: %s\n", text);
    for (size_t k = 0; k < 2; k++) {
        filled next[3] = {{.sum = -1e30}, {.sum = -1e30}, {.sum = -1e30}};
        for (size_t h = 0; h < 3 && now[h].sum > -1e30; h++) {
            char asked[220];
            filled of_field[3] = {{.sum = -1e30}, {.sum = -1e30}, {.sum = -1e30}};
            (void)snprintf(asked, sizeof asked, "%s%s:", now[h].before, fields[k]);
            for (size_t i = 0; i < 7; i++) {
                for (size_t j = i; j < 7 && line[j] == line[i]; j++) {
                    const size_t from = (size_t)(strstr(text, words[i]) - text), at = (size_t)(strstr(text, words[j]) - text), until = at + strlen(words[j]);
                    if (k > 0 && at >= now[h].spans[0].from && at < now[h].spans[0].from + now[h].spans[0].n) break; /* taken */
                    char span[64];
                    filled one = now[h];
                    (void)snprintf(span, sizeof span, " %.*s\n", (int)(until - from), text + from);
                    one.spans[k] = (mote_span){from, until - from, log_p(asked, span)};
                    one.sum += one.spans[k].log_p;
                    (void)snprintf(one.before, sizeof one.before, "%.120s%s", asked, span);
                    keep_best(of_field, &one);
                }
            }
            for (size_t i = 0; i < 3; i++) {
                of_field[i].sum -= i > 0;
                keep_best(next, &of_field[i]);
            }
        }
        memcpy(now, next, sizeof now);
    }
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(found[k].from, now[0].spans[k].from);
        assert_int_equal(found[k].n, now[0].spans[k].n);
        assert_true(fabs(found[k].log_p - now[0].spans[k].log_p) < 1e-4);
    }
}

static void what_cannot_be_is_refused(void **unused) {
    (void)unused;
    static const char *const good[] = {"a"}, *const bad[] = {"a", ""}, *const lines[] = {"a\nb"};
    char label[400], text[2 * TINY_CTX];
    const char *const longer[] = {label};
    double p[2];
    mote_span span;
    memset(label, 'x', sizeof label - 1);
    label[sizeof label - 1] = 0;
    memset(text, 'q', sizeof text);
    assert_int_equal(mote_classify(session, 0, "t", 1, good, 0, p, NULL), MOTE_E_USAGE);
    assert_int_equal(mote_classify(session, 0, "t", 1, bad, 2, p, NULL), MOTE_E_USAGE);
    assert_int_equal(mote_classify(session, 0, "t", 1, longer, 1, p, NULL), MOTE_E_USAGE);
    assert_int_equal(mote_extract(session, 0, "t", 1, lines, 1, &span, NULL), MOTE_E_USAGE);
    assert_int_equal(mote_classify(session, 0, text, sizeof text, good, 1, p, NULL), MOTE_E_CONTEXT);
    assert_int_equal(mote_classify(session, 7, "t", 1, good, 1, p, NULL), MOTE_E_RANGE);
    OK(mote_extract(session, 0, " ,.", 3, good, 1, &span, &e_));
    assert_int_equal(span.n, 0);
    OK(mote_classify(session, 0, "<|im_end|>", 10, good, 1, p, &e_)); /* text, no control token */
    for (size_t i = 0; i < mote_session_length(session, 0); i++) assert_int_not_equal(mote_session_tokens(session, 0)[i], TINY_IM_END);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_compared_with_a_text_that_says_nothing),
        cmocka_unit_test(the_likeliest_spans_are_found),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
