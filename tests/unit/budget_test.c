/* budget_test.c: mixed precision under a budget: the choice against all combinations, budgets that cannot be met, and a tiny
 * model within the size that was asked for. */
#include "compress/budget.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"
#include "ok.h"

static char in[256], out[256];

static void dominated_points_are_left_out(void **unused) {
    (void)unused;
    budget_point p[] = {{40, 1, 4}, {10, 10, 1}, {20, 9.5, 2}, {30, 2, 3}, {35, 5, 9}, {50, 1, 5}};
    assert_int_equal(budget_front(p, 6), 4);
    assert_true(p[0].type == 1 && p[1].type == 2 && p[2].type == 3 && p[3].type == 4);
}

enum { TENSORS = 4, POINTS = 5 };

/* The least cost of all combinations within the budget. */
static double best_of_all(const budget_point *p, const size_t *first, size_t i, uint64_t bytes) {
    double best = HUGE_VAL;
    if (i == TENSORS) return 0;
    for (size_t k = first[i]; k < first[i + 1]; k++)
        if (p[k].bytes <= bytes) best = fmin(best, p[k].cost + best_of_all(p, first, i + 1, bytes - p[k].bytes));
    return best;
}

/* One tensor has most of the bytes, and its steps are larger than all the others together. */
static void the_choice_is_the_best_there_is(void **unused) {
    (void)unused;
    rng r;
    rng_seed(&r, 4, 4);
    for (int round = 0; round < 50; round++) {
        budget_point p[TENSORS * POINTS];
        size_t first[TENSORS + 1] = {0}, chosen[TENSORS];
        uint64_t least, smallest = 0, largest = 0;
        mote_error err = {0};
        for (size_t i = 0; i < TENSORS; i++) {
            budget_point *own = p + first[i];
            for (size_t k = 0; k < POINTS; k++)
                own[k] = (budget_point){(10 + 10 * k + rng_below(&r, 10)) * (i ? 1 : 20), 10 * rng_double(&r) / (double)(k + 1), (int)k};
            first[i + 1] = first[i] + budget_front(own, POINTS);
            smallest += p[first[i]].bytes;
            largest += p[first[i + 1] - 1].bytes;
        }
        for (uint64_t budget = smallest; budget <= largest + 10; budget += 17) {
            double cost = 0;
            uint64_t bytes = 0;
            OK(budget_choose(p, first, TENSORS, budget, chosen, &least, &e_));
            for (size_t i = 0; i < TENSORS; i++) {
                assert_true(chosen[i] >= first[i] && chosen[i] < first[i + 1]);
                cost += p[chosen[i]].cost;
                bytes += p[chosen[i]].bytes;
            }
            assert_true(bytes <= budget && least == smallest);
            assert_true(cost <= best_of_all(p, first, 0, budget) + 1e-9);
        }
        assert_int_equal(budget_choose(p, first, TENSORS, smallest - 1, chosen, &least, &err), MOTE_E_RANGE);
        assert_true(least == smallest);
    }
}

/* Sizes that are not counted byte by byte: no combination is better by more than rounding may cost, and what is left is less than any step. */
static void large_budgets_are_spent(void **unused) {
    (void)unused;
    enum { MANY = 60 };
    budget_point p[MANY * 3];
    size_t first[MANY + 1], chosen[MANY];
    uint64_t least, bytes = 0;
    rng r;
    rng_seed(&r, 6, 6);
    for (size_t i = 0; i < MANY; i++) {
        first[i] = 3 * i;
        for (size_t k = 0; k < 3; k++) {
            const uint64_t unit = i ? 100000 + rng_below(&r, 1000) : 30000000;
            p[3 * i + k] = (budget_point){unit * (2 + k), (i ? 1 : 100) * (1 + rng_double(&r)) / (double)(1 << (2 * k)), (int)k};
        }
    }
    first[MANY] = MANY * 3;
    const uint64_t budget = 2 * 30000000 + MANY * 3 * 100000 + 28000000; /* the large one's next step needs a good part of the others' */
    OK(budget_choose(p, first, MANY, budget, chosen, &least, &e_));
    for (size_t i = 0; i < MANY; i++) bytes += p[chosen[i]].bytes;
    assert_true(bytes <= budget && budget - bytes < 110000);
    assert_int_equal(chosen[0], 1);
}

static void a_model_becomes_as_large_as_asked(void **unused) {
    (void)unused;
    mote_error err = {0};
    struct stat st;
    mote_quantize_report r;
    mote_quantize_options o = {.target_bpw = 6, .n_threads = 1};
    if (budget_quantize(in, out, &o, NULL, &r, &err) != MOTE_OK) fail_msg("%s", err.message);
    assert_true(r.bpw_to <= 6 && r.bpw_to > 4.5);
    const double all_low = r.bpw_to;
    mote_quantize_report_free(&r);
    o = (mote_quantize_options){.target_bpw = 8.5, .n_threads = 2};
    if (budget_quantize(in, out, &o, NULL, &r, &err) != MOTE_OK) fail_msg("%s", err.message);
    assert_true(r.bpw_to <= 8.5 && r.bpw_to > all_low);
    mote_quantize_report_free(&r);
    assert_int_equal(stat(out, &st), 0);
    const uint64_t size = (uint64_t)st.st_size - 3000;
    o = (mote_quantize_options){.target_bytes = size, .n_threads = 1};
    if (budget_quantize(in, out, &o, NULL, NULL, &err) != MOTE_OK) fail_msg("%s", err.message);
    assert_int_equal(stat(out, &st), 0);
    assert_true((uint64_t)st.st_size <= size);
}

static void what_cannot_be_met_is_refused_with_the_least(void **unused) {
    (void)unused;
    mote_error err = {0};
    mote_quantize_options o = {.target_bpw = 1};
    (void)unlink(out);
    assert_int_equal(budget_quantize(in, out, &o, NULL, NULL, &err), MOTE_E_RANGE);
    assert_non_null(strstr(err.message, "the least is"));
    o = (mote_quantize_options){.target_bytes = 1000};
    assert_int_equal(budget_quantize(in, out, &o, NULL, NULL, &err), MOTE_E_RANGE);
    assert_non_null(strstr(err.message, "smallest possible"));
    assert_int_not_equal(access(out, F_OK), 0);
    o = (mote_quantize_options){.target_bpw = -1};
    assert_int_equal(budget_quantize(in, out, &o, NULL, NULL, &err), MOTE_E_USAGE);
}

static void digest(const char *path, char hex[SHA256_HEX]) {
    mote_error err;
    if (sha256_file(path, hex, &err) != MOTE_OK) fail_msg("%s", err.message);
}

static void spend(const char *known, double bpw, char hex[SHA256_HEX]) {
    mote_error err = {0};
    const mote_quantize_options o = {.target_bpw = bpw, .n_threads = 1, .sensitivity = known};
    if (budget_quantize(in, out, &o, NULL, NULL, &err) != MOTE_OK) fail_msg("%s", err.message);
    digest(out, hex);
}

/* What is kept changes nothing but the time: the same files with it, without it, and where it is broken; a second budget adds nothing to it. */
static void what_was_measured_is_kept(void **unused) {
    (void)unused;
    char known[300], plain[SHA256_HEX], first[SHA256_HEX], again[SHA256_HEX], kept[SHA256_HEX], later[SHA256_HEX];
    (void)snprintf(known, sizeof known, "%s/known.json", folder);
    spend(NULL, 6, plain);
    spend(known, 5, first);
    digest(known, kept);
    spend(known, 6, again);
    digest(known, later);
    assert_string_equal(plain, again);
    assert_string_equal(kept, later);
    FILE *f = fopen(known, "w");
    assert_non_null(f);
    assert_true(fputs("{\"key\": 1, \"tensors\": [", f) > 0);
    assert_int_equal(fclose(f), 0);
    spend(known, 5, again);
    digest(known, later);
    assert_string_equal(first, again);
    assert_string_equal(kept, later);
    (void)unlink(known);
}

static int setup(void **unused) {
    (void)unused;
    mote_error err;
    if (!mkdtemp(folder)) return 1;
    (void)snprintf(in, sizeof in, "%s/in.gguf", folder);
    (void)snprintf(out, sizeof out, "%s/out.gguf", folder);
    return tiny_model_write(in, &(tiny_opts){.seed = 5}, &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dominated_points_are_left_out),
        cmocka_unit_test(the_choice_is_the_best_there_is),
        cmocka_unit_test(large_budgets_are_spent),
        cmocka_unit_test(a_model_becomes_as_large_as_asked),
        cmocka_unit_test(what_cannot_be_met_is_refused_with_the_least), cmocka_unit_test(what_was_measured_is_kept),
    };
    return cmocka_run_group_tests(tests, setup, remove_folder);
}
