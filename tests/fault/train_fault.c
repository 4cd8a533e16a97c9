/* train_fault.c: a run of training in which the n-th allocation or write fails, for every n: an error that says so, no leak, no half-written
 * checkpoint, and after a failed write the run goes on to its end. */
#include "fault.h"
#include "toy_run.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "folder.h"

static toy_result whole, r;

static int setup(void **given) {
    fault_init();
    return make_folder(given);
}

static void emptied(void) {
    char cmd[128];
    (void)snprintf(cmd, sizeof cmd, "rm -f %s/*", folder);
    assert_int_equal(system(cmd), 0);
}

/* No file but whole checkpoints and the lock. */
static void nothing_is_half_written(void) {
    ckpt_dir *d;
    ckpt *c;
    mote_error e;
    char cmd[160];
    (void)snprintf(cmd, sizeof cmd, "test -z \"$(ls %s | grep -v -e lock -e 'mtc$')\"", folder);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(ckpt_dir_open(&d, folder, 2, NULL, &e), MOTE_OK);
    assert_int_equal(ckpt_dir_latest(d, &c, &e), MOTE_OK);
    ckpt_close(&c);
    ckpt_dir_close(&d);
}

enum { STEPS = 4 };

static void every_allocation_may_fail(void **given) {
    (void)given;
    toy_opts o = {.steps = STEPS, .dir = folder, .save_every = 2, .ema = true, .muon = true};
    mote_error e;
    assert_int_equal(toy_run(&r, &o, &e), MOTE_OK); /* what is opened once and stays is opened now */
    for (size_t n = 1;; n += 1 + n / 40) {
        emptied();
        size_t live = fault_live();
        fault_arm(FAULT_ALLOC, n, false);
        mote_status s = toy_run(&r, &o, &e);
        bool happened = fault_happened();
        fault_disarm();
        assert_int_equal(fault_live(), live);
        nothing_is_half_written();
        if (!happened) break;
        if (s != MOTE_OK && s != MOTE_E_MEMORY && s != MOTE_E_IO) fail_msg("allocation %zu: %s", n, e.message);
    }
    assert_int_equal(r.ended, STEPS);
}

/* A write that fails costs a checkpoint; training has the bits it would have had, and the end says so. */
static void every_write_may_fail(void **given) {
    (void)given;
    toy_opts o = {.steps = STEPS, .dir = folder, .save_every = 1, .ema = true};
    mote_error e;
    assert_int_equal(toy_run(&whole, &(toy_opts){.steps = STEPS, .ema = true}, &e), MOTE_OK);
    size_t told = 0;
    for (int sticky = 0; sticky < 2; sticky++)
        for (size_t n = 1;; n++) {
            emptied();
            size_t live = fault_live();
            fault_arm(FAULT_WRITE, n, sticky);
            mote_status s = toy_run(&r, &o, &e);
            bool happened = fault_happened();
            fault_disarm();
            assert_int_equal(fault_live(), live);
            nothing_is_half_written();
            assert_true(toy_same(&whole, &r));
            if (!happened) break;
            if (s == MOTE_OK) continue; /* syncing the folder: the file is whole, only not yet sure to outlive a loss of power */
            if (s != MOTE_E_IO || !strstr(e.message, "not every checkpoint could be written")) fail_msg("write %zu: status %d, %s", n, (int)s, e.message);
            told++;
        }
    assert_true(told > 100); /* of about 140 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, remove_folder),
        cmocka_unit_test_setup_teardown(every_write_may_fail, setup, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
