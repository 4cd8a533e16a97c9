/* rans_test.c: entropy coding: what goes in comes out, on every ISA; what is cut or made up is refused; nothing is read beyond a stream. */
#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "quant/rans.h"
#include "report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "ok.h"

static bool reporting;

/* n symbols below `top`, the smaller the likelier by `skew`. */
static uint8_t *make_symbols(size_t n, int top, double skew, uint64_t seed) {
    uint8_t *s = MEM_NEW_N(uint8_t, n + 1);
    rng r;
    rng_seed(&r, seed, 1);
    assert_non_null(s);
    for (size_t i = 0; i < n; i++) s[i] = (uint8_t)((double)top * pow(rng_double(&r), skew));
    return s;
}

static void count(uint64_t counts[RANS_SYMBOLS], const uint8_t *s, size_t n) {
    memset(counts, 0, RANS_SYMBOLS * sizeof *counts);
    for (size_t i = 0; i < n; i++) counts[s[i]]++;
}

/* Bits that a symbol of this distribution takes on average under m. */
static double cost_of(const rans_model *m, const uint64_t counts[RANS_SYMBOLS]) {
    double bits = 0, total = 0;
    for (int i = 0; i < RANS_SYMBOLS; i++) {
        if (!counts[i]) continue;
        bits += (double)counts[i] * (RANS_BITS - log2((double)m->freq[i]));
        total += (double)counts[i];
    }
    return total > 0 ? bits / total : 0;
}

/* A copy that ends where memory does. */
typedef struct guarded {
    uint8_t *map, *p;
    size_t size;
} guarded;
static guarded guard(const uint8_t *from, size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page + page;
    guarded g = {.size = room, .map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + room - page, page, PROT_NONE), 0);
    g.p = g.map + room - page - n;
    memcpy(g.p, from, n);
    return g;
}
static void unguard(guarded *g) { (void)munmap(g->map, g->size); }

/* The turns of one ISA: how many symbols it did before the stream's end was too near. */
static size_t decode_on(rans_turns_fn *turns, const rans_table *t, const guarded *g, size_t bytes, uint8_t *out, size_t n) {
    uint32_t state[RANS_LANES];
    memcpy(state, g->p, sizeof state);
    const uint8_t *at = g->p + sizeof state, *end = g->p + bytes;
    size_t done = turns(t, state, &at, end, out, n / RANS_LANES * RANS_LANES);
    assert_true(at <= end);
    return done;
}

static void what_goes_in_comes_out(void **unused) {
    (void)unused;
    static const size_t sizes[] = {0, 1, 31, 32, 33, 1000, 65536, 300001};
    static const struct {
        int top;
        double skew;
    } kinds[] = {{1, 1}, {2, 3}, {8, 1.5}, {64, 2}, {256, 1}, {256, 8}};
    static rans_turns_fn *const all[] = {
        rans_turns_generic,
#ifdef MOTE_SIMD_ISA
        rans_turns_avx2, rans_turns_avx512,
#endif
    };
    static const uint32_t needs[] = {0, CPU_AVX2, CPU_AVX512};
    static rans_table t;
    double worst = 0;
    for (size_t k = 0; k < COUNT_OF(kinds); k++)
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            size_t n = sizes[i];
            uint8_t *s = make_symbols(n, kinds[k].top, kinds[k].skew, 10 * k + i), *out = MEM_NEW_N(uint8_t, n + 1), *room = MEM_NEW_N(uint8_t, rans_bound(n));
            uint64_t counts[RANS_SYMBOLS];
            rans_model m;
            assert_true(out && room);
            count(counts, s, n);
            counts[0] += n == 0;
            rans_fit(&m, counts);
            OK(rans_open(&t, &m, &e_));
            size_t bytes = rans_encode(&m, s, n, room);
            guarded g = guard(room + rans_bound(n) - bytes, bytes);
            OK(rans_decode(&t, g.p, bytes, out, n, &e_));
            assert_memory_equal(s, out, n);
            for (size_t v = 0; v < COUNT_OF(all); v++) {
                if ((cpu_detect() & needs[v]) != needs[v]) continue;
                memset(out, 0xee, n);
                size_t done = decode_on(all[v], &t, &g, bytes, out, n);
                assert_memory_equal(s, out, done);
                if (k > 1) assert_true(done + 40 * RANS_LANES >= n / RANS_LANES * RANS_LANES);
            }
            double entropy = 0;
            for (int j = 0; j < RANS_SYMBOLS; j++)
                if (counts[j] && n) entropy -= (double)counts[j] * log2((double)counts[j] / (double)n);
            if (n > 60000) worst = fmax(worst, (8.0 * (double)(bytes - 4 * RANS_LANES) - entropy) / (double)n);
            if (n > 60000) assert_true(fabs(cost_of(&m, counts) * (double)n / 8 + 4 * RANS_LANES - (double)bytes) < 0.002 * (double)bytes + 300);
            unguard(&g);
            mem_free(s), mem_free(out), mem_free(room);
        }
    assert_true(worst < 0.02);
    char text[64];
    (void)snprintf(text, sizeof text, "%.4f bits above the entropy", worst);
    if (reporting) report_row("rans", "worst of 6 distributions", text, "0.02", "ok", "-", "interleaved rANS, 32 lanes");
}

static void damage_is_refused(void **unused) {
    (void)unused;
    enum { SIZE = 5000 };
    static rans_table t;
    uint8_t *s = make_symbols(SIZE, 64, 2, 5), out[SIZE], *room = MEM_NEW_N(uint8_t, rans_bound(SIZE));
    uint64_t counts[RANS_SYMBOLS];
    rans_model m;
    count(counts, s, SIZE);
    rans_fit(&m, counts);
    OK(rans_open(&t, &m, &e_));
    size_t bytes = rans_encode(&m, s, SIZE, room);
    uint8_t *stream = room + rans_bound(SIZE) - bytes;
    for (size_t cut = 0; cut < bytes; cut += cut < 300 ? 1 : 97) {
        guarded g = guard(stream, cut);
        assert_int_equal(rans_decode(&t, g.p, cut, out, SIZE, NULL), MOTE_E_FORMAT);
        unguard(&g);
    }
    size_t flips = 0, refused = 0;
    for (size_t bit = 0; bit < 8 * bytes; bit += 61, flips++) {
        guarded g = guard(stream, bytes);
        g.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (rans_decode(&t, g.p, bytes, out, SIZE, NULL) != MOTE_OK) refused++;
        else assert_true(memcmp(out, s, SIZE) != 0);
        unguard(&g);
    }
    assert_true(refused * 100 >= flips * 95);
    rng r;
    rng_seed(&r, 6, 1);
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < bytes; i++) stream[i] = (uint8_t)rng_u32(&r);
        assert_int_equal(rans_decode(&t, stream, bytes, out, SIZE, NULL), MOTE_E_FORMAT);
    }
    m.freq[3]++;
    assert_int_equal(rans_open(&t, &m, NULL), MOTE_E_FORMAT);
    m.freq[3] = 65535;
    assert_int_equal(rans_open(&t, &m, NULL), MOTE_E_FORMAT);
    mem_free(s), mem_free(room);
}

int main(int argc, char **argv) {
    reporting = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_goes_in_comes_out), cmocka_unit_test(damage_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
