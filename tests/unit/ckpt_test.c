/* ckpt_test.c: checkpoints that survive what can happen to a process, a file and a disk, and the run that goes on to the same bits. */
#include "toy_run.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"

static toy_result whole, r;

static void ran(toy_result *out, const toy_opts *o) {
    mote_error e;
    if (toy_run(out, o, &e) != MOTE_OK) fail_msg("%s", e.message);
}

static void put_file(const char *path, const unsigned char *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Where a section's bytes lie in the file. */
static size_t place_of(const file_map *m, str b) {
    for (size_t at = 0; at + b.n <= m->n; at += 64)
        if (memcmp(m->p + at, b.p, b.n) == 0) return at;
    fail_msg("a section's bytes are not those that were written");
    return 0;
}

#define NEWEST "step-000000000030.mtc"
#define BEFORE "step-000000000028.mtc"

static void the_newest_few_are_kept(void **given) {
    (void)given;
    ran(&whole, &(toy_opts){.dir = folder, .save_every = 2, .ema = true, .muon = true});
    static const char *const there[] = {NEWEST, BEFORE, "step-000000000026.mtc"};
    for (size_t i = 0; i < COUNT_OF(there); i++) assert_int_equal(access(in_folder(there[i]), F_OK), 0);
    assert_int_not_equal(access(in_folder("step-000000000024.mtc"), F_OK), 0);
}

/* From each section's first byte, its middle, its end: whatever is cut off, the one before is taken, with a message. */
static void a_cut_file_is_passed_over(void **given) {
    (void)given;
    ran(&whole, &(toy_opts){.dir = folder, .save_every = 2, .ema = true});
    file_map m;
    ckpt *c;
    mote_error e;
    assert_int_equal(file_open(&m, in_folder(NEWEST), FILE_READ, &e), MOTE_OK);
    assert_int_equal(ckpt_open(&c, in_folder(NEWEST), &e), MOTE_OK);
    size_t at[200], n = 0;
    for (size_t i = 0; i < 20; i++) at[n++] = i; /* in the head and the table */
    for (size_t i = 0; i < 10; i++) at[n++] = 100 * i;
    for (size_t i = 0; i < ckpt_n_sections(c); i++) {
        str b = ckpt_find(c, ckpt_section_name(c, i));
        size_t in = place_of(&m, b);
        at[n++] = in;
        at[n++] = in + b.n / 2;
        at[n++] = in + b.n - 1;
    }
    ckpt_close(&c);
    for (size_t i = 0; i < n; i++) {
        assert_true(at[i] < m.n);
        put_file(in_folder(NEWEST), m.p, at[i]);
        assert_int_equal(ckpt_open(&c, in_folder(NEWEST), &e), MOTE_E_FORMAT);
    }
    ran(&r, &(toy_opts){.dir = folder, .save_every = 2, .ema = true});
    assert_int_equal(r.began, 28);
    assert_non_null(strstr(r.log, "looking for an older one"));
    assert_true(toy_same(&whole, &r));
    file_close(&m);
}

static void a_flipped_bit_is_found_wherever_it_is(void **given) {
    (void)given;
    ran(&whole, &(toy_opts){.dir = folder, .save_every = 2});
    file_map m;
    ckpt *c;
    mote_error e;
    rng g;
    rng_seed(&g, 3, 3);
    assert_int_equal(file_open(&m, in_folder(NEWEST), FILE_READ, &e), MOTE_OK);
    assert_int_equal(ckpt_open(&c, in_folder(NEWEST), &e), MOTE_OK);
    const char *first = ckpt_section_name(c, 0);
    char want[200];
    (void)snprintf(want, sizeof want, "section '%s' is damaged", first);
    size_t in = place_of(&m, ckpt_find(c, first));
    ckpt_close(&c);
    unsigned char *bytes = mem_calloc(m.n, 1);
    memcpy(bytes, m.p, m.n);
    for (int i = 0; i < 150; i++) {
        size_t at = i < 40 ? (size_t)i : rng_below(&g, (uint32_t)m.n);
        unsigned bit = rng_below(&g, 8);
        bytes[at] ^= (unsigned char)(1u << bit);
        put_file(in_folder(NEWEST), bytes, m.n);
        mote_status s = ckpt_open(&c, in_folder(NEWEST), &e);
        if (s == MOTE_OK) { /* only in the padding between sections, which nobody reads */
            for (size_t k = 0; k < ckpt_n_sections(c); k++) (void)place_of(&m, ckpt_find(c, ckpt_section_name(c, k)));
            ckpt_close(&c);
        } else assert_int_equal(s, MOTE_E_FORMAT);
        bytes[at] ^= (unsigned char)(1u << bit);
    }
    bytes[in + 5] ^= 4;
    put_file(in_folder(NEWEST), bytes, m.n);
    assert_int_equal(ckpt_open(&c, in_folder(NEWEST), &e), MOTE_E_FORMAT);
    assert_non_null(strstr(e.message, want));
    mem_free(bytes);
    file_close(&m);
}

static void other_runs_are_refused_by_name(void **given) {
    (void)given;
    mote_error e;
    ran(&whole, &(toy_opts){.dir = folder, .save_every = 10});
    assert_int_equal(toy_run(&r, &(toy_opts){.dir = folder, .identity = "other"}, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "it was made with recipe \"toy\", this run has \"other\""));
    assert_int_equal(toy_run(&r, &(toy_opts){.dir = folder, .second_name = "tail"}, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "it has no section 'w:tail'"));
    assert_int_equal(toy_run(&r, &(toy_opts){.dir = folder, .ema = true}, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "'e:table'"));
    assert_int_equal(toy_run(&r, &(toy_opts){.dir = folder, .muon = true}, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "'v:head'"));
}

static void two_runs_do_not_share_a_folder(void **given) {
    (void)given;
    ckpt_dir *d;
    mote_error e;
    assert_int_equal(ckpt_dir_open(&d, folder, 2, NULL, &e), MOTE_OK);
    assert_int_equal(toy_run(&r, &(toy_opts){.dir = folder}, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "another run"));
    ckpt_dir_close(&d);
    ran(&r, &(toy_opts){.dir = folder});
}

static void what_a_killed_run_left_is_swept_away(void **given) {
    (void)given;
    put_file(in_folder("step-000000000004.mtc.aB3dE6"), (const unsigned char *)"x", 1);
    put_file(in_folder("notes.txt"), (const unsigned char *)"x", 1);
    ran(&r, &(toy_opts){.dir = folder});
    assert_int_not_equal(access(in_folder("step-000000000004.mtc.aB3dE6"), F_OK), 0);
    assert_int_equal(access(in_folder("notes.txt"), F_OK), 0);
}

/* Killed at any moment, again and again: the last run has the bits of the one that was never killed. */
static void kill_9_at_any_moment_costs_steps_only(void **given) {
    (void)given;
    toy_opts o = {.dir = folder, .save_every = 1, .ema = true, .pause_us = 300};
    ran(&whole, &(toy_opts){.ema = true});
    rng g;
    rng_seed(&g, (uint64_t)getpid(), 1);
    int killed = 0;
    for (int i = 0; i < 25; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            static toy_result mine;
            _exit(toy_run(&mine, &o, NULL) != MOTE_OK);
        }
        (void)usleep(1000 + rng_below(&g, 9000));
        (void)kill(child, SIGKILL);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        killed += WIFSIGNALED(how);
        if (WIFEXITED(how)) assert_int_equal(WEXITSTATUS(how), 0);
    }
    assert_true(killed > 0);
    ran(&r, &o);
    if (r.began < TOY_STEPS) assert_true(toy_same(&whole, &r));
    else assert_memory_equal(whole.head, r.head, sizeof whole.head);
    assert_null(strstr(r.log, "damaged"));
}

/* Files may not grow beyond some bytes, as on a disk that is full. */
static void a_full_disk_costs_the_checkpoint_and_the_exit_code(void **given) {
    (void)given;
    struct rlimit old, small;
    mote_error e;
    ran(&whole, &(toy_opts){0});
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 5000;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    mote_status s = toy_run(&r, &(toy_opts){.dir = folder, .save_every = 10}, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(s, MOTE_E_IO);
    assert_non_null(strstr(e.message, "training went on to step 30"));
    assert_non_null(strstr(r.log, "step 10: no checkpoint"));
    assert_true(toy_same(&whole, &r));
    char cmd[128];
    (void)snprintf(cmd, sizeof cmd, "test -z \"$(ls %s | grep -v lock)\"", folder);
    assert_int_equal(system(cmd), 0); /* and no half-written file */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_few_are_kept, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_cut_file_is_passed_over, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_found_wherever_it_is, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(other_runs_are_refused_by_name, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(two_runs_do_not_share_a_folder, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_a_killed_run_left_is_swept_away, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(kill_9_at_any_moment_costs_steps_only, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_full_disk_costs_the_checkpoint_and_the_exit_code, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
