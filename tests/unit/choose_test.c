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

static void the_likeliest_span_is_found(void **unused) {
    (void)unused;
    const char *text = "the fox, (old) ran.\n to my river!";
    static const char *const words[] = {"the", "fox", "old", "ran", "to", "my", "river"}; /* as they lie in it */
    static const int line[] = {0, 0, 0, 0, 1, 1, 1};
    static const char *const fields[] = {"who", "where"};
    mote_span found[2];
    bool taken[7] = {false};
    char before[128];
    (void)snprintf(before, sizeof before, "Text: %s\n", text);
    OK(mote_extract(session, 0, text, strlen(text), fields, 2, found, &e_));
    for (int k = 0; k < 2; k++) {
        mote_span best = {.log_p = -1e30};
        size_t n = strlen(before);
        (void)snprintf(before + n, sizeof before - n, "%s:", fields[k]);
        for (size_t i = 0; i < 7; i++)
            for (size_t j = i; j < 7 && line[j] == line[i] && !taken[j]; j++) {
                size_t from = (size_t)(strstr(text, words[i]) - text), until = (size_t)(strstr(text, words[j]) - text) + strlen(words[j]);
                char span[64];
                (void)snprintf(span, sizeof span, " %.*s\n", (int)(until - from), text + from);
                double l = log_p(before, span);
                if (l > best.log_p) best = (mote_span){from, until - from, l};
            }
        assert_int_equal(found[k].from, best.from);
        assert_int_equal(found[k].n, best.n);
        assert_true(fabs(found[k].log_p - best.log_p) < 1e-4);
        for (size_t i = 0; i < 7; i++) {
            size_t at = (size_t)(strstr(text, words[i]) - text);
            taken[i] |= at >= best.from && at < best.from + best.n;
        }
        n = strlen(before);
        (void)snprintf(before + n, sizeof before - n, " %.*s\n", (int)best.n, text + best.from);
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
        cmocka_unit_test(the_likeliest_span_is_found),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
