/* trainer_test.c: the loop: parts add up to the whole, threads change nothing, the guard stops, skips and goes back. */
#include "toy_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

static toy_result a, b;

static void ran(toy_result *r, const toy_opts *o) {
    mote_error e;
    if (toy_run(r, o, &e) != MOTE_OK) fail_msg("%s", e.message);
}

static char *folder(void) {
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/mote-trainer-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static void gone(const char *path) {
    char cmd[128];
    (void)snprintf(cmd, sizeof cmd, "rm -r %s", path);
    assert_int_equal(system(cmd), 0);
}

static void it_learns(void **given) {
    (void)given;
    for (int k = 0; k < 4; k++) { /* AdamW and Muon, with 32 and 8 bits */
        ran(&a, &(toy_opts){.muon = k & 1, .bits8 = k & 2});
        assert_int_equal(a.ended, TOY_STEPS);
        assert_true(a.losses[1] > 3.2 && a.losses[TOY_STEPS] < 0.75 * a.losses[1]);
    }
}

static void threads_change_nothing(void **given) {
    (void)given;
    ran(&a, &(toy_opts){.threads = 1, .ema = true, .muon = true});
    ran(&b, &(toy_opts){.threads = 3, .ema = true, .muon = true});
    assert_true(toy_same(&a, &b));
}

/* Losses differ from row to row in weight: a mean of means would not be the mean. */
static void parts_add_up_to_the_whole(void **given) {
    (void)given;
    ran(&a, &(toy_opts){0});
    for (size_t per = 1; per < TOY_ROWS; per++) {
        ran(&b, &(toy_opts){.rows_per_part = per});
        for (size_t i = 1; i <= TOY_STEPS; i++) assert_true(fabs(a.losses[i] - b.losses[i]) < 1e-4);
        assert_true(fabs(a.losses[1] - b.losses[1]) < 1e-6);
    }
}

static void averages_follow_the_weights(void **given) {
    (void)given;
    ran(&a, &(toy_opts){.ema = true});
    double far = 0, near = 0;
    for (size_t i = 0; i < COUNT_OF(a.head); i++) {
        near += fabs((double)a.mean[i] - (double)a.head[i]);
        far += fabs((double)a.head[i]);
    }
    assert_true(near > 0 && near < 0.3 * far);
}

static void a_bad_loss_stops_the_run_and_is_named(void **given) {
    (void)given;
    mote_error e;
    assert_int_equal(toy_run(&a, &(toy_opts){.bad_step = 7}, &e), MOTE_E_OUTPUT);
    assert_non_null(strstr(e.message, "step 7: the gradient of 'table' is not finite"));
    assert_int_equal(a.ended, 6);
    for (size_t i = 0; i < COUNT_OF(a.head); i++) assert_true(isfinite(a.head[i]));
}

static void a_bad_step_is_skipped(void **given) {
    (void)given;
    ran(&a, &(toy_opts){.bad_step = 7, .guard = GUARD_SKIP});
    assert_int_equal(a.ended, TOY_STEPS);
    assert_int_equal(a.counter, TOY_STEPS - 1);
    assert_non_null(strstr(a.log, "step 7: "));
    assert_non_null(strstr(a.log, "left out"));
    assert_true(isnan(a.losses[7]) && a.losses[TOY_STEPS] < a.losses[1]);
}

static void a_bad_step_goes_back_to_the_checkpoint(void **given) {
    (void)given;
    char *dir = folder();
    ran(&a, &(toy_opts){.bad_step = 8, .guard = GUARD_BACK, .dir = dir, .save_every = 5});
    assert_non_null(strstr(a.log, "back to the last checkpoint"));
    assert_int_equal(a.ended, TOY_STEPS);
    assert_int_equal(a.counter, TOY_STEPS); /* 7 updates, back to 5, on to the end: the section went back as well */
    gone(dir);
}

static void a_run_that_is_stopped_goes_on(void **given) {
    (void)given;
    char *dir = folder();
    mote_error e;
    ran(&a, &(toy_opts){.ema = true});
    assert_int_equal(toy_run(&b, &(toy_opts){.dir = dir, .stop_at = 11, .ema = true, .threads = 2}, &e), MOTE_E_CANCELLED);
    assert_non_null(strstr(e.message, "stopped at step 11 of 30"));
    ran(&b, &(toy_opts){.dir = dir, .ema = true});
    assert_int_equal(b.began, 11);
    assert_true(toy_same(&a, &b));
    gone(dir);
}

/* 1000 steps of 5 ms in half a second: about a hundred are made, also when the run is stopped in between. */
static void a_run_keeps_its_time(void **given) {
    (void)given;
    char *dir = folder();
    mote_error e;
    toy_opts o = {.steps = 1000, .max_seconds = 0.5};
    ran(&a, &o);
    assert_in_range(a.ended, 98, 102);
    assert_non_null(strstr(a.log, "the run is made so long"));
    o.dir = dir;
    o.stop_at = 20;
    assert_int_equal(toy_run(&b, &o, &e), MOTE_E_CANCELLED);
    o.stop_at = 0;
    ran(&b, &o);
    assert_int_equal(b.began, 20);
    assert_in_range(b.ended, 98, 102);
    gone(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(parts_add_up_to_the_whole),
        cmocka_unit_test(averages_follow_the_weights),
        cmocka_unit_test(a_bad_loss_stops_the_run_and_is_named),
        cmocka_unit_test(a_bad_step_is_skipped),
        cmocka_unit_test(a_bad_step_goes_back_to_the_checkpoint),
        cmocka_unit_test(a_run_that_is_stopped_goes_on),
        cmocka_unit_test(a_run_keeps_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
