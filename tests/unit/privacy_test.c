/* privacy_test.c: the accountant against Opacus' figures, cutting and noise, and what is refused. */
#include "report.h"
#include "train/privacy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

/* Opacus 1.6's RDPAccountant with its own orders. */
static const struct {
    struct {
        double sigma, q;
        uint64_t steps;
    } spans[2];
    double delta, epsilon;
} golden[] = {
    {{{1.0, 0.01, 1000}}, 1e-5, 2.1013652716430564},     {{{0.6, 0.1, 50}}, 1e-3, 12.211081066043725},
    {{{4.0, 0.25, 500}}, 1e-6, 7.928409972021121},       {{{1.3, 1.0, 20}}, 1e-5, 21.25431978333455},
    {{{0.8, 0.02, 300}, {1.5, 0.05, 700}}, 1e-5, 6.523578131637968},
    {{{20.0, 0.001, 10000}}, 1e-7, 0.1779327952883867},  {{{0.4, 0.5, 3}}, 1e-2, 15.727989309712529},
    {{{1.1, 0.0042, 14000}}, 1e-5, 2.5454563547629667},
};

static void epsilon_is_that_of_opacus(void **unused) {
    (void)unused;
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(golden); i++) {
        privacy_spent s = {.n = golden[i].spans[1].steps ? 2 : 1};
        for (uint64_t k = 0; k < s.n; k++) {
            s.spans[k].q = golden[i].spans[k].q;
            s.spans[k].sigma = golden[i].spans[k].sigma;
            s.spans[k].steps = golden[i].spans[k].steps;
        }
        double e = privacy_epsilon(&s, golden[i].delta);
        worst = fmax(worst, fabs(e - golden[i].epsilon));
        if (fabs(e - golden[i].epsilon) > 1e-6) fail_msg("case %zu: %.9f, Opacus %.9f", i, e, golden[i].epsilon);
    }
    char item[64], measured[32];
    (void)snprintf(item, sizeof item, "epsilon against Opacus 1.6, %zu cases", COUNT_OF(golden));
    (void)snprintf(measured, sizeof measured, "off by %.1e", worst);
    if (getenv("MOTE_REPORT")) report_row("privacy", item, measured, "1e-6", "ok", "-", "RDP accountant");
}

static void spending_only_grows(void **unused) {
    (void)unused;
    privacy_spent s = {0};
    mote_error e = {0};
    double before = privacy_epsilon(&s, 1e-5);
    assert_true(before <= 0);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(privacy_spend(&s, 0.05, i < 30 ? 1.0 : 2.0, &e), MOTE_OK);
        double now = privacy_epsilon(&s, 1e-5);
        assert_true(now >= before);
        before = now;
    }
    assert_true(s.n == 2 && s.spans[1].steps == 30);
    mote_status st = MOTE_OK;
    for (int i = 0; i < 100 && st == MOTE_OK; i++) st = privacy_spend(&s, 0.05, 3.0 + i, &e);
    assert_int_equal(st, MOTE_E_LIMIT);
    double sigma;
    assert_int_equal(privacy_find_sigma(&sigma, 3, 1e-5, 0.01, 1000, &e), MOTE_OK);
    privacy_spent t = {.n = 1, .spans = {{0.01, sigma, 1000}}};
    double got = privacy_epsilon(&t, 1e-5);
    assert_true(got <= 3 && got > 2.98);
    assert_int_equal(privacy_find_sigma(&sigma, 1e-9, 1e-5, 1, 1000000, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_find_sigma(&sigma, (double)NAN, 1e-5, 0.01, 10, &e), MOTE_E_RANGE);
}

static void what_protects_nobody_is_refused(void **unused) {
    (void)unused;
    mote_error e = {0};
    assert_int_equal(privacy_check(1, 1, 1e-5, 8, 100, &e), MOTE_OK);
    assert_int_equal(privacy_check(1, 1, 1e-5, 1, 100, &e), MOTE_OK); /* one example at a time is fine */
    assert_int_equal(privacy_check(0, 1, 1e-5, 8, 100, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_check((double)NAN, 1, 1e-5, 8, 100, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_check(1, (double)NAN, 1e-5, 8, 100, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_check(1, 0, 1e-5, 8, 100, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_check(1, 1, 0.01, 8, 100, &e), MOTE_E_RANGE); /* 1 / N */
    assert_int_equal(privacy_check(1, 1, 0, 8, 100, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_check(1, 1, 1e-5, 101, 100, &e), MOTE_E_RANGE);
    assert_int_equal(privacy_check(1, 1, 1e-5, 0, 100, &e), MOTE_E_RANGE);
}

static void examples_are_cut_and_noise_is_added(void **unused) {
    (void)unused;
    enum { N = 40000 };
    float *x = MEM_NEW_N(float, N), *room = MEM_NEW_N(float, N);
    assert_true(x && room);
    var v = {.rows = 1, .cols = N, .x = x, .room = room, .wants = true};
    train_param p = {.name = STR("w"), .v = &v};
    privacy *d;
    mote_error e = {0};
    assert_int_equal(privacy_open(&d, &p, 1, 2, 5, 4, &e), MOTE_OK);
    const unsigned char key[16] = {1, 2, 3};
    for (int i = 0; i < 2; i++) { /* one of length 10, one of length 1 */
        v.g = room;
        memset(room, 0, N * sizeof *room);
        room[i] = i ? 1 : 10;
        assert_int_equal(privacy_add(d, &e), MOTE_OK);
        assert_null(v.g);
    }
    privacy_take(d, key, 7);
    double sum = 0, square = 0;
    for (int i = 2; i < N; i++) {
        sum += (double)v.g[i];
        square += (double)v.g[i] * (double)v.g[i];
    }
    double deviation = sqrt(square / N), want = 2.0 * 5 / 4;
    assert_true(fabs(deviation - want) < 0.02 * want && fabs(sum / N) < 0.04);
    float first = v.g[0] - 0; /* 5 / 4 and noise */
    privacy_take(d, key, 7);
    assert_true(fabsf(first - v.g[0] - 5.0f / 4) < 1e-5f); /* the same noise, no sum left */
    float again = v.g[9];
    privacy_take(d, key, 8);
    assert_true(again < v.g[9] || again > v.g[9]); /* another step, other noise */
    assert_true(fabs(privacy_share_cut(d) - 0.5) < 1e-9);
    v.g = room;
    room[3] = NAN;
    assert_int_equal(privacy_add(d, &e), MOTE_E_OUTPUT);
    privacy_close(&d);
    mem_free(x);
    mem_free(room);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epsilon_is_that_of_opacus), cmocka_unit_test(spending_only_grows),
        cmocka_unit_test(what_protects_nobody_is_refused), cmocka_unit_test(examples_are_cut_and_noise_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
