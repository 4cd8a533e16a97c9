/* machine.c: bandwidths, latencies and rates, each the best of several runs: whatever disturbs a run makes it slower,
 * and the fastest is nearest to what the machine can do. */
#include "tensor/machine.h"
#include "kernel/peak.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KB ((size_t)1 << 10)
#define MB ((size_t)1 << 20)
enum { UNIT_BYTES = 2048, BARRIERS = 4000, CHAIN_STEPS = 40000 };
static const uint64_t RUN_NS = 2500000, BIG_RUN_NS = 8000000; /* at least so long is a run */

/* What all threads do between two barriers. */
typedef struct job {
    pool *pool;
    const kern_peaks *peaks;
    unsigned char *base, *to; /* of the working set; of copies */
    size_t bytes, times;
    enum { READ, READ_4, COPY, WRITE, PEAK, MEET } what;
    kern_peak_fn *run;
    _Alignas(64) unsigned char (*io)[KERN_PEAK_IO]; /* [threads] */
    uint64_t ns;
    atomic_uint_fast64_t sink; /* what was read ends here, so that it had to be read */
} job;

static void do_share(job *j, int ith, int nth) {
    size_t from, to;
    uint64_t sum = 0;
    pool_share(j->bytes, UNIT_BYTES, ith, nth, &from, &to);
    for (size_t i = 0; i < j->times; i++) switch (j->what) {
        case READ: sum ^= j->peaks->read(j->base + from, to - from); break;
        case READ_4: sum ^= j->peaks->read4(j->base + from, to - from); break;
        case COPY: memcpy(j->to + from, j->base + from, to - from); break;
        case WRITE: memset(j->base + from, (int)i, to - from); break;
        case PEAK: j->run(1000, j->io[ith]); break;
        case MEET: pool_barrier(j->pool); break;
        }
    atomic_fetch_add(&j->sink, sum);
}

static void timed(void *arg, int ith, int nth) {
    job *j = arg;
    pool_barrier(j->pool);
    const uint64_t start = clock_ns();
    do_share(j, ith, nth);
    pool_barrier(j->pool);
    if (ith == 0) j->ns = clock_ns() - start;
}

/* ns of one of j->times at its fastest; times is found so that a run takes run_ns. */
static double fastest(job *j, uint64_t run_ns, int n_runs) {
    double best = 0;
    for (j->times = 1;; j->times *= 2) {
        pool_run(j->pool, timed, j);
        if (j->ns >= run_ns || j->times > (size_t)1 << 30) break;
        if (j->ns < run_ns / 16) j->times *= 4;
    }
    for (int i = 0; i <= n_runs; i++) {
        const double ns = (double)j->ns / (double)j->times;
        if (best == 0 || ns < best) best = ns;
        if (i < n_runs) pool_run(j->pool, timed, j);
    }
    return best;
}

/* ---- memory ---- */

typedef struct region {
    unsigned char *p;
    size_t bytes;
} region;

/* Pages in place, huge ones when asked for (as far as the system grants them). */
static mote_status region_open(region *r, size_t bytes, bool huge, mote_error *err) {
    const size_t align = 2 * MB;
    r->bytes = bytes + align;
    r->p = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->p == MAP_FAILED) {
        r->p = NULL;
        FAIL(err, MOTE_E_MEMORY, "out of memory: measuring needs %zu bytes", r->bytes);
    }
    (void)madvise(r->p, r->bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(r->p, 1, r->bytes);
    return MOTE_OK;
}
static void region_close(region *r) {
    if (r->p) (void)munmap(r->p, r->bytes);
    r->p = NULL;
}
static unsigned char *region_start(const region *r) {
    return r->p + (2 * MB - (uintptr_t)r->p % (2 * MB)) % (2 * MB);
}

static void add_memory(mote_machine *m, job *j, const char *access, size_t bytes, bool huge, bool counts_twice) {
    if (m->n_memory == MOTE_MACHINE_MEMORY_MAX) return;
    j->bytes = bytes;
    const double ns = fastest(j, bytes >= 64 * MB ? BIG_RUN_NS : RUN_NS, bytes >= 256 * MB ? 1 : 2);
    m->memory[m->n_memory++] = (mote_machine_memory){.access = access, .bytes = bytes, .n_threads = pool_size(j->pool),
                                                     .huge_pages = huge,
                                                     .gb_s = (double)bytes * (counts_twice ? 2 : 1) / ns};
}

static const size_t read_sizes[] = {16 * KB, 64 * KB, 256 * KB, MB, 2 * MB, 4 * MB, 16 * MB, 32 * MB, 64 * MB, 128 * MB, 512 * MB};
static const size_t copy_sizes[] = {256 * KB, 4 * MB, 64 * MB, 256 * MB};

/* What one mapping can tell: it is opened once, since filling it takes longer than reading it. */
static void measure_region(mote_machine *m, job *j, const region *r, bool huge, bool only_limits) {
    j->base = region_start(r);
    for (size_t i = 0; i < COUNT_OF(read_sizes); i++) {
        if (read_sizes[i] > r->bytes - 2 * MB) continue;
        j->what = READ;
        add_memory(m, j, "read", read_sizes[i], huge, false);
        j->what = READ_4;
        add_memory(m, j, "read 4 streams", read_sizes[i], huge, false);
    }
    for (size_t i = 0; i < COUNT_OF(copy_sizes) && huge && !only_limits; i++) {
        if (2 * copy_sizes[i] > r->bytes - 2 * MB) continue;
        j->what = COPY;
        j->to = j->base + copy_sizes[i];
        add_memory(m, j, "copy", copy_sizes[i], huge, true);
        j->what = WRITE;
        add_memory(m, j, "write", copy_sizes[i], huge, false);
    }
}

/* ---- latency ---- */

/* A chain through n places, `step` bytes apart, in one random cycle (Sattolo 1986). */
static void make_chain(unsigned char *base, size_t n, size_t step, rng *r) {
    for (size_t i = 0; i < n; i++) {
        const size_t self = i;
        memcpy(base + i * step, &self, sizeof self);
    }
    for (size_t i = n - 1; i > 0; i--) {
        size_t a, b;
        unsigned char *x = base + i * step, *y = base + rng_below(r, (uint32_t)i) * step;
        memcpy(&a, x, sizeof a);
        memcpy(&b, y, sizeof b);
        memcpy(x, &b, sizeof b);
        memcpy(y, &a, sizeof a);
    }
}

static double follow(const unsigned char *base, size_t n, size_t step, atomic_uint_fast64_t *sink) {
    double best = 0;
    size_t at = 0;
    (void)n;
    for (int run = 0; run < 3; run++) {
        const uint64_t start = clock_ns();
        for (size_t i = 0; i < CHAIN_STEPS; i++) memcpy(&at, base + at * step, sizeof at);
        const double ns = (double)(clock_ns() - start) / CHAIN_STEPS;
        if (best == 0 || ns < best) best = ns;
    }
    atomic_fetch_add(sink, at);
    return best;
}

static void measure_latencies(mote_machine *m, job *j, const region *r, bool huge) {
    static const struct {
        const char *access;
        size_t bytes, step;
    } chains[] = {{"random lines", 16 * KB, 64}, {"random lines", 512 * KB, 64}, {"random lines", 8 * MB, 64},
                  {"random lines", 64 * MB, 64}, {"random pages", 16 * MB, 4096}, {"random pages", 512 * MB, 4096 + 64}};
    rng seed;
    rng_seed(&seed, 1, 1);
    for (size_t i = 0; i < COUNT_OF(chains); i++) {
        const size_t n = chains[i].bytes / chains[i].step;
        if (chains[i].bytes > r->bytes - 2 * MB || m->n_latencies == MOTE_MACHINE_LATENCY_MAX) continue;
        make_chain(region_start(r), n, chains[i].step, &seed);
        m->latencies[m->n_latencies++] = (mote_machine_latency){.access = chains[i].access, .bytes = chains[i].bytes, .huge_pages = huge,
                                                                .ns = follow(region_start(r), n, chains[i].step, &j->sink)};
    }
}

/* ---- rates ---- */

static void measure_peak(mote_machine *m, job *j, const kern_peak *p) {
    static const char *const units[KERN_UNITS] = {"int8", "bf16", "f32"};
    double best = 0;
    if (m->n_peaks == MOTE_MACHINE_PEAK_MAX) return;
    j->what = PEAK;
    for (int f = 0; f < KERN_PEAK_FORMS; f++) {
        if (f > 0 && p->form[f].run == p->form[f - 1].run) continue;
        for (int i = 0; i < pool_size(j->pool); i++) kern_peak_fill(p, j->io[i]);
        j->run = p->form[f].run;
        const double rate = 1000.0 * p->form[f].n * p->ops * pool_size(j->pool) / fastest(j, RUN_NS, 2);
        if (rate > best) best = rate;
    }
    m->peaks[m->n_peaks++] = (mote_machine_peak){.unit = units[p->unit], .instruction = p->name, .n_threads = pool_size(j->pool), .gop_s = best};
}

static void measure_barrier(mote_machine *m, job *j) {
    if (m->n_barriers == MOTE_MACHINE_BARRIER_MAX) return;
    j->what = MEET;
    j->times = BARRIERS;
    double best = 0;
    for (int i = 0; i < 5; i++) {
        pool_run(j->pool, timed, j);
        const double ns = (double)j->ns / BARRIERS;
        if (best == 0 || ns < best) best = ns;
    }
    m->barriers[m->n_barriers++] = (mote_machine_barrier){.n_threads = pool_size(j->pool), .ns = best};
}

/* ---- all of it ---- */

/* The instruction that a rung would use: the others of its unit are slower, and only interesting by themselves. */
static bool is_strongest(const kern_peaks *p, size_t i) {
    for (size_t k = i + 1; k < p->n; k++)
        if (p->peak[k]->unit == p->peak[i]->unit) return false;
    return true;
}

/* Everything with n_threads threads, on one mapping; rates and barriers, which need no memory, on the huge one. */
static mote_status measure_with(mote_machine *m, const kern_peaks *peaks, const region *r, bool huge, int n_threads, bool only_limits,
                                mote_error *err) {
    job j = {.peaks = peaks};
    atomic_init(&j.sink, 0);
    TRY(pool_open(&j.pool, n_threads, err));
    j.io = mem_alloc_aligned((size_t)n_threads * sizeof *j.io);
    if (!j.io) {
        pool_close(&j.pool);
        FAIL(err, MOTE_E_MEMORY, "out of memory for %d threads", n_threads);
    }
    for (size_t i = 0; huge && i < peaks->n; i++)
        if (!only_limits || is_strongest(peaks, i)) measure_peak(m, &j, peaks->peak[i]);
    if (huge && !only_limits) measure_barrier(m, &j);
    measure_region(m, &j, r, huge, only_limits);
    if (n_threads == 1 && !only_limits) measure_latencies(m, &j, r, huge);
    mem_free_aligned(j.io);
    pool_close(&j.pool);
    return MOTE_OK;
}

/* The largest working set: no more than a quarter of the memory there is. */
static size_t largest_bytes(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const size_t all = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
    size_t i = COUNT_OF(read_sizes) - 1;
    while (i > 0 && read_sizes[i] > all / 4) i--;
    return read_sizes[i];
}

mote_status machine_measure(mote_machine *out, uint32_t cpu_mask, int n_threads, bool only_limits, mote_error *err) {
    const uint64_t start = clock_ns();
    kern_peaks peaks;
    kern_peaks_init(&peaks, cpu_mask);
    out->n_memory = out->n_latencies = out->n_peaks = out->n_barriers = 0;
    (void)cpu_model_name(out->cpu, sizeof out->cpu);
    out->isa = cpu_rung_name(cpu_detect() & cpu_mask);
    out->n_threads = n_threads;
    for (int huge = only_limits; huge < 2; huge++) {
        region r;
        mote_status st = region_open(&r, largest_bytes(), huge, err);
        for (int n = only_limits ? n_threads : 1; st == MOTE_OK; n = MIN(2 * n, n_threads)) {
            st = measure_with(out, &peaks, &r, huge, n, only_limits, err);
            if (n == n_threads) break;
        }
        region_close(&r);
        TRY(st);
    }
    out->seconds = (double)(clock_ns() - start) * 1e-9;
    return MOTE_OK;
}

/* ---- limits ---- */

/* The fastest reading of exactly this size with all threads; 0: none. */
static double read_at(const mote_machine *m, size_t bytes) {
    double best = 0;
    for (size_t i = 0; i < m->n_memory; i++) {
        const mote_machine_memory *r = &m->memory[i];
        if (r->bytes == bytes && r->n_threads == m->n_threads && strncmp(r->access, "read", 4) == 0) best = MAX(best, r->gb_s);
    }
    return best;
}

double machine_read_limit(const mote_machine *m, double bytes) {
    size_t below = 0, above = 0;
    for (size_t i = 0; i < m->n_memory; i++) {
        const size_t b = m->memory[i].bytes;
        if (read_at(m, b) == 0) continue;
        if ((double)b <= bytes && b > below) below = b;
        if ((double)b >= bytes && (above == 0 || b < above)) above = b;
    }
    if (below == 0 || above == 0 || below == above) return read_at(m, below ? below : above);
    const double w = log2(bytes / (double)below) / log2((double)above / (double)below);
    return (1 - w) * read_at(m, below) + w * read_at(m, above);
}

double machine_peak_limit(const mote_machine *m, const char *unit) {
    double best = 0;
    for (size_t i = 0; i < m->n_peaks; i++)
        if (m->peaks[i].n_threads == m->n_threads && strcmp(m->peaks[i].unit, unit) == 0) best = MAX(best, m->peaks[i].gop_s);
    return best;
}
