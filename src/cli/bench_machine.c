/* bench_machine.c: `mote bench --machine`: what this machine can do at most, for people and as JSON. */
#include "bench_view.h"

#include <string.h>

json_t *machine_json(const mote_machine *m) {
    json_t *memory = json_array(), *latency = json_array(), *peaks = json_array(), *barriers = json_array();
    for (size_t i = 0; i < m->n_memory; i++) {
        const mote_machine_memory *r = &m->memory[i];
        (void)json_array_append_new(memory, json_pack("{s:s, s:I, s:i, s:b, s:f}", "access", r->access, "bytes", (json_int_t)r->bytes,
                                                      "threads", r->n_threads, "huge_pages", (int)r->huge_pages, "gb_s", r->gb_s));
    }
    for (size_t i = 0; i < m->n_latencies; i++) {
        const mote_machine_latency *r = &m->latencies[i];
        (void)json_array_append_new(latency, json_pack("{s:s, s:I, s:b, s:f}", "access", r->access, "bytes", (json_int_t)r->bytes,
                                                       "huge_pages", (int)r->huge_pages, "ns", r->ns));
    }
    for (size_t i = 0; i < m->n_peaks; i++) {
        const mote_machine_peak *r = &m->peaks[i];
        (void)json_array_append_new(peaks, json_pack("{s:s, s:s, s:i, s:f}", "unit", r->unit, "instruction", r->instruction, "threads",
                                                     r->n_threads, "gop_s", r->gop_s));
    }
    for (size_t i = 0; i < m->n_barriers; i++)
        (void)json_array_append_new(barriers, json_pack("{s:i, s:f}", "threads", m->barriers[i].n_threads, "ns", m->barriers[i].ns));
    return json_pack("{s:s, s:s, s:i, s:f, s:o, s:o, s:o, s:o}", "cpu", m->cpu, "isa", m->isa, "threads", m->n_threads, "seconds",
                     m->seconds, "memory", memory, "latency", latency, "peaks", peaks, "barriers", barriers);
}

static void print_figure(double v) {
    if (v > 0) (void)printf(" %.*f |", v < 100 ? 1 : 0, v);
    else (void)printf(" |");
}

static double memory_at(const mote_machine *m, const char *access, size_t bytes, int threads, bool huge) {
    for (size_t i = 0; i < m->n_memory; i++) {
        const mote_machine_memory *r = &m->memory[i];
        if (r->bytes == bytes && r->n_threads == threads && r->huge_pages == huge && strcmp(r->access, access) == 0) return r->gb_s;
    }
    return 0;
}

static bool is_first_size(const mote_machine *m, size_t row, bool reads) {
    const bool is_read = strncmp(m->memory[row].access, "read", 4) == 0;
    for (size_t i = 0; i < row; i++)
        if (m->memory[i].bytes == m->memory[row].bytes && (strncmp(m->memory[i].access, "read", 4) == 0) == reads) return false;
    return is_read == reads;
}

static void print_size(size_t bytes) {
    if (bytes >= (size_t)1 << 20) (void)printf("| %zu MB |", bytes >> 20);
    else (void)printf("| %zu KB |", bytes >> 10);
}

/* The thread counts are those of the barriers: 1, 2, 4, … */
static void print_reads(const mote_machine *m) {
    (void)printf("\nReading, GB/s\n\n| working set |");
    for (size_t t = 0; t < m->n_barriers; t++) {
        const int n = m->barriers[t].n_threads;
        (void)printf(" %dT 4 KB pages | 4 streams | %dT huge pages | 4 streams |", n, n);
    }
    (void)printf("\n| ---: |");
    for (size_t t = 0; t < m->n_barriers; t++) (void)printf(" ---: | ---: | ---: | ---: |");
    (void)putchar('\n');
    for (size_t i = 0; i < m->n_memory; i++) {
        const size_t bytes = m->memory[i].bytes;
        if (!is_first_size(m, i, true)) continue;
        print_size(bytes);
        for (size_t t = 0; t < m->n_barriers; t++)
            for (int huge = 0; huge < 2; huge++) {
                print_figure(memory_at(m, "read", bytes, m->barriers[t].n_threads, huge));
                print_figure(memory_at(m, "read 4 streams", bytes, m->barriers[t].n_threads, huge));
            }
        (void)putchar('\n');
    }
}

static void print_writes(const mote_machine *m) {
    (void)printf("\nCopying (read + written) and writing, huge pages, GB/s\n\n| working set |");
    for (size_t t = 0; t < m->n_barriers; t++) (void)printf(" %dT copy | %dT write |", m->barriers[t].n_threads, m->barriers[t].n_threads);
    (void)printf("\n| ---: |");
    for (size_t t = 0; t < m->n_barriers; t++) (void)printf(" ---: | ---: |");
    (void)putchar('\n');
    for (size_t i = 0; i < m->n_memory; i++) {
        if (!is_first_size(m, i, false)) continue;
        print_size(m->memory[i].bytes);
        for (size_t t = 0; t < m->n_barriers; t++) {
            print_figure(memory_at(m, "copy", m->memory[i].bytes, m->barriers[t].n_threads, true));
            print_figure(memory_at(m, "write", m->memory[i].bytes, m->barriers[t].n_threads, true));
        }
        (void)putchar('\n');
    }
}

static void print_latencies(const mote_machine *m) {
    (void)printf("\nLatency of one dependent read, ns\n\n| access | working set | 4 KB pages | huge pages |\n| --- | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < m->n_latencies; i++) {
        const mote_machine_latency *r = &m->latencies[i];
        if (r->huge_pages) continue;
        (void)printf("| %s ", r->access);
        print_size(r->bytes);
        print_figure(r->ns);
        for (size_t k = 0; k < m->n_latencies; k++)
            if (m->latencies[k].huge_pages && m->latencies[k].bytes == r->bytes && strcmp(m->latencies[k].access, r->access) == 0)
                print_figure(m->latencies[k].ns);
        (void)putchar('\n');
    }
}

static void print_peaks(const mote_machine *m) {
    (void)printf("\nMultiplying and adding in registers, GOP/s\n\n| unit | instruction |");
    for (size_t t = 0; t < m->n_barriers; t++) (void)printf(" %dT |", m->barriers[t].n_threads);
    (void)printf("\n| --- | --- |");
    for (size_t t = 0; t < m->n_barriers; t++) (void)printf(" ---: |");
    (void)putchar('\n');
    const size_t each = m->n_barriers ? m->n_peaks / m->n_barriers : 0; /* the same instructions for each thread count */
    for (size_t i = 0; i < each; i++) {
        (void)printf("| %s | %s |", m->peaks[i].unit, m->peaks[i].instruction);
        for (size_t t = 0; t < m->n_barriers; t++) print_figure(m->peaks[t * each + i].gop_s);
        (void)putchar('\n');
    }
    (void)printf("\nBarrier of the thread pool:");
    for (size_t t = 0; t < m->n_barriers; t++)
        if (m->barriers[t].n_threads > 1) (void)printf(" %.0f ns with %d threads;", m->barriers[t].ns, m->barriers[t].n_threads);
    (void)printf(" measured in %.1f s\n", m->seconds);
}

int bench_machine(const struct bench_options *o) {
    static mote_machine m;
    mote_error err;
    loaded l = {0};
    int code = load_engine(&l, &o->model);
    if (code != CLI_OK) return code;
    m.size = sizeof m;
    if (mote_machine_measure(l.engine, false, &m, &err) != MOTE_OK) code = cli_fail(&err);
    load_close(&l);
    if (code != CLI_OK) return code;
    if (o->json) return cli_print_json(machine_json(&m));
    (void)printf("%s, %s, %d threads\n", m.cpu, m.isa, m.n_threads);
    print_reads(&m);
    print_writes(&m);
    print_latencies(&m);
    print_peaks(&m);
    return CLI_OK;
}
