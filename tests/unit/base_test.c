/* base_test.c: UTF-8, buffers, numbers, arena, pool. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

static void utf8_whole_holds_back_the_start_of_a_character(void **state) {
    (void)state;
    assert_int_equal(utf8_whole("a\xE2\x82", 3), 1);
    assert_int_equal(utf8_whole("a\xE2\x82\xAC", 4), 4);
    assert_int_equal(utf8_whole("\xF0\x9F\x98", 3), 0);
    assert_int_equal(utf8_whole("a\xFF", 2), 2);
    assert_int_equal(utf8_whole("\xED\xA0", 2), 2); /* a surrogate can never become whole */
}

static void utf8_is_strict(void **state) {
    (void)state;
    assert_true(utf8_valid("h\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10));
    assert_false(utf8_valid("\xC0\x80", 2));
    assert_false(utf8_valid("\xED\xA0\x80", 3));
    assert_false(utf8_valid("\xF4\x90\x80\x80", 4));
    for (uint32_t cp = 1; cp <= 0x10FFFF; cp += 7) {
        char b[4];
        uint32_t back;
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        size_t n = utf8_encode(cp, b);
        assert_int_equal(utf8_decode(b, n, &back), n);
        assert_int_equal(back, cp);
    }
}

static void a_buffer_keeps_its_maximum(void **state) {
    (void)state;
    buf b;
    buf_init(&b, 10);
    buf_puts(&b, "0123456789");
    assert_int_equal(buf_check(&b, "b", NULL), MOTE_OK);
    buf_putc(&b, 'x');
    mote_error e;
    assert_int_equal(buf_check(&b, "b", &e), MOTE_E_LIMIT);
    assert_int_equal(b.n, 10);
    buf_free(&b);
}

static void numbers_are_read_whole_or_not_at_all(void **state) {
    (void)state;
    int64_t i;
    double d;
    assert_true(str_to_i64(STR("-42"), &i));
    assert_int_equal(i, -42);
    assert_false(str_to_i64(STR("42x"), &i));
    assert_false(str_to_i64(STR("9223372036854775808"), &i));
    assert_true(str_to_double(STR("1.5e3"), &d));
    assert_false(str_to_double(STR("nan"), &d));
    assert_false(str_to_double(STR("1e999"), &d));
}

struct counts {
    int done[8], after[8];
    pool *p;
};

static void count_job(void *arg, int ith, int nth) {
    struct counts *c = arg;
    c->done[ith]++;
    pool_barrier(c->p);
    for (int i = 0; i < nth; i++) c->after[ith] += c->done[i];
}

static void the_pool_runs_all_threads_and_meets_at_barriers(void **state) {
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct counts c = {0};
        mote_error e;
        assert_int_equal(pool_open(&c.p, n, &e), MOTE_OK);
        for (int round = 0; round < 200; round++) pool_run(c.p, count_job, &c);
        for (int i = 0; i < n; i++) {
            assert_int_equal(c.done[i], 200);
            assert_true(c.after[i] >= n * 200 * 201 / 2);
        }
        pool_close(&c.p);
        assert_null(c.p);
    }
}

static void json_depth_and_size_are_bounded(void **state) {
    (void)state;
    char deep[1000];
    memset(deep, '[', sizeof deep);
    json_t *v;
    assert_int_equal(json_parse(&v, (str){deep, sizeof deep}, "t", NULL), MOTE_E_LIMIT);
    assert_int_equal(json_parse(&v, STR("{\"a\": 1"), "t", NULL), MOTE_E_FORMAT);
    assert_int_equal(json_parse(&v, STR("{\"b\": 7}"), "t", NULL), MOTE_OK);
    assert_int_equal(json_get_int(v, "b", 0), 7);
    json_decref(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_whole_holds_back_the_start_of_a_character),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(a_buffer_keeps_its_maximum),
        cmocka_unit_test(numbers_are_read_whole_or_not_at_all),
        cmocka_unit_test(the_pool_runs_all_threads_and_meets_at_barriers),
        cmocka_unit_test(json_depth_and_size_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
