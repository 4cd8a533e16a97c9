/* budget_test.c: mixed precision under a budget: hulls, the choice against all combinations, budgets that cannot be met, and a tiny
 * model within the size that was asked for. */
#include "compress/budget.h"
#include "tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"

static char in[256], out[256];

static void dominated_points_leave_the_hull(void **unused) {
    (void)unused;
    budget_point p[] = {{40, 1, 4}, {10, 10, 1}, {20, 9.5, 2}, {30, 2, 3}, {35, 5, 9}, {50, 1, 5}};
    assert_int_equal(budget_hull(p, 6), 3);
    assert_true(p[0].type == 1 && p[1].type == 3 && p[2].type == 4);
}

/* On hulls the best step first is the best of all, up to the last step that does not fit. */
static void the_choice_is_as_good_as_any_of_its_size(void **unused) {
    (void)unused;
    static const budget_point p[] = {{10, 9, 0}, {20, 4, 1}, {30, 2, 2}, {10, 30, 0}, {20, 10, 1}, {30, 5, 2}, {10, 1, 0}, {20, 0.5, 1}};
    static const size_t first[] = {0, 3, 6, 8};
    size_t chosen[3];
    uint64_t least;
    for (uint64_t budget = 30; budget <= 80; budget += 10) {
        double best = 1e9, cost = 0;
        uint64_t bytes = 0;
        assert_true(budget_choose(p, first, 3, budget, chosen, &least));
        for (size_t i = 0; i < 3; i++) {
            cost += p[chosen[i]].cost;
            bytes += p[chosen[i]].bytes;
        }
        for (size_t a = 0; a < 3; a++)
            for (size_t b = 3; b < 6; b++)
                for (size_t c = 6; c < 8; c++)
                    if (p[a].bytes + p[b].bytes + p[c].bytes <= budget) best = MIN(best, p[a].cost + p[b].cost + p[c].cost);
        assert_true(bytes <= budget && cost <= best);
    }
    assert_false(budget_choose(p, first, 3, 29, chosen, &least));
    assert_int_equal(least, 30);
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
        cmocka_unit_test(dominated_points_leave_the_hull),
        cmocka_unit_test(the_choice_is_as_good_as_any_of_its_size),
        cmocka_unit_test(a_model_becomes_as_large_as_asked),
        cmocka_unit_test(what_cannot_be_met_is_refused_with_the_least), cmocka_unit_test(what_was_measured_is_kept),
    };
    return cmocka_run_group_tests(tests, setup, remove_folder);
}
