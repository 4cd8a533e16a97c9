/* threads_test.c: how many threads: the fast physical cores of made-up machines, and trials with made-up times. */
#include "base/cpu.h"
#include "run/tuner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void put(const char *path, const char *text) {
    char full[512];
    (void)snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        (void)mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}
static void put_cpu(int cpu, const char *what, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/%s", cpu, what);
    put(path, text);
}
static int new_machine(void **state) {
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/mote_threads_test.XXXXXX");
    return mkdtemp(root) == NULL;
}
static int drop_machine(void **state) {
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}
static int threads(int n_cpus, unsigned usable_mask) {
    bool usable[32];
    for (int i = 0; i < n_cpus; i++) usable[i] = usable_mask >> i & 1;
    return cpu_threads_in(root, usable, n_cpus);
}

static void a_machine_that_says_nothing_counts_its_cpus(void **state) {
    (void)state;
    assert_int_equal(threads(4, 0xf), 4);
    assert_int_equal(threads(4, 0x5), 2);
    assert_int_equal(threads(4, 0), 1);
}

static void two_threads_of_a_core_count_once(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) put_cpu(i, "topology/thread_siblings_list", i % 4 == 0 ? "0,4\n" : i % 4 == 1 ? "1,5\n" : i % 4 == 2 ? "2,6\n" : "3,7\n");
    assert_int_equal(threads(8, 0xff), 4);
    assert_int_equal(threads(8, 0xf0), 4); /* the second of each, when those are what we may use */
    assert_int_equal(threads(8, 0x11), 1);
}

static void intel_hybrids_use_their_fast_cores(void **state) {
    (void)state;
    put("/sys/devices/cpu_core/cpus", "0-3\n"); /* two fast cores of two threads, four slow ones */
    for (int i = 0; i < 8; i++) {
        char own[8];
        (void)snprintf(own, sizeof own, "%d\n", i);
        put_cpu(i, "topology/thread_siblings_list", i < 2 ? "0-1\n" : i < 4 ? "2-3\n" : own);
        put_cpu(i, "cpufreq/cpuinfo_max_freq", i < 4 ? "5000000\n" : "3800000\n");
    }
    assert_int_equal(threads(8, 0xff), 2);
    assert_int_equal(threads(8, 0xf0), 4); /* pinned to the slow ones */
}

static void big_little_uses_the_big(void **state) {
    (void)state;
    static const char *const capacity[] = {"380\n", "380\n", "380\n", "380\n", "900\n", "900\n", "900\n", "1024\n"};
    for (int i = 0; i < 8; i++) put_cpu(i, "cpu_capacity", capacity[i]);
    assert_int_equal(threads(8, 0xff), 4);
    assert_int_equal(threads(8, 0x1f), 1);
    assert_int_equal(threads(8, 0x0f), 4);
}

static void quotas_are_kept(void **state) {
    (void)state;
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(threads(8, 0xff), 8);
    put("/sys/fs/cgroup/cpu.max", "250000 100000\n");
    assert_int_equal(threads(8, 0xff), 3);
    put("/sys/fs/cgroup/cpu.max", "20000 100000\n");
    assert_int_equal(threads(8, 0xff), 1);
    put("/sys/fs/cgroup/cpu.max", "rubbish");
    assert_int_equal(threads(8, 0xff), 8);
}

static void older_quotas_too(void **state) {
    (void)state;
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(threads(8, 0xff), 2);
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(threads(8, 0xff), 8);
}

/* Times by number of threads, with noise above them, until the tuner settles; the number of passes it took. */
static int settle(run_tuner *t, int n_max, double (*ns)(int threads)) {
    int passes = 0;
    *t = (run_tuner){.n_max = n_max};
    for (bool settled = false; !settled && passes < 1000; passes++) {
        double noise = 1 + 0.5 * (passes % 3 != 1);
        settled = run_tuner_took(t, noise * ns(run_tuner_threads(t)));
    }
    assert_true(t->settled && run_tuner_threads(t) == t->best);
    assert_false(run_tuner_took(t, 1));
    return passes;
}
static double all_help(int n) { return 1.0 / n; }
static double four_are_best(int n) { return n < 4 ? 4.0 / n : 1 + 0.1 * (n - 4); }
static double one_is_best(int n) { return n; }
static double no_difference(int n) { return n ? 1 : 1; }

static void trials_find_the_fastest(void **state) {
    (void)state;
    run_tuner t;
    assert_true(settle(&t, 8, all_help) <= 6);
    assert_int_equal(t.best, 8);
    settle(&t, 8, four_are_best);
    assert_int_equal(t.best, 4);
    settle(&t, 4, one_is_best);
    assert_int_equal(t.best, 1);
    settle(&t, 2, no_difference);
    assert_int_equal(t.best, 2);
    assert_true(settle(&t, 256, one_is_best) < 100);
    assert_int_equal(t.best, 1);
    t = (run_tuner){.n_max = 1};
    assert_int_equal(run_tuner_threads(&t), 1);
    assert_false(run_tuner_took(&t, 1));
}

#define ON_MACHINE(f) cmocka_unit_test_setup_teardown(f, new_machine, drop_machine)
int main(void) {
    const struct CMUnitTest tests[] = {
        ON_MACHINE(a_machine_that_says_nothing_counts_its_cpus),
        ON_MACHINE(two_threads_of_a_core_count_once),
        ON_MACHINE(intel_hybrids_use_their_fast_cores),
        ON_MACHINE(big_little_uses_the_big),
        ON_MACHINE(quotas_are_kept),
        ON_MACHINE(older_quotas_too),
        cmocka_unit_test(trials_find_the_fastest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
