/* base_test.c: UTF-8, buffers, numbers, arena, pool. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <unistd.h>

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

static void a_pool_can_run_on_some_of_its_threads(void **state) {
    (void)state;
    enum { N = 4 };
    struct counts c = {0};
    int want[N] = {0}, total = 0;
    assert_int_equal(pool_open(&c.p, N, NULL), MOTE_OK);
    for (int round = 0; round < 3000; round++) { /* limits change from job to job, so that workers wake late */
        int n = 1 + (round * 7 + round / 5) % N;
        pool_limit(c.p, n);
        pool_run(c.p, count_job, &c);
        for (int i = 0; i < n; i++) want[i]++;
        total += n;
        int done = 0;
        for (int i = 0; i < N; i++) done += c.done[i];
        assert_int_equal(done, total);
    }
    for (int i = 0; i < N; i++) assert_int_equal(c.done[i], want[i]);
    pool_close(&c.p);
}

static double cpu_seconds(void) {
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void an_idle_pool_uses_no_cpu(void **state) {
    (void)state;
    struct counts c = {0};
    assert_int_equal(pool_open(&c.p, 4, NULL), MOTE_OK);
    pool_run(c.p, count_job, &c);
    usleep(20000); /* they may look for another job for a moment */
    double before = cpu_seconds();
    usleep(300000);
    assert_true(cpu_seconds() - before < 0.003);
    pool_run(c.p, count_job, &c); /* and wake up again */
    for (int i = 0; i < 4; i++) assert_int_equal(c.done[i], 2);
    pool_close(&c.p);
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

/* Dropped pages of a mapped file come back as they were; memory that is no file's is never touched. */
static void dropping_pages_loses_nothing(void **state) {
    (void)state;
    enum { N = 300000 };
    char name[] = "/tmp/mote_base_test.XXXXXX";
    int fd = mkstemp(name);
    unsigned char *bytes = malloc(N);
    assert_true(fd >= 0 && bytes);
    for (size_t i = 0; i < N; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    assert_int_equal(write(fd, bytes, N), N);
    close(fd);
    for (int how = FILE_MAP; how <= FILE_READ; how++) {
        file_map f;
        assert_int_equal(file_open(&f, name, how, NULL), MOTE_OK);
        static const size_t from[] = {0, 1, 4095, 4096, 100001, N - 1}, size[] = {1, 5000, 70000, 2 * (size_t)N};
        for (size_t i = 0; i < COUNT_OF(from); i++)
            for (size_t j = 0; j < COUNT_OF(size); j++) {
                file_drop(f.p + from[i], size[j]);
                assert_memory_equal(f.p, bytes, N);
            }
        file_close(&f);
    }
    file_drop(bytes, N);
    for (size_t i = 0; i < N; i++) assert_int_equal(bytes[i], (unsigned char)(i * 2654435761u >> 13));
    free(bytes);
    unlink(name);
}

static size_t resident_bytes(void) {
    size_t total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu %zu", &total, &pages), 2);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* As the weights are read: in pieces that are dropped behind, of a file that the system caches in large pieces. */
static void what_is_read_and_dropped_is_not_resident(void **state) {
    (void)state;
    enum { SIZE = 32 << 20, WRITTEN = 1 << 20, PIECE = 700001 };
    char name[] = "/tmp/mote_base_test.XXXXXX";
    int fd = mkstemp(name);
    unsigned char *bytes = calloc(1, WRITTEN);
    assert_true(fd >= 0 && bytes);
    for (size_t i = 0; i < SIZE; i += WRITTEN) assert_int_equal(write(fd, bytes, WRITTEN), WRITTEN);
    close(fd);
    free(bytes);
    file_map f;
    assert_int_equal(file_open(&f, name, FILE_MAP, NULL), MOTE_OK);
    const size_t before = resident_bytes();
    unsigned sum = 0;
    for (size_t i = 0; i < SIZE; i += PIECE) {
        const size_t n = MIN(PIECE, SIZE - i);
        for (size_t j = 0; j < n; j += 512) sum += f.p[i + j];
        file_drop(f.p + i, n);
    }
    assert_int_equal(sum, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(resident_bytes() < before + ((size_t)4 << 20));
#endif
    (void)before;
    file_close(&f);
    unlink(name);
}

static void sparse_memory_costs_what_is_used_of_it(void **state) {
    (void)state;
    const size_t n = (size_t)64 << 20;
    size_t before = resident_bytes();
    unsigned char *p = mem_alloc_sparse(n);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < n; i += (size_t)1 << 20) p[i] = (unsigned char)(i >> 20);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they have memory of their own behind it */
    assert_true(resident_bytes() - before < (size_t)4 << 20);
#endif
    mem_make_huge(p, n);
    for (size_t i = 0; i < n; i += (size_t)1 << 19) assert_int_equal(p[i], i % (1 << 20) ? 0 : i >> 20);
    mem_free_aligned(p);
    (void)before;
    unsigned char *small = mem_alloc_sparse(100);
    mem_make_huge(small, 100);
    assert_int_equal(small[99], 0);
    mem_free_aligned(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_whole_holds_back_the_start_of_a_character),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(a_buffer_keeps_its_maximum),
        cmocka_unit_test(numbers_are_read_whole_or_not_at_all),
        cmocka_unit_test(the_pool_runs_all_threads_and_meets_at_barriers),
        cmocka_unit_test(dropping_pages_loses_nothing),
        cmocka_unit_test(what_is_read_and_dropped_is_not_resident),
        cmocka_unit_test(sparse_memory_costs_what_is_used_of_it),
        cmocka_unit_test(a_pool_can_run_on_some_of_its_threads),
        cmocka_unit_test(an_idle_pool_uses_no_cpu),
        cmocka_unit_test(json_depth_and_size_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
